use claviger_connectors::BuildError;
use claviger_domain::connector::LoginError;
use claviger_testkit::openid_provider::CLIENT_SECRET;
use serde_json::json;

use crate::fixture::{Service, now};

fn query(location: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(location).unwrap();
    url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn a_user_comes_back_as_the_provider_says() {
    let service = Service::start(json!({})).await;
    let arrival = service.sign_in(&[]).await.unwrap();
    let identity = &arrival.authenticated.identity;
    assert_eq!(identity.user_id, "248289761001");
    assert_eq!(identity.email.as_deref(), Some("ada@example.com"));
    assert!(identity.email_verified);
    assert_eq!(identity.groups, ["engineers", "ops"]);
    assert!(arrival.time.is_some_and(|time| (now() - time).abs() < 60));
    assert!(arrival.authenticated.data.is_some(), "to ask again with");
    let log = service.provider.conduct().log.clone();
    assert_eq!(log, ["/.well-known/openid-configuration", "/keys", "/token"]);
}

#[tokio::test]
async fn a_second_user_costs_one_request() {
    let service = Service::start(json!({})).await;
    service.sign_in(&[]).await.unwrap();
    service.provider.conduct().log.clear();
    service.sign_in(&[]).await.unwrap();
    assert_eq!(service.provider.conduct().log, ["/token"]);
}

#[tokio::test]
async fn the_browser_brings_what_binds_the_answer_to_this_sign_in() {
    let mut service =
        Service::start(json!({"scopes": ["email"], "acrValues": ["gold", "silver"]})).await;
    service.change_flow(|flow| {
        flow.login_hint = Some("ada@example.com".into());
        flow.max_age = Some(60);
        flow.must_authenticate = true;
    });
    let location = service.depart().await.unwrap();
    let trip = service.trip();
    assert_eq!(query(&location, "scope").as_deref(), Some("openid email offline_access"));
    assert_eq!(query(&location, "prompt").as_deref(), Some("login consent"));
    assert_eq!(query(&location, "acr_values").as_deref(), Some("gold silver"));
    assert_eq!(query(&location, "login_hint").as_deref(), Some("ada@example.com"));
    assert_eq!(query(&location, "max_age").as_deref(), Some("60"));
    assert_eq!(query(&location, "nonce"), Some(trip.nonce()));
    assert_eq!(query(&location, "state").as_deref(), Some(trip.state));
    assert_eq!(query(&location, "redirect_uri"), Some(trip.callback.clone()));
    assert_eq!(query(&location, "code_challenge_method").as_deref(), Some("S256"));
    assert!(!location.contains(&trip.code_verifier()) && !location.contains(CLIENT_SECRET));
}

#[tokio::test]
async fn nobody_is_asked_for_a_refresh_token_that_no_client_wants() {
    let mut service = Service::start(json!({})).await;
    service.change_flow(|flow| flow.scopes = "openid".into());
    let location = service.depart().await.unwrap();
    assert_eq!(query(&location, "scope").as_deref(), Some("openid profile email"));
    assert_eq!(query(&location, "prompt"), None);
    let mut google =
        Service::start(json!({"offlineAccess": "AccessType", "offlinePrompt": "None"})).await;
    google.change_flow(|flow| flow.scopes = "openid offline_access".into());
    let location = google.depart().await.unwrap();
    assert_eq!(query(&location, "access_type").as_deref(), Some("offline"));
    assert_eq!(query(&location, "scope").as_deref(), Some("openid profile email"));
    assert_eq!(query(&location, "prompt"), None);
}

#[tokio::test]
async fn the_secret_goes_the_way_the_administrator_says() {
    for (way, in_form) in [("ClientSecretBasic", false), ("ClientSecretPost", true)] {
        let service = Service::start(json!({"clientAuthentication": way})).await;
        service.sign_in(&[]).await.unwrap();
        let form = service.provider.conduct().forms.remove(0);
        assert_eq!(form.contains_key("client_secret"), in_form, "{way}");
    }
}

#[tokio::test]
async fn userinfo_is_laid_over_the_id_token_where_it_is_asked_and_is_about_the_same_user() {
    let service = Service::start(json!({"userinfo": "Always"})).await;
    service.provider.conduct().userinfo =
        json!({"sub": "248289761001", "groups": ["elsewhere"], "given_name": "Ada"});
    let identity = service.sign_in(&[]).await.unwrap().authenticated.identity;
    assert_eq!(identity.groups, ["elsewhere"]);
    assert_eq!(identity.extra["given_name"], "Ada");
    assert_eq!(identity.email.as_deref(), Some("ada@example.com"), "what it does not say stands");
    service.provider.conduct().userinfo = json!({"sub": "248289761001", "email": "b@example.com"});
    let identity = service.sign_in(&[]).await.unwrap().authenticated.identity;
    assert_eq!(identity.email.as_deref(), Some("b@example.com"));
    assert!(!identity.email_verified, "what was said was of another address");
    let reason =
        service.disbelieved(|conduct| conduct.userinfo = json!({"sub": "somebody-else"})).await;
    assert_eq!(reason, "WrongSubject");
}

#[tokio::test]
async fn a_refusal_there_is_told_and_a_fault_is_not_the_users() {
    let service = Service::start(json!({})).await;
    let said = |error: &'static str| {
        let service = &service;
        async move { service.sign_in(&[("code", ""), ("error", error)]).await.unwrap_err() }
    };
    assert!(matches!(said("access_denied").await, LoginError::Refused(_)));
    assert!(matches!(said("login_required").await, LoginError::Refused(_)));
    assert!(matches!(said("temporarily_unavailable").await, LoginError::Unavailable(_)));
    assert!(matches!(said("invalid_scope").await, LoginError::Unusable(_)));
    let LoginError::Refused(why) = said("<script>").await else { panic!("a refusal") };
    assert!(!why.contains("script"), "what came by the browser is not said again: {why}");
}

#[tokio::test]
async fn a_secret_of_the_wrong_shape_is_refused_when_the_connector_is_made() {
    let service = Service::start(json!({})).await;
    let spec = serde_json::from_value(json!({"displayName": "Corp", "upstream": {"oidc": {
        "issuer": service.provider.url(), "clientID": "claviger",
        "clientSecretRef": {"name": "corp", "key": "clientSecret"},
    }}}))
    .unwrap();
    let mut resolved = claviger_connectors::Resolved::default();
    let missing = claviger_connectors::build("corp", &spec, &resolved).unwrap_err();
    assert!(matches!(missing, BuildError::SecretMissing { .. }), "{missing}");
    resolved.insert("corp", "clientSecret", b"with a line feed\n".to_vec());
    let said = claviger_connectors::build("corp", &spec, &resolved).unwrap_err().to_string();
    assert!(said.contains("the client secret") && said.contains("printf"), "{said}");
}

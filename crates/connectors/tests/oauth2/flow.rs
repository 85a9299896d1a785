//! What holds for the way to every vendor and back.

use claviger_connectors::BuildError;
use claviger_domain::connector::LoginError;
use claviger_testkit::vendor::{CLIENT_SECRET, Style};
use serde_json::json;

use crate::fixture::{Service, made, spec};

fn query(location: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(location).unwrap();
    url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
}

fn reason(error: LoginError) -> &'static str {
    match error {
        LoginError::Unverified { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_browser_brings_what_binds_the_answer_to_this_sign_in() {
    let mut service = Service::start(Style::Github, json!({})).await;
    service.change_flow(|flow| flow.login_hint = Some("ada".into()));
    let location = service.depart().await;
    let trip = service.trip();
    assert_eq!(query(&location, "response_type").as_deref(), Some("code"));
    assert_eq!(query(&location, "scope").as_deref(), Some("user:email"));
    assert_eq!(query(&location, "login").as_deref(), Some("ada"));
    assert_eq!(query(&location, "state").as_deref(), Some(trip.state));
    assert_eq!(query(&location, "redirect_uri"), Some(trip.callback.clone()));
    assert_eq!(query(&location, "code_challenge_method").as_deref(), Some("S256"));
    assert!(!location.contains(&trip.code_verifier()) && !location.contains(CLIENT_SECRET));
}

#[tokio::test]
async fn a_code_of_another_sign_in_is_refused() {
    let service = Service::start(Style::Github, json!({})).await;
    let location = service.depart().await;
    service.vendor.agree(&location).unwrap();
    assert_eq!(reason(service.arrive("code=guessed").await.unwrap_err()), "CodeRefused");
    let another = Service::start(Style::Github, json!({})).await;
    let stolen = another.depart().await.replace(another.vendor.url(), service.vendor.url());
    service.vendor.agree(&stolen).unwrap();
    let error = service.arrive("code=the-vendors-code").await.unwrap_err();
    assert_eq!(reason(error), "CodeRefused", "the verifier is not the code's");
    assert_eq!(reason(service.arrive("state=x").await.unwrap_err()), "NoCode");
    assert!(service.vendor.conduct().access_tokens.is_empty());
}

#[tokio::test]
async fn a_refusal_there_is_told_and_a_fault_is_not_the_users() {
    let service = Service::start(Style::Github, json!({})).await;
    let said = async |query: &str| service.arrive(query).await.unwrap_err();
    assert!(matches!(said("error=access_denied").await, LoginError::Refused(_)));
    assert!(matches!(said("error=temporarily_unavailable").await, LoginError::Unavailable(_)));
    let LoginError::Refused(why) = said("error=%3Cscript%3E").await else { panic!("a refusal") };
    assert!(!why.contains("script"), "what came by the browser is not said again: {why}");
    assert!(service.take_log().is_empty(), "nobody is asked");
}

#[tokio::test]
async fn a_scope_the_user_took_out_of_the_request_is_missed() {
    let organizations = json!({"organizations": [{"name": "acme"}]});
    let service = Service::start(Style::Github, organizations).await;
    service.vendor.conduct().granted = Some("user:email".into());
    let LoginError::Refused(why) = service.sign_in().await.unwrap_err() else { panic!("refused") };
    assert!(why.contains("read:org"), "{why}");
    assert_eq!(service.take_log(), ["/login/oauth/access_token"], "its API is not even asked");
}

/// Each looks at the redirect URI, the client and the code in another order.
#[tokio::test]
async fn ready_says_of_every_vendor_whether_it_knows_us() {
    let styles =
        [Style::Github, Style::Gitlab, Style::Gitea, Style::BitbucketCloud, Style::Generic];
    for style in styles {
        let service = Service::start(style, json!({})).await;
        let probe = service.built.probe.clone().unwrap();
        probe.probe().await.unwrap();
        service.vendor.conduct().secret = "rotated".into();
        let said = probe.probe().await.unwrap_err();
        assert_eq!(said.reason, "UpstreamRefusedCredentials", "{style:?}: {said}");
        assert!(service.vendor.conduct().access_tokens.is_empty());
    }
}

#[tokio::test]
async fn a_secret_is_read_anew_and_a_wrong_one_is_an_administrators_affair() {
    let service = Service::start(Style::Github, json!({})).await;
    service.built.probe.as_ref().unwrap().probe().await.unwrap();
    service.vendor.conduct().secret = "rotated".into();
    let said = service.built.probe.as_ref().unwrap().probe().await.unwrap_err();
    assert_eq!(said.reason, "UpstreamRefusedCredentials", "{said}");
    assert!(said.message.contains("clientSecretRef"), "{said}");
    let error = service.sign_in().await.unwrap_err();
    assert!(matches!(&error, LoginError::Unavailable(why) if why.contains("clientSecretRef")));
    let authority = service.authority.certificate_pem();
    let spec = spec(&service.vendor, Style::Github, (&json!({}), authority));
    let rebuilt = made(&spec, "rotated").unwrap();
    rebuilt.probe.unwrap().probe().await.unwrap();
    let error = made(&spec, "with a line feed\n").unwrap_err();
    assert!(matches!(error, BuildError::SecretUnusable { .. }), "{error}");
}

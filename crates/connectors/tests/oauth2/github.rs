//! What GitHub alone does.

use claviger_domain::connector::{LoginError, RecheckError};
use claviger_testkit::vendor::{Scripted, Style};
use serde_json::{Value, json};

use crate::fixture::Service;

const USER: &str = "/api/v3/user";
const TEAMS: &str = "/api/v3/user/teams";

async fn github(change: Value) -> Service {
    Service::start(Style::Github, change).await
}

fn acme() -> Value {
    json!({"organizations": [{"name": "acme"}]})
}

async fn refused(service: &Service) -> String {
    match service.sign_in().await.unwrap_err() {
        LoginError::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_user_comes_back_as_github_says() {
    let service = github(acme()).await;
    let known = service.sign_in().await.unwrap();
    let identity = &known.identity;
    assert_eq!(identity.user_id, "1815", "the number, which nobody takes over");
    assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
    assert_eq!(identity.name.as_deref(), Some("Ada Lovelace"));
    assert_eq!(identity.email.as_deref(), Some("ada@example.com"));
    assert!(identity.email_verified);
    assert_eq!(identity.groups, ["acme", "acme:site-admins"]);
    assert_eq!(identity.extra["picture"], "https://avatars.example.com/u/1815");
    assert_eq!(known.raw["user"]["node_id"], "MDQ6VXNlcjE4MTU=", "for a claim mapping");
    assert_eq!(known.raw["teams"][1]["slug"], "chess");
    let asked = [
        "/login/oauth/access_token",
        "/api/v3/user",
        "/api/v3/user/emails?per_page=100",
        "/api/v3/user/orgs?per_page=100",
        "/api/v3/user/teams?per_page=100",
    ];
    assert_eq!(service.take_log(), asked);
    let form = service.vendor.conduct().forms.remove(0);
    assert!(form.contains_key("client_secret"), "GitHub wants it in the form");
}

#[tokio::test]
async fn an_address_that_nobody_verified_is_not() {
    let service = github(json!({})).await;
    let unverified = json!([{"email": "boss@example.com", "primary": true, "verified": false}]);
    service.say("/api/v3/user/emails", unverified);
    let identity = service.sign_in().await.unwrap().identity;
    assert_eq!(identity.email.as_deref(), Some("boss@example.com"));
    assert!(!identity.email_verified);
}

#[tokio::test]
async fn who_left_the_organization_or_the_team_is_out_at_the_next_refresh() {
    let service =
        github(json!({"organizations": [{"name": "acme", "teams": ["site-admins"]}]})).await;
    let known = service.sign_in().await.unwrap();
    service.say(TEAMS, json!([]));
    let error = service.again(&known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Gone(why) if why.contains("organizations")),
        "{error:?}"
    );
    assert!(refused(&service).await.contains("none of the connector's organizations"));
    let all = github(acme()).await;
    let known = all.sign_in().await.unwrap();
    all.say(TEAMS, json!([]));
    assert_eq!(all.again(&known).await.unwrap().identity.groups, ["acme"]);
    all.say("/api/v3/user/orgs", json!([]));
    assert!(matches!(all.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
}

#[tokio::test]
async fn a_suspended_account_is_out() {
    let suspended = r#"{"message":"Sorry. Your account was suspended"}"#;
    let service = github(json!({})).await;
    let known = service.sign_in().await.unwrap();
    service.say(USER, json!({"id": 1815, "login": "ada", "suspended_at": "2026-01-01T00:00:00Z"}));
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
    service.vendor.conduct().answers.insert(USER.into(), Scripted::new(403, suspended));
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
    assert!(refused(&service).await.contains("suspended"));
}

#[tokio::test]
async fn an_organization_hidden_until_a_saml_sign_in_is_said_in_words() {
    let hidden = |numbers: &str| {
        let said = format!("partial-results; organizations={numbers}");
        vec![("x-github-sso", said)]
    };
    let secretive = json!({"organizations": [{"name": "acme"}, {"name": "Secretive"}]});
    let service = github(secretive.clone()).await;
    service.vendor.conduct().headers.insert(TEAMS.into(), hidden("200"));
    let why = refused(&service).await;
    assert!(why.contains("secretive") && why.contains("SAML"), "{why}");
    // One that is not on the list is nobody's affair.
    let service = github(acme()).await;
    let known = service.sign_in().await.unwrap();
    service.vendor.conduct().headers.insert(TEAMS.into(), hidden("200"));
    service.again(&known).await.unwrap();
    // One that says not even its name may be on it.
    service.vendor.conduct().headers.insert(TEAMS.into(), hidden("200,201"));
    let error = service.again(&known).await.unwrap_err();
    assert!(matches!(&error, RecheckError::Gone(why) if why.contains("number 201")), "{error:?}");
    // Its name stands in the header too.
    let required = "required; url=https://github.com/orgs/elsewhere/sso?authorization_request=A";
    let blocked = Scripted::new(403, "{}").header("x-github-sso", required);
    service.vendor.conduct().answers.insert("/api/v3/organizations/201".into(), blocked.clone());
    service.again(&known).await.unwrap();
    service.vendor.conduct().answers.insert("/api/v3/user/orgs".into(), blocked);
    assert!(refused(&service).await.contains("elsewhere"));
}

#[tokio::test]
async fn a_permission_that_the_application_lacks_is_the_administrators_affair() {
    let service = github(json!({})).await;
    for message in
        ["Resource not accessible by integration", "This installation has been suspended"]
    {
        let lacking = Scripted::new(403, json!({"message": message}).to_string());
        service.vendor.conduct().answers.insert("/api/v3/user/emails".into(), lacking);
        let error = service.sign_in().await.unwrap_err();
        assert!(matches!(&error, LoginError::Unavailable(_)), "{error:?}");
    }
    let error = service.sign_in().await.unwrap_err();
    assert!(
        matches!(&error, LoginError::Unavailable(why) if why.contains("permissions")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_github_app_whose_tokens_expire_says_no_scopes_and_is_asked_by_refresh_token() {
    let service = github(acme()).await;
    service.vendor.conduct().expires = true;
    service.vendor.conduct().granted = Some(String::new());
    let known = service.sign_in().await.unwrap();
    service.take_log();
    service.say(TEAMS, json!([]));
    let again = service.again(&known).await.unwrap();
    assert_eq!(again.identity.groups, ["acme"]);
    assert_eq!(service.take_log().len(), 5, "token, user, emails, organizations, teams");
    service.vendor.conduct().revoke_all();
    assert!(matches!(service.again(&again).await.unwrap_err(), RecheckError::Gone(_)));
}

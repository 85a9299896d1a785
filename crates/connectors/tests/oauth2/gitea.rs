//! What Gitea and Forgejo alone do.

use claviger_domain::connector::{LoginError, RecheckError};
use claviger_testkit::vendor::{Scripted, Style};
use serde_json::{Value, json};

use crate::fixture::Service;

const TOKEN: &str = "/login/oauth/access_token";
const USER: &str = "/api/v1/user";

/// The scopes in the address to which a user is sent.
fn scopes(location: &str) -> String {
    let url = url::Url::parse(location).unwrap();
    url.query_pairs().find(|(name, _)| name == "scope").unwrap().1.into_owned()
}

async fn gitea(change: Value) -> Service {
    Service::start(Style::Gitea, change).await
}

fn acme() -> Value {
    json!({"organizations": [{"name": "Acme", "teams": ["owners"]}]})
}

#[tokio::test]
async fn a_user_comes_back_as_gitea_says() {
    let service = gitea(acme()).await;
    let known = service.sign_in().await.unwrap();
    let identity = &known.identity;
    assert_eq!(identity.user_id, "1815", "the number, which nobody takes over");
    assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
    assert_eq!(identity.name.as_deref(), Some("Ada Lovelace"));
    assert_eq!(identity.email.as_deref(), Some("ada@example.com"));
    assert!(identity.email_verified);
    assert_eq!(identity.groups, ["acme", "acme:Owners"]);
    assert_eq!(known.raw["teams"][1]["name"], "chess", "for a claim mapping");
    let asked = [
        TOKEN,
        USER,
        "/api/v1/user/emails",
        "/api/v1/user/orgs?limit=50",
        "/api/v1/user/teams?limit=50",
    ];
    assert_eq!(service.take_log(), asked);
}

#[tokio::test]
async fn what_may_be_wanted_later_is_agreed_to_at_once_and_groups_are_not_read_until_then() {
    let service = gitea(json!({})).await;
    assert!(service.sign_in().await.unwrap().identity.groups.is_empty());
    assert_eq!(service.take_log(), [TOKEN, USER, "/api/v1/user/emails"]);
    let location = service.depart().await;
    assert_eq!(scopes(&location), "openid read:user read:organization");
    assert_eq!(scopes(&gitea(acme()).await.depart().await), scopes(&location));
}

#[tokio::test]
async fn who_left_the_organization_or_may_not_sign_in_is_out_at_the_next_refresh() {
    let service = gitea(acme()).await;
    let known = service.sign_in().await.unwrap();
    service.say("/api/v1/user/teams", json!([]));
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
    assert!(matches!(service.sign_in().await.unwrap_err(), LoginError::Refused(_)));
    let service = gitea(json!({})).await;
    let known = service.sign_in().await.unwrap();
    let known = service.again(&known).await.unwrap();
    service.say(USER, json!({"id": 1815, "login": "ada", "prohibit_login": true}));
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
}

/// The words of its API (`verifyAuthWithOptions`, 1.26), and of one before.
#[tokio::test]
async fn an_account_that_gitea_says_is_out_is_out_and_another_refusal_is_no_verdict() {
    let service = gitea(json!({})).await;
    let mut known = service.sign_in().await.unwrap();
    for (said, why) in [
        (
            "This account is prohibited from signing in, please contact your site administrator.",
            "may not sign in",
        ),
        ("User is prohibited from login", "may not sign in"),
        ("This account is not activated.", "not active"),
        (
            "You must change your password. Change it at: https://git.example.com/user/change_password",
            "password",
        ),
    ] {
        let body = json!({"message": said}).to_string();
        service.vendor.conduct().answers.insert(USER.into(), Scripted::new(403, body));
        let error = service.again(&known).await.unwrap_err();
        assert!(
            matches!(&error, RecheckError::Gone(told) if told.contains(why)),
            "{said}: {error:?}"
        );
        service.vendor.conduct().answers.clear();
        known = service.sign_in().await.unwrap();
    }
    for said in [
        "token does not have at least one of required scope(s)",
        "this address is prohibited by policy: the license is not activated",
    ] {
        let answer = Scripted::new(403, json!({"message": said}).to_string());
        service.vendor.conduct().answers.insert(USER.into(), answer);
        let error = service.again(&known).await.unwrap_err();
        assert!(matches!(error, RecheckError::Interrupted { .. }), "{said}: {error:?}");
        service.vendor.conduct().answers.clear();
        known = service.sign_in().await.unwrap();
    }
}

/// Its word for a bad code is its word for a bad secret; what it says besides tells them apart.
#[tokio::test]
async fn a_grant_that_is_no_good_is_told_from_a_secret_that_is_none() {
    let service = gitea(json!({})).await;
    let known = service.sign_in().await.unwrap();
    service.built.probe.as_ref().unwrap().probe().await.unwrap();
    service.vendor.conduct().secret = "rotated".into();
    let said = service.built.probe.as_ref().unwrap().probe().await.unwrap_err();
    assert_eq!(said.reason, "UpstreamRefusedCredentials", "{said}");
    let error = service.again(&known).await.unwrap_err();
    assert!(matches!(error, RecheckError::Unavailable(_)), "{error:?}");
    service.vendor.conduct().secret = claviger_testkit::vendor::CLIENT_SECRET.into();
    service.vendor.conduct().revoke_all();
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
}

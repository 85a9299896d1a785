//! What Bitbucket Cloud alone does.

use claviger_domain::connector::{LoginError, RecheckError};
use claviger_testkit::vendor::Style;
use serde_json::{Value, json};

use crate::fixture::Service;

const EMAILS: &str = "/2.0/user/emails";
const WORKSPACES: &str = "/2.0/user/workspaces";

async fn bitbucket(change: Value) -> Service {
    Service::start(Style::BitbucketCloud, change).await
}

#[tokio::test]
async fn a_user_comes_back_as_bitbucket_says() {
    let service = bitbucket(json!({})).await;
    let known = service.sign_in().await.unwrap();
    let identity = &known.identity;
    assert_eq!(identity.user_id, "{1815}");
    assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
    assert_eq!(identity.email.as_deref(), Some("ada@example.com"));
    assert!(identity.email_verified);
    assert_eq!(identity.groups, ["acme", "hobby"]);
    assert_eq!(identity.extra["picture"], "https://bitbucket.example.com/ada.png");
    assert_eq!(known.raw["workspaces"][0]["workspace"]["uuid"], "{100}", "for a claim mapping");
    let asked = [
        "/site/oauth2/access_token",
        "/2.0/user",
        "/2.0/user/emails?pagelen=100",
        "/2.0/user/workspaces?pagelen=100",
    ];
    assert_eq!(service.take_log(), asked);
    assert!(!service.depart().await.contains("scope="), "a consumer has its permissions");
    let again = service.again(&known).await.unwrap();
    assert_eq!(again.data, known.data, "its refresh tokens are good again and again");
}

#[tokio::test]
async fn workspaces_are_read_page_by_page_within_the_api() {
    let service = bitbucket(json!({"roles": "Suffix"})).await;
    service.vendor.conduct().page_size = 1;
    let groups = service.sign_in().await.unwrap().identity.groups;
    assert_eq!(groups, ["acme", "acme:administrator", "hobby"]);
    let elsewhere = "https://169.254.169.254/2.0/user/workspaces?page=2".to_owned();
    service.vendor.conduct().next_pages.insert(WORKSPACES.into(), elsewhere);
    let error = service.sign_in().await.unwrap_err();
    assert!(matches!(&error, LoginError::Unusable(why) if why.contains("outside its API")));
}

#[tokio::test]
async fn who_is_closed_or_has_withdrawn_the_consumer_is_out_and_groups_follow() {
    let service = bitbucket(json!({})).await;
    let mut known = service.sign_in().await.unwrap();
    service.say(WORKSPACES, json!([]));
    service
        .say(EMAILS, json!([{"email": "a@b.example", "is_primary": true, "is_confirmed": false}]));
    known = service.again(&known).await.unwrap();
    assert!(known.identity.groups.is_empty() && !known.identity.email_verified);
    service.say("/2.0/user", json!({"uuid": "{1815}", "account_status": "closed"}));
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
    assert!(matches!(service.sign_in().await.unwrap_err(), LoginError::Refused(_)));
    service.vendor.conduct().revoke_all();
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
}

//! What holds at every refresh, whoever the vendor is.

use claviger_domain::connector::{Authenticated, ConnectorData, RecheckError};
use claviger_testkit::vendor::{Scripted, Style};
use serde_json::json;

use crate::fixture::Service;

const TOKEN: &str = "/login/oauth/access_token";
const USER: &str = "/api/v3/user";

/// A vendor whose tokens expire.
async fn renewing() -> (Service, Authenticated) {
    let service = Service::start(Style::Github, json!({})).await;
    service.vendor.conduct().expires = true;
    let known = service.sign_in().await.unwrap();
    (service, known)
}

#[tokio::test]
async fn a_refresh_token_is_used_once_and_the_next_one_is_kept() {
    let (service, first) = renewing().await;
    assert!(service.recheck().consumes(first.data.as_ref()));
    let second = service.again(&first).await.unwrap();
    assert_ne!(second.data, first.data, "rotated");
    service.again(&second).await.unwrap();
    let error = service.again(&first).await.unwrap_err();
    assert!(matches!(error, RecheckError::Gone(_)), "{error:?}");
    service.vendor.conduct().rotates = false;
    let third = service.sign_in().await.unwrap();
    assert_eq!(service.again(&third).await.unwrap().data, third.data, "kept where none is given");
}

#[tokio::test]
async fn a_token_that_lasts_is_asked_with_again_and_again() {
    let service = Service::start(Style::Github, json!({})).await;
    let known = service.sign_in().await.unwrap();
    assert!(!service.recheck().consumes(known.data.as_ref()), "two sessions may have it");
    assert!(service.recheck().can_ask(known.data.as_ref()));
    service.take_log();
    let again = service.again(&known).await.unwrap();
    assert_eq!(again.data, known.data);
    assert_eq!(again.identity, known.identity);
    assert_eq!(service.take_log(), ["/api/v3/user", "/api/v3/user/emails?per_page=100"]);
}

#[tokio::test]
async fn only_a_verdict_about_the_user_is_one() {
    let (service, mut known) = renewing().await;
    for (status, body) in [
        (503, "{}"),
        (500, r#"{"error":"bad_refresh_token"}"#),
        (429, r#"{"error":"bad_refresh_token"}"#),
        (200, "<html>"),
        (200, r#"{"error":"incorrect_client_credentials"}"#),
        (401, r#"{"error":"invalid_client"}"#),
        (200, r#"{"error":"application_suspended"}"#),
        (404, r#"{"error":"Not Found"}"#),
        (302, "https://localhost:1/"),
    ] {
        service.vendor.conduct().answers.insert(TOKEN.into(), Scripted::new(status, body));
        let error = service.again(&known).await.unwrap_err();
        assert!(matches!(error, RecheckError::Unavailable(_)), "{status} {body}: {error:?}");
    }
    service.vendor.conduct().answers.clear();
    for (status, body) in
        [(503, "{}"), (401, "{}"), (403, "{}"), (404, "{}"), (200, "{}"), (200, "[")]
    {
        service.vendor.conduct().answers.insert(USER.into(), Scripted::new(status, body));
        let error = service.again(&known).await.unwrap_err();
        let RecheckError::Interrupted { data, .. } = error else { panic!("{status} {error:?}") };
        known.data = Some(data); // what was asked with is used up
    }
    service.vendor.conduct().answers.clear();
    known = service.again(&known).await.unwrap();
    let bad = Scripted::new(200, r#"{"error":"bad_refresh_token"}"#);
    service.vendor.conduct().answers.insert(TOKEN.into(), bad);
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
}

#[tokio::test]
async fn an_api_that_refuses_every_token_ends_nobodys_session() {
    let service = Service::start(Style::Github, json!({})).await;
    let known = service.sign_in().await.unwrap();
    let refused = Scripted::new(401, r#"{"message":"Bad credentials"}"#);
    service.vendor.conduct().answers.insert(USER.into(), refused);
    let error = service.again(&known).await.unwrap_err();
    assert!(matches!(error, RecheckError::Unavailable(_)), "the token is good: {error:?}");
    service.vendor.conduct().secret = "rotated".into();
    let error = service.again(&known).await.unwrap_err();
    assert!(matches!(error, RecheckError::Unavailable(_)), "nobody knows: {error:?}");
    service.vendor.conduct().secret = claviger_testkit::vendor::CLIENT_SECRET.into();
    service.vendor.conduct().answers.clear();
    service.vendor.conduct().revoke_all();
    service.take_log();
    let error = service.again(&known).await.unwrap_err();
    assert!(matches!(error, RecheckError::Gone(_)), "{error:?}");
    assert_eq!(service.take_log(), ["/api/v3/user", "/api/v3/applications/claviger/token"]);
}

#[tokio::test]
async fn what_was_never_given_cannot_be_asked_with() {
    let service = Service::start(Style::Github, json!({})).await;
    assert!(!service.recheck().can_ask(None));
    let mut known = service.sign_in().await.unwrap();
    for data in [None, Some(ConnectorData(b"nonsense".to_vec()))] {
        known.data = data;
        assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
    }
}

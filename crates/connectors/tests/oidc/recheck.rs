use claviger_domain::connector::{Authenticated, RecheckError};
use serde_json::json;

use crate::fixture::Service;

async fn signed_in(service: &Service) -> Authenticated {
    service.sign_in(&[]).await.unwrap().authenticated
}

async fn again(service: &Service, known: &Authenticated) -> Result<Authenticated, RecheckError> {
    service.recheck().recheck(&known.identity, known.data.as_ref()).await
}

#[tokio::test]
async fn a_refresh_brings_what_the_provider_says_by_now_and_its_next_refresh_token() {
    let service = Service::start(json!({})).await;
    let first = signed_in(&service).await;
    service.provider.conduct().claims = json!({"groups": ["retired"], "email_verified": false});
    let second = again(&service, &first).await.unwrap();
    assert_eq!(second.identity.groups, ["retired"]);
    assert!(!second.identity.email_verified);
    assert_ne!(second.data, first.data, "rotated");
    again(&service, &second).await.unwrap();
    let error = again(&service, &first).await.unwrap_err();
    assert!(matches!(error, RecheckError::Gone(_)), "{error:?}");
}

#[tokio::test]
async fn a_provider_that_does_not_rotate_is_asked_with_the_same_token_again() {
    let service = Service::start(json!({})).await;
    service.provider.conduct().rotates = false;
    let first = signed_in(&service).await;
    let second = again(&service, &first).await.unwrap();
    assert_eq!(second.data, first.data);
}

#[tokio::test]
async fn only_a_verdict_about_the_user_is_one() {
    let service = Service::start(json!({})).await;
    let known = signed_in(&service).await;
    for (status, body) in [
        (503, "{}"),
        (503, r#"{"error":"invalid_grant"}"#),
        (429, r#"{"error":"invalid_grant"}"#),
        (500, "<html>"),
        (429, "{}"),
        (401, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"unauthorized_client"}"#),
        (400, r#"{"error":"temporarily_unavailable"}"#),
        (302, "https://localhost:1/"),
    ] {
        let answer = (status, body.to_owned());
        service.provider.conduct().answers.insert("/token".into(), answer);
        let error = again(&service, &known).await.unwrap_err();
        assert!(matches!(error, RecheckError::Unavailable(_)), "{status} {body}: {error:?}");
    }
    service
        .provider
        .conduct()
        .answers
        .insert("/token".into(), (400, r#"{"error":"invalid_grant"}"#.into()));
    assert!(matches!(again(&service, &known).await.unwrap_err(), RecheckError::Gone(_)));
    service.provider.conduct().answers.clear();
    again(&service, &known).await.unwrap();
}

#[tokio::test]
async fn what_the_provider_gave_to_ask_with_next_comes_also_where_the_rest_is_no_good() {
    let service = Service::start(json!({"userinfo": "Always"})).await;
    service.provider.conduct().userinfo = json!({"sub": "248289761001"});
    let known = signed_in(&service).await;
    service.provider.conduct().answers.insert("/userinfo".into(), (503, "{}".into()));
    let RecheckError::Interrupted { data, .. } = again(&service, &known).await.unwrap_err() else {
        panic!("no verdict, and the refresh token is used up")
    };
    assert_ne!(Some(&data), known.data.as_ref());
    service.provider.conduct().answers.clear();
    service.provider.conduct().claims = json!({"aud": "another"});
    let known = Authenticated { data: Some(data), ..known };
    let RecheckError::Interrupted { data, why } = again(&service, &known).await.unwrap_err() else {
        panic!("the same")
    };
    assert!(why.contains("audience"), "{why}");
    service.provider.conduct().claims = json!({});
    again(&service, &Authenticated { data: Some(data), ..known }).await.unwrap();
}

#[tokio::test]
async fn what_a_refreshed_token_leaves_out_is_asked_of_userinfo() {
    let service = Service::start(json!({})).await;
    let known = signed_in(&service).await;
    service.provider.conduct().claims = json!({"groups": null});
    service.provider.conduct().userinfo = json!({"sub": "248289761001", "groups": ["ops"]});
    let renewed = again(&service, &known).await.unwrap();
    assert_eq!(renewed.identity.groups, ["ops"]);
    assert_eq!(renewed.identity.email.as_deref(), Some("ada@example.com"));
}

#[tokio::test]
async fn a_refresh_is_of_no_new_authentication() {
    let service = Service::start(json!({"acrValues": ["gold"]})).await;
    service.provider.conduct().claims = json!({"acr": "gold"});
    let known = signed_in(&service).await;
    service.provider.conduct().claims = json!({});
    again(&service, &known).await.unwrap();
}

#[tokio::test]
async fn a_refreshed_token_about_somebody_else_is_not_believed() {
    let service = Service::start(json!({})).await;
    let known = signed_in(&service).await;
    service.provider.conduct().claims = json!({"sub": "somebody-else"});
    let error = again(&service, &known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Interrupted { why, .. } if why.contains("another user")),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_was_never_given_cannot_be_asked_with() {
    let service = Service::start(json!({})).await;
    assert!(!service.recheck().can_ask(None));
    assert!(service.recheck().consumes(None));
    let known = Authenticated { data: None, ..signed_in(&service).await };
    assert!(matches!(again(&service, &known).await.unwrap_err(), RecheckError::Gone(_)));
}

//! Signing out at the provider, and what is kept for it.

use std::collections::BTreeMap;

use claviger_domain::connector::{ConnectorData, Leaving};
use serde_json::json;

use crate::fixture::Service;

const BACK: &str = "https://id.example.org/logout?client_id=web&state=a%26b";

async fn service(change: serde_json::Value) -> Service {
    let mut all = json!({"signOut": "Provider"});
    all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let service = Service::start(all).await;
    let place = format!("{}/end?tenant=7", service.provider.url());
    service.provider.conduct().configuration = json!({"end_session_endpoint": place});
    service
}

async fn location(service: &Service, back: &str, data: Option<&ConnectorData>) -> Option<String> {
    let callback = "https://id.example.org/callback/corp".to_owned();
    let leaving = Leaving { return_to: back, callback, data, id: "id".into(), now: 0 };
    service.built.sign_out.as_ref().unwrap().location(&leaving).await
}

#[tokio::test]
async fn the_browser_brings_the_provider_its_id_token_and_where_to_send_it() {
    let service = service(json!({})).await;
    let arrival = service.sign_in(&[]).await.unwrap();
    let kept = arrival.sign_out.unwrap();
    let there = location(&service, BACK, Some(&kept)).await.unwrap();
    let there = url::Url::parse(&there).unwrap();
    assert_eq!(there.path(), "/end");
    let query: BTreeMap<_, _> = there.query_pairs().into_owned().collect();
    assert_eq!(query["tenant"], "7", "what the endpoint says itself stays");
    assert_eq!(query["client_id"], "claviger");
    assert_eq!(query["post_logout_redirect_uri"], "https://id.example.org/logout", "as registered");
    assert_eq!(query["state"], "return?client_id=web&state=a%26b");
    let hint = query["id_token_hint"].split('.').nth(1).unwrap();
    let hint = data_encoding::BASE64URL_NOPAD.decode(hint.as_bytes()).unwrap();
    let hint: serde_json::Value = serde_json::from_slice(&hint).unwrap();
    assert_eq!(hint["sub"], "248289761001");
    assert!(!format!("{kept:?}").contains("ey"), "{kept:?}");

    let unknown = location(&service, "https://id.example.org/logout", None).await.unwrap();
    let unknown = url::Url::parse(&unknown).unwrap();
    let names: Vec<_> = unknown.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["tenant", "client_id", "post_logout_redirect_uri"]);
}

#[tokio::test]
async fn nothing_is_kept_that_is_too_long_or_that_nobody_asked_for() {
    let wordy = service(json!({})).await;
    wordy.provider.conduct().claims = json!({"about": "x".repeat(4_096)});
    assert_eq!(wordy.sign_in(&[]).await.unwrap().sign_out, None, "4 KiB");
    let here = Service::start(json!({})).await;
    assert_eq!(here.sign_in(&[]).await.unwrap().sign_out, None);
    assert!(here.built.sign_out.is_none(), "by default, nobody is signed out elsewhere");
}

#[tokio::test]
async fn a_provider_without_such_an_endpoint_signs_nobody_out_unless_one_is_said() {
    for said in [json!(null), json!("http://idp.example.com/end"), json!("/end"), json!(7)] {
        let service = service(json!({})).await;
        service.provider.conduct().configuration = json!({"end_session_endpoint": said.clone()});
        service.sign_in(&[]).await.unwrap();
        assert_eq!(location(&service, BACK, None).await, None, "{said}");
    }
    let instead = json!({"endpoints": {"endSessionURL": "https://idp.example.com/bye"}});
    let service = service(instead).await;
    let there = location(&service, BACK, None).await.unwrap();
    assert!(there.starts_with("https://idp.example.com/bye?client_id=claviger&"), "{there}");
}

#[tokio::test]
async fn a_provider_that_is_away_keeps_nobody_here() {
    let service = service(json!({})).await;
    service
        .provider
        .conduct()
        .answers
        .insert("/.well-known/openid-configuration".to_owned(), (503, "sorry".to_owned()));
    assert_eq!(location(&service, BACK, None).await, None);
}

#[tokio::test]
async fn refresh_tokens_are_good_once_unless_the_administrator_says_otherwise() {
    for (change, once) in [
        (json!({}), true),
        (json!({"refreshTokens": "Rotating"}), true),
        (json!({"refreshTokens": "Lasting"}), false),
    ] {
        let service = Service::start(change).await;
        let data = service.sign_in(&[]).await.unwrap().authenticated.data;
        assert_eq!(service.recheck().consumes(data.as_ref()), once);
        assert!(service.recheck().can_ask(data.as_ref()) && !service.recheck().can_ask(None));
    }
}

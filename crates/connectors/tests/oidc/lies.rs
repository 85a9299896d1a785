//! What is not believed, by name.

use claviger_domain::connector::LoginError;
use claviger_jose::{Algorithm, KeySet, PrivateKey};
use claviger_testkit::openid_provider::CLIENT_SECRET;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::fixture::{Service, now};

#[tokio::test]
async fn a_token_that_is_not_for_this_sign_in_is_refused_by_name() {
    let service = Service::start(json!({})).await;
    let refused = |claims: Value| service.disbelieved(move |conduct| conduct.claims = claims);
    assert_eq!(refused(json!({"nonce": "another"})).await, "WrongNonce");
    assert_eq!(refused(json!({"nonce": null})).await, "WrongNonce");
    assert_eq!(refused(json!({"iss": "https://idp.example.com"})).await, "WrongIssuer");
    assert_eq!(refused(json!({"aud": "another"})).await, "WrongAudience");
    assert_eq!(refused(json!({"aud": ["claviger", "another"]})).await, "WrongAudience");
    assert_eq!(refused(json!({"azp": "another"})).await, "WrongAudience");
    assert_eq!(refused(json!({"exp": now() - 61})).await, "WrongTime");
    assert_eq!(refused(json!({"iat": now() + 600})).await, "WrongTime");
    service.provider.conduct().claims = json!({"aud": ["claviger", "another"], "azp": "claviger"});
    service.sign_in(&[]).await.unwrap();
    service.provider.conduct().claims = json!({"exp": now() - 30});
    service.sign_in(&[]).await.unwrap();
}

fn forged(header: &Value, claims: &Value, mac: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = BASE64URL_NOPAD.encode(&mac(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}

#[tokio::test]
async fn a_signature_that_is_none_or_by_what_others_know_is_refused() {
    let service = Service::start(json!({})).await;
    let none = |claims: &Value| forged(&json!({"alg": "none"}), claims, |_| Vec::new());
    assert_eq!(service.disbelieved(|conduct| conduct.forged = Some(none)).await, "WrongSignature");
    let secret = |claims: &Value| {
        forged(&json!({"alg": "HS256"}), claims, |message| hmac(CLIENT_SECRET.as_bytes(), message))
    };
    assert_eq!(
        service.disbelieved(|conduct| conduct.forged = Some(secret)).await,
        "WrongSignature"
    );
    let tampered = |claims: &Value| {
        let mut claims = claims.clone();
        claims["sub"] = "root".into();
        forged(&json!({"alg": "RS256"}), &claims, |_| vec![0; 256])
    };
    assert_eq!(
        service.disbelieved(|conduct| conduct.forged = Some(tampered)).await,
        "WrongSignature"
    );
}

#[tokio::test]
async fn a_key_the_provider_does_not_publish_is_nobodys_and_a_new_one_is_looked_for_once() {
    let service = Service::start(json!({})).await;
    service.sign_in(&[]).await.unwrap();
    let key = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    let public = key.public_key().clone();
    assert_eq!(service.disbelieved(|conduct| conduct.key = key).await, "WrongSignature");
    service.provider.conduct().log.clear();
    service.provider.conduct().published = KeySet::new([public]);
    // Read half a minute ago at the latest: strangers' tokens cost the provider nothing.
    let LoginError::Unverified { reason, .. } = service.sign_in(&[]).await.unwrap_err() else {
        panic!("not yet")
    };
    assert_eq!(reason, "WrongSignature");
    assert_eq!(service.provider.conduct().log, ["/token"]);
    service.built.probe.as_ref().unwrap().probe().await.unwrap();
    service.sign_in(&[]).await.unwrap();
}

#[tokio::test]
async fn a_code_of_another_sign_in_or_provider_is_refused() {
    let service = Service::start(json!({})).await;
    let reason = |error: LoginError| match error {
        LoginError::Unverified { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(service.sign_in(&[("code", "guessed")]).await.unwrap_err()), "CodeRefused");
    assert_eq!(reason(service.sign_in(&[("code", "")]).await.unwrap_err()), "NoCode");
    let elsewhere = [("iss", "https://idp.example.com")];
    assert_eq!(reason(service.sign_in(&elsewhere).await.unwrap_err()), "WrongIssuer");
    let location = service.depart().await.unwrap();
    service.provider.agree(&location).unwrap();
    service.provider.conduct().asked =
        Some((Some("another's challenge".into()), Some("nonce".into())));
    let answer = claviger_protocol::form::Params::parse(b"code=the-upstreams-code").unwrap();
    let stolen = service.login().arrive(&service.trip(), &answer).await.unwrap_err();
    assert_eq!(reason(stolen), "CodeRefused", "the verifier is not the code's");
}

#[tokio::test]
async fn an_access_token_of_another_answer_is_refused() {
    let service = Service::start(json!({})).await;
    let wrong = json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"});
    assert_eq!(service.disbelieved(|conduct| conduct.claims = wrong).await, "WrongAccessToken");
    service.provider.conduct().claims = json!({"at_hash": null});
    service.sign_in(&[]).await.unwrap();
}

#[tokio::test]
async fn a_weaker_authentication_than_was_asked_for_is_refused() {
    let service = Service::start(json!({"acrValues": ["gold"]})).await;
    let refused = |claims: Value| service.disbelieved(move |conduct| conduct.claims = claims);
    assert_eq!(refused(json!({})).await, "WrongACR");
    assert_eq!(refused(json!({"acr": "bronze"})).await, "WrongACR");
    service.provider.conduct().claims = json!({"acr": "gold"});
    service.sign_in(&[]).await.unwrap();
}

#[tokio::test]
async fn a_user_without_an_identifier_is_an_administrators_affair() {
    let service = Service::start(json!({"claims": {"userID": "employee"}})).await;
    let error = service.sign_in(&[]).await.unwrap_err();
    let LoginError::Unusable(why) = error else { panic!("{error:?}") };
    assert!(why.contains("claims.userID"), "{why}");
}

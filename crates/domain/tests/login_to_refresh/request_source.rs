//! Pushed and signed authorization requests: whose they are, how long they are good, what counts.

use std::sync::Arc;

use claviger_domain::authorize;
use claviger_domain::client::{ClientAuthentication, ClientKeys};
use claviger_domain::fakes::{REDIRECT_URI, World};
use claviger_domain::ports::Clock;
use claviger_domain::request_source::{self, MAX_REQUEST_URI, PUSHED_SECONDS};
use claviger_domain::token::TokenError;
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_protocol::error::ErrorCode;
use claviger_protocol::form::Params;
use serde_json::{Value, json};

use crate::rig::{CHALLENGE, credentials, encode, request};

fn refused<T: std::fmt::Debug>(outcome: Result<T, TokenError>) -> (ErrorCode, String) {
    match outcome {
        Err(TokenError::Refused { code, description }) => (code, description),
        other => panic!("{other:?}"),
    }
}

async fn push(world: &World, params: Params) -> Result<String, TokenError> {
    let World { provider, issuer, .. } = world;
    let pushed = request_source::push(provider, issuer, &credentials(), (params, None)).await?;
    assert_eq!(pushed.expires_in, PUSHED_SECONDS);
    Ok(pushed.request_uri)
}

async fn resolve(world: &World, pairs: &[(&str, &str)]) -> Result<Params, TokenError> {
    request_source::resolve(&world.provider, &world.issuer, encode(pairs)).await
}

fn at_client<'a>(client: &'a str, request_uri: &'a str) -> [(&'a str, &'a str); 2] {
    [("client_id", client), ("request_uri", request_uri)]
}

#[tokio::test]
async fn a_pushed_request_is_what_counts_for_a_minute_and_nothing_is_stored() {
    let world = World::new();
    let with_proof = [("client_secret", "s3cret"), ("resource", "")];
    let uri = push(&world, request(&with_proof)).await.unwrap();
    assert!(uri.len() <= MAX_REQUEST_URI && !uri.contains("s3cret"));
    world.clock.advance(PUSHED_SECONDS - 1);
    let elsewhere = [("redirect_uri", "https://evil.example/"), ("scope", "openid groups")];
    let outside = [&at_client("kubernetes", &uri)[..], &elsewhere].concat();
    let found = resolve(&world, &outside).await.unwrap();
    assert_eq!(found, request(&[]), "what is outside does not count");
    let begun = authorize::begin(&world.provider, &world.issuer, &found).unwrap();
    assert_eq!(begun.flow.redirect_uri, REDIRECT_URI);
    world.clock.advance(1);
    let late = refused(resolve(&world, &at_client("kubernetes", &uri)).await);
    assert_eq!(late.0, ErrorCode::InvalidRequestUri, "{}", late.1);
    assert!(world.sessions.take_requests().is_empty());
}

#[tokio::test]
async fn only_the_client_that_pushed_a_request_uses_it_and_only_there() {
    let world = World::new();
    let uri = push(&world, request(&[])).await.unwrap();
    let other = refused(resolve(&world, &at_client("cli", &uri)).await);
    assert_eq!(other.0, ErrorCode::InvalidRequestUri);
    let mut forged = uri.clone();
    forged.pop();
    assert_eq!(
        refused(resolve(&world, &at_client("kubernetes", &forged)).await).0,
        ErrorCode::InvalidRequestUri
    );
    let mut elsewhere = World::new();
    elsewhere.issuer.sealing = Arc::clone(&world.issuer.sealing);
    assert!(resolve(&elsewhere, &at_client("kubernetes", &uri)).await.is_ok());
    elsewhere.issuer.uid = "uid-of-another-issuer".into();
    refused(resolve(&elsewhere, &at_client("kubernetes", &uri)).await);
    elsewhere.issuer.uid = world.issuer.uid;
    elsewhere.change_client("kubernetes", |client| client.uid = "made again".into());
    refused(resolve(&elsewhere, &at_client("kubernetes", &uri)).await);
}

#[tokio::test]
async fn what_the_authorization_endpoint_would_refuse_is_refused_when_it_is_pushed() {
    let world = World::new();
    let long = "s".repeat(513);
    for (change, code) in [
        (("redirect_uri", "https://evil.example/"), ErrorCode::InvalidRequest),
        (("redirect_uri", ""), ErrorCode::InvalidRequest),
        (("scope", "openid admin"), ErrorCode::InvalidScope),
        (("response_type", "device"), ErrorCode::UnsupportedResponseType),
        (("code_challenge_method", "plain"), ErrorCode::InvalidRequest),
        (("state", long.as_str()), ErrorCode::InvalidRequest),
        (("request_uri", "urn:ietf:params:oauth:request_uri:x"), ErrorCode::InvalidRequest),
        (("request", "a.b.c"), ErrorCode::RequestNotSupported),
    ] {
        let (found, why) = refused(push(&world, request(&[change])).await);
        assert_eq!(found, code, "{change:?}: {why}");
    }
    assert!(push(&world, request(&[("prompt", "none")])).await.is_ok(), "that is for later");
}

#[tokio::test]
async fn a_client_that_must_push_is_served_no_other_way() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| client.demands.pushed_requests = true);
    let uri = push(&world, request(&[])).await.unwrap();
    assert!(resolve(&world, &at_client("kubernetes", &uri)).await.is_ok());
    let plain = request_source::resolve(&world.provider, &world.issuer, request(&[])).await;
    assert!(refused(plain).1.contains("push"));
    let foreign = at_client("kubernetes", "https://app.example.org/request");
    assert!(refused(resolve(&world, &foreign).await).1.contains("push"));
}

/// A world whose client `kubernetes` signs its requests.
fn signing() -> (World, Signer) {
    let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let keys = Arc::new(KeySet::new([key.public_key().clone()]));
    let mut world = World::new();
    world.change_client("kubernetes", |client| {
        client.authentication = ClientAuthentication::Keys(ClientKeys::Inline(keys));
    });
    (world, Signer::new(&key).unwrap())
}

fn object(world: &World) -> Value {
    json!({
        "iss": "kubernetes", "aud": "https://id.example.org", "exp": world.clock.now() + 300,
        "client_id": "kubernetes", "response_type": "code", "redirect_uri": REDIRECT_URI,
        "scope": "openid email", "state": "st&te", "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    })
}

async fn ask(world: &World, jwt: &str, outside: &[(&str, &str)]) -> Result<Params, TokenError> {
    let own = [("client_id", "kubernetes"), ("request", jwt)];
    resolve(world, &[&own[..], outside].concat()).await
}

#[tokio::test]
async fn a_signed_request_counts_and_what_is_outside_must_agree() {
    let (world, signer) = signing();
    for typ in [None, Some("JWT"), Some("oauth-authz-req+jwt")] {
        let jwt = signer.sign(typ, &object(&world)).unwrap();
        let found = ask(&world, &jwt, &[("scope", "openid email")]).await.unwrap();
        assert!(authorize::begin(&world.provider, &world.issuer, &found).is_ok());
        assert_eq!(found.get("request"), None);
    }
    let jwt = signer.sign(None, &object(&world)).unwrap();
    for outside in [("scope", "openid"), ("nonce", "n"), ("redirect_uri", "https://evil.example/")]
    {
        let (code, why) = refused(ask(&world, &jwt, &[outside]).await);
        assert_eq!(code, ErrorCode::InvalidRequestObject, "{why}");
    }
}

#[tokio::test]
async fn an_object_that_is_not_the_clients_or_not_for_us_is_refused() {
    let (world, signer) = signing();
    let now = world.clock.now();
    for (name, value) in [
        ("iss", json!("cli")),
        ("aud", json!("https://other.example")),
        ("aud", Value::Null),
        ("exp", json!(now - 60)),
        ("exp", json!(now + 3_661)),
        ("exp", Value::Null),
        ("nbf", json!(now + 61)),
        ("client_id", json!("cli")),
        ("sub", json!("kubernetes")),
        ("request", json!("a.b.c")),
        ("request_uri", json!("urn:x")),
    ] {
        let mut claims = object(&world);
        claims[name] = value.clone();
        let jwt = signer.sign(None, &claims).unwrap();
        let (code, why) = refused(ask(&world, &jwt, &[]).await);
        assert_eq!(code, ErrorCode::InvalidRequestObject, "{name}={value}: {why}");
    }
    let other = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let by_another = Signer::new(&other).unwrap().sign(None, &object(&world)).unwrap();
    let assertion = signer.sign(Some("client-authentication+jwt"), &object(&world)).unwrap();
    let good = signer.sign(None, &object(&world)).unwrap();
    let (_, rest) = good.split_once('.').unwrap();
    let none = data_encoding::BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#);
    let unsigned = format!("{none}.{rest}");
    let long = "a".repeat(8_193);
    for jwt in [by_another.as_str(), &assertion, &unsigned, "a.b.c.d.e", "a.b.c", &long] {
        assert_eq!(refused(ask(&world, jwt, &[]).await).0, ErrorCode::InvalidRequestObject);
    }
    // Of a client without keys it is refused where all its errors go.
    let by_secret = World::new();
    let found = ask(&by_secret, &good, &[("redirect_uri", REDIRECT_URI)]).await.unwrap();
    assert_eq!(found.get("request"), Some(good.as_str()));
}

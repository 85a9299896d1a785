//! Who a client is: by secret, by what it signed, or by saying so.

use std::sync::Arc;

use claviger_domain::client::{ClientAuthentication, ClientKeys, ServiceAccount};
use claviger_domain::fakes::{CLUSTER_ISSUER, World};
use claviger_domain::ports::Clock;
use claviger_domain::token::{self, TokenError};
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_protocol::client_auth::{ClientCredentials, JWT_BEARER};
use claviger_protocol::error::ErrorCode;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::rig::encode;

#[tokio::test]
async fn a_client_is_who_its_secret_says_and_both_live_secrets_are_good() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| {
        let live = ["new", "old"].map(SecretString::from).to_vec();
        client.authentication = ClientAuthentication::Secret(live);
    });
    for (id, secret, known) in [
        ("kubernetes", "new", true),
        ("kubernetes", "old", true),
        ("kubernetes", "ol", false),
        ("kubernetes", "", false),
        ("cli", "", true),
        ("cli", "anything", false),
        ("nobody", "new", false),
    ] {
        let form = encode(&[("client_id", id), ("client_secret", secret)]);
        let credentials = ClientCredentials::from_parts(None, &form).unwrap();
        let found =
            token::authenticate(&world.provider, &world.issuer, &credentials, "/token").await;
        assert_eq!(found.is_ok(), known, "{id} {secret}: {found:?}");
        if let Err(error) = found {
            let refused =
                matches!(error, TokenError::Refused { code: ErrorCode::InvalidClient, .. });
            assert!(refused, "{error:?}");
        }
    }
}

/// A world whose client `kubernetes` signs, with the key it signs with.
struct Signing {
    world: World,
    signer: Signer,
}

impl Signing {
    fn new() -> Self {
        let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
        let keys = Arc::new(KeySet::new([key.public_key().clone()]));
        let mut world = World::new();
        world.change_client("kubernetes", |client| {
            client.authentication = ClientAuthentication::Keys(ClientKeys::Inline(keys));
        });
        Self { world, signer: Signer::new(&key).unwrap() }
    }

    /// Claims that are right, each with a `jti` of its own.
    fn claims(&self) -> Value {
        json!({
            "iss": "kubernetes", "sub": "kubernetes", "aud": "https://id.example.org",
            "exp": self.world.clock.now() + 60, "jti": self.world.provider.random_id(),
        })
    }

    /// Presents a token at an endpoint; why it was refused comes back.
    async fn present(&self, jwt: &str, path: &str) -> Result<(), String> {
        let form = encode(&[("client_assertion_type", JWT_BEARER), ("client_assertion", jwt)]);
        let credentials = ClientCredentials::from_parts(None, &form).unwrap();
        let World { provider, issuer, .. } = &self.world;
        match token::authenticate(provider, issuer, &credentials, path).await {
            Ok(client) => {
                assert_eq!(client.id, "kubernetes");
                Ok(())
            }
            Err(TokenError::Refused { code: ErrorCode::InvalidClient, description }) => {
                Err(description)
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn sign_and_present(&self, claims: &Value) -> Result<(), String> {
        self.present(&self.signer.sign(None, claims).unwrap(), "/token").await
    }
}

#[tokio::test]
async fn an_assertion_is_good_once_for_this_issuer_or_the_endpoint_called() {
    let signing = Signing::new();
    let jwt = signing.signer.sign(Some("JWT"), &signing.claims()).unwrap();
    assert_eq!(signing.present(&jwt, "/token").await, Ok(()));
    let replayed = signing.present(&jwt, "/token").await.unwrap_err();
    assert!(replayed.contains("jti was used before"), "{replayed}");
    signing.world.clock.advance(110);
    let replayed = signing.present(&jwt, "/token").await.unwrap_err();
    assert!(
        replayed.contains("jti was used before"),
        "for as long as it could be good: {replayed}"
    );
    for (aud, path, good) in [
        (json!("https://id.example.org/token"), "/par", true),
        (json!(["https://other.example", "https://id.example.org"]), "/token", true),
        (json!("https://id.example.org/token/introspect"), "/token/introspect", true),
        (json!("https://id.example.org/token/introspect"), "/token", false),
        (json!("https://id.example.org/"), "/token", false),
        (json!("https://other.example"), "/token", false),
        (json!([]), "/token", false),
    ] {
        let mut claims = signing.claims();
        claims["aud"] = aud.clone();
        let jwt = signing.signer.sign(None, &claims).unwrap();
        assert_eq!(signing.present(&jwt, path).await.is_ok(), good, "{aud} at {path}");
    }
}

#[tokio::test]
async fn an_assertion_with_a_wrong_claim_is_refused_and_the_claim_is_named() {
    let signing = Signing::new();
    let now = signing.world.clock.now();
    for (name, value, named) in [
        ("iss", json!("cli"), "iss and sub"),
        ("iss", Value::Null, "iss and sub"),
        ("aud", Value::Null, "aud"),
        ("aud", json!(7), "aud"),
        ("exp", Value::Null, "exp"),
        ("exp", json!(now - 60), "expired"),
        ("exp", json!(now + 121), "at most 60 s"),
        ("exp", json!(i64::MAX), "at most 60 s"),
        ("iat", json!(now + 61), "iat"),
        ("nbf", json!(now + 61), "nbf"),
        ("jti", Value::Null, "jti"),
        ("jti", json!(""), "jti"),
        ("jti", json!("a".repeat(257)), "jti"),
        ("jti", json!(7), "jti"),
    ] {
        let mut claims = signing.claims();
        claims[name] = value.clone();
        let refused = signing.sign_and_present(&claims).await.unwrap_err();
        assert!(refused.contains(named), "{name}={value}: {refused}");
    }
    let request_object = signing.signer.sign(Some("oauth-authz-req+jwt"), &signing.claims());
    let refused = signing.present(&request_object.unwrap(), "/token").await.unwrap_err();
    assert!(refused.contains("typ"), "{refused}");
}

#[tokio::test]
async fn only_the_registered_key_signs_and_only_with_its_own_algorithm() {
    let signing = Signing::new();
    let other = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let jwt = Signer::new(&other).unwrap().sign(None, &signing.claims()).unwrap();
    assert!(signing.present(&jwt, "/token").await.is_err());
    // The same key ID in front of another key's signature.
    let good = signing.signer.sign(None, &signing.claims()).unwrap();
    let (header, _) = good.split_once('.').unwrap();
    let (_, rest) = jwt.split_once('.').unwrap();
    assert!(signing.present(&format!("{header}.{rest}"), "/token").await.is_err());
    for alg in ["none", "HS256", "RS256", "ES384", "EdDSA"] {
        let header = json!({"alg": alg, "kid": signing.signer.kid()}).to_string();
        let header = data_encoding::BASE64URL_NOPAD.encode(header.as_bytes());
        let (_, rest) = good.split_once('.').unwrap();
        let refused = signing.present(&format!("{header}.{rest}"), "/token").await;
        assert!(refused.is_err(), "{alg}");
    }
    assert_eq!(signing.present(&good, "/token").await, Ok(()), "nothing of the above used it up");
}

#[tokio::test]
async fn a_client_that_signs_is_not_believed_by_secret_and_the_reverse() {
    let signing = Signing::new();
    let World { provider, issuer, .. } = &signing.world;
    for form in [
        encode(&[("client_id", "kubernetes"), ("client_secret", "s3cret")]),
        encode(&[("client_id", "kubernetes")]),
    ] {
        let credentials = ClientCredentials::from_parts(None, &form).unwrap();
        assert!(token::authenticate(provider, issuer, &credentials, "/token").await.is_err());
    }
    let jwt = signing.signer.sign(None, &signing.claims()).unwrap();
    let form = [("client_assertion_type", JWT_BEARER), ("client_assertion", jwt.as_str())];
    let by_secret = World::new();
    for client in ["kubernetes", "cli"] {
        let form = encode(&[&[("client_id", client)], &form[..]].concat());
        let credentials = ClientCredentials::from_parts(None, &form).unwrap();
        let World { provider, issuer, .. } = &by_secret;
        let refused = token::authenticate(provider, issuer, &credentials, "/token").await;
        assert!(refused.is_err(), "{client}");
    }
}

const KEYS_URI: &str = "https://app.example.org/keys";

impl Signing {
    /// The same, whose keys are published, with the document.
    fn published() -> (Self, String) {
        let mut signing = Self::new();
        let mut document = String::new();
        signing.world.change_client("kubernetes", |client| {
            let ClientAuthentication::Keys(ClientKeys::Inline(keys)) = &client.authentication
            else {
                panic!("{client:?}")
            };
            document = keys.to_json();
            client.authentication = ClientAuthentication::Keys(ClientKeys::At(KEYS_URI.into()));
        });
        (signing, document)
    }

    fn asked(&self) -> usize {
        self.world.publishers.take_asked().len()
    }
}

#[tokio::test]
async fn published_keys_are_asked_for_once_and_a_new_one_is_found_at_once() {
    let (mut signing, document) = Signing::published();
    signing.world.publishers.publish(KEYS_URI, document);
    for _ in 0..3 {
        assert_eq!(signing.sign_and_present(&signing.claims()).await, Ok(()));
    }
    assert_eq!(signing.asked(), 1);
    let next = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    signing.signer = Signer::new(&next).unwrap();
    signing.world.publishers.publish(KEYS_URI, KeySet::new([next.public_key().clone()]).to_json());
    signing.world.clock.advance(10);
    assert_eq!(signing.sign_and_present(&signing.claims()).await, Ok(()));
    assert_eq!(signing.asked(), 1);
}

#[tokio::test]
async fn forged_assertions_make_nobody_ask_for_keys_more_than_once_in_ten_seconds() {
    let (signing, document) = Signing::published();
    signing.world.publishers.publish(KEYS_URI, document);
    let forger = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let forger = Signer::new(&forger).unwrap();
    for _ in 0..20 {
        let jwt = forger.sign(None, &signing.claims()).unwrap();
        assert!(signing.present(&jwt, "/token").await.is_err());
    }
    assert_eq!(signing.asked(), 1);
    assert_eq!(signing.sign_and_present(&signing.claims()).await, Ok(()));
    let mut claims = signing.claims();
    claims["aud"] = json!("https://other.example");
    signing.world.clock.advance(600);
    let elsewhere = forger.sign(None, &claims).unwrap();
    assert!(signing.present(&elsewhere, "/token").await.is_err());
    assert_eq!(signing.asked(), 0, "what could not be good is not looked up");
}

#[tokio::test]
async fn a_client_whose_keys_cannot_be_had_is_told_to_come_back() {
    let (signing, _) = Signing::published();
    let jwt = signing.signer.sign(None, &signing.claims()).unwrap();
    let form = encode(&[("client_assertion_type", JWT_BEARER), ("client_assertion", &jwt)]);
    let credentials = ClientCredentials::from_parts(None, &form).unwrap();
    let World { provider, issuer, .. } = &signing.world;
    let away = token::authenticate(provider, issuer, &credentials, "/token").await;
    assert!(matches!(away, Err(TokenError::Unavailable { .. })), "{away:?}");
}

const ACCOUNT: &str = "system:serviceaccount:team:app";

/// A world whose client `kubernetes` is a ServiceAccount, with the cluster's key.
fn workload(uid: Option<&str>) -> Signing {
    let (mut signing, document) = Signing::published();
    signing.world.publishers.publish("cluster", document);
    signing.world.change_client("kubernetes", |client| {
        let uid = uid.map(str::to_owned);
        let account = ServiceAccount { subject: ACCOUNT.into(), uid };
        client.authentication = ClientAuthentication::ServiceAccount(account);
    });
    signing
}

impl Signing {
    /// Claims as the API server makes them.
    fn projected(&self) -> Value {
        let now = self.world.clock.now();
        json!({
            "iss": CLUSTER_ISSUER, "sub": ACCOUNT, "aud": ["https://id.example.org"],
            "iat": now, "nbf": now, "exp": now + 3_600, "jti": "b1f2",
            "kubernetes.io": {
                "namespace": "team", "serviceaccount": {"name": "app", "uid": "uid-of-app"},
            },
        })
    }

    async fn project_and_present(&self, claims: &Value) -> Result<(), String> {
        let jwt = self.signer.sign(None, claims).unwrap();
        let form = encode(&[
            ("client_id", "kubernetes"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", &jwt),
        ]);
        let credentials = ClientCredentials::from_parts(None, &form).unwrap();
        let World { provider, issuer, .. } = &self.world;
        let found = token::authenticate(provider, issuer, &credentials, "/token").await;
        found.map(drop).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_workload_is_its_client_by_the_token_of_its_service_account() {
    for uid in [None, Some("uid-of-app")] {
        let workload = workload(uid);
        for _ in 0..3 {
            assert_eq!(workload.project_and_present(&workload.projected()).await, Ok(()));
        }
        assert_eq!(workload.world.publishers.take_asked(), ["cluster"]);
    }
}

#[tokio::test]
async fn a_token_of_another_account_audience_issuer_or_life_is_refused_without_a_request() {
    let workload = workload(Some("uid-of-app"));
    let now = workload.world.clock.now();
    let reborn = json!({"serviceaccount": {"name": "app", "uid": "another"}});
    for (name, value, named) in [
        ("sub", json!("system:serviceaccount:team:other"), "another ServiceAccount"),
        ("sub", json!("kubernetes"), "another ServiceAccount"),
        ("kubernetes.io", reborn, "another ServiceAccount"),
        ("kubernetes.io", Value::Null, "another ServiceAccount"),
        ("aud", json!(["https://kubernetes.default.svc"]), "aud"),
        ("aud", json!(["https://id.example.org/token"]), "aud"),
        ("exp", json!(now + 3_601), "more than an hour"),
        ("exp", json!(now - 60), "expired"),
        ("iat", json!(now + 61), "iat"),
        ("iat", Value::Null, "iat"),
    ] {
        let mut claims = workload.projected();
        claims[name] = value.clone();
        let refused = workload.project_and_present(&claims).await.unwrap_err();
        assert!(refused.contains(named), "{name}={value}: {refused}");
    }
    assert!(workload.world.publishers.take_asked().is_empty());
    let mut claims = workload.projected();
    claims["iss"] = json!("https://other-cluster.example");
    for _ in 0..3 {
        let refused = workload.project_and_present(&claims).await.unwrap_err();
        assert!(refused.contains("iss"), "{refused}");
    }
    let forger = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let forger = Signing { signer: Signer::new(&forger).unwrap(), ..workload };
    for _ in 0..20 {
        assert!(forger.project_and_present(&forger.projected()).await.is_err());
    }
    assert_eq!(forger.world.publishers.take_asked(), ["cluster"], "one question a minute");
}

#[tokio::test]
async fn a_clients_own_signature_is_no_service_account() {
    let workload = workload(None);
    let by_client = workload.claims();
    assert!(workload.sign_and_present(&by_client).await.is_err());
    let signing = Signing::new();
    assert!(signing.project_and_present(&signing.projected()).await.is_err());
}

//! What a provider is shown instead of a secret (`private_key_jwt`, OIDC Core 9, RFC 7523).

use claviger_connectors::BuildError;
use claviger_domain::connector::{LoginError, RecheckError};
use claviger_jose::{Algorithm, PrivateKey};
use claviger_testkit::CertificateAuthority;
use claviger_testkit::client_assertion::AssertingClient;
use claviger_testkit::openid_provider::{CLIENT_ID, CLIENT_SECRET, OpenidProvider};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::fixture::{Service, built};

fn pem(key: &PrivateKey) -> String {
    key.to_pkcs8_pem().unwrap().expose_secret().to_owned()
}

/// A connector that has this key and no secret.
fn with(change: &Value) -> Value {
    let mut key = json!({"secretRef": {"name": "corp", "key": "key.pem"}});
    key.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({"clientSecretRef": null, "clientKey": key})
}

async fn service(key: &PrivateKey, change: &Value) -> Service {
    let service = Service::start_with(with(change), &pem(key)).await;
    let known = AssertingClient::known_by(&json!({"keys": [key.public_jwk()]}));
    service.provider.conduct().client = Some(known);
    service
}

fn taken(service: &Service) -> Vec<(Value, Value)> {
    service.provider.conduct().client.as_ref().unwrap().taken.clone()
}

#[tokio::test]
async fn a_code_and_a_refresh_token_are_redeemed_by_what_the_key_signs_each_time_anew() {
    let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let service = service(&key, &json!({})).await;
    let user = service.sign_in(&[]).await.unwrap().authenticated;
    service.recheck().recheck(&user.identity, user.data.as_ref()).await.unwrap();
    let taken = taken(&service);
    assert_eq!(taken.len(), 2);
    for (header, claims) in &taken {
        assert_eq!(*header, json!({"typ": "JWT", "alg": "ES256", "kid": key.kid()}));
        assert_eq!(claims["aud"], service.provider.url(), "the issuer, and nobody else");
        assert_eq!([&claims["iss"], &claims["sub"]], [CLIENT_ID, CLIENT_ID]);
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(life, 60);
    }
    assert_ne!(taken[0].1["jti"], taken[1].1["jti"]);
    let forms = service.provider.conduct().forms.clone();
    for form in forms {
        assert_eq!(form["client_id"], CLIENT_ID);
        assert!(!form.contains_key("client_secret"), "{form:?}");
    }
}

#[tokio::test]
async fn every_kind_of_key_signs_with_what_it_is_for_under_the_name_that_it_is_given() {
    let kinds = [
        (Algorithm::RS256, json!({})),
        (Algorithm::ES256, json!({})),
        (Algorithm::ES384, json!({})),
        (Algorithm::ES512, json!({})),
        (Algorithm::PS256, json!({"algorithm": "PS256"})),
        (Algorithm::RS512, json!({"algorithm": "RS512"})),
    ];
    for (algorithm, change) in kinds {
        let key = PrivateKey::generate(algorithm, 2_048).unwrap();
        let service = service(&key, &change).await;
        service.sign_in(&[]).await.unwrap();
        assert_eq!(taken(&service)[0].0["alg"], algorithm.as_str());
    }
    let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let named = json!({"keyID": "2026-11", "audience": "TokenEndpoint"});
    let service = service(&key, &named).await;
    let mut jwk = key.public_jwk();
    jwk["kid"] = "2026-11".into();
    let known = AssertingClient::known_by(&json!({"keys": [jwk]}));
    service.provider.conduct().client = Some(known);
    service.sign_in(&[]).await.unwrap();
    let (header, claims) = taken(&service).remove(0);
    assert_eq!(header["kid"], "2026-11");
    assert_eq!(claims["aud"], format!("{}/token", service.provider.url()));
}

#[tokio::test]
async fn a_key_that_the_provider_does_not_know_costs_nobody_their_session() {
    let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let service = service(&key, &json!({})).await;
    let user = service.sign_in(&[]).await.unwrap().authenticated;
    let other = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
    let known = AssertingClient::known_by(&json!({"keys": [other.public_jwk()]}));
    service.provider.conduct().client = Some(known);
    let refused = service.recheck().recheck(&user.identity, user.data.as_ref()).await;
    match refused {
        Err(RecheckError::Unavailable(why)) => {
            assert!(why.contains("secret, key or certificate"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let refused = service.sign_in(&[]).await;
    assert!(matches!(refused, Err(LoginError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_key_or_one_of_another_kind_is_refused_when_the_connector_is_made() {
    let authority = CertificateAuthority::create("upstream").unwrap();
    let provider = OpenidProvider::start(&authority).await.unwrap();
    let refused = |change: Value, secret: &str| {
        let said = built(&provider, &change, (authority.certificate_pem(), secret));
        said.unwrap_err()
    };
    let ec = pem(&PrivateKey::generate(Algorithm::ES256, 0).unwrap());
    let rsa = pem(&PrivateKey::generate(Algorithm::RS256, 2_048).unwrap());
    let certificate = authority.certificate_pem();
    for (change, secret) in [
        (json!({}), CLIENT_SECRET),
        (json!({}), certificate),
        (json!({"algorithm": "RS256"}), ec.as_str()),
        (json!({"algorithm": "ES384"}), ec.as_str()),
        (json!({"algorithm": "ES256"}), rsa.as_str()),
    ] {
        let error = refused(with(&change), secret);
        assert!(matches!(error, BuildError::SecretUnusable { .. }), "{change} {error:?}");
        let said = error.to_string();
        assert!(said.contains("the client's private key") && !said.contains("PRIVATE"), "{said}");
    }
    let mut both = with(&json!({}));
    both["clientSecretRef"] = json!({"name": "corp", "key": "clientSecret"});
    let error = refused(both, &ec);
    assert!(matches!(error, BuildError::Oidc(_)), "{error:?}");
}

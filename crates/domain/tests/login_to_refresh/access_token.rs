//! Access tokens are RFC 9068 JWTs whose sealed part is theirs alone.

use claviger_domain::access_token::{AccessToken, AccessTokenError};
use claviger_domain::fakes::World;
use claviger_domain::userinfo::{self, UserinfoError};
use claviger_jose::{Algorithm, VerifyError, VerifyOptions};
use claviger_protocol::claims::{AccessTokenClaims, Audience};
use claviger_seal::OpenError;
use data_encoding::BASE64URL_NOPAD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::rig::{code, redeem};

async fn access_token(world: &World) -> String {
    let response = redeem(world, &code(world, "local").await).await.unwrap();
    response.access_token.expose_secret().to_owned()
}

/// Header and claims.
fn parts(token: &str) -> [Value; 2] {
    let part = |n| {
        let text: &str = token.split('.').nth(n).unwrap();
        serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()).unwrap()
    };
    [part(0), part(1)]
}

fn signed(world: &World, typ: Option<&str>, claims: &Value) -> String {
    world.issuer.keys.signers[&Algorithm::ES256].sign(typ, claims).unwrap()
}

fn refused(world: &World, token: &str) -> AccessTokenError {
    let now = world.provider.clock.now();
    AccessToken::open(&world.issuer, token, now).unwrap_err()
}

#[tokio::test]
async fn it_says_what_rfc_9068_demands_and_nothing_about_the_user() {
    let world = World::new();
    let token = access_token(&world).await;
    let [header, mut claims] = parts(&token);
    assert_eq!(header["typ"], "at+jwt");
    let (jti, sealed) = (claims["jti"].take(), claims["clv"].take());
    assert!(jti.as_str().unwrap().len() >= 22 && sealed.is_string());
    assert_eq!(
        claims,
        json!({
            "iss": "https://id.example.org", "sub": "CggwOGE4Njg0YhIFbG9jYWw",
            "aud": "https://id.example.org/userinfo", "client_id": "kubernetes",
            "exp": 1_767_226_200, "iat": 1_767_225_600, "auth_time": 1_767_225_600, "amr": ["pwd"],
            "scope": "openid email profile groups offline_access", "jti": null, "clv": null,
        })
    );
}

#[tokio::test]
async fn neither_is_an_id_token_one_nor_is_it_an_id_token() {
    let world = World::new();
    let response = redeem(&world, &code(&world, "local").await).await.unwrap();
    let id_token = response.id_token.as_ref().unwrap().expose_secret();
    assert_eq!(refused(&world, id_token), AccessTokenError::Token(VerifyError::Type));
    let as_a_cluster = VerifyOptions {
        algorithms: &[Algorithm::ES256],
        issuer: "https://id.example.org",
        audience: Some("kubernetes"),
        typ: Some("at+jwt"), // which no API server looks at
        leeway_seconds: 0,
    };
    let token = response.access_token.expose_secret();
    let judged =
        claviger_jose::verify(&world.issuer.keys.key_set, token, 1_767_225_600, &as_a_cluster);
    assert_eq!(judged, Err(VerifyError::Audience));
}

#[tokio::test]
async fn the_sealed_part_is_of_one_token_alone_and_the_signature_of_one_key() {
    let world = World::new();
    let [_, claims] = parts(&access_token(&world).await);
    assert!(
        AccessToken::open(&world.issuer, &signed(&world, Some("at+jwt"), &claims), 1_767_225_600)
            .is_ok()
    );
    let mut other = claims.clone();
    other["jti"] = "another".into();
    let sealed = |error| AccessTokenError::Sealed(error);
    assert_eq!(refused(&world, &signed(&world, Some("at+jwt"), &other)), sealed(OpenError::Forged));
    other = claims.clone();
    other["exp"] = 1_999_999_999.into();
    let longer = signed(&world, Some("at+jwt"), &other);
    assert!(AccessToken::open(&world.issuer, &longer, 1_767_226_199).is_ok());
    let past = AccessToken::open(&world.issuer, &longer, 1_767_226_200).unwrap_err();
    assert_eq!(past, sealed(OpenError::Expired), "the sealed part has an end of its own");
    assert_eq!(
        refused(&world, &signed(&world, None, &claims)),
        AccessTokenError::Token(VerifyError::Type)
    );
    let stranger = World::new();
    assert_eq!(
        refused(&world, &signed(&stranger, Some("at+jwt"), &claims)),
        AccessTokenError::Token(VerifyError::UnknownKey)
    );
}

#[tokio::test]
async fn it_lives_as_long_as_it_says_and_answers_only_for_the_resource_it_is_for() {
    let world = World::new();
    let token = access_token(&world).await;
    world.clock.advance(599);
    assert!(userinfo::answer(&world.provider, &world.issuer, &token, None).is_ok());
    world.clock.advance(1);
    assert_eq!(refused(&world, &token), AccessTokenError::Token(VerifyError::Expired));

    let world = World::new();
    let opened =
        AccessToken::open(&world.issuer, &access_token(&world).await, 1_767_225_600).unwrap();
    let elsewhere =
        AccessToken { audience: Audience::One("https://api.example.org".into()), ..opened };
    let token =
        elsewhere.sign(&world.issuer, &world.issuer.keys.signers[&Algorithm::ES256]).unwrap();
    let answer = userinfo::answer(&world.provider, &world.issuer, &token, None);
    assert_eq!(answer, Err(UserinfoError::OtherResource));
    let read: AccessTokenClaims = serde_json::from_value(parts(&token)[1].clone()).unwrap();
    assert!(read.aud.contains("https://api.example.org") && !read.aud.contains("kubernetes"));
}

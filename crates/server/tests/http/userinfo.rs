//! `/userinfo`: bearer tokens by header or form, refusals with a challenge (RFC 6750 3).

use axum::body::Body;
use axum::http::{Method, StatusCode};

use claviger_jose::{Algorithm, verify_signature};
use serde_json::Value;

use crate::rig::Rig;

async fn access_token(rig: &Rig) -> String {
    let code = rig.browser().code(&[]).await;
    let tokens = rig.redeem(&code).await.json();
    rig.store_requests();
    tokens["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_is_taken_by_header_or_form_and_answers_from_memory() {
    let rig = Rig::with_one_connector();
    let token = access_token(&rig).await;
    let by_header = rig.userinfo(&token).await;
    let by_form = rig.post("/userinfo", &[("access_token", &token)]).await;
    assert_eq!(by_header.status, StatusCode::OK);
    assert_eq!(by_header.json(), by_form.json());
    assert_eq!(by_header.json()["email_verified"], true);
    assert_eq!(by_header.header("cache-control"), "no-store");
    let request = rig.request(Method::POST, "/userinfo");
    let request = request.header("authorization", format!("Bearer {token}"));
    let empty = rig.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(empty.status, StatusCode::OK, "a post without a body: {empty:?}");
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn an_answer_is_signed_for_a_client_that_wants_it_and_is_no_id_token() {
    let rig = Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.change_client("kubernetes", |client| {
            client.userinfo_algorithm = Some(Algorithm::ES256);
        });
    });
    let token = access_token(&rig).await;
    let answer = rig.userinfo(&token).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/jwt");
    assert_eq!(answer.header("cache-control"), "no-store");
    let jwt = answer.body.clone();
    let key_set = &rig.world.issuer.keys.key_set;
    let verified = verify_signature(key_set, &jwt, &[Algorithm::ES256]).unwrap();
    let claims = Value::Object(verified.claims);
    assert_eq!(claims["iss"], "https://id.example.org");
    assert_eq!(claims["aud"], "kubernetes");
    assert_eq!(claims["email"], "alice@example.org");
    assert!(claims["sub"].is_string());
    // An API server asks for both, of an ID token.
    assert!(claims.get("exp").is_none() && claims.get("iat").is_none(), "{claims}");
    assert!(rig.store_requests().is_empty());
    let mut deaf = (*rig.world.issuer.keys).clone();
    deaf.signers.clear();
    let mut issuer = rig.world.issuer.clone();
    issuer.keys = deaf.into();
    rig.replace_issuer(issuer);
    let waits = rig.userinfo(&token).await;
    assert_eq!(
        waits.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "a replica that is cut off: {waits:?}"
    );
}

#[tokio::test]
async fn refusals_carry_a_challenge() {
    let rig = Rig::with_one_connector();
    let token = access_token(&rig).await;
    let none = rig.get("/userinfo").await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    let challenge = none.header("www-authenticate");
    assert!(challenge.starts_with("Bearer") && !challenge.contains("error"), "{challenge}");
    let in_query = rig.get(&format!("/userinfo?access_token={token}")).await;
    assert_eq!(in_query.status, StatusCode::UNAUTHORIZED, "never from the query");
    let forged = rig.userinfo(&format!("{token}x")).await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED);
    let challenge = forged.header("www-authenticate");
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    rig.world.clock.advance(601);
    assert_eq!(rig.userinfo(&token).await.status, StatusCode::UNAUTHORIZED, "past its time");
    let request = rig.request(Method::POST, "/userinfo").header("content-type", crate::rig::FORM);
    let request = request.header("authorization", "Bearer a");
    let twice = rig.send(request.body(Body::from("access_token=a")).unwrap()).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    assert!(twice.header("www-authenticate").contains("invalid_request"));
}

//! `/token`: errors are JSON as RFC 6749 5.2 has it, and forged tokens cost no API request.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use claviger_domain::issuer::ClientEntry;
use data_encoding::BASE64;

use crate::rig::{Answer, FORM, Rig, encode};

#[track_caller]
fn assert_refused(answer: &Answer, status: StatusCode, error: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["error"], error, "{answer:?}");
    assert!(body["error_description"].is_string(), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("pragma"), "no-cache");
}

#[tokio::test]
async fn each_fault_has_its_code_and_status() {
    let rig = Rig::new();
    let me = ("client_id", "kubernetes");
    let secret = ("client_secret", "s3cret");
    let code_grant = ("grant_type", "authorization_code");
    for (form, status, error) in [
        (vec![], StatusCode::UNAUTHORIZED, "invalid_client"),
        (vec![me, code_grant, ("code", "c")], StatusCode::UNAUTHORIZED, "invalid_client"),
        (
            vec![me, ("client_secret", "guess"), code_grant, ("code", "c")],
            StatusCode::UNAUTHORIZED,
            "invalid_client",
        ),
        (
            vec![("client_id", "nobody"), secret, code_grant, ("code", "c")],
            StatusCode::UNAUTHORIZED,
            "invalid_client",
        ),
        (
            vec![("client_id", "cli"), secret, code_grant, ("code", "c")],
            StatusCode::UNAUTHORIZED,
            "invalid_client",
        ),
        (vec![me, secret], StatusCode::BAD_REQUEST, "invalid_request"),
        (vec![me, secret, code_grant], StatusCode::BAD_REQUEST, "invalid_request"),
        (
            vec![me, secret, ("grant_type", "implicit")],
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
        ),
        (vec![me, secret, code_grant, ("code", "c")], StatusCode::BAD_REQUEST, "invalid_grant"),
        (
            vec![me, secret, ("grant_type", "refresh_token"), ("refresh_token", "t")],
            StatusCode::BAD_REQUEST,
            "invalid_grant",
        ),
        (vec![me, me], StatusCode::BAD_REQUEST, "invalid_request"),
    ] {
        let answer = rig.post("/token", &form).await;
        assert_refused(&answer, status, error);
        let challenged = answer.header("www-authenticate").starts_with("Basic realm=");
        assert_eq!(challenged, error == "invalid_client", "{answer:?}");
    }
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn only_forms_are_taken_and_nothing_from_the_query() {
    let rig = Rig::new();
    let form = encode(&[("client_id", "kubernetes"), ("client_secret", "s3cret")]);
    for content_type in ["application/json", "text/plain", ""] {
        let request = rig.request(Method::POST, "/token").header("content-type", content_type);
        let answer = rig.send(request.body(Body::from(form.clone())).unwrap()).await;
        assert_refused(&answer, StatusCode::BAD_REQUEST, "invalid_request");
    }
    let request = rig.request(Method::POST, &format!("/token?{form}"));
    let answer = rig.send(request.header("content-type", FORM).body(Body::empty()).unwrap()).await;
    assert_refused(&answer, StatusCode::UNAUTHORIZED, "invalid_client");
}

#[tokio::test]
async fn a_secret_may_stand_in_the_header_but_not_in_two_places() {
    let rig = Rig::with_one_connector();
    let code = rig.browser().code(&[]).await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", claviger_domain::fakes::REDIRECT_URI),
        ("code_verifier", crate::rig::VERIFIER),
    ];
    let basic = |secret: &str, body: String| {
        let credentials = BASE64.encode(format!("kubernetes:{secret}").as_bytes());
        rig.request(Method::POST, "/token")
            .header("content-type", "application/x-www-form-urlencoded; charset=UTF-8")
            .header("authorization", format!("Basic {credentials}"))
            .body(Body::from(body))
            .unwrap()
    };
    let wrong = rig.send(basic("guess", encode(&fields))).await;
    assert_refused(&wrong, StatusCode::UNAUTHORIZED, "invalid_client");
    let twice = format!("{}&client_secret=s3cret", encode(&fields));
    let twice = rig.send(basic("s3cret", twice)).await;
    assert_refused(&twice, StatusCode::BAD_REQUEST, "invalid_request");
    let answer = rig.send(basic("s3cret", encode(&fields))).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test]
async fn a_hundred_forged_tokens_cost_the_api_server_nothing() {
    let rig = Rig::with_one_connector();
    let code = rig.browser().code(&[]).await;
    let tokens = rig.redeem(&code).await.json();
    let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
    rig.store_requests();
    for at in 0..100 {
        for (kind, text) in [("code", &code), ("refresh_token", &refresh)] {
            let mut forged = text.clone().into_bytes();
            let at = at % forged.len();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            let answer = match kind {
                "code" => rig.redeem(&forged).await,
                _ => rig.refresh(&forged).await,
            };
            assert_refused(&answer, StatusCode::BAD_REQUEST, "invalid_grant");
        }
    }
    assert!(rig.store_requests().is_empty());
    assert_eq!(rig.refresh(&refresh).await.status, StatusCode::OK, "and nobody was harmed");
}

#[tokio::test]
async fn a_client_that_is_invalid_at_the_moment_is_told_to_wait() {
    let rig = Rig::with(|world| {
        world
            .issuer
            .clients
            .insert("kubernetes".into(), ClientEntry::OutOfService(std::sync::Arc::default()));
    });
    let answer = rig.refresh("clv_rt_x").await;
    assert_refused(&answer, StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused_and_one_below_is_read() {
    let rig = Rig::new();
    for path in ["/token", "/token/revoke", "/token/introspect", "/userinfo", "/auth", "/approval"]
    {
        let request = |length: usize| {
            let body = format!("a={}", "b".repeat(length - 2));
            rig.request(Method::POST, path).header("content-type", FORM).body(Body::from(body))
        };
        let answer = rig.send(request(64 * 1024 + 1).unwrap()).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        let answer = rig.send(request(64 * 1024).unwrap()).await;
        assert_ne!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(answer.status.is_client_error(), "{path}: {answer:?}");
    }
}

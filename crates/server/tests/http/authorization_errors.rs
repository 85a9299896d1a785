//! Authorization requests that cannot be answered: a page until client and redirect URI are known
//! good, a redirect with the RFC's code afterwards; nothing is stored either way.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use claviger_domain::issuer::ClientEntry;

use crate::rig::{Rig, STATE, answer};

#[tokio::test]
async fn an_unknown_client_or_redirect_uri_is_a_page_and_never_a_redirect() {
    let rig = Rig::new();
    for change in [
        ("client_id", "nobody"),
        ("client_id", ""),
        ("redirect_uri", ""),
        ("redirect_uri", "https://evil.example.org/callback"),
        ("redirect_uri", "https://app.example.org/callback/../evil"),
        ("redirect_uri", "https://app.example.org/callback#fragment"),
        ("redirect_uri", "javascript:alert(1)"),
        ("redirect_uri", "not a uri"),
    ] {
        let page = rig.browser().authorize(&[change]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{change:?}");
        assert!(!page.headers.contains_key("location"), "{change:?}");
        assert!(page.cookies().is_empty(), "{change:?}");
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(page.body.contains("role=\"alert\""), "{change:?}");
    }
    let repeated = rig.get("/auth?client_id=kubernetes&client_id=cli").await;
    assert_eq!(repeated.status, StatusCode::BAD_REQUEST);
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn every_other_error_goes_to_the_client_with_state_and_issuer() {
    let rig = Rig::new();
    let long = "n".repeat(257);
    for (change, error) in [
        (("response_type", "nonsense"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("response_mode", "nonsense"), "invalid_request"),
        (("scope", "email"), "invalid_scope"),
        (("scope", "openid admin"), "invalid_scope"),
        (("scope", "openid audience:server:client_id:cli"), "invalid_scope"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("nonce", long.as_str()), "invalid_request"),
        (("prompt", "none"), "login_required"),
        (("prompt", "none login"), "invalid_request"),
        (("max_age", "soon"), "invalid_request"),
        (("connector_id", "nowhere"), "invalid_request"),
        (("request", "a.b.c"), "request_not_supported"),
        (("request_uri", "https://a.example"), "request_uri_not_supported"),
    ] {
        let refused = rig.browser().authorize(&[change]).await;
        assert_eq!(refused.redirect_param("error").as_deref(), Some(error), "{change:?}");
        assert_eq!(refused.redirect_param("state").as_deref(), Some(STATE), "{change:?}");
        let iss = refused.redirect_param("iss");
        assert_eq!(iss.as_deref(), Some("https://id.example.org"), "{change:?}");
        assert!(refused.redirect_param("code").is_none());
        assert!(refused.cookies().is_empty(), "{change:?}");
    }
    let public = [("client_id", "cli"), ("code_challenge", ""), ("code_challenge_method", "")];
    let refused = rig.browser().authorize(&public).await;
    assert_eq!(refused.redirect_param("error").as_deref(), Some("invalid_request"));
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn a_client_that_is_invalid_at_the_moment_is_worth_waiting_for() {
    let rig = Rig::with(|world| {
        world
            .issuer
            .clients
            .insert("kubernetes".into(), ClientEntry::OutOfService(std::sync::Arc::default()));
    });
    let page = rig.browser().authorize(&[]).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.header("retry-after").parse::<u32>().unwrap() > 0);
    assert!(!page.headers.contains_key("location"));
}

#[tokio::test]
async fn a_hundred_unfinished_sign_ins_cost_the_api_server_nothing() {
    let rig = Rig::new();
    for _ in 0..100 {
        rig.browser().login_form(&[]).await;
    }
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn what_a_requester_writes_is_escaped_on_pages() {
    let rig = Rig::with_one_connector();
    let markup = "<script>alert(1)</script>\"'><img src=x>";
    let mut browser = rig.browser();
    let pages = [
        rig.browser().authorize(&[("client_id", markup)]).await,
        rig.browser().authorize(&[("redirect_uri", markup)]).await,
        browser.login_form(&[("login_hint", markup)]).await.1,
        rig.get("/%3Cscript%3Ealert(1)%3C/script%3E").await,
    ];
    for page in pages {
        assert!(!page.body.contains("<script"), "{page:?}");
        assert!(!page.body.contains("<img src=x"), "{page:?}");
    }
}

#[tokio::test]
async fn elsewhere_is_no_issuer() {
    let rig = Rig::new();
    for (host, target) in [
        ("other.example.org", "/"),
        ("id.example.org:9999", "/keys"),
        ("", "/keys"),
        ("id.example.org", "/nothing"),
        ("id.example.org", "//keys"),
        ("id.example.org", "/../keys"),
        ("id.example.org", "/keys/"),
        ("id.example.org", "/callback"),
    ] {
        let request = Request::builder().uri(target).header("host", host);
        let answer = answer(rig.router.clone(), request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{host} {target}");
        assert!(!answer.body.contains("kubernetes"), "{answer:?}");
    }
    for host in ["id.example.org", "ID.example.org", "id.example.org:443"] {
        let request = Request::builder().uri("/keys").header("host", host);
        let answer = answer(rig.router.clone(), request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
    let absolute = Request::builder().uri("https://id.example.org/keys").header("host", "other");
    let answer = answer(rig.router.clone(), absolute.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "the target's authority comes first");
}

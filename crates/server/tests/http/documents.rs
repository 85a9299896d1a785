//! Documents, headers and verbs: what caches, scripts and browsers are told.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use claviger_domain::issuer::IssuerUrl;

use crate::rig::{Answer, FORM, Rig, answer};

#[tokio::test]
async fn discovery_and_keys_are_public_and_say_how_long_they_hold() {
    let rig = Rig::new();
    let metadata = rig.get("/.well-known/openid-configuration").await;
    let document = metadata.json();
    assert_eq!(document["issuer"], "https://id.example.org");
    assert_eq!(document["jwks_uri"], "https://id.example.org/keys");
    assert_eq!(document["revocation_endpoint"], "https://id.example.org/token/revoke");
    assert_eq!(document["introspection_endpoint"], "https://id.example.org/token/introspect");
    let methods = |of: &str| document[format!("{of}_endpoint_auth_methods_supported")].clone();
    assert_eq!(methods("revocation"), methods("token"));
    assert!(!methods("introspection").to_string().contains("none"), "nobody asks without proof");
    assert_eq!(document["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    let keys = rig.get("/keys").await;
    assert_eq!(keys.body, &*rig.world.issuer.keys.jwks);
    assert!(keys.header("content-type").contains("json"));
    assert_eq!(keys.header("cache-control"), "public, max-age=60, must-revalidate");
    assert!(!keys.body.contains("\"d\""), "no private part");
}

/// RFC 8414 3.1: its well-known part stands between the host and the issuer's own path.
#[tokio::test]
async fn oauth_clients_find_the_same_document_where_rfc_8414_has_it() {
    let rig = Rig::new();
    let document = rig.get("/.well-known/openid-configuration").await;
    let same = rig.get("/.well-known/oauth-authorization-server").await;
    assert_eq!((same.status, &same.body), (StatusCode::OK, &document.body));

    let rig = Rig::with(|world| {
        world.issuer.url = IssuerUrl::parse("https://id.example.org/dex").unwrap();
    });
    let get = async |path: &str| {
        let request = Request::builder().uri(path).header("host", "id.example.org");
        answer(rig.router.clone(), request.body(Body::empty()).unwrap()).await
    };
    let between = get("/.well-known/oauth-authorization-server/dex").await;
    assert_eq!(between.status, StatusCode::OK);
    assert_eq!(between.json()["issuer"], "https://id.example.org/dex");
    assert_eq!(get("/dex/.well-known/oauth-authorization-server").await.body, between.body);
    for nobody in ["", "/", "/de", "/dex/x", "dex"] {
        let path = format!("/.well-known/oauth-authorization-server{nobody}");
        assert_eq!(get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn head_is_get_without_its_body_and_other_methods_learn_what_is_allowed() {
    let rig = Rig::new();
    let send = async |method: Method, path: &str| {
        rig.send(rig.request(method, path).body(Body::empty()).unwrap()).await
    };
    for path in ["/", "/keys", "/.well-known/openid-configuration", "/robots.txt"] {
        let (get, head) = (rig.get(path).await, send(Method::HEAD, path).await);
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        let refused = send(Method::DELETE, path).await;
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.header("allow"), "GET,HEAD");
    }
    let refused = send(Method::GET, "/token").await;
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.header("allow"), "POST");
}

#[tokio::test]
async fn healthz_answers_at_every_host() {
    let rig = Rig::new();
    let request = Request::builder().uri("/healthz").header("host", "10.0.0.1:8080");
    let answer = answer(rig.router.clone(), request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

async fn from_origin(rig: &Rig, method: Method, path: &str, origin: &str) -> Answer {
    let request = rig.request(method, path).header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    rig.send(request.header("content-type", FORM).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn scripts_of_other_origins_read_what_the_issuer_allows() {
    let rig = Rig::with(|world| {
        world.issuer.cors_allowed_origins = BTreeSet::from(["https://app.example.org".to_owned()]);
    });
    let (app, evil) = ("https://app.example.org", "https://evil.example.org");
    for (path, method, origin, expected) in [
        ("/keys", Method::GET, evil, "*"),
        ("/.well-known/openid-configuration", Method::GET, evil, "*"),
        ("/token", Method::POST, app, app),
        ("/userinfo", Method::GET, app, app),
        ("/token/revoke", Method::POST, app, app),
        ("/token/revoke", Method::POST, evil, ""),
        ("/token/introspect", Method::POST, app, ""),
        ("/token", Method::POST, evil, ""),
        ("/userinfo", Method::GET, evil, ""),
        ("/auth", Method::GET, app, ""),
        ("/", Method::GET, app, ""),
    ] {
        for method in [method, Method::OPTIONS] {
            let answer = from_origin(&rig, method.clone(), path, origin).await;
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed, expected, "{method} {path} from {origin}");
            assert!(!answer.headers.contains_key("access-control-allow-credentials"));
        }
    }
    let preflight = from_origin(&rig, Method::OPTIONS, "/token", app).await;
    assert!(preflight.status.is_success());
    assert!(preflight.header("access-control-allow-methods").contains("POST"));
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));
    assert!(preflight.header("vary").contains("origin"));
}

#[tokio::test]
async fn every_answer_tells_browsers_what_it_may_never_do() {
    let rig = Rig::new();
    let mut browser = rig.browser();
    let (_, form) = browser.login_form(&[]).await;
    let pages = [
        rig.get("/").await,
        rig.get("/nothing").await,
        rig.get("/userinfo").await,
        rig.post("/token", &[]).await,
        rig.post("/token/revoke", &[]).await,
        rig.post("/token/introspect", &[]).await,
        rig.browser().authorize(&[("client_id", "nobody")]).await,
        rig.browser().authorize(&[]).await,
        form,
    ];
    for page in pages {
        let policy = page.header("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{page:?}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert!(!policy.contains("form-action"), "it would block the redirect to the client");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(page.header("strict-transport-security").starts_with("max-age="));
    }
    let plain = Rig::with(|world| {
        world.issuer.url = IssuerUrl::parse("http://127.0.0.1:5556").unwrap();
    });
    assert_eq!(plain.get("/").await.header("strict-transport-security"), "");
}

#[tokio::test]
async fn pages_work_without_scripts_and_their_style_is_kept_for_ever() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let (target, form) = browser.login_form(&[("login_hint", "alice")]).await;
    for page in [rig.get("/").await, rig.get("/nothing").await, form] {
        assert!(page.header("content-type").starts_with("text/html; charset=utf-8"));
        for forbidden in ["<script", "style=", "<style", "onclick", "onload", "javascript:"] {
            assert!(!page.body.contains(forbidden), "{forbidden} in {}", page.body);
        }
        assert!(
            page.body.contains("<html lang=\"en\">") && page.body.contains("name=\"viewport\"")
        );
        let links = page.links();
        let style = links.iter().find(|link| link.contains("/static/")).unwrap();
        let style = rig.get(style).await;
        assert_eq!(style.header("content-type"), "text/css; charset=utf-8");
        assert_eq!(style.header("cache-control"), "public, max-age=31536000, immutable");
        assert!(style.body.contains("prefers-color-scheme"));
    }
    let form = browser.get(&target).await.body;
    for part in [
        "<label for=\"login\">Email address</label>",
        "<label for=\"password\">",
        "value=\"alice\"",
        "autocomplete=\"username\"",
        "autocomplete=\"current-password\"",
        "autofocus",
    ] {
        assert!(form.contains(part), "{part} is not in {form}");
    }
    assert_eq!(form.matches("autofocus").count(), 1);
    assert_eq!(rig.get("/static/style-00000000.css").await.status, StatusCode::NOT_FOUND);
    assert!(rig.get("/robots.txt").await.body.contains("Disallow: /"));
}

#[tokio::test]
async fn metrics_name_endpoints_and_nothing_a_peer_chose() {
    let rig = Rig::with_one_connector();
    let code = rig.browser().code(&[]).await;
    rig.redeem(&code).await;
    rig.get("/made-up-by-a-peer?secret=made-up-by-a-peer").await;
    let strange = Method::from_bytes(b"MADEUPBYAPEER").unwrap();
    rig.send(rig.request(strange, "/keys").body(Body::empty()).unwrap()).await;
    let metrics = rig.metrics();
    let counts = |endpoint: &str, method: &str, code: &str| {
        metrics.lines().any(|line| {
            line.starts_with("claviger_http_requests_total{")
                && line.contains(endpoint)
                && line.contains(&format!("method=\"{method}\""))
                && line.contains(&format!("code=\"{code}\""))
                && line.ends_with(" 1")
        })
    };
    assert!(counts("token\"", "POST", "200"), "{metrics}");
    assert!(counts("login\"", "POST", "303"), "{metrics}");
    assert!(counts("keys\"", "other", "405"), "{metrics}");
    assert!(!metrics.to_lowercase().contains("peer"), "{metrics}");
}

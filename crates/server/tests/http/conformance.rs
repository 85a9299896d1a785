//! What the certification of OpenID Providers asks for and no other test holds. `docs/conformance.md` has the whole list.

use axum::http::StatusCode;
use claviger_domain::client::ResponseType;
use claviger_domain::fakes::REDIRECT_URI;
use claviger_protocol::redirect_uri::RedirectUri;
use data_encoding::BASE64;
use serde_json::Value;

use crate::rig::{Answer, FORM, Rig, STATE, VERIFIER, claims, encode};

/// Signs in by a request with these changes; the answer that goes to the client.
async fn signed_in(rig: &Rig, change: &[(&str, &str)]) -> Answer {
    let mut browser = rig.browser();
    let form = browser.login_form(change).await;
    browser.sign_in(&form, "alice", "wonderland").await
}

/// The same, up to the claims of the ID token.
async fn id_token(rig: &Rig, change: &[(&str, &str)]) -> Value {
    let code = signed_in(rig, change).await.redirect_param("code").unwrap();
    claims(&rig.redeem(&code).await.json()["id_token"])
}

/// OIDC Core 3.1.2.1 and 3.1.2.2: what is optional may be there, and what is unknown must not hurt.
#[tokio::test]
async fn optional_and_unknown_parameters_do_not_stand_in_the_way() {
    let rig = Rig::with_one_connector();
    for change in [
        ("display", "page"),
        ("display", "popup"),
        ("display", "something new"),
        ("ui_locales", "se fr de-CH"),
        ("claims_locales", "se"),
        ("acr_values", "1 2"),
        ("login_hint", "buffy@example.org"),
        ("prompt", "login"),
        ("prompt", "select_account"),
        ("extra", "foobar"),
        ("scope", "email openid"),
        ("scope", "openid offline_access"),
    ] {
        let answer = id_token(&rig, &[change]).await;
        assert_eq!(answer["nonce"], "n-0S6", "{change:?}");
    }
}

/// OIDC Core 3.1.2.1: in the code flow a nonce is optional, and so is a state; what was not sent does not come back.
#[tokio::test]
async fn without_nonce_and_state_neither_comes_back() {
    let rig = Rig::with_one_connector();
    let answer = signed_in(&rig, &[("nonce", ""), ("state", "")]).await;
    assert_eq!(answer.redirect_param("state"), None);
    let code = answer.redirect_param("code").unwrap();
    let token = claims(&rig.redeem(&code).await.json()["id_token"]);
    assert!(token.get("nonce").is_none(), "{token}");
    assert_eq!(token["aud"], "kubernetes");
}

/// OIDC Core 3.1.2.1 and RFC 6749 4.1.2: state is the client's own, whatever it holds.
#[tokio::test]
async fn a_state_comes_back_byte_for_byte() {
    let rig = Rig::with_one_connector();
    for state in ["a b+c%20&d=e#f", "ünïcode ☃", "\"'<>\\", "{\"json\":[1]}"] {
        let answer = signed_in(&rig, &[("state", state)]).await;
        assert_eq!(answer.redirect_param("state").as_deref(), Some(state));
        assert!(answer.redirect_param("code").is_some());
    }
}

/// RFC 6749 3.1.2: a query of the redirect URI is kept, and belongs to what is compared.
#[tokio::test]
async fn a_redirect_uri_keeps_its_own_query_and_no_other_is_taken_for_it() {
    const WITH_QUERY: &str = "https://app.example.org/callback?dummy1=lorem&dummy2=ipsum";
    let rig = Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.change_client("kubernetes", |client| {
            client.redirect_uris = vec![RedirectUri::parse(WITH_QUERY).unwrap()];
        });
    });
    let answer = signed_in(&rig, &[("redirect_uri", WITH_QUERY)]).await;
    assert!(answer.location().starts_with(&format!("{WITH_QUERY}&code=")), "{answer:?}");
    assert_eq!(answer.redirect_param("dummy2").as_deref(), Some("ipsum"));
    assert_eq!(answer.redirect_param("state").as_deref(), Some(STATE));
    for other in [
        REDIRECT_URI,
        "https://app.example.org/callback?dummy1=lorem",
        "https://app.example.org/callback?dummy1=lorem&dummy2=ipsum&dummy3=dolor",
        "https://app.example.org/callback?dummy2=ipsum&dummy1=lorem",
        "https://app.example.org/Callback?dummy1=lorem&dummy2=ipsum",
    ] {
        let page = rig.browser().authorize(&[("redirect_uri", other)]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{other}");
        assert!(!page.headers.contains_key("location"), "{other}");
    }
}

/// OIDC Core 2 and 3.1.2.1: with `max_age` the ID token says when the user signed in, and here that is always now.
#[tokio::test]
async fn with_max_age_the_id_token_says_when_the_user_signed_in() {
    let rig = Rig::with_one_connector();
    for max_age in ["1", "10000"] {
        let token = id_token(&rig, &[("max_age", max_age)]).await;
        assert_eq!(token["auth_time"], 1_767_225_600, "{token}");
        assert_eq!(token["iat"], 1_767_225_600, "{token}");
    }
}

/// OIDC Core 2, 3.1.3.6 and 5.4: what an ID token of the code flow holds, and what userinfo says with the scopes.
#[tokio::test]
async fn an_id_token_has_every_required_claim_and_userinfo_what_the_scopes_ask_for() {
    let rig = Rig::with_one_connector();
    let scopes = [("scope", "openid email profile")];
    let code = signed_in(&rig, &scopes).await.redirect_param("code").unwrap();
    let tokens = rig.redeem(&code).await;
    assert!(tokens.header("content-type").starts_with("application/json"));
    assert_eq!((tokens.header("cache-control"), tokens.header("pragma")), ("no-store", "no-cache"));
    let tokens = tokens.json();
    assert_eq!(tokens["token_type"], "Bearer");
    assert!(tokens["expires_in"].as_i64().unwrap() > 0);
    let token = claims(&tokens["id_token"]);
    for required in ["iss", "sub", "aud", "exp", "iat", "auth_time", "at_hash"] {
        assert!(!token[required].is_null(), "no {required} in {token}");
    }
    assert!(
        token["sub"].as_str().unwrap().len() <= 255 && token["sub"].as_str().unwrap().is_ascii()
    );

    let user = rig.userinfo(tokens["access_token"].as_str().unwrap()).await;
    assert!(user.header("content-type").starts_with("application/json"), "{user:?}");
    let user = user.json();
    assert_eq!(user["sub"], token["sub"]);
    assert_eq!(user["email"], "alice@example.org");
    assert!(user["email_verified"].is_boolean());
    assert_eq!(user["name"], "Alice Liddell");
    assert!(user.get("groups").is_none(), "not asked for: {user}");
}

/// OIDC Core 9 and RFC 6749 2.3.1: the same code and the same secret, by header and by body.
#[tokio::test]
async fn a_code_is_redeemed_by_client_secret_basic_and_by_client_secret_post() {
    let rig = Rig::with_one_connector();
    let code = signed_in(&rig, &[]).await.redirect_param("code").unwrap();
    let form = encode(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ]);
    let basic = format!("Basic {}", BASE64.encode(b"kubernetes:s3cret"));
    let request = rig.request(axum::http::Method::POST, "/token").header("content-type", FORM);
    let request = request.header("authorization", basic).body(form.into()).unwrap();
    assert_eq!(rig.send(request).await.status, StatusCode::OK);
    let code = signed_in(&rig, &[]).await.redirect_param("code").unwrap();
    assert_eq!(rig.redeem(&code).await.status, StatusCode::OK, "by body");
}

/// OIDC Core 3.1.2.1 makes PKCE nobody's duty: a confidential client may do without, where its object lets it.
#[tokio::test]
async fn a_confidential_client_may_come_without_pkce() {
    let rig = Rig::with_one_connector();
    let without = [("code_challenge", ""), ("code_challenge_method", "")];
    let code = signed_in(&rig, &without).await.redirect_param("code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT_URI),
    ];
    assert_eq!(rig.token(&form).await.status, StatusCode::OK);
}

/// OIDC Core 3.1.3.2: the redirect URI of the token request is the authorization request's, or there are no tokens.
#[tokio::test]
async fn a_code_is_worth_nothing_with_another_redirect_uri_or_none() {
    let rig = Rig::with_one_connector();
    let code = signed_in(&rig, &[]).await.redirect_param("code").unwrap();
    for redirect_uri in ["https://app.example.org/callback/", "https://app.example.org/callback?"] {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", VERIFIER),
        ];
        assert_eq!(rig.token(&form).await.json()["error"], "invalid_grant", "{redirect_uri}");
    }
    let form = [("grant_type", "authorization_code"), ("code", &code), ("code_verifier", VERIFIER)];
    let refused = rig.token(&form).await.json()["error"].clone();
    assert!(refused == "invalid_grant" || refused == "invalid_request", "{refused}");
    assert!(rig.store_requests().is_empty());
    assert_eq!(rig.redeem(&code).await.status, StatusCode::OK, "nothing was consumed");
}

/// OIDC Discovery 3 and RFC 8414 2: every required member, all at this issuer, by https.
#[tokio::test]
async fn discovery_has_every_required_member_and_names_this_issuer_alone() {
    let rig = Rig::new();
    let metadata = rig.get("/.well-known/openid-configuration").await;
    assert!(metadata.header("content-type").starts_with("application/json"), "{metadata:?}");
    let metadata = metadata.json();
    let members = metadata.as_object().unwrap();
    for required in [
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
        "scopes_supported",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
        "claims_supported",
        "request_uri_parameter_supported",
    ] {
        assert!(members.contains_key(required), "no {required}");
    }
    for (name, value) in members {
        if name.ends_with("_endpoint") || name.ends_with("_uri") {
            let url = value.as_str().unwrap();
            assert!(url.starts_with("https://id.example.org/"), "{name}: {url}");
        }
        if let Some(list) = value.as_array() {
            assert!(!list.is_empty(), "{name} lists nothing: it should be absent");
        }
    }
    assert!(metadata["scopes_supported"].as_array().unwrap().contains(&"openid".into()));
    // Absent, it would mean true (OIDC Discovery 3).
    assert!(metadata["request_uri_parameter_supported"].is_boolean());
}

/// OIDC Core 10.1 and RFC 7517 4: a verifier finds each key by what stands there, and nothing private does.
#[tokio::test]
async fn every_published_key_says_what_it_is_for_and_nothing_private() {
    let rig = Rig::new();
    let keys: Value = serde_json::from_str(&rig.get("/keys").await.body).unwrap();
    let keys = keys["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    let mut ids = std::collections::BTreeSet::new();
    for key in keys {
        assert!(ids.insert(key["kid"].as_str().unwrap()), "two keys of one ID");
        assert_eq!(key["use"], "sig", "{key}");
        assert!(key["alg"].is_string() && key["kty"].is_string(), "{key}");
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{private} is published");
        }
    }
}

/// OIDC Core 3.2.2.1 and 3.3.2.11: without a nonce, what brings an ID token by the browser is refused, in the fragment.
#[tokio::test]
async fn what_brings_an_id_token_by_the_browser_needs_a_nonce() {
    let rig = Rig::with(|world| {
        world.issuer.response_types = ResponseType::ALL.into();
        world.change_client("kubernetes", |client| {
            client.response_types = ResponseType::ALL.into();
        });
    });
    for response_type in ResponseType::ALL.into_iter().filter(|t| t.has_id_token()) {
        let change = [("response_type", response_type.as_str()), ("nonce", "")];
        let location = rig.browser().authorize(&change).await.location();
        let (uri, fragment) = location.split_once('#').unwrap();
        assert_eq!(uri, REDIRECT_URI, "{response_type}: nothing in the query");
        let pairs: Vec<_> = url::form_urlencoded::parse(fragment.as_bytes()).collect();
        let value = |name| pairs.iter().find(|(known, _)| known == name).map(|(_, v)| v.as_ref());
        assert_eq!(value("error"), Some("invalid_request"), "{response_type}: {location}");
        assert_eq!(value("state"), Some(STATE), "{response_type}");
    }
}

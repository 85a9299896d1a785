//! Everything sealed opens in one place only: each blob is offered at every other one.

use axum::http::StatusCode;
use claviger_domain::client::{Grant, Introspection};
use claviger_domain::ports::Clock;
use data_encoding::BASE64URL_NOPAD;

use crate::rig::{Answer, Browser, CREDENTIALS, Rig, encode};

/// A flow in a browser, with everything sealed that its steps handed out.
struct Blobs {
    all: Vec<(&'static str, String)>,
}

async fn blobs(rig: &Rig) -> Blobs {
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let consent = browser.sign_in(&form, "alice", "wonderland").await;
    let (csrf, grant) = (consent.hidden("csrf"), consent.hidden("grant"));
    let pushed = rig.push(&[]).await.json()["request_uri"].as_str().unwrap().to_owned();
    let answer = approve(&mut browser, &form.0, (&csrf, &grant)).await;
    let code = answer.redirect_param("code").unwrap();
    let tokens = rig.redeem(&code).await.json();
    let token = |name: &str| tokens[name].as_str().unwrap().to_owned();
    let stored = rig.world.sessions.all().pop().unwrap();
    let cookie = browser.jar.into_values().next().unwrap();
    let access_token = token("access_token");
    let sealed = claims(&access_token)["clv"].as_str().unwrap().to_owned();
    let form = [&CREDENTIALS[..], &[("scope", "openid")]].concat();
    let device = rig.post("/device/code", &form).await.json();
    let waiting = rig.world.devices.all().pop().unwrap();
    let sign_in = at_device_page(rig).await;
    Blobs {
        all: vec![
            ("device code", device["device_code"].as_str().unwrap().to_owned()),
            ("sign-in at the device page", sign_in),
            ("device payload", waiting.payload),
            ("user code's MAC", waiting.user_code_mac),
            ("flow cookie", cookie),
            ("form token", csrf),
            ("consent grant", grant),
            ("DPoP nonce", claviger_domain::dpop::nonce(&rig.world.issuer, rig.world.clock.now())),
            ("pushed request", pushed.rsplit(':').next().unwrap().to_owned()),
            ("code", code),
            ("access token", access_token),
            ("sealed part of the access token", sealed),
            ("refresh token", token("refresh_token")),
            ("ID token", token("id_token")),
            ("session payload", stored.payload),
        ],
    }
}

/// Who signed in, as the device page's form carries it.
async fn at_device_page(rig: &Rig) -> String {
    let mut browser = rig.browser();
    let mut target = browser.get("/device").await.location();
    let form = loop {
        let answer = browser.get(&target).await;
        if answer.status == StatusCode::OK {
            break answer;
        }
        target = answer.location();
    };
    browser.sign_in(&(target, form), "alice", "wonderland").await.hidden("sign_in")
}

/// The claims of a JWT, unverified.
fn claims(token: &str) -> serde_json::Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

async fn approve(browser: &mut Browser<'_>, form: &str, sealed: (&str, &str)) -> Answer {
    let state = form.split_once("state=").unwrap().1;
    let fields = [("csrf", sealed.0), ("grant", sealed.1), ("approval", "approve")];
    browser.post(&format!("/approval?state={state}"), &fields).await
}

fn rig() -> Rig {
    Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.issuer.grants.insert(Grant::DeviceCode);
        world.change_client("kubernetes", |client| {
            client.grants.insert(Grant::DeviceCode);
        });
        world.change_client("kubernetes", |client| client.consent_required = true);
        world.change_client("kubernetes", |client| client.introspection = Introspection::AllTokens);
    })
}

#[tokio::test]
async fn no_blob_is_good_anywhere_but_at_home() {
    let rig = rig();
    let blobs = blobs(&rig).await;
    rig.store_requests();
    for (what, blob) in &blobs.all {
        // Not even the code: it was redeemed. Hence it is not offered at its own place here.
        if *what != "code" {
            let answer = rig.redeem(blob).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what} as code");
            assert_eq!(answer.json()["error"], "invalid_grant", "{what} as code");
        }
        if *what != "device code" {
            let device = "urn:ietf:params:oauth:grant-type:device_code";
            let answer = rig.token(&[("grant_type", device), ("device_code", blob)]).await;
            assert_eq!(answer.json()["error"], "invalid_grant", "{what} as device code");
        }
        if *what != "refresh token" {
            let answer = rig.refresh(blob).await;
            assert_eq!(answer.json()["error"], "invalid_grant", "{what} as refresh token");
        }
        if !["access token", "refresh token"].contains(what) {
            let answer = rig.revoke(blob).await;
            assert_eq!(answer.status, StatusCode::OK, "{what} revoked");
            let answer = rig.introspect(blob).await;
            assert_eq!(answer.body, r#"{"active":false}"#, "{what} introspected");
        }
        if *what != "pushed request" {
            let uri = format!("urn:ietf:params:oauth:request_uri:{blob}");
            let asked = [("client_id", "kubernetes"), ("request_uri", uri.as_str())];
            let answer = rig.get(&format!("/auth?{}", encode(&asked))).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what} as pushed request");
            assert!(answer.body.contains("invalid_request_uri"), "{what}: {}", answer.body);
        }
        if *what != "access token" {
            let answer = rig.userinfo(blob).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what} as access token");
        }
    }
    assert!(rig.store_requests().is_empty(), "and no API request was made for any of them");
}

#[tokio::test]
async fn no_blob_of_one_flow_is_good_in_another() {
    let rig = rig();
    let blobs = blobs(&rig).await;
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let consent = browser.sign_in(&form, "alice", "wonderland").await;
    let (csrf, grant) = (consent.hidden("csrf"), consent.hidden("grant"));
    rig.store_requests();
    for (what, blob) in &blobs.all {
        let answer = approve(&mut browser, &form.0, (&csrf, blob)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what} as consent grant");
        let answer = approve(&mut browser, &form.0, (blob, &grant)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what} as form token");
        let fields = [("login", "alice"), ("password", "wonderland"), ("csrf", blob)];
        let answer = browser.post(&form.0, &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what} as form token of the login");

        let mut forged = rig.browser();
        let name = browser.jar.keys().next().unwrap().clone();
        forged.jar.insert(name, blob.clone());
        let answer = forged.get(&form.0).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what} as flow cookie");
    }
    assert!(rig.store_requests().is_empty());
    let answer = approve(&mut browser, &form.0, (&csrf, &grant)).await;
    assert!(answer.redirect_param("code").is_some(), "its own are good: {answer:?}");
}

#[tokio::test]
async fn no_blob_of_one_issuer_is_good_at_another() {
    let rig = rig();
    let blobs = blobs(&rig).await;
    let mut issuer = rig.world.issuer.clone();
    issuer.uid = "uid-of-another-issuer".into();
    rig.replace_issuer(issuer);
    rig.store_requests();
    for (what, blob) in &blobs.all {
        assert_eq!(rig.redeem(blob).await.json()["error"], "invalid_grant", "{what}");
        assert_eq!(rig.refresh(blob).await.json()["error"], "invalid_grant", "{what}");
        assert_eq!(rig.userinfo(blob).await.status, StatusCode::UNAUTHORIZED, "{what}");
        assert_eq!(rig.introspect(blob).await.body, r#"{"active":false}"#, "{what}");
        assert_eq!(rig.revoke(blob).await.status, StatusCode::OK, "{what}");
    }
    assert!(rig.store_requests().is_empty());
}

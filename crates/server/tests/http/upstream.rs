//! Connectors whose upstream has pages of its own: where the browser is sent, and what it may bring back.

use std::sync::Arc;

use axum::http::StatusCode;
use claviger_domain::connector::{Login, Refresh};
use claviger_domain::fakes::{Answer as Said, RotatingUpstream, alice};

use crate::rig::{Answer, Browser, Rig, set_login};

/// A rig whose connector's upstream rotates its refresh tokens.
pub fn rig() -> (Rig, Arc<RotatingUpstream>) {
    let upstream = Arc::new(RotatingUpstream::of(alice()));
    let rig = Rig::with(|world| {
        set_login(world, Login::Redirect(Arc::clone(&upstream) as _));
        for connector in &mut world.issuer.connectors {
            let mut there = connector.as_ref().clone();
            there.refresh =
                Refresh::Upstream { recheck: Arc::clone(&upstream) as _, interval_seconds: 0 };
            *connector = Arc::new(there);
        }
    });
    (rig, upstream)
}

/// Signs in there; returns our tokens.
pub async fn tokens(rig: &Rig) -> serde_json::Value {
    let mut browser = rig.browser();
    let away = sent(&mut browser).await;
    let [state, nonce] = ["state", "nonce"].map(|name| away.redirect_param(name).unwrap());
    let back = format!("{}/callback/local?state={state}&nonce={nonce}", rig.path);
    let code = browser.get(&back).await.redirect_param("code").expect("a code");
    rig.redeem(&code).await.json()
}

/// Follows redirects of ours until the browser is sent away; returns there.
async fn sent(browser: &mut Browser<'_>) -> Answer {
    let mut answer = browser.authorize(&[("connector_id", "local")]).await;
    while answer.status == StatusCode::SEE_OTHER && !answer.location().starts_with("https://idp") {
        let next = answer.location();
        answer = browser.get(&next).await;
    }
    answer
}

#[tokio::test]
async fn the_browser_goes_to_the_upstream_and_comes_back_as_a_user() {
    let (rig, _) = rig();
    let mut browser = rig.browser();
    let away = sent(&mut browser).await;
    let (state, nonce) =
        (away.redirect_param("state").unwrap(), away.redirect_param("nonce").unwrap());
    let back =
        browser.get(&format!("{}/callback/local?state={state}&nonce={nonce}", rig.path)).await;
    let code = back.redirect_param("code").expect("a code");
    assert_eq!(rig.store_requests(), Vec::<&str>::new(), "nothing is stored on the way");
    let tokens = rig.redeem(&code).await.json();
    assert_eq!(rig.store_requests(), ["create"]);
    let refreshed = rig.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{refreshed:?}");
    assert_eq!(rig.store_requests(), ["get", "claim", "rotate"]);
}

#[tokio::test]
async fn what_another_browser_or_flow_was_given_is_refused() {
    let (rig, _) = rig();
    let mut browser = rig.browser();
    let away = sent(&mut browser).await;
    let (state, nonce) =
        (away.redirect_param("state").unwrap(), away.redirect_param("nonce").unwrap());
    let callback = format!("{}/callback/local?state={state}&nonce={nonce}", rig.path);
    let elsewhere = rig.browser().get(&callback).await;
    assert_eq!(elsewhere.status, StatusCode::BAD_REQUEST, "another browser has no such cookie");
    let forged =
        browser.get(&format!("{}/callback/local?state={state}&nonce=guessed", rig.path)).await;
    assert_eq!(forged.status, StatusCode::BAD_REQUEST);
    assert!(forged.body.contains("could not be verified"), "{}", forged.body);
    let twice = browser.get(&format!("{callback}&nonce=again")).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST, "a parameter twice");
    let unknown =
        browser.get(&format!("{}/callback/nowhere?state={state}&nonce={nonce}", rig.path)).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
    assert!(
        browser.get(&callback).await.redirect_param("code").is_some(),
        "the honest answer still counts"
    );
}

#[tokio::test]
async fn a_connector_of_passwords_has_no_callback() {
    let rig = Rig::with_one_connector();
    let answer = rig.get("/callback/local?state=x&code=y").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_refusal_is_told_to_the_application_and_an_outage_to_the_user() {
    let (rig, upstream) = rig();
    upstream.set_answer(Said::Refused);
    let mut browser = rig.browser();
    let away = sent(&mut browser).await;
    let (state, nonce) =
        (away.redirect_param("state").unwrap(), away.redirect_param("nonce").unwrap());
    let back =
        browser.get(&format!("{}/callback/local?state={state}&nonce={nonce}", rig.path)).await;
    assert_eq!(back.redirect_param("error").as_deref(), Some("access_denied"));
    upstream.set_away(true);
    let answer = sent(&mut rig.browser()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn who_meets_a_rate_limit_of_the_upstream_is_told_when_to_come_again() {
    let (rig, upstream) = rig();
    let given = tokens(&rig).await;
    upstream.set_busy(7);
    let answer = rig.refresh(given["refresh_token"].as_str().unwrap()).await;
    let said = (answer.status, answer.header("retry-after"));
    assert_eq!(said, (StatusCode::SERVICE_UNAVAILABLE, "7"));
    let answer = sent(&mut rig.browser()).await;
    let said = (answer.status, answer.header("retry-after"));
    assert_eq!(said, (StatusCode::SERVICE_UNAVAILABLE, "7"));
    upstream.set_away(false);
    let answer = rig.refresh(given["refresh_token"].as_str().unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test]
async fn an_upstream_tells_of_a_sign_out_by_a_form_and_learns_nothing_of_sessions() {
    let (rig, _) = rig();
    let place = format!("{}/callback/local/logout", rig.path);
    let told = format!("{} ", alice().user_id);
    let heard = rig.post(&place, &[("logout_token", &told)]).await;
    assert_eq!((heard.status, heard.body.as_str()), (StatusCode::OK, ""));
    assert_eq!(heard.header("cache-control"), "no-store");
    assert_eq!(rig.store_requests(), ["list"]);
    for form in [&[("logout_token", "forged")][..], &[("logout_token", "")], &[("x", "y")]] {
        let refused = rig.post(&place, form).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{form:?}");
        assert_eq!(refused.header("cache-control"), "no-store");
        assert_eq!(refused.json()["error"], "invalid_request");
    }
    let long = "x".repeat(17 * 1024);
    assert!(rig.post(&place, &[("logout_token", &long)]).await.status.is_client_error());
    let elsewhere = format!("{}/callback/nobody/logout", rig.path);
    let nobody = rig.post(&elsewhere, &[("logout_token", &told)]).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    assert_eq!(rig.get(&place).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
}

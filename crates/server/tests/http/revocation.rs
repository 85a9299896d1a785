//! `/token/revoke`: whichever token, the whole family ends, with one request; anything else costs none
//! and looks the same.

use axum::http::StatusCode;
use claviger_domain::fakes::Fault;
use claviger_domain::ports::SessionState;
use serde_json::Value;

use crate::rig::{Answer, CREDENTIALS, Rig};

async fn tokens(rig: &Rig) -> Value {
    let code = rig.browser().code(&[]).await;
    let tokens = rig.redeem(&code).await.json();
    rig.store_requests();
    rig.world.audit.take();
    tokens
}

fn text<'t>(tokens: &'t Value, name: &str) -> &'t str {
    tokens[name].as_str().unwrap()
}

#[track_caller]
fn assert_done(answer: &Answer) {
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, ""), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn either_token_ends_the_whole_family_with_one_request() {
    for name in ["access_token", "refresh_token"] {
        for hint in ["access_token", "refresh_token", "made_up"] {
            let rig = Rig::with_one_connector();
            let tokens = tokens(&rig).await;
            let form = [("token", text(&tokens, name)), ("token_type_hint", hint)];
            assert_done(&rig.post("/token/revoke", &[&CREDENTIALS[..], &form].concat()).await);
            assert_eq!(rig.store_requests(), ["revoke"], "{name} hinted {hint}");
            assert_eq!(rig.world.sessions.all()[0].state, SessionState::Revoked);
            let audit = rig.world.audit.take();
            assert!(audit.len() == 1 && audit[0].contains("TokenRevoked"), "{audit:?}");
            let refused = rig.refresh(text(&tokens, "refresh_token")).await;
            assert_eq!(refused.json()["error"], "invalid_grant");
            let userinfo = rig.userinfo(text(&tokens, "access_token")).await;
            assert_eq!(userinfo.status, StatusCode::UNAUTHORIZED);
            assert_done(&rig.revoke(text(&tokens, name)).await);
            assert!(rig.store_requests().is_empty(), "what is over costs nothing");
        }
    }
}

#[tokio::test]
async fn the_token_of_another_client_is_answered_like_any_other_and_not_touched() {
    let rig = Rig::with_one_connector();
    let tokens = tokens(&rig).await;
    for name in ["access_token", "refresh_token"] {
        let form = [("client_id", "cli"), ("token", text(&tokens, name))];
        assert_done(&rig.post("/token/revoke", &form).await);
    }
    assert!(rig.store_requests().is_empty() && rig.world.audit.take().is_empty());
    assert_eq!(rig.refresh(text(&tokens, "refresh_token")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn unknown_forged_and_expired_tokens_cost_nothing() {
    let rig = Rig::with_one_connector();
    let tokens = tokens(&rig).await;
    let access = text(&tokens, "access_token");
    let id_token = text(&tokens, "id_token");
    for forged in ["x", "a.b.c", "clv_rt_", &format!("{access}x"), &access[1..], id_token] {
        assert_done(&rig.revoke(forged).await);
    }
    rig.world.clock.advance(601);
    assert_done(&rig.revoke(access).await);
    rig.world.clock.advance(7 * 86_400);
    assert_done(&rig.revoke(text(&tokens, "refresh_token")).await);
    assert!(rig.store_requests().is_empty());
    assert_eq!(rig.world.sessions.all()[0].state, SessionState::Active);
}

#[tokio::test]
async fn an_old_refresh_token_of_the_family_ends_it_too() {
    let rig = Rig::with_one_connector();
    let first = tokens(&rig).await;
    rig.refresh(text(&first, "refresh_token")).await;
    rig.store_requests();
    assert_done(&rig.revoke(text(&first, "refresh_token")).await);
    assert_eq!(rig.store_requests(), ["revoke"]);
}

#[tokio::test]
async fn who_asks_must_prove_it_and_name_a_token() {
    let rig = Rig::with_one_connector();
    let tokens = tokens(&rig).await;
    let token = ("token", text(&tokens, "refresh_token"));
    let guess = [("client_id", "kubernetes"), ("client_secret", "guess"), token];
    for (form, status, error) in [
        (&guess[..], StatusCode::UNAUTHORIZED, "invalid_client"),
        (&[("client_id", "kubernetes"), token], StatusCode::UNAUTHORIZED, "invalid_client"),
        (&[token], StatusCode::UNAUTHORIZED, "invalid_client"),
        (&CREDENTIALS, StatusCode::BAD_REQUEST, "invalid_request"),
    ] {
        let answer = rig.post("/token/revoke", form).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &error.into()), "{answer:?}");
    }
    assert!(rig.store_requests().is_empty());
    assert_eq!(rig.refresh(token.1).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_revocation_that_may_not_have_happened_is_never_called_done() {
    let rig = Rig::with_one_connector();
    let tokens = tokens(&rig).await;
    let access = text(&tokens, "access_token");
    rig.world.sessions.fail_next_write(Fault::TurnedAway(7));
    let away = rig.revoke(access).await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(away.header("retry-after"), "7");
    rig.world.clock.set_doubt(Some("the clock is 40 s off"));
    assert_eq!(rig.revoke(access).await.status, StatusCode::SERVICE_UNAVAILABLE);
    rig.world.clock.set_doubt(None);
    rig.store_requests();
    assert_done(&rig.revoke(access).await);
    assert_eq!(rig.store_requests(), ["revoke"]);
}

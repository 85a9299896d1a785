//! Redeeming a code: one create, every check before it, replays and lost answers.

use claviger_domain::fakes::{Fault, REDIRECT_URI, World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::login::Outcome;
use claviger_domain::ports::SessionState;
use claviger_domain::token::TokenError;
use claviger_domain::userinfo;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::response_type::Delivery;
use claviger_protocol::token::TokenResponse;
use data_encoding::BASE64URL_NOPAD;
use secrecy::ExposeSecret;

use crate::rig::{
    SCOPE, VERIFIER, assert_invalid_grant, assert_unavailable, assert_unavailable_for, begin, code,
    exchange, logged_in, query, redeem, refresh, refresh_token, sign_in,
};

#[tokio::test]
async fn a_login_is_one_create_and_nothing_before_it() {
    let world = World::new();
    let code = code(&world, "local").await;
    assert!(
        code.len() >= 43 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    );
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    redeem(&world, &code).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["create"]);
    let refreshed = logged_in(&world, "local").await;
    refresh(&world, &refreshed).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["rotate"]);
}

#[tokio::test]
async fn id_token_and_userinfo_say_what_the_scopes_reveal() {
    let world = World::new();
    let response = redeem(&world, &code(&world, "local").await).await.unwrap();
    let expected = claviger_jose::VerifyOptions {
        algorithms: &[claviger_jose::Algorithm::ES256],
        issuer: "https://id.example.org",
        audience: Some("kubernetes"),
        typ: None,
        leeway_seconds: 0,
    };
    let now = 1_767_225_600;
    let id_token = response.id_token.as_ref().unwrap().expose_secret();
    let claims =
        claviger_jose::verify(&world.issuer.keys.key_set, id_token, now, &expected).unwrap();
    assert_eq!(claims["sub"], "CggwOGE4Njg0YhIFbG9jYWw");
    assert_eq!(claims["nonce"], "n-0S6");
    assert_eq!(claims["exp"], 1_767_226_200);
    assert_eq!(claims["auth_time"], 1_767_225_600);
    assert_eq!(claims["email_verified"], true);
    assert_eq!(claims["groups"], serde_json::json!(["developers", "oncall"]));
    assert!(claims["jti"].as_str().unwrap().len() >= 22);
    for absent in ["nbf", "azp", "federated_claims"] {
        assert!(!claims.contains_key(absent), "{absent}");
    }
    let access_token = response.access_token.expose_secret();
    let at_hash =
        claviger_jose::left_half_hash(claviger_jose::Algorithm::ES256, access_token.as_bytes());
    assert_eq!(claims["at_hash"], at_hash);
    let known = userinfo::answer(&world.provider, &world.issuer, access_token, None).unwrap();
    assert_eq!(known.email.as_deref(), Some("alice@example.org"));
    world.clock.advance(600);
    assert!(userinfo::answer(&world.provider, &world.issuer, access_token, None).is_err());
}

#[tokio::test]
async fn replayed_code_revokes_the_session_and_stays_refused() {
    let world = World::new();
    let code = code(&world, "local").await;
    let response = redeem(&world, &code).await.unwrap();
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(
        world.sessions.take_requests(),
        ["create", "create", "get", "revoke"],
        "what is known to be revoked is refused from memory"
    );
    assert_invalid_grant(&refresh(&world, &refresh_token(&response)).await);
    let token = response.access_token.expose_secret();
    assert!(userinfo::answer(&world.provider, &world.issuer, token, None).is_err());
    assert!(world.audit.take().iter().any(|event| event.contains("CodeReplayed")));
}

#[tokio::test]
async fn double_clicked_callback_makes_one_session_and_revokes_nobody() {
    let world = World::new();
    let flow = begin(&world, &[]).flow;
    let mut codes = Vec::new();
    for _ in 0..2 {
        match sign_in(&world, &flow, "local", "wonderland").await.unwrap() {
            Outcome::Answer(Delivery::Redirect(location)) => {
                codes.push(query(&location, "code").unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    let first = redeem(&world, &codes[0]).await.unwrap();
    assert_invalid_grant(&redeem(&world, &codes[1]).await);
    assert_eq!(world.sessions.all().len(), 1);
    refresh(&world, &refresh_token(&first)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_consumed_before_every_check_has_passed() {
    let world = World::new();
    let code = code(&world, "local").await;
    let good = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ];
    let other = "a".repeat(43);
    for (name, value) in [
        ("code", "forged"),
        ("redirect_uri", "https://app.example.org/other"),
        ("code_verifier", other.as_str()),
    ] {
        let mut form = good.to_vec();
        form.retain(|(known, _)| *known != name);
        form.push((name, value));
        assert_invalid_grant(&exchange(&world, &form).await);
    }
    let without_verifier = &good[..3];
    assert_invalid_grant(&exchange(&world, without_verifier).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    exchange(&world, &good).await.unwrap();
}

#[tokio::test]
async fn verifier_without_challenge_is_refused() {
    let world = World::new();
    let flow = begin(&world, &[("code_challenge", ""), ("code_challenge_method", "")]).flow;
    let Ok(Outcome::Answer(Delivery::Redirect(location))) =
        sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no code");
    };
    assert_invalid_grant(&redeem(&world, &query(&location, "code").unwrap()).await);
}

#[tokio::test]
async fn a_code_dies_after_a_minute_and_is_no_other_clients() {
    let mut world = World::new();
    let late = code(&world, "local").await;
    world.clock.advance(60);
    assert_invalid_grant(&redeem(&world, &late).await);
    let code = code(&world, "local").await;
    world.change_client("kubernetes", |client| client.uid = "re-created".into());
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_lost_answer_to_the_create_is_no_failed_login() {
    let world = World::new();
    let code_a = code(&world, "local").await;
    world.sessions.fail_next_write(Fault::AnswerLost);
    redeem(&world, &code_a).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["create", "get"]);
    let code_b = code(&world, "local").await;
    world.sessions.fail_next_write(Fault::Refused);
    assert_unavailable(&redeem(&world, &code_b).await);
    redeem(&world, &code_b).await.unwrap();
    assert_eq!(world.sessions.all().len(), 2);
}

#[tokio::test]
async fn a_create_that_was_turned_away_is_not_read_and_one_that_timed_out_is() {
    let world = World::new();
    let code = code(&world, "local").await;
    world.sessions.fail_next_write(Fault::TurnedAway(9));
    assert_unavailable_for(&redeem(&world, &code).await, 9);
    assert_eq!(world.sessions.take_requests(), ["create"]);
    world.sessions.fail_next_write(Fault::Overloaded(17));
    assert_unavailable_for(&redeem(&world, &code).await, 17);
    assert_eq!(world.sessions.take_requests(), ["create", "get"]);
    world.sessions.fail_next_write(Fault::TimedOut(17));
    redeem(&world, &code).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["create", "get"]);
}

#[tokio::test]
async fn a_grant_too_large_for_a_code_waits_in_a_pending_session() {
    let world = World::new();
    let groups: Vec<String> = (0..200).map(|n| format!("a-group-with-a-long-name-{n}")).collect();
    world.upstream.put("alice", "wonderland", Identity { groups, ..alice() });
    let code = code(&world, "local").await;
    assert!(code.len() < 3_072);
    assert_eq!(world.sessions.take_requests(), ["create"]);
    assert_eq!(world.sessions.all()[0].state, SessionState::Pending);
    let response = redeem(&world, &code).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["get", "activate"]);
    let access_token = response.access_token.expose_secret();
    let known = userinfo::answer(&world.provider, &world.issuer, access_token, None).unwrap();
    assert_eq!(known.groups.len(), 200);
    refresh(&world, &refresh_token(&response)).await.unwrap();
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn a_grant_that_waits_is_spent_by_no_request_that_is_refused() {
    let mut world = World::new();
    let groups: Vec<String> = (0..200).map(|n| format!("a-group-with-a-long-name-{n}")).collect();
    world.upstream.put("alice", "wonderland", Identity { groups, ..alice() });
    let code = code(&world, "local").await;
    world.sessions.take_requests();
    let elsewhere = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
        ("resource", "https://api.example.org"),
    ];
    let refused = exchange(&world, &elsewhere).await;
    let Err(TokenError::Refused { code: ErrorCode::InvalidTarget, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(world.sessions.take_requests(), ["get"]);
    world.change_client("kubernetes", |client| {
        client.allowed_groups = ["managers".to_owned()].into();
    });
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(world.sessions.take_requests(), ["get"]);
    assert_eq!(world.sessions.all()[0].state, SessionState::Pending);
    world.change_client("kubernetes", |client| client.allowed_groups.clear());
    redeem(&world, &code).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["get", "activate"]);
}

/// The ID token's claims, read and not checked.
fn id_token(response: &TokenResponse) -> serde_json::Value {
    let token = response.id_token.as_ref().unwrap().expose_secret();
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(body.as_bytes()).unwrap()).unwrap()
}

#[tokio::test]
async fn the_codes_answer_has_the_nonce_and_no_refresh_has_it() {
    let world = World::new();
    let response = redeem(&world, &code(&world, "local").await).await.unwrap();
    assert_eq!(id_token(&response)["nonce"], "n-0S6");
    let refreshed = refresh(&world, &refresh_token(&response)).await.unwrap();
    assert!(id_token(&refreshed).get("nonce").is_none());

    // Where it waited in a Pending session, too, and although the answer to its activation is lost.
    let groups: Vec<String> = (0..200).map(|n| format!("a-group-with-a-long-name-{n}")).collect();
    world.upstream.put("alice", "wonderland", Identity { groups, ..alice() });
    for fault in [None, Some(Fault::AnswerLost)] {
        let code = code(&world, "local").await;
        world.sessions.take_requests();
        if let Some(fault) = fault {
            world.sessions.fail_next_write(fault);
        }
        let response = redeem(&world, &code).await.unwrap();
        assert_eq!(world.sessions.take_requests()[..2], ["get", "activate"]);
        assert_eq!(id_token(&response)["nonce"], "n-0S6");
        let refreshed = refresh(&world, &refresh_token(&response)).await.unwrap();
        assert!(id_token(&refreshed).get("nonce").is_none());
    }
}

#[tokio::test]
async fn a_peers_audience_needs_the_peers_trust() {
    let mut world = World::new();
    let scope = format!("{SCOPE} audience:server:client_id:cli");
    world.change_client("cli", |client| {
        client.trusted_peers = ["kubernetes".to_owned()].into();
    });
    let flow = begin(&world, &[("scope", &scope)]).flow;
    let Ok(Outcome::Answer(Delivery::Redirect(location))) =
        sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no code");
    };
    let response = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    let payload = response.id_token.unwrap().expose_secret().split('.').nth(1).unwrap().to_owned();
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(claims["aud"], serde_json::json!(["cli", "kubernetes"]));
    assert_eq!(claims["azp"], "kubernetes");
}

#[tokio::test]
async fn without_offline_access_there_is_no_refresh_token() {
    let world = World::new();
    let flow = begin(&world, &[("scope", "openid email")]).flow;
    let Ok(Outcome::Answer(Delivery::Redirect(location))) =
        sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no code");
    };
    let response = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    assert!(response.refresh_token.is_none());
    let session = &world.sessions.all()[0];
    assert_eq!(session.expires_at, 1_767_225_600 + 600, "nothing outlives its tokens");
}

//! Refresh: rotation, honest retries, reuse, verdicts and outages.

use claviger_domain::fakes::{Fault, World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::issuer::ClientEntry;
use claviger_domain::login::{Outcome, StepError};
use claviger_domain::ports::SessionState;
use claviger_domain::token::TokenError;
use claviger_domain::userinfo;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::response_type::Delivery;
use secrecy::ExposeSecret;

use crate::rig::{
    SCOPE, assert_invalid_grant, assert_unavailable, assert_unavailable_for, begin, code, exchange,
    logged_in, query, redeem, refresh, refresh_token, sign_in,
};

#[tokio::test]
async fn honest_retry_gets_the_same_token_and_reuse_kills_the_family() {
    let world = World::new();
    let first = logged_in(&world, "local").await;
    let second = refresh_token(&refresh(&world, &first).await.unwrap());
    world.clock.advance(10);
    let again = refresh_token(&refresh(&world, &first).await.unwrap());
    assert_eq!(second, again, "derived, not stored");
    let third = refresh_token(&refresh(&world, &second).await.unwrap());
    assert_ne!(second, third);
    assert_invalid_grant(&refresh(&world, &first).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
    assert_invalid_grant(&refresh(&world, &third).await);
}

#[tokio::test]
async fn an_old_token_outside_its_grace_kills_the_family() {
    let world = World::new();
    let first = logged_in(&world, "directory").await;
    refresh(&world, &first).await.unwrap();
    world.clock.advance(11);
    assert_invalid_grant(&refresh(&world, &first).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn forged_foreign_and_expired_refresh_tokens_cost_no_request() {
    let world = World::new();
    let good = logged_in(&world, "local").await;
    let other_issuer = World::new();
    let foreign = logged_in(&other_issuer, "local").await;
    let (body, mac) = good.rsplit_once('.').unwrap();
    let raised = body.replacen(".0.", ".1.", 1);
    for forged in
        ["", "clv_rt_", "x.y.z", &foreign, &format!("{raised}.{mac}"), &good[..good.len() - 1]]
    {
        if !forged.is_empty() {
            assert_invalid_grant(&refresh(&world, forged).await);
        }
    }
    world.clock.advance(7 * 86_400);
    assert_invalid_grant(&refresh(&world, &good).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn labels_that_were_removed_by_hand_come_back_and_cost_nothing_otherwise() {
    for (connector, good, healed) in [
        ("local", vec!["rotate"], vec!["rotate", "get", "rotate"]),
        ("directory", vec!["get", "rotate"], vec!["get", "rotate", "get", "rotate"]),
    ] {
        let world = World::new();
        let token = logged_in(&world, connector).await;
        world.sessions.take_requests();
        let token = refresh_token(&refresh(&world, &token).await.unwrap());
        assert_eq!(world.sessions.take_requests(), good);
        world.sessions.remove_labels();
        let token = refresh_token(&refresh(&world, &token).await.unwrap());
        assert_eq!(world.sessions.take_requests(), healed);
        refresh(&world, &token).await.unwrap();
        assert_eq!(world.sessions.take_requests(), good);
    }
}

#[tokio::test]
async fn the_session_ends_at_its_absolute_lifetime() {
    let world = World::new();
    let mut token = logged_in(&world, "local").await;
    for _ in 0..4 {
        world.clock.advance(7 * 86_400 - 1);
        token = refresh_token(&refresh(&world, &token).await.unwrap());
    }
    world.clock.advance(2 * 86_400 + 4);
    assert_invalid_grant(&refresh(&world, &token).await);
}

#[tokio::test]
async fn an_outage_rotates_nothing_and_a_verdict_revokes() {
    let world = World::new();
    let token = logged_in(&world, "directory").await;
    world.upstream.set_away(true);
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), ["get"]);
    world.upstream.set_away(false);
    let token = refresh_token(&refresh(&world, &token).await.unwrap());
    assert_eq!(world.sessions.take_requests(), ["get", "rotate"]);
    world.upstream.remove("alice");
    assert_invalid_grant(&refresh(&world, &token).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn a_refresh_carries_what_the_upstream_says_now() {
    let world = World::new();
    for connector in ["local", "directory"] {
        let token = logged_in(&world, connector).await;
        let moved = Identity { groups: vec!["managers".into()], ..alice() };
        world.upstream.put("alice", "wonderland", moved);
        let response = refresh(&world, &token).await.unwrap();
        let access_token = response.access_token.expose_secret();
        let known = userinfo::answer(&world.provider, &world.issuer, access_token, None).unwrap();
        assert_eq!(known.groups, ["managers"], "{connector}");
        world.upstream.put("alice", "wonderland", alice());
    }
}

#[tokio::test]
async fn policy_is_applied_at_refresh_as_at_login() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| {
        client.allowed_groups = ["oncall".to_owned()].into();
    });
    let token = logged_in(&world, "directory").await;
    let moved = Identity { groups: vec!["developers".into()], ..alice() };
    world.upstream.put("alice", "wonderland", moved);
    assert_invalid_grant(&refresh(&world, &token).await);
    let flow = begin(&world, &[]).flow;
    let Ok(Outcome::Answer(Delivery::Redirect(location))) =
        sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no redirect");
    };
    assert_eq!(query(&location, "error").as_deref(), Some("access_denied"));
    assert_eq!(query(&location, "state").as_deref(), Some("st&te"));
}

#[tokio::test]
async fn what_is_gone_is_invalid_grant_and_what_is_broken_is_503() {
    let mut world = World::new();
    let token = logged_in(&world, "local").await;
    let local = world.issuer.connectors.remove(0);
    world.issuer.unavailable_connectors.insert(local.uid.clone());
    assert_unavailable(&refresh(&world, &token).await);
    world.issuer.unavailable_connectors.clear();
    assert_invalid_grant(&refresh(&world, &token).await);
    world.issuer.connectors.insert(0, local);
    let client = world
        .issuer
        .clients
        .insert("kubernetes".into(), ClientEntry::OutOfService(std::sync::Arc::default()))
        .unwrap();
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    world.issuer.clients.insert("kubernetes".into(), client);
    refresh(&world, &token).await.unwrap();
}

#[tokio::test]
async fn a_deleted_session_is_refused_and_creates_nothing() {
    let world = World::new();
    for connector in ["local", "directory"] {
        let token = logged_in(&world, connector).await;
        let name = world.sessions.all()[0].name.clone();
        world.sessions.delete(&name);
        assert_invalid_grant(&refresh(&world, &token).await);
        assert!(world.sessions.all().is_empty());
    }
}

#[tokio::test]
async fn narrowed_scopes_are_answered_and_wider_ones_refused() {
    let world = World::new();
    let token = logged_in(&world, "local").await;
    let form = |scope| {
        [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("scope", scope)]
    };
    let narrowed = exchange(&world, &form("openid email")).await.unwrap();
    let access_token = narrowed.access_token.expose_secret();
    let known = userinfo::answer(&world.provider, &world.issuer, access_token, None).unwrap();
    assert!(known.groups.is_empty());
    let wider = exchange(&world, &form("openid federated:id")).await;
    assert!(
        matches!(wider, Err(TokenError::Refused { code: ErrorCode::InvalidScope, .. })),
        "{wider:?}"
    );
}

#[tokio::test]
async fn an_uncertain_upstream_rotates_nothing_however_long_it_lasts() {
    let world = World::new();
    let token = logged_in(&world, "local").await;
    world.upstream.set_away(true);
    for _ in 0..3 {
        assert_unavailable(&refresh(&world, &token).await);
        world.clock.advance(60);
    }
    assert_eq!(world.sessions.take_requests(), ["get", "get", "get"]);
    world.upstream.set_away(false);
    refresh(&world, &token).await.unwrap();
}

#[tokio::test]
async fn a_lost_rotation_that_cannot_be_settled_is_no_reuse_and_one_after_it_is() {
    let world = World::new();
    let token = logged_in(&world, "local").await;
    world.sessions.fail_next_write(Fault::AnswerLost);
    world.sessions.set_unreadable(true);
    for _ in 0..5 {
        assert_unavailable(&refresh(&world, &token).await);
        world.clock.advance(60);
    }
    world.sessions.set_unreadable(false);
    let next = refresh_token(&refresh(&world, &token).await.unwrap());
    assert_eq!(
        next,
        refresh_token(&refresh(&world, &token).await.unwrap()),
        "the same, within grace"
    );
    // Once it is back the grace runs as ever.
    world.clock.advance(60);
    assert_invalid_grant(&refresh(&world, &token).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn an_outage_saves_no_token_whose_successor_was_used() {
    let world = World::new();
    let first = logged_in(&world, "local").await;
    world.sessions.fail_next_write(Fault::AnswerLost);
    world.sessions.set_unreadable(true);
    assert_unavailable(&refresh(&world, &first).await);
    world.clock.advance(30);
    world.sessions.set_unreadable(false);
    let second = refresh_token(&refresh(&world, &first).await.unwrap());
    refresh(&world, &second).await.unwrap();
    assert_invalid_grant(&refresh(&world, &first).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn a_lost_answer_to_the_rotation_is_settled_by_one_read() {
    let world = World::new();
    for connector in ["local", "directory"] {
        let token = logged_in(&world, connector).await;
        world.sessions.fail_next_write(Fault::AnswerLost);
        let next = refresh_token(&refresh(&world, &token).await.unwrap());
        world.sessions.fail_next_write(Fault::Refused);
        assert_unavailable(&refresh(&world, &next).await);
        world.clock.advance(60);
        refresh(&world, &next).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_api_server_asks_for_is_passed_on_and_read_only_where_it_may_have_happened() {
    let world = World::new();
    let token = logged_in(&world, "local").await;
    for (fault, wait, requests) in [
        (Fault::TurnedAway(9), 9, &["rotate"][..]),
        (Fault::Overloaded(17), 17, &["rotate", "get"][..]),
        (Fault::TurnedAway(0), 1, &["rotate"][..]),
        (Fault::TurnedAway(86_400), 120, &["rotate"][..]),
    ] {
        world.sessions.fail_next_write(fault);
        assert_unavailable_for(&refresh(&world, &token).await, wait);
        assert_eq!(world.sessions.take_requests(), requests, "{fault:?}");
    }
    world.sessions.fail_next_write(Fault::TimedOut(17));
    let next = refresh(&world, &token).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["rotate", "get"]);
    refresh(&world, &refresh_token(&next)).await.unwrap();
}

#[tokio::test]
async fn while_the_clock_is_in_doubt_nothing_is_signed_and_nothing_is_asked() {
    let world = World::new();
    let token = logged_in(&world, "local").await;
    let flow = begin(&world, &[]).flow;
    let code = code(&world, "local").await;
    world.clock.set_doubt(Some("45 s ahead"));
    assert_unavailable(&refresh(&world, &token).await);
    assert_unavailable(&redeem(&world, &code).await);
    let signed_in = sign_in(&world, &flow, "local", "wonderland").await;
    assert!(matches!(signed_in, Err(StepError::Unavailable(_))), "{signed_in:?}");
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    world.clock.set_doubt(None);
    refresh(&world, &token).await.unwrap();
    redeem(&world, &code).await.unwrap();
}

#[tokio::test]
async fn a_scope_beyond_the_grant_costs_no_token() {
    let world = World::new();
    for connector in ["local", "directory"] {
        let token = logged_in(&world, connector).await;
        let scope = "openid federated:id";
        let form = [("grant_type", "refresh_token"), ("refresh_token", &token), ("scope", scope)];
        assert!(exchange(&world, &form).await.is_err());
        world.clock.advance(60);
        refresh(&world, &token).await.unwrap();
    }
}

#[tokio::test]
async fn trust_withdrawn_is_withdrawn_at_the_next_refresh() {
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
    let token = refresh_token(&redeem(&world, &query(&location, "code").unwrap()).await.unwrap());
    world.change_client("cli", |client| client.trusted_peers.clear());
    world.change_client("kubernetes", |client| {
        client.scopes.remove("groups");
    });
    let response = refresh(&world, &token).await.unwrap();
    assert_eq!(response.scope, "openid email profile offline_access");
    let access_token = response.access_token.expose_secret();
    let known = userinfo::answer(&world.provider, &world.issuer, access_token, None).unwrap();
    assert!(known.groups.is_empty());
    world.change_client("kubernetes", |client| {
        client.allowed_connectors = Some(["directory".to_owned()].into());
    });
    assert_invalid_grant(&refresh(&world, &refresh_token(&response)).await);
}

#[tokio::test]
async fn a_revoked_session_is_refused_from_memory() {
    let world = World::new();
    let code = code(&world, "local").await;
    let token = refresh_token(&redeem(&world, &code).await.unwrap());
    assert_invalid_grant(&redeem(&world, &code).await);
    world.sessions.take_requests();
    assert_invalid_grant(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

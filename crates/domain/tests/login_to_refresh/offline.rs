//! Connectors that cannot be asked again: refreshes by what was said at sign-in, for a bounded time.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_domain::connector::{Connector, IdentityPolicy, Refresh};
use claviger_domain::fakes::World;
use claviger_domain::ports::SessionState;
use claviger_protocol::token::TokenResponse;
use data_encoding::BASE64URL_NOPAD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::rig::{assert_invalid_grant, code, exchange, logged_in, redeem, refresh, refresh_token};

const BOUND: i64 = 3_600;

fn change(world: &mut World, change: impl FnOnce(&mut Connector)) {
    change(Arc::make_mut(&mut world.issuer.connectors[0]));
}

fn allow(groups: &[&str]) -> BTreeSet<String> {
    groups.iter().map(|group| (*group).to_owned()).collect()
}

/// `local` cannot be asked again; alice is in `developers` and `oncall`.
fn world() -> World {
    let mut world = World::new();
    change(&mut world, |connector| {
        connector.refresh = Refresh::Offline { seconds: BOUND };
        connector.policy = IdentityPolicy {
            allowed_groups: allow(&["developers", "oncall"]),
            only_allowed_groups: true,
            group_prefix: "sso:".into(),
            ..IdentityPolicy::default()
        };
    });
    world
}

fn groups(tokens: &TokenResponse) -> Value {
    let id_token = tokens.id_token.as_ref().unwrap().expose_secret();
    let payload = id_token.split('.').nth(1).unwrap();
    let bytes = BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()["groups"].clone()
}

#[tokio::test]
async fn an_offline_refresh_is_one_rotation_and_says_what_the_sign_in_said() {
    let world = world();
    let mut token = logged_in(&world, "local").await;
    for _ in 0..3 {
        let tokens = refresh(&world, &token).await.unwrap();
        assert_eq!(world.sessions.take_requests(), ["rotate"]);
        assert_eq!(groups(&tokens), json!(["sso:developers", "sso:oncall"]), "no prefix twice");
        token = refresh_token(&tokens);
    }
}

#[tokio::test]
async fn the_time_since_sign_in_bounds_it_however_often_it_is_used() {
    let world = world();
    let mut token = logged_in(&world, "local").await;
    for _ in 0..3 {
        world.clock.advance(BOUND / 4);
        token = refresh_token(&refresh(&world, &token).await.unwrap());
    }
    world.clock.advance(BOUND / 4 - 1);
    token = refresh_token(&refresh(&world, &token).await.unwrap());
    world.clock.advance(1);
    world.sessions.take_requests();
    assert_invalid_grant(&refresh(&world, &token).await);
    assert!(world.sessions.take_requests().is_empty(), "the token says so itself");
}

#[tokio::test]
async fn the_bound_counts_from_sign_in_not_from_the_codes_redemption() {
    let world = world();
    let code = code(&world, "local").await;
    world.clock.advance(30);
    let token = refresh_token(&redeem(&world, &code).await.unwrap());
    world.clock.advance(BOUND - 30);
    assert_invalid_grant(&refresh(&world, &token).await);
}

#[tokio::test]
async fn without_a_bound_there_is_no_refresh_token_and_a_withdrawn_one_ends_sessions() {
    let mut world = world();
    let token = logged_in(&world, "local").await;
    change(&mut world, |connector| connector.refresh = Refresh::Unsupported);
    assert_invalid_grant(&refresh(&world, &token).await);
    let tokens = redeem(&world, &code(&world, "local").await).await.unwrap();
    assert!(tokens.refresh_token.is_none());
}

#[tokio::test]
async fn a_shorter_bound_counts_for_sessions_there_are() {
    let mut world = world();
    let token = logged_in(&world, "local").await;
    change(&mut world, |connector| connector.refresh = Refresh::Offline { seconds: 600 });
    world.clock.advance(300);
    let token = refresh_token(&refresh(&world, &token).await.unwrap());
    world.clock.advance(300);
    assert_invalid_grant(&refresh(&world, &token).await);
}

#[tokio::test]
async fn a_longer_bound_gives_no_session_more_than_it_was_given() {
    let mut world = world();
    let token = logged_in(&world, "local").await;
    change(&mut world, |connector| connector.refresh = Refresh::Offline { seconds: 10 * BOUND });
    world.clock.advance(BOUND);
    assert_invalid_grant(&refresh(&world, &token).await);
}

#[tokio::test]
async fn policy_of_the_moment_is_applied_to_what_was_said_at_sign_in() {
    let mut world = world();
    let token = logged_in(&world, "local").await;
    change(&mut world, |connector| connector.policy.group_prefix = "corp:".into());
    let tokens = refresh(&world, &token).await.unwrap();
    assert_eq!(groups(&tokens), json!(["corp:developers", "corp:oncall"]));

    change(&mut world, |connector| connector.policy.allowed_groups = allow(&["oncall", "x"]));
    let tokens = refresh(&world, &refresh_token(&tokens)).await.unwrap();
    assert_eq!(groups(&tokens), json!(["corp:oncall"]));

    change(&mut world, |connector| connector.policy.allowed_groups = allow(&["x"]));
    assert_invalid_grant(&refresh(&world, &refresh_token(&tokens)).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn a_narrower_scope_rewrites_the_session_and_keeps_prefix_and_groups_straight() {
    let mut world = world();
    let token = logged_in(&world, "local").await;
    change(&mut world, |connector| connector.policy.group_prefix = "corp:".into());
    let form = |token: &str| {
        [
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", token.to_owned()),
            ("scope", "openid groups".to_owned()),
        ]
    };
    let pairs = form(&token);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let tokens = exchange(&world, &pairs).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["get", "rotate"]);
    assert_eq!(groups(&tokens), json!(["corp:developers", "corp:oncall"]));
    change(&mut world, |connector| connector.policy.group_prefix = String::new());
    let tokens = refresh(&world, &refresh_token(&tokens)).await.unwrap();
    assert_eq!(groups(&tokens), json!(["developers", "oncall"]));
}

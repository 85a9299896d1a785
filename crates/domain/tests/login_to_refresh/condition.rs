//! A client's condition in CEL: asked at sign-in, single sign-on, redemption and refresh, and what says nothing lets
//! nobody in and ends nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_domain::browser_session::BrowserSessions;
use claviger_domain::fakes::{World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::login::{self, Brought, Outcome};
use claviger_domain::policy::Condition;
use claviger_domain::ports::SessionState;
use claviger_protocol::response_type::Delivery;
use secrecy::SecretString;

use crate::rig::{
    assert_invalid_grant, assert_unavailable, begin, code, logged_in, query, redeem, refresh,
    refresh_token, sign_in,
};

const ON_CALL: &str = "user.emailVerified && 'oncall' in user.groups && 'groups' in scopes && \
                       client.id == 'kubernetes' && user.connector in ['local', 'directory']";

fn conditioned(world: &mut World, expression: &str) {
    let condition = Condition::compile(expression, Some("on call only")).unwrap();
    world.change_client("kubernetes", |client| client.condition = Some(Arc::new(condition)));
}

fn world(expression: &str) -> World {
    let mut world = World::new();
    conditioned(&mut world, expression);
    world
}

/// Error and description at the client.
async fn refused(world: &World) -> (String, String) {
    let flow = begin(world, &[]).flow;
    let outcome = sign_in(world, &flow, "local", "wonderland").await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = outcome else { panic!("{outcome:?}") };
    let read = |name| query(&location, name).unwrap_or_else(|| panic!("no {name}: {location}"));
    (read("error"), read("error_description"))
}

fn moved() -> Identity {
    Identity { groups: vec!["developers".into()], ..alice() }
}

#[tokio::test]
async fn whoever_meets_it_comes_in_and_is_asked_again_at_refresh_for_one_more_read() {
    for connector in ["local", "directory"] {
        let world = world(ON_CALL);
        let token = logged_in(&world, connector).await;
        let token = refresh_token(&refresh(&world, &token).await.unwrap());
        assert_eq!(world.sessions.take_requests(), ["get", "rotate"], "{connector}");
        world.upstream.put("alice", "wonderland", moved());
        assert_invalid_grant(&refresh(&world, &token).await);
        assert_eq!(world.sessions.take_requests(), ["get", "revoke"], "{connector}");
        assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
    }
}

#[tokio::test]
async fn whoever_does_not_meet_it_is_told_so_in_its_words_and_nothing_is_stored() {
    let world = world(ON_CALL);
    world.upstream.put("alice", "wonderland", moved());
    let said = refused(&world).await;
    assert_eq!(said, ("access_denied".to_owned(), "on call only".to_owned()));
    assert!(world.sessions.take_requests().is_empty());
    let audit = world.audit.take().join(" ");
    assert!(audit.contains("ClientPolicy"), "{audit}");
}

#[tokio::test]
async fn what_says_nothing_lets_nobody_in_and_ends_no_session() {
    let mut world = world("user.email.endsWith('@example.org')");
    let token = logged_in(&world, "local").await;
    let waiting = code(&world, "local").await;
    world.upstream.put("alice", "wonderland", Identity { email: None, ..alice() });
    let (error, description) = refused(&world).await;
    assert_eq!(error, "access_denied");
    assert_eq!(description, "the client's condition could not be evaluated");
    let audit = world.audit.take().join(" ");
    assert!(audit.contains("ConditionFailed"), "{audit}");
    world.sessions.take_requests();
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), ["get"], "neither rotated nor revoked");
    conditioned(&mut world, "user.claims.department == 'it'");
    assert_unavailable(&redeem(&world, &waiting).await);
    assert!(world.sessions.take_requests().is_empty(), "the code was not spent");
    conditioned(&mut world, "true");
    refresh(&world, &token).await.unwrap();
    redeem(&world, &waiting).await.unwrap();
}

#[tokio::test]
async fn a_code_is_not_redeemed_for_a_user_whom_the_client_no_longer_admits() {
    let mut world = world("true");
    let code = code(&world, "local").await;
    conditioned(&mut world, "user.sub == 'somebody else'");
    assert_invalid_grant(&redeem(&world, &code).await);
    assert!(world.sessions.take_requests().is_empty());
    world.change_client("kubernetes", |client| {
        client.condition = None;
        client.allowed_groups = BTreeSet::from(["managers".to_owned()]);
    });
    assert_invalid_grant(&redeem(&world, &code).await);
    assert!(world.sessions.take_requests().is_empty());
}

#[tokio::test]
async fn it_holds_for_whoever_signed_in_elsewhere_and_looks_at_the_class_of_that_sign_in() {
    let mut world = World::new();
    let policy = BrowserSessions { idle: 3_600, absolute: 36_000, consent: 86_400 };
    world.issuer.browser_sessions = Some(policy);
    let flow = begin(&world, &[]).flow;
    let password = SecretString::from("wonderland");
    let arriving = (&flow, Brought::default());
    let attempt = ("alice", &password);
    let step = login::with_password(&world.provider, &world.issuer, arriving, "local", attempt);
    let cookies = step.await.unwrap().cookies;
    let comes_again = async |world: &World| {
        let jar = cookies.iter().map(|cookie| (cookie.name.as_str(), cookie.value.as_str()));
        let brought = Brought::of(&world.issuer, jar, world.provider.clock.now());
        let flow = begin(world, &[]).flow;
        let step = login::with_session(&world.provider, &world.issuer, &flow, brought).await;
        let step = step.unwrap().unwrap();
        let Outcome::Answer(Delivery::Redirect(location)) = step.outcome else { panic!() };
        query(&location, "error")
    };
    conditioned(&mut world, "acr == ''");
    assert_eq!(comes_again(&world).await, None);
    conditioned(&mut world, "acr == 'urn:mfa'");
    assert_eq!(comes_again(&world).await.as_deref(), Some("access_denied"));
}

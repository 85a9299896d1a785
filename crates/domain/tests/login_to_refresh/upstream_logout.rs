//! An upstream tells that a user has signed out there: what ends, what stays, and what it costs.

use std::sync::Arc;

use claviger_domain::browser_session::BrowserSessions;
use claviger_domain::connector::{Login, Refresh};
use claviger_domain::fakes::{Fault, RotatingUpstream, World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::login::{self, Brought, Outcome};
use claviger_domain::ports::SessionState;
use claviger_domain::upstream_logout::{NoticeError, end, note};
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;

use crate::rig::{begin, query, redeem};

/// A world whose connector `directory` is an upstream with pages of its own; browsers have sessions, if so.
fn world(browsers: bool) -> (World, Arc<RotatingUpstream>) {
    let mut world = World::new();
    let upstream = Arc::new(RotatingUpstream::of(alice()));
    let local = world.issuer.connectors.iter().find(|c| c.name == "local").unwrap();
    let lasting = local.refresh.clone();
    for connector in &mut world.issuer.connectors {
        if connector.name == "directory" {
            let there = Arc::make_mut(connector);
            there.login = Login::Redirect(Arc::clone(&upstream) as _);
            there.refresh = if browsers {
                lasting.clone()
            } else {
                Refresh::Upstream { recheck: Arc::clone(&upstream) as _, interval_seconds: 0 }
            };
        }
    }
    if browsers {
        let policy = BrowserSessions { idle: 3_600, absolute: 36_000, consent: 0 };
        world.issuer.browser_sessions = Some(policy);
    }
    (world, upstream)
}

async fn sign_in(world: &World, scope: &str) {
    let flow = begin(world, &[("scope", scope)]).flow;
    let (provider, issuer) = (&world.provider, &world.issuer);
    let departed = login::depart(provider, issuer, &flow, "directory").await.unwrap();
    let Delivery::Redirect(there) = departed else { panic!() };
    let answer = format!("nonce={}", query(&there, "nonce").unwrap());
    let answer = Params::parse(answer.as_bytes()).unwrap();
    let arriving = (&flow, Brought::default());
    let step = login::with_answer(provider, issuer, arriving, "directory", &answer).await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = &step.outcome else { panic!() };
    redeem(world, &query(location, "code").unwrap()).await.unwrap();
}

async fn told(world: &World, connector: &str, token: &str) -> Result<(), NoticeError> {
    end(&world.provider, &world.issuer, connector, token).await
}

fn active(world: &World) -> usize {
    world.sessions.all().iter().filter(|s| s.state == SessionState::Active).count()
}

fn alices(sid: &str) -> String {
    format!("{} {sid}", alice().user_id)
}

#[tokio::test]
async fn sessions_of_that_user_end_but_for_those_that_are_for_use_while_they_are_away() {
    let (world, upstream) = world(false);
    sign_in(&world, "openid").await;
    sign_in(&world, "openid offline_access").await;
    upstream.set_user(Some(Identity { user_id: "bob".into(), ..alice() }));
    sign_in(&world, "openid").await;
    world.sessions.take_requests();
    world.audit.take();
    told(&world, "directory", &alices("")).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["list", "revoke"]);
    assert_eq!(active(&world), 2, "bob's, and the one with offline_access");
    let audit = world.audit.take();
    assert!(audit.len() == 1 && audit[0].contains("SignedOut"), "{audit:?}");
    told(&world, "directory", &alices("")).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["list"], "told twice");
}

#[tokio::test]
async fn one_session_that_cannot_be_ended_keeps_no_other_and_the_token_may_come_again() {
    let (world, _) = world(false);
    for _ in 0..3 {
        sign_in(&world, "openid").await;
    }
    world.sessions.fail_next_write(Fault::Refused);
    let error = told(&world, "directory", &alices("")).await.unwrap_err();
    assert!(matches!(error, NoticeError::Unavailable(_)), "{error:?}");
    assert_eq!(active(&world), 1);
    told(&world, "directory", &alices("")).await.unwrap();
    assert_eq!(active(&world), 0);
}

#[tokio::test]
async fn a_browser_is_signed_out_and_its_clients_are_with_it() {
    let (world, _) = world(true);
    sign_in(&world, "openid").await;
    assert_eq!(active(&world), 2);
    told(&world, "directory", &alices("")).await.unwrap();
    assert_eq!(active(&world), 0);
}

#[tokio::test]
async fn another_session_there_is_another_here_where_that_is_known() {
    let (world, _) = world(true);
    sign_in(&world, "openid").await;
    told(&world, "directory", &alices("elsewhere")).await.unwrap();
    // What is kept of the browser's session says which session there it is of; its client's keeps nothing.
    let browsers = world.sessions.all().into_iter().filter(|session| session.client_uid.is_empty());
    assert_eq!(browsers.map(|s| s.state).collect::<Vec<_>>(), [SessionState::Active]);
    told(&world, "directory", &alices("there")).await.unwrap();
    assert_eq!(active(&world), 0);
}

#[tokio::test]
async fn who_signed_in_anew_meanwhile_stays() {
    let (world, _) = world(false);
    let before = world.provider.clock.now();
    world.clock.advance(300);
    sign_in(&world, "openid").await;
    let at = format!("{} @{before}", alice().user_id);
    told(&world, "directory", &at).await.unwrap();
    assert_eq!(active(&world), 1, "the token was made before");
}

#[tokio::test]
async fn what_is_not_believed_costs_nothing_and_is_noted() {
    let (world, _) = world(false);
    sign_in(&world, "openid").await;
    world.sessions.take_requests();
    world.audit.take();
    let refused = told(&world, "directory", "forged").await.unwrap_err();
    assert!(matches!(refused, NoticeError::Refused { .. }), "{refused:?}");
    note(&world.provider, "directory", &refused);
    note(&world.provider, "directory", &NoticeError::NoConnector);
    let audit = world.audit.take();
    assert!(audit.len() == 1 && audit[0].starts_with("LogoutRefused"), "{audit:?}");
    for connector in ["local", "nobody"] {
        let nobody = told(&world, connector, &alices("")).await;
        assert_eq!(nobody, Err(NoticeError::NoConnector), "{connector}");
    }
    assert!(world.sessions.take_requests().is_empty());
    assert_eq!(active(&world), 1);
}

//! An upstream tells by the browser that a user has signed out there: what ends, and what it costs.

use std::sync::Arc;

use claviger_domain::connector::{Login, Refresh};
use claviger_domain::fakes::{PostingUpstream, World, alice};
use claviger_domain::login::{self, Brought, Outcome};
use claviger_domain::ports::SessionState;
use claviger_domain::single_logout::{Heard, hear};
use claviger_domain::trip::Trip;
use claviger_domain::upstream_logout::NoticeError;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;

use crate::rig::{begin, query, redeem};

/// A world whose connector `directory` makes the browser post its answers; its clients may refresh for an hour.
fn world() -> World {
    let mut world = World::new();
    let upstream = Arc::new(PostingUpstream::of(alice()));
    for connector in &mut world.issuer.connectors {
        if connector.name == "directory" {
            let there = Arc::make_mut(connector);
            there.login = Login::Redirect(Arc::clone(&upstream) as _);
            there.refresh = Refresh::Offline { seconds: 3_600 };
            there.policy.group_prefix = "corp:".into(); // kept where the session there would be
            there.sign_out = Some(Arc::clone(&upstream) as _);
        }
    }
    world
}

async fn sign_in(world: &World, scope: &str, answer: &str) {
    let flow = begin(world, &[("scope", scope)]).flow;
    let (provider, issuer) = (&world.provider, &world.issuer);
    let connector = issuer.connectors.iter().find(|c| c.name == "directory").unwrap();
    let trip = Trip::of(issuer, &flow, connector, provider.clock.now());
    let answer = Params::default().with("Request", &trip.request_id()).with("Answer", answer);
    let arriving = (&flow, Brought::default());
    let step = login::with_answer(provider, issuer, arriving, "directory", &answer).await.unwrap();
    assert_eq!(step.cookies.len(), 1, "its ticket");
    let Outcome::Answer(Delivery::Redirect(location)) = &step.outcome else { panic!() };
    redeem(world, &query(location, "code").unwrap()).await.unwrap();
}

async fn heard(world: &World, connector: &str, query: &str) -> Result<Heard, NoticeError> {
    hear(&world.provider, &world.issuer, connector, query).await
}

fn active(world: &World) -> usize {
    world.sessions.all().iter().filter(|s| s.state == SessionState::Active).count()
}

#[tokio::test]
async fn where_nobody_can_be_asked_a_sign_out_there_ends_offline_use_too_whichever_session() {
    let world = world();
    sign_in(&world, "openid", "one").await;
    sign_in(&world, "openid offline_access", "two").await;
    world.sessions.take_requests();
    world.audit.take();
    let told = format!("out={}+somewhere", alice().user_id);
    assert!(matches!(heard(&world, "directory", &told).await, Ok(Heard::Answer { .. })));
    assert_eq!(world.sessions.take_requests(), ["list", "revoke", "revoke"]);
    assert_eq!(active(&world), 0);
    assert_eq!(world.audit.take().len(), 2);
}

#[tokio::test]
async fn what_is_not_believed_is_noted_and_an_answer_ends_nothing() {
    let world = world();
    sign_in(&world, "openid", "one").await;
    world.sessions.take_requests();
    world.audit.take();
    let refused = heard(&world, "directory", "forged").await.unwrap_err();
    assert!(matches!(refused, NoticeError::Refused { .. }), "{refused:?}");
    let audit = world.audit.take();
    assert!(audit.len() == 1 && audit[0].starts_with("LogoutRefused"), "{audit:?}");
    assert!(matches!(
        heard(&world, "directory", "done=yes").await,
        Ok(Heard::Back { done: true, .. })
    ));
    for connector in ["local", "nobody"] {
        assert_eq!(heard(&world, connector, "done=yes").await, Err(NoticeError::NoConnector));
    }
    world.clock.set_doubt(Some("it was set back"));
    let unsure = heard(&world, "directory", "done=yes").await.unwrap_err();
    assert!(matches!(unsure, NoticeError::Unavailable(_)), "{unsure:?}");
    assert!(world.sessions.take_requests().is_empty());
    assert_eq!(active(&world), 1);
}

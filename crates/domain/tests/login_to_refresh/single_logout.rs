//! An upstream tells by the browser that a user has signed out there: what ends, and what it costs.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_domain::connector::{Connector, Leaving, Login, Refresh, SignOut};
use claviger_domain::cookie::Cookie;
use claviger_domain::fakes::{PostingUpstream, World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::login::{self, Brought, Outcome};
use claviger_domain::logout::{self, Decision};
use claviger_domain::ports::SessionState;
use claviger_domain::single_logout::{Heard, hear};
use claviger_domain::trip::Trip;
use claviger_domain::upstream_logout::NoticeError;
use claviger_protocol::form::Params;
use claviger_protocol::logout::LogoutRequest;
use claviger_protocol::response_type::Delivery;
use secrecy::ExposeSecret;

use crate::rig::{begin, code, encode, query, redeem};

/// A world whose connector `directory` makes the browser post its answers; its clients may refresh for an hour.
fn world() -> World {
    world_of(&Arc::new(PostingUpstream::of(alice())))
}

fn world_of(upstream: &Arc<PostingUpstream>) -> World {
    let mut world = World::new();
    for connector in &mut world.issuer.connectors {
        if connector.name == "directory" {
            let there = Arc::make_mut(connector);
            there.login = Login::Redirect(Arc::clone(upstream) as _);
            there.refresh = Refresh::Offline { seconds: 3_600 };
            there.policy.group_prefix = "corp:".into(); // kept where the session there would be
            there.sign_out = Some(Arc::clone(upstream) as _);
        }
    }
    world
}

/// The browser's ticket, and the ID token.
async fn sign_in(world: &World, scope: &str, answer: &str) -> (Cookie, String) {
    let flow = begin(world, &[("scope", scope)]).flow;
    let (provider, issuer) = (&world.provider, &world.issuer);
    let connector = issuer.connectors.iter().find(|c| c.name == "directory").unwrap();
    let trip = Trip::of(issuer, &flow, connector, provider.clock.now());
    let answer = Params::default().with("Request", &trip.request_id()).with("Answer", answer);
    let arriving = (&flow, Brought::default());
    let step = login::with_answer(provider, issuer, arriving, "directory", &answer).await.unwrap();
    assert_eq!(step.cookies.len(), 1, "its ticket");
    let Outcome::Answer(Delivery::Redirect(location)) = &step.outcome else { panic!() };
    let id_token = id_token(world, &query(location, "code").unwrap()).await;
    (step.cookies[0].clone(), id_token)
}

async fn id_token(world: &World, code: &str) -> String {
    let response = redeem(world, code).await.unwrap();
    response.id_token.as_ref().unwrap().expose_secret().to_owned()
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

/// An upstream whose one place signs out whoever comes by.
#[derive(Debug)]
struct Anybody;

#[async_trait]
impl SignOut for Anybody {
    async fn location(&self, _: &Leaving<'_>) -> Option<String> {
        Some("https://sso.example.com/out".into())
    }
}

fn change(world: &mut World, name: &str, change: impl FnOnce(&mut Connector)) {
    let mut connectors = world.issuer.connectors.iter_mut();
    change(Arc::make_mut(connectors.find(|connector| connector.name == name).unwrap()));
}

/// Where a browser with this ticket and no session goes by this ID token, whether its user is asked first, and whether it is
/// by the ticket (who is asked and goes by it alone brings a cookie to come back by).
async fn leaves(world: &World, ticket: &Cookie, id_token: &str) -> (String, bool, bool) {
    let (provider, issuer) = (&world.provider, &world.issuer);
    let cookies = [(ticket.name.as_str(), ticket.value.as_str())];
    let brought = Brought::of(issuer, cookies.into_iter(), provider.clock.now());
    let request = LogoutRequest::parse(&encode(&[("id_token_hint", id_token)])).unwrap();
    let tickets = (None, Some(brought.there.unwrap()));
    match logout::decide((provider, issuer), &request, tickets, None).await.unwrap() {
        Decision::Leave { location, .. } => (location, false, true),
        Decision::AskForUpstream { location, cookie, .. } => (location, true, cookie.is_some()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_id_token_sends_nobody_elses_ticket_to_the_upstream_unasked() {
    let upstream = Arc::new(PostingUpstream::of(alice()));
    let mut world = world_of(&upstream);
    let (alices, hers) = sign_in(&world, "openid", "one").await;
    upstream.set_user(Identity { user_id: "bob".into(), ..alice() });
    let (_, bobs) = sign_in(&world, "openid", "two").await;
    let locals = id_token(&world, &code(&world, "local").await).await;

    let (location, is_asked, _) = leaves(&world, &alices, &hers).await;
    assert!(location.starts_with("https://idp.example.com/slo?who=alice+there&id="), "{location}");
    assert!(!is_asked, "by the ID token of her own sign-in");
    for (whose, hint) in [("of the same connector", &bobs), ("of another", &locals)] {
        let (location, is_asked, _) = leaves(&world, &alices, hint).await;
        assert!(location.contains("/slo?who=alice+there"), "{whose}: {location}");
        assert!(is_asked, "{whose}");
    }
    change(&mut world, "local", |there| there.sign_out = Some(Arc::new(Anybody)));
    let (location, ..) = leaves(&world, &alices, &locals).await;
    assert!(location.contains("/slo?who="), "who has browser sessions there has none: {location}");
}

#[tokio::test]
async fn an_id_token_of_another_user_goes_before_the_ticket_where_it_alone_says_where_to_sign_out()
{
    let upstream = Arc::new(PostingUpstream::of(alice()));
    let mut world = world_of(&upstream);
    change(&mut world, "local", |there| {
        there.refresh = Refresh::Unsupported; // no browser sessions, so that there need be no ticket
        there.sign_out = Some(Arc::new(Anybody));
    });
    let (alices, hers) = sign_in(&world, "openid", "one").await;
    let locals = id_token(&world, &code(&world, "local").await).await;
    let elsewhere = ("https://sso.example.com/out".to_owned(), true, false);
    assert_eq!(leaves(&world, &alices, &locals).await, elsewhere, "asked, and no ticket is used");

    // Of two users of one connector, the same.
    change(&mut world, "directory", |there| there.sign_out = Some(Arc::new(Anybody)));
    let (location, is_asked, takes_ticket) = leaves(&world, &alices, &hers).await;
    assert_eq!((location, is_asked, takes_ticket), (elsewhere.0.clone(), false, true));
    upstream.set_user(Identity { user_id: "bob".into(), ..alice() });
    let (_, bobs) = sign_in(&world, "openid", "two").await;
    assert_eq!(leaves(&world, &alices, &bobs).await, elsewhere, "she stays signed in there");
}

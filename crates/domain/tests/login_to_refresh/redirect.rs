//! Upstreams with pages of their own: the way there and back, and refresh tokens that they rotate.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_domain::browser_session::{BrowserSessions, Ticket};
use claviger_domain::claim_mapping::{Denial, Rules};
use claviger_domain::connector::{ConnectorData, Leaving, Login, Refresh, SignOut};
use claviger_domain::fakes::{Answer, Fault, RotatingUpstream, World, alice};
use claviger_domain::flow::Flow;
use claviger_domain::identity::Identity;
use claviger_domain::login::{self, Brought, Outcome, Step, StepError};
use claviger_domain::logout;
use claviger_domain::policy::{Answer as Facts, Condition, Expression};
use claviger_domain::ports::SessionState;
use claviger_domain::session::Payload;
use claviger_domain::upstream_ticket::UpstreamTicket;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::rig::{
    assert_invalid_grant, assert_unavailable, begin, exchange, query, redeem, refresh,
    refresh_token,
};

/// A world whose connector `directory` is an upstream with pages of its own.
fn world() -> (World, Arc<RotatingUpstream>) {
    let mut world = World::new();
    let upstream = Arc::new(RotatingUpstream::of(alice()));
    for connector in &mut world.issuer.connectors {
        if connector.name == "directory" {
            let mut there = connector.as_ref().clone();
            there.login = Login::Redirect(Arc::clone(&upstream) as _);
            there.refresh =
                Refresh::Upstream { recheck: Arc::clone(&upstream) as _, interval_seconds: 0 };
            *connector = Arc::new(there);
        }
    }
    (world, upstream)
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

async fn depart(world: &World, flow: &Flow) -> String {
    match login::depart(&world.provider, &world.issuer, flow, "directory").await.unwrap() {
        Delivery::Redirect(location) => location,
        other @ Delivery::Post { .. } => panic!("{other:?}"),
    }
}

async fn arrive(world: &World, flow: &Flow, nonce: &str) -> Result<Step, StepError> {
    arrive_with(world, flow, nonce, Brought::default()).await
}

async fn arrive_with(
    world: &World,
    flow: &Flow,
    nonce: &str,
    brought: Brought,
) -> Result<Step, StepError> {
    let answer = Params::parse(format!("nonce={nonce}").as_bytes()).unwrap();
    let arriving = (flow, brought);
    login::with_answer(&world.provider, &world.issuer, arriving, "directory", &answer).await
}

/// Where a sign-in of this request ends.
async fn ends(world: &World, change: &[(&str, &str)]) -> String {
    let flow = begin(world, change).flow;
    let nonce = query(&depart(world, &flow).await, "nonce").unwrap();
    match arrive(world, &flow, &nonce).await.unwrap().outcome {
        Outcome::Answer(Delivery::Redirect(location)) => location,
        other => panic!("{other:?}"),
    }
}

async fn logged_in(world: &World) -> String {
    let code = query(&ends(world, &[]).await, "code").unwrap();
    let response = redeem(world, &code).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["create"]);
    refresh_token(&response)
}

#[tokio::test]
async fn an_answer_is_good_for_the_flow_that_asked_and_no_other() {
    let (world, _) = world();
    let (asked, other) = (begin(&world, &[]).flow, begin(&world, &[]).flow);
    let nonce = query(&depart(&world, &asked).await, "nonce").unwrap();
    world.audit.take();
    let stolen = arrive(&world, &other, &nonce).await.unwrap_err();
    assert_eq!(stolen, StepError::Unverified);
    let audit = world.audit.take();
    assert!(audit[0].starts_with("LoginRefused") && audit[0].contains("WrongNonce"), "{audit:?}");
    arrive(&world, &asked, &nonce).await.unwrap();
    assert!(world.sessions.take_requests().is_empty(), "nothing is stored on the way");
}

#[tokio::test]
async fn a_connector_of_pages_takes_no_password_and_one_of_passwords_has_no_pages() {
    let (world, _) = world();
    let flow = begin(&world, &[]).flow;
    let departed = login::depart(&world.provider, &world.issuer, &flow, "local").await;
    assert_eq!(departed.unwrap_err(), StepError::NoConnector);
    let answer = Params::parse(b"code=x").unwrap();
    let arriving = (&flow, Brought::default());
    let arrived =
        login::with_answer(&world.provider, &world.issuer, arriving, "local", &answer).await;
    assert_eq!(arrived.unwrap_err(), StepError::NoConnector);
    let password = SecretString::from("wonderland");
    let arriving = (&flow, Brought::default());
    let attempt = ("alice", &password);
    let typed =
        login::with_password(&world.provider, &world.issuer, arriving, "directory", attempt).await;
    assert_eq!(typed.unwrap_err(), StepError::NoConnector);
}

#[tokio::test]
async fn a_refusal_there_is_told_to_the_application_and_an_outage_to_the_user() {
    let (world, upstream) = world();
    upstream.set_answer(Answer::Refused);
    let location = ends(&world, &[]).await;
    assert_eq!(query(&location, "error").as_deref(), Some("access_denied"));
    assert!(query(&location, "error_description").unwrap().contains("refused"));
    upstream.set_answer(Answer::Forged);
    let flow = begin(&world, &[]).flow;
    let nonce = query(&depart(&world, &flow).await, "nonce").unwrap();
    assert_eq!(arrive(&world, &flow, &nonce).await.unwrap_err(), StepError::Unverified);
    upstream.set_away(true);
    let departed = login::depart(&world.provider, &world.issuer, &flow, "directory").await;
    assert!(matches!(departed, Err(StepError::Unavailable(_))), "{departed:?}");
}

#[tokio::test]
async fn when_the_user_proved_themselves_is_the_upstreams_word() {
    let (world, upstream) = world();
    let now = world.provider.clock.now();
    for (asked, said, error) in [
        (("prompt", "login"), None, Some("login_required")),
        (("prompt", "login"), Some(now - 3_600), Some("login_required")),
        (("prompt", "login"), Some(now), None),
        (("max_age", "300"), None, Some("login_required")),
        (("max_age", "300"), Some(now - 3_600), Some("login_required")),
        (("max_age", "300"), Some(now - 200), None),
        (("prompt", ""), Some(now - 3_600), None),
    ] {
        upstream.set_answer(Answer::User(said));
        let location = ends(&world, &[asked]).await;
        assert_eq!(query(&location, "error").as_deref(), error, "{asked:?} {said:?}");
        if let Some(code) = query(&location, "code") {
            let tokens = redeem(&world, &code).await.unwrap();
            let claims = claims(tokens.id_token.as_ref().unwrap().expose_secret());
            assert_eq!(claims["auth_time"], said.unwrap(), "{asked:?}");
            assert_eq!(claims["amr"], json!(["otp"]));
        }
    }
}

#[tokio::test]
async fn what_an_upstream_uses_up_is_claimed_then_asked_with_then_replaced() {
    let (world, _) = world();
    let mut token = logged_in(&world).await;
    for generation in 1..=3 {
        token = refresh_token(&refresh(&world, &token).await.unwrap());
        assert_eq!(world.sessions.take_requests(), ["get", "claim", "rotate"]);
        assert_eq!(world.sessions.all()[0].generation, generation);
    }
}

#[tokio::test]
async fn of_two_refreshes_at_once_one_asks_and_the_other_is_told_to_come_again() {
    let (world, upstream) = world();
    let token = logged_in(&world).await;
    upstream.close_gate();
    let first = refresh(&world, &token);
    tokio::pin!(first);
    assert!(futures::poll!(&mut first).is_pending(), "it asks");
    assert_unavailable(&refresh(&world, &token).await);
    upstream.open_gate();
    let first = first.await.unwrap();
    upstream.open_gate();
    refresh(&world, &refresh_token(&first)).await.unwrap();
    assert_eq!(world.sessions.all()[0].state, SessionState::Active);
}

#[tokio::test]
async fn an_outage_gives_the_claim_back_and_costs_nothing() {
    let (world, upstream) = world();
    let token = logged_in(&world).await;
    upstream.set_away(true);
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), ["get", "claim", "keep"]);
    assert_eq!(world.sessions.all()[0].generation, 0);
    upstream.set_away(false);
    refresh(&world, &token).await.unwrap();
}

#[tokio::test]
async fn a_claim_that_nobody_gives_back_lapses() {
    let (world, upstream) = world();
    let token = logged_in(&world).await;
    upstream.set_away(true);
    world.sessions.fail_write_after(1, Fault::Refused);
    assert_unavailable(&refresh(&world, &token).await);
    upstream.set_away(false);
    assert_unavailable(&refresh(&world, &token).await);
    world.clock.advance(119);
    assert_unavailable(&refresh(&world, &token).await);
    world.clock.advance(1);
    refresh(&world, &token).await.unwrap();
}

#[tokio::test]
async fn what_is_used_up_is_replaced_whatever_fails_afterwards() {
    let (world, upstream) = world();
    let token = logged_in(&world).await;
    upstream.set_breaks_off(true);
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), ["get", "claim", "keep"]);
    upstream.set_breaks_off(false);
    let token = refresh_token(&refresh(&world, &token).await.unwrap());
    world.sessions.take_requests();
    // The rotation is turned away, or does not happen.
    for fault in [Fault::TurnedAway(3), Fault::Refused] {
        world.sessions.fail_write_after(1, fault);
        assert_unavailable(&refresh(&world, &token).await);
        let requests = world.sessions.take_requests();
        assert_eq!(requests.last(), Some(&"keep"), "{requests:?}");
    }
    refresh(&world, &token).await.unwrap();
    assert_eq!(world.sessions.all()[0].state, SessionState::Active);
}

#[tokio::test]
async fn a_request_that_exceeds_the_grant_asks_nobody() {
    let (world, _) = world();
    let token = logged_in(&world).await;
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", &token), ("scope", "openid root")];
    assert!(exchange(&world, &form).await.is_err());
    assert_eq!(world.sessions.take_requests(), ["get"]);
    refresh(&world, &token).await.unwrap();
}

#[tokio::test]
async fn a_condition_that_says_nothing_costs_no_session_and_nothing_of_the_upstreams() {
    let (mut world, upstream) = world();
    let token = logged_in(&world).await;
    let condition = Condition::compile("user.email.endsWith('@example.org')", None).unwrap();
    world.change_client("kubernetes", |client| client.condition = Some(Arc::new(condition)));
    upstream.set_user(Some(Identity { email: None, ..alice() }));
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), ["get", "claim", "keep"]);
    upstream.set_user(Some(alice()));
    refresh(&world, &token).await.unwrap();
}

#[tokio::test]
async fn a_verdict_ends_the_session_and_another_user_is_none() {
    for user in [None, Some(Identity { user_id: "somebody-else".into(), ..alice() })] {
        let (world, upstream) = world();
        let token = logged_in(&world).await;
        upstream.set_user(user);
        assert_invalid_grant(&refresh(&world, &token).await);
        assert_eq!(world.sessions.take_requests(), ["get", "claim", "revoke"]);
        assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
    }
}

#[tokio::test]
async fn an_upstream_that_gave_no_refresh_token_is_none_to_go_on_with() {
    let (world, upstream) = world();
    upstream.set_gives(false);
    let code = query(&ends(&world, &[]).await, "code").unwrap();
    let tokens = redeem(&world, &code).await.unwrap();
    assert!(tokens.refresh_token.is_none());
}

#[tokio::test]
async fn what_nobody_will_ask_with_is_not_kept() {
    for (scope, is_kept) in [("openid offline_access", true), ("openid", false)] {
        let (world, _) = world();
        let code = query(&ends(&world, &[("scope", scope)]).await, "code").unwrap();
        redeem(&world, &code).await.unwrap();
        let stored = world.sessions.all().remove(0);
        let (uid, now) = (stored.client_uid.clone(), world.provider.clock.now());
        let payload = Payload::open(&world.issuer, &uid, &stored, now).unwrap();
        assert_eq!(payload.upstream.data.is_some(), is_kept, "{scope}");
    }
}

#[tokio::test]
async fn what_is_used_up_is_in_one_session_so_the_browser_has_none() {
    let (mut world, _) = world();
    world.issuer.browser_sessions =
        Some(BrowserSessions { idle: 3_600, absolute: 36_000, consent: 0 });
    let flow = begin(&world, &[]).flow;
    let nonce = query(&depart(&world, &flow).await, "nonce").unwrap();
    let step = arrive(&world, &flow, &nonce).await.unwrap();
    assert!(step.cookies.is_empty(), "{:?}", step.cookies);
    assert!(world.sessions.take_requests().is_empty());
}

#[tokio::test]
async fn an_upstream_that_answers_no_sign_out_gives_the_browser_no_ticket_and_takes_that_of_another()
 {
    let (mut world, _) = world();
    for connector in &mut world.issuer.connectors {
        Arc::make_mut(connector).sign_out = Some(Arc::new(Elsewhere) as _);
    }
    let flow = begin(&world, &[]).flow;
    let nonce = query(&depart(&world, &flow).await, "nonce").unwrap();
    let step = arrive(&world, &flow, &nonce).await.unwrap();
    assert!(step.cookies.is_empty(), "nothing would clear it: {:?}", step.cookies);

    let ticket = UpstreamTicket {
        connector_uid: "of-another".into(),
        user_id: "alice".into(),
        data: ConnectorData(Vec::new()),
        since: world.provider.clock.now(),
        request: None,
        back: None,
    };
    let ticket = ticket.cookie(&world.issuer);
    let flow = begin(&world, &[]).flow;
    let nonce = query(&depart(&world, &flow).await, "nonce").unwrap();
    let brought = [(ticket.name.as_str(), ticket.value.as_str())];
    let brought = Brought::of(&world.issuer, brought.into_iter(), world.provider.clock.now());
    let step = arrive_with(&world, &flow, &nonce, brought).await.unwrap();
    let [cleared] = &step.cookies[..] else { panic!("{:?}", step.cookies) };
    assert_eq!((&cleared.name, cleared.value.as_str()), (&ticket.name, ""));
}

/// An upstream that is told of whom it signs out.
#[derive(Debug)]
struct Elsewhere;

#[async_trait]
impl SignOut for Elsewhere {
    async fn location(&self, leaving: &Leaving<'_>) -> Option<String> {
        let known = leaving.data.map(|data| String::from_utf8_lossy(&data.0).into_owned());
        Some(format!("{} {known:?}", leaving.return_to))
    }
}

#[tokio::test]
async fn what_signing_out_there_takes_is_kept_for_the_browser_and_for_no_client() {
    let (mut world, upstream) = world();
    world.issuer.browser_sessions =
        Some(BrowserSessions { idle: 3_600, absolute: 36_000, consent: 0 });
    let lasting = world.issuer.connectors.iter().find(|c| c.name == "local").unwrap();
    let (refresh, sign_out) = (lasting.refresh.clone(), Some(Arc::new(Elsewhere) as _));
    let at = world.issuer.connectors.iter().position(|c| c.name == "directory").unwrap();
    let there = Arc::make_mut(&mut world.issuer.connectors[at]);
    (there.refresh, there.sign_out) = (refresh, sign_out);
    drop(upstream);

    let flow = begin(&world, &[]).flow;
    let nonce = query(&depart(&world, &flow).await, "nonce").unwrap();
    let step = arrive(&world, &flow, &nonce).await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = &step.outcome else { panic!() };
    redeem(&world, &query(location, "code").unwrap()).await.unwrap();
    let cookies = step.cookies.iter().map(|cookie| (cookie.name.as_str(), cookie.value.as_str()));
    let (provider, issuer) = (&world.provider, &world.issuer);
    let ticket = Ticket::of(issuer, cookies, provider.clock.now()).unwrap();
    for session in world.sessions.all().iter().filter(|s| !s.client_uid.is_empty()) {
        let payload = Payload::open(issuer, &session.client_uid, session, provider.clock.now());
        let payload = rmp_serde::to_vec_named(&payload.unwrap()).unwrap();
        assert!(!String::from_utf8_lossy(&payload).contains("ends it there"));
    }
    let ended = logout::end(provider, issuer, (Some(&ticket), "back"), []).await.unwrap();
    assert_eq!(ended.upstream.as_deref(), Some(r#"back Some("what ends it there")"#));
}

/// The world, with an upstream whose suspended users are kept out.
fn mapped() -> (World, Arc<RotatingUpstream>) {
    let (mut world, upstream) = world();
    let expression = |text| Expression::compile(text, &Facts::VARIABLES).unwrap();
    for connector in &mut world.issuer.connectors {
        let mut there = connector.as_ref().clone();
        there.policy.mapping = Rules {
            deny: vec![Denial {
                expression: expression("upstream.suspended"),
                message: "Your account is suspended.".into(),
            }],
            username: Some(expression("upstream.login")),
            ..Rules::default()
        }
        .into();
        *connector = Arc::new(there);
    }
    upstream.set_raw(&json!({"suspended": false, "login": "ally"}));
    (world, upstream)
}

#[tokio::test]
async fn a_mapping_reads_the_answer_at_sign_in_and_at_each_refresh() {
    let (world, upstream) = mapped();
    let token = logged_in(&world).await;
    upstream.set_raw(&json!({"suspended": false, "login": "al"}));
    let response = refresh(&world, &token).await.unwrap();
    assert_eq!(
        claims(response.id_token.as_ref().unwrap().expose_secret())["preferred_username"],
        "al"
    );
    upstream.set_raw(&json!({"suspended": true, "login": "al"}));
    assert_invalid_grant(&refresh(&world, &refresh_token(&response)).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);

    let location = ends(&world, &[]).await;
    assert_eq!(query(&location, "error").as_deref(), Some("access_denied"));
    let told = query(&location, "error_description");
    assert_eq!(told.as_deref(), Some("Your account is suspended."));
}

#[tokio::test]
async fn a_mapping_that_says_nothing_lets_nobody_in_and_puts_nobody_out() {
    let (world, upstream) = mapped();
    let token = logged_in(&world).await;
    upstream.set_raw(&json!({"login": "ally"}));
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), ["get", "claim", "keep"]);
    assert_eq!(world.sessions.all()[0].state, SessionState::Active);
    let location = ends(&world, &[]).await;
    assert_eq!(query(&location, "error").as_deref(), Some("server_error"));
    upstream.set_raw(&json!({"suspended": false, "login": "ally"}));
    refresh(&world, &token).await.unwrap();
}

/// An upstream that answers from memory would else be asked after the rotation.
#[tokio::test]
async fn a_mapping_that_says_nothing_costs_no_token_where_the_upstream_answers_at_once() {
    let (mut world, _) = world();
    let token = crate::rig::logged_in(&world, "local").await;
    world.sessions.take_requests();
    let expression = Expression::compile("upstream.login", &Facts::VARIABLES).unwrap();
    let mut failing = Some(expression);
    for connector in &mut world.issuer.connectors {
        if connector.name == "local" {
            let mut there = connector.as_ref().clone();
            there.policy.mapping = Rules { username: failing.take(), ..Rules::default() }.into();
            *connector = Arc::new(there);
        }
    }
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), ["get"]);
    assert_eq!(world.sessions.all()[0].generation, 0);
}

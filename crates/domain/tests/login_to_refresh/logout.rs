//! Signing out: whose session ends, who is asked first, where the user goes, and what stays.

use claviger_domain::browser_session::{BrowserSessions, Ticket, hash_of};
use claviger_domain::consent::Remembered;
use claviger_domain::fakes::{Fault, World};
use claviger_domain::login::{self, Brought, Outcome, StepError};
use claviger_domain::logout::{self, Decision, LogoutError};
use claviger_domain::ports::SessionState;
use claviger_protocol::logout::LogoutRequest;
use claviger_protocol::response_type::Delivery;
use secrecy::{ExposeSecret, SecretString};

use crate::rig::{begin, encode, query, redeem};

const AFTER: &str = "https://app.example.org/bye";

fn world() -> World {
    let mut world = World::new();
    let policy = BrowserSessions { idle: 3_600, absolute: 36_000, consent: 0 };
    world.issuer.browser_sessions = Some(policy);
    world.change_client("kubernetes", |client| {
        client.post_logout_redirect_uris.insert(AFTER.to_owned());
    });
    world
}

/// A browser's cookie (name and value), and the ID token it led to.
async fn signed_in(world: &World, scope: &str) -> ((String, String), String) {
    let flow = begin(world, &[("scope", scope)]).flow;
    let password = SecretString::from("wonderland");
    let (arriving, attempt) = ((&flow, Brought::default()), ("alice", &password));
    let (provider, issuer) = (&world.provider, &world.issuer);
    let step = login::with_password(provider, issuer, arriving, "local", attempt).await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = step.outcome else { panic!() };
    let response = redeem(world, &query(&location, "code").unwrap()).await.unwrap();
    let cookie = step.cookies.into_iter().next().unwrap();
    let id_token = response.id_token.as_ref().unwrap().expose_secret().to_owned();
    ((cookie.name, cookie.value), id_token)
}

fn ticket(world: &World, cookie: &(String, String)) -> Option<Ticket> {
    let now = world.provider.clock.now();
    Ticket::of(&world.issuer, [(cookie.0.as_str(), cookie.1.as_str())], now)
}

fn asks(pairs: &[(&str, &str)]) -> LogoutRequest {
    LogoutRequest::parse(&encode(pairs)).unwrap()
}

async fn decide(
    world: &World,
    pairs: &[(&str, &str)],
    ticket: Option<Ticket>,
    csrf: Option<&str>,
) -> Result<Decision, LogoutError> {
    let here = (&world.provider, &world.issuer);
    logout::decide(here, &asks(pairs), (ticket, None), csrf).await
}

#[tokio::test]
async fn an_id_token_of_the_session_ends_it_unasked_and_nothing_else_does() {
    let world = world();
    let (cookie, id_token) = signed_in(&world, "openid").await;
    let own = ticket(&world, &cookie);
    let hint = [("id_token_hint", id_token.as_str())];
    let ended = decide(&world, &hint, own.clone(), None).await;
    assert!(
        matches!(ended, Ok(Decision::End { ticket: Some(_), location: None, .. })),
        "{ended:?}"
    );

    let unhinted = decide(&world, &[], own.clone(), None).await;
    let Ok(Decision::Ask { client: None, csrf }) = unhinted else { panic!("{unhinted:?}") };
    let confirmed = decide(&world, &[], own.clone(), Some(&csrf)).await;
    assert!(matches!(confirmed, Ok(Decision::End { ticket: Some(_), .. })), "{confirmed:?}");
    let forged = decide(&world, &[], own.clone(), Some(&format!("{csrf}x"))).await;
    assert!(matches!(forged, Ok(Decision::Ask { .. })), "{forged:?}");

    let (other_cookie, other_token) = signed_in(&world, "openid").await;
    let others_hint = [("id_token_hint", other_token.as_str())];
    let asked = decide(&world, &others_hint, own.clone(), None).await;
    assert!(matches!(asked, Ok(Decision::Ask { .. })), "another session's: {asked:?}");
    let others_word = decide(&world, &[], ticket(&world, &other_cookie), Some(&csrf)).await;
    assert!(matches!(others_word, Ok(Decision::Ask { .. })), "another session's form");
    let nobody = decide(&world, &hint, None, None).await;
    let ended = matches!(nobody, Ok(Decision::End { ticket: None, location: None, .. }));
    assert!(ended, "no cookie, no session: {nobody:?}");
}

#[tokio::test]
async fn a_hint_counts_however_old_and_must_be_an_id_token_of_this_client() {
    let world = world();
    let (cookie, id_token) = signed_in(&world, "openid").await;
    let own = ticket(&world, &cookie);
    world.clock.advance(3_000);
    let hint = [("id_token_hint", id_token.as_str())];
    assert!(matches!(decide(&world, &hint, own.clone(), None).await, Ok(Decision::End { .. })));
    let elsewhere = [("id_token_hint", id_token.as_str()), ("client_id", "cli")];
    assert_eq!(
        decide(&world, &elsewhere, own.clone(), None).await,
        Err(LogoutError::AnotherClient)
    );
    let garbage = decide(&world, &[("id_token_hint", "garbage")], own.clone(), None).await;
    assert!(matches!(garbage, Err(LogoutError::Hint(_))), "{garbage:?}");
    let mut forged = id_token.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    let forged = decide(&world, &[("id_token_hint", &forged)], own, None).await;
    assert!(matches!(forged, Err(LogoutError::Hint(_))), "{forged:?}");
}

#[tokio::test]
async fn nobody_is_sent_where_the_client_did_not_register() {
    let world = world();
    let (cookie, id_token) = signed_in(&world, "openid").await;
    let own = ticket(&world, &cookie);
    let to = async |uri: &str, more: &[(&str, &str)]| {
        let pairs = [&[("post_logout_redirect_uri", uri)], more].concat();
        decide(&world, &pairs, own.clone(), None).await
    };
    let hint = ("id_token_hint", id_token.as_str());
    let went = to(AFTER, &[hint, ("state", "a&b")]).await;
    let Ok(Decision::End { location, .. }) = went else { panic!("{went:?}") };
    assert_eq!(location.as_deref(), Some("https://app.example.org/bye?state=a%26b"));
    for near in
        ["https://app.example.org/bye/", "https://app.example.org/bye?x", "https://evil.example/"]
    {
        assert_eq!(to(near, &[hint]).await, Err(LogoutError::AddressNotRegistered), "{near}");
    }
    assert_eq!(to(AFTER, &[]).await, Err(LogoutError::NobodysAddress));
    assert_eq!(to(AFTER, &[("client_id", "cli")]).await, Err(LogoutError::AddressNotRegistered));
    assert_eq!(to(AFTER, &[("client_id", "nobody")]).await, Err(LogoutError::NoClient));
}

#[tokio::test]
async fn what_is_meant_to_outlive_the_browser_does_and_the_rest_ends_with_it() {
    let world = world();
    let (cookie, id_token) = signed_in(&world, "openid").await;
    let own = ticket(&world, &cookie).unwrap();
    let (flow, brought) =
        (begin(&world, &[]).flow, Brought { ticket: Some(own.clone()), ..Brought::default() });
    let step = login::with_session(&world.provider, &world.issuer, &flow, brought).await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = step.unwrap().outcome else { panic!() };
    let offline = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    assert!(offline.refresh_token.is_some());
    let sid = |token: &str| {
        let payload = token.split('.').nth(1).unwrap().as_bytes();
        let claims = data_encoding::BASE64URL_NOPAD.decode(payload).unwrap();
        serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["sid"].clone()
    };
    assert_eq!(sid(&id_token), hash_of(&own.session).as_str());
    assert_eq!(sid(&id_token), sid(offline.id_token.as_ref().unwrap().expose_secret()));
    world.sessions.take_requests();

    let flow_cookie = begin(&world, &[]).cookie.name;
    let cookies = [(cookie.0.as_str(), ""), (flow_cookie.as_str(), ""), ("another-site", "")];
    let cleared =
        logout::end(&world.provider, &world.issuer, (Some(&own), ""), cookies).await.unwrap();
    let cleared: Vec<_> = cleared.cookies.into_iter().map(|c| (c.name, c.seconds)).collect();
    assert_eq!(cleared, [(cookie.0.clone(), Some(0)), (flow_cookie.clone(), Some(0))]);
    assert_eq!(world.sessions.take_requests(), ["get", "tell", "list", "revoke", "settle"]);
    let none: [(&str, &str); 0] = [];
    logout::end(&world.provider, &world.issuer, (Some(&own), ""), none).await.unwrap();
    assert!(world.sessions.take_requests().is_empty(), "over is over");
    let all = world.sessions.all();
    let active = all.iter().filter(|s| s.state == SessionState::Active).count();
    assert_eq!((all.len(), active), (3, 1), "the one with offline_access");
    let refreshed = crate::rig::refresh(&world, &crate::rig::refresh_token(&offline)).await;
    assert!(refreshed.is_ok(), "{refreshed:?}");
}

#[tokio::test]
async fn a_code_under_way_at_the_sign_out_is_refused_from_memory() {
    for scope in ["openid", "openid offline_access"] {
        let world = world();
        let (cookie, _) = signed_in(&world, "openid").await;
        let own = ticket(&world, &cookie).unwrap();
        let under_way = another_code(&world, &own, &[("scope", scope)]).await;
        sign_out(&world, &own).await;
        world.sessions.take_requests();
        let refused = redeem(&world, &under_way).await;
        assert!(refused.is_err(), "{scope}: redeemed after the sign-out");
        assert!(world.sessions.take_requests().is_empty(), "{scope}");
    }
}

#[tokio::test]
async fn a_grant_that_waits_for_its_code_ends_whatever_it_was_meant_for() {
    let mut world = world();
    world.upstream.put(
        "alice",
        "wonderland",
        claviger_domain::identity::Identity {
            groups: (0..200).map(|n| format!("a-group-with-a-long-name-{n}")).collect(),
            ..claviger_domain::fakes::alice()
        },
    );
    world.change_client("kubernetes", |client| client.max_id_token = 64 * 1024);
    let (cookie, _) = signed_in(&world, "openid groups").await;
    let own = ticket(&world, &cookie).unwrap();
    let scope = [("scope", "openid groups offline_access")];
    let under_way = another_code(&world, &own, &scope).await;
    let pending = |world: &World| {
        let all = world.sessions.all();
        all.iter().filter(|s| s.state == SessionState::Pending).count()
    };
    assert_eq!(pending(&world), 1);
    sign_out(&world, &own).await;
    assert_eq!(pending(&world), 0);
    assert!(redeem(&world, &under_way).await.is_err(), "redeemed after the sign-out");
}

#[tokio::test]
async fn a_sign_out_that_failed_half_way_can_be_made_again() {
    let world = world();
    let (cookie, _) = signed_in(&world, "openid").await;
    let own = ticket(&world, &cookie).unwrap();
    world.sessions.fail_next_write(Fault::Refused);
    let none: [(&str, &str); 0] = [];
    let failed = logout::end(&world.provider, &world.issuer, (Some(&own), ""), none).await;
    assert!(failed.is_err(), "{failed:?}");
    sign_out(&world, &own).await;
    assert!(world.sessions.all().iter().all(|s| s.state == SessionState::Revoked));
}

#[tokio::test]
async fn a_question_open_at_the_sign_out_is_answered_no_more() {
    let mut world = world();
    let (cookie, _) = signed_in(&world, "openid").await;
    let own = ticket(&world, &cookie).unwrap();
    world.change_client("kubernetes", |client| client.consent_required = true);
    let flow = begin(&world, &[]).flow;
    let brought = Brought { ticket: Some(own.clone()), ..Brought::default() };
    let step = login::with_session(&world.provider, &world.issuer, &flow, brought).await.unwrap();
    let Outcome::Consent(question) = step.unwrap().outcome else { panic!("not asked") };
    sign_out(&world, &own).await;
    let arriving = (&flow, Remembered::default());
    let (provider, issuer) = (&world.provider, &world.issuer);
    let answered = login::answer_consent(provider, issuer, arriving, &question.grant, true).await;
    assert!(matches!(answered, Err(StepError::Expired)), "{answered:?}");
}

async fn another_code(world: &World, ticket: &Ticket, params: &[(&str, &str)]) -> String {
    let flow = begin(world, params).flow;
    let brought = Brought { ticket: Some(ticket.clone()), ..Brought::default() };
    let step = login::with_session(&world.provider, &world.issuer, &flow, brought).await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = step.unwrap().outcome else { panic!() };
    query(&location, "code").unwrap()
}

async fn sign_out(world: &World, ticket: &Ticket) {
    let none: [(&str, &str); 0] = [];
    logout::end(&world.provider, &world.issuer, (Some(ticket), ""), none).await.unwrap();
}

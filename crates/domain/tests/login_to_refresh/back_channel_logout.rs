//! Clients are told that a session is over: which, by what token, and what it costs.

use std::sync::Arc;

use claviger_domain::Snapshot;
use claviger_domain::back_channel_logout::{self, Due, Notice};
use claviger_domain::browser_session::{BrowserSessions, Ticket, hash_of};
use claviger_domain::client::ResponseType;
use claviger_domain::client_logout::{BackChannel, Named};
use claviger_domain::fakes::{Fault, World};
use claviger_domain::issuer::{ClientEntry, IssuerUrl, OutOfService};
use claviger_domain::login::{self, Brought, Outcome};
use claviger_domain::logout::{self, SignedOut};
use claviger_domain::ports::{SessionState, Sessions};
use claviger_jose::{Algorithm, Claims, VerifyError, VerifyOptions, verify};
use claviger_protocol::response_type::Delivery;
use secrecy::{ExposeSecret, SecretString};

use crate::rig::{begin, query, redeem, refresh, refresh_token};

const RECEIVER: &str = "https://app.example.org/bc";
const ABSOLUTE: i64 = 36_000;

fn world(names: Named) -> World {
    let mut world = World::new();
    let policy = BrowserSessions { idle: ABSOLUTE, absolute: ABSOLUTE, consent: 0 };
    world.issuer.browser_sessions = Some(policy);
    world.issuer.response_types.extend(ResponseType::ALL);
    world.change_client("kubernetes", |client| {
        client.response_types.extend(ResponseType::ALL);
        client.logout.back_channel = Some(BackChannel { uri: RECEIVER.into(), names });
    });
    world
}

/// Signs in, and returns the browser's ticket and what came back to the client.
async fn signed_in(world: &World, change: &[(&str, &str)]) -> (Ticket, String) {
    let flow = begin(world, change).flow;
    let password = SecretString::from("wonderland");
    let (arriving, attempt) = ((&flow, Brought::default()), ("alice", &password));
    let (provider, issuer) = (&world.provider, &world.issuer);
    let step = login::with_password(provider, issuer, arriving, "local", attempt).await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = step.outcome else { panic!() };
    let cookie = &step.cookies[0];
    let now = provider.clock.now();
    (Ticket::of(issuer, [(cookie.name.as_str(), cookie.value.as_str())], now).unwrap(), location)
}

async fn again(world: &World, ticket: &Ticket, change: &[(&str, &str)]) -> String {
    let flow = begin(world, change).flow;
    let brought = Brought { ticket: Some(ticket.clone()), ..Brought::default() };
    let step = login::with_session(&world.provider, &world.issuer, &flow, brought).await.unwrap();
    let Outcome::Answer(Delivery::Redirect(location)) = step.unwrap().outcome else { panic!() };
    location
}

async fn sign_out(world: &World, ticket: &Ticket) -> SignedOut {
    let none: [(&str, &str); 0] = [];
    logout::end(&world.provider, &world.issuer, (Some(ticket), ""), none).await.unwrap()
}

fn snapshot(world: &World) -> Snapshot {
    let issuers = vec![Arc::new(world.issuer.clone())];
    Snapshot { issuers, published: true, ..Snapshot::default() }
}

fn now(world: &World) -> i64 {
    world.provider.clock.now()
}

async fn due(world: &World, name: &str) -> Due {
    let session = world.sessions.get(name).await.unwrap().unwrap();
    back_channel_logout::due(&world.provider, &snapshot(world), &session, now(world)).await.unwrap()
}

async fn notice(world: &World) -> Notice {
    let untold = world.sessions.untold();
    assert_eq!(untold.len(), 1, "{untold:?}");
    match due(world, &untold[0]).await {
        Due::Tell(notice) => notice,
        other => panic!("{other:?}"),
    }
}

fn read(world: &World, token: &str, typ: Option<&str>) -> Result<Claims, VerifyError> {
    let expected = VerifyOptions {
        algorithms: &[Algorithm::ES256],
        issuer: "https://id.example.org",
        audience: Some("kubernetes"),
        typ,
        leeway_seconds: 0,
    };
    verify(&world.issuer.keys.key_set, token, world.provider.clock.now(), &expected)
}

#[tokio::test]
async fn a_logout_token_is_what_the_specification_says_and_no_id_token() {
    for names in [Named::Session, Named::SessionAndUser] {
        let world = world(names);
        let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
        let response = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
        world.sessions.take_requests();
        sign_out(&world, &ticket).await;
        assert_eq!(world.sessions.take_requests(), ["get", "tell", "list", "tell", "settle"]);

        let told = notice(&world).await;
        assert_eq!((told.uri.as_str(), told.client.as_str()), (RECEIVER, "kubernetes"));
        let token = told.token.expose_secret();
        assert_eq!(read(&world, token, None).unwrap_err(), VerifyError::Type, "an ID token");
        let claims = read(&world, token, Some("logout+jwt")).unwrap();
        let now = world.provider.clock.now();
        assert_eq!((claims["iat"].as_i64(), claims["exp"].as_i64()), (Some(now), Some(now + 120)));
        assert_eq!(claims["sid"], hash_of(&ticket.session).as_str());
        let event = serde_json::json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        assert_eq!(claims["events"], event);
        assert!(!claims.contains_key("nonce"), "{claims:?}");
        let id_token = response.id_token.as_ref().unwrap().expose_secret();
        let user = read(&world, id_token, None).unwrap()["sub"].clone();
        assert_eq!(claims.get("sub"), Some(&user).filter(|_| names == Named::SessionAndUser));
        let known: &[&str] = &["aud", "events", "exp", "iat", "iss", "jti", "sid", "sub"];
        assert!(claims.keys().all(|claim| known.contains(&claim.as_str())), "{claims:?}");

        world.clock.advance(3_000);
        let later = notice(&world).await;
        let again = read(&world, later.token.expose_secret(), Some("logout+jwt")).unwrap();
        assert_eq!(again["jti"], claims["jti"], "the same end");
        assert_ne!(again["iat"], claims["iat"], "another token");
    }
}

#[tokio::test]
async fn a_logout_token_names_no_user_the_cluster_keeps_for_itself() {
    let mut world = world(Named::SessionAndUser);
    world.issuer.subject = claviger_domain::issuer::SubjectFormat::Plain;
    let (ticket, location) = signed_in(&world, &[]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    sign_out(&world, &ticket).await;
    let name = world.sessions.untold().remove(0);
    // A connector of that name would have every user be one of the cluster's own.
    Arc::make_mut(&mut world.issuer.connectors[0]).name = "system".into();
    let session = world.sessions.get(&name).await.unwrap().unwrap();
    let refused =
        back_channel_logout::due(&world.provider, &snapshot(&world), &session, now(&world))
            .await
            .unwrap_err();
    assert!(refused.to_string().contains("system:"), "{refused}");
}

#[tokio::test]
async fn a_client_is_told_once_however_many_sessions_it_has_and_offline_use_goes_on() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid offline_access")]).await;
    let offline = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    let location = again(&world, &ticket, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    let location = again(&world, &ticket, &[("client_id", "cli"), ("scope", "openid")]).await;
    assert!(query(&location, "code").is_some(), "a client that is not told");
    world.sessions.take_requests();
    sign_out(&world, &ticket).await;
    assert_eq!(world.sessions.take_requests(), ["get", "tell", "list", "tell", "settle"]);
    notice(&world).await;
    assert!(refresh(&world, &refresh_token(&offline)).await.is_ok());
}

#[tokio::test]
async fn a_client_whose_session_outlives_the_browser_is_told_all_the_same() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid offline_access")]).await;
    let offline = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    sign_out(&world, &ticket).await;
    notice(&world).await;
    assert!(refresh(&world, &refresh_token(&offline)).await.is_ok());
}

#[tokio::test]
async fn a_client_that_has_an_id_token_alone_is_told() {
    for (response_type, state) in
        [("id_token", SessionState::Active), ("code id_token", SessionState::Pending)]
    {
        let mut world = world(Named::Session);
        let change = [("response_type", response_type), ("scope", "openid")];
        let (ticket, _) = signed_in(&world, &change).await;
        let stored = world.sessions.all();
        let client = stored.iter().find(|session| !session.client_uid.is_empty()).unwrap();
        assert_eq!(client.state, state, "{response_type}");
        let now = world.provider.clock.now();
        assert!(client.expires_at >= now + ABSOLUTE, "{response_type}: forgotten too early");
        sign_out(&world, &ticket).await;
        notice(&world).await;

        world.change_client("kubernetes", |client| client.logout.back_channel = None);
        let before = world.sessions.all().len();
        let flow = begin(&world, &change).flow;
        crate::rig::sign_in(&world, &flow, "local", "wonderland").await.unwrap();
        assert_eq!(world.sessions.all().len(), before + 1, "the browser's alone");
    }
}

#[tokio::test]
async fn what_is_known_of_a_client_is_known_as_long_as_the_browsers_session_may_last() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    world.clock.advance(ABSOLUTE - 1);
    let all = world.sessions.all();
    let client = all.iter().find(|session| !session.client_uid.is_empty()).unwrap();
    assert!(client.expires_at > world.provider.clock.now());
    sign_out(&world, &ticket).await;
    notice(&world).await;
}

#[tokio::test]
async fn a_session_that_ends_unseen_is_spread_to_its_clients_by_the_leader() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    world.upstream.remove("alice");
    world.sessions.take_requests();
    let flow = begin(&world, &[]).flow;
    let brought = Brought { ticket: Some(ticket.clone()), ..Brought::default() };
    let step = login::with_session(&world.provider, &world.issuer, &flow, brought).await.unwrap();
    assert!(step.is_none(), "a user who is gone");
    assert_eq!(world.sessions.take_requests(), ["get", "tell"]);
    assert_eq!(world.sessions.untold(), [ticket.session.as_str()]);
    let spread = due(&world, &ticket.session).await;
    assert!(matches!(spread, Due::SpreadOut), "{spread:?}");
    assert_eq!(world.sessions.take_requests(), ["get", "list", "tell"]);
    let all = world.sessions.all();
    assert!(all.iter().all(|session| session.state == SessionState::Revoked));
    let untold = world.sessions.untold();
    let client = untold.iter().find(|name| **name != ticket.session).unwrap();
    assert!(matches!(due(&world, client).await, Due::Tell(_)));
}

#[tokio::test]
async fn a_browsers_session_is_spread_out_for_a_day_however_soon_it_would_have_ended() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    world.clock.advance(ABSOLUTE - 1);
    world.sessions.fail_write_after(1, Fault::Refused);
    let none: [(&str, &str); 0] = [];
    let (provider, issuer) = (&world.provider, &world.issuer);
    assert!(logout::end(provider, issuer, (Some(&ticket), ""), none).await.is_err());
    let marked = now(&world);
    world.clock.advance(86_000);
    let session = world.sessions.get(&ticket.session).await.unwrap().unwrap();
    let snapshot = snapshot(&world);
    let spread = back_channel_logout::due(provider, &snapshot, &session, marked).await.unwrap();
    assert!(matches!(spread, Due::SpreadOut), "{spread:?}");
    let all = world.sessions.all();
    assert!(all.iter().all(|session| session.state == SessionState::Revoked), "{all:?}");
}

#[tokio::test]
async fn an_administrators_mark_signs_a_browser_out() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    assert!(matches!(due(&world, &ticket.session).await, Due::SpreadOut));
    let all = world.sessions.all();
    assert!(all.iter().all(|session| session.state == SessionState::Revoked), "{all:?}");
    assert_eq!(world.sessions.untold().len(), 1, "its client");
}

#[tokio::test]
async fn a_refresh_that_finds_the_user_gone_tells_the_client() {
    let world = world(Named::Session);
    let (_, location) = signed_in(&world, &[("scope", "openid offline_access")]).await;
    let offline = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    world.upstream.remove("alice");
    assert!(refresh(&world, &refresh_token(&offline)).await.is_err());
    notice(&world).await;
}

#[tokio::test]
async fn nobody_is_told_by_a_clock_in_doubt_or_of_what_was_withdrawn() {
    let mut world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    sign_out(&world, &ticket).await;
    let name = world.sessions.untold().remove(0);
    let session = world.sessions.get(&name).await.unwrap().unwrap();
    world.clock.set_doubt(Some("it is late"));
    let waits =
        back_channel_logout::due(&world.provider, &snapshot(&world), &session, now(&world)).await;
    assert!(waits.is_err(), "{waits:?}");
    world.clock.set_doubt(None);
    world.change_client("kubernetes", |client| client.logout.back_channel = None);
    assert!(matches!(due(&world, &name).await, Due::Nobody(_)));
    world.issuer.clients.remove("kubernetes");
    assert!(matches!(due(&world, &name).await, Due::Nobody(_)));
    world.issuer.clients.insert("kubernetes".into(), out_of_service(&session.client_uid));
    let waits =
        back_channel_logout::due(&world.provider, &snapshot(&world), &session, now(&world)).await;
    assert!(waits.is_err(), "it may come back: {waits:?}");
}

fn out_of_service(uid: &str) -> ClientEntry {
    ClientEntry::OutOfService(Arc::new(OutOfService { uid: uid.into(), ..OutOfService::default() }))
}

#[tokio::test]
async fn a_client_that_is_out_of_service_holds_up_no_mark_but_its_own() {
    let mut world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    sign_out(&world, &ticket).await;
    let name = world.sessions.untold().remove(0);
    world.issuer.clients.insert("other".into(), out_of_service("uid-of-other"));
    assert!(matches!(due(&world, &name).await, Due::Tell(_)));
    world.issuer.clients.remove("kubernetes");
    assert!(matches!(due(&world, &name).await, Due::Nobody(_)), "its client is gone");
    let mut away = snapshot(&world);
    away.unavailable.push(IssuerUrl::parse("https://id.example.org/other").unwrap());
    let session = world.sessions.get(&name).await.unwrap().unwrap();
    let waits = back_channel_logout::due(&world.provider, &away, &session, now(&world)).await;
    assert!(waits.is_err(), "whose it is that issuer would say: {waits:?}");
}

#[tokio::test]
async fn a_client_that_is_out_of_service_is_marked_at_sign_out_and_one_that_is_gone_is_not() {
    for (is_gone, marked) in [(true, 0), (false, 1)] {
        let mut world = world(Named::Session);
        let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
        redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
        let own = world.issuer.clients.get("kubernetes").unwrap().uid().to_owned();
        let uid = if is_gone { "uid-of-other".to_owned() } else { own };
        world.issuer.clients.insert("kubernetes".into(), out_of_service(&uid));
        sign_out(&world, &ticket).await;
        assert_eq!(world.sessions.untold().len(), marked, "{uid}");
        let all = world.sessions.all();
        assert!(all.iter().all(|session| session.state == SessionState::Revoked), "{all:?}");
    }
}

#[tokio::test]
async fn nothing_is_given_up_before_the_configuration_was_read() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    sign_out(&world, &ticket).await;
    let client = world.sessions.untold().remove(0);
    for name in [&client, &ticket.session] {
        let session = world.sessions.get(name).await.unwrap().unwrap();
        let nothing = Snapshot::default();
        let waits =
            back_channel_logout::due(&world.provider, &nothing, &session, now(&world)).await;
        assert!(waits.is_err(), "{waits:?}");
    }
}

#[tokio::test]
async fn the_browsers_session_ends_first_and_its_mark_stays_until_all_have_ended() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    world.sessions.fail_write_after(1, Fault::Refused);
    let none: [(&str, &str); 0] = [];
    let (provider, issuer) = (&world.provider, &world.issuer);
    let failed = logout::end(provider, issuer, (Some(&ticket), ""), none).await;
    assert!(failed.is_err(), "{failed:?}");
    let browser = world.sessions.get(&ticket.session).await.unwrap().unwrap();
    assert_eq!(browser.state, SessionState::Revoked, "no code is redeemed meanwhile");
    assert_eq!(world.sessions.untold(), [ticket.session.as_str()], "the leader goes on");
    assert!(matches!(due(&world, &ticket.session).await, Due::SpreadOut));
    let all = world.sessions.all();
    assert!(all.iter().all(|session| session.state == SessionState::Revoked), "{all:?}");
    assert_eq!(world.sessions.untold().len(), 2, "its client too");
}

#[tokio::test]
async fn a_client_is_told_for_a_day_however_soon_the_session_would_have_ended() {
    let world = world(Named::Session);
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    world.clock.advance(ABSOLUTE - 1);
    sign_out(&world, &ticket).await;
    let marked = now(&world);
    let name = world.sessions.untold().remove(0);
    let session = world.sessions.get(&name).await.unwrap().unwrap();
    world.clock.advance(86_000);
    let (provider, snapshot) = (&world.provider, snapshot(&world));
    let told = back_channel_logout::due(provider, &snapshot, &session, marked).await.unwrap();
    assert!(matches!(told, Due::Tell(_)), "{told:?}");
    for name in [&name, &ticket.session] {
        let mut session = world.sessions.get(name).await.unwrap().unwrap();
        session.payload.push('x');
        let lost = back_channel_logout::due(provider, &snapshot, &session, marked).await.unwrap();
        assert!(matches!(lost, Due::Lost(_)), "somebody hears of it: {lost:?}");
    }
}

#[tokio::test]
async fn a_mark_on_a_session_that_is_not_over_tells_nobody() {
    let world = world(Named::Session);
    let (_, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    let all = world.sessions.all();
    let client = all.iter().find(|session| !session.client_uid.is_empty()).unwrap();
    assert_eq!(client.state, SessionState::Active);
    let nobody = due(&world, &client.name).await;
    assert!(matches!(nobody, Due::Nobody(_)), "{nobody:?}");
}

#[tokio::test]
async fn a_page_of_frames_is_for_those_who_had_part_in_this_browsers_session() {
    let mut world = world(Named::Session);
    world.change_client("cli", |client| {
        client.logout.front_channel = Some("https://cli.example.org/fc?x=1".into());
    });
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    assert_eq!(sign_out(&world, &ticket).await.frames, [], "the other client had no part");

    let change = [("client_id", "cli"), ("scope", "openid"), ("response_type", "code")];
    let (ticket, _) = signed_in(&world, &change).await;
    let location = again(&world, &ticket, &[("response_type", "id_token")]).await;
    assert!(location.contains("id_token="));
    assert_eq!(sign_out(&world, &ticket).await.frames, [], "its code was not redeemed");

    world.change_client("kubernetes", |client| {
        client.logout.front_channel = Some("https://app.example.org:8443/fc?x=1".into());
    });
    let (ticket, location) = signed_in(&world, &[("scope", "openid")]).await;
    redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    let frames = sign_out(&world, &ticket).await.frames;
    let sid = hash_of(&ticket.session);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].origin, "https://app.example.org:8443");
    let expected =
        format!("https://app.example.org:8443/fc?x=1&iss=https%3A%2F%2Fid.example.org&sid={sid}");
    assert_eq!(frames[0].address, expected);
}

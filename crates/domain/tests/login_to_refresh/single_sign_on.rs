//! One sign-in in one browser for many clients: what is reused, when the user is asked again, what it costs,
//! and who ends it.

use std::collections::BTreeMap;

use claviger_domain::authorize::{self, Answered, AuthorizeError, Begun, Next};
use claviger_domain::browser_session::{self, BrowserSessions, Sharing, Ticket};
use claviger_domain::connector::Refresh;
use claviger_domain::consent::Consent;
use claviger_domain::cookie::Cookie;
use claviger_domain::fakes::{World, alice};
use claviger_domain::flow::Flow;
use claviger_domain::identity::Identity;
use claviger_domain::login::{self, Brought, Outcome, Step};
use claviger_domain::ports::{RevocationReason, Revocations, Sessions};
use claviger_protocol::response_type::Delivery;
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::rig::{query, redeem, request};

fn world() -> World {
    let mut world = World::new();
    let policy = BrowserSessions { idle: 3_600, absolute: 36_000, consent: 86_400 };
    world.issuer.browser_sessions = Some(policy);
    world
}

/// A browser, with its cookies.
#[derive(Debug, Default, Clone)]
struct Browser(BTreeMap<String, String>);

/// What came of a request.
#[derive(Debug)]
enum Came {
    /// Back at the client, with this URL.
    Back(String),
    /// The user is asked for consent.
    Consent(Flow, Consent),
    /// The user is asked something else.
    Asked(Begun),
}

impl Came {
    #[track_caller]
    fn error(self) -> String {
        match self {
            Self::Back(url) => query(&url, "error").unwrap_or_else(|| panic!("no error: {url}")),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn code(self) -> String {
        match self {
            Self::Back(url) => query(&url, "code").unwrap_or_else(|| panic!("no code: {url}")),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn asked(self) -> Begun {
        match self {
            Self::Asked(begun) => begun,
            other => panic!("{other:?}"),
        }
    }
}

impl Browser {
    fn brings(&self, world: &World) -> Brought {
        let cookies = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Brought::of(&world.issuer, cookies, world.provider.clock.now())
    }

    fn takes(&mut self, cookies: Vec<Cookie>) {
        for cookie in cookies {
            self.0.insert(cookie.name, cookie.value);
        }
    }

    fn arrives(&mut self, flow: Flow, step: Step) -> Came {
        self.takes(step.cookies);
        match step.outcome {
            Outcome::Answer(Delivery::Redirect(url)) => Came::Back(url),
            Outcome::Answer(posted) => panic!("{posted:?}"),
            Outcome::Consent(consent) => Came::Consent(flow, consent),
            Outcome::Device(entry) => panic!("{entry:?}"),
        }
    }

    async fn opens(&mut self, world: &World, change: &[(&str, &str)]) -> Came {
        let brought = self.brings(world);
        match authorize::answer(&world.provider, &world.issuer, &request(change), brought).await {
            Ok(Answered::Begun(begun)) => Came::Asked(begun),
            Ok(Answered::Reused(begun, step)) => self.arrives(begun.flow, step),
            Err(AuthorizeError::Answer(Delivery::Redirect(url))) => Came::Back(url),
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn signs_in(&mut self, world: &World, flow: Flow, connector: &str) -> Came {
        let password = SecretString::from("wonderland");
        let arriving = (&flow, self.brings(world));
        let attempt = ("alice", &password);
        let (provider, issuer) = (&world.provider, &world.issuer);
        let step = login::with_password(provider, issuer, arriving, connector, attempt).await;
        self.arrives(flow, step.unwrap())
    }

    async fn agrees(&mut self, world: &World, (flow, consent): (Flow, Consent)) -> Came {
        let at = (&flow, self.brings(world).remembered);
        let (provider, issuer) = (&world.provider, &world.issuer);
        let step = login::answer_consent(provider, issuer, at, &consent.grant, true).await;
        self.arrives(flow, step.unwrap())
    }

    /// A sign-in of `alice` from the start.
    async fn enters(&mut self, world: &World, connector: &str) -> Came {
        let flow = self.opens(world, &[]).await.asked().flow;
        self.signs_in(world, flow, connector).await
    }
}

const SILENT: [(&str, &str); 1] = [("prompt", "none")];

async fn id_token(world: &World, code: &str) -> Value {
    let response = redeem(world, code).await.unwrap();
    let token = response.id_token.as_ref().unwrap().expose_secret().to_owned();
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_first_sign_in_is_two_writes_and_a_reuse_one_read_and_one_write() {
    let world = world();
    let mut browser = Browser::default();
    let code = browser.enters(&world, "local").await.code();
    let first = id_token(&world, &code).await;
    assert_eq!(world.sessions.take_requests(), ["create", "create"]);
    world.clock.advance(100);
    let code = browser.opens(&world, &[]).await.code();
    let second = id_token(&world, &code).await;
    assert_eq!(world.sessions.take_requests(), ["get", "create"]);
    assert_eq!(first["auth_time"], second["auth_time"], "the user signed in once");
    assert_eq!(first["sub"], second["sub"]);
    assert_ne!(first["iat"], second["iat"]);
}

#[tokio::test]
async fn nobody_is_asked_where_the_request_says_so() {
    let mut world = world();
    let mut browser = Browser::default();
    assert_eq!(browser.opens(&world, &SILENT).await.error(), "login_required");
    browser.enters(&world, "local").await.code();
    browser.opens(&world, &SILENT).await.code();

    world.change_client("kubernetes", |client| client.consent_required = true);
    for change in
        [("login_hint", "alice@example.org"), ("login_hint", "bob@example.org"), ("state", "x")]
    {
        let silent = [("prompt", "none"), change];
        let said = browser.opens(&world, &silent).await.error();
        assert_eq!(said, "interaction_required", "nothing about who it is: {change:?}");
    }
    let Came::Consent(flow, consent) = browser.opens(&world, &[]).await else { panic!() };
    browser.agrees(&world, (flow, consent)).await.code();
    browser.opens(&world, &SILENT).await.code();
    let more = [("prompt", "none"), ("scope", "openid address")];
    assert_eq!(browser.opens(&world, &more).await.error(), "consent_required", "a scope more");
    let less = [("prompt", "none"), ("scope", "openid email")];
    browser.opens(&world, &less).await.code();
    let by_name = [("prompt", "none"), ("claims", r#"{"id_token":{"address":null}}"#)];
    assert_eq!(browser.opens(&world, &by_name).await.error(), "consent_required");
    let asked = browser.opens(&world, &[("prompt", "consent")]).await;
    assert!(matches!(asked, Came::Consent(..)), "asked for again: {asked:?}");
    world.clock.advance(86_400);
    assert_eq!(browser.opens(&world, &SILENT).await.error(), "login_required");
}

#[tokio::test]
async fn what_one_user_agreed_to_binds_no_other() {
    let mut world = world();
    world.change_client("kubernetes", |client| client.consent_required = true);
    let mut browser = Browser::default();
    let Came::Consent(flow, consent) = browser.enters(&world, "local").await else { panic!() };
    browser.agrees(&world, (flow, consent)).await.code();
    world.upstream.put("alice", "wonderland", Identity { user_id: "bob".into(), ..alice() });
    let flow = browser.opens(&world, &[("prompt", "login")]).await.asked().flow;
    let asked = browser.signs_in(&world, flow, "local").await;
    assert!(matches!(asked, Came::Consent(..)), "{asked:?}");
}

#[tokio::test]
async fn a_request_that_wants_a_fresh_sign_in_gets_one() {
    let world = world();
    let mut browser = Browser::default();
    let code = browser.enters(&world, "local").await.code();
    let before = id_token(&world, &code).await;
    world.clock.advance(50);
    browser.opens(&world, &[("max_age", "51")]).await.code();
    assert_eq!(browser.opens(&world, &[("max_age", "50")]).await.asked().next, Next::Choose);
    browser.opens(&world, &[("max_age", "0")]).await.asked();
    let silent = [("prompt", "none"), ("max_age", "10")];
    assert_eq!(browser.opens(&world, &silent).await.error(), "login_required");

    let flow = browser.opens(&world, &[("prompt", "login")]).await.asked().flow;
    world.sessions.take_requests();
    let code = browser.signs_in(&world, flow, "local").await.code();
    assert_eq!(world.sessions.take_requests(), ["get", "replace"], "the same session goes on");
    let after = id_token(&world, &code).await;
    assert_eq!(after["auth_time"].as_i64(), before["auth_time"].as_i64().map(|t| t + 50));
    browser.opens(&world, &[("max_age", "1")]).await.code();
    assert_eq!(world.sessions.all().len(), 3, "one of the browser, two of clients");
}

#[tokio::test]
async fn the_user_chooses_the_account_where_the_request_says_so_or_hints_at_another() {
    let world = world();
    let mut browser = Browser::default();
    let select = [("prompt", "select_account")];
    assert_eq!(browser.opens(&world, &select).await.asked().next, Next::Choose);
    browser.enters(&world, "local").await.code();
    assert_eq!(browser.opens(&world, &select).await.asked().next, Next::Account);
    let hint = |hint: &'static str| [("login_hint", hint)];
    browser.opens(&world, &hint("Alice@example.org")).await.code();
    browser.opens(&world, &hint("bob@example.org")).await.asked();
    browser.opens(&world, &[("connector_id", "local")]).await.code();
    browser.opens(&world, &[("connector_id", "directory")]).await.asked();
}

#[tokio::test]
async fn whoever_deletes_or_revokes_the_session_has_signed_the_browser_out() {
    let world = world();
    let mut browser = Browser::default();
    browser.enters(&world, "local").await.code();
    let [session] = world.sessions.all().try_into().unwrap();
    let mut copy = browser.clone();
    let reason = RevocationReason::SessionLimitExceeded;
    world.sessions.revoke(&session.name, reason, 0).await.unwrap();
    assert!(world.sessions.is_revoked(&session.name));
    world.sessions.take_requests();
    browser.opens(&world, &[]).await.asked();
    assert!(world.sessions.take_requests().is_empty(), "known from memory");
    world.sessions.delete(&session.name);
    copy.opens(&world, &[]).await.asked();
    assert_eq!(world.sessions.take_requests(), ["get"]);
}

#[tokio::test]
async fn it_ends_when_it_was_idle_and_in_any_case_in_the_end() {
    let world = world();
    let mut browser = Browser::default();
    browser.enters(&world, "local").await.code();
    let old = browser.clone();
    for _ in 0..10 {
        world.clock.advance(3_599);
        browser.opens(&world, &[]).await.code();
    }
    old.clone().opens(&world, &[]).await.asked();
    world.clock.advance(10);
    browser.opens(&world, &[]).await.asked();
}

#[tokio::test]
async fn the_upstreams_verdict_ends_it_and_its_absence_does_not() {
    let world = world();
    let mut browser = Browser::default();
    browser.enters(&world, "directory").await.code();
    world.upstream.set_away(true);
    assert_eq!(browser.opens(&world, &SILENT).await.error(), "temporarily_unavailable");
    browser.opens(&world, &[]).await.asked();
    world.upstream.set_away(false);
    browser.opens(&world, &SILENT).await.code();

    let moved = Identity { groups: vec!["managers".into()], ..alice() };
    world.upstream.put("alice", "wonderland", moved);
    world.sessions.take_requests();
    let code = browser.opens(&world, &[]).await.code();
    assert_eq!(world.sessions.take_requests(), ["get", "replace"]);
    assert_eq!(id_token(&world, &code).await["groups"], serde_json::json!(["managers"]));
    world.sessions.take_requests();
    browser.opens(&world, &[]).await.code();
    assert_eq!(world.sessions.take_requests(), ["get"], "nothing changed since");

    world.upstream.remove("alice");
    browser.opens(&world, &[]).await.asked();
    assert_eq!(world.sessions.take_requests(), ["get", "revoke"]);
    world.upstream.put("alice", "wonderland", alice());
    browser.opens(&world, &[]).await.asked();
    assert!(world.sessions.take_requests().is_empty(), "over is over");
}

#[tokio::test]
async fn the_re_check_interval_holds_for_reuse_too() {
    let mut world = world();
    let directory = std::sync::Arc::make_mut(&mut world.issuer.connectors[1]);
    let recheck = world.upstream.clone();
    directory.refresh = Refresh::Upstream { recheck, interval_seconds: 300 };
    let mut browser = Browser::default();
    browser.enters(&world, "directory").await.code();
    world.upstream.remove("alice");
    world.clock.advance(299);
    browser.opens(&world, &[]).await.code();
    world.clock.advance(1);
    browser.opens(&world, &[]).await.asked();
}

#[tokio::test]
async fn another_user_takes_the_browser_over_and_the_first_ones_session_is_revoked() {
    let world = world();
    let mut browser = Browser::default();
    browser.enters(&world, "local").await.code();
    let stolen = browser.clone();
    world.upstream.put("alice", "wonderland", Identity { user_id: "bob".into(), ..alice() });
    let flow = browser.opens(&world, &[("prompt", "login")]).await.asked().flow;
    world.sessions.take_requests();
    browser.signs_in(&world, flow, "local").await.code();
    assert_eq!(world.sessions.take_requests(), ["get", "revoke", "create"]);
    stolen.clone().opens(&world, &[]).await.asked();
    assert!(world.sessions.take_requests().is_empty());
}

#[tokio::test]
async fn another_user_in_the_same_flow_has_a_session_of_their_own() {
    let mut world = world();
    world.change_client("kubernetes", |client| client.consent_required = true);
    let mut browser = Browser::default();
    let Came::Consent(flow, _) = browser.enters(&world, "local").await else { panic!() };
    let mut second = Browser::default(); // whose cookie of the first is not there
    world.upstream.put("alice", "wonderland", Identity { user_id: "bob".into(), ..alice() });
    for browser in [&mut browser, &mut second] {
        let asked = browser.signs_in(&world, flow.clone(), "local").await;
        assert!(matches!(asked, Came::Consent(..)), "{asked:?}");
        let ticket = browser.brings(&world).ticket.unwrap();
        let read = claviger_domain::browser_session::read(&world.provider, &world.issuer, &ticket);
        assert_eq!(read.await.unwrap().unwrap().payload.identity.user_id, "bob");
    }
}

#[tokio::test]
async fn clients_of_their_own_and_issuers_without_it_know_no_session() {
    let mut world = world();
    world.change_client("kubernetes", |client| client.sharing = Sharing::Separate);
    let mut browser = Browser::default();
    browser.enters(&world, "local").await.code();
    assert!(world.sessions.take_requests().is_empty() && browser.0.is_empty());
    world.change_client("kubernetes", |client| client.sharing = Sharing::Shared);
    browser.enters(&world, "local").await.code();
    world.change_client("kubernetes", |client| client.sharing = Sharing::Separate);
    world.sessions.take_requests();
    browser.opens(&world, &[]).await.asked();
    world.change_client("kubernetes", |client| client.sharing = Sharing::Shared);
    let policy = world.issuer.browser_sessions.take();
    browser.opens(&world, &[]).await.asked();
    world.issuer.browser_sessions = policy;
    world.issuer.uid = "uid-of-another-issuer".into();
    browser.opens(&world, &[]).await.asked();
    assert!(world.sessions.take_requests().is_empty());
}

#[tokio::test]
async fn a_ticket_that_was_changed_opens_nothing_and_costs_nothing() {
    let world = world();
    let mut browser = Browser::default();
    browser.enters(&world, "local").await.code();
    world.sessions.take_requests();
    for at in 0..browser.0.values().next().unwrap().len() {
        let mut forged = browser.clone();
        let value = forged.0.values_mut().next().unwrap();
        let mut bytes = std::mem::take(value).into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        *value = String::from_utf8(bytes).unwrap();
        forged.opens(&world, &[]).await.asked();
    }
    assert!(world.sessions.take_requests().is_empty());
}

#[tokio::test]
async fn policy_of_a_client_holds_for_whoever_signed_in_elsewhere() {
    let mut world = world();
    let mut browser = Browser::default();
    browser.enters(&world, "local").await.code();
    world.change_client("kubernetes", |client| {
        client.allowed_groups.insert("managers".into());
    });
    assert_eq!(browser.opens(&world, &[]).await.error(), "access_denied");
    world.change_client("kubernetes", |client| {
        client.allowed_groups.clear();
        client.allowed_connectors = Some(std::iter::once("directory".to_owned()).collect());
    });
    let asked = browser.opens(&world, &[]).await.asked();
    assert_eq!(asked.next, Next::Connector("directory".into()));
}

#[tokio::test]
async fn a_ticket_and_its_session_are_of_one_issuer_alone() {
    let world = world();
    let mut browser = Browser::default();
    browser.enters(&world, "local").await.code();
    let now = world.provider.clock.now();
    let own = browser_session::cookie_name(&world.issuer);
    let value = browser.0[&own].as_str();
    let ticket = Ticket::of(&world.issuer, [(own.as_str(), value)], now).unwrap();
    let mut other = world.issuer.clone();
    other.uid = "another".into();
    // Under the name that its own cookie has: issuers may share a ring, a host and a connector.
    let theirs = browser_session::cookie_name(&other);
    assert!(Ticket::of(&other, [(theirs.as_str(), value)], now).is_none());
    let read = browser_session::read(&world.provider, &other, &ticket).await.unwrap();
    assert!(read.is_none(), "{read:?}");
    let read = browser_session::read(&world.provider, &world.issuer, &ticket).await.unwrap();
    assert!(read.is_some());
}

#[tokio::test]
async fn what_was_agreed_to_is_for_its_client_and_its_scopes_alone() {
    let mut world = world();
    for id in ["kubernetes", "cli"] {
        world.change_client(id, |client| client.consent_required = true);
    }
    let mut browser = Browser::default();
    let asked = match browser.enters(&world, "local").await {
        Came::Consent(flow, consent) => (flow, consent),
        other => panic!("{other:?}"),
    };
    browser.agrees(&world, asked).await.code();
    browser.opens(&world, &[]).await.code();
    browser.opens(&world, &[("scope", "openid")]).await.code();
    for more in [
        [("client_id", "cli"), ("scope", "openid")],
        [("client_id", "kubernetes"), ("scope", "openid address")],
    ] {
        let came = browser.opens(&world, &more).await;
        assert!(matches!(came, Came::Consent(..)), "{more:?}: {came:?}");
    }
}

#[tokio::test]
async fn a_request_that_names_another_user_goes_on_with_nobodys_session() {
    let world = world();
    let mut browser = Browser::default();
    browser.enters(&world, "local").await.code();
    let another = r#"{"id_token":{"sub":{"value":"somebody-else"}}}"#;
    browser.opens(&world, &[("claims", another)]).await.asked();
    let silent = [("claims", another), ("prompt", "none")];
    assert_eq!(browser.opens(&world, &silent).await.error(), "login_required");
}

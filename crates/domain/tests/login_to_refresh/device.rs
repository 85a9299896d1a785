//! A device without a browser, from its request to its tokens: what is stored when, who decides, and what each
//! poll, replay and race costs.

use claviger_domain::SKEW_SECONDS;
use claviger_domain::browser_session::{BrowserSessions, Sharing};
use claviger_domain::client::Grant;
use claviger_domain::connector::Refresh;
use claviger_domain::device_authorization;
use claviger_domain::device_page::{self, Confirmation, DeviceError, Entry, Visitor};
use claviger_domain::fakes::{Fault, World, alice};
use claviger_domain::flow::Flow;
use claviger_domain::identity::Identity;
use claviger_domain::login::{self, Brought, Outcome, Step, StepError};
use claviger_domain::ports::{DeviceState, SessionState};
use claviger_domain::session;
use claviger_domain::token::{self, TokenError};
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::device::{DeviceAuthorizationRequest, DeviceAuthorizationResponse};
use claviger_protocol::error::ErrorCode;
use claviger_protocol::token::{TokenRequest, TokenResponse};
use secrecy::{ExposeSecret, SecretString};

use crate::rig::{
    SCOPE, assert_invalid_grant, assert_unavailable, assert_unavailable_for, credentials, encode,
    refresh, refresh_token, sign_in,
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn world() -> World {
    let mut world = World::new();
    world.issuer.grants.insert(Grant::DeviceCode);
    for client in ["kubernetes", "cli"] {
        world.change_client(client, |client| {
            client.grants.insert(Grant::DeviceCode);
        });
    }
    world
}

async fn asked(
    world: &World,
    credentials: &ClientCredentials,
    scope: &str,
) -> Result<DeviceAuthorizationResponse, TokenError> {
    asked_from(world, credentials, (scope, "192.0.2.1")).await
}

async fn asked_from(
    world: &World,
    credentials: &ClientCredentials,
    (scope, source): (&str, &str),
) -> Result<DeviceAuthorizationResponse, TokenError> {
    let form = encode(&[("scope", scope)]);
    let request = DeviceAuthorizationRequest::parse(&form).unwrap();
    let (provider, issuer) = (&world.provider, &world.issuer);
    device_authorization::authorize(provider, issuer, credentials, &request, source).await
}

async fn waiting(world: &World) -> DeviceAuthorizationResponse {
    asked(world, &credentials(), SCOPE).await.unwrap()
}

fn cli() -> ClientCredentials {
    ClientCredentials::from_parts(None, &encode(&[("client_id", "cli")])).unwrap()
}

async fn poll_as(
    world: &World,
    credentials: &ClientCredentials,
    device_code: &str,
) -> Result<TokenResponse, TokenError> {
    let form = encode(&[("grant_type", GRANT), ("device_code", device_code)]);
    let request = TokenRequest::parse(&form).unwrap();
    token::exchange(&world.provider, &world.issuer, credentials, request, None).await
}

/// A poll five seconds later.
async fn poll(
    world: &World,
    device: &DeviceAuthorizationResponse,
) -> Result<TokenResponse, TokenError> {
    world.clock.advance(5);
    poll_as(world, &credentials(), device.device_code.expose_secret()).await
}

#[track_caller]
fn assert_refused(result: &Result<TokenResponse, TokenError>, wanted: ErrorCode) {
    match result {
        Err(TokenError::Refused { code, .. }) if *code == wanted => {}
        other => panic!("expected {wanted:?}, got {other:?}"),
    }
}

/// What comes of a sign-in, with its cookies.
async fn signed_in(world: &World, flow: &Flow) -> Step {
    let password = SecretString::from("wonderland");
    let (arriving, attempt) = ((flow, Brought::default()), ("alice", &password));
    let (provider, issuer) = (&world.provider, &world.issuer);
    login::with_password(provider, issuer, arriving, "local", attempt).await.unwrap()
}

/// A sign-in at the device page.
async fn visit(world: &World, connector: &str) -> (Flow, Entry) {
    let flow = device_page::begin(&world.provider, None);
    match sign_in(world, &flow, connector, "wonderland").await.unwrap() {
        Outcome::Device(entry) => (flow, entry),
        other => panic!("{other:?}"),
    }
}

async fn visitor(world: &World, connector: &str) -> (Flow, Visitor) {
    let (flow, entry) = visit(world, connector).await;
    let visitor = Visitor::open(&world.issuer, &flow, &entry.sign_in, 1_767_225_600).unwrap();
    (flow, visitor)
}

fn look_up(
    world: &World,
    (flow, visitor): &(Flow, Visitor),
    code: &str,
) -> Result<Confirmation, DeviceError> {
    device_page::look_up(&world.provider, &world.issuer, (flow, visitor), code)
}

async fn decide(
    world: &World,
    at: &(Flow, Visitor),
    device: &DeviceAuthorizationResponse,
    approved: bool,
) -> Result<String, DeviceError> {
    let code = device.user_code.to_string();
    let shown = look_up(world, at, &code)?;
    let (provider, issuer) = (&world.provider, &world.issuer);
    device_page::decide(provider, issuer, (&at.0, &at.1), (&code, &shown.token), approved).await
}

async fn approve(world: &World, device: &DeviceAuthorizationResponse) {
    decide(world, &visitor(world, "local").await, device, true).await.unwrap();
}

#[tokio::test]
async fn a_device_costs_three_writes_and_no_poll_costs_anything() {
    let world = world();
    let device = waiting(&world).await;
    assert_eq!(world.devices.take_requests(), ["create"]);
    assert_refused(&poll(&world, &device).await, ErrorCode::AuthorizationPending);
    assert_refused(&poll(&world, &device).await, ErrorCode::AuthorizationPending);
    approve(&world, &device).await;
    assert_eq!(world.devices.take_requests(), ["decide"]);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    let tokens = poll(&world, &device).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["create"]);
    assert_eq!(world.devices.take_requests(), Vec::<&str>::new());
    assert_eq!(tokens.scope, SCOPE);
    refresh(&world, &refresh_token(&tokens)).await.unwrap();
}

#[tokio::test]
async fn what_a_page_carries_is_in_no_log() {
    let world = world();
    let code = waiting(&world).await.user_code.to_string();
    let flow = device_page::begin(&world.provider, Some(&code));
    let Outcome::Device(entry) = sign_in(&world, &flow, "local", "wonderland").await.unwrap()
    else {
        panic!("no entry")
    };
    assert_eq!(entry.user_code, code);
    let visitor = Visitor::open(&world.issuer, &flow, &entry.sign_in, 1_767_225_600).unwrap();
    let shown = look_up(&world, &(flow, visitor), &code).unwrap();
    let printed = format!("{entry:?} {shown:?}");
    for secret in [&code, &entry.sign_in, &shown.token] {
        assert!(!secret.is_empty() && !printed.contains(secret.as_str()), "{printed}");
    }
    assert!(printed.contains(&shown.client) && printed.contains(&entry.user), "{printed}");
}

#[tokio::test]
async fn neither_code_is_stored_and_both_are_long_enough() {
    let world = world();
    let device = waiting(&world).await;
    let stored = format!("{:?}", world.devices.all());
    let code = device.device_code.expose_secret();
    let mac = code.rsplit_once('.').unwrap().1;
    assert_eq!(mac.len(), 43, "256 bits");
    assert!(!stored.contains(mac));
    let user_code = device.user_code.to_string();
    assert!(!stored.contains(&user_code) && !stored.contains(&user_code.replace('-', "")));
    assert_eq!((device.expires_in, device.interval), (300, 5));
    assert_eq!(device.verification_uri, "https://id.example.org/device");
    let complete = format!("{}?user_code={user_code}", device.verification_uri);
    assert_eq!(device.verification_uri_complete, complete);
}

#[tokio::test]
async fn whoever_may_not_ask_is_refused_before_anything_is_stored() {
    let mut world = world();
    let ask = async |world: &World, scope| match asked(world, &credentials(), scope).await {
        Err(TokenError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    world.change_client("kubernetes", |client| {
        client.scopes.remove("groups");
    });
    assert_eq!(ask(&world, "openid groups").await, ErrorCode::InvalidScope);
    assert_eq!(ask(&world, "openid madeup").await, ErrorCode::InvalidScope);
    world.change_client("kubernetes", |client| {
        client.grants.remove(&Grant::DeviceCode);
    });
    assert_eq!(ask(&world, "openid").await, ErrorCode::UnauthorizedClient);
    world.issuer.grants.remove(&Grant::DeviceCode);
    assert_eq!(ask(&world, "openid").await, ErrorCode::UnsupportedGrantType);
    let nobody = encode(&[("client_id", "kubernetes")]);
    let nobody = ClientCredentials::from_parts(None, &nobody).unwrap();
    match asked(&world, &nobody, "openid").await {
        Err(TokenError::Refused { code: ErrorCode::InvalidClient, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(world.devices.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn no_more_devices_wait_than_may_and_one_client_leaves_room_for_others() {
    let mut world = world();
    world.issuer.devices.per_client = 2;
    world.issuer.devices.total = 3;
    for source in ["one", "two"] {
        asked_from(&world, &credentials(), ("openid", source)).await.unwrap();
    }
    let full = async |world: &World, credentials: &ClientCredentials| {
        let refused = asked_from(world, credentials, ("openid", "three")).await;
        assert!(
            matches!(refused, Err(TokenError::Unavailable { retry_after: 30, .. })),
            "{refused:?}"
        );
    };
    full(&world, &credentials()).await;
    asked_from(&world, &cli(), ("openid", "four")).await.unwrap();
    full(&world, &cli()).await;
    assert_eq!(world.devices.take_requests(), ["create"; 3], "beyond, nothing is written");
    world.clock.advance(300);
    waiting(&world).await;
    world.devices.set_unknown(true);
    let unknown = asked(&world, &cli(), "openid").await;
    assert!(matches!(unknown, Err(TokenError::Unavailable { .. })), "how many wait is not known");
}

#[tokio::test]
async fn one_address_leaves_room_for_the_others_of_its_client_and_of_the_issuer() {
    let mut world = world();
    world.issuer.devices.per_client = 9;
    world.issuer.devices.total = 12;
    let full = async |world: &World, credentials: &ClientCredentials, whose: &str| {
        let refused = asked_from(world, credentials, ("openid", "one")).await;
        let Err(TokenError::Unavailable { reason, retry_after: 30 }) = refused else {
            panic!("{refused:?}")
        };
        assert!(reason.contains(whose), "{reason}");
    };
    for _ in 0..2 {
        asked_from(&world, &credentials(), ("openid", "one")).await.unwrap();
    }
    full(&world, &credentials(), "this client and address").await;
    asked_from(&world, &cli(), ("openid", "one")).await.unwrap();
    full(&world, &cli(), "of this address").await;
    assert_eq!(world.devices.take_requests(), ["create"; 3], "beyond, nothing is written");
    let stored = world.devices.all();
    assert!(stored.iter().all(|device| !device.source_mac.contains("one")), "{stored:?}");
    for source in ["two", "three", "four"] {
        asked_from(&world, &credentials(), ("openid", source)).await.unwrap();
    }
    // However few may wait, an address has a place.
    world.clock.advance(300);
    world.issuer.devices.per_client = 1;
    asked_from(&world, &credentials(), ("openid", "one")).await.unwrap();
}

#[tokio::test]
async fn a_device_that_polls_too_often_is_slowed_even_when_it_could_have_its_tokens() {
    let world = world();
    let device = waiting(&world).await;
    assert_refused(&poll(&world, &device).await, ErrorCode::AuthorizationPending);
    approve(&world, &device).await;
    let text = device.device_code.expose_secret();
    let at_once = poll_as(&world, &credentials(), text).await;
    assert_refused(&at_once, ErrorCode::SlowDown);
    assert_refused(&poll(&world, &device).await, ErrorCode::SlowDown);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    world.clock.advance(10);
    poll(&world, &device).await.unwrap();
}

#[tokio::test]
async fn a_denied_device_is_told_so_and_an_expired_one_too() {
    let world = world();
    let device = waiting(&world).await;
    let client = decide(&world, &visitor(&world, "local").await, &device, false).await.unwrap();
    assert_eq!(client, "kubernetes");
    assert_refused(&poll(&world, &device).await, ErrorCode::AccessDenied);
    let late = waiting(&world).await;
    approve(&world, &late).await;
    world.clock.advance(295);
    assert_refused(&poll(&world, &late).await, ErrorCode::ExpiredToken);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn another_clients_code_is_nobodys_and_says_nothing() {
    let world = world();
    let device = waiting(&world).await;
    approve(&world, &device).await;
    let text = device.device_code.expose_secret();
    assert_invalid_grant(&poll_as(&world, &cli(), text).await);
    for forged in [text.replace("clv_dc_", "clv_rt_"), format!("{text}A"), "x".into()] {
        assert_invalid_grant(&poll_as(&world, &credentials(), &forged).await);
    }
    let unproven = encode(&[("client_id", "kubernetes")]);
    let unproven = ClientCredentials::from_parts(None, &unproven).unwrap();
    assert_refused(&poll_as(&world, &unproven, text).await, ErrorCode::InvalidClient);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_device_gets_its_tokens_once_and_a_code_that_comes_back_later_is_a_thiefs() {
    let world = world();
    let device = waiting(&world).await;
    approve(&world, &device).await;
    poll(&world, &device).await.unwrap();
    assert_invalid_grant(&poll(&world, &device).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Active, "five seconds: a race");
    assert_eq!(world.sessions.take_requests(), ["create", "create", "get"]);
    world.clock.advance(10);
    assert_invalid_grant(&poll(&world, &device).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
    assert_eq!(world.sessions.take_requests(), ["create", "get", "revoke"]);
    assert_invalid_grant(&poll(&world, &device).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new(), "known to be revoked");
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_one_read() {
    let world = world();
    let device = waiting(&world).await;
    approve(&world, &device).await;
    world.sessions.fail_next_write(Fault::AnswerLost);
    poll(&world, &device).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["create", "get"]);
    let other = waiting(&world).await;
    approve(&world, &other).await;
    world.sessions.fail_next_write(Fault::TurnedAway(7));
    assert_unavailable_for(&poll(&world, &other).await, 7);
    poll(&world, &other).await.unwrap();
}

#[tokio::test]
async fn a_replica_that_has_not_heard_of_the_decision_says_pending() {
    let world = world();
    let device = waiting(&world).await;
    world.devices.set_lagging(true);
    approve(&world, &device).await;
    assert_refused(&poll(&world, &device).await, ErrorCode::AuthorizationPending);
    world.devices.set_lagging(false);
    poll(&world, &device).await.unwrap();
}

#[tokio::test]
async fn one_decision_counts_and_its_code_is_used_up() {
    let world = world();
    let device = waiting(&world).await;
    let at = visitor(&world, "local").await;
    world.devices.set_lagging(true);
    decide(&world, &at, &device, false).await.unwrap();
    assert_eq!(decide(&world, &at, &device, true).await, Err(DeviceError::Unknown));
    world.devices.set_lagging(false);
    let code = device.user_code.to_string();
    assert_eq!(look_up(&world, &at, &code).unwrap_err(), DeviceError::Unknown);
    assert_eq!(world.devices.all()[0].state, DeviceState::Denied);
}

#[tokio::test]
async fn wrong_expired_and_used_codes_get_one_answer() {
    let mut world = world();
    let device = waiting(&world).await;
    let at = visitor(&world, "local").await;
    for wrong in ["", "BCDF-GHJK", "not a code", "AAAA-AAAA"] {
        assert_eq!(look_up(&world, &at, wrong).unwrap_err(), DeviceError::Unknown, "{wrong}");
    }
    let code = device.user_code.to_string().to_lowercase().replace('-', " ");
    let shown = look_up(&world, &at, &code).unwrap();
    assert_eq!(shown.user_code, device.user_code.to_string());
    assert_eq!((shown.client.as_str(), shown.user.as_str()), ("kubernetes", "alice"));
    assert_eq!(shown.scopes, ["openid", "email", "profile", "groups", "offline_access"]);
    world.change_client("kubernetes", |client| {
        client.grants.remove(&Grant::DeviceCode);
    });
    assert_eq!(look_up(&world, &at, &code).unwrap_err(), DeviceError::Unknown, "not any more");
    world.change_client("kubernetes", |client| {
        client.grants.insert(Grant::DeviceCode);
    });
    world.clock.advance(300);
    assert_eq!(look_up(&world, &at, &code).unwrap_err(), DeviceError::Unknown, "over");
}

#[tokio::test]
async fn nothing_is_allowed_that_was_not_shown() {
    let world = world();
    let (mine, other) = (waiting(&world).await, waiting(&world).await);
    let at = visitor(&world, "local").await;
    let shown = look_up(&world, &at, &mine.user_code.to_string()).unwrap();
    let (provider, issuer) = (&world.provider, &world.issuer);
    let code = other.user_code.to_string();
    for token in [shown.token.as_str(), "", "x.y", &at.0.csrf_token(issuer)] {
        let decided =
            device_page::decide(provider, issuer, (&at.0, &at.1), (&code, token), true).await;
        assert_eq!(decided, Err(DeviceError::Unknown), "{token}");
    }
    assert!(world.devices.all().iter().all(|device| device.state == DeviceState::Pending));
}

#[tokio::test]
async fn who_signed_in_is_sealed_for_its_flow() {
    let world = world();
    let (flow, entry) = visit(&world, "local").await;
    let other = device_page::begin(&world.provider, Some("bcdfghjk"));
    assert_eq!(other.device.as_deref(), Some("BCDF-GHJK"));
    let now = 1_767_225_600;
    let open = |flow, now| Visitor::open(&world.issuer, flow, &entry.sign_in, now);
    assert!(open(&flow, now).is_ok());
    assert_eq!(open(&other, now), Err(StepError::Expired));
    assert_eq!(open(&flow, now + 600), Err(StepError::Expired));
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn the_clients_policy_is_held_against_whoever_allows_its_device() {
    let mut world = world();
    let device = waiting(&world).await;
    let denied = async |world: &World| {
        let at = visitor(world, "local").await;
        let refused = decide(world, &at, &device, true).await;
        assert!(matches!(refused, Err(DeviceError::Denied(_))), "{refused:?}");
    };
    world.change_client("kubernetes", |client| client.allowed_groups = ["admins".into()].into());
    denied(&world).await;
    world.change_client("kubernetes", |client| {
        client.allowed_groups.clear();
        client.allowed_connectors = Some(["directory".to_owned()].into());
    });
    denied(&world).await;
    world.change_client("kubernetes", |client| {
        client.allowed_connectors = None;
        client.required_acr = ["gold".to_owned()].into();
    });
    denied(&world).await;
    world.change_client("kubernetes", |client| client.required_acr.clear());
    approve(&world, &device).await;
    world.change_client("kubernetes", |client| client.allowed_groups = ["admins".into()].into());
    assert_invalid_grant(&poll(&world, &device).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_refresh_token_is_given_by_the_same_rules_as_for_a_code() {
    let mut world = world();
    let bare = asked(&world, &credentials(), "openid email").await.unwrap();
    approve(&world, &bare).await;
    assert!(poll(&world, &bare).await.unwrap().refresh_token.is_none());
    let local = &mut world.issuer.connectors[0];
    std::sync::Arc::make_mut(local).refresh = Refresh::Unsupported;
    let offline = waiting(&world).await;
    approve(&world, &offline).await;
    assert!(poll(&world, &offline).await.unwrap().refresh_token.is_none());
}

#[tokio::test]
async fn what_an_editor_of_objects_does_to_one_gives_nobody_anything() {
    let world = world();
    let device = waiting(&world).await;
    let name = world.devices.all()[0].name.clone();
    world.devices.edit(&name, |device| device.state = DeviceState::Approved);
    assert_invalid_grant(&poll(&world, &device).await);
    let allowed = waiting(&world).await;
    approve(&world, &allowed).await;
    let granted = world.devices.all().into_iter().find(|d| d.name != name).unwrap();
    world.devices.edit(&name, |device| device.payload.clone_from(&granted.payload));
    assert_invalid_grant(&poll(&world, &device).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    assert_ne!(session::name_for_device("i", &name), session::name_for_flow("i", &name));
}

#[tokio::test]
async fn a_user_of_too_many_groups_is_told_so() {
    let world = world();
    let groups = (0..2_000).map(|n| format!("group-{n}")).collect();
    world.upstream.put("alice", "wonderland", Identity { groups, ..alice() });
    let device = asked(&world, &credentials(), "openid").await.unwrap();
    let refused = decide(&world, &visitor(&world, "local").await, &device, true).await;
    assert!(matches!(refused, Err(DeviceError::Denied(_))), "{refused:?}");
    assert_eq!(world.devices.take_requests(), ["create"]);
}

#[tokio::test]
async fn while_the_clock_is_in_doubt_nothing_is_stored_or_allowed() {
    let world = world();
    let device = waiting(&world).await;
    let at = visitor(&world, "local").await;
    world.clock.set_doubt(Some("30 s off"));
    let asked = asked(&world, &credentials(), "openid").await;
    assert!(matches!(asked, Err(TokenError::Unavailable { .. })), "{asked:?}");
    let decided = decide(&world, &at, &device, true).await;
    assert!(matches!(decided, Err(DeviceError::Step(StepError::Unavailable(_)))), "{decided:?}");
    assert_unavailable(&poll(&world, &device).await);
    assert_eq!(world.devices.take_requests(), ["create"]);
}

#[tokio::test]
async fn the_session_is_kept_for_as_long_as_its_device_code_could_come_back() {
    let mut world = world();
    world.issuer.devices.lifetime = 600;
    world.change_client("kubernetes", |client| {
        client.lifetimes.access_token = 60;
        client.lifetimes.id_token = 60;
        client.lifetimes.refresh_idle = 60;
    });
    for scope in ["openid", SCOPE] {
        let device = asked(&world, &credentials(), scope).await.unwrap();
        let code_dies = world.provider.clock.now() + 600;
        approve(&world, &device).await;
        let tokens = poll(&world, &device).await.unwrap();
        let sessions = world.sessions.all();
        let kept_until = sessions.iter().map(|session| session.expires_at).max().unwrap();
        assert_eq!(kept_until, code_dies + SKEW_SECONDS, "{scope}");
        if let Some(token) = &tokens.refresh_token {
            world.clock.advance(61);
            let late = refresh(&world, token.expose_secret()).await;
            assert_invalid_grant(&late); // what it gave out lives no longer for that
        }
    }
}

#[tokio::test]
async fn a_client_that_shares_no_session_has_its_devices_users_sign_in_for_it_alone() {
    let mut world = world();
    world.issuer.browser_sessions =
        Some(BrowserSessions { idle: 3_600, absolute: 36_000, consent: 86_400 });
    world.change_client("cli", |client| client.sharing = Sharing::Separate);
    let now = world.provider.clock.now();
    let (shared, separate) =
        (waiting(&world).await, asked(&world, &cli(), "openid").await.unwrap());
    let cookie = {
        let flow = device_page::begin(&world.provider, None);
        let step = signed_in(&world, &flow).await;
        assert!(matches!(step.outcome, Outcome::Device(_)));
        step.cookies.into_iter().next().unwrap()
    };
    let with_cookie = async |flow: &Flow| {
        let cookies = [(cookie.name.as_str(), cookie.value.as_str())].into_iter();
        let brought = Brought::of(&world.issuer, cookies, now);
        login::with_session(&world.provider, &world.issuer, flow, brought).await.unwrap()
    };
    let flow = device_page::begin(&world.provider, None);
    let Some(Step { outcome: Outcome::Device(entry), .. }) = with_cookie(&flow).await else {
        panic!("single sign-on at the device page")
    };
    let visitor = Visitor::open(&world.issuer, &flow, &entry.sign_in, now).unwrap();
    let at = (flow, visitor);
    let code = separate.user_code.to_string();
    assert_eq!(look_up(&world, &at, &code).unwrap_err(), DeviceError::SignIn);
    look_up(&world, &at, &shared.user_code.to_string()).unwrap();

    let own = device_page::begin_separately(&world.provider, &code);
    assert_eq!(own.device.as_deref(), Some(code.as_str()));
    assert!(with_cookie(&own).await.is_none(), "the session would do again");
    let step = signed_in(&world, &own).await;
    assert!(step.cookies.is_empty(), "a sign-in of its own begins no browser session");
    let Outcome::Device(entry) = step.outcome else { panic!("{:?}", step.outcome) };
    let visitor = Visitor::open(&world.issuer, &own, &entry.sign_in, now).unwrap();
    decide(&world, &(own, visitor), &separate, true).await.unwrap();
}

#[tokio::test]
async fn a_tenants_client_is_shown_with_its_client_id() {
    let mut world = world();
    let device = waiting(&world).await;
    let code = device.user_code.to_string();
    let at = visitor(&world, "local").await;
    assert_eq!(look_up(&world, &at, &code).unwrap().tenant_id, None);
    world.change_client("kubernetes", |client| client.id = "team/kubernetes".into());
    let shown = look_up(&world, &at, &code).unwrap();
    assert_eq!(shown.tenant_id.as_deref(), Some("team/kubernetes"));
}

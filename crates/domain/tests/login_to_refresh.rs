//! The whole way from an authorization request to refreshed tokens, on in-memory ports: every promise
//! of DESIGN 5 about what is stored when, and what each replay costs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use claviger_domain::authorize::{self, AuthorizeError, Begun, Next};
use claviger_domain::connector::IdentityPolicy;
use claviger_domain::fakes::{Fault, REDIRECT_URI, World, alice};
use claviger_domain::flow::{Flow, FlowError};
use claviger_domain::identity::Identity;
use claviger_domain::issuer::ClientEntry;
use claviger_domain::login::{self, Outcome, StepError};
use claviger_domain::ports::SessionState;
use claviger_domain::token::{self, TokenError};
use claviger_domain::userinfo;
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::form::Params;
use claviger_protocol::token::{TokenRequest, TokenResponse};
use secrecy::{ExposeSecret, SecretString};

/// `code_verifier` and `code_challenge` of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const SCOPE: &str = "openid email profile groups offline_access";

fn encode(pairs: &[(&str, &str)]) -> Params {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    Params::parse(body.as_bytes()).unwrap()
}

fn request(change: &[(&str, &str)]) -> Params {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", "kubernetes"),
        ("redirect_uri", REDIRECT_URI),
        ("scope", SCOPE),
        ("state", "st&te"),
        ("nonce", "n-0S6"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in change {
        pairs.retain(|(known, _)| known != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    encode(&pairs)
}

fn begin(world: &World, change: &[(&str, &str)]) -> Begun {
    authorize::begin(&world.provider, &world.issuer, &request(change)).unwrap()
}

async fn sign_in(
    world: &World,
    flow: &Flow,
    connector: &str,
    password: &str,
) -> Result<Outcome, StepError> {
    let password = SecretString::from(password);
    let attempt = ("alice", &password);
    login::with_password(&world.provider, &world.issuer, flow, connector, attempt).await
}

fn query(location: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(location).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn code(world: &World, connector: &str) -> String {
    let flow = begin(world, &[]).flow;
    match sign_in(world, &flow, connector, "wonderland").await.unwrap() {
        Outcome::Redirect(location) => query(&location, "code").unwrap(),
        Outcome::Consent(consent) => panic!("{consent:?}"),
    }
}

fn credentials() -> ClientCredentials {
    ClientCredentials::from_parts(
        None,
        &encode(&[("client_id", "kubernetes"), ("client_secret", "s3cret")]),
    )
    .unwrap()
}

async fn exchange(world: &World, form: &[(&str, &str)]) -> Result<TokenResponse, TokenError> {
    let request = TokenRequest::parse(&encode(form)).unwrap();
    token::exchange(&world.provider, &world.issuer, &credentials(), request).await
}

async fn redeem(world: &World, code: &str) -> Result<TokenResponse, TokenError> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ];
    exchange(world, &form).await
}

async fn refresh(world: &World, token: &str) -> Result<TokenResponse, TokenError> {
    exchange(world, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

fn refresh_token(response: &TokenResponse) -> String {
    response.refresh_token.as_ref().unwrap().expose_secret().to_owned()
}

async fn logged_in(world: &World, connector: &str) -> String {
    let response = redeem(world, &code(world, connector).await).await.unwrap();
    world.sessions.take_requests();
    refresh_token(&response)
}

#[track_caller]
fn assert_invalid_grant(result: &Result<TokenResponse, TokenError>) {
    match result {
        Err(TokenError::Refused { code: ErrorCode::InvalidGrant, .. }) => {}
        other => panic!("expected invalid_grant, got {other:?}"),
    }
}

#[track_caller]
fn assert_unavailable(result: &Result<TokenResponse, TokenError>) {
    assert!(matches!(result, Err(TokenError::Unavailable { .. })), "{result:?}");
}

#[tokio::test]
async fn a_login_is_one_create_and_nothing_before_it() {
    let world = World::new();
    let code = code(&world, "local").await;
    assert!(
        code.len() >= 43 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    );
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    redeem(&world, &code).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["create"]);
    let refreshed = logged_in(&world, "local").await;
    refresh(&world, &refreshed).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["rotate"]);
}

#[tokio::test]
async fn id_token_and_userinfo_say_what_the_scopes_reveal() {
    let world = World::new();
    let response = redeem(&world, &code(&world, "local").await).await.unwrap();
    let expected = claviger_jose::VerifyOptions {
        algorithms: &[claviger_jose::Algorithm::ES256],
        issuer: "https://id.example.org",
        audience: "kubernetes",
        leeway_seconds: 0,
    };
    let now = 1_767_225_600;
    let id_token = response.id_token.as_ref().unwrap().expose_secret();
    let claims =
        claviger_jose::verify(&world.issuer.keys.key_set, id_token, now, &expected).unwrap();
    assert_eq!(claims["sub"], "CggwOGE4Njg0YhIFbG9jYWw");
    assert_eq!(claims["nonce"], "n-0S6");
    assert_eq!(claims["exp"], 1_767_226_200);
    assert_eq!(claims["auth_time"], 1_767_225_600);
    assert_eq!(claims["email_verified"], true);
    assert_eq!(claims["groups"], serde_json::json!(["developers", "oncall"]));
    assert!(claims["jti"].as_str().unwrap().len() >= 22);
    for absent in ["nbf", "azp", "federated_claims"] {
        assert!(!claims.contains_key(absent), "{absent}");
    }
    let access_token = response.access_token.expose_secret();
    let at_hash =
        claviger_jose::left_half_hash(claviger_jose::Algorithm::ES256, access_token.as_bytes());
    assert_eq!(claims["at_hash"], at_hash);
    let known = userinfo::answer(&world.provider, &world.issuer, access_token).unwrap();
    assert_eq!(known.email.as_deref(), Some("alice@example.org"));
    world.clock.advance(600);
    assert!(userinfo::answer(&world.provider, &world.issuer, access_token).is_err());
}

#[tokio::test]
async fn replayed_code_revokes_the_session_and_stays_refused() {
    let world = World::new();
    let code = code(&world, "local").await;
    let response = redeem(&world, &code).await.unwrap();
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(
        world.sessions.take_requests(),
        ["create", "create", "get", "revoke", "create", "get"]
    );
    assert_invalid_grant(&refresh(&world, &refresh_token(&response)).await);
    let token = response.access_token.expose_secret();
    assert!(userinfo::answer(&world.provider, &world.issuer, token).is_err());
    assert!(world.audit.take().iter().any(|event| event.contains("CodeReplayed")));
}

#[tokio::test]
async fn double_clicked_callback_makes_one_session_and_revokes_nobody() {
    let world = World::new();
    let flow = begin(&world, &[]).flow;
    let mut codes = Vec::new();
    for _ in 0..2 {
        match sign_in(&world, &flow, "local", "wonderland").await.unwrap() {
            Outcome::Redirect(location) => codes.push(query(&location, "code").unwrap()),
            Outcome::Consent(consent) => panic!("{consent:?}"),
        }
    }
    let first = redeem(&world, &codes[0]).await.unwrap();
    assert_invalid_grant(&redeem(&world, &codes[1]).await);
    assert_eq!(world.sessions.all().len(), 1);
    refresh(&world, &refresh_token(&first)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_consumed_before_every_check_has_passed() {
    let world = World::new();
    let code = code(&world, "local").await;
    let good = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ];
    let other = "a".repeat(43);
    for (name, value) in [
        ("code", "forged"),
        ("redirect_uri", "https://app.example.org/other"),
        ("code_verifier", other.as_str()),
    ] {
        let mut form = good.to_vec();
        form.retain(|(known, _)| *known != name);
        form.push((name, value));
        assert_invalid_grant(&exchange(&world, &form).await);
    }
    let without_verifier = &good[..3];
    assert_invalid_grant(&exchange(&world, without_verifier).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    exchange(&world, &good).await.unwrap();
}

#[tokio::test]
async fn verifier_without_challenge_is_refused() {
    let world = World::new();
    let flow = begin(&world, &[("code_challenge", ""), ("code_challenge_method", "")]).flow;
    let Ok(Outcome::Redirect(location)) = sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no code");
    };
    assert_invalid_grant(&redeem(&world, &query(&location, "code").unwrap()).await);
}

#[tokio::test]
async fn a_code_dies_after_a_minute_and_is_no_other_clients() {
    let mut world = World::new();
    let late = code(&world, "local").await;
    world.clock.advance(60);
    assert_invalid_grant(&redeem(&world, &late).await);
    let code = code(&world, "local").await;
    world.change_client("kubernetes", |client| client.uid = "re-created".into());
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_lost_answer_to_the_create_is_no_failed_login() {
    let world = World::new();
    let code_a = code(&world, "local").await;
    world.sessions.fail_next_write(Fault::AnswerLost);
    redeem(&world, &code_a).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["create", "get"]);
    let code_b = code(&world, "local").await;
    world.sessions.fail_next_write(Fault::Refused);
    assert_unavailable(&redeem(&world, &code_b).await);
    redeem(&world, &code_b).await.unwrap();
    assert_eq!(world.sessions.all().len(), 2);
}

#[tokio::test]
async fn honest_retry_gets_the_same_token_and_reuse_kills_the_family() {
    let world = World::new();
    let first = logged_in(&world, "local").await;
    let second = refresh_token(&refresh(&world, &first).await.unwrap());
    world.clock.advance(10);
    let again = refresh_token(&refresh(&world, &first).await.unwrap());
    assert_eq!(second, again, "derived, not stored");
    let third = refresh_token(&refresh(&world, &second).await.unwrap());
    assert_ne!(second, third);
    assert_invalid_grant(&refresh(&world, &first).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
    assert_invalid_grant(&refresh(&world, &third).await);
}

#[tokio::test]
async fn an_old_token_outside_its_grace_kills_the_family() {
    let world = World::new();
    let first = logged_in(&world, "directory").await;
    refresh(&world, &first).await.unwrap();
    world.clock.advance(11);
    assert_invalid_grant(&refresh(&world, &first).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn forged_foreign_and_expired_refresh_tokens_cost_no_request() {
    let world = World::new();
    let good = logged_in(&world, "local").await;
    let other_issuer = World::new();
    let foreign = logged_in(&other_issuer, "local").await;
    let (body, mac) = good.rsplit_once('.').unwrap();
    let raised = body.replacen(".0.", ".1.", 1);
    for forged in
        ["", "clv_rt_", "x.y.z", &foreign, &format!("{raised}.{mac}"), &good[..good.len() - 1]]
    {
        if !forged.is_empty() {
            assert_invalid_grant(&refresh(&world, forged).await);
        }
    }
    world.clock.advance(7 * 86_400);
    assert_invalid_grant(&refresh(&world, &good).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn the_session_ends_at_its_absolute_lifetime() {
    let world = World::new();
    let mut token = logged_in(&world, "local").await;
    for _ in 0..4 {
        world.clock.advance(7 * 86_400 - 1);
        token = refresh_token(&refresh(&world, &token).await.unwrap());
    }
    world.clock.advance(2 * 86_400 + 4);
    assert_invalid_grant(&refresh(&world, &token).await);
}

#[tokio::test]
async fn an_outage_rotates_nothing_and_a_verdict_revokes() {
    let world = World::new();
    let token = logged_in(&world, "directory").await;
    world.upstream.set_away(true);
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), ["get"]);
    world.upstream.set_away(false);
    let token = refresh_token(&refresh(&world, &token).await.unwrap());
    assert_eq!(world.sessions.take_requests(), ["get", "rotate"]);
    world.upstream.remove("alice");
    assert_invalid_grant(&refresh(&world, &token).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn a_refresh_carries_what_the_upstream_says_now() {
    let world = World::new();
    for connector in ["local", "directory"] {
        let token = logged_in(&world, connector).await;
        let moved = Identity { groups: vec!["managers".into()], ..alice() };
        world.upstream.put("alice", "wonderland", moved);
        let response = refresh(&world, &token).await.unwrap();
        let access_token = response.access_token.expose_secret();
        let known = userinfo::answer(&world.provider, &world.issuer, access_token).unwrap();
        assert_eq!(known.groups, ["managers"], "{connector}");
        world.upstream.put("alice", "wonderland", alice());
    }
}

#[tokio::test]
async fn policy_is_applied_at_refresh_as_at_login() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| {
        client.allowed_groups = ["oncall".to_owned()].into();
    });
    let token = logged_in(&world, "directory").await;
    let moved = Identity { groups: vec!["developers".into()], ..alice() };
    world.upstream.put("alice", "wonderland", moved);
    assert_invalid_grant(&refresh(&world, &token).await);
    let flow = begin(&world, &[]).flow;
    let Ok(Outcome::Redirect(location)) = sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no redirect");
    };
    assert_eq!(query(&location, "error").as_deref(), Some("access_denied"));
    assert_eq!(query(&location, "state").as_deref(), Some("st&te"));
}

#[tokio::test]
async fn what_is_gone_is_invalid_grant_and_what_is_broken_is_503() {
    let mut world = World::new();
    let token = logged_in(&world, "local").await;
    let local = world.issuer.connectors.remove(0);
    world.issuer.unavailable_connectors.insert(local.uid.clone());
    assert_unavailable(&refresh(&world, &token).await);
    world.issuer.unavailable_connectors.clear();
    assert_invalid_grant(&refresh(&world, &token).await);
    world.issuer.connectors.insert(0, local);
    let client =
        world.issuer.clients.insert("kubernetes".into(), ClientEntry::OutOfService).unwrap();
    assert_unavailable(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
    world.issuer.clients.insert("kubernetes".into(), client);
    refresh(&world, &token).await.unwrap();
}

#[tokio::test]
async fn a_deleted_session_is_refused_and_creates_nothing() {
    let world = World::new();
    for connector in ["local", "directory"] {
        let token = logged_in(&world, connector).await;
        let name = world.sessions.all()[0].name.clone();
        world.sessions.delete(&name);
        assert_invalid_grant(&refresh(&world, &token).await);
        assert!(world.sessions.all().is_empty());
    }
}

#[tokio::test]
async fn a_grant_too_large_for_a_code_waits_in_a_pending_session() {
    let world = World::new();
    let groups: Vec<String> = (0..200).map(|n| format!("a-group-with-a-long-name-{n}")).collect();
    world.upstream.put("alice", "wonderland", Identity { groups, ..alice() });
    let code = code(&world, "local").await;
    assert!(code.len() < 3_072);
    assert_eq!(world.sessions.take_requests(), ["create"]);
    assert_eq!(world.sessions.all()[0].state, SessionState::Pending);
    let response = redeem(&world, &code).await.unwrap();
    assert_eq!(world.sessions.take_requests(), ["activate"]);
    let access_token = response.access_token.expose_secret();
    let known = userinfo::answer(&world.provider, &world.issuer, access_token).unwrap();
    assert_eq!(known.groups.len(), 200);
    refresh(&world, &refresh_token(&response)).await.unwrap();
    assert_invalid_grant(&redeem(&world, &code).await);
    assert_eq!(world.sessions.all()[0].state, SessionState::Revoked);
}

#[tokio::test]
async fn reserved_names_and_groups_never_get_a_token() {
    let mut world = World::new();
    let masters = Identity { groups: vec!["system:masters".into()], ..alice() };
    world.upstream.put("alice", "wonderland", masters);
    let denied = |outcome| match outcome {
        Ok(Outcome::Redirect(location)) => query(&location, "error"),
        other => panic!("{other:?}"),
    };
    let flow = begin(&world, &[]).flow;
    let outcome = sign_in(&world, &flow, "local", "wonderland").await;
    assert_eq!(denied(outcome).as_deref(), Some("access_denied"));
    let admin = Identity { preferred_username: Some("system:admin".into()), ..alice() };
    world.upstream.put("alice", "wonderland", admin);
    let outcome = sign_in(&world, &flow, "local", "wonderland").await;
    assert_eq!(denied(outcome).as_deref(), Some("access_denied"));
    world.issuer.allowed_system_values.insert("system:admin".into());
    let outcome = sign_in(&world, &flow, "local", "wonderland").await;
    assert_eq!(denied(outcome), None, "the issuer allows exactly this value");
}

#[tokio::test]
async fn a_prefix_that_completes_a_reserved_name_is_refused_too() {
    let mut world = World::new();
    let connector = Arc::make_mut(&mut world.issuer.connectors[0]);
    connector.policy =
        IdentityPolicy { group_prefix: "system:".into(), ..IdentityPolicy::default() };
    let flow = begin(&world, &[]).flow;
    let Ok(Outcome::Redirect(location)) = sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no redirect");
    };
    assert_eq!(query(&location, "error").as_deref(), Some("access_denied"));
}

#[tokio::test]
async fn consent_is_asked_for_and_a_refusal_goes_to_the_client() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| client.consent_required = true);
    let flow = begin(&world, &[]).flow;
    let Ok(Outcome::Consent(consent)) = sign_in(&world, &flow, "local", "wonderland").await else {
        panic!("no consent page");
    };
    let answer = async |flow: &Flow, approved| {
        login::answer_consent(&world.provider, &world.issuer, flow, &consent.grant, approved).await
    };
    let Ok(Outcome::Redirect(refused)) = answer(&flow, false).await else { panic!() };
    assert_eq!(query(&refused, "error").as_deref(), Some("access_denied"));
    let other = begin(&world, &[]).flow;
    assert_eq!(answer(&other, true).await.unwrap_err(), StepError::Expired, "bound to its flow");
    let Ok(Outcome::Redirect(granted)) = answer(&flow, true).await else { panic!() };
    redeem(&world, &query(&granted, "code").unwrap()).await.unwrap();
}

#[tokio::test]
async fn wrong_passwords_and_outages_are_told_apart() {
    let world = World::new();
    let flow = begin(&world, &[]).flow;
    let refused = StepError::InvalidCredentials;
    assert_eq!(sign_in(&world, &flow, "local", "wrong").await.unwrap_err(), refused);
    assert_eq!(sign_in(&world, &flow, "local", "").await.unwrap_err(), refused);
    let unknown = sign_in(&world, &flow, "nowhere", "wonderland").await.unwrap_err();
    assert_eq!(unknown, StepError::NoConnector);
    world.upstream.set_away(true);
    let away = sign_in(&world, &flow, "local", "wonderland").await.unwrap_err();
    assert!(matches!(away, StepError::Unavailable(_)));
}

#[tokio::test]
async fn a_flow_belongs_to_the_browser_that_began_it() {
    let world = World::new();
    let begun = begin(&world, &[]);
    assert_eq!(begun.next, Next::Choose);
    let now = 1_767_225_600;
    let cookies = [(begun.cookie.name.as_str(), begun.cookie.value.as_str())];
    let open = |state: &str, now| Flow::open(&world.issuer, state, cookies, now);
    assert_eq!(open(&begun.flow.id, now).unwrap(), begun.flow);
    assert_eq!(open(&begun.flow.id, now + 600).unwrap_err(), FlowError::Expired);
    assert_eq!(open("another", now).unwrap_err(), FlowError::NoCookie);
    let other = begin(&world, &[]);
    assert!(begun.flow.is_csrf_token(&world.issuer, &begun.flow.csrf_token(&world.issuer)));
    assert!(!begun.flow.is_csrf_token(&world.issuer, &other.flow.csrf_token(&world.issuer)));
}

#[tokio::test]
async fn errors_are_pages_until_the_redirect_uri_is_known_good() {
    let world = World::new();
    let refusal = |change: &[(&str, &str)]| {
        authorize::begin(&world.provider, &world.issuer, &request(change)).unwrap_err()
    };
    for change in [
        [("client_id", "nobody")],
        [("redirect_uri", "https://evil.example.org/")],
        [("redirect_uri", "")],
    ] {
        assert!(matches!(refusal(&change), AuthorizeError::Page(_)), "{change:?}");
    }
    for (change, error) in [
        ([("response_type", "token")], "unsupported_response_type"),
        ([("scope", "email")], "invalid_scope"),
        ([("scope", "openid unknown")], "invalid_scope"),
        ([("scope", "openid audience:server:client_id:cli")], "invalid_scope"),
        ([("code_challenge_method", "plain")], "invalid_request"),
        ([("prompt", "none")], "login_required"),
        ([("connector_id", "nowhere")], "invalid_request"),
        ([("request", "eyJ")], "request_not_supported"),
    ] {
        match refusal(&change) {
            AuthorizeError::Redirect(location) => {
                assert_eq!(query(&location, "error").as_deref(), Some(error), "{change:?}");
                assert_eq!(query(&location, "state").as_deref(), Some("st&te"));
                assert_eq!(query(&location, "iss").as_deref(), Some("https://id.example.org"));
            }
            other => panic!("{change:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn public_clients_must_use_pkce() {
    let world = World::new();
    let change = [("client_id", "cli"), ("code_challenge", ""), ("code_challenge_method", "")];
    let refused = authorize::begin(&world.provider, &world.issuer, &request(&change)).unwrap_err();
    let AuthorizeError::Redirect(location) = refused else { panic!("{refused:?}") };
    assert_eq!(query(&location, "error").as_deref(), Some("invalid_request"));
}

#[tokio::test]
async fn a_peers_audience_needs_the_peers_trust() {
    let mut world = World::new();
    let scope = format!("{SCOPE} audience:server:client_id:cli");
    world.change_client("cli", |client| {
        client.trusted_peers = ["kubernetes".to_owned()].into();
    });
    let flow = begin(&world, &[("scope", &scope)]).flow;
    let Ok(Outcome::Redirect(location)) = sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no code");
    };
    let response = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    let payload = response.id_token.unwrap().expose_secret().split('.').nth(1).unwrap().to_owned();
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(claims["aud"], serde_json::json!(["cli", "kubernetes"]));
    assert_eq!(claims["azp"], "kubernetes");
}

#[tokio::test]
async fn narrowed_scopes_are_answered_and_wider_ones_refused() {
    let world = World::new();
    let token = logged_in(&world, "local").await;
    let form = |scope| {
        [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("scope", scope)]
    };
    let narrowed = exchange(&world, &form("openid email")).await.unwrap();
    let access_token = narrowed.access_token.expose_secret();
    let known = userinfo::answer(&world.provider, &world.issuer, access_token).unwrap();
    assert!(known.groups.is_empty());
    let wider = exchange(&world, &form("openid federated:id")).await;
    assert!(
        matches!(wider, Err(TokenError::Refused { code: ErrorCode::InvalidScope, .. })),
        "{wider:?}"
    );
}

#[tokio::test]
async fn without_offline_access_there_is_no_refresh_token() {
    let world = World::new();
    let flow = begin(&world, &[("scope", "openid email")]).flow;
    let Ok(Outcome::Redirect(location)) = sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no code");
    };
    let response = redeem(&world, &query(&location, "code").unwrap()).await.unwrap();
    assert!(response.refresh_token.is_none());
    let session = &world.sessions.all()[0];
    assert_eq!(session.expires_at, 1_767_225_600 + 600, "nothing outlives its tokens");
}

#[tokio::test]
async fn an_uncertain_upstream_rotates_nothing_however_long_it_lasts() {
    let world = World::new();
    let token = logged_in(&world, "local").await;
    world.upstream.set_away(true);
    for _ in 0..3 {
        assert_unavailable(&refresh(&world, &token).await);
        world.clock.advance(60);
    }
    assert_eq!(world.sessions.take_requests(), ["get", "get", "get"]);
    world.upstream.set_away(false);
    refresh(&world, &token).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_to_the_rotation_is_settled_by_one_read() {
    let world = World::new();
    for connector in ["local", "directory"] {
        let token = logged_in(&world, connector).await;
        world.sessions.fail_next_write(Fault::AnswerLost);
        let next = refresh_token(&refresh(&world, &token).await.unwrap());
        world.sessions.fail_next_write(Fault::Refused);
        assert_unavailable(&refresh(&world, &next).await);
        world.clock.advance(60);
        refresh(&world, &next).await.unwrap();
    }
}

#[tokio::test]
async fn a_scope_beyond_the_grant_costs_no_token() {
    let world = World::new();
    for connector in ["local", "directory"] {
        let token = logged_in(&world, connector).await;
        let scope = "openid federated:id";
        let form = [("grant_type", "refresh_token"), ("refresh_token", &token), ("scope", scope)];
        assert!(exchange(&world, &form).await.is_err());
        world.clock.advance(60);
        refresh(&world, &token).await.unwrap();
    }
}

#[tokio::test]
async fn trust_withdrawn_is_withdrawn_at_the_next_refresh() {
    let mut world = World::new();
    let scope = format!("{SCOPE} audience:server:client_id:cli");
    world.change_client("cli", |client| {
        client.trusted_peers = ["kubernetes".to_owned()].into();
    });
    let flow = begin(&world, &[("scope", &scope)]).flow;
    let Ok(Outcome::Redirect(location)) = sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no code");
    };
    let token = refresh_token(&redeem(&world, &query(&location, "code").unwrap()).await.unwrap());
    world.change_client("cli", |client| client.trusted_peers.clear());
    world.change_client("kubernetes", |client| {
        client.scopes.remove("groups");
    });
    let response = refresh(&world, &token).await.unwrap();
    assert_eq!(response.scope, "openid email profile offline_access");
    let access_token = response.access_token.expose_secret();
    let known = userinfo::answer(&world.provider, &world.issuer, access_token).unwrap();
    assert!(known.groups.is_empty());
    world.change_client("kubernetes", |client| {
        client.allowed_connectors = Some(["directory".to_owned()].into());
    });
    assert_invalid_grant(&refresh(&world, &refresh_token(&response)).await);
}

#[tokio::test]
async fn a_revoked_session_is_refused_from_memory() {
    let world = World::new();
    let code = code(&world, "local").await;
    let token = refresh_token(&redeem(&world, &code).await.unwrap());
    assert_invalid_grant(&redeem(&world, &code).await);
    world.sessions.take_requests();
    assert_invalid_grant(&refresh(&world, &token).await);
    assert_eq!(world.sessions.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn issuers_on_one_host_leave_each_others_flows_alone() {
    let world = World::new();
    let mut other = World::new();
    other.issuer.uid = "uid-of-another-issuer".into();
    let mine = begin(&world, &[]).cookie;
    let theirs = begin(&other, &[]).cookie;
    let cookies = [(mine.name.as_str(), mine.value.as_str()), (&theirs.name, &theirs.value)];
    let surplus = claviger_domain::flow::surplus_cookies(&world.issuer, cookies, 1_767_225_600);
    assert!(surplus.is_empty(), "{surplus:?}");
}

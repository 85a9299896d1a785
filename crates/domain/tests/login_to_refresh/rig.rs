//! What the tests share: requests, sign-ins and exchanges in a world of fakes.

use claviger_domain::authorize::{self, Begun};
use claviger_domain::fakes::{REDIRECT_URI, World};
use claviger_domain::flow::Flow;
use claviger_domain::login::{self, Brought, Outcome, StepError};
use claviger_domain::token::{self, TokenError};
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use claviger_protocol::token::{TokenRequest, TokenResponse};
use secrecy::{ExposeSecret, SecretString};

/// `code_verifier` and `code_challenge` of RFC 7636 appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const SCOPE: &str = "openid email profile groups offline_access";

pub fn encode(pairs: &[(&str, &str)]) -> Params {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    Params::parse(body.as_bytes()).unwrap()
}

pub fn request(change: &[(&str, &str)]) -> Params {
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

pub fn begin(world: &World, change: &[(&str, &str)]) -> Begun {
    authorize::begin(&world.provider, &world.issuer, &request(change)).unwrap()
}

pub async fn sign_in(
    world: &World,
    flow: &Flow,
    connector: &str,
    password: &str,
) -> Result<Outcome, StepError> {
    let password = SecretString::from(password);
    let attempt = ("alice", &password);
    let arriving = (flow, Brought::default());
    let step =
        login::with_password(&world.provider, &world.issuer, arriving, connector, attempt).await;
    step.map(|step| step.outcome)
}

pub fn query(location: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(location).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub async fn code(world: &World, connector: &str) -> String {
    let flow = begin(world, &[]).flow;
    match sign_in(world, &flow, connector, "wonderland").await.unwrap() {
        Outcome::Answer(Delivery::Redirect(location)) => query(&location, "code").unwrap(),
        other => panic!("{other:?}"),
    }
}

pub fn credentials() -> ClientCredentials {
    ClientCredentials::from_parts(
        None,
        &encode(&[("client_id", "kubernetes"), ("client_secret", "s3cret")]),
    )
    .unwrap()
}

pub async fn exchange(world: &World, form: &[(&str, &str)]) -> Result<TokenResponse, TokenError> {
    let request = TokenRequest::parse(&encode(form)).unwrap();
    token::exchange(&world.provider, &world.issuer, &credentials(), request, None).await
}

pub async fn redeem(world: &World, code: &str) -> Result<TokenResponse, TokenError> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ];
    exchange(world, &form).await
}

pub async fn refresh(world: &World, token: &str) -> Result<TokenResponse, TokenError> {
    exchange(world, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

pub fn refresh_token(response: &TokenResponse) -> String {
    response.refresh_token.as_ref().unwrap().expose_secret().to_owned()
}

pub async fn logged_in(world: &World, connector: &str) -> String {
    let response = redeem(world, &code(world, connector).await).await.unwrap();
    world.sessions.take_requests();
    refresh_token(&response)
}

#[track_caller]
pub fn assert_invalid_grant(result: &Result<TokenResponse, TokenError>) {
    match result {
        Err(TokenError::Refused { code: ErrorCode::InvalidGrant, .. }) => {}
        other => panic!("expected invalid_grant, got {other:?}"),
    }
}

#[track_caller]
pub fn assert_unavailable(result: &Result<TokenResponse, TokenError>) {
    assert!(matches!(result, Err(TokenError::Unavailable { .. })), "{result:?}");
}

#[track_caller]
pub fn assert_unavailable_for(result: &Result<TokenResponse, TokenError>, seconds: u32) {
    match result {
        Err(TokenError::Unavailable { retry_after, .. }) => assert_eq!(*retry_after, seconds),
        other => panic!("expected to be told to wait, got {other:?}"),
    }
}

//! `/device/code` (RFC 8628 3.1): a device asks to be let in by somebody with a browser.
//!
//! The one place where somebody who has not signed in causes something to be stored. What always holds:
//! everything that can be refused is refused first; how many may wait is bounded for each client and for the
//! issuer, and one address's share of either, by what memory knows, and beyond that nothing is written.

use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::device::{
    DeviceAuthorizationRequest, DeviceAuthorizationResponse, UserCode,
};
use claviger_protocol::error::ErrorCode;

use crate::client::{Client, Grant};
use crate::device::{
    DeviceCode, DevicePolicy, INTERVAL_SECONDS, MAX_PAYLOAD, Request, source_mac, user_code_mac,
};
use crate::issue::IssueError;
use crate::issuer::Issuer;
use crate::ports::{NewDevice, StoreError, Waiting};
use crate::provider::Provider;
use crate::refresh_token::Binding;
use crate::resources;
use crate::scopes::{self, Judgement};
use crate::session;
use crate::token::{TokenError, authenticate, require_grant};

/// Seconds a device is told to wait where as many wait as may: some will be over by then.
const WAIT_SECONDS: u32 = 30;

/// Answers one request from a source, such as an address.
///
/// # Errors
/// [`TokenError`]; nothing was stored, unless the answer to the one write was lost: then what it left expires
/// unused.
pub async fn authorize(
    provider: &Provider,
    issuer: &Issuer,
    credentials: &ClientCredentials,
    request: &DeviceAuthorizationRequest,
    source: &str,
) -> Result<DeviceAuthorizationResponse, TokenError> {
    let client = authenticate(provider, issuer, credentials, "/device/code").await?;
    if let Some(doubt) = provider.clock.doubt() {
        return Err(TokenError::unavailable(doubt));
    }
    if !issuer.can_sign_for(client) {
        return Err(IssueError::NoSigner.into());
    }
    require_grant(issuer, client, Grant::DeviceCode)?;
    check(issuer, client, request)?;
    let now = provider.clock.now();
    let client_hash = session::object_hash(&client.uid);
    let issuer_hash = session::object_hash(&issuer.uid);
    let source_mac = source_mac(issuer, source);
    let waiting = provider.devices.waiting(&issuer_hash, &client_hash, &source_mac, now);
    check_room(issuer.devices, waiting)?;

    let name = session::name_for_device_authorization(&issuer.uid, &provider.random_id());
    let expires_at = now.saturating_add(issuer.devices.lifetime);
    let user_code = random_user_code(provider)?;
    let asked = Request { scopes: request.scope.to_string(), resources: request.resources.clone() };
    let device = NewDevice {
        issuer_hash,
        client_hash,
        client_uid: client.uid.clone(),
        client_id: client.id.clone(),
        user_code_mac: user_code_mac(issuer, &name, &user_code),
        source_mac,
        expires_at,
        payload: asked.seal(issuer, (&client.uid, &name), expires_at),
        name,
    };
    if device.payload.len() > MAX_PAYLOAD {
        let why = "the request is too long: ask for fewer scopes and resources";
        return Err(TokenError::refused(ErrorCode::InvalidRequest, why));
    }
    provider.devices.create(&device).await.map_err(|error| match error {
        StoreError::AlreadyExists => TokenError::unavailable("a name came twice"),
        error => error.into(),
    })?;
    Ok(answer(issuer, client, (device.name, expires_at), user_code))
}

fn answer(
    issuer: &Issuer,
    client: &Client,
    (name, not_after): (String, i64),
    user_code: UserCode,
) -> DeviceAuthorizationResponse {
    let binding = Binding { issuer_uid: &issuer.uid, client_uid: &client.uid };
    let page = issuer.url.join("/device");
    DeviceAuthorizationResponse {
        device_code: DeviceCode { name, not_after }.encode(&issuer.sealing, binding),
        verification_uri_complete: format!("{page}?user_code={user_code}"),
        verification_uri: page,
        user_code,
        expires_in: issuer.devices.lifetime,
        interval: INTERVAL_SECONDS,
    }
}

/// Scopes and resources, as at the authorization endpoint.
fn check(
    issuer: &Issuer,
    client: &Client,
    request: &DeviceAuthorizationRequest,
) -> Result<(), TokenError> {
    for scope in request.scope.iter() {
        if scopes::judge(issuer, client, scope) != Judgement::Granted {
            let why = format!("scope {} is not granted to this client", scope.as_str());
            return Err(TokenError::refused(ErrorCode::InvalidScope, why));
        }
    }
    resources::check(issuer, client, &request.resources)
        .map_err(|why| TokenError::refused(ErrorCode::InvalidTarget, why))
}

/// Whether one more may wait.
fn check_room(policy: DevicePolicy, waiting: Option<Waiting>) -> Result<(), TokenError> {
    let Some(waiting) = waiting else {
        return Err(TokenError::unavailable("the devices that wait are not known yet"));
    };
    let full = if waiting.of_client >= policy.per_client {
        "this client"
    } else if waiting.of_issuer >= policy.total {
        "this issuer"
    } else if waiting.of_client_and_source >= policy.per_client_and_source() {
        "this client and address"
    } else if waiting.of_source >= policy.per_source() {
        "this address"
    } else {
        return Ok(());
    };
    let reason = format!("as many devices of {full} wait for their users as may");
    Err(TokenError::Unavailable { reason, retry_after: WAIT_SECONDS })
}

fn random_user_code(provider: &Provider) -> Result<UserCode, TokenError> {
    /// Enough: of 32 bytes fewer than eight being of use is as likely as guessing a key.
    const TRIES: usize = 4;
    let mut bytes = [0; 32];
    for _ in 0..TRIES {
        provider.entropy.fill(&mut bytes);
        if let Some(code) = UserCode::from_random(&bytes) {
            return Ok(code);
        }
    }
    Err(TokenError::unavailable("no user code could be made"))
}

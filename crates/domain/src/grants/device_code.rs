//! `urn:ietf:params:oauth:grant-type:device_code` (RFC 8628 3.4): how a device's authorization stands, and once
//! its user has agreed, its tokens.
//!
//! ours and this client's · not expired · not too often · decided · the client's policy · **create**. All before the create is
//! answered from memory and costs no request. The create is the single use: the session is named by the
//! authorization, so a second redemption meets the first one's object, which is kept for as long as the code lives.

use claviger_protocol::device::DeviceAccessTokenRequest;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::token::TokenResponse;
use secrecy::ExposeSecret;

use super::authorization_code::Redemption;
use crate::SKEW_SECONDS;
use crate::client::Client;
use crate::device::{DeviceCode, DeviceCodeError, open_grant};
use crate::issuer::Issuer;
use crate::ports::DeviceState;
use crate::provider::Provider;
use crate::refresh_token::Binding;
use crate::session;
use crate::token::TokenError;

const INVALID: &str = "the device code is invalid, was used or was issued to another client";

/// Answers a poll.
///
/// # Errors
/// [`TokenError`]: `authorization_pending`, `slow_down`, `access_denied`, `expired_token`, `invalid_grant`.
pub async fn redeem(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &DeviceAccessTokenRequest,
    key: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    let now = provider.clock.now();
    let text = request.device_code.expose_secret();
    let binding = Binding { issuer_uid: &issuer.uid, client_uid: &client.uid };
    let code =
        DeviceCode::decode(text, &issuer.sealing, binding, now).map_err(|error| match error {
            DeviceCodeError::Expired => {
                refused(ErrorCode::ExpiredToken, "ask for another device code")
            }
            DeviceCodeError::Foreign => TokenError::invalid_grant(INVALID),
        })?;
    if !provider.polls.is_in_time(&code.name, (provider.clock.elapsed(), now), code.not_after) {
        let why = "wait five seconds more between two polls, from now on";
        return Err(refused(ErrorCode::SlowDown, why));
    }
    let name = session::name_for_device(&issuer.uid, &code.name);
    // Replayed before: known from memory, so that whoever goes on replaying costs no request.
    if provider.revocations.is_revoked(&name) {
        return Err(TokenError::invalid_grant(INVALID));
    }
    let pending =
        || refused(ErrorCode::AuthorizationPending, "the user has not decided yet: go on polling");
    // One that is not known may have been made at another replica a moment ago.
    let device = provider.devices.find(&code.name).ok_or_else(pending)?;
    match device.state {
        DeviceState::Pending => return Err(pending()),
        DeviceState::Denied => return Err(refused(ErrorCode::AccessDenied, "the user refused")),
        DeviceState::Approved => {}
    }
    let grant = open_grant(issuer, &device, now).map_err(|_| TokenError::invalid_grant(INVALID))?;
    let redemption = Redemption {
        resources: &request.resources,
        key,
        race_seconds: client.lifetimes.refresh_grace,
        outlives: code.not_after.saturating_add(SKEW_SECONDS),
        ..Redemption::of((provider, issuer, client), (name, text, INVALID), now)
    };
    redemption.create(&grant).await
}

fn refused(code: ErrorCode, why: &str) -> TokenError {
    TokenError::refused(code, why)
}

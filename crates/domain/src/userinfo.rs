//! `/userinfo`: answered from the access token and memory alone (OIDC Core 5.3).

use thiserror::Error;

use crate::access_token::{AccessToken, AccessTokenError, UserClaims};
use crate::client::Client;
use crate::issuer::{ClientEntry, Issuer};
use crate::provider::Provider;

/// Why an access token answers nothing. On the wire all are `invalid_token` (RFC 6750 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UserinfoError {
    /// Not one of this issuer's live access tokens.
    #[error("access token is not valid here: {0}")]
    Invalid(#[from] AccessTokenError),
    /// It is for other resources alone.
    #[error(
        "access token is for another resource: ask for this one too, by the resource parameter"
    )]
    OtherResource,
    /// The session it belongs to was revoked.
    #[error("session was revoked")]
    Revoked,
    /// The client it was given to is gone.
    #[error("client no longer exists")]
    ClientGone,
}

/// What the bearer of this access token may know.
///
/// # Errors
/// [`UserinfoError`].
pub fn answer(
    provider: &Provider,
    issuer: &Issuer,
    access_token: &str,
) -> Result<UserClaims, UserinfoError> {
    let token = AccessToken::open(issuer, access_token, provider.clock.now())?;
    if !token.audience.contains(&issuer.userinfo_endpoint()) {
        return Err(UserinfoError::OtherResource);
    }
    if token.session.as_deref().is_some_and(|session| provider.revocations.is_revoked(session)) {
        return Err(UserinfoError::Revoked);
    }
    match issuer.client(&token.client_id) {
        Some(ClientEntry::InService(client)) if is_same(client, &token) => Ok(token.claims),
        _ => Err(UserinfoError::ClientGone),
    }
}

fn is_same(client: &Client, token: &AccessToken) -> bool {
    client.uid == token.client_uid
}

//! Token revocation (RFC 7009): a client ends what it was given.
//!
//! Whichever token of a session it presents, the whole family ends: the session becomes a tombstone, its
//! refresh tokens are refused, its access tokens die by the watched tombstones. What is not this client's
//! is not touched, and the answer does not tell.

use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::revoke::RevocationRequest;
use secrecy::ExposeSecret;

use crate::client::Client;
use crate::issuer::Issuer;
use crate::ports::{AuditEvent, RevocationReason};
use crate::presented_token::PresentedToken;
use crate::provider::Provider;
use crate::token::{TokenError, authenticate};

/// Ends the session of a token. Done as well when there is nothing to end: a token that is unknown,
/// expired, revoked or another client's costs no API request (RFC 7009 2.2).
///
/// # Errors
/// `invalid_client`; `unsupported_token_type` for a token without a session; or [`TokenError::Unavailable`]: the token still lives, the same request may
/// succeed later (RFC 7009 2.2.1).
pub async fn revoke(
    provider: &Provider,
    issuer: &Issuer,
    credentials: &ClientCredentials,
    request: &RevocationRequest,
) -> Result<(), TokenError> {
    let client = authenticate(provider, issuer, credentials, "/token/revoke").await?;
    let now = provider.clock.now();
    let presented = PresentedToken::read(issuer, client, request.token.expose_secret(), now);
    let session = match presented.map(|token| session_of(client, token)) {
        Some(Ok(session)) => session,
        Some(Err(NotTouched::Foreign)) | None => return Ok(()),
        Some(Err(NotTouched::WithoutSession)) => {
            return Err(TokenError::refused(
                ErrorCode::UnsupportedTokenType,
                "a token by client_credentials belongs to no session and ends by its time",
            ));
        }
    };
    if provider.revocations.is_revoked(&session) {
        return Ok(());
    }
    if let Some(doubt) = provider.clock.doubt() {
        return Err(TokenError::unavailable(doubt)); // a tombstone is dated
    }
    let reason = RevocationReason::TokenRevoked;
    provider.sessions.revoke(&session, reason, now).await?;
    provider.audit.record(&AuditEvent::SessionRevoked {
        session: &session,
        client: &client.id,
        reason,
    });
    Ok(())
}

/// Why a live token ends no session.
enum NotTouched {
    /// It is another client's.
    Foreign,
    /// It is about the client itself.
    WithoutSession,
}

/// The session of a token that is this client's own.
fn session_of(client: &Client, token: PresentedToken) -> Result<String, NotTouched> {
    match token {
        PresentedToken::Access(token) if token.client_uid != client.uid => Err(NotTouched::Foreign),
        PresentedToken::Access(token) => token.session.ok_or(NotTouched::WithoutSession),
        PresentedToken::Refresh(token) => Ok(token.session),
    }
}

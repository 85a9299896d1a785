//! The provider's own word that a user has signed out there (OpenID Connect Back-Channel Logout 1.0 2.4, 2.6).
//!
//! What always holds: a logout token is believed for its signature by an asymmetric key of the provider, its issuer, audience,
//! times and its one event; what has a nonce is an ID token, and none.

use async_trait::async_trait;
use claviger_domain::upstream_logout::{LogoutNotices, NoticeError, SignedOutThere};
use claviger_jose::{Claims, VerifyError};
use claviger_protocol::logout_token::LOGOUT_TOKEN_TYPE;
use serde_json::Value;

use super::signed::SignedError;
use super::{MAX_SID, Provider};

/// What happened.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Longest ago that one may have been made, in seconds, however long it says it lives: it should live two minutes (2.4).
const MAX_AGE: i64 = 600;
/// Longest `sub` (OIDC Core 2).
const MAX_SUB: usize = 255;

#[async_trait]
impl LogoutNotices for Provider {
    async fn read(&self, logout_token: &str, now: i64) -> Result<SignedOutThere, NoticeError> {
        if self.spec.claims.user_id != "sub" {
            let why = "this connector knows users by another claim than sub (claims.userID)";
            return Err(refused("UnknownUser", why));
        }
        let typed = self.notice(logout_token, Some(LOGOUT_TOKEN_TYPE), now).await;
        // Providers older than the type say JWT, or nothing.
        let claims = match typed {
            Err(SignedError::Refused(VerifyError::Type)) => {
                self.notice(logout_token, None, now).await
            }
            typed => typed,
        };
        read(&claims.map_err(disbelief)?, now)
    }
}

impl Provider {
    async fn notice(
        &self,
        token: &str,
        typ: Option<&str>,
        now: i64,
    ) -> Result<Claims, SignedError> {
        self.believed(token, (Some(&self.spec.client_id), typ), now).await
    }
}

/// What a token says whose signature, issuer, audience and expiry are good.
fn read(claims: &Claims, now: i64) -> Result<SignedOutThere, NoticeError> {
    let text = |name: &str, longest: usize| {
        let text = claims.get(name)?.as_str()?;
        (!text.is_empty() && text.len() <= longest).then(|| text.to_owned())
    };
    let event = claims.get("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(refused("NoLogoutEvent", "events does not say that a user has signed out"));
    }
    if claims.contains_key("nonce") {
        return Err(refused("NotALogoutToken", "it has a nonce: that is an ID token's"));
    }
    let at = claims.get("iat").and_then(Value::as_i64);
    let at = at.filter(|at| now.saturating_sub(*at) <= MAX_AGE);
    let at = at.ok_or_else(|| refused("WrongTime", "iat is too long ago"))?;
    if text("jti", usize::MAX).is_none() {
        return Err(refused("NoJTI", "it has no jti"));
    }
    let sid = text("sid", MAX_SID);
    if sid.is_none() && claims.contains_key("sid") {
        return Err(refused("WrongSID", "sid is no text, or too long"));
    }
    let why = "it says no sub: let the provider say it, sessions are not known by sid alone";
    let user_id = text("sub", MAX_SUB).ok_or_else(|| refused("NoSubject", why))?;
    Ok(SignedOutThere { user_id, sids: sid.into_iter().collect(), at })
}

fn refused(reason: &'static str, message: &str) -> NoticeError {
    NoticeError::Refused { reason, message: message.to_owned() }
}

fn disbelief(error: SignedError) -> NoticeError {
    let error = match error {
        SignedError::Refused(error) => error,
        unsettled => return NoticeError::Unavailable(unsettled.to_string()),
    };
    let reason = match error {
        VerifyError::Issuer => "WrongIssuer",
        VerifyError::Audience => "WrongAudience",
        VerifyError::Expired | VerifyError::NotYetValid => "WrongTime",
        VerifyError::UnknownKey | VerifyError::Signature | VerifyError::Algorithm => {
            "WrongSignature"
        }
        VerifyError::Type => "NotALogoutToken",
        _ => "Malformed",
    };
    refused(reason, &error.to_string())
}

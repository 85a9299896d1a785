//! The mint's logout tokens (Back-Channel Logout 1.0 2.4): that a session is over, for the client that had it.
//!
//! What always holds: it has the type `logout+jwt`, lives two minutes, and names a user only to a client that asked
//! for that, past the same refusal of `system:` as every other token. Its `jti` is that of the session that ended:
//! however often, and by whichever replica, the same end is told, it is the same.

use claviger_protocol::claims::Audience;
use claviger_protocol::logout_token::{LOGOUT_TOKEN_TYPE, LogoutEvents, LogoutTokenClaims};

use crate::access_token::UserClaims;
use crate::client::Client;
use crate::issue::{self, IssueError};
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::session;

/// How long one is good, in seconds: it is made for one delivery, and made anew for the next (2.4: at most two
/// minutes).
pub const LOGOUT_TOKEN_SECONDS: i64 = 120;

/// A session that is over, as its client knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Over<'a> {
    /// Name of the client's stored session.
    pub session: &'a str,
    /// Hash of the browser session: `sid`.
    pub sid: &'a str,
    /// `sub`, if the client is to know.
    pub sub: Option<&'a str>,
}

/// Makes a logout token, with the algorithm of the client's ID tokens (2.4).
///
/// # Errors
/// [`IssueError`].
pub(crate) fn logout_token(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    over: Over<'_>,
) -> Result<String, IssueError> {
    if let Some(sub) = over.sub {
        issue::refuse_reserved(
            issuer,
            &UserClaims { sub: sub.to_owned(), ..UserClaims::default() },
        )?;
    }
    let now = provider.clock.now();
    let claims = LogoutTokenClaims {
        iss: issuer.url.as_str().to_owned(),
        aud: Audience::One(client.id.clone()),
        iat: now,
        exp: now + LOGOUT_TOKEN_SECONDS,
        jti: session::name_for_logout(&issuer.uid, over.session),
        events: LogoutEvents::default(),
        sub: over.sub.map(str::to_owned),
        sid: Some(over.sid.to_owned()),
    };
    Ok(issue::signer(issuer, client)?.sign(Some(LOGOUT_TOKEN_TYPE), &claims)?)
}

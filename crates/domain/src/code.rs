//! Authorization codes: the grant itself, sealed; nothing is stored until one is redeemed.
//!
//! A grant whose code would grow beyond [`MAX_CODE_LENGTH`] (many groups) waits in a Pending session
//! instead, and the code is a sealed handle to it. Everything checked before the single use (client,
//! redirect URI, PKCE) is in the code itself either way.

use aws_lc_rs::digest;
use claviger_protocol::pkce::CodeChallenge;
use claviger_seal::{Context, OpenError, Purpose};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::authentication::Authentication;
use crate::browser_session;
use crate::claim::RequestedClaims;
use crate::identity::Identity;
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::session::{self, UpstreamState};
use crate::trip::ANSWER_SECONDS;

/// Lifetime of a code in seconds (RFC 6749 4.1.2 recommends at most 600).
pub const CODE_SECONDS: i64 = 60;
/// Longest code sent through a browser, in characters: addresses beyond 4 `KiB` meet proxies that cut them.
pub const MAX_CODE_LENGTH: usize = 3_072;

/// What a code says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// The authorization flow that ended in this code; names the session.
    #[serde(rename = "f")]
    pub flow_id: String,
    /// UID of the client it was given to.
    #[serde(rename = "c")]
    pub client_uid: String,
    /// Name of the session, where it is not the flow that names it.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// `redirect_uri` of the authorization request.
    #[serde(rename = "r")]
    pub redirect_uri: String,
    /// `code_challenge` of the authorization request.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<CodeChallenge>,
    /// Thumbprint of the key it is bound to (`dpop_jkt`, RFC 9449 10).
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The grant, or `None` where it waits in a Pending session.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<LoginGrant>,
}

/// What a user's sign-in and consent granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginGrant {
    /// The user, after policy.
    #[serde(rename = "i")]
    pub identity: Identity,
    /// What is needed to ask the upstream again.
    #[serde(rename = "u")]
    pub upstream: UpstreamState,
    /// Granted scopes, space-separated.
    #[serde(rename = "s")]
    pub scopes: String,
    /// `nonce` of the authorization request.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// When and how the user signed in.
    #[serde(rename = "t")]
    pub authentication: Authentication,
    /// Claims asked for by name.
    #[serde(rename = "q", default, skip_serializing_if = "RequestedClaims::is_empty")]
    pub asked: RequestedClaims,
    /// Resources the access tokens are for; none means `/userinfo`.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Name of the browser session it came of: over, and so is the grant.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// Name of the session that it may become, where an upstream's answer names it that is good once.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl LoginGrant {
    /// Name of the session that it becomes: creating that is its single use.
    pub fn session_name(&self, issuer: &Issuer, flow_id: &str) -> String {
        session_name(issuer, flow_id, self.session.as_deref())
    }

    /// The session is kept at least until then, whatever it gives out: while the upstream's answer could come back, the
    /// object is what says that it was used.
    pub fn outlives(&self, now: i64) -> i64 {
        outlives(self.session.as_deref(), now)
    }

    /// What tokens and sessions say of the browser session.
    pub fn sid(&self) -> Option<String> {
        self.browser.as_deref().map(browser_session::hash_of)
    }

    /// Whether its user has signed out since, as memory knows it.
    pub(crate) fn is_over(&self, provider: &Provider) -> bool {
        self.browser.as_deref().is_some_and(|name| provider.revocations.is_revoked(name))
    }
}

impl Code {
    /// Name of the session that it becomes: creating that is its single use.
    pub fn session_name(&self, issuer: &Issuer) -> String {
        session_name(issuer, &self.flow_id, self.session.as_deref())
    }

    /// As [`LoginGrant::outlives`].
    pub fn outlives(&self, now: i64) -> i64 {
        outlives(self.session.as_deref(), now)
    }

    /// The code's text, good for [`CODE_SECONDS`]; base64url characters only, 43 or more.
    pub fn seal(&self, issuer: &Issuer, now: i64) -> String {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        issuer.sealing.seal(Purpose::Code, &context(issuer), now + CODE_SECONDS, &plain)
    }

    /// Reads a code.
    ///
    /// # Errors
    /// [`OpenError`]: not ours, not this issuer's, or past its time.
    pub fn open(issuer: &Issuer, text: &str, now: i64) -> Result<Self, OpenError> {
        let plain = issuer.sealing.open(Purpose::Code, &context(issuer), now, text)?;
        serde_json::from_slice(&plain).map_err(|_| OpenError::Malformed)
    }
}

/// 128 bits: nobody finds another code that a session would take for its own.
const DIGEST_BYTES: usize = 16;

/// The beginning of SHA-256 of a code's text, base64url: what a session remembers of the code that made it.
pub fn digest_of(code: &str) -> String {
    let hash = digest::digest(&digest::SHA256, code.as_bytes());
    BASE64URL_NOPAD.encode(&hash.as_ref()[..DIGEST_BYTES])
}

fn session_name(issuer: &Issuer, flow_id: &str, of_answer: Option<&str>) -> String {
    of_answer.map_or_else(|| session::name_for_flow(&issuer.uid, flow_id), str::to_owned)
}

/// An answer that is shown to us now may be shown again this long.
fn outlives(of_answer: Option<&str>, now: i64) -> i64 {
    of_answer.map_or(now, |_| now + ANSWER_SECONDS + 2 * crate::SKEW_SECONDS)
}

fn context(issuer: &Issuer) -> Context<'_> {
    Context { issuer_uid: &issuer.uid, object_name: None, client_uid: None }
}

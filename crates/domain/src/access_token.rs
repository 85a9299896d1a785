//! Access tokens are opaque: they carry, sealed, what `/userinfo` answers.
//!
//! No API server can mistake one for an ID token, and `/userinfo` needs no request to answer it.

use claviger_protocol::claims::FederatedClaims;
use claviger_seal::{Context, OpenError, Purpose};
use serde::{Deserialize, Serialize};

use crate::issuer::Issuer;

const PREFIX: &str = "clv_at_";

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// Session it belongs to.
    #[serde(rename = "s")]
    pub session: String,
    /// `client_id` of the client it was given to.
    #[serde(rename = "c")]
    pub client_id: String,
    /// UID of that client: a re-created name inherits nothing.
    #[serde(rename = "u")]
    pub client_uid: String,
    /// What it reveals.
    #[serde(rename = "k")]
    pub claims: UserClaims,
}

/// Claims about the user, as far as the granted scopes reveal them (OIDC Core 5.3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserClaims {
    /// `sub`.
    pub sub: String,
    /// With scope `email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// With scope `email`; a JSON boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    /// With scope `groups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// With scope `profile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With scope `profile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// With scope `federated:id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federated_claims: Option<FederatedClaims>,
}

impl AccessToken {
    /// The token's text, good until `not_after`.
    pub fn seal(&self, issuer: &Issuer, not_after: i64) -> String {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        let sealed = issuer.sealing.seal(Purpose::AccessToken, &context(issuer), not_after, &plain);
        format!("{PREFIX}{sealed}")
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`OpenError`]: not ours, not this issuer's, or past its time.
    pub fn open(issuer: &Issuer, text: &str, now: i64) -> Result<Self, OpenError> {
        let sealed = text.strip_prefix(PREFIX).ok_or(OpenError::Malformed)?;
        let plain = issuer.sealing.open(Purpose::AccessToken, &context(issuer), now, sealed)?;
        serde_json::from_slice(&plain).map_err(|_| OpenError::Malformed)
    }
}

fn context(issuer: &Issuer) -> Context<'_> {
    Context { issuer_uid: &issuer.uid, object_name: None, client_uid: None }
}

//! The claims about a user: which there are, which scope reveals each, and which a request asked for by
//! name (OIDC Core 5.1, 5.4, 5.5).

use claviger_protocol::claims_request::ClaimsRequest;
use claviger_protocol::scope::ScopeSet;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::issuer::Issuer;

/// Every claim about a user, with the scope that reveals it. What is not here is no claim about a user.
pub const CLAIMS: [(&str, &str); 22] = [
    ("email", "email"),
    ("email_verified", "email"),
    ("groups", "groups"),
    ("name", "profile"),
    ("preferred_username", "profile"),
    ("given_name", "profile"),
    ("family_name", "profile"),
    ("middle_name", "profile"),
    ("nickname", "profile"),
    ("profile", "profile"),
    ("picture", "profile"),
    ("website", "profile"),
    ("gender", "profile"),
    ("birthdate", "profile"),
    ("zoneinfo", "profile"),
    ("locale", "profile"),
    ("updated_at", "profile"),
    ("address", "address"),
    ("phone_number", "phone"),
    ("phone_number_verified", "phone"),
    ("federated_claims", "federated:id"),
    ("sub", "openid"),
];

/// Claims of tokens themselves (RFC 7519, 7800, 8693, 9068; OIDC Core 2; logout), and our own.
const OF_TOKENS: [&str; 24] = [
    "iss",
    "sub",
    "aud",
    "azp",
    "exp",
    "iat",
    "nbf",
    "jti",
    "auth_time",
    "nonce",
    "acr",
    "amr",
    "sid",
    "at_hash",
    "c_hash",
    "s_hash",
    "act",
    "may_act",
    "cnf",
    "client_id",
    "scope",
    "events",
    "active",
    "clv",
];

/// Whether a claim has a meaning of its own, so that nobody may state it of a client.
pub fn is_reserved(claim: &str) -> bool {
    OF_TOKENS.contains(&claim) || scope_of(claim).is_some()
}

/// The scope that reveals a claim.
pub fn scope_of(claim: &str) -> Option<&'static str> {
    CLAIMS.iter().find(|(name, _)| *name == claim).map(|(_, scope)| *scope)
}

/// Claims that a request asked for by name, by the place they are wanted in: those its client may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedClaims {
    /// In the ID token.
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub id_token: Vec<String>,
    /// At `/userinfo`.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    pub userinfo: Vec<String>,
}

impl RequestedClaims {
    /// What of a request concerns the user and is this client's to know: the claims of the scopes it may ask
    /// for. All others are left out, as OIDC Core 5.5.1 wants it, essential or not.
    pub fn of(issuer: &Issuer, request: &ClaimsRequest, client: &Client) -> Self {
        let known = |claim: &&String| {
            issuer
                .scope_of(claim)
                .is_some_and(|scope| client.scopes.contains(scope) && *claim != "sub")
        };
        Self {
            id_token: request.id_token.keys().filter(known).cloned().collect(),
            userinfo: request.userinfo.keys().filter(known).cloned().collect(),
        }
    }

    /// What of it the client may still have, by the configuration of this moment.
    #[must_use]
    pub fn still_granted(&self, issuer: &Issuer, client: &Client) -> Self {
        let granted = |claims: &[String]| {
            let may =
                |claim: &&String| issuer.scope_of(claim).is_some_and(|s| client.scopes.contains(s));
            claims.iter().filter(may).cloned().collect()
        };
        Self { id_token: granted(&self.id_token), userinfo: granted(&self.userinfo) }
    }

    /// Whether nothing was asked for by name.
    pub fn is_empty(&self) -> bool {
        self.id_token.is_empty() && self.userinfo.is_empty()
    }
}

/// What one place reveals.
#[derive(Debug, Clone, Copy)]
pub struct Reveal<'a> {
    /// Where.
    pub issuer: &'a Issuer,
    /// Granted scopes.
    pub scopes: &'a ScopeSet,
    /// Claims asked for by name.
    pub asked: &'a [String],
}

impl Reveal<'_> {
    /// Whether it reveals this claim.
    pub fn shows(self, claim: &str) -> bool {
        self.issuer.scope_of(claim).is_some_and(|scope| self.scopes.contains(scope))
            || self.asked.iter().any(|asked| asked == claim)
    }
}

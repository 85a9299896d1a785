//! Claims of an ID token (OIDC Core 2 and 5.1), as JSON carries them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `aud`: a string if there is one, else a list (RFC 7519 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One audience.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    /// Whether this is among them.
    pub fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(only) => only == audience,
            Self::Many(several) => several.iter().any(|one| one == audience),
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(several) => several,
        }
    }
}

impl From<Vec<String>> for Audience {
    fn from(mut audiences: Vec<String>) -> Self {
        match (audiences.pop(), audiences.is_empty()) {
            (Some(only), true) => Self::One(only),
            (Some(last), false) => {
                audiences.push(last);
                Self::Many(audiences)
            }
            (None, _) => Self::Many(audiences),
        }
    }
}

/// dex's `federated_claims`, on scope `federated:id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederatedClaims {
    /// Connector the user signed in with.
    pub connector_id: String,
    /// The user's identifier there.
    pub user_id: String,
}

/// Claims of an ID token, in the order they are written. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdTokenClaims {
    /// Issuer, byte for byte.
    pub iss: String,
    /// Subject.
    pub sub: String,
    /// Audience.
    pub aud: Audience,
    /// Client it was issued to, where there are several audiences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azp: Option<String>,
    /// Expiry.
    pub exp: i64,
    /// Time of issue.
    pub iat: i64,
    /// Unique ID; a kube-apiserver writes it to its audit log.
    pub jti: String,
    /// When the user signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// How strongly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// By which methods (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// `nonce` of the authorization request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The sign-in this belongs to (OIDC Front-Channel Logout 3): the same in every ID token of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Left half of the access token's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_hash: Option<String>,
    /// Left half of the code's hash, in an ID token that comes with one (OIDC Core 3.3.2.11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c_hash: Option<String>,
    /// Left half of the hash of `state`, in an ID token that the browser carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s_hash: Option<String>,
    /// Mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the upstream vouches for it: a JSON boolean, as an API server insists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    /// Groups: always a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// Where the user came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federated_claims: Option<FederatedClaims>,
    /// All others, by name.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The key a token is bound to (RFC 7800 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Its RFC 7638 thumbprint.
    pub jkt: String,
}

/// Claims of an access token (RFC 9068 2.2), in the order they are written. Times are seconds since the
/// Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenClaims {
    /// Issuer, byte for byte.
    pub iss: String,
    /// Subject: the user, or the client itself where there is none.
    pub sub: String,
    /// The resources it is for; never a client ID.
    pub aud: Audience,
    /// Client it was issued to.
    pub client_id: String,
    /// Expiry.
    pub exp: i64,
    /// Time of issue.
    pub iat: i64,
    /// Unique ID.
    pub jti: String,
    /// Granted scopes, space-separated (RFC 8693 4.2).
    pub scope: String,
    /// When the user signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// How strongly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// By which methods (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// The key it is bound to (RFC 9449 6.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// What the provider answers its bearer, sealed for the provider alone.
    #[serde(rename = "clv")]
    pub sealed: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_audience_is_a_string_and_several_are_a_list() {
        let json = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            serde_json::to_string(&Audience::from(ids)).unwrap()
        };
        assert_eq!(json(&["a"]), r#""a""#);
        assert_eq!(json(&["a", "b"]), r#"["a","b"]"#);
    }
}

//! Scopes this provider gives a meaning to.
//!
//! `audience:server:client_id:<peer>` is not among them: the peer's `trustedPeers` decides it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A scope a client may be allowed to ask for.
// Closed on purpose: a misspelt scope is refused at apply, not at the first sign-in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Scope {
    /// OpenID Connect itself: without it there is no ID token.
    #[serde(rename = "openid")]
    OpenId,
    /// `email`, `email_verified`.
    #[serde(rename = "email")]
    Email,
    /// `name`, `preferred_username`, `given_name` and the like.
    #[serde(rename = "profile")]
    Profile,
    /// `groups`.
    #[serde(rename = "groups")]
    Groups,
    /// A refresh token.
    #[serde(rename = "offline_access")]
    OfflineAccess,
    /// `address`.
    #[serde(rename = "address")]
    Address,
    /// `phone_number`, `phone_number_verified`.
    #[serde(rename = "phone")]
    Phone,
    /// `federated_claims`: connector and user ID there, as dex has it.
    #[serde(rename = "federated:id")]
    FederatedId,
}

impl Scope {
    /// The scope on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenId => "openid",
            Self::Email => "email",
            Self::Profile => "profile",
            Self::Groups => "groups",
            Self::OfflineAccess => "offline_access",
            Self::Address => "address",
            Self::Phone => "phone",
            Self::FederatedId => "federated:id",
        }
    }

    /// Every scope there is.
    pub const ALL: [Self; 8] = [
        Self::OpenId,
        Self::Email,
        Self::Profile,
        Self::Groups,
        Self::OfflineAccess,
        Self::Address,
        Self::Phone,
        Self::FederatedId,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_word_is_the_yaml_word() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
    }
}

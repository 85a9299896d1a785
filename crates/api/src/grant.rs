//! OAuth 2.0 grant types, in the words of RFC 6749 and RFC 7591.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A grant type, as RFC 7591 section 2 spells it.
// A new grant is one more variant; widening an enum is an additive change.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// RFC 6749 section 4.1.
    AuthorizationCode,
    /// RFC 6749 section 6.
    RefreshToken,
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 8693.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
    /// RFC 8628.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code")]
    DeviceCode,
    /// RFC 7523 section 2.1.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:jwt-bearer")]
    JwtBearer,
    /// RFC 6749 section 4.3.
    Password,
}

impl Grant {
    /// `grant_type` on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::Password => "password",
        }
    }

    /// What issuers offer and clients use unless they say otherwise; it never grows.
    pub(crate) fn standard() -> Vec<Self> {
        vec![Self::AuthorizationCode, Self::RefreshToken]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_word_is_the_yaml_word() {
        for grant in [
            Grant::AuthorizationCode,
            Grant::RefreshToken,
            Grant::ClientCredentials,
            Grant::TokenExchange,
            Grant::DeviceCode,
            Grant::JwtBearer,
            Grant::Password,
        ] {
            assert_eq!(serde_json::to_value(grant).unwrap(), grant.as_str());
        }
    }
}

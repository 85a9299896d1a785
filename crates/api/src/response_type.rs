//! Response types of the authorization endpoint, in the words of OAuth 2.0 Multiple Response Types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the authorization endpoint itself may give.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ResponseType {
    /// A code, to be exchanged for tokens: what every application should use.
    #[serde(rename = "code")]
    Code,
    /// An ID token, through the browser.
    #[serde(rename = "id_token")]
    IdToken,
    /// An ID token and an access token, through the browser.
    #[serde(rename = "id_token token")]
    IdTokenToken,
    /// A code, and an ID token through the browser.
    #[serde(rename = "code id_token")]
    CodeIdToken,
    /// A code, and an access token through the browser.
    #[serde(rename = "code token")]
    CodeToken,
    /// All three.
    #[serde(rename = "code id_token token")]
    CodeIdTokenToken,
}

impl ResponseType {
    /// Every response type there is.
    pub const ALL: [Self; 6] = [
        Self::Code,
        Self::IdToken,
        Self::IdTokenToken,
        Self::CodeIdToken,
        Self::CodeToken,
        Self::CodeIdTokenToken,
    ];

    /// `response_type` on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::IdToken => "id_token",
            Self::IdTokenToken => "id_token token",
            Self::CodeIdToken => "code id_token",
            Self::CodeToken => "code token",
            Self::CodeIdTokenToken => "code id_token token",
        }
    }

    /// What issuers offer and clients use unless they say more.
    pub(crate) fn code() -> Vec<Self> {
        vec![Self::Code]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_word_is_the_yaml_word() {
        for response_type in ResponseType::ALL {
            assert_eq!(serde_json::to_value(response_type).unwrap(), response_type.as_str());
        }
    }
}

//! A logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4): that a session is over, as the provider tells it.

use serde::{Deserialize, Serialize};

use crate::claims::Audience;
use crate::error::ErrorResponse;
use crate::form::Params;

/// `typ` of its header (2.4): no ID token and no access token has it, so none is taken for the other.
pub const LOGOUT_TOKEN_TYPE: &str = "logout+jwt";

/// The form parameter it travels in (2.5).
pub const LOGOUT_TOKEN: &str = "logout_token";

/// Longest one that is taken, in bytes.
const MAX_LOGOUT_TOKEN: usize = 16 * 1024;

/// The logout token of a request to us (2.5).
///
/// # Errors
/// `invalid_request` where there is none, or it is too long.
pub fn presented(params: &Params) -> Result<String, ErrorResponse> {
    params.required(LOGOUT_TOKEN, MAX_LOGOUT_TOKEN)
}

/// Its claims. It never has a `nonce` (2.4): what has one is an ID token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoutTokenClaims {
    /// The issuer, byte for byte.
    pub iss: String,
    /// The client that is told.
    pub aud: Audience,
    /// When it was made.
    pub iat: i64,
    /// When it is worth nothing any more.
    pub exp: i64,
    /// The same however often the same end is told.
    pub jti: String,
    /// What happened: [`LogoutEvents`].
    pub events: LogoutEvents,
    /// Whose session it was, for clients that know users alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Which session it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

/// The one event that makes it a logout token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoutEvents {
    /// An empty object, as 2.4 wants it.
    #[serde(rename = "http://schemas.openid.net/event/backchannel-logout")]
    pub back_channel_logout: Empty,
}

/// `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_the_specification_wants_and_nothing_that_makes_it_an_id_token() {
        let claims = LogoutTokenClaims {
            iss: "https://id.example.org".into(),
            aud: Audience::One("web".into()),
            iat: 1,
            exp: 121,
            jti: "j".into(),
            events: LogoutEvents::default(),
            sub: None,
            sid: Some("s".into()),
        };
        let json = serde_json::to_value(&claims).unwrap();
        let expected = serde_json::json!({
            "iss": "https://id.example.org", "aud": "web", "iat": 1, "exp": 121, "jti": "j", "sid": "s",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        assert_eq!(json, expected);
    }
}

//! Token introspection (RFC 7662): the request and its answer.

use secrecy::SecretString;
use serde::Serialize;

use crate::claims::{Audience, Confirmation};
use crate::error::ErrorResponse;
use crate::form::Params;

/// A request at the introspection endpoint (RFC 7662 2.1).
///
/// `token_type_hint` is not kept: our tokens tell by their form what they are.
#[derive(Debug)]
pub struct IntrospectionRequest {
    /// The token, of any length: one that is not ours is not active.
    pub token: SecretString,
}

impl IntrospectionRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_request` without a token.
    pub fn parse(params: &Params) -> Result<Self, ErrorResponse> {
        Ok(Self { token: SecretString::from(params.required("token", usize::MAX)?) })
    }
}

/// The answer (RFC 7662 2.2). An inactive token has no other member: whether it never was, is over or
/// is none of the caller's business looks the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IntrospectionResponse {
    active: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    token: Option<ActiveToken>,
}

/// What is said of an active token. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveToken {
    /// Which of the two it is; the member is dex's.
    pub token_use: TokenUse,
    /// `Bearer` or `DPoP`, of an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_type: Option<&'static str>,
    /// Granted scopes, space-separated.
    pub scope: String,
    /// Client it was given to.
    pub client_id: String,
    /// What a person would call the user, as far as the token's scopes reveal it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Issuer, byte for byte.
    pub iss: String,
    /// Subject.
    pub sub: String,
    /// Audience, where the token has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Expiry.
    pub exp: i64,
    /// Time of issue.
    pub iat: i64,
    /// Unique ID, of an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The key it is bound to (RFC 9449 6.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// When the user signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenUse {
    /// For resource servers and `/userinfo`.
    AccessToken,
    /// For the token endpoint.
    RefreshToken,
}

impl IntrospectionResponse {
    /// The one answer for all that is not active, or not for this caller.
    pub fn inactive() -> Self {
        Self { active: false, token: None }
    }

    /// An active token.
    pub fn active(token: ActiveToken) -> Self {
        Self { active: true, token: Some(token) }
    }

    /// The token, if it is active.
    pub fn token(&self) -> Option<&ActiveToken> {
        self.token.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inactive_token_has_no_other_member() {
        let json = serde_json::to_string(&IntrospectionResponse::inactive()).unwrap();
        assert_eq!(json, r#"{"active":false}"#);
    }

    #[test]
    fn absent_members_are_left_out() {
        let token = ActiveToken {
            token_use: TokenUse::RefreshToken,
            token_type: None,
            scope: "openid".into(),
            client_id: "web".into(),
            username: None,
            iss: "https://id.example.org".into(),
            sub: "s".into(),
            aud: None,
            exp: 2,
            iat: 1,
            jti: None,
            cnf: None,
            auth_time: Some(1),
        };
        let json = serde_json::to_string(&IntrospectionResponse::active(token)).unwrap();
        assert_eq!(
            json,
            r#"{"active":true,"token_use":"refresh_token","scope":"openid","client_id":"web","iss":"https://id.example.org","sub":"s","exp":2,"iat":1,"auth_time":1}"#
        );
    }

    #[test]
    fn a_request_needs_a_token() {
        let parse = |body: &[u8]| IntrospectionRequest::parse(&Params::parse(body).unwrap());
        assert!(parse(b"token=t&token_type_hint=made_up").is_ok());
        assert!(parse(b"token_type_hint=access_token").is_err());
    }
}

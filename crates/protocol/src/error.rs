//! Error codes and their wire form (RFC 6749 4.1.2.1 and 5.2, OIDC Core 3.1.2.6, RFC 6750 3.1).

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An error code as registered for OAuth 2.0 and OpenID Connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A parameter is missing, repeated or malformed.
    InvalidRequest,
    /// Client authentication failed.
    InvalidClient,
    /// Code or refresh token is invalid, expired, revoked or another client's.
    InvalidGrant,
    /// The client may not use this grant or response type.
    UnauthorizedClient,
    /// The grant type is not implemented or not offered.
    UnsupportedGrantType,
    /// The response type is not implemented.
    UnsupportedResponseType,
    /// A scope is unknown, malformed or exceeds what may be granted.
    InvalidScope,
    /// The user or the provider's policy refused.
    AccessDenied,
    /// Something unexpected went wrong here.
    ServerError,
    /// The same request may succeed later.
    TemporarilyUnavailable,
    /// `prompt=none`, but the user would have to be asked something.
    InteractionRequired,
    /// `prompt=none`, but the user is not signed in.
    LoginRequired,
    /// `prompt=none`, but the user has not consented.
    ConsentRequired,
    /// `prompt=none`, but the user would have to choose an account.
    AccountSelectionRequired,
    /// The `request` parameter is not supported.
    RequestNotSupported,
    /// The `request_uri` parameter is not supported.
    RequestUriNotSupported,
    /// `request_uri` is expired, or none of ours (RFC 9101 7).
    InvalidRequestUri,
    /// `request` is no valid request object (RFC 9101 7).
    InvalidRequestObject,
    /// `DPoP` is no proof of possession for this request (RFC 9449 5).
    InvalidDpopProof,
    /// The proof needs the nonce that comes with this answer (RFC 9449 8).
    UseDpopNonce,
    /// The `registration` parameter is not supported.
    RegistrationNotSupported,
    /// The user cannot be authenticated the way the request insists on (OpenID Connect Core Error Code
    /// `unmet_authentication_requirements`).
    UnmetAuthenticationRequirements,
    /// A resource or audience is unknown, malformed or not the client's to ask for (RFC 8707 2).
    InvalidTarget,
    /// The access token is invalid, expired or revoked.
    InvalidToken,
    /// The access token does not reach this far.
    InsufficientScope,
    /// Tokens of this kind cannot be revoked (RFC 7009 2.2.1).
    UnsupportedTokenType,
    /// A redirect URI is malformed or not admitted (RFC 7591 3.2.2).
    InvalidRedirectUri,
    /// Another member of a registration is (RFC 7591 3.2.2).
    InvalidClientMetadata,
    /// A software statement that is not taken (RFC 7591 3.2.2).
    UnapprovedSoftwareStatement,
    /// The device's user has not decided yet (RFC 8628 3.5).
    AuthorizationPending,
    /// The same, and the device polls too often: five more seconds between polls (RFC 8628 3.5).
    SlowDown,
    /// The device code is too old (RFC 8628 3.5).
    ExpiredToken,
}

impl ErrorCode {
    /// The code on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::InteractionRequired => "interaction_required",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
            Self::AccountSelectionRequired => "account_selection_required",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::InvalidRequestUri => "invalid_request_uri",
            Self::InvalidRequestObject => "invalid_request_object",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::UseDpopNonce => "use_dpop_nonce",
            Self::RegistrationNotSupported => "registration_not_supported",
            Self::UnmetAuthenticationRequirements => "unmet_authentication_requirements",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::UnapprovedSoftwareStatement => "unapproved_software_statement",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
        }
    }

    /// HTTP status of an answer in JSON with this code (RFC 6749 5.2, RFC 6750 3.1).
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidClient | Self::InvalidToken => 401,
            Self::AccessDenied | Self::InsufficientScope => 403,
            Self::ServerError => 500,
            Self::TemporarilyUnavailable => 503,
            _ => 400,
        }
    }
}

/// An error as JSON carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{}: {}", error.as_str(), error_description.as_deref().unwrap_or("no description"))]
pub struct ErrorResponse {
    /// The code.
    pub error: ErrorCode,
    /// What is wrong and how to mend it, in the characters that RFC 6749 5.2 allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
}

impl ErrorResponse {
    /// An error with its description.
    pub fn new(error: ErrorCode, description: &str) -> Self {
        Self { error, error_description: Some(printable(description)) }
    }

    pub(crate) fn invalid_request(description: &str) -> Self {
        Self::new(ErrorCode::InvalidRequest, description)
    }
}

/// Longest description, in characters: it may quote what a client sent.
const MAX_DESCRIPTION: usize = 256;

/// A text in the characters that `error_description` may have: printable ASCII without `"` and `\`,
/// cut after 256.
pub fn printable(text: &str) -> String {
    let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    text.chars()
        .take(MAX_DESCRIPTION)
        .map(|c| match c {
            '"' => '\'',
            c if allowed(c) => c,
            _ => '?',
        })
        .collect()
}

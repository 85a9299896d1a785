//! Pushed authorization requests (RFC 9126): the answer, and the `request_uri` that stands for the request.

use serde::Serialize;

/// What every `request_uri` of ours begins with (RFC 9126 2.2); what follows is sealed.
pub const REQUEST_URI_PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// A request was taken (RFC 9126 2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushedResponse {
    /// Stands for the request at the authorization endpoint.
    pub request_uri: String,
    /// For so many seconds.
    pub expires_in: i64,
}

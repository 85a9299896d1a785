//! `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0 section 4) and
//! `/.well-known/oauth-authorization-server` (RFC 8414 3): one document.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::AtIssuer;

/// What is offered changes with the custom resources: caches may keep it this many seconds.
const CACHE: &str = "public, max-age=60";

/// Serves the metadata.
pub async fn show(Extension(issuer): AtIssuer) -> Response {
    let metadata = claviger_domain::discovery::metadata(&issuer);
    ([(header::CACHE_CONTROL, CACHE)], Json(metadata)).into_response()
}

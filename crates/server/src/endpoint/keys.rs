//! `/keys`: the JWKS, with a max-age that is true: a key signs only when every cache must have it.

use axum::Extension;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::AtIssuer;

/// Serves the keys.
pub async fn show(Extension(issuer): AtIssuer) -> Response {
    let max_age = issuer.keys.max_age_seconds;
    let headers = [
        (header::CONTENT_TYPE, "application/jwk-set+json".to_owned()),
        (header::CACHE_CONTROL, format!("public, max-age={max_age}, must-revalidate")),
    ];
    (headers, issuer.keys.jwks.to_string()).into_response()
}

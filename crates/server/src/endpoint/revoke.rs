//! `/token/revoke` (RFC 7009): form in, a status out.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use claviger_domain::revocation;
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::ErrorResponse;
use claviger_protocol::revoke::RevocationRequest;

use super::AtIssuer;
use super::token::{credentials, failed, form, no_store, refused};
use crate::app::App;

/// Answers a request. Whether there was anything to end is not told.
pub async fn submit(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (credentials, request) = match parse(&headers, &body) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&error),
    };
    match revocation::revoke(app.provider(), &issuer, &credentials, &request).await {
        Ok(()) => no_store(StatusCode::OK.into_response()),
        Err(error) => failed(credentials.client_id(), error),
    }
}

fn parse(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(ClientCredentials, RevocationRequest), ErrorResponse> {
    let params = form(headers, body)?;
    Ok((credentials(headers, &params)?, RevocationRequest::parse(&params)?))
}

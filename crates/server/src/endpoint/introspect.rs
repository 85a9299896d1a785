//! `/token/introspect` (RFC 7662): form in, JSON out. For servers: no script of another origin reads it.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::introspection;
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::ErrorResponse;
use claviger_protocol::introspect::IntrospectionRequest;

use super::AtIssuer;
use super::token::{credentials, failed, form, no_store, refused};
use crate::app::App;

/// Answers a request.
pub async fn answer(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (credentials, request) = match parse(&headers, &body) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&error),
    };
    match introspection::introspect(app.provider(), &issuer, &credentials, &request).await {
        Ok(known) => no_store(Json(known).into_response()),
        Err(error) => failed(credentials.client_id(), error),
    }
}

fn parse(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(ClientCredentials, IntrospectionRequest), ErrorResponse> {
    let params = form(headers, body)?;
    Ok((credentials(headers, &params)?, IntrospectionRequest::parse(&params)?))
}

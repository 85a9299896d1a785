//! `/par` (RFC 9126): an authorization request by form, what stands for it in JSON.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::request_source;
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::ErrorResponse;
use claviger_protocol::form::Params;

use super::AtIssuer;
use super::token::{credentials, failed, form, no_store, proof, refused, with_nonce};
use crate::app::App;

/// Answers a request.
pub async fn push(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (credentials, params) = match parse(&headers, &body) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&error),
    };
    let proof = match proof(&headers) {
        Ok(proof) => proof,
        Err(error) => return refused(&error),
    };
    let request = (params, proof);
    let pushed = request_source::push(app.provider(), &issuer, &credentials, request).await;
    let response = match pushed {
        Ok(pushed) => no_store((StatusCode::CREATED, Json(pushed)).into_response()),
        Err(error) => failed(credentials.client_id(), error),
    };
    if proof.is_some() { with_nonce(&app, &issuer, response) } else { response }
}

fn parse(headers: &HeaderMap, body: &[u8]) -> Result<(ClientCredentials, Params), ErrorResponse> {
    let params = form(headers, body)?;
    Ok((credentials(headers, &params)?, params))
}

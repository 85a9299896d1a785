//! `/device/code` (RFC 8628 3.1): a device's request by form, its two codes in JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::device_authorization;
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::device::DeviceAuthorizationRequest;
use claviger_protocol::error::{ErrorCode, ErrorResponse};

use super::AtIssuer;
use super::token::{credentials, failed, form, no_store, refused};
use crate::accept::Peer;
use crate::app::App;
use crate::device_throttles::source;

/// Answers a request.
pub async fn authorize(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    peer: Option<Extension<Arc<Peer>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (credentials, request) = match parse(&headers, &body) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&error),
    };
    let source = source(&issuer.uid, peer.map(|Extension(peer)| peer.address));
    let codes = &app.device_throttles().codes;
    let permit = match codes.begin(source.clone()) {
        Ok(permit) => permit,
        Err(wait) => return too_often(wait),
    };
    let provider = app.provider();
    let asked =
        device_authorization::authorize(provider, &issuer, &credentials, &request, &source).await;
    match asked {
        Ok(authorization) => {
            permit.failed(); // each one that is stored counts
            no_store(Json(authorization).into_response())
        }
        Err(error) => failed(credentials.client_id(), error),
    }
}

fn parse(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(ClientCredentials, DeviceAuthorizationRequest), ErrorResponse> {
    let params = form(headers, body)?;
    Ok((credentials(headers, &params)?, DeviceAuthorizationRequest::parse(&params)?))
}

fn too_often(wait: Duration) -> Response {
    let why = "too many device codes were asked for from this address: wait, and try again";
    let error = ErrorResponse::new(ErrorCode::TemporarilyUnavailable, why);
    let mut response = no_store((StatusCode::TOO_MANY_REQUESTS, Json(error)).into_response());
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

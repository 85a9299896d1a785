//! `/callback/{connector}/logout`: an upstream tells that a user has signed out there (OpenID Connect Back-Channel Logout
//! 1.0 2.5, 2.8). No browser comes here, and nobody is told whether there was anything to end.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::upstream_logout::{NoticeError, end};
use claviger_protocol::error::{ErrorCode, ErrorResponse};
use claviger_protocol::logout_token::presented;

use super::AtIssuer;
use super::home::not_found;
use super::token::{form, no_store, refused};
use crate::app::App;

/// Takes a logout token.
pub async fn hear(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Path(connector): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = match form(&headers, &body).and_then(|params| presented(&params)) {
        Ok(token) => token,
        Err(error) => return refused(&error),
    };
    // What has begun is finished, though the sender hangs up: it may never come again.
    let (begun, at, named) = (app.begun().clone(), Arc::clone(&issuer), connector.clone());
    let ending = begun.spawn(async move { end(app.provider(), &at, &named, &token).await });
    let ended =
        ending.await.unwrap_or_else(|error| Err(NoticeError::Unavailable(error.to_string())));
    match ended {
        Ok(()) => no_store(StatusCode::OK.into_response()),
        Err(NoticeError::NoConnector) => not_found(Extension(issuer)).await,
        Err(error @ NoticeError::Refused { .. }) => {
            tracing::warn!(connector, %error, "an upstream's sign-out is not believed");
            refused(&ErrorResponse::new(ErrorCode::InvalidRequest, &error.to_string()))
        }
        Err(NoticeError::Unavailable(reason)) => {
            // 2.8: 400 also where it is our own fault.
            tracing::warn!(connector, reason, "a sign-out at an upstream ended nothing yet");
            let why = "send the same token again later";
            let error = ErrorResponse::new(ErrorCode::TemporarilyUnavailable, why);
            no_store((StatusCode::BAD_REQUEST, Json(error)).into_response())
        }
    }
}

//! `/callback/{connector}/logout`: an upstream tells that a user has signed out there (OpenID Connect Back-Channel Logout
//! 1.0 2.5, 2.8). No browser comes here, and nobody is told whether there was anything to end.
//!
//! What always holds: every token is read, so that whatever strangers send, from the provider's own address too, keeps no
//! provider from being heard; what is refused is noted, in audit and log, a few times of one address and then once a second.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::issuer::Issuer;
use claviger_domain::upstream_logout::{NoticeError, end, note};
use claviger_protocol::error::{ErrorCode, ErrorResponse};
use claviger_protocol::logout_token::presented;
use tokio::task::JoinError;

use super::AtIssuer;
use super::home::not_found;
use super::token::{form, no_store, refused};
use crate::accept::Peer;
use crate::app::App;
use crate::device_throttles::source;
use crate::throttle::Throttle;

/// Refused tokens of one address in a row of which each is noted, and how often one is after that.
const REFUSED: (u32, Duration) = (20, Duration::from_secs(1));
/// Tokens of one address at once of which each may be noted.
const AT_ONCE: usize = 256;

/// Counts refused tokens, for each connector.
pub fn throttle() -> Throttle {
    let (burst, period) = REFUSED;
    Throttle::new(burst, period).at_once(AT_ONCE)
}

/// Takes a logout token.
pub async fn hear(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    (Path(connector), peer): (Path<String>, Option<Extension<Arc<Peer>>>),
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = match form(&headers, &body).and_then(|params| presented(&params)) {
        Ok(token) => token,
        Err(error) => return refused(&error),
    };
    // What has begun is finished, though the sender hangs up: it may never come again.
    let (begun, at, named) = (app.begun().clone(), Arc::clone(&issuer), connector.clone());
    let address = peer.map(|Extension(peer)| peer.address);
    let source = format!("{}/{connector}", source(&issuer.uid, address));
    let ending = begun.spawn(async move { counted(&app, &at, (&named, &token), source).await });
    let broken = |error: JoinError| Ok(Err(NoticeError::Unavailable(error.to_string())));
    match ending.await.unwrap_or_else(broken) {
        Ok(ended) => answer(issuer, &connector, ended).await,
        Err(wait) => too_often(wait),
    }
}

/// Ends what is over. What is refused is noted, or where much of this source was before, how long to wait.
async fn counted(
    app: &App,
    issuer: &Issuer,
    (connector, token): (&str, &str),
    source: String,
) -> Result<Result<(), NoticeError>, Duration> {
    let counting = app.logout_tokens().begin(source);
    let ended = end(app.provider(), issuer, connector, token).await;
    let Err(error @ NoticeError::Refused { .. }) = &ended else { return Ok(ended) };
    let under_way = counting?;
    note(app.provider(), connector, error);
    tracing::warn!(connector, %error, "an upstream's sign-out is not believed");
    under_way.failed();
    Ok(ended)
}

async fn answer(issuer: Arc<Issuer>, connector: &str, ended: Result<(), NoticeError>) -> Response {
    match ended {
        Ok(()) => no_store(StatusCode::OK.into_response()),
        Err(NoticeError::NoConnector) => not_found(Extension(issuer)).await,
        Err(error @ NoticeError::Refused { .. }) => {
            let why = format!("logout_token: {error}");
            refused(&ErrorResponse::new(ErrorCode::InvalidRequest, &why))
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

/// Not 400, which says that the token is at fault: the same one may come again.
fn too_often(wait: Duration) -> Response {
    let why =
        "too many logout tokens of this address were refused: send the same token again later";
    let error = ErrorResponse::new(ErrorCode::TemporarilyUnavailable, why);
    let mut response = no_store((StatusCode::TOO_MANY_REQUESTS, Json(error)).into_response());
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

//! `/token` (RFC 6749 3.2): form in, JSON out. The endpoints below it read and refuse the same way.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::client::Client;
use claviger_domain::dpop;
use claviger_domain::issuer::Issuer;
use claviger_domain::token::{self, TokenError};
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::{ErrorCode, ErrorResponse};
use claviger_protocol::form::Params;
use claviger_protocol::token::{TokenRequest, TokenResponse};

use super::AtIssuer;
use crate::app::App;
use crate::throttle::{self, Attempt};

const DPOP: &str = "dpop";
const DPOP_NONCE: &str = "dpop-nonce";
const FORM: &str = "application/x-www-form-urlencoded";

/// Answers a request.
pub async fn exchange(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (credentials, request) = match parse(&headers, &body) {
        Ok(parsed) => parsed,
        Err(error) => return refused(&error),
    };
    let proof = match proof(&headers) {
        Ok(proof) => proof.map(str::to_owned),
        Err(error) => return refused(&error),
    };
    let is_refresh = matches!(request, TokenRequest::RefreshToken(_));
    let begun = app.begun().clone();
    let answering = async move {
        let (provider, proof) = (app.provider(), proof.as_deref());
        let response = match token::authenticate(provider, &issuer, &credentials, "/token").await {
            Ok(client) => answer(&app, &issuer, client, (request, proof)).await,
            Err(error) => denied(credentials.client_id(), error),
        };
        if proof.is_some() { with_nonce(&app, &issuer, response) } else { response }
    };
    if !is_refresh {
        return answering.await;
    }
    // What has begun is finished, though the client hangs up: an upstream's refresh token may be used up by now.
    begun.spawn(answering).await.unwrap_or_else(|_| unavailable(1))
}

/// The answer to a client that has proven who it is. A password that it was told counts as one that was typed at the
/// login form: one account, one count. Nobody else's does, or anybody could lock a user out.
async fn answer(
    app: &App,
    issuer: &Issuer,
    client: &Client,
    (request, proof): (TokenRequest, Option<&str>),
) -> Response {
    let attempt = match begin_attempt(app, issuer, (client, &request)) {
        Ok(attempt) => attempt,
        Err(wait) => return too_often(wait),
    };
    match token::answer(app.provider(), issuer, client, request, proof).await {
        Ok(tokens) => granted(&tokens),
        Err(error) => {
            if let Some(attempt) = attempt.filter(|_| error.is(ErrorCode::InvalidGrant)) {
                attempt.failed();
            }
            denied(&client.id, error)
        }
    }
}

/// The same at the token endpoint, where `access_denied` (RFC 8628 3.5) has the status that errors have there.
fn denied(client_id: &str, error: TokenError) -> Response {
    let is_denial = error.is(ErrorCode::AccessDenied);
    let mut response = failed(client_id, error);
    if is_denial {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

/// The answer to an authenticated client's request that came to nothing.
pub fn failed(client_id: &str, error: TokenError) -> Response {
    match error {
        TokenError::Refused { code, description } => {
            tracing::debug!(client = client_id, code = code.as_str(), description, "refused");
            refused(&ErrorResponse::new(code, &description))
        }
        TokenError::Unavailable { reason, retry_after } => {
            tracing::warn!(client = client_id, reason, "token request must be tried again");
            unavailable(retry_after)
        }
    }
}

fn parse(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(ClientCredentials, TokenRequest), ErrorResponse> {
    let params = form(headers, body)?;
    Ok((credentials(headers, &params)?, TokenRequest::parse(&params)?))
}

/// The proof of possession that a request brings (RFC 9449 4.3: one at most).
pub fn proof(headers: &HeaderMap) -> Result<Option<&str>, ErrorResponse> {
    let mut proofs = headers.get_all(DPOP).iter();
    let refused = |why| Err(ErrorResponse::new(ErrorCode::InvalidDpopProof, why));
    match (proofs.next(), proofs.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => refused("the DPoP header is repeated"),
        (Some(one), None) => match one.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => refused("the DPoP header is not readable"),
        },
    }
}

/// The same answer with a nonce for the next proof (RFC 9449 8.2).
pub fn with_nonce(app: &App, issuer: &Issuer, mut response: Response) -> Response {
    let nonce = dpop::nonce(issuer, app.provider().clock.now());
    if let Ok(nonce) = HeaderValue::from_str(&nonce) {
        response.headers_mut().insert(DPOP_NONCE, nonce);
    }
    response
}

/// The form of a request's body.
pub fn form(headers: &HeaderMap, body: &[u8]) -> Result<Params, ErrorResponse> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case(FORM) {
        let why = "the body must be application/x-www-form-urlencoded";
        return Err(ErrorResponse::new(ErrorCode::InvalidRequest, why));
    }
    Params::parse(body)
}

/// Who a request says it is from, in its header or its form.
pub fn credentials(
    headers: &HeaderMap,
    params: &Params,
) -> Result<ClientCredentials, ErrorResponse> {
    let authorization = match headers.get(header::AUTHORIZATION).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => {
            let why = "the Authorization header is not readable";
            return Err(ErrorResponse::new(ErrorCode::InvalidClient, why));
        }
    };
    ClientCredentials::from_parts(authorization, params)
}

fn begin_attempt<'a>(
    app: &'a App,
    issuer: &Issuer,
    (client, request): (&Client, &TokenRequest),
) -> Result<Option<Attempt<'a>>, Duration> {
    let TokenRequest::Password(request) = request else { return Ok(None) };
    let Some(connector) = client.password_connector.as_deref() else { return Ok(None) };
    let account = throttle::account(issuer, connector, request.username.trim());
    app.throttle().begin(account).map(Some)
}

fn too_often(wait: Duration) -> Response {
    let why = "too many failed attempts for this user: wait, and try again";
    let error = ErrorResponse::new(ErrorCode::TemporarilyUnavailable, why);
    let mut response = no_store((StatusCode::TOO_MANY_REQUESTS, Json(error)).into_response());
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

fn granted(tokens: &TokenResponse) -> Response {
    no_store(Json(tokens).into_response())
}

/// An error as RFC 6749 5.2 has it.
pub fn refused(error: &ErrorResponse) -> Response {
    let status = StatusCode::from_u16(error.error.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = no_store((status, Json(error)).into_response());
    if status == StatusCode::UNAUTHORIZED {
        let challenge =
            HeaderValue::from_static(r#"Basic realm="token endpoint", charset="UTF-8""#);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Somebody is away; nothing was consumed.
pub fn unavailable(retry_after: u32) -> Response {
    let error =
        ErrorResponse::new(ErrorCode::TemporarilyUnavailable, "try the same request again later");
    let mut response = no_store((StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

/// Tokens are never kept by anything in between (RFC 6749 5.1).
pub fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

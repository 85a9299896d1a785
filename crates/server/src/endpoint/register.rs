//! `/register` (RFC 7591) and `/register/{name}` (RFC 7592): JSON in, JSON out, with a bearer token.

use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::registration::{self, RegistrationError};
use claviger_protocol::error::{ErrorCode, ErrorResponse};
use claviger_protocol::userinfo::{bearer_token, challenge};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::AtIssuer;
use super::token::{no_store, refused, unavailable};
use crate::app::{Admission, App};

/// Seconds a client is told to wait.
const RETRY_AFTER: u32 = 5;

/// Registers a client; it is served here when it is told so.
pub async fn create(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    (Bearer(token), SaysJson): (Bearer, SaysJson),
    body: Bytes,
) -> Response {
    // Before its turn: a stranger keeps nobody from theirs.
    if let Err(error) = registration::may_register(&issuer, token.as_ref()) {
        return failed(error);
    }
    // In a task of its own: a caller that goes away leaves nothing half done.
    let begun = app.begun().clone();
    let registering = begun.spawn(async move { register(&app, &issuer.uid, token, &body).await });
    registering.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a registration ended before its time");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

async fn register(app: &App, issuer: &str, token: Option<SecretString>, body: &[u8]) -> Response {
    let Some(_turn) = app.turn_to_register().await else { return unavailable(RETRY_AFTER) };
    // As it is at this turn, with the client of the turn before.
    let Some(issuer) = app.issuer_now(issuer) else { return unavailable(RETRY_AFTER) };
    let registered =
        match registration::register(app.provider(), &issuer, token.as_ref(), body).await {
            Ok(registered) => registered,
            Err(error) => return failed(error),
        };
    match app.admission(&issuer.uid, &registered.client_id).await {
        Admission::Served => {
            no_store((StatusCode::CREATED, Json(registered.answer)).into_response())
        }
        Admission::Refused => {
            registration::withdraw(app.provider(), &registered).await;
            let why = "the issuer does not admit a client with these metadata";
            refused(&ErrorResponse::new(ErrorCode::InvalidClientMetadata, why))
        }
        Admission::Unknown => {
            registration::withdraw(app.provider(), &registered).await;
            unavailable(RETRY_AFTER)
        }
    }
}

/// What is kept of a client.
pub async fn read(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Path(name): Path<String>,
    Bearer(token): Bearer,
) -> Response {
    answer(registration::read(app.provider(), &issuer, &name, token.as_ref()).await)
}

/// Replaces what a client said.
pub async fn update(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Path(name): Path<String>,
    (Bearer(token), SaysJson): (Bearer, SaysJson),
    body: Bytes,
) -> Response {
    let by = (name.as_str(), token.as_ref());
    answer(registration::update(app.provider(), &issuer, by, &body).await)
}

/// Deletes a client at its own word.
pub async fn delete(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Path(name): Path<String>,
    Bearer(token): Bearer,
) -> Response {
    match registration::delete(app.provider(), &issuer, &name, token.as_ref()).await {
        Ok(()) => no_store(StatusCode::NO_CONTENT.into_response()),
        Err(error) => failed(error),
    }
}

fn answer(found: Result<Map<String, Value>, RegistrationError>) -> Response {
    match found {
        Ok(information) => no_store(Json(information).into_response()),
        Err(error) => failed(error),
    }
}

fn failed(error: RegistrationError) -> Response {
    match error {
        RegistrationError::Off => StatusCode::NOT_FOUND.into_response(),
        RegistrationError::Unauthorized => {
            let error = ErrorResponse::new(ErrorCode::InvalidToken, &error.to_string());
            let challenge = HeaderValue::from_str(&challenge(Some(&error)));
            let mut response = no_store((StatusCode::UNAUTHORIZED, Json(error)).into_response());
            if let Ok(challenge) = challenge {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
        RegistrationError::Refused(error) => {
            tracing::debug!(%error, "registration refused");
            refused(&error)
        }
        RegistrationError::Unavailable(reason) => {
            tracing::warn!(reason, "a registration must be tried again");
            unavailable(RETRY_AFTER)
        }
    }
}

/// The token that a request brings, if it brings one.
pub struct Bearer(Option<SecretString>);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let header = parts.headers.get(header::AUTHORIZATION);
        let token = bearer_token(header.map(|value| value.to_str().unwrap_or_default()), None);
        token.map(Self).map_err(|error| refused(&error))
    }
}

/// A request whose body is said to be JSON: a browser sends none to another origin unasked.
pub struct SaysJson;

impl<S: Sync> FromRequestParts<S> for SaysJson {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        if media_type.trim().eq_ignore_ascii_case("application/json") {
            return Ok(Self);
        }
        let why = "the body must be application/json";
        Err(refused(&ErrorResponse::new(ErrorCode::InvalidClientMetadata, why)))
    }
}

//! `/userinfo` (OIDC Core 5.3): claims for a bearer of an access token, from memory alone.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::issuer::Issuer;
use claviger_domain::userinfo;
use claviger_protocol::error::{ErrorCode, ErrorResponse};
use claviger_protocol::form::Params;
use claviger_protocol::userinfo::{bearer_token, challenge};
use secrecy::ExposeSecret;

use super::AtIssuer;
use crate::app::App;

/// By GET, with the token in the header.
pub async fn by_header(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
) -> Response {
    answer(&app, &issuer, &headers, None)
}

/// By POST, with the token in the header or in a form.
pub async fn by_body(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match Params::parse(&body) {
        Ok(params) => answer(&app, &issuer, &headers, Some(&params)),
        Err(error) => refused(Some(&error)),
    }
}

fn answer(app: &App, issuer: &Issuer, headers: &HeaderMap, body: Option<&Params>) -> Response {
    let authorization =
        headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let token = match bearer_token(authorization, body) {
        Ok(Some(token)) => token,
        Ok(None) => return refused(None),
        Err(error) => return refused(Some(&error)),
    };
    match userinfo::answer(app.provider(), issuer, token.expose_secret()) {
        Ok(claims) => Json(claims).into_response(),
        Err(error) => {
            let error = ErrorResponse::new(ErrorCode::InvalidToken, &error.to_string());
            refused(Some(&error))
        }
    }
}

fn refused(error: Option<&ErrorResponse>) -> Response {
    let status = error.map_or(401, |error| error.error.http_status());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut response = status.into_response();
    if let Ok(challenge) = HeaderValue::from_str(&challenge(error)) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

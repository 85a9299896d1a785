//! `/userinfo` (OIDC Core 5.3): claims for a bearer of an access token, from memory alone.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use claviger_domain::dpop::{Proof, ProofError};
use claviger_domain::issuer::Issuer;
use claviger_domain::token::DEFAULT_RETRY_AFTER;
use claviger_domain::userinfo::{self, Answer, UserinfoError};
use claviger_protocol::error::{ErrorCode, ErrorResponse, printable};
use claviger_protocol::form::Params;
use claviger_protocol::userinfo::{bearer_token, challenge, dpop_token};
use secrecy::ExposeSecret;

use super::AtIssuer;
use super::token::{proof, unavailable, with_nonce};
use crate::app::App;

/// By GET, with the token in the header.
pub async fn by_header(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
) -> Response {
    answer(&app, &issuer, (&headers, "GET"), None)
}

/// By POST, with the token in the header or in a form.
pub async fn by_body(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match Params::parse(&body) {
        Ok(params) => answer(&app, &issuer, (&headers, "POST"), Some(&params)),
        Err(error) => refused(Some(&error)),
    }
}

fn answer(
    app: &App,
    issuer: &Issuer,
    (headers, method): (&HeaderMap, &str),
    body: Option<&Params>,
) -> Response {
    let authorization =
        headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let bound = match dpop_token(authorization) {
        Ok(bound) => bound,
        Err(error) => return refused(Some(&error)),
    };
    let Some(token) = bound else { return to_bearer(app, issuer, authorization, body) };
    let jwt = match proof(headers) {
        Ok(Some(jwt)) => jwt,
        Ok(None) => return refused_key("invalid_dpop_proof", "the DPoP header is missing"),
        Err(error) => return refused_key("invalid_dpop_proof", &error.to_string()),
    };
    let token = token.expose_secret();
    let proof = Proof { jwt, method, path: "/userinfo", access_token: Some(token) };
    let response = match userinfo::respond(app.provider(), issuer, token, Some(proof)) {
        Ok(answer) => answered(answer),
        Err(UserinfoError::NoSigner) => unavailable(DEFAULT_RETRY_AFTER),
        Err(error @ UserinfoError::Proof(ProofError::NonceNeeded)) => {
            refused_key("use_dpop_nonce", &error.to_string())
        }
        Err(error @ UserinfoError::Proof(_)) => {
            refused_key("invalid_dpop_proof", &error.to_string())
        }
        Err(error) => refused_key("invalid_token", &error.to_string()),
    };
    with_nonce(app, issuer, response)
}

fn to_bearer(
    app: &App,
    issuer: &Issuer,
    authorization: Option<&str>,
    body: Option<&Params>,
) -> Response {
    let token = match bearer_token(authorization, body) {
        Ok(Some(token)) => token,
        Ok(None) => return refused(None),
        Err(error) => return refused(Some(&error)),
    };
    match userinfo::respond(app.provider(), issuer, token.expose_secret(), None) {
        Ok(answer) => answered(answer),
        Err(UserinfoError::NoSigner) => unavailable(DEFAULT_RETRY_AFTER),
        Err(error) => {
            let error = ErrorResponse::new(ErrorCode::InvalidToken, &error.to_string());
            refused(Some(&error))
        }
    }
}

/// JSON, or a JWT where the client wants that (OIDC Core 5.3.2).
fn answered(answer: Answer) -> Response {
    match answer {
        Answer::Plain(claims) => Json(claims).into_response(),
        Answer::Signed(jwt) => {
            let jwt_type = HeaderValue::from_static("application/jwt");
            ([(header::CONTENT_TYPE, jwt_type)], jwt).into_response()
        }
    }
}

/// A refusal of a token that came with a proof of possession (RFC 9449 7.1).
fn refused_key(error: &str, description: &str) -> Response {
    let description = printable(description);
    let challenge = format!(
        r#"DPoP error="{error}", error_description="{description}", algs="RS256 PS256 ES256 ES384 ES512""#
    );
    let mut response = StatusCode::UNAUTHORIZED.into_response();
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
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

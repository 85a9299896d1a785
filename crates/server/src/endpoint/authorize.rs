//! `/auth` (RFC 6749 3.1): an authorization request by GET or POST.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use claviger_domain::authorize::{self, Answered, AuthorizeError, Begun, Next};
use claviger_domain::cookie::Cookie;
use claviger_domain::flow;
use claviger_domain::issuer::Issuer;
use claviger_domain::login::Outcome;
use claviger_domain::request_source;
use claviger_domain::token::TokenError;
use claviger_protocol::form::Params;

use super::AtIssuer;
use super::step::{FlowQuery, brought, deliver, lead_on};
use crate::app::App;
use crate::cookies;
use crate::page::{ErrorPage, issuer_error};

/// By GET.
pub async fn by_query(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    begin(&app, &issuer, &headers, query.unwrap_or_default().as_bytes()).await
}

/// By POST.
pub async fn by_form(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    begin(&app, &issuer, &headers, &body).await
}

/// By GET at `/auth/{connector}`, as dex has it: the request names the connector in its path.
pub async fn at_connector(
    app: &App,
    issuer: &Arc<Issuer>,
    headers: &HeaderMap,
    params: Params,
    connector: &str,
) -> Response {
    begin_with(app, issuer, headers, params.with("connector_id", connector)).await
}

async fn begin(
    app: &App,
    issuer: &Arc<Issuer>,
    headers: &HeaderMap,
    parameters: &[u8],
) -> Response {
    match Params::parse(parameters) {
        Ok(params) => begin_with(app, issuer, headers, params).await,
        Err(error) => refuse(issuer, StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn refuse(issuer: &Issuer, status: StatusCode, message: &str) -> Response {
    let heading = "The application sent a request that cannot be answered";
    issuer_error(issuer, &ErrorPage { status, heading, message })
}

async fn begin_with(
    app: &App,
    issuer: &Arc<Issuer>,
    headers: &HeaderMap,
    params: Params,
) -> Response {
    let params = match request_source::resolve(app.provider(), issuer, params).await {
        Ok(params) => params,
        Err(TokenError::Refused { code, description }) => {
            let message = format!("{}: {description}", code.as_str());
            return refuse(issuer, StatusCode::BAD_REQUEST, &message);
        }
        Err(TokenError::Unavailable { reason, .. }) => {
            tracing::warn!(reason, "an authorization request must be tried again");
            return wait(issuer, "The application's keys cannot be had. Please try again.");
        }
    };
    let brought = brought(app, issuer, headers);
    match authorize::answer(app.provider(), issuer, &params, brought).await {
        Ok(Answered::Begun(begun)) => {
            let to = Redirect::to(&location(issuer, &begun)).into_response();
            with_flow(app, issuer, headers, (&begun.cookie, to))
        }
        Ok(Answered::Reused(begun, step)) => {
            let response = lead_on(issuer, &begun.flow, &step);
            match step.outcome {
                // Its form comes back with the flow.
                Outcome::Consent(_) | Outcome::Device(_) => {
                    with_flow(app, issuer, headers, (&begun.cookie, response))
                }
                Outcome::Answer(_) => response,
            }
        }
        Err(AuthorizeError::Answer(delivery)) => deliver(issuer, &delivery),
        Err(AuthorizeError::Page(message)) => refuse(issuer, StatusCode::BAD_REQUEST, &message),
        Err(AuthorizeError::Unavailable(message)) => wait(issuer, &message),
    }
}

fn wait(issuer: &Issuer, message: &str) -> Response {
    let mut response = refuse(issuer, StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

fn location(issuer: &Issuer, begun: &Begun) -> String {
    let query = FlowQuery::of(&begun.flow);
    let path = issuer.url.path();
    match &begun.next {
        Next::Connector(name) => format!("{path}/auth/{name}?{query}"),
        Next::Choose => format!("{path}/choose?{query}"),
        Next::Account => format!("{path}/account?{query}"),
    }
}

/// A response with the flow's cookie, and without those that make room for it.
pub fn with_flow(
    app: &App,
    issuer: &Issuer,
    headers: &HeaderMap,
    (cookie, mut response): (&Cookie, Response),
) -> Response {
    let received = cookies::received(headers);
    let now = app.provider().clock.now();
    let surplus = flow::surplus_cookies(issuer, cookies::pairs(&received), now);
    let cleared: Vec<Cookie> = surplus.into_iter().map(Cookie::cleared).collect();
    cookies::set_all(issuer, cleared.iter().chain([cookie]), &mut response);
    response
}

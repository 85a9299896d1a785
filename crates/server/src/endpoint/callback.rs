//! `/callback/{connector}` (dex's path): where a trusted proxy brings the users it has authenticated, and where an
//! upstream's own pages send the browser back to.
//!
//! What always holds: headers about a user are read here alone, and here only what came by the
//! listener for proxies arrives; the ordinary listener refuses the path without looking at them.

use std::sync::Arc;

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::{Path, Query, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use claviger_domain::connector::Login;
use claviger_domain::flow::Flow;
use claviger_domain::issuer::Issuer;
use claviger_domain::login::{self, StepError};
use claviger_domain::proxy::ProxyRequest;
use claviger_domain::trip::callback_of;
use claviger_protocol::form::Params;

use super::AtIssuer;
use super::home::not_found;
use super::step::{FlowQuery, brought, flow_of, lead_on, refusal};
use crate::accept::Peer;
use crate::app::{App, MAX_FORM_ANSWER};
use crate::page::{ErrorPage, issuer_error};

/// Takes the proxy's word.
pub async fn by_proxy(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Extension(peer): Extension<Arc<Peer>>,
    (Path(connector), Query(query)): (Path<String>, Query<FlowQuery>),
    headers: HeaderMap,
) -> Response {
    let flow = match flow_of(&app, &issuer, &query, &headers) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    let certificates: Vec<&[u8]> = peer.certificates.iter().map(AsRef::as_ref).collect();
    let fields: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request =
        ProxyRequest { source: peer.address, certificates: &certificates, headers: &fields };
    match login::with_proxy(app.provider(), &issuer, &flow, &connector, &request).await {
        Ok(step) => lead_on(&issuer, &flow, &step),
        Err(error) => refusal(&issuer, &error),
    }
}

/// The same path on the ordinary listener: where an upstream's pages send the browser back to, by a link. No proxy's word
/// is taken here.
pub async fn from_upstream(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    (Path(connector), Query(query), RawQuery(raw)): (Path<String>, Query<FlowQuery>, RawQuery),
    headers: HeaderMap,
) -> Response {
    match issuer.connectors.iter().find(|c| c.name == connector).map(|c| &c.login) {
        Some(Login::Redirect(upstream)) if upstream.form_field().is_none() => {}
        Some(Login::Redirect(_)) => return refusal(&issuer, &StepError::Unverified),
        Some(Login::Proxy(_)) => return past_the_proxy(&issuer, &connector),
        Some(Login::Password(_)) | None => return not_found(Extension(issuer)).await,
    }
    let flow = match flow_of(&app, &issuer, &query, &headers) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    let Ok(answer) = Params::parse(raw.unwrap_or_default().as_bytes()) else {
        return refusal(&issuer, &StepError::Unverified);
    };
    arrive(&app, (&issuer, &flow), &headers, (&connector, &answer)).await
}

/// The same path by a form that an upstream's page makes the browser post: from another site, so that the flow's cookie
/// is one that comes along, and nothing but the flow's secret, which the answer must say again, tells it from a forged one.
pub async fn by_form(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Path(connector): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let field = match issuer.connectors.iter().find(|c| c.name == connector).map(|c| &c.login) {
        Some(Login::Redirect(upstream)) => upstream.form_field(),
        Some(Login::Proxy(_) | Login::Password(_)) => None,
        None => return not_found(Extension(issuer)).await,
    };
    let Some(field) = field else { return StatusCode::METHOD_NOT_ALLOWED.into_response() };
    let Ok(body) = to_bytes(request.into_body(), MAX_FORM_ANSWER).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let Ok(answer) = Params::parse(&body) else {
        return refusal(&issuer, &StepError::Unverified);
    };
    let Some(state) = answer.get(field) else { return unasked(&issuer) };
    let flow = match flow_of(&app, &issuer, &FlowQuery::naming(state), &headers) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    arrive(&app, (&issuer, &flow), &headers, (&connector, &answer)).await
}

async fn arrive(
    app: &App,
    (issuer, flow): (&Arc<Issuer>, &Flow),
    headers: &HeaderMap,
    (connector, answer): (&str, &Params),
) -> Response {
    let arriving = (flow, brought(app, issuer, headers));
    match login::with_answer(app.provider(), issuer, arriving, connector, answer).await {
        Ok(step) => lead_on(issuer, flow, &step),
        Err(error) => refusal(issuer, &error),
    }
}

/// An upstream's pages sent a browser that nobody had sent there.
fn unasked(issuer: &Issuer) -> Response {
    let error = ErrorPage {
        status: StatusCode::BAD_REQUEST,
        heading: "This sign-in was not started here",
        message: "A sign-in must begin at the application, not at the other sign-in's own page: go to the application and \
                  start there.",
    };
    issuer_error(issuer, &error)
}

/// What an upstream's administrator is to know of us, as a document.
pub async fn describe(Extension(issuer): AtIssuer, Path(connector): Path<String>) -> Response {
    let known = issuer.connectors.iter().find(|c| c.name == connector);
    let description = known.and_then(|known| match &known.login {
        Login::Redirect(upstream) => upstream.description(&callback_of(&issuer, &known.name)),
        Login::Proxy(_) | Login::Password(_) => None,
    });
    match description {
        Some(found) => ([(header::CONTENT_TYPE, found.media_type)], found.body).into_response(),
        None => not_found(Extension(issuer)).await,
    }
}

fn past_the_proxy(issuer: &Issuer, connector: &str) -> Response {
    tracing::debug!(
        connector,
        "a sign-in came past the proxy: route {}/callback/{connector} to the proxy, and from there to the \
         listener of --auth-proxy-listen",
        issuer.url.as_str(),
    );
    let error = ErrorPage {
        status: StatusCode::FORBIDDEN,
        heading: "This sign-in goes through a proxy",
        message: "This address must be reached through the proxy that knows its users, and was not. \
                  Tell whoever runs this site.",
    };
    issuer_error(issuer, &error)
}

/// Every other path on the listener for proxies.
pub async fn nothing_else(Extension(issuer): AtIssuer) -> Response {
    let error = ErrorPage {
        status: StatusCode::NOT_FOUND,
        heading: "Nothing here",
        message: "This listener takes the word of trusted proxies at /callback/ and does nothing else. \
                  Send other paths to the issuer's ordinary address.",
    };
    issuer_error(&issuer, &error)
}

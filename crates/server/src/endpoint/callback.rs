//! `/callback/{connector}` (dex's path): where a trusted proxy brings the users it has authenticated, and where an
//! upstream's own pages send the browser back to.
//!
//! What always holds: headers about a user are read here alone, and here only what came by the
//! listener for proxies arrives; the ordinary listener refuses the path without looking at them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use claviger_domain::connector::Login;
use claviger_domain::issuer::Issuer;
use claviger_domain::login::{self, StepError};
use claviger_domain::proxy::ProxyRequest;
use claviger_protocol::form::Params;

use super::AtIssuer;
use super::home::not_found;
use super::step::{FlowQuery, brought, flow_of, lead_on, refusal};
use crate::accept::Peer;
use crate::app::App;
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

/// The same path on the ordinary listener: where an upstream's pages send the browser back to. No proxy's word is
/// taken here.
pub async fn from_upstream(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    (Path(connector), Query(query), RawQuery(raw)): (Path<String>, Query<FlowQuery>, RawQuery),
    headers: HeaderMap,
) -> Response {
    match issuer.connectors.iter().find(|c| c.name == connector).map(|c| &c.login) {
        Some(Login::Redirect(_)) => {}
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
    let brought = brought(&app, &issuer, &headers);
    let arriving = (&flow, brought);
    match login::with_answer(app.provider(), &issuer, arriving, &connector, &answer).await {
        Ok(step) => lead_on(&issuer, &flow, &step),
        Err(error) => refusal(&issuer, &error),
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

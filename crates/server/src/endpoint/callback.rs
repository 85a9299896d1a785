//! `/callback/{connector}` (dex's path): where a trusted proxy brings the users it has authenticated.
//!
//! What always holds: headers about a user are read here alone, and here only what came by the
//! listener for proxies arrives; the ordinary listener refuses the path without looking at them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use claviger_domain::connector::Login;
use claviger_domain::login;
use claviger_domain::proxy::ProxyRequest;

use super::AtIssuer;
use super::home::not_found;
use super::step::{FlowQuery, flow_of, lead_on, refusal};
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

/// The same path on the ordinary listener: nobody's word is taken here.
pub async fn not_here(Extension(issuer): AtIssuer, Path(connector): Path<String>) -> Response {
    let is_proxy = |login: &Login| matches!(login, Login::Proxy(_));
    if !issuer.connectors.iter().any(|c| c.name == connector && is_proxy(&c.login)) {
        return not_found(Extension(issuer)).await;
    }
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
    issuer_error(&issuer, &error)
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

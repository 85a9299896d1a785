//! `/choose`: the connectors a flow's user may sign in with.

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use claviger_domain::login;

use super::AtIssuer;
use super::step::{FlowQuery, flow_of, refusal};
use crate::app::App;
use crate::page::{ChoosePage, Frame, render};

/// Shows them.
pub async fn show(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Query(query): Query<FlowQuery>,
    headers: HeaderMap,
) -> Response {
    let flow = match flow_of(&app, &issuer, &query, &headers) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    let client = match login::client_of(&issuer, &flow) {
        Ok(client) => client,
        Err(error) => return refusal(&issuer, &error),
    };
    let link = |name: &str| format!("{}/auth/{name}?{}", issuer.url.path(), FlowQuery::of(&flow));
    let page = ChoosePage {
        frame: Frame::of(&issuer),
        client: &client.display_name,
        connectors: flow
            .connectors(&issuer, client)
            .map(|connector| (link(&connector.name), connector.display_name.as_str()))
            .collect(),
    };
    render(StatusCode::OK, &page)
}

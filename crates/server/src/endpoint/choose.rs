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
    let offered = login::door_name(&issuer, &flow)
        .and_then(|client| Ok((client, login::connectors_of(&issuer, &flow)?)));
    let (client, connectors) = match offered {
        Ok(offered) => offered,
        Err(error) => return refusal(&issuer, &error),
    };
    let link = |name: &str| format!("{}/auth/{name}?{}", issuer.url.path(), FlowQuery::of(&flow));
    let page = ChoosePage {
        frame: Frame::of(&issuer),
        client,
        connectors: connectors
            .map(|connector| (link(&connector.name), connector.display_name.as_str()))
            .collect(),
    };
    render(StatusCode::OK, &page)
}

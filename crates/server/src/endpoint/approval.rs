//! `/approval`: the user's answer on the consent page.

use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use claviger_domain::login;
use serde::Deserialize;

use super::AtIssuer;
use super::step::{FlowQuery, brought, flow_of_form, lead_on, refusal};
use crate::app::App;

/// What the form sends; the names are dex's.
#[derive(Deserialize)]
pub struct ApprovalForm {
    #[serde(default)]
    approval: String,
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    grant: String,
}

/// Takes the answer. Anything but `approve` refuses.
pub async fn submit(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Query(query): Query<FlowQuery>,
    headers: HeaderMap,
    Form(answer): Form<ApprovalForm>,
) -> Response {
    let flow = match flow_of_form(&app, &issuer, (&query, &headers), &answer.csrf) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    let approved = answer.approval == "approve";
    let at = (&flow, brought(&app, &issuer, &headers).remembered);
    match login::answer_consent(app.provider(), &issuer, at, &answer.grant, approved).await {
        Ok(step) => lead_on(&issuer, &flow, &step),
        Err(error) => refusal(&issuer, &error),
    }
}

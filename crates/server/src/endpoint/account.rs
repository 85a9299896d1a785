//! `/account`: whether to go on as the user this browser is signed in as, or as somebody else
//! (`prompt=select_account`, OIDC Core 3.1.2.1).

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use claviger_domain::browser_session;
use claviger_domain::flow::Flow;
use claviger_domain::issuer::Issuer;
use claviger_domain::login;
use serde::Deserialize;

use super::AtIssuer;
use super::step::{FlowQuery, brought, flow_of, flow_of_form, lead_on, refusal};
use crate::app::App;
use crate::page::{AccountPage, Frame, render};

/// What the form sends.
#[derive(Deserialize)]
pub struct AccountForm {
    #[serde(default)]
    account: String,
    #[serde(default)]
    csrf: String,
}

/// Shows the choice; where the browser's session is over meanwhile there is none.
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
    let client = match login::door_name(&issuer, &flow) {
        Ok(client) => client,
        Err(error) => return refusal(&issuer, &error),
    };
    let Some(ticket) = brought(&app, &issuer, &headers).ticket else {
        return sign_in(&issuer, &flow);
    };
    match browser_session::read(app.provider(), &issuer, &ticket).await {
        Ok(Some(session)) => {
            let page = AccountPage {
                frame: Frame::of(&issuer),
                client,
                user: session.payload.identity.label(),
                action: format!("{}/account?{}", issuer.url.path(), FlowQuery::of(&flow)),
                csrf: flow.csrf_token(&issuer),
            };
            render(StatusCode::OK, &page)
        }
        Ok(None) => sign_in(&issuer, &flow),
        Err(error) => refusal(&issuer, &error.into()),
    }
}

/// Takes the choice.
pub async fn submit(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Query(query): Query<FlowQuery>,
    headers: HeaderMap,
    Form(choice): Form<AccountForm>,
) -> Response {
    let flow = match flow_of_form(&app, &issuer, (&query, &headers), &choice.csrf) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    if choice.account != "same" {
        return sign_in(&issuer, &flow);
    }
    let brought = brought(&app, &issuer, &headers);
    match login::with_session(app.provider(), &issuer, &flow, brought).await {
        Ok(Some(step)) => lead_on(&issuer, &flow, &step),
        Ok(None) => sign_in(&issuer, &flow),
        Err(error) => refusal(&issuer, &error),
    }
}

/// To where the user signs in: the one connector there is, or the choice among them.
pub fn sign_in(issuer: &Arc<Issuer>, flow: &Flow) -> Response {
    let (path, query) = (issuer.url.path(), FlowQuery::of(flow));
    let offered = login::connectors_of(issuer, flow)
        .map(|mut offered| (offered.next().map(|c| c.name.clone()), offered.next().is_some()));
    match offered {
        Ok((Some(only), false)) => Redirect::to(&format!("{path}/auth/{only}?{query}")),
        _ => Redirect::to(&format!("{path}/choose?{query}")),
    }
    .into_response()
}

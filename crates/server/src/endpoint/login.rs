//! `/auth/{connector}` and `/auth/{connector}/login`: the form for name and password.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Form, Path, Query, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use claviger_domain::connector::Login;
use claviger_domain::flow::Flow;
use claviger_domain::issuer::Issuer;
use claviger_domain::login::{self, Brought, StepError};
use claviger_protocol::form::Params;
use secrecy::SecretString;
use serde::Deserialize;

use super::AtIssuer;
use super::authorize::at_connector;
use super::step::{FlowQuery, brought, deliver, flow_of, flow_of_form, lead_on, refusal};
use crate::app::App;
use crate::cookies;
use crate::page::{Frame, LoginPage, render};
use crate::throttle;

/// One message for unknown user and wrong password.
const WRONG: &str = "Name or password is wrong.";
const TOO_OFTEN: &str = "Too many failed attempts. Wait a few seconds and try again.";
/// Longest user name looked at, in bytes.
const MAX_USERNAME: usize = 512;
/// Longest password looked at, in bytes.
const MAX_PASSWORD: usize = 1_024;

/// What the form sends; the names are dex's.
#[derive(Deserialize)]
pub struct LoginForm {
    #[serde(default)]
    login: String,
    #[serde(default)]
    password: SecretString,
    #[serde(default)]
    csrf: String,
}

/// To the page that this kind of connector begins with. An authorization request here, as dex takes
/// it, begins a flow at this connector.
pub async fn redirect(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    (Path(connector), Query(query)): (Path<String>, Query<FlowQuery>),
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Response {
    match Params::parse(raw.unwrap_or_default().as_bytes()) {
        Ok(params) if params.get("client_id").is_some() => {
            return at_connector(&app, &issuer, &headers, params, &connector).await;
        }
        _ => {}
    }
    let flow = match flow_of(&app, &issuer, &query, &headers) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    let connector = match login::connector_of(&issuer, &flow, &connector) {
        Ok(connector) => connector,
        Err(error) => return refusal(&issuer, &error),
    };
    let path = match &connector.login {
        Login::Password(_) => format!("/auth/{}/login", connector.name),
        Login::Proxy(_) => format!("/callback/{}", connector.name),
        Login::Redirect(upstream) => {
            let mut response =
                match login::depart(app.provider(), &issuer, &flow, &connector.name).await {
                    Ok(delivery) => deliver(&issuer, &delivery),
                    Err(error) => return refusal(&issuer, &error),
                };
            if upstream.form_field().is_some()
                && let Some(cookie) = cookies::set_for_posts(&issuer, &flow.seal(&issuer))
            {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            return response;
        }
    };
    Redirect::to(&format!("{}{path}?{}", issuer.url.path(), FlowQuery::of(&flow))).into_response()
}

/// Shows the form.
pub async fn show(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Path(connector): Path<String>,
    Query(query): Query<FlowQuery>,
    headers: HeaderMap,
) -> Response {
    match flow_of(&app, &issuer, &query, &headers) {
        Ok(flow) => {
            let hint = flow.login_hint.clone().unwrap_or_default();
            form(&issuer, &flow, &connector, (&hint, None, StatusCode::OK))
        }
        Err(page) => *page,
    }
}

/// Takes the form.
pub async fn submit(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    (Path(connector), Query(query)): (Path<String>, Query<FlowQuery>),
    headers: HeaderMap,
    Form(typed): Form<LoginForm>,
) -> Response {
    let flow = match flow_of_form(&app, &issuer, (&query, &headers), &typed.csrf) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    let brought = brought(&app, &issuer, &headers);
    attempt(&app, &issuer, (&flow, brought), &connector, &typed).await
}

async fn attempt(
    app: &App,
    issuer: &Arc<Issuer>,
    (flow, brought): (&Flow, Brought),
    connector: &str,
    typed: &LoginForm,
) -> Response {
    use secrecy::ExposeSecret;
    let username = typed.login.trim();
    let again = |problem, status| form(issuer, flow, connector, (username, Some(problem), status));
    if username.len() > MAX_USERNAME || typed.password.expose_secret().len() > MAX_PASSWORD {
        return again(WRONG, StatusCode::UNAUTHORIZED);
    }
    let account = throttle::account(issuer, connector, username);
    let under_way = match app.throttle().begin(account) {
        Ok(under_way) => under_way,
        Err(wait) => return wait_first(again(TOO_OFTEN, StatusCode::TOO_MANY_REQUESTS), wait),
    };
    let arriving = (flow, brought);
    let attempt = (username, &typed.password);
    let tried = login::with_password(app.provider(), issuer, arriving, connector, attempt);
    match tried.await {
        Ok(step) => lead_on(issuer, flow, &step),
        Err(StepError::InvalidCredentials) => {
            under_way.failed();
            again(WRONG, StatusCode::UNAUTHORIZED)
        }
        Err(error) => {
            // It came to the password, perhaps: what cannot be used says something about it, and is counted.
            if matches!(error, StepError::Unusable) {
                under_way.failed();
            }
            refusal(issuer, &error)
        }
    }
}

fn wait_first(mut response: Response, wait: Duration) -> Response {
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

fn form(
    issuer: &Issuer,
    flow: &Flow,
    connector: &str,
    (username, problem, status): (&str, Option<&str>, StatusCode),
) -> Response {
    let found = login::connector_of(issuer, flow, connector)
        .and_then(|connector| Ok((connector, login::door_name(issuer, flow)?)));
    let (connector, client) = match found {
        Ok(found) => found,
        Err(error) => return refusal(issuer, &error),
    };
    let Login::Password(password) = &connector.login else {
        return refusal(issuer, &StepError::NoConnector);
    };
    let has_choice =
        login::connectors_of(issuer, flow).is_ok_and(|mut offered| offered.nth(1).is_some());
    let page = LoginPage {
        frame: Frame::of(issuer),
        connector: &connector.display_name,
        client,
        username_label: password.username_label(),
        username,
        csrf: flow.csrf_token(issuer),
        problem,
        back: has_choice.then(|| format!("{}/choose?{}", issuer.url.path(), FlowQuery::of(flow))),
    };
    render(status, &page)
}

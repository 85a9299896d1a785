//! What the login steps share: opening the flow, and where each outcome and refusal leads.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use claviger_domain::consent::Consent;
use claviger_domain::flow::{Flow, FlowError};
use claviger_domain::issuer::Issuer;
use claviger_domain::login::{Brought, Outcome, Step, StepError};
use claviger_protocol::response_type::Delivery;
use serde::Deserialize;

use super::{asset, device};
use crate::app::App;
use crate::cookies;
use crate::page::{ConsentPage, ErrorPage, FormPostPage, Frame, issuer_error, render};

/// Seconds a user is told to wait when something behind us is away.
const RETRY_AFTER: u32 = 5;

/// The query that names a flow.
#[derive(Debug, Deserialize)]
pub struct FlowQuery {
    #[serde(default)]
    state: String,
}

impl FlowQuery {
    /// That of the flow of this ID, wherever it was said.
    pub fn naming(state: &str) -> Self {
        Self { state: state.to_owned() }
    }

    /// The flow's link parameter.
    pub fn of(flow: &Flow) -> String {
        format!("state={}", flow.id)
    }
}

/// The flow a request is about, or the page that says why there is none.
pub fn flow_of(
    app: &App,
    issuer: &Issuer,
    query: &FlowQuery,
    headers: &HeaderMap,
) -> Result<Flow, Box<Response>> {
    let received = cookies::received(headers);
    let now = app.provider().clock.now();
    Flow::open(issuer, &query.state, cookies::pairs(&received), now).map_err(|error| {
        let heading = match error {
            FlowError::NoCookie => "This sign-in was not started here",
            FlowError::Expired => "This sign-in has expired",
        };
        let message = "Go back to the application and start again. If this happens every time, allow \
                       cookies for this site.";
        Box::new(issuer_error(issuer, &ErrorPage { status: StatusCode::BAD_REQUEST, heading, message }))
    })
}

/// The flow that a form of one of our pages belongs to, or the page for one that is not ours.
pub fn flow_of_form(
    app: &App,
    issuer: &Issuer,
    (query, headers): (&FlowQuery, &HeaderMap),
    csrf: &str,
) -> Result<Flow, Box<Response>> {
    refuse_cross_site(issuer, headers)?;
    let flow = flow_of(app, issuer, query, headers)?;
    if flow.is_csrf_token(issuer, csrf) { Ok(flow) } else { Err(Box::new(expired_form(issuer))) }
}

/// Refuses forms that another site's page sent: the cookie would not come along anyway, but a browser
/// that says so is believed first.
pub fn refuse_cross_site(issuer: &Issuer, headers: &HeaderMap) -> Result<(), Box<Response>> {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"cross-site") => Err(Box::new(expired_form(issuer))),
        _ => Ok(()),
    }
}

/// The page for a form that is not the one we sent.
pub fn expired_form(issuer: &Issuer) -> Response {
    let error = ErrorPage {
        status: StatusCode::FORBIDDEN,
        heading: "This form has expired",
        message: "Go back to the application and start again.",
    };
    issuer_error(issuer, &error)
}

/// What a request's browser brought along, of itself.
pub fn brought(app: &App, issuer: &Issuer, headers: &HeaderMap) -> Brought {
    let received = cookies::received(headers);
    Brought::of(issuer, cookies::pairs(&received), app.provider().clock.now())
}

/// Where a step leads.
pub fn lead_on(issuer: &Arc<Issuer>, flow: &Flow, step: &Step) -> Response {
    let mut response = match &step.outcome {
        Outcome::Answer(delivery) => deliver(issuer, delivery),
        Outcome::Consent(consent) => ask_consent(issuer, flow, consent),
        Outcome::Device(entry) => device::ask(issuer, flow, entry, (None, StatusCode::OK)),
    };
    cookies::set_all(issuer, &step.cookies, &mut response);
    response
}

/// Sends the browser back to the client.
pub fn deliver(issuer: &Issuer, delivery: &Delivery) -> Response {
    /// As every page's, but for the one script.
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                          img-src 'self' https: data:; base-uri 'none'; frame-ancestors 'none'";
    let (action, fields) = match delivery {
        Delivery::Redirect(location) => return Redirect::to(location).into_response(),
        Delivery::Post { action, fields } => (action, fields),
    };
    let script = format!("{}/static/{}", issuer.url.path(), asset::submit_name());
    let page = FormPostPage { frame: Frame::of(issuer), action, fields, script };
    let mut response = render(StatusCode::OK, &page);
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn ask_consent(issuer: &Issuer, flow: &Flow, consent: &Consent) -> Response {
    let reveals = consent.scopes.iter().map(|scope| in_words(scope)).collect();
    let page = ConsentPage {
        frame: Frame::of(issuer),
        client: &consent.client,
        user: &consent.user,
        tenant_id: consent.tenant_id.as_deref(),
        pages: &consent.pages,
        reveals,
        action: format!("{}/approval?{}", issuer.url.path(), FlowQuery::of(flow)),
        csrf: flow.csrf_token(issuer),
        grant: &consent.grant,
        other: format!("{}/choose?{}", issuer.url.path(), FlowQuery::of(flow)),
    };
    render(StatusCode::OK, &page)
}

/// What a scope lets a client know or do.
pub fn in_words(scope: &str) -> &str {
    match scope {
        "openid" => "That you signed in, and your identifier",
        "email" => "Your mail address",
        "profile" => "Your name and profile",
        "address" => "Your postal address",
        "phone" => "Your telephone number",
        "groups" => "The groups you are in",
        "offline_access" => "All this also later, while you are away",
        "federated:id" => "Your identifier at the directory you sign in with",
        other => other,
    }
}

/// The page for a step that did not happen; `InvalidCredentials` never comes here.
pub fn refusal(issuer: &Issuer, error: &StepError) -> Response {
    let said;
    let (status, heading, message) = match error {
        StepError::Proxy(error) => {
            said = format!("Tell whoever runs the proxy in front of this sign-in: {error}.");
            let status =
                if error.is_about_peer() { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
            (status, "The proxy's word is not taken", said.as_str())
        }
        StepError::InvalidCredentials => {
            (StatusCode::UNAUTHORIZED, "Not signed in", "Name or password is wrong.")
        }
        StepError::Unverified => (
            StatusCode::BAD_REQUEST,
            "The other sign-in could not be verified",
            "What came back from it is not an answer to this sign-in, or came too late. Go back to the application \
             and start again; if this happens every time, tell whoever runs this site.",
        ),
        StepError::NoConnector => (
            StatusCode::NOT_FOUND,
            "This way to sign in is not available",
            "Go back to the application and start again.",
        ),
        StepError::NoClient => (
            StatusCode::BAD_REQUEST,
            "The application is not available",
            "It was changed or removed while you signed in. Start again there.",
        ),
        StepError::Denied(why) => {
            said = format!("The reason: {why}.");
            (StatusCode::FORBIDDEN, "You may not sign in here", said.as_str())
        }
        StepError::Expired => (
            StatusCode::BAD_REQUEST,
            "This sign-in has expired",
            "Go back to the application and start again.",
        ),
        StepError::Unusable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "This account cannot be used here",
            "What the directory says about it is not enough. Tell whoever runs this site; their log says what is \
             missing.",
        ),
        StepError::Unavailable(_) | StepError::Busy { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Sign-in is not possible at the moment",
            "Something it needs cannot be reached. Please try again in a little while.",
        ),
    };
    let mut response = issuer_error(issuer, &ErrorPage { status, heading, message });
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let retry_after = match error {
            StepError::Busy { retry_after, .. } => *retry_after,
            _ => RETRY_AFTER,
        };
        let retry_after = HeaderValue::from(retry_after);
        response.headers_mut().insert(header::RETRY_AFTER, retry_after);
    }
    response
}

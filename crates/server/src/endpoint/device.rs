//! `/device` (RFC 8628 3.3): where a user who has signed in types the code that their device shows.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use claviger_domain::client::Grant;
use claviger_domain::device_page::{self, Confirmation, DeviceError, Entry, Visitor};
use claviger_domain::flow::Flow;
use claviger_domain::issuer::Issuer;
use claviger_domain::login;
use serde::Deserialize;

use super::AtIssuer;
use super::account::sign_in;
use super::authorize::with_flow;
use super::home::not_found;
use super::step::{FlowQuery, brought, expired_form, flow_of_form, in_words, lead_on, refusal};
use crate::accept::Peer;
use crate::app::App;
use crate::device_throttles::source;
use crate::page::{DeviceConfirmPage, DeviceDonePage, DevicePage, ErrorPage, Frame};
use crate::page::{issuer_error, render};

const UNKNOWN: &str = "No device waits with this code. Look at it again; if it is too old, start again \
                       on the device.";
const TOO_OFTEN: &str = "Too many wrong codes. Wait a little and try again.";

/// What the address brings (RFC 8628 3.3.1).
#[derive(Deserialize)]
pub struct DeviceQuery {
    user_code: Option<String>,
}

/// What the forms send.
#[derive(Deserialize)]
pub struct DeviceForm {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    sign_in: String,
    #[serde(default)]
    user_code: String,
    #[serde(default)]
    confirmation: String,
    #[serde(default)]
    decision: String,
}

/// Begins a sign-in at this page; where the browser's session will do, the code is asked for at once.
pub async fn show(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Query(query): Query<DeviceQuery>,
    headers: HeaderMap,
) -> Response {
    if !issuer.grants.contains(&Grant::DeviceCode) {
        return not_found(Extension(issuer)).await;
    }
    let flow = device_page::begin(app.provider(), query.user_code.as_deref());
    let brought = brought(&app, &issuer, &headers);
    let response = match login::with_session(app.provider(), &issuer, &flow, brought).await {
        Ok(Some(step)) => lead_on(&issuer, &flow, &step),
        Ok(None) => sign_in(&issuer, &flow),
        Err(error) => {
            tracing::warn!(%error, "a browser's session could not be used");
            sign_in(&issuer, &flow)
        }
    };
    with_flow(&app, &issuer, &headers, (&flow.seal(&issuer), response))
}

/// Takes the code, or the decision.
pub async fn submit(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    peer: Option<Extension<Arc<Peer>>>,
    (Query(query), headers): (Query<FlowQuery>, HeaderMap),
    Form(form): Form<DeviceForm>,
) -> Response {
    let flow = match flow_of_form(&app, &issuer, (&query, &headers), &form.csrf) {
        Ok(flow) => flow,
        Err(page) => return *page,
    };
    if flow.device.is_none() {
        return expired_form(&issuer);
    }
    let now = app.provider().clock.now();
    let visitor = match Visitor::open(&issuer, &flow, &form.sign_in, now) {
        Ok(visitor) => visitor,
        Err(error) => return refusal(&issuer, &error),
    };
    let source = source(&issuer.uid, peer.map(|Extension(peer)| peer.address));
    let at = At { app: &app, issuer: &issuer, flow: &flow, visitor: &visitor };
    match at.answer(&form, source).await {
        Answer::Page(page) => page,
        Answer::SignIn => {
            let flow = device_page::begin_separately(app.provider(), &form.user_code);
            let response = sign_in(&issuer, &flow);
            with_flow(&app, &issuer, &headers, (&flow.seal(&issuer), response))
        }
    }
}

/// A visitor at the page.
struct At<'a> {
    app: &'a App,
    issuer: &'a Issuer,
    flow: &'a Flow,
    visitor: &'a Visitor,
}

/// What comes of a form.
enum Answer {
    Page(Response),
    /// The client of the device wants a sign-in of its own.
    SignIn,
}

impl At<'_> {
    async fn answer(&self, form: &DeviceForm, source: String) -> Answer {
        let throttles = self.app.device_throttles();
        let tries = throttles
            .by_user
            .begin(self.visitor.hash(self.issuer))
            .and_then(|user| Ok((user, throttles.by_address.begin(source)?)));
        let (by_user, by_address) = match tries {
            Ok(tries) => tries,
            Err(wait) => return Answer::Page(self.wait_first(form, wait)),
        };
        let page = match self.go_on(form).await {
            Ok(page) => page,
            Err(DeviceError::Unknown) => {
                by_user.failed();
                by_address.failed();
                self.again(form, (UNKNOWN, StatusCode::NOT_FOUND))
            }
            Err(DeviceError::Denied(why)) => issuer_error(
                self.issuer,
                &ErrorPage {
                    status: StatusCode::FORBIDDEN,
                    heading: "You may not let this device in",
                    message: &format!("The reason: {why}. Go back and sign in as somebody else."),
                },
            ),
            Err(DeviceError::SignIn) => return Answer::SignIn,
            Err(DeviceError::Step(error)) => refusal(self.issuer, &error),
        };
        Answer::Page(page)
    }

    async fn go_on(&self, form: &DeviceForm) -> Result<Response, DeviceError> {
        let (provider, at) = (self.app.provider(), (self.flow, self.visitor));
        let approved = match form.decision.as_str() {
            "" => {
                let asked = device_page::look_up(provider, self.issuer, at, &form.user_code)?;
                return Ok(self.confirm(form, &asked));
            }
            decision => decision == "approve",
        };
        let shown = (form.user_code.as_str(), form.confirmation.as_str());
        let client = device_page::decide(provider, self.issuer, at, shown, approved).await?;
        let page = DeviceDonePage { frame: Frame::of(self.issuer), client: &client, approved };
        Ok(render(StatusCode::OK, &page))
    }

    fn confirm(&self, form: &DeviceForm, asked: &Confirmation) -> Response {
        let page = DeviceConfirmPage {
            frame: Frame::of(self.issuer),
            client: &asked.client,
            tenant_id: asked.tenant_id.as_deref(),
            user: &asked.user,
            user_code: &asked.user_code,
            reveals: asked.scopes.iter().map(|scope| in_words(scope)).collect(),
            action: action(self.issuer, self.flow),
            csrf: &form.csrf,
            sign_in: &form.sign_in,
            token: &asked.token,
            other: other(self.issuer, self.flow),
        };
        render(StatusCode::OK, &page)
    }

    fn again(&self, form: &DeviceForm, (problem, status): (&str, StatusCode)) -> Response {
        let entry = Entry {
            user: self.visitor.label().to_owned(),
            user_code: form.user_code.chars().take(64).collect(),
            sign_in: form.sign_in.clone(),
        };
        ask(self.issuer, self.flow, &entry, (Some(problem), status))
    }

    fn wait_first(&self, form: &DeviceForm, wait: Duration) -> Response {
        let mut response = self.again(form, (TOO_OFTEN, StatusCode::TOO_MANY_REQUESTS));
        let seconds = HeaderValue::from(wait.as_secs() + 1);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        response
    }
}

/// The page that asks for the code.
pub fn ask(
    issuer: &Issuer,
    flow: &Flow,
    entry: &Entry,
    (problem, status): (Option<&str>, StatusCode),
) -> Response {
    let page = DevicePage {
        frame: Frame::of(issuer),
        user: &entry.user,
        user_code: &entry.user_code,
        action: action(issuer, flow),
        csrf: flow.csrf_token(issuer),
        sign_in: &entry.sign_in,
        problem,
        other: other(issuer, flow),
    };
    render(status, &page)
}

fn action(issuer: &Issuer, flow: &Flow) -> String {
    format!("{}/device?{}", issuer.url.path(), FlowQuery::of(flow))
}

fn other(issuer: &Issuer, flow: &Flow) -> String {
    format!("{}/choose?{}", issuer.url.path(), FlowQuery::of(flow))
}

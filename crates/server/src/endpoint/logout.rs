//! `/logout` (OpenID Connect RP-Initiated Logout 1.0): by GET, by POST, and the user's own word.

use std::collections::BTreeSet;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use claviger_domain::browser_session::Ticket;
use claviger_domain::issuer::Issuer;
use claviger_domain::logout::{self, Decision, SignedOut};
use claviger_protocol::form::Params;
use claviger_protocol::logout::LogoutRequest;

use super::step::{brought, refusal, refuse_cross_site};
use super::{AtIssuer, asset};
use crate::app::App;
use crate::cookies;
use crate::page::{
    ErrorPage, Frame, LogoutPage, SignedOutPage, UpstreamLogoutPage, issuer_error, render,
};

/// How long the browser waits for frames that do not load, in seconds.
const PATIENCE_SECONDS: u32 = 5;

/// By GET.
pub async fn by_query(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let request = Params::parse(query.unwrap_or_default().as_bytes())
        .and_then(|params| LogoutRequest::parse(&params));
    match request {
        Ok(request) => answer(&app, &issuer, &headers, (&request, None)).await,
        Err(error) => refuse(&issuer, &error.to_string()),
    }
}

/// By POST: an application's, which is asked again by GET since a browser keeps our cookie from a form of
/// another site; or that of our own page.
pub async fn by_form(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parsed = Params::parse(&body).and_then(|params| {
        Ok((LogoutRequest::parse(&params)?, params.get("csrf").map(str::to_owned)))
    });
    let (request, csrf) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&issuer, &error.to_string()),
    };
    let Some(csrf) = csrf else {
        let location = format!("{}/logout?{}", issuer.url.path(), request.query());
        return Redirect::to(&location).into_response();
    };
    if let Err(page) = refuse_cross_site(&issuer, &headers) {
        return *page;
    }
    answer(&app, &issuer, &headers, (&request, Some(&csrf))).await
}

async fn answer(
    app: &App,
    issuer: &Issuer,
    headers: &HeaderMap,
    (request, csrf): (&LogoutRequest, Option<&str>),
) -> Response {
    let brought = brought(app, issuer, headers);
    let tickets = (brought.ticket, brought.there);
    match logout::decide((app.provider(), issuer), request, tickets, csrf).await {
        Ok(Decision::Ask { client, csrf }) => {
            let page = LogoutPage {
                frame: Frame::of(issuer),
                client: client.as_deref(),
                action: format!("{}/logout", issuer.url.path()),
                fields: request.fields(),
                csrf,
            };
            render(StatusCode::OK, &page)
        }
        Ok(Decision::Leave { location, cookie }) => {
            let mut response = Redirect::to(&location).into_response();
            cookies::set_all(issuer, [&cookie], &mut response);
            response
        }
        Ok(Decision::AskForUpstream { client, connector, location, cookie }) => {
            let page = UpstreamLogoutPage {
                frame: Frame::of(issuer),
                client: client.as_deref(),
                upstream: &connector,
                location: &location,
            };
            let mut response = render(StatusCode::OK, &page);
            cookies::set_all(issuer, &cookie, &mut response);
            response
        }
        Ok(Decision::End { ticket, location, return_to }) => {
            end(app, issuer, headers, (ticket, location, &return_to)).await
        }
        Err(error) => refuse(issuer, &format!("{error}.")),
    }
}

async fn end(
    app: &App,
    issuer: &Issuer,
    headers: &HeaderMap,
    (ticket, location, return_to): (Option<Ticket>, Option<String>, &str),
) -> Response {
    let received = cookies::received(headers);
    let pairs = cookies::pairs(&received);
    let ending = logout::end(app.provider(), issuer, (ticket.as_ref(), return_to), pairs);
    let SignedOut { cookies, frames, upstream } = match ending.await {
        Ok(out) => out,
        Err(error) => return refusal(issuer, &error.into()),
    };
    let next = upstream.or(location);
    let mut response = match next {
        Some(next) if frames.is_empty() => Redirect::to(&next).into_response(),
        next => signed_out(issuer, &frames, next.as_deref()),
    };
    cookies::set_all(issuer, &cookies, &mut response);
    response
}

/// The page that says goodbye, with a frame for each client that is told by the browser (Front-Channel Logout 1.0 3).
fn signed_out(issuer: &Issuer, frames: &[logout::Frame], next: Option<&str>) -> Response {
    let page = SignedOutPage {
        frame: Frame::of(issuer),
        frames: frames.iter().map(|frame| frame.address.as_str()).collect(),
        next,
        patience: PATIENCE_SECONDS,
        script: format!("{}/static/{}", issuer.url.path(), asset::continue_name()),
    };
    let mut response = render(StatusCode::OK, &page);
    if frames.is_empty() {
        return response;
    }
    let origins: BTreeSet<&str> = frames.iter().map(|frame| frame.origin.as_str()).collect();
    let origins: Vec<&str> = origins.into_iter().collect();
    let policy = format!(
        "default-src 'none'; script-src 'self'; frame-src {}; style-src 'self'; img-src 'self' https: data:; \
         base-uri 'none'; frame-ancestors 'none'",
        origins.join(" ")
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn refuse(issuer: &Issuer, message: &str) -> Response {
    let heading = "The application sent a request that cannot be answered";
    issuer_error(issuer, &ErrorPage { status: StatusCode::BAD_REQUEST, heading, message })
}

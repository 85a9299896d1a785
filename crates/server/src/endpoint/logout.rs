//! `/logout` (OpenID Connect RP-Initiated Logout 1.0): by GET, by POST, and the user's own word.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use claviger_domain::browser_session::Ticket;
use claviger_domain::issuer::Issuer;
use claviger_domain::logout::{self, Decision};
use claviger_protocol::form::Params;
use claviger_protocol::logout::LogoutRequest;

use super::AtIssuer;
use super::step::{brought, refusal, refuse_cross_site};
use crate::app::App;
use crate::cookies;
use crate::page::{ErrorPage, Frame, LogoutPage, SignedOutPage, issuer_error, render};

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
    let now = app.provider().clock.now();
    let ticket = brought(app, issuer, headers).ticket;
    match logout::decide(issuer, request, ticket, (csrf, now)) {
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
        Ok(Decision::End { ticket, location }) => {
            end(app, issuer, headers, (ticket, location)).await
        }
        Err(error) => refuse(issuer, &format!("{error}.")),
    }
}

async fn end(
    app: &App,
    issuer: &Issuer,
    headers: &HeaderMap,
    (ticket, location): (Option<Ticket>, Option<String>),
) -> Response {
    let received = cookies::received(headers);
    let pairs = cookies::pairs(&received);
    let cleared = match logout::end(app.provider(), issuer, ticket.as_ref(), pairs).await {
        Ok(cleared) => cleared,
        Err(error) => return refusal(issuer, &error.into()),
    };
    let mut response = match location {
        Some(location) => Redirect::to(&location).into_response(),
        None => render(StatusCode::OK, &SignedOutPage { frame: Frame::of(issuer) }),
    };
    cookies::set_all(issuer, &cleared, &mut response);
    response
}

fn refuse(issuer: &Issuer, message: &str) -> Response {
    let heading = "The application sent a request that cannot be answered";
    issuer_error(issuer, &ErrorPage { status: StatusCode::BAD_REQUEST, heading, message })
}

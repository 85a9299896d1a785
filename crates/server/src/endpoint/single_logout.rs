//! `/callback/{connector}/logout` by GET: what the browser brings from an upstream about signing out (SAML Profiles 4.4).
//!
//! What always holds: nobody is sent anywhere but to that upstream, with our answer, or to our own `/logout`, which checks
//! the application's address again.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use claviger_domain::cookie::Cookie;
use claviger_domain::issuer::Issuer;
use claviger_domain::single_logout::{Heard, hear as hear_from};
use claviger_domain::upstream_logout::NoticeError;
use claviger_domain::upstream_ticket::{UpstreamTicket, cleared};

use super::AtIssuer;
use super::step::brought;
use super::token::no_store;
use crate::app::App;
use crate::cookies;
use crate::page::{ErrorPage, issuer_error};

/// Seconds a user is told to wait when something behind us is away.
const RETRY_AFTER: u32 = 5;

/// Takes a message.
pub async fn hear(
    State(app): State<App>,
    Extension(issuer): AtIssuer,
    Path(connector): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let there = brought(&app, &issuer, &headers).there;
    let query = query.unwrap_or_default();
    // What has begun is finished, though the browser goes away: it may never come again.
    let (begun, at, named) = (app.begun().clone(), Arc::clone(&issuer), connector.clone());
    let hearing = begun.spawn(async move { hear_from(app.provider(), &at, &named, &query).await });
    let heard =
        hearing.await.unwrap_or_else(|error| Err(NoticeError::Unavailable(error.to_string())));
    no_store(match heard {
        Ok(Heard::Answer { location, connector_uid, user_id }) => {
            let is_theirs =
                there.zip(user_id).is_some_and(|(there, user)| there.is_of(&connector_uid, &user));
            lead(&issuer, &location, is_theirs.then(|| cleared(&issuer)).as_ref())
        }
        Ok(Heard::Back { done: true, connector_uid, to, .. }) => {
            back(&issuer, there.filter(|there| there.is_answered(&connector_uid, to.as_deref())))
        }
        Ok(Heard::Back { connector, done: false, .. }) => still_there(&issuer, &connector),
        Err(NoticeError::NoConnector) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Err(error) => refuse(&issuer, &connector, &error),
    })
}

fn lead(issuer: &Issuer, location: &str, cookie: Option<&Cookie>) -> Response {
    let mut response = Redirect::to(location).into_response();
    cookies::set_all(issuer, cookie, &mut response);
    response
}

/// On to where the application wanted its user, which `/logout` looks at as at any request; without a ticket of this very way,
/// to `/logout` alone.
fn back(issuer: &Issuer, there: Option<UpstreamTicket>) -> Response {
    let logout = format!("{}/logout", issuer.url.path());
    let Some(there) = there else { return lead(issuer, &logout, None) };
    let location = there.back.map_or_else(|| logout.clone(), |query| format!("{logout}?{query}"));
    lead(issuer, &location, Some(&cleared(issuer)))
}

fn still_there(issuer: &Issuer, connector: &str) -> Response {
    tracing::warn!(connector, "an upstream did not sign its user out, or not everywhere");
    let message = format!(
        "{connector} says that it could not sign you out, or not everywhere. Here you are signed out. Close the browser to be sure."
    );
    let heading = "You may still be signed in elsewhere";
    let page = ErrorPage { status: StatusCode::BAD_GATEWAY, heading, message: &message };
    issuer_error(issuer, &page)
}

fn refuse(issuer: &Issuer, connector: &str, error: &NoticeError) -> Response {
    if let NoticeError::Refused { .. } = error {
        tracing::warn!(connector, %error, "what a browser brought about a sign-out is not believed");
        return issuer_error(
            issuer,
            &ErrorPage {
                status: StatusCode::BAD_REQUEST,
                heading: "The other sign-in's message could not be verified",
                message: "It is about signing out, and nothing was ended for it. If this happens every time, tell whoever runs \
                      this site; their log says why.",
            },
        );
    }
    tracing::warn!(connector, %error, "what a browser brought about a sign-out cannot be judged");
    let mut response = issuer_error(
        issuer,
        &ErrorPage {
            status: StatusCode::SERVICE_UNAVAILABLE,
            heading: "Signing out is not possible at the moment",
            message: "Something it needs cannot be reached. Please try again in a little while.",
        },
    );
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    response
}

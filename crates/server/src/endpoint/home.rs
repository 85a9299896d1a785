//! The issuer's front page, and the page for every path that leads nowhere.

use axum::Extension;
use axum::http::StatusCode;
use axum::response::Response;

use super::AtIssuer;
use crate::page::{ErrorPage, Frame, HomePage, issuer_error, render};

/// Shows what this is.
pub async fn show(Extension(issuer): AtIssuer) -> Response {
    let page = HomePage { frame: Frame::of(&issuer), issuer: issuer.url.as_str() };
    render(StatusCode::OK, &page)
}

/// Shows that there is nothing.
pub async fn not_found(Extension(issuer): AtIssuer) -> Response {
    let error = ErrorPage {
        status: StatusCode::NOT_FOUND,
        heading: "Nothing here",
        message: "This address leads nowhere.",
    };
    issuer_error(&issuer, &error)
}

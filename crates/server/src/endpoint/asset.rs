//! `/static/…`: the style sheet, under a name made of its content, so that it may be kept for ever.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;

const STYLE: &str = include_str!("../../static/style.css");

static STYLE_NAME: LazyLock<String> = LazyLock::new(|| {
    let hash = digest::digest(&digest::SHA256, STYLE.as_bytes());
    format!("style-{}.css", HEXLOWER.encode(&hash.as_ref()[..4]))
});

/// The style sheet's name.
pub fn style_name() -> &'static str {
    &STYLE_NAME
}

/// Serves it.
pub async fn show(Path(name): Path<String>) -> Response {
    if name != *STYLE_NAME {
        return StatusCode::NOT_FOUND.into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, STYLE).into_response()
}

//! `/static/…`: the style sheet and two scripts, under names made of their content, so that they may be
//! kept for ever.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;

/// A file that never changes under its name.
struct Asset {
    name: String,
    content_type: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, content: &'static str) -> Self {
        let hash = digest::digest(&digest::SHA256, content.as_bytes());
        let hash = HEXLOWER.encode(&hash.as_ref()[..4]);
        Self { name: format!("{stem}-{hash}.{extension}"), content_type, content }
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let css = include_str!("../../static/style.css");
    Asset::new("style", "css", "text/css; charset=utf-8", css)
});

/// Sends the form of a page.
static SUBMIT: LazyLock<Asset> = LazyLock::new(|| {
    let script = include_str!("../../static/submit.js");
    Asset::new("submit", "js", "text/javascript; charset=utf-8", script)
});

/// Goes on when all of a page has loaded.
static CONTINUE: LazyLock<Asset> = LazyLock::new(|| {
    let script = include_str!("../../static/continue.js");
    Asset::new("continue", "js", "text/javascript; charset=utf-8", script)
});

/// The style sheet's name.
pub fn style_name() -> &'static str {
    &STYLE.name
}

/// The name of the script that sends a page's form.
pub fn submit_name() -> &'static str {
    &SUBMIT.name
}

/// The name of the script that goes on when a page has loaded.
pub fn continue_name() -> &'static str {
    &CONTINUE.name
}

/// Serves them.
pub async fn show(Path(name): Path<String>) -> Response {
    let Some(asset) = [&*STYLE, &*SUBMIT, &*CONTINUE].into_iter().find(|a| a.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, asset.content).into_response()
}

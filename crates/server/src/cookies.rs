//! Cookies in and out. Every cookie of ours is `HttpOnly`, `SameSite=Lax`, `Path=/`, and `Secure` on https.

use axum::http::{HeaderMap, HeaderValue, header};
use claviger_domain::flow::{FLOW_SECONDS, FlowCookie};
use claviger_domain::issuer::Issuer;
use cookie::time::Duration;
use cookie::{Cookie, SameSite};

/// Names and values of the request's cookies.
pub fn received(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The same, borrowed, as the domain takes them.
pub fn pairs(cookies: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    cookies.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// The header that sets a flow's cookie.
pub fn set(issuer: &Issuer, flow: &FlowCookie) -> Option<HeaderValue> {
    header_value(issuer, &flow.name, &flow.value, FLOW_SECONDS)
}

/// The header that clears a cookie.
pub fn clear(issuer: &Issuer, name: &str) -> Option<HeaderValue> {
    header_value(issuer, name, "", 0)
}

fn header_value(issuer: &Issuer, name: &str, value: &str, seconds: i64) -> Option<HeaderValue> {
    let cookie = Cookie::build((name, value))
        .path("/")
        .http_only(true)
        .secure(issuer.url.is_https())
        .same_site(SameSite::Lax)
        .max_age(Duration::seconds(seconds))
        .build();
    HeaderValue::from_str(&cookie.to_string()).ok()
}

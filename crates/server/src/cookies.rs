//! Cookies in and out. Every cookie of ours is `HttpOnly`, `SameSite=Lax`, `Path=/`, and `Secure` on https. The one of a
//! flow on its way to an upstream that makes the browser post the answer is `SameSite=None`: it would not come along.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use claviger_domain::cookie::Cookie;
use claviger_domain::issuer::Issuer;
use cookie::SameSite;
use cookie::time::Duration;

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
pub fn pairs(cookies: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> + Clone {
    cookies.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// The header that sets a cookie, or clears it.
pub fn set(issuer: &Issuer, set: &Cookie) -> Option<HeaderValue> {
    header_of(issuer, set, SameSite::Lax)
}

/// The header that sets a cookie which comes along with a form that a page of another site posts. Browsers take such
/// cookies by TLS alone; where there is none, only pages of the same site can post.
pub fn set_for_posts(issuer: &Issuer, set: &Cookie) -> Option<HeaderValue> {
    let same_site = if issuer.url.is_https() { SameSite::None } else { SameSite::Lax };
    header_of(issuer, set, same_site)
}

fn header_of(issuer: &Issuer, set: &Cookie, same_site: SameSite) -> Option<HeaderValue> {
    let mut cookie = cookie::Cookie::build((set.name.as_str(), set.value.as_str()))
        .path("/")
        .http_only(true)
        .secure(issuer.url.is_https())
        .same_site(same_site);
    if let Some(seconds) = set.seconds {
        cookie = cookie.max_age(Duration::seconds(seconds));
    }
    HeaderValue::from_str(&cookie.build().to_string()).ok()
}

/// Puts cookies into a response.
pub fn set_all<'c>(
    issuer: &Issuer,
    cookies: impl IntoIterator<Item = &'c Cookie>,
    response: &mut Response,
) {
    for value in cookies.into_iter().filter_map(|cookie| set(issuer, cookie)) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

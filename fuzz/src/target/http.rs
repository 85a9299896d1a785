//! Whole requests at the whole server: whatever it is, what [`Answer::check`](super::site::Answer::check) says holds.

use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::site::{HOST_NAME, site};

/// `METHOD target`, header lines, an empty line, a body: what can be made a request of is sent.
pub fn request(bytes: &[u8]) {
    let Some(request) = read(bytes) else { return };
    let site = site();
    let answer = site.send(request);
    answer.check(&site);
}

fn read(bytes: &[u8]) -> Option<Request<Body>> {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let body = bytes.get(end + 2..).unwrap_or_default().to_vec();
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let target = Uri::try_from(&first[space + 1..]).ok()?;
    let mut request = Request::builder().method(method).uri(target).header(HOST, HOST_NAME);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
        request = request.header(name, HeaderValue::from_bytes(value).ok()?);
    }
    request.body(Body::from(body)).ok()
}

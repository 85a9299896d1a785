//! Cross-origin calls from scripts: metadata and keys for everybody, token, revocation and userinfo
//! for the origins the issuer names, everything else for nobody.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use claviger_domain::issuer::Issuer;

/// What of a request decides.
#[derive(Debug)]
pub struct Call {
    path: String,
    origin: Option<HeaderValue>,
    is_preflight: bool,
}

impl Call {
    /// Takes it from a request whose path is already below its issuer.
    pub fn of(request: &Request) -> Self {
        let headers = request.headers();
        Self {
            path: request.uri().path().to_owned(),
            origin: headers.get(header::ORIGIN).cloned(),
            is_preflight: request.method() == Method::OPTIONS
                && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD),
        }
    }

    fn allowed_origin(&self, issuer: &Issuer) -> Option<HeaderValue> {
        let origin = self.origin.as_ref()?;
        match self.path.as_str() {
            "/.well-known/openid-configuration" | "/keys" => Some(HeaderValue::from_static("*")),
            "/par" | "/token" | "/token/revoke" | "/userinfo" => {
                issuer.cors_allowed_origins.contains(origin.to_str().ok()?).then(|| origin.clone())
            }
            _ => None,
        }
    }
}

/// The answer to a preflight, if it is one.
pub fn preflight(issuer: &Issuer, call: &Call) -> Option<Response> {
    if !call.is_preflight {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if call.allowed_origin(issuer).is_some() {
        let headers = response.headers_mut();
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
        set(header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, dpop");
        set(header::ACCESS_CONTROL_MAX_AGE, "600");
        allow(issuer, call, &mut response);
    }
    Some(response)
}

/// Lets the calling script read the answer, where it may.
pub fn allow(issuer: &Issuer, call: &Call, response: &mut Response<Body>) {
    if let Some(origin) = call.allowed_origin(issuer) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("dpop-nonce, www-authenticate");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

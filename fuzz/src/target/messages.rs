//! Messages of clients and browsers: authorization and token requests, and how a client says who it is.

use claviger_protocol::authorize::{
    AuthorizationResponse, MAX_NONCE, MAX_STATE, UnverifiedRequest,
};
use claviger_protocol::client_auth::{ClientCredentials, ClientProof};
use claviger_protocol::form::Params;
use claviger_protocol::introspect::IntrospectionRequest;
use claviger_protocol::redirect_uri::RedirectUri;
use claviger_protocol::request_object::parameters;
use claviger_protocol::response_type::{Delivery, ResponseMode};
use claviger_protocol::revoke::RevocationRequest;
use claviger_protocol::token::TokenRequest;
use claviger_protocol::userinfo::bearer_token;
use data_encoding::BASE64;
use secrecy::ExposeSecret;

/// A request that is in order keeps its limits, and its answer goes to its redirect URI and brings its state back.
pub fn authorize(bytes: &[u8]) {
    let Ok(params) = Params::parse(bytes) else { return };
    let Ok(unverified) = UnverifiedRequest::parse(&params) else { return };
    let redirect_uri = unverified.redirect_uri.as_deref().map(RedirectUri::parse);
    if let Ok(request) = unverified.validate() {
        assert!(request.scope.contains("openid"), "a request without openid");
        assert!(request.state.as_ref().is_none_or(|state| state.len() <= MAX_STATE));
        assert!(request.nonce.as_ref().is_none_or(|nonce| nonce.len() <= MAX_NONCE));
        assert_eq!(request.state, unverified.state);
    }
    if let Some(Ok(redirect_uri)) = redirect_uri {
        let state = unverified.state.as_deref();
        for mode in [ResponseMode::Query, ResponseMode::Fragment, ResponseMode::FormPost] {
            goes_back(&redirect_uri, state, mode);
        }
    }
}

/// An answer goes to its redirect URI and nowhere else, whatever that and the state hold, and says what it is to say.
fn goes_back(redirect_uri: &RedirectUri, state: Option<&str>, mode: ResponseMode) {
    let answer = AuthorizationResponse::default().with("code", "a code");
    let delivery = answer.deliver(state, "https://id.example.org", (redirect_uri, mode));
    let (to, said): (String, Vec<(String, String)>) = match delivery {
        Delivery::Post { action, fields } => {
            (action, fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        }
        Delivery::Redirect(to) => {
            let url = url::Url::parse(&to).expect("a Location is a URL");
            let part = if mode == ResponseMode::Query { url.query() } else { url.fragment() };
            let part = part.expect("an answer somewhere").as_bytes();
            (to, url::form_urlencoded::parse(part).into_owned().collect())
        }
    };
    let there = url::Url::parse(&to).expect("it goes to a URL");
    let asked = url::Url::parse(redirect_uri.as_str()).expect("a redirect URI is a URL");
    assert_eq!(
        (there.scheme(), there.host(), there.port(), there.path()),
        (asked.scheme(), asked.host(), asked.port(), asked.path()),
        "sent elsewhere"
    );
    let last = |wanted: &str| {
        said.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    assert_eq!(last("code"), Some("a code"));
    assert_eq!(last("iss"), Some("https://id.example.org"));
    if state.is_some() {
        assert_eq!(last("state"), state);
    }
}

/// The first line is a form beside a request object, the rest the object's claims: what is inside counts, and a parameter that
/// stands in both is the same in both.
pub fn request_object(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let Ok(outside) = Params::parse(&bytes[..end]) else { return };
    let Ok(claims) = serde_json::from_slice(bytes.get(end + 1..).unwrap_or_default()) else {
        return;
    };
    let Ok(params) = parameters(&claims, &outside) else { return };
    for nested in ["request", "request_uri"] {
        assert!(
            !claims.contains_key(nested) && params.get(nested).is_none(),
            "a request in a request"
        );
    }
    for name in ["client_id", "response_type", "redirect_uri", "scope", "state"] {
        if let Some(inside) = claims.get(name).and_then(|value| value.as_str()) {
            assert_eq!(
                params.get(name).unwrap_or_default(),
                inside,
                "{name} is another than inside"
            );
        }
    }
    if let Ok(request) = UnverifiedRequest::parse(&params) {
        let _ = request.validate();
    }
}

/// The first line is an `Authorization` header where it is not empty, the rest a form body. Whoever is let through
/// proved themselves in one way at most (RFC 6749 2.3).
pub fn token(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let header = std::str::from_utf8(&bytes[..end]).ok().filter(|header| !header.is_empty());
    let Ok(params) = Params::parse(bytes.get(end + 1..).unwrap_or_default()) else { return };
    let _ = (TokenRequest::parse(&params), IntrospectionRequest::parse(&params));
    let _ = RevocationRequest::parse(&params);
    let Ok(credentials) = ClientCredentials::from_parts(header, &params) else { return };
    let ways = [
        header.is_some(),
        params.get("client_secret").is_some(),
        params.get("client_assertion").is_some(),
    ];
    let ways = ways.into_iter().filter(|used| *used).count();
    assert!(ways <= 1, "{ways} ways of authentication at once");
    assert!(!credentials.client_id().is_empty());
    if let Some(id) = params.get("client_id") {
        assert_eq!(id, credentials.client_id(), "another client than the body names");
    }
}

/// A header that is made of a name and a secret says them again; one that is not is refused or says some.
pub fn basic(bytes: &[u8]) {
    if let Ok(header) = std::str::from_utf8(bytes) {
        let _ = ClientCredentials::from_parts(Some(header), &Params::default());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((id, secret)) = text.split_once(' ') else { return };
    let encode =
        |part: &str| url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>();
    let header =
        format!("Basic {}", BASE64.encode(format!("{}:{}", encode(id), encode(secret)).as_bytes()));
    let Ok(credentials) = ClientCredentials::from_parts(Some(&header), &Params::default()) else {
        assert!(id.is_empty() || id.len() > 512 || secret.len() > 1_024, "{header} is refused");
        return;
    };
    assert_eq!(credentials.client_id(), id);
    match credentials.proof() {
        ClientProof::Secret(read) => assert_eq!(read.expose_secret(), secret),
        ClientProof::None => assert!(secret.is_empty()),
        ClientProof::Assertion(_) => panic!("a secret was taken for an assertion"),
    }
}

/// A header and a body, separated as in [`token`]: never two tokens, and none that is not there.
pub fn bearer(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let header = std::str::from_utf8(&bytes[..end]).ok();
    let body = Params::parse(bytes.get(end + 1..).unwrap_or_default()).ok();
    if let Ok(Some(token)) = bearer_token(header, body.as_ref()) {
        let token = token.expose_secret();
        let in_header = header.is_some_and(|header| header.contains(token));
        let in_body = body.as_ref().and_then(|params| params.get("access_token")) == Some(token);
        assert!(in_header || in_body, "a token from nowhere");
    }
}

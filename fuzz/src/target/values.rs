//! Values inside messages: what parses prints as it was, and matches nothing but itself.

use claviger_domain::issuer::IssuerUrl;
use claviger_protocol::claims_request::{ClaimRequest, ClaimsRequest};
use claviger_protocol::pkce::{CodeChallenge, CodeVerifier};
use claviger_protocol::redirect_uri::RedirectUri;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::subject;

/// The challenge of RFC 7636 appendix B.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// No verifier but the RFC's own matches the RFC's challenge; a challenge has one spelling.
pub fn pkce(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let challenge = CodeChallenge::parse(CHALLENGE, Some("S256")).expect("the RFC's is good");
    if let Ok(verifier) = CodeVerifier::parse(text) {
        assert!((43..=128).contains(&text.len()) && text.is_ascii());
        assert_eq!(challenge.matches(&verifier), text == VERIFIER, "{text}");
    }
    if let Ok(read) = CodeChallenge::parse(text, Some("S256")) {
        assert_eq!(text.len(), 43);
        assert_eq!(read == challenge, text == CHALLENGE, "two spellings of one challenge");
    }
    assert!(CodeChallenge::parse(text, Some("plain")).is_err());
    assert!(CodeChallenge::parse(text, None).is_err());
}

/// Scopes are printed as they are read.
pub fn scope(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(scopes) = ScopeSet::parse(text) else { return };
    let printed = scopes.to_string();
    assert!(printed.len() <= text.len() && printed.is_ascii());
    assert_eq!(ScopeSet::parse(&printed).as_ref(), Ok(&scopes));
    for scope in scopes.iter() {
        assert!(!scope.as_str().is_empty() && text.split(' ').any(|word| word == scope.as_str()));
        assert_ne!(scope.audience(), Some(""));
    }
}

/// Two redirect URIs, a line each: kept as written, equal where they are the same text, and for an application on this
/// machine where they differ in the port alone.
pub fn redirect_uri(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, text));
    let (Ok(asked), Ok(registered)) = (RedirectUri::parse(first), RedirectUri::parse(second))
    else {
        return;
    };
    assert_eq!(asked.as_str(), first);
    assert_eq!(asked.matches_registered(&registered, false), first == second);
    if asked.matches_registered(&registered, true) && first != second {
        let (one, other) = (parsed(first), parsed(second));
        assert_eq!((one.scheme(), other.scheme()), ("http", "http"));
        assert_eq!(
            (one.host_str(), one.path(), one.query()),
            (other.host_str(), other.path(), other.query())
        );
        let is_loopback = match one.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(_)) | None => false,
        };
        assert!(is_loopback, "not a loopback address");
    }
    let answer = parsed(&asked.with_params([("state", "a&b=c#d"), ("iss", "https://x")]));
    let before = parsed(first);
    assert_eq!(
        (answer.scheme(), answer.host_str(), answer.port(), answer.path(), answer.fragment()),
        (before.scheme(), before.host_str(), before.port(), before.path(), None)
    );
    let pairs: Vec<_> = answer.query_pairs().collect();
    let kept = before.query_pairs().count();
    assert_eq!(pairs.len(), kept + 2, "its own parameters are kept, ours are added");
    assert_eq!(pairs[kept].1, "a&b=c#d");
}

fn parsed(text: &str) -> url::Url {
    url::Url::parse(text).expect("it was read as a URL before")
}

/// A `sub` that can be read prints as it was; any two names come back.
pub fn subject(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((user, connector)) = subject::decode(text) {
        let again = subject::encode(&user, &connector);
        assert_eq!(subject::decode(&again), Some((user, connector)));
    }
    let (user, connector) = text.split_once('\n').unwrap_or((text, ""));
    if user.len() < 1 << 20 && connector.len() < 1 << 20 {
        let encoded = subject::encode(user, connector);
        assert_eq!(subject::decode(&encoded), Some((user.to_owned(), connector.to_owned())));
    }
}

/// An issuer's URL is kept byte for byte: `iss` is compared so.
pub fn issuer_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(read) = IssuerUrl::parse(text) {
        assert_eq!(read.as_str(), text);
        assert!(read.join("/keys").starts_with(text));
        assert!(!text.contains(['?', '#']));
    }
}

/// Claims asked for keep their limits (OIDC Core 5.5).
pub fn claims(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(request) = ClaimsRequest::parse(text) else { return };
    assert!(text.len() <= 2_048);
    for place in [&request.id_token, &request.userinfo] {
        assert!(place.len() <= 32, "{} claims in one place", place.len());
        assert!(place.values().flat_map(ClaimRequest::texts).all(|value| value.len() <= 2_048));
    }
}

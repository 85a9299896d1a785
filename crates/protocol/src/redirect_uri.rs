//! Redirect URIs: absolute, without fragment, compared as strings (RFC 6749 3.1.2, RFC 9700 2.1).

use std::fmt;

use thiserror::Error;
use url::{Host, Url, form_urlencoded};

/// Longest redirect URI, in bytes; it must fit a cookie.
const MAX_LENGTH: usize = 512;

/// A URI that an authorization response may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectUri {
    raw: String,
    url: Url,
}

/// Why a text is not a redirect URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RedirectUriError {
    /// Not an absolute URI.
    #[error("redirect URI must be absolute")]
    NotAbsolute,
    /// Longer than 512 bytes.
    #[error("redirect URI must have at most 512 bytes")]
    TooLong,
    /// It has a fragment.
    #[error("redirect URI must have no fragment")]
    Fragment,
    /// It has a user name or password.
    #[error("redirect URI must have no user name or password")]
    UserInfo,
    /// Plain http to somewhere else than this machine.
    #[error("redirect URI must be https, or http to 127.0.0.1, [::1] or localhost")]
    NotSecure,
    /// A private-use scheme that is not a reversed domain name (RFC 8252 7.1).
    #[error("a private-use scheme must be a reversed domain name, such as com.example.app")]
    Scheme,
    /// A host that a Content-Security-Policy would read as something else.
    #[error(
        "redirect URI's host must have letters, digits, dots and hyphens only, or be an IP address (others in punycode)"
    )]
    Host,
    /// It has white space, a control character or `*`.
    #[error("redirect URI must have no white space, control characters or wildcards")]
    Character,
}

impl RedirectUri {
    /// Reads a redirect URI. The text is kept byte for byte.
    ///
    /// # Errors
    /// [`RedirectUriError`].
    pub fn parse(raw: &str) -> Result<Self, RedirectUriError> {
        use RedirectUriError as E;
        if raw.len() > MAX_LENGTH {
            return Err(E::TooLong);
        }
        if raw.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '*' | '\\')) {
            return Err(E::Character);
        }
        if raw.contains('#') {
            return Err(E::Fragment);
        }
        let url = Url::parse(raw).map_err(|_| E::NotAbsolute)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(E::UserInfo);
        }
        match url.scheme() {
            "https" => {}
            "http" if is_this_machine(&url) => {}
            "http" => return Err(E::NotSecure),
            scheme if scheme.contains('.') => {}
            _ => return Err(E::Scheme),
        }
        if matches!(url.scheme(), "https" | "http") && !has_plain_host(&url) {
            return Err(E::Host);
        }
        Ok(Self { raw: raw.to_owned(), url })
    }

    /// The URI as it was given.
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// Whether a request with this URI matches a registered one: the same text; for a native
    /// application, any port of the same loopback address will do (RFC 8252 7.3).
    pub fn matches_registered(&self, registered: &Self, native: bool) -> bool {
        if self.raw == registered.raw {
            return true;
        }
        native
            && self.url.scheme() == "http"
            && is_loopback_literal(&self.url)
            && self.without_port() == registered.without_port()
            && registered.url.scheme() == "http"
    }

    /// Scheme, host and port, as browsers compare them (RFC 6454); `None` for a private-use scheme.
    pub fn origin(&self) -> Option<String> {
        let origin = self.url.origin();
        origin.is_tuple().then(|| origin.ascii_serialization())
    }

    /// The URI with parameters added to its query.
    pub fn with_params<'a>(&self, params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(params);
        url.into()
    }

    /// The URI with parameters as its fragment.
    pub fn with_fragment<'a>(
        &self,
        params: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> String {
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        let encoded = encoded.extend_pairs(params).finish();
        let mut url = self.url.clone();
        url.set_fragment(Some(&encoded));
        url.into()
    }

    fn without_port(&self) -> Option<Url> {
        let mut url = self.url.clone();
        url.set_port(None).ok()?;
        Some(url)
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}

/// `url` lets `;`, `,`, quotes and more pass in a host.
fn has_plain_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
        }
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    }
}

fn is_loopback_literal(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

fn is_this_machine(url: &Url) -> bool {
    is_loopback_literal(url) || matches!(url.host(), Some(Host::Domain("localhost")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(raw: &str) -> RedirectUri {
        RedirectUri::parse(raw).unwrap()
    }

    #[test]
    fn unsafe_uris_are_refused_with_the_reason() {
        use RedirectUriError as E;
        for (raw, why) in [
            ("/callback", E::NotAbsolute),
            ("https://app.example.org/#x", E::Fragment),
            ("https://user@app.example.org/", E::UserInfo),
            ("http://app.example.org/", E::NotSecure),
            ("http://localhost.example.org/", E::NotSecure),
            ("javascript:alert(1)", E::Scheme),
            ("data:text/html,x", E::Scheme),
            ("https://*.example.org/", E::Character),
            ("https://app.example.org/a b", E::Character),
            ("https://app.example.org\\@evil.example", E::Character),
            ("https://app.example.org;script-src/", E::Host),
            ("https://app.example.org,evil.example/", E::Host),
            ("https://app%3Bx.example.org/", E::Host),
            ("https://'self'.example.org/", E::Host),
        ] {
            assert_eq!(RedirectUri::parse(raw).unwrap_err(), why, "{raw}");
        }
        assert_eq!(RedirectUri::parse(&format!("https://a/{}", "b".repeat(512))), Err(E::TooLong));
        for raw in [
            "http://localhost:8000/",
            "http://[::1]:1/x",
            "com.example.app:/callback",
            "https://APP.example.org/",
            "https://[2001:db8::1]:8443/",
            "https://192.0.2.1/",
            "https://xn--bcher-kva.example/",
            "https://bücher.example/",
        ] {
            assert_eq!(uri(raw).as_str(), raw);
        }
    }

    #[test]
    fn only_native_loopback_may_change_its_port() {
        let registered = uri("http://127.0.0.1:8000/callback");
        let other_port = uri("http://127.0.0.1:51234/callback");
        assert!(other_port.matches_registered(&registered, true));
        assert!(!other_port.matches_registered(&registered, false));
        assert!(!uri("http://127.0.0.1:1/other").matches_registered(&registered, true));
        assert!(!uri("http://[::1]:8000/callback").matches_registered(&registered, true));
        let web = uri("https://app.example.org/callback");
        assert!(!uri("https://app.example.org:8443/callback").matches_registered(&web, true));
        assert!(!uri("https://app.example.org/callback/").matches_registered(&web, true));
        let localhost = uri("http://localhost:8000/callback");
        assert!(!uri("http://localhost:9/callback").matches_registered(&localhost, true));
    }

    #[test]
    fn parameters_join_an_existing_query() {
        let with = uri("https://app.example.org/cb?a=1").with_params([("code", "x&y")]);
        assert_eq!(with, "https://app.example.org/cb?a=1&code=x%26y");
    }
}

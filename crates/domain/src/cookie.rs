//! A cookie to set or to clear; the server adds the attributes its scheme needs.

use std::fmt;

use crate::issuer::Issuer;
use crate::session;

/// One cookie. Prints its name alone: whoever has its value is the browser.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Its name. On https it is host-locked (RFC 6265bis 4.1.3.2).
    pub name: String,
    /// Its value; sealed.
    pub value: String,
    /// Seconds it is kept for; `None` until the browser is closed, 0 to clear it.
    pub seconds: Option<i64>,
}

/// Name of an issuer's cookie for `what`. On https it is host-locked; issuers below paths of one host share its
/// cookies and must not take each other's for their own, so their names differ.
pub(crate) fn name_for(issuer: &Issuer, what: &str) -> String {
    let lock = if issuer.url.is_https() { "__Host-" } else { "" };
    format!("{lock}claviger-{what}-{}", &session::object_hash(&issuer.uid)[..8])
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({}, {:?} s)", self.name, self.seconds)
    }
}

impl Cookie {
    /// The cookie of this name, cleared.
    pub fn cleared(name: String) -> Self {
        Self { name, value: String::new(), seconds: Some(0) }
    }
}

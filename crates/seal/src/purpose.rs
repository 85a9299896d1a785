//! What a subkey is for. Each purpose has its own, so nothing made for one is good for another.

use std::fmt;

/// What something is sealed or authenticated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// An authorization request on its way through login (cookie).
    Flow,
    /// An authorization code.
    Code,
    /// The grant a consent form sends back.
    Consent,
    /// An access token.
    AccessToken,
    /// The authoritative part of a stored session.
    SessionPayload,
    /// The MAC of refresh tokens.
    RefreshMac,
    /// The MAC of form tokens against cross-site requests.
    Csrf,
}

impl Purpose {
    /// Every purpose, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::Flow,
        Self::Code,
        Self::Consent,
        Self::AccessToken,
        Self::SessionPayload,
        Self::RefreshMac,
        Self::Csrf,
    ];

    /// The word that stands in subkey derivation and associated data. Never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Code => "code",
            Self::Consent => "consent",
            Self::AccessToken => "access-token",
            Self::SessionPayload => "session-payload",
            Self::RefreshMac => "refresh-mac",
            Self::Csrf => "csrf",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

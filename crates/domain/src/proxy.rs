//! Sign-in by the word of a proxy that has authenticated the user already.
//!
//! ```text
//! browser ─→ proxy (knows the user) ─ client certificate, headers ─→ own listener ─→ ProxyLogin
//! ```
//! What always holds: only the listener made for it hands requests here; the certificate is proven
//! at the handshake and judged again, by this connector's own rules, at every request.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::connector::Authenticated;

/// One request as it came from the peer of a TLS connection.
#[derive(Clone, Copy)]
pub struct ProxyRequest<'a> {
    /// The address of the connection's other end: never what a header says.
    pub source: IpAddr,
    /// The client's certificate and those above it, DER, leaf first. The handshake has proven that
    /// the client holds the leaf's key.
    pub certificates: &'a [&'a [u8]],
    /// Every header field, in the order received, duplicates included.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Header values are the user's, and not for logs.
impl fmt::Debug for ProxyRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyRequest({}, {} headers)", self.source, self.headers.len())
    }
}

/// Signs users in by the headers of a trusted proxy.
pub trait ProxyLogin: Send + Sync + fmt::Debug {
    /// Whether a client with this certificate could be the proxy at all: what the handshake asks.
    ///
    /// # Errors
    /// [`ProxyError::UntrustedCertificate`].
    fn verify_certificate(&self, certificates: &[&[u8]], now: i64) -> Result<(), ProxyError>;

    /// Judges the certificate, its names and the source, then reads the user from the headers.
    ///
    /// # Errors
    /// [`ProxyError`] says what is not as it must be.
    fn authenticate(
        &self,
        request: &ProxyRequest<'_>,
        now: i64,
    ) -> Result<Authenticated, ProxyError>;
}

/// Why a proxy's request is not believed. Names headers, never what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// Not signed by the connector's authority, expired, or not for clients.
    #[error("the client certificate is not trusted by this connector's clientCASecretRef: {0}")]
    UntrustedCertificate(String),
    /// Trusted, but somebody else's.
    #[error(
        "the client certificate has none of the connector's allowedClientNames as a subject alternative name"
    )]
    NameNotAllowed,
    /// From elsewhere.
    #[error("the address {0} is in none of the connector's allowedSourceCIDRs")]
    SourceNotAllowed(IpAddr),
    /// A header that must be there is not.
    #[error("header {0} is missing: the proxy must set it on every request it forwards")]
    HeaderMissing(String),
    /// There more than once, or in a spelling that others take for the same.
    #[error(
        "header {0} is there more than once or in another spelling: the proxy must remove what users send"
    )]
    HeaderAmbiguous(String),
    /// There, but says nothing usable.
    #[error("header {header} {cause}")]
    HeaderInvalid {
        /// As configured.
        header: String,
        /// What is wrong with its value.
        cause: &'static str,
    },
}

impl ProxyError {
    /// The word for logs, metrics and audit.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UntrustedCertificate(_) => "UntrustedCertificate",
            Self::NameNotAllowed => "NameNotAllowed",
            Self::SourceNotAllowed(_) => "SourceNotAllowed",
            Self::HeaderMissing(_) => "HeaderMissing",
            Self::HeaderAmbiguous(_) => "HeaderAmbiguous",
            Self::HeaderInvalid { .. } => "HeaderInvalid",
        }
    }

    /// Whether the peer may not speak here at all, whatever it says.
    pub fn is_about_peer(&self) -> bool {
        match self {
            Self::UntrustedCertificate(_) | Self::NameNotAllowed | Self::SourceNotAllowed(_) => {
                true
            }
            Self::HeaderMissing(_) | Self::HeaderAmbiguous(_) | Self::HeaderInvalid { .. } => false,
        }
    }
}

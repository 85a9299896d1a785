//! `authProxy`: a proxy that has authenticated the user already and says so in headers.
//!
//! ```text
//! handshake: any authProxy connector's authority ─→ request: this connector's authority, names, source ─→ headers
//! ```
//! What always holds: chain, validity and purpose of a certificate are rustls' verdict (one that names
//! purposes must name clientAuth; one that names none is good for all, RFC 5280 4.2.1.12); the authority is asked again at every request, so that a replaced one counts on connections that
//! are open; no header is looked at before the peer was found good.

mod headers;
mod sign_out;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use claviger_api::connector::AuthProxyUpstream;
use claviger_domain::connector::Authenticated;
use claviger_domain::proxy::{ProxyError, ProxyLogin, ProxyRequest};
use ipnet::IpNet;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use thiserror::Error;

use self::headers::Headers;
pub use self::sign_out::ProxySignOut;
use crate::BuildError;
use crate::resolved::{Purpose, Resolved, SecretRef};
use serde_json::Map;

/// What in the spec cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthProxyError {
    /// Everybody would be admitted, in any group.
    #[error(
        "set allowedGroups: its word about groups is not checked, so list those it may speak for"
    )]
    NoAllowedGroups,
    /// Not a network.
    #[error("allowedSourceCIDRs: {0:?} is not a network such as 10.0.0.0/8")]
    Network(String),
    /// A name that no certificate can carry.
    #[error(
        "allowedClientNames: {0:?} is neither a DNS name nor a URI such as spiffe://example.com/proxy"
    )]
    ClientName(String),
    /// No page that a browser could be sent to.
    #[error("signOut.url: {0:?} is not an https URL")]
    SignOut(String),
    /// One header would say two things.
    #[error("headers: {0} is named twice: each field needs a header of its own")]
    SharedHeader(String),
}

/// A trusted proxy.
#[derive(Debug)]
pub struct AuthProxy {
    verifier: Arc<dyn ClientCertVerifier>,
    names: Vec<ClientName>,
    sources: Vec<IpNet>,
    headers: Headers,
    static_groups: Vec<String>,
}

/// A subject alternative name.
#[derive(Debug, PartialEq, Eq)]
enum ClientName {
    Dns(ServerName<'static>, String),
    Uri(String),
}

/// Which Secrets [`AuthProxy::new`] needs.
pub fn secret_refs(spec: &AuthProxyUpstream) -> Vec<SecretRef> {
    vec![SecretRef::new(&spec.client_ca_secret_ref, Purpose::ClientCertificateAuthority)]
}

impl AuthProxy {
    /// Makes it of what the administrator wrote.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(spec: &AuthProxyUpstream, resolved: &Resolved) -> Result<Self, BuildError> {
        let network = |text: &String| {
            let network: IpNet = text.parse().map_err(|_| AuthProxyError::Network(text.clone()))?;
            Ok::<_, AuthProxyError>(network.trunc())
        };
        let names = spec.allowed_client_names.iter().map(|name| ClientName::parse(name));
        Ok(Self {
            verifier: verifier(spec, resolved)?,
            names: names.collect::<Result<_, _>>()?,
            sources: spec.allowed_source_cidrs.iter().map(network).collect::<Result<_, _>>()?,
            headers: Headers::new(&spec.headers)?,
            static_groups: spec.static_groups.clone(),
        })
    }

    fn check_peer(&self, request: &ProxyRequest<'_>, now: i64) -> Result<(), ProxyError> {
        self.verify_certificate(request.certificates, now)?;
        let leaf = request.certificates.first().copied().unwrap_or_default();
        if !self.names.iter().any(|name| name.is_in(leaf)) {
            return Err(ProxyError::NameNotAllowed);
        }
        self.check_source(request.source)
    }

    /// An address that came by a socket for both families is what it is in its own.
    fn check_source(&self, source: IpAddr) -> Result<(), ProxyError> {
        let source = source.to_canonical();
        if self.sources.is_empty() || self.sources.iter().any(|network| network.contains(&source)) {
            return Ok(());
        }
        Err(ProxyError::SourceNotAllowed(source))
    }
}

impl ProxyLogin for AuthProxy {
    fn verify_certificate(&self, certificates: &[&[u8]], now: i64) -> Result<(), ProxyError> {
        let untrusted = |why: String| ProxyError::UntrustedCertificate(why);
        let Some((leaf, above)) = certificates.split_first() else {
            return Err(untrusted("there is none".to_owned()));
        };
        let above: Vec<_> = above.iter().map(|der| CertificateDer::from(*der)).collect();
        let now = Duration::from_secs(u64::try_from(now).unwrap_or_default());
        self.verifier
            .verify_client_cert(
                &CertificateDer::from(*leaf),
                &above,
                UnixTime::since_unix_epoch(now),
            )
            .map(drop)
            .map_err(|error| untrusted(error.to_string()))
    }

    fn authenticate(
        &self,
        request: &ProxyRequest<'_>,
        now: i64,
    ) -> Result<Authenticated, ProxyError> {
        self.check_peer(request, now)?;
        let mut identity = self.headers.identity(request.headers)?;
        for group in &self.static_groups {
            if !identity.groups.contains(group) {
                identity.groups.push(group.clone());
            }
        }
        Ok(Authenticated { identity, raw: Map::new(), data: None })
    }
}

/// rustls' own verifier over the authorities of the Secret.
fn verifier(
    spec: &AuthProxyUpstream,
    resolved: &Resolved,
) -> Result<Arc<dyn ClientCertVerifier>, BuildError> {
    let (secret, purpose) = (&spec.client_ca_secret_ref, Purpose::ClientCertificateAuthority);
    let unusable = |cause: &dyn ToString| BuildError::unusable(secret, purpose, &cause.to_string());
    let pem = resolved.bytes(&secret.name, &secret.key, purpose)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"it holds no certificate in PEM form"));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.build().map_err(|error| unusable(&error))
}

impl ClientName {
    fn parse(text: &str) -> Result<Self, AuthProxyError> {
        if text.contains("://") {
            return Ok(Self::Uri(text.to_owned()));
        }
        match ServerName::try_from(text.to_owned()) {
            Ok(name @ ServerName::DnsName(_)) => Ok(Self::Dns(name, text.to_ascii_lowercase())),
            _ => Err(AuthProxyError::ClientName(text.to_owned())),
        }
    }

    /// Whether a certificate carries this very name. For DNS names webpki judges; that the name itself
    /// is there keeps wildcards out, which it would take.
    fn is_in(&self, leaf: &[u8]) -> bool {
        let leaf = CertificateDer::from(leaf);
        let Ok(certificate) = webpki::EndEntityCert::try_from(&leaf) else { return false };
        match self {
            Self::Dns(name, text) => {
                certificate.verify_is_valid_for_subject_name(name).is_ok()
                    && certificate.valid_dns_names().any(|dns| dns.eq_ignore_ascii_case(text))
            }
            Self::Uri(uri) => certificate.valid_uri_names().any(|name| name == uri),
        }
    }
}

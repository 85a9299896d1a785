//! Certificates that change without a restart: from two files, or from an issuer's Secret.
//!
//! Files are compared by content, not by date: Kubernetes mounts swap a symlink. A broken new pair is
//! refused and said; the old one goes on.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use claviger_domain::Snapshot;
use claviger_domain::issuer::TlsIdentity;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::client_certificate::ProxyVerifier;

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(10);

/// Where a certificate and its key are.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// PEM file with the chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Why there is no usable certificate.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not PEM, or the key is not the certificate's.
    #[error("unusable certificate or key: {0}")]
    Unusable(String),
    /// rustls refused the configuration.
    #[error("failed to set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The certificates of a listener.
#[derive(Debug)]
pub struct Certificates {
    files: CertificateFiles,
    current: ArcSwap<Loaded>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    by_host: Mutex<HashMap<String, OfIssuer>>,
}

/// What an issuer's Secret last said, and the last key that was usable.
#[derive(Debug)]
struct OfIssuer {
    seen: Arc<TlsIdentity>,
    key: Option<Arc<CertifiedKey>>,
}

#[derive(Debug)]
struct Loaded {
    identity: TlsIdentity,
    key: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(
        files: CertificateFiles,
        snapshot: Arc<ArcSwap<Snapshot>>,
    ) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(Loaded::from_files(&files)?);
        Ok(Self { files, current, snapshot, by_host: Mutex::default() })
    }

    /// A configuration that asks these certificates at every handshake: TLS 1.2 and 1.3, HTTP/2 and 1.1.
    ///
    /// # Errors
    /// [`TlsError::Rustls`].
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        self.config(WebPkiClientVerifier::no_client_auth(), provider).map(Arc::new)
    }

    /// The same for the listener of trusted proxies: a client certificate is demanded, of whichever
    /// connector's authority. No handshake is shortened, for a resumed one would not ask again.
    ///
    /// # Errors
    /// [`TlsError::Rustls`].
    pub fn proxy_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = ProxyVerifier::new(Arc::clone(&self.snapshot), &provider);
        let mut config = self.config(Arc::new(verifier), provider)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn config(
        self: &Arc<Self>,
        verifier: Arc<dyn ClientCertVerifier>,
        provider: Arc<CryptoProvider>,
    ) -> Result<ServerConfig, TlsError> {
        let resolver = Arc::clone(self);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Looks at the files every ten seconds until `shutdown`.
    pub async fn poll(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.reload(),
            }
        }
    }

    /// Takes the files' content if it changed and is usable.
    pub fn reload(&self) {
        match read(&self.files) {
            Ok(identity) if identity.same_as(&self.current.load().identity) => {}
            Ok(identity) => match Loaded::new(identity) {
                Ok(loaded) => {
                    self.current.store(Arc::new(loaded));
                    tracing::info!("the TLS certificate was replaced");
                }
                Err(error) => {
                    tracing::error!(%error, "the new TLS certificate is refused; the old one goes on");
                }
            },
            Err(error) => tracing::error!(%error, "the TLS certificate cannot be read again"),
        }
    }

    /// The certificate of the issuer at this host, if it has one of its own.
    fn of_issuer(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.snapshot.load();
        let identity = snapshot
            .issuers
            .iter()
            .filter(|issuer| {
                let authority = issuer.url.authority();
                authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host) == host
            })
            .find_map(|issuer| issuer.tls.as_ref())?;
        let mut known = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_issuer) = known.get(host)
            && (Arc::ptr_eq(&of_issuer.seen, identity) || of_issuer.seen.same_as(identity))
        {
            return of_issuer.key.clone();
        }
        let old = known.remove(host).and_then(|of_issuer| of_issuer.key);
        let key = match certified(identity) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::error!(host, %error, "the issuer's TLS Secret is refused; the old one goes on");
                old
            }
        };
        let of_issuer = OfIssuer { seen: Arc::clone(identity), key: key.clone() };
        known.insert(host.to_owned(), of_issuer);
        key
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello
            .server_name()
            .and_then(|host| self.of_issuer(host))
            .or_else(|| Some(Arc::clone(&self.current.load().key)))
    }
}

impl Loaded {
    fn from_files(files: &CertificateFiles) -> Result<Self, TlsError> {
        Self::new(read(files)?)
    }

    fn new(identity: TlsIdentity) -> Result<Self, TlsError> {
        Ok(Self { key: certified(&identity)?, identity })
    }
}

fn read(files: &CertificateFiles) -> Result<TlsIdentity, TlsError> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map_err(|source| TlsError::Read { path: path.clone(), source })
    };
    Ok(TlsIdentity {
        certificate_pem: read(&files.certificate)?,
        key_pem: SecretString::from(read(&files.key)?),
    })
}

/// Parses a chain and its key, and checks that they belong together.
fn certified(identity: &TlsIdentity) -> Result<Arc<CertifiedKey>, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&error))?;
    if chain.is_empty() {
        return Err(TlsError::Unusable("no certificate in the PEM".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose_secret().as_bytes())
        .map_err(|error| unusable(&error))?;
    let provider = aws_lc_rs::default_provider();
    let certified =
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| unusable(&error))?;
    Ok(Arc::new(certified))
}

//! The one HTTP client for URLs that others chose: where clients publish their keys.
//!
//! ```text
//! https URL ─→ DNS ─→ address policy ─→ TCP to the very address that was checked ─→ TLS ─→ one GET
//! ```
//! What always holds:
//! - no address of this machine, this network or this cloud is spoken to unless the operator allows it;
//! - the address that was checked is the one that is connected to: a second look-up cannot change it;
//! - no redirect is followed, no proxy of the environment is asked, nothing is sent along that would
//!   prove anything to anybody;
//! - a bound on time, on bytes, and on how many run at once.

pub mod address;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use claviger_domain::ports::{FetchError, PublishedKeys};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::address::AddressPolicy;

/// Longest one fetch may take, look-up and handshake included: a client waits for it.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Longest key set of a client, in bytes.
const MAX_KEY_SET: usize = 64 * 1024;
/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Fetches at once: one place may not take all there is.
const IN_FLIGHT: usize = 16;
/// Addresses of one host that are tried.
const TRIED: usize = 4;

/// Why nothing was fetched.
#[derive(Debug, Error)]
pub enum OutboundError {
    /// The URL is none we would ask.
    #[error("not an https URL with a host and without a user")]
    Url,
    /// Too many at once.
    #[error("too many fetches at once")]
    Busy,
    /// The name is nobody's.
    #[error("the host could not be looked up: {0}")]
    LookUp(io::Error),
    /// Every address of the host is one of ours, or of our surroundings.
    #[error(
        "{host} has no public address: allow its network with --outbound-allowed-networks if it is meant"
    )]
    Forbidden {
        /// The host.
        host: String,
    },
    /// Nobody answers there.
    #[error("failed to connect: {0}")]
    Connect(io::Error),
    /// It was too slow.
    #[error("no whole answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// It speaks no HTTP, or broke off.
    #[error("the answer could not be read: {0}")]
    Http(String),
    /// It is not there.
    #[error("the answer was {0}, not 200; redirects are not followed")]
    Status(StatusCode),
    /// It is too long.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// No authority can be trusted.
    #[error("no certificate authority: {0}")]
    Authorities(String),
}

/// What is allowed beyond the public Internet, and who is trusted beyond the system's authorities.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Networks that may be spoken to though they are not public.
    pub allowed_networks: Vec<IpNet>,
    /// PEM with further certificate authorities.
    pub authorities: Option<Vec<u8>>,
    /// Longest one fetch may take; [`DEADLINE`] if it is not given.
    pub deadline: Option<Duration>,
}

/// The client.
#[derive(Debug)]
pub struct Outbound {
    policy: AddressPolicy,
    authorities: Vec<CertificateDer<'static>>,
    deadline: Duration,
    in_flight: Semaphore,
    /// Made when the first URL is asked: the system's authorities are not for those who ask none.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Outbound {
    /// A client that has asked nobody yet.
    ///
    /// # Errors
    /// [`OutboundError::Authorities`].
    pub fn new(settings: &Settings) -> Result<Self, OutboundError> {
        let pem = settings.authorities.as_deref().unwrap_or_default();
        let authorities = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| OutboundError::Authorities(error.to_string()))?;
        if settings.authorities.is_some() && authorities.is_empty() {
            return Err(OutboundError::Authorities("the file holds no certificate".into()));
        }
        Ok(Self {
            policy: AddressPolicy::new(&settings.allowed_networks),
            authorities,
            deadline: settings.deadline.unwrap_or(DEADLINE),
            in_flight: Semaphore::new(IN_FLIGHT),
            tls: OnceLock::new(),
        })
    }

    /// The body at an https URL, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub async fn get(&self, url: &str, limit: usize) -> Result<Vec<u8>, OutboundError> {
        let _permit = self.in_flight.try_acquire().map_err(|_| OutboundError::Busy)?;
        let fetched = tokio::time::timeout(self.deadline, self.fetch(url, limit)).await;
        fetched.unwrap_or(Err(OutboundError::Deadline(self.deadline)))
    }

    async fn fetch(&self, url: &str, limit: usize) -> Result<Vec<u8>, OutboundError> {
        let url = checked(url)?;
        let host = url.host().ok_or(OutboundError::Url)?;
        let stream = self.connect(&host, url.port().unwrap_or(443)).await?;
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.to_owned()),
            Host::Ipv4(address) => Ok(ServerName::from(std::net::IpAddr::from(address))),
            Host::Ipv6(address) => Ok(ServerName::from(std::net::IpAddr::from(address))),
        };
        let name = name.map_err(|_| OutboundError::Url)?;
        let tls = TlsConnector::from(self.tls()?);
        let stream = tls.connect(name, stream).await.map_err(OutboundError::Connect)?;
        exchange(TokioIo::new(stream), &url, limit).await
    }

    /// Connects to an address that policy admits, and to no other.
    async fn connect(&self, host: &Host<&str>, port: u16) -> Result<TcpStream, OutboundError> {
        let found: Vec<SocketAddr> = match host {
            Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
            Host::Domain(name) => {
                lookup_host((*name, port)).await.map_err(OutboundError::LookUp)?.collect()
            }
        };
        let admitted = found.into_iter().filter(|address| self.policy.admits(address.ip()));
        let mut failure = OutboundError::Forbidden { host: host.to_string() };
        for address in admitted.take(TRIED) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = OutboundError::Connect(error),
            }
        }
        Err(failure)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, OutboundError> {
        if let Some(tls) = self.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.authorities.iter().cloned());
        if roots.is_empty() {
            return Err(OutboundError::Authorities("the system has none".into()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| OutboundError::Authorities(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}

#[async_trait]
impl PublishedKeys for Outbound {
    async fn fetch(&self, uri: &str) -> Result<Vec<u8>, FetchError> {
        let fetched = self.get(uri, MAX_KEY_SET).await;
        fetched.map_err(|error| {
            tracing::warn!(uri, %error, "a client's keys could not be fetched");
            FetchError::unavailable(error.to_string())
        })
    }
}

/// A URL we would ask: https, with a host, without a user.
fn checked(url: &str) -> Result<Url, OutboundError> {
    let url = Url::parse(url).map_err(|_| OutboundError::Url)?;
    let plain = url.username().is_empty() && url.password().is_none();
    if url.scheme() == "https" && url.has_host() && plain {
        Ok(url)
    } else {
        Err(OutboundError::Url)
    }
}

/// One GET over a connection of its own.
async fn exchange<S>(stream: S, url: &Url, limit: usize) -> Result<Vec<u8>, OutboundError>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let broken = |error: &dyn std::error::Error| OutboundError::Http(error.to_string());
    let authority = url.authority();
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = Request::get(target)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("claviger/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(stream)
        .await
        .map_err(|error| broken(&error))?;
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(OutboundError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), limit).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                OutboundError::TooLong(limit)
            } else {
                broken(error.as_ref())
            }
        })
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answered = &mut answer => return answered,
        // What it brought before it ended is still to be read.
        _ended = &mut connection => {}
    }
    answer.await
}

//! The one HTTP client for URLs that others chose: where clients publish their keys, and where they are told that a
//! session is over.
//!
//! ```text
//! https URL ─→ DNS ─→ address policy ─→ TCP to the very address that was checked ─→ TLS ─→ one GET or POST
//! ```
//! What always holds:
//! - no address of this machine, this network or this cloud is spoken to unless the operator allows it;
//! - the address that was checked is the one that is connected to: a second look-up cannot change it;
//! - no redirect is followed, no proxy of the environment is asked, nothing is sent along that would
//!   prove anything to anybody;
//! - a bound on time, on bytes, and on how many run at once;
//! - without TLS nothing is posted but to loopback, and nothing is fetched at all.

pub mod address;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use claviger_domain::back_channel_logout::{LOGOUT_TOKEN, Notice, Receivers, TellError};
use claviger_domain::ports::{FetchError, PublishedKeys};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use url::{Host, Url, form_urlencoded};

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
        let url = checked(url).filter(|url| url.scheme() == "https").ok_or(OutboundError::Url)?;
        self.within(self.ask(&url, &Ask::Get(limit))).await.map(|(_, body)| body)
    }

    /// Posts a form to an https URL, or to an http one on loopback, and says how that was answered. The body of the
    /// answer is not looked at.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub async fn post_form(&self, url: &str, form: String) -> Result<StatusCode, OutboundError> {
        let url = checked(url).ok_or(OutboundError::Url)?;
        self.within(self.ask(&url, &Ask::Post(form))).await.map(|(status, _)| status)
    }

    async fn within<T>(
        &self,
        asking: impl Future<Output = Result<T, OutboundError>>,
    ) -> Result<T, OutboundError> {
        let _permit = self.in_flight.try_acquire().map_err(|_| OutboundError::Busy)?;
        let asked = tokio::time::timeout(self.deadline, asking).await;
        asked.unwrap_or(Err(OutboundError::Deadline(self.deadline)))
    }

    async fn ask(&self, url: &Url, ask: &Ask) -> Result<(StatusCode, Vec<u8>), OutboundError> {
        let host = url.host().ok_or(OutboundError::Url)?;
        let port = url.port_or_known_default().ok_or(OutboundError::Url)?;
        let secure = url.scheme() == "https";
        let stream = self.connect(&host, port, !secure).await?;
        if !secure {
            return exchange(stream, url, ask).await;
        }
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.to_owned()),
            Host::Ipv4(address) => Ok(ServerName::from(std::net::IpAddr::from(address))),
            Host::Ipv6(address) => Ok(ServerName::from(std::net::IpAddr::from(address))),
        };
        let name = name.map_err(|_| OutboundError::Url)?;
        let tls = TlsConnector::from(self.tls()?);
        let stream = tls.connect(name, stream).await.map_err(OutboundError::Connect)?;
        exchange(stream, url, ask).await
    }

    /// Connects to an address that policy admits, and to no other; `loopback` admits no other either.
    async fn connect(
        &self,
        host: &Host<&str>,
        port: u16,
        loopback: bool,
    ) -> Result<TcpStream, OutboundError> {
        let found: Vec<SocketAddr> = match host {
            Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
            Host::Domain(name) => {
                lookup_host((*name, port)).await.map_err(OutboundError::LookUp)?.collect()
            }
        };
        let admitted = found.into_iter().filter(|address| {
            self.policy.admits(address.ip()) && (!loopback || address.ip().is_loopback())
        });
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

#[async_trait]
impl Receivers for Outbound {
    async fn tell(&self, notice: &Notice) -> Result<(), TellError> {
        let token = notice.token.expose_secret();
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair(LOGOUT_TOKEN, token)
            .finish();
        match self.post_form(&notice.uri, form).await {
            Ok(StatusCode::OK | StatusCode::NO_CONTENT) => Ok(()),
            Ok(StatusCode::BAD_REQUEST) => Err(TellError::Refused("it answered 400".into())),
            Ok(status) => Err(TellError::Unavailable(format!("it answered {status}"))),
            Err(error) => Err(TellError::Unavailable(error.to_string())),
        }
    }
}

/// What a request is.
enum Ask {
    /// The document there, of at most so many bytes.
    Get(usize),
    /// This form.
    Post(String),
}

impl Ask {
    fn request(&self, url: &Url) -> http::Result<Request<Full<Bytes>>> {
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let request = match self {
            Self::Get(_) => Request::get(target)
                .header(header::ACCEPT, "application/jwk-set+json, application/json"),
            Self::Post(_) => Request::post(target)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
        };
        let body = match self {
            Self::Get(_) => Bytes::new(),
            Self::Post(form) => Bytes::from(form.clone()),
        };
        request
            .header(header::HOST, url.authority())
            .header(header::USER_AGENT, concat!("claviger/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(Full::new(body))
    }
}

/// A URL we would ask: https, or http by a name of loopback, with a host, without a user.
fn checked(url: &str) -> Option<Url> {
    let url = Url::parse(url).ok()?;
    let nobody = url.username().is_empty() && url.password().is_none();
    let secure = match url.scheme() {
        "https" => true,
        "http" => match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        },
        _ => false,
    };
    (secure && nobody && url.has_host()).then_some(url)
}

/// One request over a connection of its own.
async fn exchange<S>(
    stream: S,
    url: &Url,
    ask: &Ask,
) -> Result<(StatusCode, Vec<u8>), OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &dyn std::error::Error| OutboundError::Http(error.to_string());
    let request = ask.request(url).map_err(|error| broken(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = answer.status();
        let limit = match ask {
            Ask::Get(_) if status != StatusCode::OK => return Err(OutboundError::Status(status)),
            Ask::Get(limit) => *limit,
            Ask::Post(_) => return Ok((status, Vec::new())),
        };
        let body = Limited::new(answer.into_body(), limit).collect().await;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                OutboundError::TooLong(limit)
            } else {
                broken(error.as_ref())
            }
        })?;
        Ok((status, body.to_bytes().to_vec()))
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

//! One keep-alive HTTP/1.1 connection of the load driver, plain or TLS: hyper's client without a pool, so that
//! what the driver costs is as little as a client can cost, and known.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Method, Request, StatusCode, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::pki::CertifiedKey;

/// Longest answer read, in bytes: more than anything the benchmark asks for in a phase.
const MAX_ANSWER: usize = 4 << 20;

/// Where connections go: a port on 127.0.0.1, and nowhere else.
#[derive(Clone)]
pub struct Target {
    port: u16,
    host: String,
    tls: Option<TlsConnector>,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<String>,
    host: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Target {
    /// Plain HTTP.
    pub fn plain(port: u16) -> Self {
        Self { port, host: host_of(port), tls: None }
    }

    /// TLS that trusts one authority, with a client certificate where one is given.
    ///
    /// # Errors
    /// When a PEM cannot be used.
    pub fn tls(port: u16, authority_pem: &str, client: Option<&CertifiedKey>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
            roots.add(certificate.context("the authority is not PEM")?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate_pem.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .context("the client certificate is not PEM")?;
                let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())
                    .context("the client key is not PEM")?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        Ok(Self { port, host: host_of(port), tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// The same, where `Host` says something else, as behind a proxy.
    #[must_use]
    pub fn with_host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When nobody listens or TLS fails.
    pub async fn open(&self) -> Result<Connection> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        let sender = match &self.tls {
            None => hand_over(stream).await?,
            Some(tls) => {
                let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
                hand_over(tls.connect(name, stream).await.context("TLS failed")?).await?
            }
        };
        Ok(Connection { sender, host: self.host.clone() })
    }
}

fn host_of(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

async fn hand_over<S>(stream: S) -> Result<SendRequest<String>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender; what went wrong is told to whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

impl Connection {
    /// A GET with these headers.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.send(Method::GET, path, headers, String::new()).await
    }

    /// A request with a body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer> {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await.context("the connection was closed")?;
        let response = self.sender.send_request(request.body(body)?).await?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body: read(body).await? })
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
            ensure!(bytes.len() <= MAX_ANSWER, "an answer of more than {MAX_ANSWER} bytes");
        }
    }
    Ok(bytes)
}

impl Answer {
    /// Itself, if its status is this one.
    ///
    /// # Errors
    /// With what it says instead.
    pub fn expect(self, status: StatusCode) -> Result<Self> {
        ensure!(self.status == status, "{} and not {status}: {}", self.status, self.text());
        Ok(self)
    }

    /// The body, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// A header's value.
    ///
    /// # Errors
    /// When it is not there.
    pub fn header(&self, name: &header::HeaderName) -> Result<&str> {
        let value = self.headers.get(name).with_context(|| format!("no {name}"))?;
        value.to_str().with_context(|| format!("{name} is not text"))
    }
}

//! A reverse proxy as a site has it in front of its issuer: HTTPS, one path at which it knows the user,
//! everything else passed on as it came. It does what `examples/auth-proxy/README.md` asks of one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use reqwest::{Certificate, Client, Identity};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::pki::{CertificateAuthority, CertifiedKey};
use crate::ports::PortLease;

/// Largest body passed on.
const MAX_BODY: usize = 1024 * 1024;
/// Headers of one connection, not of the request (RFC 9110 7.6.1).
const HOP_BY_HOP: [HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Where a proxy passes requests on to.
#[derive(Debug, Clone)]
pub struct Behind {
    /// The ordinary listener.
    pub ordinary: SocketAddr,
    /// The listener for proxies.
    pub proxies: SocketAddr,
    /// The path that goes there, such as `/callback/proxy`.
    pub callback: String,
}

/// A running reverse proxy. Dropping it stops it.
#[derive(Debug)]
pub struct ReverseProxy {
    url: String,
    site: Arc<Site>,
    serving: JoinHandle<()>,
    _port: PortLease,
}

#[derive(Debug)]
struct Site {
    http: Client,
    behind: Behind,
    user: Mutex<Vec<(HeaderName, HeaderValue)>>,
}

impl ReverseProxy {
    /// The site's URL on this port: what the issuer must be called.
    pub fn url_at(port: &PortLease) -> String {
        format!("https://127.0.0.1:{}", port.port())
    }

    /// Starts it. It trusts `authority`, has a server certificate of it, and shows `identity` behind.
    ///
    /// # Errors
    /// When a certificate cannot be used or the port is taken.
    pub async fn start(
        port: PortLease,
        behind: Behind,
        authority: &CertificateAuthority,
        identity: &CertifiedKey,
    ) -> Result<Self> {
        let pem = format!("{}{}", identity.certificate_pem, identity.key_pem);
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([Certificate::from_pem(authority.certificate_pem().as_bytes())?])
            .identity(Identity::from_pem(pem.as_bytes())?)
            .build()?;
        let site = Arc::new(Site { http, behind, user: Mutex::default() });
        let listener = TlsListener {
            tcp: TcpListener::bind(("127.0.0.1", port.port())).await?,
            tls: authority.server(&["localhost"], &[])?.acceptor()?,
        };
        let router = Router::new().fallback(pass_on).with_state(Arc::clone(&site));
        let serving = tokio::spawn(async move {
            // It ends with its task alone.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { url: Self::url_at(&port), site, serving, _port: port })
    }

    /// The site's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whom the proxy takes its visitors for from now on: the headers it sets.
    ///
    /// # Errors
    /// When a name or value is none.
    pub fn recognize(&self, headers: &[(&str, &str)]) -> Result<()> {
        let parse = |(name, value): &(&str, &str)| Ok((name.parse()?, value.parse()?));
        let headers = headers.iter().map(parse).collect::<Result<_>>()?;
        *self.site.user.lock().unwrap_or_else(PoisonError::into_inner) = headers;
        Ok(())
    }
}

impl Drop for ReverseProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass_on(State(site): State<Arc<Site>>, request: Request) -> Response {
    match site.pass_on(request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

impl Site {
    async fn pass_on(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut headers = parts.headers;
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
        let is_callback = parts.uri.path() == self.behind.callback;
        let to = if is_callback { self.behind.proxies } else { self.behind.ordinary };
        if is_callback {
            self.set_user(&mut headers);
        }
        let answer = self
            .http
            .request(parts.method, format!("https://{to}{target}"))
            .headers(headers)
            .body(to_bytes(body, MAX_BODY).await?)
            .send()
            .await
            .context("nothing answers behind the proxy")?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        for name in &HOP_BY_HOP {
            response.headers_mut().remove(name);
        }
        *response.body_mut() = Body::from(answer.bytes().await?);
        Ok(response)
    }

    /// What a visitor says about themselves goes; what the proxy knows is set.
    fn set_user(&self, headers: &mut HeaderMap) {
        let fold = |name: &HeaderName| name.as_str().replace('_', "-");
        let forged = headers.keys().filter(|name| fold(name).starts_with("x-remote-"));
        for name in forged.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        let user = self.user.lock().unwrap_or_else(PoisonError::into_inner);
        headers.extend(user.iter().cloned());
    }
}

/// Accepts TLS for `axum::serve`.
pub(crate) struct TlsListener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, address)) = self.tcp.accept().await
                && let Ok(stream) = self.tls.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

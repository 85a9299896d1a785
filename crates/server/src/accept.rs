//! The accept loop: TLS, HTTP/1.1 and HTTP/2, and a limit on everything a stranger could hold open.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::timeout::TimeoutLayer;

use crate::app::App;

/// What one listener puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once; more wait in the kernel's queue.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request, and between two requests of a connection.
    pub header_read: Duration,
    /// For a whole request, its body included.
    pub request: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// For requests under way when the process is told to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(10),
            request: Duration::from_secs(30),
            head_bytes: 16 * 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Most header fields of a request.
const MAX_HEADERS: usize = 64;
/// Most requests under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The other end of a connection; every request carries it as an extension.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its address, as the socket says.
    pub address: IpAddr,
    /// The certificates it showed and the handshake proved, leaf first.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Serves everything but the word of trusted proxies until `shutdown`, then lets requests under way
/// finish within the drain limit.
///
/// # Errors
/// Never at present: failed accepts are logged and tried again.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    app: App,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let begun = app.begun().clone();
    accept(listener, tls, (app.router(), begun), limits, shutdown).await
}

/// Serves the word of trusted proxies, and nothing else, until `shutdown`, as [`serve`] does. `tls` is
/// [`crate::tls::Certificates::proxy_config`].
///
/// # Errors
/// Never at present.
pub async fn serve_proxies(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    app: App,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let begun = app.begun().clone();
    accept(listener, Some(tls), (app.proxy_router(), begun), limits, shutdown).await
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    (router, begun): (Router, TaskTracker),
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let server = Server {
        http: http(&limits),
        router: router
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, limits.request)),
        tls: tls.map(TlsAcceptor::from),
        limits,
    };
    let room = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, address)) => {
                    let server = server.clone();
                    let watcher = graceful.watcher();
                    connections.spawn(async move {
                        server.connection((stream, address.ip()), watcher).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async {
        graceful.shutdown().await; // what is still being read may begin something
        begun.close();
        begun.wait().await;
    };
    if timeout(limits.drain, drained).await.is_err() {
        tracing::warn!("requests were still under way when the drain time was over");
    }
    connections.shutdown().await;
    Ok(())
}

fn http(limits: &Limits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new()) // header_read_timeout panics without it
        .header_read_timeout(limits.header_read)
        .max_buf_size(limits.head_bytes)
        .max_headers(MAX_HEADERS);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(limits.header_read)
        .keep_alive_timeout(limits.header_read);
    http
}

#[derive(Clone)]
struct Server {
    http: Builder<TokioExecutor>,
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

impl Server {
    async fn connection(&self, (stream, address): (TcpStream, IpAddr), watcher: Watcher) {
        if stream.set_nodelay(true).is_err() {
            return; // gone already
        }
        match &self.tls {
            None => {
                let peer = Peer { address, certificates: Vec::new() };
                self.speak(stream, false, peer, watcher).await;
            }
            Some(acceptor) => match timeout(self.limits.handshake, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let session = stream.get_ref().1;
                    let is_http2 = session.alpn_protocol() == Some(b"h2");
                    let shown = session.peer_certificates().unwrap_or_default();
                    let certificates = shown.iter().map(|der| der.clone().into_owned()).collect();
                    self.speak(stream, is_http2, Peer { address, certificates }, watcher).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            },
        }
    }

    /// ALPN says which HTTP it is. Left to guess, `Builder` would wait for ever for the first bytes
    /// of a peer that says nothing: its header timeout begins only when it has guessed.
    async fn speak<S>(&self, stream: S, is_http2: bool, peer: Peer, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = Arc::new(peer);
        let with_peer = move |request: hyper::Request<Incoming>| {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(Arc::clone(&peer));
            request
        };
        let service = TowerToHyperService::new(self.router.clone().map_request(with_peer));
        let http = self.http.clone();
        let http = if is_http2 { http.http2_only() } else { http.http1_only() };
        let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended with an error");
        }
    }
}

//! The accept loop: TLS, HTTP/1.1 and HTTP/2, and a limit on everything a stranger could hold open.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
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

/// Serves until `shutdown`, then lets requests under way finish within the drain limit.
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
    let server = Server {
        http: http(&limits),
        router: app
            .router()
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
                Ok((stream, _)) => {
                    let server = server.clone();
                    let watcher = graceful.watcher();
                    connections.spawn(async move {
                        server.connection(stream, watcher).await;
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
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
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
    async fn connection(&self, stream: TcpStream, watcher: hyper_util::server::graceful::Watcher) {
        if stream.set_nodelay(true).is_err() {
            return; // gone already
        }
        match &self.tls {
            None => self.speak(stream, false, watcher).await,
            Some(acceptor) => match timeout(self.limits.handshake, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    self.speak(stream, is_http2, watcher).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            },
        }
    }

    /// ALPN says which HTTP it is. Left to guess, `Builder` would wait for ever for the first bytes
    /// of a peer that says nothing: its header timeout begins only when it has guessed.
    async fn speak<S>(
        &self,
        stream: S,
        is_http2: bool,
        watcher: hyper_util::server::graceful::Watcher,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(self.router.clone());
        let http = self.http.clone();
        let http = if is_http2 { http.http2_only() } else { http.http1_only() };
        let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended with an error");
        }
    }
}

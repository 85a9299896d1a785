//! A way to the API server that a test can make bad: slow, cut, silent, or forgetful of one answer.
//!
//! ```text
//! replica ─TLS→ Proxy ─TLS→ kube-apiserver
//!                 ↑ conduct (every request), cut() (every connection), traps (chosen requests)
//! ```
//! - It ends TLS with a certificate of the control plane's own authority, so that it can tell requests
//!   apart: "the answer to the next `patch sessions`" is one exact request, not some bytes.
//! - What its user proves itself with (a token) is passed on; nothing is added, retried or reordered.
//! - Nothing is lost by [`Conduct::Stall`]: what was said meanwhile goes on when it ends, watches too.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::{ControlPlane, eventually};

/// For a request that a test waits for; a loaded machine is slow.
const SPRING: Duration = Duration::from_mins(1);

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Error>;

/// What happens to every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// It is passed on.
    Pass,
    /// It is passed on after this time.
    Delay(Duration),
    /// It waits until this ends; so do connections that are opened, and what watches would say.
    Stall,
    /// Connections are closed as soon as they are opened, and all that were open.
    Refuse,
}

/// What happens to a request that springs a [`Trap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The API server does it; the connection breaks before its answer comes.
    LoseAnswer,
    /// The API server does it; the answer waits until the trap is dropped.
    HoldAnswer,
    /// The API server hears of it only when the trap is dropped.
    Hold,
    /// The API server never hears of it; this is the answer.
    Answer {
        /// HTTP status.
        status: StatusCode,
        /// `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
}

/// A running proxy. Dropping it ends every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    way: Arc<Way>,
    accepting: JoinHandle<()>,
}

/// Requests of one kind that meet a [`Fault`], as long as this lives.
#[derive(Debug)]
pub struct Trap {
    what: &'static str,
    sprung: watch::Receiver<usize>,
    _held: watch::Sender<()>,
}

#[derive(Debug)]
struct Armed {
    what: &'static str,
    fault: Fault,
    /// How many more requests spring it.
    left: usize,
    sprung: watch::Sender<usize>,
    /// Closed when the trap is dropped.
    held: watch::Receiver<()>,
}

struct Way {
    upstream: kube::Client,
    conduct: watch::Sender<Conduct>,
    /// Changes when every connection is to end.
    cuts: watch::Sender<usize>,
    armed: Mutex<Vec<Armed>>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("conduct", &self.conduct).finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy on a port of its own that passes everything on.
    ///
    /// # Errors
    /// When the control plane's authority cannot be used.
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        let tls = TlsAcceptor::from(server_config(plane)?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let way = Arc::new(Way {
            upstream: upstream(plane)?,
            conduct: watch::Sender::new(Conduct::Pass),
            cuts: watch::Sender::new(0),
            armed: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&way)));
        Ok(Self { address, way, accepting })
    }

    /// Where a kubeconfig finds it: `https://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Says what happens to every request from now on.
    pub fn conduct(&self, conduct: Conduct) {
        self.way.conduct.send_replace(conduct);
        if conduct == Conduct::Refuse {
            self.cut();
        }
    }

    /// Ends every connection that is open now, whatever is under way on it.
    pub fn cut(&self) {
        self.way.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// A trap for the next request of this kind, in the audit log's words: `patch sessions`.
    pub fn trap(&self, what: &'static str, fault: Fault) -> Trap {
        self.arm(what, fault, 1)
    }

    /// A trap for every request of this kind, as long as it lives.
    pub fn trap_every(&self, what: &'static str, fault: Fault) -> Trap {
        self.arm(what, fault, usize::MAX)
    }

    fn arm(&self, what: &'static str, fault: Fault, left: usize) -> Trap {
        let (sprung, told) = watch::channel(0);
        let (holding, held) = watch::channel(());
        self.way.armed().push(Armed { what, fault, left, sprung, held });
        Trap { what, sprung: told, _held: holding }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Trap {
    /// How many requests sprang it so far. With [`Fault::LoseAnswer`] and [`Fault::HoldAnswer`] a request
    /// counts when the API server has done it.
    pub fn count(&self) -> usize {
        *self.sprung.borrow()
    }

    /// Waits until a request has sprung it.
    ///
    /// # Errors
    /// When none does within a minute.
    pub async fn sprung(&self) -> Result<()> {
        eventually(SPRING, async || {
            let what = self.what;
            anyhow::ensure!(self.count() > 0, "nobody asked to {what}");
            Ok(())
        })
        .await
    }
}

impl Way {
    fn armed(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing is passed on.
    async fn until_passable(&self) {
        let mut conduct = self.conduct.subscribe();
        // Fails only when `self` is gone, and with it everybody who could wait.
        let _ = conduct.wait_for(|conduct| *conduct != Conduct::Stall).await;
    }

    /// The trap this request springs, if any.
    fn spring(&self, what: &str) -> Option<(Fault, watch::Sender<usize>, watch::Receiver<()>)> {
        let mut armed = self.armed();
        armed.retain(|trap| trap.left > 0 && trap.held.has_changed().is_ok());
        let trap = armed.iter_mut().find(|trap| trap.what == what)?;
        trap.left -= 1;
        Some((trap.fault, trap.sprung.clone(), trap.held.clone()))
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, tls: TlsAcceptor) {
        self.until_passable().await;
        if *self.conduct.borrow() == Conduct::Refuse {
            return;
        }
        let Ok(stream) = tls.accept(stream).await else { return };
        let service = service_fn(move |request| Arc::clone(&self).answer(request));
        // A broken connection is what this is for.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        self.until_passable().await;
        let conduct = *self.conduct.borrow();
        if let Conduct::Delay(time) = conduct {
            tokio::time::sleep(time).await;
        }
        let Some((fault, sprung, mut held)) = self.spring(&what(&request)) else {
            return self.forward(request).await;
        };
        let count = || sprung.send_modify(|count| *count += 1);
        match fault {
            Fault::Answer { status, retry_after } => {
                count();
                Ok(status_answer(status, retry_after)?)
            }
            Fault::Hold => {
                count();
                while held.changed().await.is_ok() {}
                self.forward(request).await
            }
            Fault::LoseAnswer => {
                self.forward_whole(request).await?;
                count();
                Err("the answer is lost".into())
            }
            Fault::HoldAnswer => {
                let answer = self.forward_whole(request).await?;
                count();
                while held.changed().await.is_ok() {}
                Ok(answer)
            }
        }
    }

    /// Passes a request on, and its answer piece by piece.
    async fn forward(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let (mut head, body) = request.into_parts();
        head.headers.remove(header::HOST);
        let body = kube::client::Body::from(body.collect().await?.to_bytes().to_vec());
        let (mut head, body) =
            self.upstream.send(Request::from_parts(head, body)).await?.into_parts();
        head.headers.remove(header::TRANSFER_ENCODING);
        let pieces = stream::unfold((Box::pin(body), self), |(mut body, way)| async move {
            let piece = body.frame().await?;
            way.until_passable().await;
            Some((piece.map_err(Error::from), (body, way)))
        });
        Ok(Response::from_parts(head, StreamBody::new(pieces).boxed_unsync()))
    }

    /// The same; when this resolves, the answer is here in full.
    async fn forward_whole(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Error> {
        let (head, body) = self.forward(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(head, whole(body)))
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, way: Arc<Way>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, way, mut cuts) = (tls.clone(), Arc::clone(&way), way.cuts.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                _ = cuts.changed() => {}
                () = way.connection(stream, tls) => {}
            }
        });
    }
}

fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A Kubernetes `Status`, as the API server words a refusal.
fn status_answer(status: StatusCode, retry_after: Option<u32>) -> http::Result<Response<Body>> {
    let mut answer = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    let body = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "message": "said by the test's proxy",
        "code": status.as_u16(),
        "details": { "retryAfterSeconds": retry_after.unwrap_or_default() },
    });
    answer.header(header::CONTENT_TYPE, "application/json").body(whole(body.to_string()))
}

fn server_config(plane: &ControlPlane) -> Result<Arc<ServerConfig>> {
    let server = plane.certificate_authority()?.server(&[], &[])?;
    let certificate = CertificateDer::from_pem_slice(server.certificate_pem.as_bytes())
        .context("failed to read the proxy's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes())
        .context("failed to read the proxy's key")?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(Arc::new(config))
}

/// A client that proves nothing of its own, and neither retries nor gives up.
fn upstream(plane: &ControlPlane) -> Result<kube::Client> {
    let mut config = kube::Config::new(plane.url()?.parse().context("not a URL")?);
    let authority =
        CertificateDer::from_pem_file(plane.ca_file()).context("failed to read the CA")?;
    config.root_cert = Some(vec![authority.to_vec()]);
    config.default_retry = false;
    config.read_timeout = None;
    config.proxy_url = None;
    kube::Client::try_from(config).context("failed to make the proxy's client")
}

/// What a request asks for, in the audit log's words: `patch sessions`, `patch oidcissuers/status`.
fn what<B>(request: &Request<B>) -> String {
    let Some(path) = Path::parse(request.uri()) else {
        return format!("{} {}", verb_of(request.method()), request.uri().path());
    };
    let watches = request.uri().query().is_some_and(|query| query.contains("watch="));
    let verb = match (request.method(), path.is_named) {
        (&Method::GET, false) if watches => "watch",
        (&Method::GET, false) => "list",
        (&Method::DELETE, false) => "deletecollection",
        (method, _) => verb_of(method),
    };
    format!("{verb} {}", path.resource)
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

struct Path {
    /// With the subresource, if there is one.
    resource: String,
    is_named: bool,
}

impl Path {
    fn parse(uri: &Uri) -> Option<Self> {
        let parts: Vec<_> = uri.path().trim_matches('/').split('/').collect();
        let (["api", _, rest @ ..] | ["apis", _, _, rest @ ..]) = parts.as_slice() else {
            return None;
        };
        let rest = match rest {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
            rest => rest,
        };
        match *rest {
            [resource] => Some(Self { resource: resource.to_owned(), is_named: false }),
            [resource, _] => Some(Self { resource: resource.to_owned(), is_named: true }),
            [resource, _, sub] => {
                Some(Self { resource: format!("{resource}/{sub}"), is_named: true })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_the_audit_log_names_them() {
        let sessions = "/apis/claviger.dev/v1alpha1/namespaces/home/sessions";
        for (method, uri, named) in [
            ("POST", sessions.to_owned(), "create sessions"),
            ("PATCH", format!("{sessions}/a?fieldManager=x"), "patch sessions"),
            ("GET", format!("{sessions}/a"), "get sessions"),
            ("GET", format!("{sessions}?limit=1"), "list sessions"),
            ("GET", format!("{sessions}?watch=true"), "watch sessions"),
            ("DELETE", format!("{sessions}?limit=1"), "deletecollection sessions"),
            ("PUT", "/api/v1/namespaces/home/secrets/a".to_owned(), "update secrets"),
            ("GET", "/api/v1/namespaces?watch=1".to_owned(), "watch namespaces"),
            ("GET", "/apis/claviger.dev/v1alpha1/oauth2clients".to_owned(), "list oauth2clients"),
            (
                "PATCH",
                "/apis/claviger.dev/v1alpha1/namespaces/home/oidcissuers/main/status".to_owned(),
                "patch oidcissuers/status",
            ),
            ("GET", "/readyz".to_owned(), "get /readyz"),
        ] {
            let request = Request::builder().method(method).uri(&uri).body(()).unwrap();
            assert_eq!(what(&request), named, "{method} {uri}");
        }
    }
}

//! A web service at an https URL on loopback: it notes what it is asked, and answers as a test wrote, else by itself. What "by
//! itself" is, is a function: a fake's, or a real server's behind it ([`WebService::before`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use reqwest::{Certificate, Client};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::reverse_proxy::TlsListener;
use crate::vendor::Scripted;

/// A running service. Dropping it stops it.
#[derive(Debug)]
pub struct WebService {
    site: Arc<Site>,
    serving: JoinHandle<()>,
    port: PortLease,
}

/// What is answered where a test wrote nothing.
pub type Answering = Box<dyn Fn(Parts, Bytes) -> BoxFuture<'static, Response> + Send + Sync>;

struct Site {
    answering: Answering,
    conduct: Mutex<WebConduct>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Site")
    }
}

/// How it behaves.
#[derive(Debug, Default)]
pub struct WebConduct {
    /// Answers by method and path (`GET /users/1`), given instead of its own.
    pub answers: BTreeMap<String, Scripted>,
    /// What was asked, in order: method, path and query.
    pub log: Vec<String>,
    /// Whether it is silent from now on.
    pub silent: bool,
}

impl WebService {
    /// Starts one with a certificate of this authority.
    ///
    /// # Errors
    /// When there is no port, or the certificate cannot be made.
    pub async fn start(authority: &CertificateAuthority, answering: Answering) -> Result<Self> {
        let port = PortLease::take()?;
        let site = Arc::new(Site { answering, conduct: Mutex::default() });
        let listener = TlsListener {
            tcp: TcpListener::bind(("127.0.0.1", port.port())).await?,
            tls: authority.server(&["localhost"], &[])?.acceptor()?,
        };
        let router = Router::new().fallback(answer).with_state(Arc::clone(&site));
        let serving = tokio::spawn(async move {
            // It ends with its task alone.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { site, serving, port })
    }

    /// Starts one that passes everything on to a real server at this origin.
    ///
    /// # Errors
    /// As [`WebService::start`].
    pub async fn before(
        authority: &CertificateAuthority,
        (origin, trusted): (&str, &str),
    ) -> Result<Self> {
        let trusted = Certificate::from_pem(trusted.as_bytes())?;
        let client = Client::builder().no_proxy().tls_certs_only([trusted]).build()?;
        let origin = origin.to_owned();
        let pass = move |parts: Parts, body: Bytes| -> BoxFuture<'static, Response> {
            Box::pin(pass(client.clone(), format!("{origin}{}", parts.uri), parts, body))
        };
        Self::start(authority, Box::new(pass)).await
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port.port())
    }

    /// How it behaves from now on.
    pub fn conduct(&self) -> MutexGuard<'_, WebConduct> {
        self.site.conduct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked since this was last called.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.conduct().log)
    }

    /// Answers a method and path in these words from now on.
    pub fn script(&self, asked: &str, answer: Scripted) {
        self.conduct().answers.insert(asked.to_owned(), answer);
    }
}

impl Drop for WebService {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 1 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (silent, scripted) = {
        let mut conduct = site.conduct.lock().unwrap_or_else(PoisonError::into_inner);
        conduct.log.push(format!("{} {}", parts.method, parts.uri));
        let asked = format!("{} {}", parts.method, parts.uri.path());
        (conduct.silent, conduct.answers.get(&asked).cloned())
    };
    if silent {
        std::future::pending::<()>().await;
    }
    match scripted {
        Some(said) => written(said),
        None => (site.answering)(parts, body).await,
    }
}

fn written(said: Scripted) -> Response {
    let status = StatusCode::from_u16(said.status).unwrap_or(StatusCode::IM_A_TEAPOT);
    let mut response = (status, said.body).into_response();
    for (name, value) in said.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

async fn pass(client: Client, url: String, parts: Parts, body: Bytes) -> Response {
    let mut request = client.request(parts.method, url).body(body);
    for (name, value) in &parts.headers {
        if name != "host" && name != "content-length" {
            request = request.header(name, value);
        }
    }
    let Ok(answer) = request.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let Ok(body) = answer.bytes().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let mut response = (status, body).into_response();
    for (name, value) in &headers {
        if name != "transfer-encoding" && name != "content-length" && name != "connection" {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

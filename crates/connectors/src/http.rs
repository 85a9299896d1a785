//! The HTTP client of every connector that speaks to an upstream's web API.
//!
//! What always holds: nothing is asked without TLS, whoever names the URL; no redirect is followed, for a token must not travel where an upstream's answer points; an answer
//! has a largest size and a latest moment; nothing of a request or an answer is in an error but its URL without the
//! query, and the wire's words.

use std::error::Error as _;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use claviger_api::Reason;
use claviger_api::connector::http::HttpTls;
use claviger_domain::no_verdict::NoVerdict;
use http::{HeaderMap, StatusCode, header};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::redirect::Policy;
use thiserror::Error;
use url::Url;

use crate::resolved::Authorities;
use crate::tls::{self, Material};
use crate::{BuildError, Resolved};

/// Longest answer, in bytes: ten thousand groups fit.
pub const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Longest wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest one request may take: a user waits for several.
const DEADLINE: Duration = Duration::from_secs(10);
/// Connections kept open to one host, per replica.
const KEPT: usize = 4;

/// Why there is no answer. None of these is a verdict about a user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HttpError {
    /// Nobody answered there.
    #[error("failed to connect to {url}: {cause}")]
    Connect {
        /// Whom we asked.
        url: String,
        /// The wire error, and its fix where it is known.
        cause: String,
    },
    /// Somebody answered who is not trusted.
    #[error("TLS with {url} failed: {cause}")]
    Tls {
        /// Whom we asked.
        url: String,
        /// The wire error and its fix.
        cause: String,
    },
    /// Silence.
    #[error("{url} did not answer within {} s", DEADLINE.as_secs())]
    Deadline {
        /// Whom we asked.
        url: String,
    },
    /// An answer that is none, or breaks off.
    #[error("the answer of {url} could not be read: {cause}")]
    Broken {
        /// Whom we asked.
        url: String,
        /// The wire error.
        cause: String,
    },
    /// An answer without an end.
    #[error("the answer of {url} is longer than {MAX_ANSWER} bytes")]
    TooLong {
        /// Whom we asked.
        url: String,
    },
    /// It fails, or has had too many requests: whatever else it says is no verdict.
    #[error("{url} answered {status}")]
    Failed {
        /// Whom we asked.
        url: String,
        /// 5xx or 429.
        status: StatusCode,
        /// After how many seconds to ask again, if it says so.
        retry_after: Option<u32>,
    },
    /// It points elsewhere.
    #[error("{url} answered {status}: redirects are not followed; name the address that answers")]
    Redirect {
        /// Whom we asked.
        url: String,
        /// 3xx.
        status: StatusCode,
    },
}

impl HttpError {
    /// The word for the `Ready` condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Connect { .. } | Self::Deadline { .. } => Reason::UpstreamUnreachable,
            Self::Tls { .. } => Reason::UpstreamUntrusted,
            Self::Broken { .. }
            | Self::TooLong { .. }
            | Self::Failed { .. }
            | Self::Redirect { .. } => Reason::UpstreamUnusable,
        }
    }
}

impl From<&HttpError> for NoVerdict {
    fn from(error: &HttpError) -> Self {
        match error {
            HttpError::Failed { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. } => {
                Self::busy(error.to_string(), *retry_after)
            }
            _ => error.to_string().into(),
        }
    }
}

/// After how many seconds to ask again (RFC 9110 10.2.3), where an answer says it so; dates are for pages.
pub fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// The client of one connector, with its pool of connections.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// A client that has asked nobody yet, trusts as `tls` says, and goes through a proxy where one is named. What the
    /// environment says of proxies is nobody's business here.
    ///
    /// # Errors
    /// [`BuildError::Proxy`], [`BuildError::Tls`].
    pub fn new(tls: &Arc<rustls::ClientConfig>, proxy: Option<&str>) -> Result<Self, BuildError> {
        let builder = reqwest::Client::builder();
        let builder = match proxy {
            None => builder.no_proxy(),
            Some(proxy) => {
                let proxy = reqwest::Proxy::all(proxy);
                let proxy = proxy.map_err(|error| BuildError::Proxy(words(&error)))?;
                builder.no_proxy().proxy(proxy)
            }
        };
        let client = builder
            .tls_backend_preconfigured(rustls::ClientConfig::clone(tls))
            .redirect(Policy::none())
            .https_only(true)
            .connect_timeout(CONNECT)
            .timeout(DEADLINE)
            .pool_max_idle_per_host(KEPT)
            .user_agent(concat!("claviger/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| BuildError::Tls(tls::TlsError::Setup(words(&error))))?;
        Ok(Self { client })
    }

    /// The same, as a Connector says in words.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn trusting(tls: &HttpTls, resolved: &Resolved) -> Result<Self, BuildError> {
        let ca = resolved.authorities(&Authorities {
            bundle: tls.ca_bundle.as_deref(),
            secret: tls.ca_secret_ref.as_ref(),
            config_map: tls.ca_config_map_ref.as_ref(),
        })?;
        let seen = resolved.certificates.clone();
        let tls = tls::client_config(&Material { ca, seen, ..Material::default() })?;
        Self::new(&tls, resolved.proxy.as_deref())
    }

    /// Asks, and reads the whole answer, whatever its status but a redirect.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(
        &self,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        let url = shown(&request.uri().to_string());
        let failed = |error: reqwest::Error| failure(&url, &error);
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut answer = self.client.execute(request).await.map_err(failed)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(HttpError::Redirect { url, status });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(HttpError::TooLong { url });
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// As the libraries of protocols want it: they look at what an answer says, and not at its status.
impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async {
            let url = shown(&request.uri().to_string());
            let answer = self.send(request).await?;
            let status = answer.status();
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                let retry_after = retry_after(answer.headers());
                return Err(HttpError::Failed { url, status, retry_after });
            }
            Ok(answer)
        })
    }
}

/// A URL without its query: that may hold a code or a token.
fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut url) => {
            url.set_query(None);
            url.set_fragment(None);
            let _ = url.set_password(None);
            url.into()
        }
        Err(_) => "the upstream".to_owned(),
    }
}

fn failure(url: &str, error: &reqwest::Error) -> HttpError {
    let url = url.to_owned();
    if let Some(cause) = tls_failure(error) {
        HttpError::Tls { url, cause }
    } else if error.is_timeout() {
        HttpError::Deadline { url }
    } else if error.is_connect() {
        HttpError::Connect { url, cause: words(error) }
    } else {
        HttpError::Broken { url, cause: words(error) }
    }
}

/// What TLS says, where it is TLS that failed.
fn tls_failure(error: &reqwest::Error) -> Option<String> {
    causes(error).find_map(|cause| cause.downcast_ref().map(tls::explain))
}

/// What lies at the bottom of an error: the library's own words name the URL with its query.
fn words(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "no request can be made of it".into(), ToString::to_string)
}

/// What an error came of, and that of, and so on.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| {
        // What an I/O error wraps is not its source, but the source of that is.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        wrapped.map(|inner| inner as _).or_else(|| (*cause).source())
    })
}

//! The Kubernetes clients of this process.
//!
//! What always holds:
//! - nothing is retried below us: kube's default client retries 429, 503 and 504 up to 15 times, POST
//!   included; a create that had succeeded would be repeated, and a struggling API server would meet a
//!   storm. The caller decides;
//! - every answer's `Date` is heard ([`ApiTime`]), and the `Retry-After` of a refusal reaches its
//!   `Status` ([`crate::retry_after`]).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use kube::client::{Body, ClientBuilder, DynBody};
use kube::{Client, Config};
use tower::{BoxError, Service};

use crate::api_time::ApiTime;
use crate::retry_after;

/// Longest time one request may take before its user is told to come back.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// What is told of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Method of the request.
    pub method: &'a Method,
    /// Status of the answer.
    pub status: StatusCode,
    /// When the request was sent.
    pub sent: Instant,
}

/// Is told of every answer.
pub type Listener = Arc<dyn Fn(Answer<'_>) + Send + Sync>;

/// A client for short requests that a user waits for, from the configuration of the ordinary one.
///
/// # Errors
/// When the configuration's certificates or keys cannot be used.
pub fn request_path_client(config: &Config, time: &Arc<ApiTime>) -> kube::Result<Client> {
    short_requests_client(config, time, None)
}

/// A client for short requests, all of which have a deadline, with somebody who is told of answers.
///
/// # Errors
/// When the configuration's certificates or keys cannot be used.
pub fn short_requests_client(
    config: &Config,
    time: &Arc<ApiTime>,
    listener: Option<Listener>,
) -> kube::Result<Client> {
    let mut config = config.clone();
    config.default_retry = false;
    config.connect_timeout = Some(DEADLINE);
    config.read_timeout = Some(DEADLINE);
    config.write_timeout = Some(DEADLINE);
    client(config, time, listener)
}

/// A watch is told something every minute, a bookmark at least: a connection that is silent for longer
/// than this is dead.
const SILENCE: Duration = Duration::from_mins(2);

/// A client for watches, and for writes that put a deadline on themselves.
///
/// # Errors
/// When the configuration's certificates or keys cannot be used.
pub fn watching_client(config: &Config, time: &Arc<ApiTime>) -> kube::Result<Client> {
    let mut config = config.clone();
    config.default_retry = false;
    config.read_timeout = Some(SILENCE);
    client(config, time, None)
}

fn client(config: Config, time: &Arc<ApiTime>, listener: Option<Listener>) -> kube::Result<Client> {
    let time = Arc::clone(time);
    let listening = tower::layer::layer_fn(move |inner| Listening {
        inner,
        time: Arc::clone(&time),
        listener: listener.clone(),
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&listening).build())
}

/// Hears what the headers of answers say.
struct Listening<S> {
    inner: S,
    time: Arc<ApiTime>,
    listener: Option<Listener>,
}

impl<S> Service<Request<Body>> for Listening<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (time, listener) = (Arc::clone(&self.time), self.listener.clone());
        let (method, sent) = (request.method().clone(), Instant::now());
        let answering = self.inner.call(request);
        async move {
            let answer = answering.await?;
            time.hear(answer.headers(), sent, Instant::now());
            if let Some(listener) = listener {
                listener(Answer { method: &method, status: answer.status(), sent });
            }
            retry_after::into_status(answer).await
        }
        .boxed()
    }
}

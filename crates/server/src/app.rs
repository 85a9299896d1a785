//! From any request to the issuer it is for: host and path choose, once, from one Snapshot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use claviger_domain::issuer::{ClientEntry, Issuer};
use claviger_domain::{Provider, Snapshot};
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;

use crate::device_throttles::DeviceThrottles;
use crate::metrics::Metrics;
use crate::page::{self, ErrorPage};
use crate::throttle::Throttle;
use crate::{cors, endpoint};

/// Largest request body taken, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Largest answer that an upstream's page makes a browser post, in bytes: 256 `KiB` of XML, in base64, with what of that a
/// form escapes.
pub const MAX_FORM_ANSWER: usize = 448 * 1024;
/// What the control plane takes to see and judge a new client and its secret, at most.
const UNTIL_SERVED: Duration = Duration::from_secs(5);
/// Registrations that wait for their turn at once.
const MAX_REGISTERING: usize = 16;
/// The metadata by the name that RFC 8414 3 has for it.
const OAUTH_METADATA: &str = "/.well-known/oauth-authorization-server";

/// Clients register one after the other, so that each is counted before the next.
#[derive(Debug)]
struct Registering {
    waiting: Semaphore,
    turn: Mutex<()>,
}

impl Default for Registering {
    fn default() -> Self {
        Self { waiting: Semaphore::new(MAX_REGISTERING), turn: Mutex::default() }
    }
}

/// Dropping it lets the next one register.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _turn: MutexGuard<'a, ()>,
    _waiting: SemaphorePermit<'a>,
}

/// What became of a client that was just made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is served.
    Served,
    /// It is not admitted.
    Refused,
    /// Nobody has seen it yet.
    Unknown,
}

/// What every request is given. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    provider: Provider,
    snapshot: Arc<ArcSwap<Snapshot>>,
    metrics: Metrics,
    throttle: Arc<Throttle>,
    admission_wait: Duration,
    device_throttles: Arc<DeviceThrottles>,
    logout_tokens: Arc<Throttle>,
    registering: Arc<Registering>,
    begun: TaskTracker,
}

impl App {
    /// An app over these ports and this Snapshot.
    pub fn new(provider: Provider, snapshot: Arc<ArcSwap<Snapshot>>, metrics: Metrics) -> Self {
        Self {
            provider,
            snapshot,
            metrics,
            throttle: Arc::default(),
            device_throttles: Arc::default(),
            logout_tokens: Arc::new(endpoint::upstream_logout::throttle()),
            admission_wait: UNTIL_SERVED,
            registering: Arc::default(),
            begun: TaskTracker::new(),
        }
    }

    /// What goes on to its end though the client hangs up, and is waited for when the server ends.
    pub(crate) fn begun(&self) -> &TaskTracker {
        &self.begun
    }

    /// The same app that waits for this long until a client that was just made is served.
    #[must_use]
    pub fn waiting_for_clients(self, admission_wait: Duration) -> Self {
        Self { admission_wait, ..self }
    }

    /// The Snapshot it serves from.
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    pub(crate) fn provider(&self) -> &Provider {
        &self.provider
    }

    pub(crate) fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// The issuer of this UID as it is now.
    pub(crate) fn issuer_now(&self, uid: &str) -> Option<Arc<Issuer>> {
        self.snapshot.load().issuer_by_uid(uid).cloned()
    }

    /// A turn to register a client; `None` when too many wait for theirs.
    pub(crate) async fn turn_to_register(&self) -> Option<Turn<'_>> {
        let waiting = self.registering.waiting.try_acquire().ok()?;
        Some(Turn { _turn: self.registering.turn.lock().await, _waiting: waiting })
    }

    /// What became of a client that was just made, once the control plane has judged it, or gave up waiting for that.
    pub(crate) async fn admission(&self, issuer: &str, client: &str) -> Admission {
        const PACE: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + self.admission_wait;
        loop {
            let snapshot = self.snapshot.load_full();
            match snapshot.issuer_by_uid(issuer).and_then(|issuer| issuer.client(client)) {
                Some(ClientEntry::InService(_)) => return Admission::Served,
                // Its secret is seen a moment after it.
                Some(ClientEntry::OutOfService(_)) if Instant::now() >= deadline => {
                    return Admission::Refused;
                }
                None if Instant::now() >= deadline => return Admission::Unknown,
                Some(ClientEntry::OutOfService(_)) | None => tokio::time::sleep(PACE).await,
            }
        }
    }

    pub(crate) fn device_throttles(&self) -> &DeviceThrottles {
        &self.device_throttles
    }

    /// Logout tokens that were refused, by address.
    pub(crate) fn logout_tokens(&self) -> &Throttle {
        &self.logout_tokens
    }

    /// Everything that is served, but the word of trusted proxies.
    pub fn router(self) -> Router {
        let inner = issuer_routes(self.clone());
        self.outer(Router::new().route("/healthz", get(|| async { "ok\n" })), inner)
    }

    /// What the listener for trusted proxies serves: one path.
    pub fn proxy_router(self) -> Router {
        let inner = proxy_routes(self.clone());
        self.outer(Router::new(), inner)
    }

    fn outer(self, routes: Router<Self>, inner: Router) -> Router {
        routes
            .fallback(move |State(app): State<Self>, request: Request| {
                let inner = inner.clone();
                async move { to_issuer(&app, inner, request).await }
            })
            .with_state(self)
            .layer(DefaultBodyLimit::max(MAX_BODY)) // as it is read
            .layer(RequestBodyLimitLayer::new(MAX_FORM_ANSWER)) // as it is announced, wherever
            .layer(CatchPanicLayer::custom(|_| {
                tracing::error!("a request handler panicked");
                page::error(&ErrorPage {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    heading: "Something went wrong",
                    message: "The request could not be answered. Please try again.",
                })
            }))
    }
}

/// The routes below one issuer.
fn issuer_routes(app: App) -> Router {
    Router::new()
        .route("/", get(endpoint::home::show))
        .route("/.well-known/openid-configuration", get(endpoint::discovery::show))
        .route(OAUTH_METADATA, get(endpoint::discovery::show))
        .route("/keys", get(endpoint::keys::show))
        .route("/auth", get(endpoint::authorize::by_query).post(endpoint::authorize::by_form))
        .route("/account", get(endpoint::account::show).post(endpoint::account::submit))
        .route("/logout", get(endpoint::logout::by_query).post(endpoint::logout::by_form))
        .route("/choose", get(endpoint::choose::show))
        .route("/auth/{connector}", get(endpoint::login::redirect))
        .route("/auth/{connector}/login", get(endpoint::login::show).post(endpoint::login::submit))
        .route("/approval", post(endpoint::approval::submit))
        .route("/device", get(endpoint::device::show).post(endpoint::device::submit))
        .route("/device/code", post(endpoint::device_code::authorize))
        .route("/par", post(endpoint::par::push))
        .route("/register", post(endpoint::register::create))
        .route(
            "/register/{name}",
            get(endpoint::register::read)
                .put(endpoint::register::update)
                .delete(endpoint::register::delete),
        )
        .route("/token", post(endpoint::token::exchange))
        .route("/token/introspect", post(endpoint::introspect::answer))
        .route("/token/revoke", post(endpoint::revoke::submit))
        .route("/userinfo", get(endpoint::userinfo::by_header).post(endpoint::userinfo::by_body))
        .route("/static/{name}", get(endpoint::asset::show))
        .route("/robots.txt", get(|| async { "User-agent: *\nDisallow: /\n" }))
        .route("/callback/{connector}/metadata", get(endpoint::callback::describe))
        .route(
            "/callback/{connector}/logout",
            post(endpoint::upstream_logout::hear).get(endpoint::single_logout::hear),
        )
        .layer(RequestBodyLimitLayer::new(MAX_BODY)) // as it is announced, but for the one below
        .route(
            "/callback/{connector}",
            get(endpoint::callback::from_upstream).post(endpoint::callback::by_form),
        )
        .fallback(endpoint::home::not_found)
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// The one route that believes headers about a user.
fn proxy_routes(app: App) -> Router {
    Router::new()
        .route("/callback/{connector}", get(endpoint::callback::by_proxy))
        .fallback(endpoint::callback::nothing_else)
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// Finds the issuer, puts it into the request and cuts its path off.
async fn to_issuer(app: &App, inner: Router, mut request: Request) -> Response {
    let snapshot = app.snapshot.load_full();
    let host = host_of(&request);
    let moved = behind_the_issuer(request.uri().path());
    let path = moved.as_deref().unwrap_or(request.uri().path());
    let Some((issuer, rest)) = host.as_deref().and_then(|h| snapshot.route(h, path)) else {
        let waits = host.as_deref().is_some_and(|host| snapshot.is_unavailable(host, path));
        return no_issuer(waits);
    };
    let issuer = Arc::clone(issuer);
    let Some(uri) = below(request.uri(), rest) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    let call = cors::Call::of(&request);
    if let Some(answer) = cors::preflight(&issuer, &call) {
        return answer;
    }
    request.extensions_mut().insert(Arc::clone(&issuer));
    let mut response = match inner.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    cors::allow(&issuer, &call, &mut response);
    secure(&issuer, &mut response);
    response
}

/// RFC 8414 3.1 puts its well-known part between the host and an issuer's own path; here it stands behind both, as that of
/// OpenID Connect does.
fn behind_the_issuer(path: &str) -> Option<String> {
    let issuer = path.strip_prefix(OAUTH_METADATA)?;
    issuer.starts_with('/').then(|| format!("{issuer}{OAUTH_METADATA}"))
}

/// There is no issuer, or only one that is out of service and may come back.
fn no_issuer(waits: bool) -> Response {
    if !waits {
        return page::error(&ErrorPage {
            status: StatusCode::NOT_FOUND,
            heading: "Nothing here",
            message: "No OpenID Connect issuer is served at this address.",
        });
    }
    let mut response = page::error(&ErrorPage {
        status: StatusCode::SERVICE_UNAVAILABLE,
        heading: "Out of service",
        message: "The OpenID Connect issuer at this address is invalid at the moment.",
    });
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// The authority the client asked for.
fn host_of(request: &Request) -> Option<String> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str().to_owned());
    }
    request.headers().get(header::HOST)?.to_str().ok().map(str::to_owned)
}

fn below(uri: &Uri, rest: &str) -> Option<Uri> {
    let path = if rest.is_empty() { "/" } else { rest };
    match uri.query() {
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

/// Headers that every answer carries.
fn secure(issuer: &Issuer, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    let mut set = |name, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    // No form-action: Chromium applies it to the redirect after a form, which goes to the client.
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self' https: data:; base-uri 'none'; \
         frame-ancestors 'none'",
    );
    set(header::CACHE_CONTROL, "no-store");
    if issuer.url.is_https() {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

/// Counts and times each request, by route and never by what a client chose.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let endpoint = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let started = Instant::now();
    let response = next.run(request).await;
    app.metrics.observe(&endpoint, method, response.status(), started.elapsed());
    response
}

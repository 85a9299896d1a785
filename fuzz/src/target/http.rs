//! Whole requests at the whole server, on the domain's in-memory ports.
//!
//! A stranger's request, whatever it is: never an error of ours, never a request to the session store, never a token or a
//! user's claims, never a redirect to anywhere but ourselves and the one registered URI.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use claviger_domain::Snapshot;
use claviger_domain::fakes::{REDIRECT_URI, World};
use claviger_domain::flow::MAX_COOKIE_LENGTH;
use claviger_protocol::response_type::ResponseType;
use claviger_server::{App, Metrics};
use prometheus::Registry;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::edits::edited;

const HOST_NAME: &str = "id.example.org";
const FORM: &str = "application/x-www-form-urlencoded";
/// `code_verifier` and `code_challenge` of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Name and attributes of a cookie, beside its value.
const COOKIE_OVERHEAD: usize = 256;

/// A server, and what a user's own sign-in left in a browser and a client.
struct Site {
    runtime: Runtime,
    world: World,
    router: Router,
    artefacts: Vec<Artefact>,
}

type Presented = Box<dyn Fn(&str) -> Request<Body> + Send>;

/// Something we gave out, and how it would be presented.
struct Artefact {
    what: &'static str,
    text: String,
    presented: Presented,
}

/// What a browser holds between the login form and its password.
struct Login {
    cookie_name: String,
    cookie: String,
    form: String,
    csrf: String,
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

fn site() -> MutexGuard<'static, Site> {
    static SITE: OnceLock<Mutex<Site>> = OnceLock::new();
    SITE.get_or_init(|| Mutex::new(Site::open())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    fn open() -> Self {
        let mut world = World::new();
        world.issuer.connectors.truncate(1);
        world.issuer.response_types = ResponseType::ALL.into();
        world.change_client("cli", |client| client.response_types = ResponseType::ALL.into());
        let issuer = world.issuer.clone().into();
        let snapshot = Snapshot { issuers: vec![issuer], ..Snapshot::default() };
        let metrics = Metrics::new(&Registry::new()).expect("metrics can be registered");
        let snapshot = ArcSwap::from_pointee(snapshot).into();
        let router = App::new(world.provider.clone(), snapshot, metrics).router();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut site = Self { runtime, world, router, artefacts: Vec::new() };
        site.artefacts = site.sign_in();
        site.world.sessions.take_requests();
        site
    }

    fn send(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(async {
            let Ok(response) = self.router.clone().oneshot(request).await;
            let (parts, body) = response.into_parts();
            let bytes = to_bytes(body, usize::MAX).await.expect("an answer's body");
            let body = String::from_utf8(bytes.to_vec()).expect("an answer is UTF-8");
            Answer { status: parts.status, headers: parts.headers, body }
        })
    }

    /// A whole sign-in, but that the second code is never redeemed and the third password never typed.
    fn sign_in(&self) -> Vec<Artefact> {
        let redeemed = self.code(&self.begin());
        let tokens = self.send(token_request("code", &redeemed));
        let tokens: serde_json::Value = serde_json::from_str(&tokens.body).expect("tokens");
        let token = |name: &str| tokens[name].as_str().expect("a token").to_owned();
        let code = self.code(&self.begin());
        let begun = Arc::new(self.begin());
        let (cookie, csrf) = (begun.cookie.clone(), begun.csrf.clone());
        let begun_too = Arc::clone(&begun);
        vec![
            Artefact::new("code", code, |code| token_request("code", code)),
            Artefact::new("refresh token", token("refresh_token"), |token| {
                token_request("refresh_token", token)
            }),
            Artefact::new("access token", token("access_token"), userinfo),
            Artefact::new("cookie", cookie, move |cookie| begun.typed(cookie, &begun.csrf)),
            Artefact::new("form token", csrf, move |csrf| begun_too.typed(&begun_too.cookie, csrf)),
        ]
    }

    /// From an authorization request to the login form.
    fn begin(&self) -> Login {
        let target = encode(&[
            ("connector_id", "local"),
            ("response_type", "code"),
            ("client_id", "kubernetes"),
            ("redirect_uri", REDIRECT_URI),
            ("scope", "openid email groups offline_access"),
            ("state", "state"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        let begun = self.send(get(&format!("/auth?{target}"), None));
        let cookie = begun.headers[SET_COOKIE].to_str().expect("a cookie");
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let mut form = begun.location().expect("somewhere to go on");
        let mut page = self.send(get(&form, Some(&cookie)));
        while let Some(next) = page.location() {
            form = next;
            page = self.send(get(&form, Some(&cookie)));
        }
        let csrf = page.body.split_once("name=\"csrf\" value=\"").expect("a form").1;
        let csrf = csrf.split('"').next().unwrap_or_default().to_owned();
        let (name, value) = cookie.split_once('=').expect("a name and a value");
        Login { cookie_name: name.to_owned(), cookie: value.to_owned(), form, csrf }
    }

    fn code(&self, login: &Login) -> String {
        let back = self.send(login.typed(&login.cookie, &login.csrf)).location();
        let back = url::Url::parse(&back.expect("back at the client")).expect("a URL");
        let code = back.query_pairs().find(|(name, _)| name == "code").expect("a code").1;
        code.into_owned()
    }
}

impl Artefact {
    fn new(
        what: &'static str,
        text: String,
        presented: impl Fn(&str) -> Request<Body> + Send + 'static,
    ) -> Self {
        Self { what, text, presented: Box::new(presented) }
    }
}

impl Login {
    /// Alice's password, typed with this cookie and this form token.
    fn typed(&self, cookie: &str, csrf: &str) -> Request<Body> {
        let cookie = format!("{}={cookie}", self.cookie_name);
        let form = [("login", "alice"), ("password", "wonderland"), ("csrf", csrf)];
        post(&self.form, Some(&cookie), &form)
    }
}

impl Answer {
    fn location(&self) -> Option<String> {
        Some(self.headers.get(LOCATION)?.to_str().expect("a Location is ASCII").to_owned())
    }

    /// What holds whatever was asked.
    fn check(&self, site: &Site) {
        assert!(self.status.as_u16() < 500, "{}: {}", self.status, self.body);
        let requests = site.world.sessions.take_requests();
        assert!(requests.is_empty(), "a stranger costs {requests:?}");
        if let Some(location) = self.location() {
            let here = location.starts_with('/') && !location.starts_with("//");
            let to = location.strip_prefix("https://id.example.org");
            let to_us = to.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
            let back = location.strip_prefix(REDIRECT_URI);
            let back = back.is_some_and(|rest| rest.is_empty() || rest.starts_with(['?', '#']));
            assert!(here || to_us || back, "sent to {location}");
        }
        for (at, _) in self.body.match_indices("action=\"") {
            let action = &self.body[at + 8..];
            let away = action.starts_with("http") || action.starts_with("//");
            assert!(!away || action.starts_with(REDIRECT_URI), "a form goes to {action:.80}");
        }
        for cookie in self.headers.get_all(SET_COOKIE) {
            assert!(
                cookie.len() <= MAX_COOKIE_LENGTH + COOKIE_OVERHEAD,
                "a cookie of {}",
                cookie.len()
            );
        }
        for secret in ["access_token\":\"ey", "id_token\":\"ey", "\"clv_rt_", "\"active\":true"] {
            assert!(!self.body.contains(secret), "a stranger gets {secret}: {}", self.body);
        }
        assert!(
            !self.body.contains("alice@example.org"),
            "a stranger reads of alice: {}",
            self.body
        );
    }
}

/// `METHOD target`, header lines, an empty line, a body: what can be made a request of is sent.
pub fn request(bytes: &[u8]) {
    let Some(request) = read(bytes) else { return };
    let site = site();
    let answer = site.send(request);
    answer.check(&site);
}

fn read(bytes: &[u8]) -> Option<Request<Body>> {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let body = bytes.get(end + 2..).unwrap_or_default().to_vec();
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let target = Uri::try_from(&first[space + 1..]).ok()?;
    let mut request = Request::builder().method(method).uri(target).header(HOST, HOST_NAME);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
        request = request.header(name, HeaderValue::from_bytes(value).ok()?);
    }
    request.body(Body::from(body)).ok()
}

/// The first byte chooses what a user's browser or client holds, the rest are edits: changed, it is worth nothing.
pub fn edited_artefact(bytes: &[u8]) {
    let Some((which, script)) = bytes.split_first() else { return };
    let site = site();
    let artefact = &site.artefacts[usize::from(*which) % site.artefacts.len()];
    let changed = edited(&artefact.text, script);
    // White space and what follows a semicolon are not part of a header's value.
    if changed.split(';').next().map(str::trim) == Some(&artefact.text) {
        return;
    }
    let answer = site.send((artefact.presented)(&changed));
    answer.check(&site);
    let refused = answer.status.is_client_error();
    assert!(refused, "a changed {} is answered by {}: {changed}", artefact.what, answer.status);
}

fn encode(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn get(target: &str, cookie: Option<&str>) -> Request<Body> {
    let mut request = Request::get(target).header(HOST, HOST_NAME);
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    request.body(Body::empty()).expect("a request")
}

fn post(target: &str, cookie: Option<&str>, form: &[(&str, &str)]) -> Request<Body> {
    let target = Uri::try_from(target).unwrap_or(Uri::from_static("/"));
    let mut request = Request::post(target).header(HOST, HOST_NAME).header(CONTENT_TYPE, FORM);
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        request = request.header("cookie", cookie);
    }
    request.body(Body::from(encode(form))).expect("a request")
}

/// A form of the confidential client, for the grant that `name` is the parameter of.
fn token_request(name: &str, value: &str) -> Request<Body> {
    let grant = if name == "code" { "authorization_code" } else { name };
    let form = [
        ("client_id", "kubernetes"),
        ("client_secret", "s3cret"),
        ("grant_type", grant),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
        (name, value),
    ];
    post("/token", None, &form)
}

fn userinfo(token: &str) -> Request<Body> {
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    let bearer = bearer.unwrap_or(HeaderValue::from_static("Bearer"));
    let request = Request::get("/userinfo").header(HOST, HOST_NAME);
    request.header("authorization", bearer).body(Body::empty()).expect("a request")
}

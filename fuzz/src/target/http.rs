//! Whole requests at the whole server, on the domain's in-memory ports.
//!
//! A stranger's request, whatever it is: never an error of ours, never a request to the session store, never a token or a
//! user's claims, never a redirect to anywhere but ourselves and the one registered URI.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use claviger_domain::Snapshot;
use claviger_domain::fakes::{REDIRECT_URI, World};
use claviger_domain::flow::MAX_COOKIE_LENGTH;
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

/// Something we gave out, and where it would be presented.
struct Artefact {
    what: &'static str,
    text: String,
    presented: fn(&str) -> Request<Body>,
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

    /// A whole sign-in, but that the second code is never redeemed.
    fn sign_in(&self) -> Vec<Artefact> {
        let (_, _, redeemed) = self.code();
        let tokens = self.send(token_request(&[("code", &redeemed)], "authorization_code"));
        let tokens: serde_json::Value = serde_json::from_str(&tokens.body).expect("tokens");
        let token =
            |name: &str| tokens[name].as_str().unwrap_or_else(|| panic!("{tokens}")).to_owned();
        let (cookie, csrf, code) = self.code();
        vec![
            Artefact {
                what: "code",
                text: code,
                presented: |code| token_request(&[("code", code)], "authorization_code"),
            },
            Artefact {
                what: "refresh token",
                text: token("refresh_token"),
                presented: |text| token_request(&[("refresh_token", text)], "refresh_token"),
            },
            Artefact {
                what: "access token",
                text: token("access_token"),
                presented: |text| {
                    let request = Request::get("/userinfo").header(HOST, HOST_NAME);
                    let bearer = HeaderValue::from_str(&format!("Bearer {text}"));
                    let bearer = bearer.unwrap_or(HeaderValue::from_static("Bearer"));
                    request.header("authorization", bearer).body(Body::empty()).expect("a request")
                },
            },
            Artefact {
                what: "cookie and form token",
                text: format!("{cookie}\n{csrf}"),
                presented: login,
            },
        ]
    }

    /// Cookie, form token and code of one sign-in.
    fn code(&self) -> (String, String, String) {
        let target = format!(
            "/auth/local?{}",
            encode(&[
                ("response_type", "code"),
                ("client_id", "kubernetes"),
                ("redirect_uri", REDIRECT_URI),
                ("scope", "openid email groups offline_access"),
                ("state", "state"),
                ("code_challenge", CHALLENGE),
                ("code_challenge_method", "S256"),
            ])
        );
        let target = target.replace("/auth/local?", "/auth?connector_id=local&");
        let begun = self.send(get(&target, None));
        let cookie = begun.headers[SET_COOKIE].to_str().expect("a cookie").to_owned();
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let mut form = begun.location().expect("somewhere to go on");
        let mut page = self.send(get(&form, Some(&cookie)));
        while let Some(next) = page.location() {
            form = next;
            page = self.send(get(&form, Some(&cookie)));
        }
        let csrf = page.body.split_once("name=\"csrf\" value=\"").expect("a form").1;
        let csrf = csrf.split('"').next().unwrap_or_default();
        let presented = format!("{cookie}\n{form}\n{csrf}");
        let back = self.send(login(&presented)).location().expect("back at the client");
        let back = url::Url::parse(&back).expect("a URL");
        let code = back.query_pairs().find(|(name, _)| name == "code").expect("a code").1;
        (format!("{cookie}\n{form}"), csrf.to_owned(), code.into_owned())
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
    if changed == artefact.text {
        return;
    }
    let answer = site.send((artefact.presented)(&changed));
    answer.check(&site);
    let back = answer.location().is_some_and(|location| location.contains("code="));
    assert!(!back, "a changed {} leads to a code: {changed}", artefact.what);
    // A login form may be shown again, with what a stranger could have asked for.
    assert!(
        artefact.what.contains("cookie") || answer.status.is_client_error(),
        "a changed {} is answered by {}: {changed}",
        artefact.what,
        answer.status
    );
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

/// A form of the confidential client.
fn token_request(form: &[(&str, &str)], grant: &str) -> Request<Body> {
    let client = [
        ("client_id", "kubernetes"),
        ("client_secret", "s3cret"),
        ("grant_type", grant),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ];
    post("/token", None, &[&client[..], form].concat())
}

/// `cookie`, the form's address and its token, a line each: alice's password is typed.
fn login(presented: &str) -> Request<Body> {
    let mut lines = presented.split('\n');
    let (cookie, form) = (lines.next(), lines.next().unwrap_or("/"));
    let csrf = lines.next().unwrap_or_default();
    post(form, cookie, &[("login", "alice"), ("password", "wonderland"), ("csrf", csrf)])
}

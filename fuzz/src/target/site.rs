//! The whole server on the domain's in-memory ports, with everything on that a stranger may speak to.
//!
//! A stranger's request, whatever it is: never an error of ours, never a request to the session store or to the registry of
//! clients, never a token or a user's claims, never a redirect to anywhere but ourselves and the one registered URI.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use claviger_domain::Snapshot;
use claviger_domain::browser_session::BrowserSessions;
use claviger_domain::client::{ClientAuthentication, ClientKeys, Grant, ServiceAccount};
use claviger_domain::fakes::{REDIRECT_URI, World};
use claviger_domain::flow::MAX_COOKIE_LENGTH;
use claviger_domain::registration::{Bounds, Registration};
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_protocol::response_type::ResponseType;
use claviger_server::{App, Metrics};
use prometheus::Registry;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::signed::{ACCOUNT, add_client};

pub const HOST_NAME: &str = "id.example.org";
const FORM: &str = "application/x-www-form-urlencoded";
/// `code_verifier` and `code_challenge` of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Name and attributes of a cookie, beside its value.
const COOKIE_OVERHEAD: usize = 256;

/// What an administrator gave to those who may register clients.
pub const INITIAL_TOKEN: &str = "initial-access-token-of-the-fuzzer";
/// The client that signs, and the one that is a ServiceAccount.
pub const SIGNING: &str = "signing";
pub const WORKLOAD: &str = "workload";

/// A server, and what clients and the cluster sign with.
pub struct Site {
    runtime: Runtime,
    pub world: World,
    router: Router,
    pub client: Signer,
    pub cluster: Signer,
}

/// What a browser holds between the login form and its password.
pub struct Login {
    cookie_name: String,
    pub cookie: String,
    form: String,
    pub csrf: String,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub body: String,
}

pub fn site() -> MutexGuard<'static, Site> {
    static SITE: OnceLock<Mutex<Site>> = OnceLock::new();
    SITE.get_or_init(|| Mutex::new(Site::open())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    fn open() -> Self {
        let mut world = World::new();
        let key = || PrivateKey::generate(Algorithm::ES256, 0).expect("a key can be made");
        let (client, cluster) = (key(), key());
        open_up(&mut world, &client, &cluster);
        let issuer = world.issuer.clone().into();
        let snapshot = Snapshot { issuers: vec![issuer], ..Snapshot::default() };
        let metrics = Metrics::new(&Registry::new()).expect("metrics can be registered");
        let snapshot = ArcSwap::from_pointee(snapshot).into();
        let router = App::new(world.provider.clone(), snapshot, metrics).router();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let signer = |key| Signer::new(key).expect("a key can sign");
        Self { runtime, world, router, client: signer(&client), cluster: signer(&cluster) }
    }

    pub fn send(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(async {
            let Ok(response) = self.router.clone().oneshot(request).await;
            let (parts, body) = response.into_parts();
            let bytes = to_bytes(body, usize::MAX).await.expect("an answer's body");
            let body = String::from_utf8(bytes.to_vec()).expect("an answer is UTF-8");
            Answer { status: parts.status, headers: parts.headers, body }
        })
    }

    /// From an authorization request to the login form.
    pub fn begin(&self) -> Login {
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

    /// Alice's password, typed: the code that comes of it, and the cookie that signs her in everywhere else.
    pub fn signed_in(&self, login: &Login) -> (String, String) {
        let answer = self.send(login.typed(&login.cookie, &login.csrf));
        let back = answer.location().expect("back at the client");
        let back = url::Url::parse(&back).expect("a URL");
        let code = back.query_pairs().find(|(name, _)| name == "code").expect("a code").1;
        let cookies = answer.headers.get_all(SET_COOKIE).iter();
        let mut cookies = cookies.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
        let ticket = cookies.find(|cookie| cookie.contains("claviger-session-"));
        (code.into_owned(), ticket.expect("a browser session").to_owned())
    }
}

/// Everything on that a stranger may speak to.
fn open_up(world: &mut World, client: &PrivateKey, cluster: &PrivateKey) {
    let grants = [Grant::DeviceCode, Grant::TokenExchange, Grant::JwtBearer];
    let issuer = &mut world.issuer;
    issuer.connectors.truncate(1);
    issuer.response_types = ResponseType::ALL.into();
    issuer.grants.extend(grants);
    issuer.browser_sessions =
        Some(BrowserSessions { idle: 86_400, absolute: 86_400, consent: 86_400 });
    issuer.registration = Some(Registration {
        namespace: "registered".into(),
        initial_access_tokens: vec![INITIAL_TOKEN.into()],
        max_clients: 10,
        bounds: Bounds {
            grants: BTreeSet::from([Grant::AuthorizationCode]),
            response_types: BTreeSet::from([ResponseType::Code]),
            scopes: BTreeSet::from(["openid".to_owned()]),
            redirect_hosts: vec!["app.example.org".into()],
            jwks_hosts: Vec::new(),
            back_channel_hosts: Vec::new(),
        },
    });
    let account = ServiceAccount { subject: ACCOUNT.into(), uid: None };
    world.change_client("cli", |cli| {
        cli.response_types = ResponseType::ALL.into();
        cli.grants.extend(grants);
        cli.workloads.service_accounts = vec![account.clone()];
    });
    world.change_client("kubernetes", |kubernetes| {
        kubernetes.grants.extend(grants);
        kubernetes.post_logout_redirect_uris = [REDIRECT_URI.to_owned()].into();
    });
    let keys = |key: &PrivateKey| KeySet::new([key.public_key().clone()]);
    add_client(world, SIGNING, |it| {
        it.authentication = ClientAuthentication::Keys(ClientKeys::Inline(keys(client).into()));
    });
    add_client(world, WORKLOAD, |it| {
        it.authentication = ClientAuthentication::ServiceAccount(account);
    });
    world.publishers.publish("cluster", keys(cluster).to_json());
}

impl Login {
    /// Alice's password, typed with this cookie and this form token.
    pub fn typed(&self, cookie: &str, csrf: &str) -> Request<Body> {
        let cookie = format!("{}={cookie}", self.cookie_name);
        let form = [("login", "alice"), ("password", "wonderland"), ("csrf", csrf)];
        post(&self.form, Some(&cookie), &form)
    }
}

impl Answer {
    pub fn location(&self) -> Option<String> {
        Some(self.headers.get(LOCATION)?.to_str().expect("a Location is ASCII").to_owned())
    }

    /// What holds whatever was asked.
    pub fn check(&self, site: &Site) {
        assert!(self.status.as_u16() < 500, "{}: {}", self.status, self.body);
        let requests = site.world.sessions.take_requests();
        assert!(requests.is_empty(), "a stranger costs {requests:?}");
        let requests = site.world.registry.take_requests();
        assert!(requests.is_empty(), "a stranger registers: {requests:?}");
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

pub fn encode(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub fn get(target: &str, cookie: Option<&str>) -> Request<Body> {
    let mut request = Request::get(target).header(HOST, HOST_NAME);
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        request = request.header("cookie", cookie);
    }
    request.body(Body::empty()).expect("a request")
}

pub fn post(target: &str, cookie: Option<&str>, form: &[(&str, &str)]) -> Request<Body> {
    let target = Uri::try_from(target).unwrap_or(Uri::from_static("/"));
    let mut request = Request::post(target).header(HOST, HOST_NAME).header(CONTENT_TYPE, FORM);
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        request = request.header("cookie", cookie);
    }
    request.body(Body::from(encode(form))).expect("a request")
}

/// A form of the confidential client, for the grant that `name` is the parameter of.
pub fn token_request(name: &str, value: &str) -> Request<Body> {
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

pub fn userinfo(token: &str) -> Request<Body> {
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    let bearer = bearer.unwrap_or(HeaderValue::from_static("Bearer"));
    let request = Request::get("/userinfo").header(HOST, HOST_NAME);
    request.header("authorization", bearer).body(Body::empty()).expect("a request")
}

//! A router over the fakes, a browser with a cookie jar, and answers that are easy to ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE};
use axum::http::request::Builder;
use axum::http::{HeaderMap, Method, StatusCode};
use claviger_domain::Snapshot;
use claviger_domain::connector::Login;
use claviger_domain::fakes::{REDIRECT_URI, World};
use claviger_domain::issuer::Issuer;
use claviger_server::{App, Metrics};
use prometheus::{Registry, TextEncoder};
use serde_json::Value;
use tower::ServiceExt;

/// `code_verifier` and `code_challenge` of RFC 7636 appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const STATE: &str = "st&te";

/// One issuer on fakes, served.
pub struct Rig {
    pub world: World,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub app: App,
    pub router: Router,
    registry: Registry,
    host: String,
    pub path: String,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With one connector (`local`), so that logins need no choice.
    pub fn with_one_connector() -> Self {
        Self::with(|world| world.issuer.connectors.truncate(1))
    }

    pub fn with(change: impl FnOnce(&mut World)) -> Self {
        let mut world = World::new();
        change(&mut world);
        let issuer = Arc::new(world.issuer.clone());
        let (host, path) = (issuer.url.authority(), issuer.url.path().to_owned());
        let snapshot = Snapshot { issuers: vec![issuer], ..Snapshot::default() };
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let app = App::new(world.provider.clone(), Arc::clone(&snapshot), metrics);
        let router = app.clone().router();
        Self { world, snapshot, app, router, registry, host, path }
    }

    /// Swaps the snapshot for one with this issuer alone.
    pub fn replace_issuer(&self, issuer: Issuer) {
        self.snapshot
            .store(Arc::new(Snapshot { issuers: vec![Arc::new(issuer)], ..Snapshot::default() }));
    }

    pub fn browser(&self) -> Browser<'_> {
        Browser { rig: self, jar: BTreeMap::new(), headers: HeaderMap::new() }
    }

    /// A request below the issuer, with its `Host`.
    pub fn request(&self, method: Method, path: &str) -> Builder {
        let target = format!("{}{path}", self.path);
        Request::builder().method(method).uri(target).header(HOST, &self.host)
    }

    pub async fn send(&self, request: Request) -> Answer {
        answer(self.router.clone(), request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    /// A form of the confidential client at the token endpoint.
    pub async fn token(&self, form: &[(&str, &str)]) -> Answer {
        self.post("/token", &[&CREDENTIALS[..], form].concat()).await
    }

    pub async fn redeem(&self, code: &str) -> Answer {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
        ])
        .await
    }

    pub async fn refresh(&self, token: &str) -> Answer {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    pub async fn revoke(&self, token: &str) -> Answer {
        self.post("/token/revoke", &[&CREDENTIALS[..], &[("token", token)]].concat()).await
    }

    pub async fn introspect(&self, token: &str) -> Answer {
        self.post("/token/introspect", &[&CREDENTIALS[..], &[("token", token)]].concat()).await
    }

    /// Pushes the usual authorization request.
    pub async fn push(&self, change: &[(&str, &str)]) -> Answer {
        let request = authorization(change);
        self.post("/par", &[&CREDENTIALS[1..], &request[..]].concat()).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, FORM);
        self.send(request.body(Body::from(encode(form))).unwrap()).await
    }

    pub async fn userinfo(&self, token: &str) -> Answer {
        let request = self.request(Method::GET, "/userinfo");
        let request = request.header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// What the registry would show a scraper.
    pub fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }

    /// Requests to the session store since the last call.
    pub fn store_requests(&self) -> Vec<&'static str> {
        self.world.sessions.take_requests()
    }
}

/// The confidential client's.
pub const CREDENTIALS: [(&str, &str); 2] =
    [("client_id", "kubernetes"), ("client_secret", "s3cret")];
pub const FORM: &str = "application/x-www-form-urlencoded";

/// A browser: it keeps cookies and follows nothing by itself.
pub struct Browser<'r> {
    rig: &'r Rig,
    /// Cookies by name.
    pub jar: BTreeMap<String, String>,
    /// Sent with every request.
    pub headers: HeaderMap,
}

impl Browser<'_> {
    /// `target` as a link or `Location` has it: a path with the issuer's own in front.
    pub async fn get(&mut self, target: &str) -> Answer {
        let request = self.request(Method::GET, target);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn post(&mut self, target: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, target).header(CONTENT_TYPE, FORM);
        self.send(request.body(Body::from(encode(form))).unwrap()).await
    }

    /// An authorization request with some parameters changed, or left out where empty.
    pub async fn authorize(&mut self, change: &[(&str, &str)]) -> Answer {
        let target = format!("{}/auth?{}", self.rig.path, encode(&authorization(change)));
        self.get(&target).await
    }

    /// From an authorization request to the login form of `local`: its address and its page.
    pub async fn login_form(&mut self, change: &[(&str, &str)]) -> (String, Answer) {
        let begun = self.authorize(&[change, &[("connector_id", "local")]].concat()).await;
        let mut target = begun.location();
        for _ in 0..3 {
            let answer = self.get(&target).await;
            if answer.status == StatusCode::OK {
                return (target, answer);
            }
            target = answer.location();
        }
        panic!("{target} leads to no form");
    }

    /// Types name and password into a form and sends it.
    pub async fn sign_in(&mut self, form: &(String, Answer), user: &str, password: &str) -> Answer {
        let csrf = form.1.hidden("csrf");
        let fields = [("login", user), ("password", password), ("csrf", csrf.as_str())];
        self.post(&form.0, &fields).await
    }

    /// The whole way to a code.
    pub async fn code(&mut self, change: &[(&str, &str)]) -> String {
        let form = self.login_form(change).await;
        let answer = self.sign_in(&form, "alice", "wonderland").await;
        answer.redirect_param("code").unwrap_or_else(|| panic!("no code: {answer:?}"))
    }

    fn request(&self, method: Method, target: &str) -> Builder {
        let mut request =
            Request::builder().method(method).uri(target).header(HOST, &self.rig.host);
        if !self.jar.is_empty() {
            let pairs: Vec<_> = self.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
            request = request.header(COOKIE, pairs.join("; "));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    async fn send(&mut self, request: Request) -> Answer {
        let answer = self.rig.send(request).await;
        for cookie in answer.cookies() {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((&cookie, ""));
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn location(&self) -> String {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{self:?}");
        self.headers[LOCATION].to_str().unwrap().to_owned()
    }

    /// A parameter of the redirect to the client.
    #[track_caller]
    pub fn redirect_param(&self, name: &str) -> Option<String> {
        let location = url::Url::parse(&self.location()).unwrap();
        location.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub fn cookies(&self) -> Vec<String> {
        let values = self.headers.get_all(SET_COOKIE).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(self.header("content-type").starts_with("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// The value of an input of the page.
    #[track_caller]
    pub fn hidden(&self, name: &str) -> String {
        self.between(&format!("name=\"{name}\" value=\""), "\"")
            .unwrap_or_else(|| panic!("no input {name} in {self:?}"))
    }

    /// Targets of the page's links, with `&amp;` and the like undone.
    pub fn links(&self) -> Vec<String> {
        let links = self.body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        links.map(|link| link.replace("&#38;", "&").replace("&amp;", "&")).collect()
    }

    fn between(&self, before: &str, after: &str) -> Option<String> {
        let (_, rest) = self.body.split_once(before)?;
        Some(rest.split_once(after)?.0.to_owned())
    }
}

pub async fn answer(router: Router, request: Request) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let body = String::from_utf8(bytes.to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub fn encode(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A good authorization request, with some parameters changed, or left out where empty.
pub fn authorization<'a>(change: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", "kubernetes"),
        ("redirect_uri", REDIRECT_URI),
        ("scope", "openid email profile groups offline_access"),
        ("state", STATE),
        ("nonce", "n-0S6"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    pairs.retain(|(known, _)| change.iter().all(|(name, _)| known != name));
    pairs.extend(change.iter().filter(|(_, value)| !value.is_empty()));
    pairs
}

/// The payload of a JWT, not verified.
pub fn claims(token: &Value) -> Value {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    let bytes = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Puts another upstream behind the connector `local`.
pub fn set_login(world: &mut World, login: Login) {
    let connector = &mut world.issuer.connectors[0];
    Arc::make_mut(connector).login = login;
}

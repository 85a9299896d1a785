//! An OpenID provider at an https URL on loopback that a test can make lie: what no provider of the outside world would
//! do on demand. One that is honest and not ours is `outside`'s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::ci_issuer::now;
use crate::client_assertion::AssertingClient;
use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::reverse_proxy::TlsListener;

/// `client_id` it knows.
pub const CLIENT_ID: &str = "claviger";
/// That client's secret.
pub const CLIENT_SECRET: &str = "the-upstreams-secret-of-claviger";
/// The code it gives out.
pub const CODE: &str = "the-upstreams-code";
const ACCESS_TOKEN: &str = "the-upstreams-access-token";
/// The refresh token it gives out first; later ones have a number.
pub const REFRESH_TOKEN: &str = "the-upstreams-refresh-token";

/// A running provider. Dropping it stops it.
#[derive(Debug)]
pub struct OpenidProvider {
    site: Arc<Site>,
    serving: JoinHandle<()>,
    port: PortLease,
}

#[derive(Debug)]
struct Site {
    places: Places,
    conduct: Mutex<Conduct>,
}

/// Where a provider is: its own addresses, or those of a vendor for whom it stands in behind a
/// [`Tunnel`](crate::tunnel::Tunnel).
#[derive(Debug, Clone)]
pub struct Places {
    /// `iss`.
    pub issuer: String,
    /// Where its configuration is read, without `/.well-known/openid-configuration`.
    pub address: String,
    /// Authorization endpoint.
    pub authorization: String,
    /// Token endpoint.
    pub token: String,
    /// Keys.
    pub keys: String,
    /// Userinfo endpoint.
    pub userinfo: String,
    /// Names in its certificate.
    pub hosts: Vec<String>,
}

impl Places {
    /// Of a provider at this address.
    fn at(url: &str) -> Self {
        Self {
            issuer: url.to_owned(),
            address: url.to_owned(),
            authorization: format!("{url}/authorize"),
            token: format!("{url}/token"),
            keys: format!("{url}/keys"),
            userinfo: format!("{url}/userinfo"),
            hosts: vec!["localhost".to_owned()],
        }
    }
}

/// The path of a URL.
fn path_of(url: &str) -> &str {
    url.strip_prefix("https://")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
        .unwrap_or("/")
}

/// How it behaves; a test changes what it likes.
#[derive(Debug)]
pub struct Conduct {
    /// The key it signs with.
    pub key: PrivateKey,
    /// The keys it publishes.
    pub published: KeySet,
    /// Claims laid over those of an honest ID token; null leaves one out.
    pub claims: Value,
    /// What it says instead of a signed ID token, given the honest claims.
    pub forged: Option<fn(&Value) -> String>,
    /// What its userinfo endpoint says.
    pub userinfo: Value,
    /// Members laid over its configuration; null leaves one out.
    pub configuration: Value,
    /// Answers by path, or by path and query, that are given instead of its own.
    pub answers: BTreeMap<String, (u16, String)>,
    /// Whether a refresh token is good once, and another is given for it.
    pub rotates: bool,
    /// `code_challenge` and `nonce` of the request that the code belongs to.
    pub asked: Option<(Option<String>, Option<String>)>,
    /// Whether it gives refresh tokens.
    pub gives_refresh_tokens: bool,
    /// Whether it takes no PKCE, and says so as LinkedIn does.
    pub refuses_pkce: bool,
    /// The client's keys, where it shows no secret but what they sign.
    pub client: Option<AssertingClient>,
    /// Keys of service accounts, and the token they get for what they sign (RFC 7523 2.1).
    pub accounts: Option<(KeySet, String)>,
    /// What service accounts signed.
    pub assertions: Vec<Value>,
    /// Paths that were asked with a bearer token, and the token.
    pub bearers: Vec<(String, String)>,
    /// The refresh token that is good now.
    pub refresh_token: String,
    /// The paths that were asked for, in order.
    pub log: Vec<String>,
    /// The forms that the token endpoint took.
    pub forms: Vec<BTreeMap<String, String>>,
}

impl OpenidProvider {
    /// Starts an honest one with a certificate of this authority.
    ///
    /// # Errors
    /// When there is no port, or the certificate or a key cannot be made.
    pub async fn start(authority: &CertificateAuthority) -> Result<Self> {
        let port = PortLease::take()?;
        let url = format!("https://localhost:{}", port.port());
        Self::start_on(port, authority, Places::at(&url)).await
    }

    /// Starts one that stands in for a vendor.
    ///
    /// # Errors
    /// When there is no port, or the certificate or a key cannot be made.
    pub async fn start_as(authority: &CertificateAuthority, places: Places) -> Result<Self> {
        Self::start_on(PortLease::take()?, authority, places).await
    }

    async fn start_on(
        port: PortLease,
        authority: &CertificateAuthority,
        places: Places,
    ) -> Result<Self> {
        let key = PrivateKey::generate(Algorithm::RS256, 2_048)?;
        let conduct = Conduct {
            published: KeySet::new([key.public_key().clone()]),
            key,
            claims: json!({}),
            forged: None,
            userinfo: json!({}),
            configuration: json!({}),
            answers: BTreeMap::new(),
            rotates: true,
            asked: None,
            gives_refresh_tokens: true,
            refuses_pkce: false,
            client: None,
            accounts: None,
            assertions: Vec::new(),
            bearers: Vec::new(),
            refresh_token: REFRESH_TOKEN.to_owned(),
            log: Vec::new(),
            forms: Vec::new(),
        };
        let hosts: Vec<&str> = places.hosts.iter().map(String::as_str).collect();
        let certificate = authority.server(&hosts, &[])?;
        let site = Arc::new(Site { places, conduct: Mutex::new(conduct) });
        let listener = TlsListener {
            tcp: TcpListener::bind(("127.0.0.1", port.port())).await?,
            tls: certificate.acceptor()?,
        };
        let router = Router::new().fallback(answer).with_state(Arc::clone(&site));
        let serving = tokio::spawn(async move {
            // It ends with its task alone.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { site, serving, port })
    }

    /// `iss`.
    pub fn url(&self) -> &str {
        &self.site.places.issuer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.port()))
    }

    /// How it behaves from now on.
    pub fn conduct(&self) -> MutexGuard<'_, Conduct> {
        self.site.conduct()
    }

    /// The user agrees: takes an authentication request by the URL that a browser was sent to, and returns the query that
    /// the browser goes back with.
    ///
    /// # Errors
    /// When the URL is not an authentication request to this provider.
    pub fn agree(&self, location: &str) -> Result<BTreeMap<String, String>> {
        let url = reqwest::Url::parse(location)?;
        let place = format!("{}?", self.site.places.authorization);
        anyhow::ensure!(location.starts_with(&place), "{location}");
        let asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let of = |name: &str| asked.get(name).cloned().with_context(|| format!("no {name}"));
        self.conduct().asked =
            Some((asked.get("code_challenge").cloned(), asked.get("nonce").cloned()));
        Ok(BTreeMap::from([
            ("code".to_owned(), CODE.to_owned()),
            ("state".to_owned(), of("state")?),
            ("iss".to_owned(), self.url().to_owned()),
        ]))
    }
}

impl Drop for OpenidProvider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Site {
    fn conduct(&self) -> MutexGuard<'_, Conduct> {
        self.conduct.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conduct {
    fn id_token(&self, issuer: &str, nonce: Option<&str>) -> Result<String> {
        let now = now();
        let mut claims = json!({
            "iss": issuer, "aud": CLIENT_ID, "sub": "248289761001", "iat": now, "exp": now + 300,
            "auth_time": now, "email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace",
            "preferred_username": "ada", "groups": ["engineers", "ops"], "at_hash": at_hash(),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        let claims = overlaid(claims, &self.claims);
        if let Some(forged) = self.forged {
            return Ok(forged(&claims));
        }
        Ok(Signer::new(&self.key)?.sign(Some("JWT"), &claims)?)
    }
}

fn overlaid(mut value: Value, change: &Value) -> Value {
    if let (Some(members), Some(change)) = (value.as_object_mut(), change.as_object()) {
        members.extend(change.clone());
        members.retain(|_, value| !value.is_null());
    }
    value
}

fn error(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({ "error": code }))).into_response()
}

/// What a test set for a path, if it did.
fn scripted(conduct: &Conduct, uri: &Uri) -> Option<Response> {
    let whole = uri.path_and_query().and_then(|whole| conduct.answers.get(whole.as_str()));
    let (status, body) = whole.or_else(|| conduct.answers.get(uri.path()))?;
    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::IM_A_TEAPOT);
    let mut response = (status, body.clone()).into_response();
    let headers = response.headers_mut();
    if status.is_redirection() {
        headers.insert(
            header::LOCATION,
            body.parse().unwrap_or(header::HeaderValue::from_static("/")),
        );
    }
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Some(response)
}

async fn answer(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let mut conduct = site.conduct();
    conduct.log.push(uri.path().to_owned());
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(bearer) = shown.and_then(|shown| shown.strip_prefix("Bearer ")) {
        conduct.bearers.push((uri.path().to_owned(), bearer.to_owned()));
    }
    let is_token = uri.path() == path_of(&site.places.token);
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    if is_token {
        conduct.forms.push(form.clone());
    }
    match scripted(&conduct, &uri) {
        Some(response) => response,
        None if is_token => token(&site.places, &mut conduct, &headers, &form),
        None => document(&site.places, &conduct, &headers, uri.path()),
    }
}

/// A service account's assertion: who signed it is known, and what they get.
fn assertion(conduct: &mut Conduct, form: &BTreeMap<String, String>) -> Response {
    let Some((keys, token)) = &conduct.accounts else {
        return error(StatusCode::BAD_REQUEST, "unauthorized_client");
    };
    let signed = form.get("assertion").map(String::as_str).unwrap_or_default();
    match claviger_jose::verify_signature(keys, signed, &[Algorithm::RS256]) {
        Ok(signed) => {
            let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3599});
            conduct.assertions.push(Value::Object(signed.claims));
            Json(answer).into_response()
        }
        Err(_) => error(StatusCode::BAD_REQUEST, "invalid_grant"),
    }
}

/// Whether it is shown who the client is, and in one way alone (RFC 6749 2.3).
fn is_client(
    places: &Places,
    conduct: &mut Conduct,
    headers: &HeaderMap,
    form: &BTreeMap<String, String>,
) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(client) = &mut conduct.client {
        return shown.is_none() && client.is_shown(form, &[&places.issuer, &places.token]);
    }
    let basic = format!("{CLIENT_ID}:{CLIENT_SECRET}");
    let basic = format!("Basic {}", data_encoding::BASE64.encode(basic.as_bytes()));
    let posted = form.get("client_secret").map(String::as_str) == Some(CLIENT_SECRET);
    shown == Some(basic.as_str()) || posted
}

fn token(
    places: &Places,
    conduct: &mut Conduct,
    headers: &HeaderMap,
    form: &BTreeMap<String, String>,
) -> Response {
    if form.get("grant_type").is_some_and(|grant| grant.ends_with(":jwt-bearer")) {
        return assertion(conduct, form);
    }
    let has_pkce = form.contains_key("code_verifier");
    if !is_client(places, conduct, headers, form) || (conduct.refuses_pkce && has_pkce) {
        return error(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let of = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let nonce = match of("grant_type") {
        "authorization_code" => {
            let Some((challenge, nonce)) = conduct.asked.take() else {
                return error(StatusCode::BAD_REQUEST, "invalid_grant");
            };
            let verifier = form.get("code_verifier").map(|verifier| s256(verifier));
            if of("code") != CODE || verifier != challenge {
                return error(StatusCode::BAD_REQUEST, "invalid_grant");
            }
            nonce
        }
        "refresh_token" if of("refresh_token") == conduct.refresh_token => {
            if conduct.rotates {
                let next = format!("{REFRESH_TOKEN}-{}", conduct.forms.len());
                conduct.refresh_token = next;
            }
            None
        }
        _ => return error(StatusCode::BAD_REQUEST, "invalid_grant"),
    };
    let Ok(id_token) = conduct.id_token(&places.issuer, nonce.as_deref()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut answer = json!({
        "access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 300, "id_token": id_token,
    });
    if conduct.gives_refresh_tokens {
        answer["refresh_token"] = conduct.refresh_token.as_str().into();
    }
    Json(answer).into_response()
}

/// OIDC Core 3.1.3.6.
fn at_hash() -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ACCESS_TOKEN.as_bytes());
    data_encoding::BASE64URL_NOPAD.encode(&digest.as_ref()[..16])
}

fn s256(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    data_encoding::BASE64URL_NOPAD.encode(digest.as_ref())
}

fn document(places: &Places, conduct: &Conduct, headers: &HeaderMap, path: &str) -> Response {
    let configuration = format!("{}/.well-known/openid-configuration", places.address);
    match path {
        path if path == path_of(&configuration) => {
            let honest = json!({
                "issuer": places.issuer, "authorization_endpoint": places.authorization,
                "token_endpoint": places.token, "userinfo_endpoint": places.userinfo,
                "jwks_uri": places.keys, "response_types_supported": ["code"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            });
            Json(overlaid(honest, &conduct.configuration)).into_response()
        }
        path if path == path_of(&places.keys) => {
            ([(header::CONTENT_TYPE, "application/json")], conduct.published.to_json())
                .into_response()
        }
        path if path == path_of(&places.userinfo) => {
            let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            if shown == Some(format!("Bearer {ACCESS_TOKEN}").as_str()) {
                Json(conduct.userinfo.clone()).into_response()
            } else {
                StatusCode::UNAUTHORIZED.into_response()
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

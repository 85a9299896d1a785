//! An OpenID provider at an https URL on loopback that a test can make lie: what no provider of the outside world would
//! do on demand. One that is honest and not ours is `outside`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::ci_issuer::now;
use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::reverse_proxy::{TlsListener, acceptor};

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
    _port: PortLease,
}

#[derive(Debug)]
struct Site {
    url: String,
    conduct: Mutex<Conduct>,
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
    /// Answers by path that are given instead of its own.
    pub answers: BTreeMap<String, (u16, String)>,
    /// Whether a refresh token is good once, and another is given for it.
    pub rotates: bool,
    /// `code_challenge` and `nonce` of the request that the code belongs to.
    pub asked: Option<(String, String)>,
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
            refresh_token: REFRESH_TOKEN.to_owned(),
            log: Vec::new(),
            forms: Vec::new(),
        };
        let url = format!("https://localhost:{}", port.port());
        let site = Arc::new(Site { url, conduct: Mutex::new(conduct) });
        let listener = TlsListener {
            tcp: TcpListener::bind(("127.0.0.1", port.port())).await?,
            tls: acceptor(&authority.server(&["localhost"], &[])?)?,
        };
        let router = Router::new()
            .route("/token", post(token))
            .fallback(document)
            .with_state(Arc::clone(&site));
        let serving = tokio::spawn(async move {
            // It ends with its task alone.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { site, serving, _port: port })
    }

    /// `iss`.
    pub fn url(&self) -> &str {
        &self.site.url
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
        anyhow::ensure!(location.starts_with(&format!("{}/authorize?", self.url())), "{location}");
        let asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let of = |name: &str| asked.get(name).cloned().with_context(|| format!("no {name}"));
        self.conduct().asked = Some((of("code_challenge")?, of("nonce")?));
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
fn scripted(conduct: &Conduct, path: &str) -> Option<Response> {
    let (status, body) = conduct.answers.get(path)?;
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

async fn token(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    let mut conduct = site.conduct();
    conduct.log.push("/token".to_owned());
    conduct.forms.push(form.clone());
    if let Some(response) = scripted(&conduct, "/token") {
        return response;
    }
    let basic = format!("{CLIENT_ID}:{CLIENT_SECRET}");
    let basic = format!("Basic {}", data_encoding::BASE64.encode(basic.as_bytes()));
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let posted = form.get("client_secret").map(String::as_str) == Some(CLIENT_SECRET);
    if shown != Some(basic.as_str()) && !posted {
        return error(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let of = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let nonce = match of("grant_type") {
        "authorization_code" => {
            let Some((challenge, nonce)) = conduct.asked.take() else {
                return error(StatusCode::BAD_REQUEST, "invalid_grant");
            };
            if of("code") != CODE || s256(of("code_verifier")) != challenge {
                return error(StatusCode::BAD_REQUEST, "invalid_grant");
            }
            Some(nonce)
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
    let Ok(id_token) = conduct.id_token(&site.url, nonce.as_deref()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    Json(json!({
        "access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 300,
        "id_token": id_token, "refresh_token": conduct.refresh_token,
    }))
    .into_response()
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

async fn document(State(site): State<Arc<Site>>, headers: HeaderMap, uri: Uri) -> Response {
    let mut conduct = site.conduct();
    conduct.log.push(uri.path().to_owned());
    if let Some(response) = scripted(&conduct, uri.path()) {
        return response;
    }
    let url = &site.url;
    match uri.path() {
        "/.well-known/openid-configuration" => {
            let honest = json!({
                "issuer": url, "authorization_endpoint": format!("{url}/authorize"),
                "token_endpoint": format!("{url}/token"), "userinfo_endpoint": format!("{url}/userinfo"),
                "jwks_uri": format!("{url}/keys"), "response_types_supported": ["code"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            });
            Json(overlaid(honest, &conduct.configuration)).into_response()
        }
        "/keys" => ([(header::CONTENT_TYPE, "application/json")], conduct.published.to_json())
            .into_response(),
        "/userinfo" => {
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

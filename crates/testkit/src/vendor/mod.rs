//! Vendors that cannot run here, at an https URL on loopback: their authorization, token and API endpoints at the paths
//! they document, with their paging, their headers and the bodies of their errors. A test sets what they say, takes
//! tokens back and makes them lie.

mod api;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::reverse_proxy::TlsListener;

/// `client_id` they know.
pub const CLIENT_ID: &str = "claviger";
/// That client's secret, at first.
pub const CLIENT_SECRET: &str = "the-vendors-secret-of-claviger";
/// The code they give out.
pub const CODE: &str = "the-vendors-code";

/// Whose customs are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// GitHub Enterprise Server: errors of the token endpoint come with status 200, scopes with commas.
    Github,
    /// GitLab: an OpenID userinfo endpoint beside its API.
    Gitlab,
    /// Gitea: what is wrong with a code is said as `unauthorized_client`; no scopes in an answer.
    Gitea,
    /// Bitbucket Cloud: lists are in objects; no scopes in a request.
    BitbucketCloud,
    /// An OpenShift cluster: one origin is API server and OAuth server; tokens end, and there are no others.
    Openshift,
    /// Any other: one object about the user.
    Generic,
}

impl Style {
    /// The connector's kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
            Self::BitbucketCloud => "bitbucketCloud",
            Self::Openshift => "openshift",
            Self::Generic => "oauth2",
        }
    }

    /// Path of the authorization endpoint.
    pub fn authorization(self) -> &'static str {
        match self {
            Self::Github | Self::Gitea => "/login/oauth/authorize",
            Self::Gitlab | Self::Openshift => "/oauth/authorize",
            Self::BitbucketCloud => "/site/oauth2/authorize",
            Self::Generic => "/authorize",
        }
    }

    /// Path of the token endpoint.
    pub fn token(self) -> &'static str {
        match self {
            Self::Github | Self::Gitea => "/login/oauth/access_token",
            Self::Gitlab | Self::Openshift => "/oauth/token",
            Self::BitbucketCloud => "/site/oauth2/access_token",
            Self::Generic => "/token",
        }
    }
}

/// A running vendor. Dropping it stops it.
#[derive(Debug)]
pub struct Vendor {
    site: Arc<Site>,
    serving: JoinHandle<()>,
    _port: PortLease,
}

#[derive(Debug)]
struct Site {
    style: Style,
    url: String,
    conduct: Mutex<Conduct>,
}

/// How it behaves; a test changes what it likes.
#[derive(Debug)]
pub struct Conduct {
    /// Our ID there.
    pub client_id: String,
    /// The secret by which it knows us.
    pub secret: String,
    /// What its API says, by path; a list is given page by page.
    pub documents: BTreeMap<String, Value>,
    /// Further headers, by path.
    pub headers: BTreeMap<String, Vec<(&'static str, String)>>,
    /// Answers by path that are given instead of its own.
    pub answers: BTreeMap<String, Scripted>,
    /// Where a list goes on, by its path, instead of its own next page.
    pub next_pages: BTreeMap<String, String>,
    /// Most things on one page, however many are asked for.
    pub page_size: usize,
    /// Whether tokens expire, and refresh tokens come with them.
    pub expires: bool,
    /// For how many seconds tokens that expire are good.
    pub expires_in: i64,
    /// Whether a refresh token is good once.
    pub rotates: bool,
    /// The scopes it says it granted; default: those asked for.
    pub granted: Option<String>,
    /// Access tokens that are good.
    pub access_tokens: BTreeSet<String>,
    /// Refresh tokens that are good.
    pub refresh_tokens: BTreeSet<String>,
    /// The paths that were asked for, in order, with the query.
    pub log: Vec<String>,
    /// The forms that the token endpoint took.
    pub forms: Vec<BTreeMap<String, String>>,
    asked: Option<Asked>,
    given: usize,
}

/// An answer that a test wrote.
#[derive(Debug, Clone)]
pub struct Scripted {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
}

impl Scripted {
    /// With this status and body.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// And this header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The authorization request that the code belongs to.
#[derive(Debug)]
struct Asked {
    challenge: String,
    redirect_uri: String,
    scope: String,
}

impl Vendor {
    /// Starts one with a certificate of this authority.
    ///
    /// # Errors
    /// When there is no port, or the certificate cannot be made.
    pub async fn start(style: Style, authority: &CertificateAuthority) -> Result<Self> {
        let port = PortLease::take()?;
        let url = format!("https://localhost:{}", port.port());
        let conduct = Conduct {
            client_id: CLIENT_ID.to_owned(),
            secret: CLIENT_SECRET.to_owned(),
            documents: api::documents(style, &url),
            headers: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_pages: BTreeMap::new(),
            page_size: 100,
            expires: style != Style::Github,
            expires_in: if style == Style::Openshift { 86_400 } else { 28_800 },
            rotates: style != Style::BitbucketCloud,
            granted: None,
            access_tokens: BTreeSet::new(),
            refresh_tokens: BTreeSet::new(),
            log: Vec::new(),
            forms: Vec::new(),
            asked: None,
            given: 0,
        };
        let site = Arc::new(Site { style, url, conduct: Mutex::new(conduct) });
        let listener = TlsListener {
            tcp: TcpListener::bind(("127.0.0.1", port.port())).await?,
            tls: authority.server(&["localhost"], &[])?.acceptor()?,
        };
        let router = Router::new()
            .route(style.token(), post(token::token))
            .fallback(api::answer)
            .with_state(Arc::clone(&site));
        let serving = tokio::spawn(async move {
            // It ends with its task alone.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { site, serving, _port: port })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.site.url
    }

    /// What a connector of its kind says of where it is.
    pub fn addresses(&self) -> Value {
        let url = self.url();
        match self.site.style {
            Style::BitbucketCloud => json!({"url": url, "apiURL": format!("{url}/2.0")}),
            Style::Generic => json!({
                "authorizationURL": format!("{url}/authorize"), "tokenURL": format!("{url}/token"),
                "userinfoURL": format!("{url}/userinfo"),
            }),
            Style::Github | Style::Gitlab | Style::Gitea | Style::Openshift => {
                json!({"url": url})
            }
        }
    }

    /// How it behaves from now on.
    pub fn conduct(&self) -> MutexGuard<'_, Conduct> {
        self.site.conduct()
    }

    /// The user agrees: takes an authorization request by the URL that a browser was sent to, and returns the query that
    /// the browser goes back with.
    ///
    /// # Errors
    /// When the URL is not an authorization request to this vendor.
    pub fn agree(&self, location: &str) -> Result<BTreeMap<String, String>> {
        let url = reqwest::Url::parse(location)?;
        let endpoint = format!("{}{}?", self.url(), self.site.style.authorization());
        ensure!(location.starts_with(&endpoint), "{location}");
        let asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let of = |name: &str| asked.get(name).cloned().with_context(|| format!("no {name}"));
        let client_id = self.conduct().client_id.clone();
        ensure!(of("client_id")? == client_id && of("response_type")? == "code", "{location}");
        self.conduct().asked = Some(Asked {
            challenge: of("code_challenge")?,
            redirect_uri: of("redirect_uri")?,
            scope: of("scope").unwrap_or_default(),
        });
        Ok(BTreeMap::from([
            ("code".to_owned(), CODE.to_owned()),
            ("state".to_owned(), of("state")?),
        ]))
    }

    /// The same, as the address that the browser goes back to.
    ///
    /// # Errors
    /// When the URL is not an authorization request to this vendor.
    pub fn send_back(&self, location: &reqwest::Url) -> Result<reqwest::Url> {
        let answer = self.agree(location.as_str())?;
        let asked = location.query_pairs().find(|(name, _)| name == "redirect_uri");
        let mut back = reqwest::Url::parse(&asked.context("no redirect_uri")?.1)?;
        back.query_pairs_mut().extend_pairs(answer);
        Ok(back)
    }
}

impl Drop for Vendor {
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
    /// Takes every token back, as a user does who withdraws the application's authorization.
    pub fn revoke_all(&mut self) {
        self.access_tokens.clear();
        self.refresh_tokens.clear();
    }

    /// What a test set for a path, if it did.
    fn scripted(&self, path: &str) -> Option<Response> {
        let said = self.answers.get(path)?;
        let status = StatusCode::from_u16(said.status).unwrap_or(StatusCode::IM_A_TEAPOT);
        let mut response = (status, said.body.clone()).into_response();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        add(&mut response, &said.headers);
        Some(response)
    }
}

fn add(response: &mut Response, headers: &[(&'static str, String)]) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}

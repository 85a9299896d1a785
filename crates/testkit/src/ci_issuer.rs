//! A CI system's token issuer at an https URL on loopback: the documents, claims and the runner's endpoint as GitHub
//! Actions and GitLab document them, since neither can run here.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::reverse_proxy::TlsListener;

/// What a job shows the runner's endpoint (`ACTIONS_ID_TOKEN_REQUEST_TOKEN`).
pub const RUNNER_SECRET: &str = "the-runners-own-token";
/// Seconds a token lives.
const LIFE: i64 = 300;

/// A running issuer. Dropping it stops it.
#[derive(Debug)]
pub struct CiIssuer {
    site: Arc<Site>,
    serving: JoinHandle<()>,
    port: PortLease,
}

#[derive(Debug)]
struct Site {
    url: String,
    key: PrivateKey,
    signer: Signer,
    state: Mutex<Conduct>,
}

#[derive(Debug, Default)]
struct Conduct {
    away: bool,
    asked: Vec<String>,
}

impl CiIssuer {
    /// Starts it with a certificate of this authority.
    ///
    /// # Errors
    /// When there is no port, or the certificate or a key cannot be made.
    pub async fn start(authority: &CertificateAuthority) -> Result<Self> {
        let port = PortLease::take()?;
        let key = PrivateKey::generate(Algorithm::RS256, 2_048)?;
        let site = Arc::new(Site {
            url: format!("https://localhost:{}", port.port()),
            signer: Signer::new(&key)?,
            key,
            state: Mutex::default(),
        });
        let listener = TlsListener {
            tcp: TcpListener::bind(("127.0.0.1", port.port())).await?,
            tls: authority.server(&["localhost"], &[])?.acceptor()?,
        };
        let router = Router::new()
            .route("/runner", get(runner))
            .fallback(document)
            .with_state(Arc::clone(&site));
        let serving = tokio::spawn(async move {
            // It ends with its task alone.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { site, serving, port })
    }

    /// `iss`.
    pub fn url(&self) -> &str {
        &self.site.url
    }

    /// Where a GitHub job asks for its token (`ACTIONS_ID_TOKEN_REQUEST_URL`).
    pub fn runner_url(&self) -> String {
        format!("https://localhost:{}/runner?api-version=2.0", self.port.port())
    }

    /// The public key, as everybody can have it.
    pub fn public_jwk(&self) -> Value {
        self.site.key.public_jwk()
    }

    /// A job's token as GitHub Actions makes it, with some claims changed; null leaves one out.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn github(&self, audience: &str, change: &Value) -> Result<String> {
        self.sign(github(&self.site.url, audience), change)
    }

    /// A job's token as GitLab makes it, with some claims changed; null leaves one out.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn gitlab(&self, audience: &str, change: &Value) -> Result<String> {
        self.sign(gitlab(&self.site.url, audience), change)
    }

    fn sign(&self, mut claims: Value, change: &Value) -> Result<String> {
        let claims = claims.as_object_mut().context("claims are an object")?;
        claims.extend(change.as_object().cloned().unwrap_or_default());
        claims.retain(|_, value| !value.is_null());
        Ok(self.site.signer.sign(Some("JWT"), claims)?)
    }

    /// Answers nobody any more, or everybody again.
    pub fn set_away(&self, away: bool) {
        self.site.conduct().away = away;
    }

    /// The paths that were asked for since this was last called, but for the runner's.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.site.conduct().asked)
    }
}

impl Drop for CiIssuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Site {
    fn conduct(&self) -> std::sync::MutexGuard<'_, Conduct> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall clock, as a CI system has it.
pub fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a CI system has the wall clock")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().try_into().unwrap_or(0))
}

/// Claims as in "OpenID Connect reference", docs.github.com.
fn github(issuer: &str, audience: &str) -> Value {
    let now = now();
    json!({
        "jti": format!("job-{now}"), "iss": issuer, "aud": audience,
        "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
        "iat": now, "nbf": now - 300, "exp": now + LIFE,
        "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "sha": "6113728f",
        "repository": "octo-org/octo-repo", "repository_id": "74", "repository_visibility": "private",
        "repository_owner": "octo-org", "repository_owner_id": "65", "runner_environment": "github-hosted",
        "run_id": "30433642", "run_number": "10", "run_attempt": "2", "actor": "octocat", "actor_id": "12",
        "workflow": "deploy", "event_name": "push", "head_ref": "", "base_ref": "",
        "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
    })
}

/// Claims as in "OpenID Connect (OIDC) Authentication Using ID Tokens", docs.gitlab.com.
fn gitlab(issuer: &str, audience: &str) -> Value {
    let now = now();
    json!({
        "jti": format!("235b3a54-{now}"), "iss": issuer, "aud": audience,
        "sub": "project_path:my-group/my-project:ref_type:branch:ref:main",
        "iat": now, "nbf": now - 5, "exp": now + LIFE,
        "namespace_id": "72", "namespace_path": "my-group", "project_id": "20",
        "project_path": "my-group/my-project", "user_id": "1", "user_login": "sample-user",
        "user_email": "sample-user@example.com", "user_access_level": "developer",
        "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
        "groups_direct": ["my-group/admins", "other-group"],
        "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main",
        "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
        "environment": "production", "environment_protected": "true", "runner_id": 1,
        "runner_environment": "self-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        "project_visibility": "private",
    })
}

#[derive(Deserialize)]
struct Asked {
    audience: String,
}

/// The runner's endpoint: a job's token for the audience it asks for.
async fn runner(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    if shown != Some(format!("Bearer {RUNNER_SECRET}").as_str()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match site.signer.sign(Some("JWT"), &github(&site.url, &asked.audience)) {
        Ok(token) => Json(json!({ "count": 1, "value": token })).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn document(State(site): State<Arc<Site>>, uri: Uri) -> Response {
    {
        let mut conduct = site.conduct();
        conduct.asked.push(uri.path().to_owned());
        if conduct.away {
            return StatusCode::BAD_GATEWAY.into_response();
        }
    }
    let url = &site.url;
    match uri.path() {
        "/.well-known/openid-configuration" => Json(json!({
            "issuer": url, "jwks_uri": format!("{url}/.well-known/jwks"),
            "subject_types_supported": ["public", "pairwise"],
            "response_types_supported": ["id_token"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid"],
        }))
        .into_response(),
        "/.well-known/jwks" => {
            let keys = KeySet::new([site.key.public_key().clone()]).to_json();
            ([("content-type", "application/json")], keys).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

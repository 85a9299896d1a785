//! panva's `oidc-provider`, a certified OpenID provider, as an upstream: it rotates refresh tokens and wants PKCE.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use reqwest::{Certificate, Client, Url};
use serde_json::{Value, json};

use crate::browser::Landing;
use crate::installation::repository;
use crate::outside::provided;
use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};
use crate::{Browser, Serving};

const START: Duration = Duration::from_mins(1);
/// `client_id` it knows.
pub const CLIENT_ID: &str = "claviger";
/// That client's secret.
pub const CLIENT_SECRET: &str = "what-the-upstream-knows-us-by";

/// A running provider. Dropping it kills it, and all it knows is gone.
#[derive(Debug)]
pub struct UpstreamProvider {
    // Dropped in this order.
    process: Supervised,
    port: PortLease,
    http: Client,
    _folder: tempfile::TempDir,
}

impl UpstreamProvider {
    /// Starts one that knows Claviger by this redirect URI.
    ///
    /// # Errors
    /// When it cannot be installed, or ends, with its last words.
    pub async fn start(authority: &CertificateAuthority, redirect_uri: &str) -> Result<Self> {
        let by_secret = json!({"client_secret": CLIENT_SECRET});
        Self::start_knowing(authority, redirect_uri, by_secret).await
    }

    /// The same, which knows Claviger by this client metadata (RFC 7591 2).
    ///
    /// # Errors
    /// When it cannot be installed, or ends, with its last words.
    pub async fn start_knowing(
        authority: &CertificateAuthority,
        redirect_uri: &str,
        client: Value,
    ) -> Result<Self> {
        let installed = provided("oidc-provider").await?;
        let folder = tempfile::Builder::new().prefix("claviger-upstream-").tempdir()?;
        // A module is looked for beside the script that imports it.
        std::os::unix::fs::symlink(
            installed.join("node_modules"),
            folder.path().join("node_modules"),
        )?;
        let script = folder.path().join("provider.mjs");
        std::fs::copy(repository().join("e2e/outside/oidc-provider/provider.mjs"), &script)?;
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        authority.server(&["localhost"], &[])?.save(&certificate, &key)?;
        let port = PortLease::take()?;
        let url = format!("https://localhost:{}", port.port());
        let settings = json!({
            "issuer": url, "port": port.port(), "certificate": certificate, "key": key,
            "client": {"id": CLIENT_ID, "redirect_uris": [redirect_uri], "metadata": client},
        });
        let process = spawn(&script, &settings, &folder.path().join("log"))?;
        let trusted = Certificate::from_pem(authority.certificate_pem().as_bytes())?;
        let http = Client::builder().no_proxy().tls_certs_only([trusted]).build()?;
        let mut provider = Self { process, port, http, _folder: folder };
        provider.wait().await?;
        Ok(provider)
    }

    async fn wait(&mut self) -> Result<()> {
        let url = format!("{}/.well-known/openid-configuration", self.url());
        let Self { process, http, .. } = self;
        process
            .until_it_answers(START, async || {
                http.get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await
    }

    /// `iss`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port.port())
    }

    /// Changes what it says of a user; null takes them away.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn set_user(&self, name: &str, claims: Value) -> Result<()> {
        let body = json!({"sub": name, "claims": claims}).to_string();
        let answer = self.http.put(format!("{}/users", self.url())).body(body).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(())
    }

    /// Signs a user in whose browser arrives here from Claviger, and returns where the browser is sent back to.
    ///
    /// # Errors
    /// With the page that came instead.
    pub async fn sign_in(&self, browser: &Browser, arriving: &Url, name: &str) -> Result<Url> {
        let mut landing = browser.open(arriving).await?;
        for _ in 0..4 {
            let page = match landing {
                Landing::Application(back) => return Ok(back),
                Landing::Page(page) => page,
            };
            let prompt = page.form_field("prompt");
            let fields: &[(&str, &str)] = match prompt.as_deref() {
                Some("login") => &[("login", name), ("password", "any")],
                Some("consent") => &[],
                _ => bail!("the provider shows {}: {}", page.status, page.html),
            };
            landing = browser.submit(&page, fields).await?;
        }
        bail!("the provider asks without an end: {landing:?}")
    }
}

fn spawn(script: &Path, settings: &Value, log: &Path) -> Result<Supervised> {
    let mut command = tied("node");
    command.arg(script).env("SETTINGS", settings.to_string()).env("NODE_ENV", "test");
    Supervised::spawn("oidc-provider", command, log)
}

/// The `upstream` of a Connector to it, its secret in the Secret `upstream`.
pub fn upstream(provider: &UpstreamProvider, authority: &CertificateAuthority) -> Value {
    json!({"oidc": {
        "issuer": provider.url(), "clientID": CLIENT_ID,
        "clientSecretRef": {"name": "upstream", "key": "clientSecret"},
        "claims": {"groups": "groups"}, "tls": {"caBundle": authority.certificate_pem()},
    }})
}

/// Where Claviger's connector `corp` has its users sent back to.
pub fn callback(serving: &Serving) -> String {
    format!("{}/callback/corp", serving.url())
}

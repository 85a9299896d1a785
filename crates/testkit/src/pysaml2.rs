//! pysaml2 as an identity provider of SAML that signs otherwise than Keycloak: the Response alone, by RSA with SHA-512. It
//! learns who we are from our own metadata.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use reqwest::{Certificate, Client, Url};
use serde_json::{Value, json};

use crate::Browser;
use crate::browser::{Landing, Page};
use crate::installation::repository;
use crate::outside::provided;
use crate::pki::{self, CertificateAuthority};
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

const START: Duration = Duration::from_mins(1);

/// A running provider that knows `ada`, of the `staff`. Dropping it kills it.
#[derive(Debug)]
pub struct Pysaml2 {
    // Dropped in this order.
    process: Supervised,
    port: PortLease,
    http: Client,
    _folder: tempfile::TempDir,
}

impl Pysaml2 {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot be installed, or ends, with its last words.
    pub async fn start(authority: &CertificateAuthority) -> Result<Self> {
        let installed = provided("pysaml2").await?;
        let folder = tempfile::Builder::new().prefix("claviger-pysaml2-").tempdir()?;
        let file = |name: &str| folder.path().join(name);
        authority.server(&["localhost"], &[])?.save(&file("tls.crt"), &file("tls.key"))?;
        pki::rsa("pysaml2")?.save(&file("saml.crt"), &file("saml.key"))?;
        let port = PortLease::take()?;
        let settings = json!({
            "url": format!("https://localhost:{}", port.port()), "port": port.port(),
            "tls_certificate": file("tls.crt"), "tls_key": file("tls.key"),
            "certificate": file("saml.crt"), "key": file("saml.key"), "xmlsec": "/usr/bin/xmlsec1",
            "users": {"ada": {
                "id": "ada-4711", "mail": "ada@example.com", "uid": "ada",
                "eduPersonAffiliation": ["staff", "engineers"],
            }},
        });
        let mut command = tied(installed.join("bin/python"));
        // -B: nothing is written beside the script.
        command.arg("-B").arg(repository().join("e2e/outside/pysaml2/provider.py"));
        command.env("SETTINGS", settings.to_string());
        let process = Supervised::spawn("pysaml2", command, &file("log"))?;
        let trusted = Certificate::from_pem(authority.certificate_pem().as_bytes())?;
        let http = Client::builder().no_proxy().tls_certs_only([trusted]).build()?;
        let mut provider = Self { process, port, http, _folder: folder };
        provider.wait().await?;
        Ok(provider)
    }

    async fn wait(&mut self) -> Result<()> {
        let url = self.metadata_url();
        let Self { process, http, .. } = self;
        process
            .until_it_answers(START, async || {
                http.get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await
    }

    /// Where its metadata is; also its entity ID.
    pub fn metadata_url(&self) -> String {
        format!("https://localhost:{}/metadata", self.port.port())
    }

    /// Makes a service provider known to it by that one's own metadata.
    ///
    /// # Errors
    /// When it does not take it.
    pub async fn register(&self, metadata: &str) -> Result<()> {
        let url = format!("https://localhost:{}/service", self.port.port());
        let answer = self.http.put(url).body(metadata.to_owned()).send().await?;
        ensure!(answer.status().is_success(), "{}", self.process.log_tail());
        Ok(())
    }

    /// The `upstream` of a Connector to it.
    pub fn upstream(&self, authority: &CertificateAuthority) -> Value {
        json!({"saml": {
            "metadataURL": self.metadata_url(), "signatures": "Response",
            "attributes": {"username": "uid", "email": "mail", "groups": "eduPersonAffiliation"},
            "tls": {"caBundle": authority.certificate_pem()},
        }})
    }

    /// Signs a user in whose browser arrives here from Claviger, and returns the page that makes the browser post the
    /// answer.
    ///
    /// # Errors
    /// With the page that came instead.
    pub async fn sign_in(&self, browser: &Browser, arriving: &Url, name: &str) -> Result<Page> {
        let Landing::Page(form) = browser.open(arriving).await? else { bail!("sent away") };
        match browser.submit(&form, &[("name", name)]).await? {
            Landing::Page(page) if page.form_field("SAMLResponse").is_some() => Ok(page),
            other => bail!("{other:?}: {}", self.process.log_tail()),
        }
    }
}

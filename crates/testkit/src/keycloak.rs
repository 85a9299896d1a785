//! Keycloak, an identity provider of SAML and, in [`keycloak_openid`](crate::keycloak_openid), of OpenID Connect: one
//! server for all stories of a process, and a client there for each scene.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Certificate, Client, Method, Response, Url};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::Browser;
use crate::browser::{Landing, Page};
use crate::outside::provided;
use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

/// A JVM that starts on a loaded machine.
const START: Duration = Duration::from_mins(4);
/// Password of its users, and of its administrator.
pub(crate) const PASSWORD: &str = "wonderland";

/// What its own script gives Java. That has Java as a child, which would outlive it, so Java is started here; less code is
/// compiled, and little memory taken, for it serves a handful of sign-ins.
const JAVA: [&str; 10] = [
    "-Xmx384m",
    "-XX:TieredStopAtLevel=1",
    "-Dfile.encoding=UTF-8",
    "-Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--enable-native-access=ALL-UNNAMED",
];

/// A running Keycloak with the realm `corp`: `ada` is among the `developers` there, `bob` in no group. It ends with the
/// process.
#[derive(Debug)]
pub struct Keycloak {
    authority: CertificateAuthority,
    port: PortLease,
    process: Supervised,
}

/// What it is told of a service provider.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'r> {
    /// Entity ID and assertion consumer service.
    pub callback: &'r str,
    /// Whether it signs the Response too, and not the Assertion alone.
    pub signs_responses: bool,
    /// The certificate (PEM) that requests must be signed by, if they must.
    pub requests_signed_by: Option<&'r str>,
    /// Whether its users sign out by the browser, below the callback.
    pub signs_out: bool,
}

impl Keycloak {
    /// The one of this process.
    ///
    /// # Errors
    /// When it cannot be installed, or ends, with its last words.
    pub async fn shared() -> Result<&'static Self> {
        static STARTED: OnceCell<Keycloak> = OnceCell::const_new();
        STARTED.get_or_try_init(|| Self::start(None)).await
    }

    /// One of its own, for a story that stops it.
    ///
    /// # Errors
    /// When it cannot be installed, or ends, with its last words.
    pub async fn apart() -> Result<Self> {
        Self::start(None).await
    }

    /// One of its own, that speaks to whom this authority vouches for.
    ///
    /// # Errors
    /// When it cannot be installed, or ends, with its last words.
    pub async fn trusting(whom: &CertificateAuthority) -> Result<Self> {
        Self::start(Some(whom)).await
    }

    async fn start(trusts: Option<&CertificateAuthority>) -> Result<Self> {
        let installed = provided("keycloak").await?;
        let folder = tempfile::Builder::new().prefix("claviger-keycloak-").tempdir()?;
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let authority = CertificateAuthority::create("keycloak")?;
        authority.server(&["localhost"], &[])?.save(&certificate, &key)?;
        let port = PortLease::take()?;
        let mut command = tied("java");
        command
            .args(JAVA)
            .arg(format!("-Dkc.home.dir={}", installed.display()))
            .arg(format!("-Djboss.server.config.dir={}", installed.join("conf").display()))
            .arg("-cp")
            .arg(installed.join("lib/quarkus-run.jar"))
            .arg("io.quarkus.bootstrap.runner.QuarkusEntryPoint")
            .args(["start", "--optimized", "--import-realm", "--http-host=127.0.0.1"])
            .arg(format!("--https-port={}", port.port()))
            .arg(format!("--hostname=https://localhost:{}", port.port()))
            .arg(format!("--https-certificate-file={}", certificate.display()))
            .arg(format!("--https-certificate-key-file={}", key.display()))
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin")
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", PASSWORD);
        if let Some(trusted) = trusts {
            let file = folder.path().join("trusted.pem");
            std::fs::write(&file, trusted.certificate_pem())?;
            command.arg(format!("--truststore-paths={}", file.display()));
        }
        let mut process = Supervised::spawn("keycloak", command, &folder.path().join("log"))?;
        let url = format!("https://localhost:{}/realms/corp/protocol/saml/descriptor", port.port());
        let http = client(&authority)?;
        process
            .until_it_answers(START, async || {
                http.get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        // It has read its key, and the log is written to though its folder is gone: nothing is left behind.
        Ok(Self { authority, port, process })
    }

    /// Stops the whole process where it stands: connections are taken by the kernel, and nobody answers.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Whose certificates to trust there.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// Entity ID of the realm.
    pub fn entity_id(&self) -> String {
        format!("https://localhost:{}/realms/corp", self.port.port())
    }

    /// The `upstream` of a Connector to it.
    pub fn upstream(&self) -> Value {
        json!({"saml": {
            "metadataURL": format!("{}/protocol/saml/descriptor", self.entity_id()),
            "attributes": {"username": "uid", "email": "email", "groups": "groups"},
            "tls": {"caBundle": self.authority.certificate_pem()},
        }})
    }

    /// Makes a service provider known to it.
    ///
    /// # Errors
    /// With its answer.
    pub async fn register(&self, service: Registration<'_>) -> Result<()> {
        self.administer(Method::POST, "clients", &client_of(service)).await.map(drop)
    }

    /// A request of the realm's administrator, by a path below the realm.
    ///
    /// # Errors
    /// With its answer, unless that is a success.
    pub(crate) async fn administer(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Response> {
        let http = client(&self.authority)?;
        let root = format!("https://localhost:{}", self.port.port());
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", PASSWORD),
        ];
        let token = http.post(format!("{root}/realms/master/protocol/openid-connect/token"));
        let token: Value = serde_json::from_str(&token.form(&form).send().await?.text().await?)?;
        let token = token["access_token"].as_str().context("no token for the administrator")?;
        let request = http.request(method, format!("{root}/admin/realms/corp/{path}"));
        let request = request.bearer_auth(token).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        bail!("{path}: {status}: {}", answer.text().await?)
    }

    /// Signs a user in whose browser arrives here from Claviger, and returns the page that makes the browser post the
    /// answer.
    ///
    /// # Errors
    /// With the page that came instead.
    pub async fn sign_in(&self, arriving: &Url, name: &str) -> Result<Page> {
        let browser = Browser::new(self.authority.certificate_pem())?;
        let Landing::Page(form) = browser.open(arriving).await? else { bail!("sent away") };
        self.sign_in_at(&browser, &form, name).await
    }

    /// The same, where Claviger's page makes the browser post the request.
    ///
    /// # Errors
    /// With the page that came instead.
    pub async fn sign_in_by_form(&self, departing: &Page, name: &str) -> Result<Page> {
        let browser = Browser::new(self.authority.certificate_pem())?;
        let Landing::Page(form) = browser.submit(departing, &[]).await? else { bail!("sent away") };
        self.sign_in_at(&browser, &form, name).await
    }

    /// Signs a user in whose browser has come here from Claviger, in a browser of theirs that stays.
    ///
    /// # Errors
    /// With the page that came instead.
    pub async fn sign_in_with(
        &self,
        browser: &Browser,
        arriving: &Url,
        name: &str,
    ) -> Result<Page> {
        let Landing::Page(page) = browser.open(arriving).await? else { bail!("sent away") };
        if page.form_field("SAMLResponse").is_some() {
            return Ok(page); // signed in before
        }
        self.sign_in_at(browser, &page, name).await
    }

    /// Signs the user of a browser out at its own page, and returns where that sends it.
    ///
    /// # Errors
    /// With the page that came instead.
    pub async fn sign_out_with(&self, browser: &Browser) -> Result<Url> {
        let own = format!("{}/protocol/openid-connect/logout", self.entity_id());
        let Landing::Page(question) = browser.open(&own.parse()?).await? else {
            bail!("sent away")
        };
        match browser.submit(&question, &[("confirmLogout", "Logout")]).await? {
            Landing::Application(url) => Ok(url),
            Landing::Page(page) => bail!("{}: {}", page.status, page.html),
        }
    }

    async fn sign_in_at(&self, browser: &Browser, form: &Page, name: &str) -> Result<Page> {
        ensure!(form.form_field("password").is_some(), "{}: {}", form.status, form.html);
        match browser.submit(form, &[("username", name), ("password", PASSWORD)]).await? {
            Landing::Page(page) if page.form_field("SAMLResponse").is_some() => Ok(page),
            Landing::Page(page) => bail!("{}: {}", page.status, page.html),
            Landing::Application(url) => bail!("sent to {url}"),
        }
    }
}

/// Connections are of the runtime that made them, and each story has one of its own.
pub(crate) fn client(authority: &CertificateAuthority) -> Result<Client> {
    let trusted = Certificate::from_pem(authority.certificate_pem().as_bytes())?;
    Ok(Client::builder().no_proxy().tls_certs_only([trusted]).build()?)
}

fn client_of(service: Registration<'_>) -> Value {
    let mapper = |name: &str, kind: &str, more: Value| {
        let mut config = json!({"attribute.name": name, "attribute.nameformat": "Basic"});
        if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
            config.extend(more.clone());
        }
        json!({"name": name, "protocol": "saml", "protocolMapper": kind, "config": config})
    };
    let body =
        |pem: &str| pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    json!({
        "clientId": service.callback, "protocol": "saml", "enabled": true,
        "redirectUris": [service.callback],
        "frontchannelLogout": service.signs_out,
        "attributes": {
            "saml_single_logout_service_url_redirect":
                service.signs_out.then(|| format!("{}/logout", service.callback)),
            "saml_name_id_format": "persistent", "saml_force_name_id_format": "true",
            "saml.authnstatement": "true", "saml.assertion.signature": "true",
            "saml.server.signature": service.signs_responses.to_string(),
            "saml.signature.algorithm": "RSA_SHA256", "saml.encrypt": "false",
            "saml.force.post.binding": "true",
            "saml.client.signature": service.requests_signed_by.is_some().to_string(),
            "saml.signing.certificate": service.requests_signed_by.map(body),
        },
        "protocolMappers": [
            mapper("email", "saml-user-property-mapper", json!({"user.attribute": "email"})),
            mapper("uid", "saml-user-property-mapper", json!({"user.attribute": "username"})),
            mapper("groups", "saml-group-membership-mapper", json!({"single": "true", "full.path": "false"})),
        ],
    })
}

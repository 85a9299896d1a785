//! Keystone, OpenStack's Identity service: one server for all tests of a process, and a domain there for each.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use crate::eventually;
use crate::outside::provided;
use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

/// It makes its database first.
const START: Duration = Duration::from_mins(3);
const ADMINISTRATOR: &str = "the-password-of-the-administrator";
/// Password of each domain's service account.
pub const SERVICE_PASSWORD: &str = "the-password-of-the-service-account";
/// Password of each user.
pub const PASSWORD: &str = "wonderland";

/// A running Keystone. It ends with the process.
#[derive(Debug)]
pub struct Keystone {
    authority: CertificateAuthority,
    port: PortLease,
    process: Mutex<Supervised>,
    reader: OnceCell<String>,
    _folder: tempfile::TempDir,
}

/// A domain of it, with a service account `claviger` that may read it.
#[derive(Debug)]
pub struct KeystoneDomain {
    keystone: &'static Keystone,
    http: Client,
    token: String,
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Keystone {
    /// The one of this process.
    ///
    /// # Errors
    /// When it cannot be installed, or ends, with its last words.
    pub async fn shared() -> Result<&'static Self> {
        static STARTED: OnceCell<Keystone> = OnceCell::const_new();
        STARTED.get_or_try_init(Self::apart).await
    }

    /// One of its own.
    ///
    /// # Errors
    /// When it cannot be installed, or ends, with its last words.
    pub async fn apart() -> Result<Self> {
        let installed = provided("keystone").await?;
        let folder = tempfile::Builder::new().prefix("claviger-keystone-").tempdir()?;
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let authority = CertificateAuthority::create("keystone")?;
        authority.server(&["localhost"], &[])?.save(&certificate, &key)?;
        let port = PortLease::take()?;
        let settings = json!({
            "folder": folder.path(), "port": port.port(), "password": ADMINISTRATOR,
            "tls_certificate": certificate, "tls_key": key,
        });
        let mut command = tied(installed.join("bin/python"));
        // -B: nothing is written beside the script.
        let script = crate::installation::repository().join("e2e/outside/keystone/server.py");
        command.arg("-B").arg(script).env("SETTINGS", settings.to_string());
        let process = Supervised::spawn("keystone", command, &folder.path().join("log"))?;
        let keystone = Self {
            authority,
            port,
            process: Mutex::new(process),
            reader: OnceCell::new(),
            _folder: folder,
        };
        let (http, url) = (keystone.client()?, keystone.url());
        let waited = eventually(START, async || {
            if let Err(ended) = keystone.process.lock().await.check_alive() {
                return Ok(Err(ended));
            }
            http.get(&url).send().await?.error_for_status()?;
            Ok(Ok(()))
        });
        waited.await.context("Keystone does not answer")??;
        Ok(keystone)
    }

    /// Its endpoint.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/v3", self.port.port())
    }

    /// Who signed its certificate.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// Connections are of the runtime that made them, and each test has one of its own.
    fn client(&self) -> Result<Client> {
        let trusted = Certificate::from_pem(self.authority.certificate_pem().as_bytes())?;
        Ok(Client::builder().no_proxy().tls_certs_only([trusted]).build()?)
    }

    /// A new domain of a name that nobody else uses.
    ///
    /// # Errors
    /// With its answer.
    pub async fn domain(&'static self, name: &str) -> Result<KeystoneDomain> {
        let http = self.client()?;
        let signing_in = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": "admin", "domain": {"id": "default"}, "password": ADMINISTRATOR}}},
            "scope": {"system": {"all": true}},
        }});
        let answer = http
            .post(format!("{}/auth/tokens", self.url()))
            .header("content-type", "application/json")
            .body(signing_in.to_string());
        let answer = answer.send().await?;
        let token = answer.headers().get("x-subject-token").context("no token")?;
        let token = token.to_str()?.to_owned();
        let mut domain = KeystoneDomain {
            keystone: self,
            http,
            token,
            id: String::new(),
            name: format!("{name}-{}", self.port.port()),
        };
        let made = domain.post("/domains", json!({"domain": {"name": domain.name}})).await?;
        domain.id = made["domain"]["id"].as_str().context("a domain")?.to_owned();
        let account = domain.user("claviger", SERVICE_PASSWORD).await?;
        domain.grant_reader(&account).await?;
        Ok(domain)
    }
}

impl KeystoneDomain {
    /// The server.
    pub fn keystone(&self) -> &'static Keystone {
        self.keystone
    }

    /// The `upstream` of a Connector to it, at its own address or another, for a Secret `keystone`.
    pub fn upstream(&self, url: &str, authority: &str) -> Value {
        json!({"keystone": {
            "url": url, "domain": {"id": self.id},
            "serviceAccount": {
                "name": "claviger", "passwordSecretRef": {"name": "keystone", "key": "password"},
            },
            "tls": {"caBundle": authority},
        }})
    }

    /// Makes a user with the mail address `<name>@example.com`; returns their ID.
    ///
    /// # Errors
    /// With its answer.
    pub async fn user(&self, name: &str, password: &str) -> Result<String> {
        let user = json!({"user": {
            "name": name, "domain_id": self.id, "password": password,
            "email": format!("{name}@example.com"),
        }});
        let made = self.post("/users", user).await?;
        Ok(made["user"]["id"].as_str().context("a user")?.to_owned())
    }

    /// Changes a user.
    ///
    /// # Errors
    /// With its answer.
    pub async fn change_user(&self, id: &str, change: Value) -> Result<()> {
        let body = json!({"user": change});
        self.ask(Method::PATCH, &format!("/users/{id}"), Some(body)).await.map(drop)
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// With its answer.
    pub async fn delete_user(&self, id: &str) -> Result<()> {
        self.ask(Method::DELETE, &format!("/users/{id}"), None).await.map(drop)
    }

    /// Makes a group of these users; returns its ID.
    ///
    /// # Errors
    /// With its answer.
    pub async fn group(&self, name: &str, users: &[&str]) -> Result<String> {
        let group = json!({"group": {"name": name, "domain_id": self.id}});
        let made = self.post("/groups", group).await?;
        let id = made["group"]["id"].as_str().context("a group")?.to_owned();
        for user in users {
            self.ask(Method::PUT, &format!("/groups/{id}/users/{user}"), None).await?;
        }
        Ok(id)
    }

    /// Takes a user out of a group.
    ///
    /// # Errors
    /// With its answer.
    pub async fn leave(&self, group: &str, user: &str) -> Result<()> {
        self.ask(Method::DELETE, &format!("/groups/{group}/users/{user}"), None).await.map(drop)
    }

    /// Switches the domain off, or on again.
    ///
    /// # Errors
    /// With its answer.
    pub async fn enable(&self, enabled: bool) -> Result<()> {
        let body = json!({"domain": {"enabled": enabled}});
        self.ask(Method::PATCH, &format!("/domains/{}", self.id), Some(body)).await.map(drop)
    }

    /// Lets an account read the domain.
    ///
    /// # Errors
    /// With its answer.
    pub async fn grant_reader(&self, account: &str) -> Result<()> {
        let path = format!("/domains/{}/users/{account}/roles/{}", self.id, self.reader().await?);
        self.ask(Method::PUT, &path, None).await.map(drop)
    }

    /// Lets an account read the whole system.
    ///
    /// # Errors
    /// With its answer.
    pub async fn grant_reader_of_system(&self, account: &str) -> Result<()> {
        let path = format!("/system/users/{account}/roles/{}", self.reader().await?);
        self.ask(Method::PUT, &path, None).await.map(drop)
    }

    async fn reader(&self) -> Result<&'static str> {
        let reader = self.keystone.reader.get_or_try_init(async || {
            let roles = self.ask(Method::GET, "/roles?name=reader", None).await?;
            anyhow::Ok(roles["roles"][0]["id"].as_str().context("a role")?.to_owned())
        });
        Ok(reader.await?)
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let url = format!("{}{path}", self.keystone.url());
        let mut request = self.http.request(method, &url).header("x-auth-token", &self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{url}: {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}

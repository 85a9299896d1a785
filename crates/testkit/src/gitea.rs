//! Gitea: one server for all stories of a process, or one of its own for a story that stops it; organizations, teams,
//! users and an OAuth application of it are made by its API.
//!
//! It is built from its Go module, which has its pages and none of what the browser would run there: whoever signs in
//! here fills in forms.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Certificate, Client, Method, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::Browser;
use crate::browser::{Landing, Page};
use crate::outside::provided;
use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

/// It makes its tables first.
const START: Duration = Duration::from_mins(2);
/// Its administrator: who signs up first is.
const ADMINISTRATOR: &str = "keeper";
/// Password of its users, and of its administrator.
const PASSWORD: &str = "in-wonderland";

/// A running Gitea. Dropping it kills it and removes what it stored.
#[derive(Debug)]
pub struct Gitea {
    // Dropped in this order.
    process: Option<Supervised>,
    port: PortLease,
    program: PathBuf,
    authority: CertificateAuthority,
    folder: TempDir,
}

/// What it knows a client by.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its number there.
    pub id: i64,
    /// `client_id`.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
}

impl Gitea {
    /// The one of this process.
    ///
    /// # Errors
    /// When it cannot be built, or ends, with its last words.
    pub async fn shared() -> Result<&'static Self> {
        static STARTED: OnceCell<Gitea> = OnceCell::const_new();
        STARTED.get_or_try_init(Self::apart).await
    }

    /// One of its own, for a story that stops it.
    ///
    /// # Errors
    /// When it cannot be built, or ends, with its last words.
    pub async fn apart() -> Result<Self> {
        let built = provided("gitea").await?;
        let folder = tempfile::Builder::new().prefix("claviger-gitea-").tempdir()?;
        let authority = CertificateAuthority::create("gitea")?;
        let own = authority.server(&["localhost"], &[])?;
        own.save(&folder.path().join("tls.crt"), &folder.path().join("tls.key"))?;
        let port = PortLease::take()?;
        let settings = settings(folder.path(), &built, port.port());
        std::fs::write(folder.path().join("app.ini"), settings)?;
        let program = built.join("gitea");
        let mut gitea = Self { process: None, port, program, authority, folder };
        gitea.start_again().await?;
        gitea.sign_up().await?;
        Ok(gitea)
    }

    /// Kills it: nobody answers at its address.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it anew, with what it stored.
    ///
    /// # Errors
    /// When it ends, with its last words.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = None;
        let folder = self.folder.path();
        let mut command = tied(&self.program);
        command.arg("--config").arg(folder.join("app.ini")).arg("web").env("NO_PROXY", "*");
        let mut process = Supervised::spawn("gitea", command, &folder.join("log"))?;
        let (http, url) = (self.client()?, format!("{}/api/healthz", self.url()));
        process
            .until_it_answers(START, async || {
                http.get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Its `ROOT_URL`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port.port())
    }

    /// Who signed its certificate.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// Makes the connector of this name at an issuer known to it, as a confidential client.
    ///
    /// # Errors
    /// With its answer.
    pub async fn register(&self, issuer: &str, connector: &str) -> Result<Application> {
        let made = self
            .ask(Method::POST, "/user/applications/oauth2", application(issuer, connector))
            .await?;
        known(&made)
    }

    /// Gives an application a new secret: the old one is none any more.
    ///
    /// # Errors
    /// With its answer.
    pub async fn renew_secret(
        &self,
        id: i64,
        issuer: &str,
        connector: &str,
    ) -> Result<Application> {
        let path = format!("/user/applications/oauth2/{id}");
        known(&self.ask(Method::PATCH, &path, application(issuer, connector)).await?)
    }

    /// Makes a user with the mail address `<name>@example.com` and the full name `<name> of Wonderland`.
    ///
    /// # Errors
    /// With its answer.
    pub async fn add_user(&self, name: &str) -> Result<()> {
        let user = json!({
            "username": name, "email": format!("{name}@example.com"), "password": PASSWORD,
            "full_name": format!("{name} of Wonderland"), "must_change_password": false,
        });
        self.ask(Method::POST, "/admin/users", user).await.map(drop)
    }

    /// Switches something of an account on or off: `active`, `prohibit_login`, `must_change_password`.
    ///
    /// # Errors
    /// With its answer.
    pub async fn switch(&self, name: &str, what: &str, on: bool) -> Result<()> {
        let change = json!({"login_name": name, "source_id": 0, what: on});
        self.ask(Method::PATCH, &format!("/admin/users/{name}"), change).await.map(drop)
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// With its answer.
    pub async fn delete_user(&self, name: &str) -> Result<()> {
        let path = format!("/admin/users/{name}?purge=true");
        self.ask(Method::DELETE, &path, Value::Null).await.map(drop)
    }

    /// Makes an organization.
    ///
    /// # Errors
    /// With its answer.
    pub async fn add_organization(&self, name: &str) -> Result<()> {
        self.ask(Method::POST, "/orgs", json!({"username": name})).await.map(drop)
    }

    /// Makes a team of these users; returns its number.
    ///
    /// # Errors
    /// With its answer.
    pub async fn add_team(&self, organization: &str, name: &str, users: &[&str]) -> Result<i64> {
        let team = json!({"name": name, "permission": "read", "units": ["repo.code"]});
        let made = self.ask(Method::POST, &format!("/orgs/{organization}/teams"), team).await?;
        let id = made["id"].as_i64().context("a team has a number")?;
        for user in users {
            self.join(id, user).await?;
        }
        Ok(id)
    }

    /// Puts a user into a team, and into its organization by that.
    ///
    /// # Errors
    /// With its answer.
    pub async fn join(&self, team: i64, user: &str) -> Result<()> {
        let path = format!("/teams/{team}/members/{user}");
        self.ask(Method::PUT, &path, Value::Null).await.map(drop)
    }

    /// Takes a user out of a team; out of the organization, where it was the last.
    ///
    /// # Errors
    /// With its answer.
    pub async fn leave(&self, team: i64, user: &str) -> Result<()> {
        let path = format!("/teams/{team}/members/{user}");
        self.ask(Method::DELETE, &path, Value::Null).await.map(drop)
    }

    /// A browser that trusts it.
    ///
    /// # Errors
    /// When its authority is none.
    pub fn browser(&self) -> Result<Browser> {
        Browser::new(self.authority.certificate_pem())
    }

    /// Signs a user in whose browser arrives here from Claviger, with the password unless it has signed in before; agrees
    /// if asked; and returns where the browser is sent back to.
    ///
    /// # Errors
    /// With the page that came instead.
    pub async fn sign_in(&self, browser: &Browser, arriving: &Url, name: &str) -> Result<Url> {
        ensure!(arriving.as_str().starts_with(&self.url()), "{arriving}");
        let mut landing = browser.open(arriving).await?;
        if let Landing::Page(form) = &landing
            && form.form_field("password").is_some()
        {
            landing = browser.submit(form, &[("user_name", name), ("password", PASSWORD)]).await?;
        }
        if let Landing::Page(grant) = &landing
            && grant.form_field("redirect_uri").is_some()
        {
            landing = browser.submit(grant, &[("granted", "true")]).await?;
        }
        match landing {
            Landing::Application(back) => Ok(back),
            Landing::Page(page) => bail!("{}: {}: {}", page.url, page.status, page.html),
        }
    }

    /// Signs the administrator up.
    async fn sign_up(&self) -> Result<()> {
        let address = Url::parse(&format!("{}/user/sign_up", self.url()))?;
        let browser = self.browser()?;
        let Landing::Page(form) = browser.open(&address).await? else { bail!("sent away") };
        let typed = [
            ("user_name", ADMINISTRATOR),
            ("email", "keeper@example.com"),
            ("password", PASSWORD),
            ("retype", PASSWORD),
        ];
        match browser.submit(&form, &typed).await? {
            Landing::Page(Page { status, .. }) if status.is_success() => {}
            landing => bail!("signing up led to {landing:?}"),
        }
        let said = self.ask(Method::GET, "/user", Value::Null).await?;
        ensure!(said["is_admin"] == true, "who signs up first is no administrator: {said}");
        Ok(())
    }

    /// A request of the administrator to its API.
    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let request = self.client()?.request(method, format!("{}/api/v1{path}", self.url()));
        let request = request.basic_auth(ADMINISTRATOR, Some(PASSWORD));
        let request = match body {
            Value::Null => request,
            body => request.header("content-type", "application/json").body(body.to_string()),
        };
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Connections are of the runtime that made them, and each story has one of its own.
    fn client(&self) -> Result<Client> {
        let trusted = Certificate::from_pem(self.authority.certificate_pem().as_bytes())?;
        Ok(Client::builder().no_proxy().tls_certs_only([trusted]).build()?)
    }
}

fn application(issuer: &str, connector: &str) -> Value {
    json!({
        "name": format!("Claviger at {issuer}"), "confidential_client": true,
        "redirect_uris": [format!("{issuer}/callback/{connector}")],
    })
}

fn known(said: &Value) -> Result<Application> {
    let text = |name: &str| {
        let value = said[name].as_str().filter(|value| !value.is_empty());
        Ok::<_, anyhow::Error>(value.with_context(|| format!("no {name}"))?.to_owned())
    };
    Ok(Application {
        id: said["id"].as_i64().context("an application has a number")?,
        client_id: text("client_id")?,
        client_secret: text("client_secret")?,
    })
}

/// Its `app.ini`. Addresses are confirmed, by mails that go nowhere: what is not active is told from what is prohibited.
/// A write-ahead log waits for the disk once a table, not thrice; a key of elliptic curves is made faster, and Claviger
/// reads none of its ID tokens.
fn settings(folder: &Path, built: &Path, port: u16) -> String {
    let (folder, built) = (folder.display(), built.display());
    format!(
        "APP_NAME = Gitea
RUN_MODE = prod
WORK_PATH = {folder}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
PROTOCOL = https
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = https://localhost:{port}/
LOCAL_ROOT_URL = https://localhost:{port}/
CERT_FILE = {folder}/tls.crt
KEY_FILE = {folder}/tls.key
STATIC_ROOT_PATH = {built}
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
SQLITE_JOURNAL_MODE = WAL
PATH = {folder}/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = of-this-test
[oauth2]
JWT_SIGNING_ALGORITHM = ES256
[log]
MODE = console
LEVEL = Info
[indexer]
ISSUE_INDEXER_TYPE = db
[queue]
TYPE = channel
[cron]
ENABLED = false
[actions]
ENABLED = false
[service]
REGISTER_EMAIL_CONFIRM = true
[mailer]
ENABLED = true
PROTOCOL = dummy
FROM = gitea@example.com
"
    )
}

//! A real browser: Chromium, driven by `WebDriver`, without a window. It runs our scripts, applies our Content Security
//! Policy and keeps our cookies as its users' does.
//!
//! It trusts the one certificate it is told of and no other authority of ours; nothing else is switched off but its
//! sandbox, which needs privileges that a test machine may not give, and it opens nothing but pages of tests.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::eventually;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

/// For the driver to listen, and for a page to come: seconds on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether pages may run scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    /// As nearly everybody has it.
    On,
    /// As somebody careful has it.
    Off,
}

/// One Chromium with an empty profile.
#[derive(Debug)]
pub struct Chromium {
    client: Client,
    _driver: Supervised,
    _port: PortLease,
    _folder: TempDir,
}

impl Chromium {
    /// Starts one that trusts this server certificate (a PEM file).
    ///
    /// # Errors
    /// When it cannot be started, with the driver's last words.
    pub async fn start(certificate: &Path, scripts: Scripts) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        let port = PortLease::take()?;
        let mut command = tied("chromedriver");
        command.arg(format!("--port={}", port.port())).env("HOME", folder.path());
        let driver = Supervised::spawn("chromedriver", command, &folder.path().join("log"))?;
        let capabilities = capabilities(certificate, folder.path(), scripts)?;
        let url = format!("http://127.0.0.1:{}", port.port());
        let client = eventually(PATIENCE, async || {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            let connected = builder.capabilities(capabilities.clone()).connect(&url).await;
            connected.map_err(anyhow::Error::from)
        })
        .await?;
        Ok(Self { client, _driver: driver, _port: port, _folder: folder })
    }

    /// Opens a URL.
    ///
    /// # Errors
    /// When nothing answers there.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.client.goto(url).await.with_context(|| format!("failed to open {url}"))
    }

    /// Where it is.
    ///
    /// # Errors
    /// When the driver does not say.
    pub async fn url(&self) -> Result<String> {
        Ok(self.client.current_url().await?.into())
    }

    /// Types into the field of this name, once it is there.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn type_into(&self, name: &str, text: &str) -> Result<()> {
        let field = format!("[name=\"{name}\"]");
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(&field)).await;
        found.with_context(|| format!("no field {name}"))?.send_keys(text).await?;
        Ok(())
    }

    /// Presses what this CSS selector finds, once it is there.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn press(&self, selector: &str) -> Result<()> {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(selector)).await;
        found.with_context(|| format!("nothing is {selector}"))?.click().await?;
        Ok(())
    }

    /// Waits until the page shows this text.
    ///
    /// # Errors
    /// With what it shows instead, and where.
    pub async fn wait_for_text(&self, text: &str) -> Result<()> {
        eventually(PATIENCE, async || {
            let shown = self.run("return document.body.innerText", Vec::new()).await?;
            let shown = shown.as_str().unwrap_or_default().to_owned();
            ensure!(shown.contains(text), "{} shows {shown:?}", self.url().await?);
            Ok(())
        })
        .await
    }

    /// Runs a script of the test's in the page, as its developer tools would, and gives what it returns.
    ///
    /// # Errors
    /// When it throws.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        Ok(self.client.execute(script, arguments).await?)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the driver does not answer.
    pub async fn close(self) -> Result<()> {
        Ok(self.client.clone().close().await?)
    }
}

fn capabilities(certificate: &Path, profile: &Path, scripts: Scripts) -> Result<Capabilities> {
    let content = if scripts == Scripts::On { 1 } else { 2 };
    let options = json!({
        "args": [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            format!("--user-data-dir={}", profile.join("profile").display()),
            format!("--ignore-certificate-errors-spki-list={}", key_of(certificate)?),
        ],
        "prefs": {"profile.managed_default_content_settings.javascript": content},
    });
    Ok(Capabilities::from_iter([("goog:chromeOptions".to_owned(), options)]))
}

/// SHA-256 of a certificate's public key, base64, as Chromium wants it.
fn key_of(certificate: &Path) -> Result<String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-pubkey", "-in"]).arg(certificate).stdin(Stdio::null());
    let output = openssl.output().context("openssl is not there; run: make setup")?;
    let pem = String::from_utf8(output.stdout)?;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    ensure!(!body.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = BASE64.decode(body.as_bytes())?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key);
    Ok(BASE64.encode(hash.as_ref()))
}

//! One running replica of Claviger: the real binary, as a process, under a ServiceAccount's token.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;

use crate::installation::{Installation, repository};
use crate::ports::PortLease;
use crate::process::{Supervised, tied};
use crate::{CertificateAuthority, eventually};

/// Names the binary to test; without it `cargo build` makes one.
const BINARY_ENV: &str = "CLAVIGER_BIN";

/// Where a replica listens, and with which certificate. Several replicas need several of these.
#[derive(Debug)]
pub struct Serving {
    port: PortLease,
    admin_port: PortLease,
    certificate: PathBuf,
    key: PathBuf,
}

impl Serving {
    /// Fresh loopback ports and a certificate for 127.0.0.1.
    ///
    /// # Errors
    /// When there is no free port or the certificate cannot be made.
    pub fn prepare(folder: &Path, authority: &CertificateAuthority) -> Result<Self> {
        let port = PortLease::take()?;
        let certificate = folder.join(format!("tls-{}.crt", port.port()));
        let key = folder.join(format!("tls-{}.key", port.port()));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        authority.server(&["localhost"], &[address])?.save(&certificate, &key)?;
        Ok(Self { port, admin_port: PortLease::take()?, certificate, key })
    }

    /// Issuer URL of a replica that listens here.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.port())
    }

    /// URL of the admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port.port())
    }

    /// The certificate and key files it serves.
    pub fn certificate_files(&self) -> (&Path, &Path) {
        (&self.certificate, &self.key)
    }
}

/// A running replica. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    process: Supervised,
    admin_url: String,
}

impl Operator {
    pub(crate) async fn start(
        installation: &Installation,
        serving: &Serving,
        kubeconfig: &Path,
    ) -> Result<Self> {
        let mut command = tied(binary()?);
        command
            .args(["run", "--log-format", "text", "--namespace", installation.namespace()])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--tls-cert-file")
            .arg(&serving.certificate)
            .arg("--tls-key-file")
            .arg(&serving.key)
            .args(["--listen", &format!("127.0.0.1:{}", serving.port.port())])
            .args(["--admin-listen", &format!("127.0.0.1:{}", serving.admin_port.port())])
            .args(["--identity", &format!("replica-{}", serving.port.port())]);
        if !installation.tenants().is_empty() {
            command.args(["--tenant-namespaces", &installation.tenants().join(",")]);
        }
        let log = installation.folder().join(format!("claviger-{}.log", serving.port.port()));
        let process = Supervised::spawn("claviger", command, &log)?;
        let mut operator = Self { process, admin_url: serving.admin_url() };
        operator.wait_until_ready().await?;
        Ok(operator)
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.process.log()).context("failed to read the operator's log")
    }

    /// Ends it without a chance to clean up.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Tells it to end (SIGTERM) and waits until it has, without an error.
    ///
    /// # Errors
    /// With the end of its log when it does not end well.
    pub async fn terminate(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = eventually(Duration::from_secs(20), async || {
            self.process.exit_status()?.context("it is still running")
        })
        .await?;
        ensure!(status.success(), "it ended with {status}: {}", self.process.log_tail());
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let url = format!("{}/readyz", self.admin_url);
        let http = reqwest::Client::new();
        eventually(Duration::from_secs(20), async || {
            self.process.check_alive()?;
            let answer = http.get(&url).send().await.context("not listening yet")?;
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            ensure!(status.is_success(), "not ready: {text}");
            Ok(())
        })
        .await
        .with_context(|| self.process.log_tail())
    }
}

/// The `claviger` binary: the one `CLAVIGER_BIN` names, or the path that cargo's JSON prints.
///
/// # Errors
/// When it does not build.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os(BINARY_ENV) {
        return Ok(path.into());
    }
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

#[derive(Deserialize)]
struct CargoMessage {
    executable: Option<PathBuf>,
}

fn build() -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "claviger", "--bin", "claviger", "--message-format", "json"])
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo build")?;
    ensure!(output.status.success(), "cargo build --package claviger failed");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<CargoMessage>(line).ok()?.executable)
        .next_back()
        .context("cargo build printed no executable")
}

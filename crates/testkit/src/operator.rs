//! One running replica of Claviger: the real binary, as a process, under a ServiceAccount's token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
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

/// Tests let one account sign in, and one session go on, as often as a thousand people's: what they are
/// about is what that costs. The shares of one account have tests of their own. A flag overrides these.
pub(crate) const SHARES: [(&str, &str); 4] = [
    ("CLAVIGER_USER_SIGN_INS_PER_MINUTE", "1000000"),
    ("CLAVIGER_USER_SIGN_INS_BURST", "1000000"),
    ("CLAVIGER_SESSION_REFRESHES_PER_MINUTE", "1000000"),
    ("CLAVIGER_SESSION_REFRESHES_BURST", "1000000"),
];

/// For a replica to be ready: about a second on an idle machine.
const READY: Duration = Duration::from_mins(1);

/// Where a replica listens, with which certificate, and how it is started.
///
/// Replicas of one issuer share its host name and port and differ in their loopback address.
#[derive(Debug)]
pub struct Serving {
    name: String,
    host: &'static str,
    address: Ipv4Addr,
    port: Arc<PortLease>,
    admin_port: PortLease,
    proxy_port: PortLease,
    certificate: PathBuf,
    key: PathBuf,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    api_server: Option<String>,
}

impl Serving {
    /// Fresh loopback ports and a certificate for 127.0.0.1.
    ///
    /// # Errors
    /// When there is no free port or the certificate cannot be made.
    pub fn prepare(folder: &Path, authority: &CertificateAuthority) -> Result<Self> {
        let port = Arc::new(PortLease::take()?);
        let name = format!("replica-{}", port.port());
        let place = (name, "127.0.0.1", Ipv4Addr::LOCALHOST);
        Self::at(place, port, folder, authority)
    }

    /// So many replicas of one issuer, `https://localhost:<port>`: the first listens at 127.0.0.1, the
    /// next at 127.0.0.2, and so on.
    ///
    /// # Errors
    /// When there is no free port or a certificate cannot be made.
    pub fn replicas(
        folder: &Path,
        authority: &CertificateAuthority,
        count: u8,
    ) -> Result<Vec<Self>> {
        let port = Arc::new(PortLease::take()?);
        (1..=count)
            .map(|n| {
                let name = format!("replica-{}-{n}", port.port());
                let place = (name, "localhost", Ipv4Addr::new(127, 0, 0, n));
                Self::at(place, Arc::clone(&port), folder, authority)
            })
            .collect()
    }

    fn at(
        (name, host, address): (String, &'static str, Ipv4Addr),
        port: Arc<PortLease>,
        folder: &Path,
        authority: &CertificateAuthority,
    ) -> Result<Self> {
        let certificate = folder.join(format!("tls-{name}.crt"));
        let key = folder.join(format!("tls-{name}.key"));
        authority.server(&["localhost"], &[IpAddr::V4(address)])?.save(&certificate, &key)?;
        Ok(Self {
            name,
            host,
            address,
            port,
            admin_port: PortLease::take()?,
            proxy_port: PortLease::take()?,
            certificate,
            key,
            flags: Vec::new(),
            environment: Vec::new(),
            api_server: None,
        })
    }

    /// More flags for `claviger run`.
    #[must_use]
    pub fn with_flags(mut self, flags: &[String]) -> Self {
        self.flags.extend_from_slice(flags);
        self
    }

    /// More environment variables.
    #[must_use]
    pub fn with_environment(mut self, variables: &[(String, String)]) -> Self {
        self.environment.extend_from_slice(variables);
        self
    }

    /// Finds the API server at this URL, such as that of a [`Proxy`](crate::Proxy).
    #[must_use]
    pub fn with_api_server(mut self, url: String) -> Self {
        self.api_server = Some(url);
        self
    }

    /// Its name in the leader Lease.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Issuer URL of a replica that listens here.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.host, self.port.port())
    }

    /// The host in that URL, and where this replica of it listens.
    pub fn place(&self) -> (&'static str, SocketAddr) {
        (self.host, (self.address, self.port.port()).into())
    }

    /// Another URL of the API server than the control plane's own, if it was given one.
    pub(crate) fn api_server(&self) -> Option<&str> {
        self.api_server.as_deref()
    }

    /// URL of the admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port.port())
    }

    /// Address of the listener for trusted proxies.
    pub fn proxy_address(&self) -> SocketAddr {
        (self.address, self.proxy_port.port()).into()
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
    http: reqwest::Client,
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
            .args(["--listen", &serving.place().1.to_string()])
            .args(["--auth-proxy-listen", &serving.proxy_address().to_string()])
            .args(["--admin-listen", &format!("127.0.0.1:{}", serving.admin_port.port())])
            .args(["--identity", serving.name()])
            .args(&serving.flags)
            .envs(SHARES)
            .envs(serving.environment.iter().map(|(name, value)| (name, value)));
        if !installation.tenants().is_empty() {
            command.args(["--tenant-namespaces", &installation.tenants().join(",")]);
        }
        command.args(installation.operator_flags());
        let log = installation.folder().join(format!("claviger-{}.log", serving.name()));
        let process = Supervised::spawn("claviger", command, &log)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let mut operator = Self { process, admin_url: serving.admin_url(), http };
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

    /// What `/readyz` says now: nothing when it is ready, else what is missing.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn readiness(&self) -> Result<Option<String>> {
        let url = format!("{}/readyz", self.admin_url);
        let answer = self.http.get(&url).send().await.context("not listening")?;
        let ready = answer.status().is_success();
        let text = answer.text().await.context("/readyz broke off")?;
        Ok((!ready).then_some(text))
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the end of its log is in the error.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        eventually(READY, async || {
            if let Err(ended) = self.process.check_alive() {
                return Ok(Err(ended));
            }
            let missing = self.readiness().await?;
            ensure!(missing.is_none(), "not ready: {}", missing.unwrap_or_default());
            Ok(Ok(()))
        })
        .await
        .with_context(|| self.process.log_tail())?
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

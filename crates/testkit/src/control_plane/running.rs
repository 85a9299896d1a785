//! A control plane of one's own: its processes, and what can be done to them.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::Client;
use rustix::process::Signal;
use tokio::net::TcpStream;

use super::ControlPlane;
use super::builder::{Authentication, Ports, api_server_flags, etcd_flags};
use super::state::{self, StateFolder};
use crate::eventually;
use crate::ports::PortLease;
use crate::process::{Supervised, tied};

/// Ready takes 3 to 4 s on an idle machine; a loaded one may take ten times that.
const START: Duration = Duration::from_mins(1);

const ETCD: &str = "etcd";
const API_SERVER: &str = "kube-apiserver";

/// A control plane of one's own; everything a [`ControlPlane`] can do, and faults besides. Dropping it kills
/// the API server, then etcd, and removes the scratch folder.
#[derive(Debug)]
pub struct RunningControlPlane {
    handle: ControlPlane,
    // Dropped in this order.
    api_server: Part,
    etcd: Part,
    ports: Ports,
    extra_flags: Vec<String>,
    _leases: [PortLease; 3],
    state: StateFolder,
}

/// A program that can be stopped and started again with the same flags.
#[derive(Debug)]
struct Part {
    name: String,
    program: PathBuf,
    flags: Vec<OsString>,
    state: PathBuf,
    process: Option<Supervised>,
}

/// One more API server of a control plane of one's own. Dropping it kills it.
pub struct AnotherApiServer {
    part: Part,
    url: String,
    client: Client,
    _lease: PortLease,
}

impl AnotherApiServer {
    /// `https://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of it as the admin.
    pub fn admin(&self) -> &Client {
        &self.client
    }

    /// The file it logs to.
    pub fn log(&self) -> PathBuf {
        self.part.file("log")
    }
}

impl Deref for RunningControlPlane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.handle
    }
}

impl RunningControlPlane {
    pub(super) async fn start(
        state: StateFolder,
        bin: PathBuf,
        authentication: &Authentication,
        extra_flags: &[String],
    ) -> Result<Self> {
        let leases = [PortLease::take()?, PortLease::take()?, PortLease::take()?];
        let ports = Ports {
            api_server: leases[0].port(),
            etcd_client: leases[1].port(),
            etcd_peer: leases[2].port(),
        };
        state.furnish(ports.api_server)?;
        if let Authentication::Configuration(configuration) = authentication {
            state.write(state::AUTHENTICATION, configuration)?;
        }
        let part = |name: &str, flags| Part {
            name: name.to_owned(),
            program: bin.join(name),
            flags,
            state: state.path().to_owned(),
            process: None,
        };
        let mut plane = Self {
            api_server: part(
                API_SERVER,
                api_server_flags(&state, ports, authentication, extra_flags),
            ),
            etcd: part(ETCD, etcd_flags(&state, ports)),
            handle: ControlPlane { state: state.path().to_owned(), bin },
            ports,
            extra_flags: extra_flags.to_vec(),
            _leases: leases,
            state,
        };
        plane.start_etcd().await?;
        plane.start_api_server().await?;
        Ok(plane)
    }

    /// Kills the API server at once; its port stays ours, so clients are refused. Nothing if it is stopped.
    pub fn stop_api_server(&mut self) {
        self.api_server.stop();
    }

    /// Starts the API server (on the same port, with the same flags) and waits until it is ready.
    /// Nothing if it runs.
    pub async fn start_api_server(&mut self) -> Result<()> {
        self.api_server.start()?;
        let client = self.handle.admin().await?;
        self.api_server.wait_until_ready(&client).await
    }

    /// Starts one more API server of the same cluster, with the first one's flags as they are now, and
    /// waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; its last words are in the error.
    pub async fn start_another_api_server(&self) -> Result<AnotherApiServer> {
        let lease = PortLease::take()?;
        let name = format!("{API_SERVER}-{}", lease.port());
        let url = format!("https://127.0.0.1:{}", lease.port());
        let kubeconfig = self.state.write_admin_kubeconfig(&format!("{name}.kubeconfig"), &url)?;
        let mut part = self.api_server.another(&name);
        // Where a flag repeats another, the last one wins.
        part.flags.push(format!("--secure-port={}", lease.port()).into());
        part.flags.push(format!("--audit-log-path={name}.audit.log").into());
        part.start()?;
        let client = crate::identity::client_from_file(&kubeconfig).await?;
        part.wait_until_ready(&client).await?;
        Ok(AnotherApiServer { part, url, client, _lease: lease })
    }

    /// Stops and starts the API server. Watches end, memory is gone, what is stored stays.
    pub async fn restart_api_server(&mut self) -> Result<()> {
        self.stop_api_server();
        self.start_api_server().await
    }

    /// The same with another JWT authentication.
    pub async fn restart_api_server_with(&mut self, authentication: &Authentication) -> Result<()> {
        self.stop_api_server();
        if let Authentication::Configuration(configuration) = authentication {
            self.state.write(state::AUTHENTICATION, configuration)?;
        }
        self.api_server.flags =
            api_server_flags(&self.state, self.ports, authentication, &self.extra_flags);
        self.start_api_server().await
    }

    /// Freezes the API server: connections are accepted by the kernel, but nothing is answered.
    pub fn freeze_api_server(&self) -> Result<()> {
        self.api_server.signal(Signal::STOP)
    }

    /// Ends [`freeze_api_server`](Self::freeze_api_server): what was asked meanwhile is answered.
    pub fn thaw_api_server(&self) -> Result<()> {
        self.api_server.signal(Signal::CONT)
    }

    /// Kills etcd at once: the API server answers from its caches or fails. Nothing if it is stopped.
    pub fn stop_etcd(&mut self) {
        self.etcd.stop();
    }

    /// Starts etcd with what it held, and waits until it accepts connections; the API server reconnects by
    /// itself, within seconds. Nothing if it runs.
    pub async fn start_etcd(&mut self) -> Result<()> {
        self.etcd.start()?;
        let address = (Ipv4Addr::LOCALHOST, self.ports.etcd_client);
        eventually(START, async || {
            if let Err(ended) = self.etcd.check_alive() {
                return Ok(Err(ended));
            }
            TcpStream::connect(address).await.context("etcd does not listen")?;
            Ok(Ok(()))
        })
        .await
        .with_context(|| self.etcd.describe())?
    }

    /// Stops and starts etcd.
    pub async fn restart_etcd(&mut self) -> Result<()> {
        self.stop_etcd();
        self.start_etcd().await
    }

    /// The port etcd listens on, for plain HTTP from this machine.
    pub fn etcd_port(&self) -> u16 {
        self.ports.etcd_client
    }

    /// Where etcd listens: for what would take the API server too long.
    pub fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.etcd_client)
    }

    /// The process ids (and process groups) of what runs: API server, etcd.
    pub fn process_ids(&self) -> Vec<u32> {
        let processes = [&self.api_server.process, &self.etcd.process];
        processes.into_iter().flatten().map(Supervised::id).collect()
    }
}

impl Part {
    /// The same program with the same flags, not running yet.
    fn another(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            program: self.program.clone(),
            flags: self.flags.clone(),
            state: self.state.clone(),
            process: None,
        }
    }

    /// Waits until this API server says that it is ready.
    async fn wait_until_ready(&mut self, client: &Client) -> Result<()> {
        eventually(START, async || {
            // One that has ended will not become ready: no use in waiting.
            if let Err(ended) = self.check_alive() {
                return Ok(Err(ended));
            }
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let answer = client.request_text(request).await.context("/readyz did not say ok")?;
            ensure!(answer == "ok", "/readyz says {answer}");
            Ok(Ok(()))
        })
        .await
        .with_context(|| self.describe())?
    }

    fn start(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = tied(&self.program);
        command.args(&self.flags).current_dir(&self.state);
        let process = Supervised::spawn(&self.name, command, &self.file("log"))?;
        std::fs::write(self.file("pid"), process.id().to_string())
            .with_context(|| format!("failed to write {}", self.file("pid").display()))?;
        self.process = Some(process);
        Ok(())
    }

    fn stop(&mut self) {
        if self.process.take().is_some() {
            // It only tells people and scripts what runs.
            let _ = std::fs::remove_file(self.file("pid"));
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.running()?.signal(signal)
    }

    fn check_alive(&mut self) -> Result<()> {
        let name = &self.name;
        self.process.as_mut().with_context(|| format!("{name} is stopped"))?.check_alive()
    }

    fn running(&self) -> Result<&Supervised> {
        self.process.as_ref().with_context(|| format!("{} is stopped", self.name))
    }

    fn describe(&self) -> String {
        let tail = self.running().map(Supervised::log_tail).unwrap_or_default();
        format!("{} did not become ready; its log ends with:\n{tail}", self.name)
    }

    fn file(&self, extension: &str) -> PathBuf {
        Path::new(&self.state).join(format!("{}.{extension}", self.name))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.stop();
    }
}

//! A real Kubernetes control plane on loopback: etcd and kube-apiserver, nothing else.
//!
//! - RBAC decides; the admin's certificate is in `system:masters`; everybody else has what they are given.
//! - Every request is in the audit log (level Metadata, one line per stage but `RequestReceived`). The log
//!   blocks: the line is written before the request is answered in full. See [`crate::audit`].
//! - There is no controller-manager: namespaces get no default `ServiceAccount` and never finish terminating,
//!   nothing is garbage collected, aggregated `ClusterRoles` (`view`, `edit`, `admin`) stay empty, no Deployment
//!   makes a pod. `ServiceAccount` *admission* is off for that reason; `TokenRequest` and tokens work.
//! - Admission otherwise is the API server's default, `ValidatingAdmissionPolicy` included. A new policy or
//!   CRD takes a moment to be in force: use [`eventually`](crate::eventually).
//!
//! # JWT authentication
//! Either an `AuthenticationConfiguration` file ([`Authentication::Configuration`], the default, with no
//! issuer in it) or the older `--oidc-*` flags ([`Authentication::LegacyOidc`]); the API server refuses both.
//! The file may be swapped while the API server runs ([`ControlPlane::set_authentication_config`]). The API
//! server notices at once (inotify; it also looks once a minute), but it takes the new file only when
//! **every** issuer in it has answered discovery: it asks at once, when no answer can be there yet, and then
//! every 10 s for up to a minute. So a swap that names an issuer takes 10 s, and one dead issuer keeps the
//! whole file out. At *start* it does not wait: issuers are asked then and every 10 s until they answer. The
//! quick way to a new issuer is [`RunningControlPlane::restart_api_server`], 3 to 4 s, once the issuer is up.

mod authentication;
mod binaries;
mod builder;
mod running;
mod state;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use kube::Client;

use crate::audit::AuditLog;
use crate::pki::CertificateAuthority;

pub use binaries::BINARIES_ENV;
pub use builder::{Authentication, ControlPlaneBuilder};
pub use running::{AnotherApiServer, RunningControlPlane};

/// Names the state folder of a running control plane; set by `with-control-plane` for what runs below it.
pub const STATE_ENV: &str = "CLAVIGER_CONTROL_PLANE_DIR";

/// A handle on a control plane that runs, ours or somebody else's. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    state: PathBuf,
    bin: PathBuf,
}

impl ControlPlane {
    /// The control plane that `with-control-plane` started for this process. Other tests use it as well.
    ///
    /// # Errors
    /// This process does not run below `with-control-plane`.
    pub fn from_env() -> Result<Self> {
        let folder = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).with_context(|| {
                format!("{name} is not set: run this below `with-control-plane -- COMMAND`")
            })
        };
        Ok(Self { state: folder(STATE_ENV)?, bin: folder(BINARIES_ENV)? })
    }

    /// For a control plane of one's own: tests that stop, slow or reconfigure it.
    pub fn builder() -> ControlPlaneBuilder {
        ControlPlaneBuilder::default()
    }

    /// Starts a control plane of one's own and waits until it is ready, 3 to 4 s.
    ///
    /// # Errors
    /// The programs cannot be built, or one of them ends; its last words are in the error.
    pub async fn start(builder: ControlPlaneBuilder) -> Result<RunningControlPlane> {
        builder.start().await
    }

    /// Where it lives: `ca.crt`, `ca.key`, `kubeconfig`, `audit.log`, `authentication.yaml`, `etcd.log`,
    /// `kube-apiserver.log`, `*.pid`, `url` and what the API server needs.
    pub fn state_folder(&self) -> &Path {
        &self.state
    }

    /// Where etcd, kube-apiserver, kubectl and helm are.
    pub fn bin_folder(&self) -> &Path {
        &self.bin
    }

    /// The admin's kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join(state::KUBECONFIG)
    }

    /// The PEM file of the authority that signed the API server's certificate and signs client certificates.
    pub fn ca_file(&self) -> PathBuf {
        self.state.join(state::CA_CERTIFICATE)
    }

    /// `https://127.0.0.1:<port>`.
    pub fn url(&self) -> Result<String> {
        let path = self.state.join(state::URL);
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    /// The authority that the API server trusts for client certificates.
    pub fn certificate_authority(&self) -> Result<CertificateAuthority> {
        state::load_authority(&self.state)
    }

    /// A client as the admin (`system:masters`: RBAC does not apply).
    pub async fn admin(&self) -> Result<Client> {
        crate::identity::client_from_file(&self.kubeconfig()).await
    }

    /// What was asked of the API server, and by whom.
    pub fn audit_log(&self) -> AuditLog {
        AuditLog::at(self.state.join(state::AUDIT_LOG))
    }

    /// `kubectl` as the admin; add `--kubeconfig` for anybody else.
    pub fn kubectl(&self) -> Command {
        self.command("kubectl")
    }

    /// `helm` as the admin, with its caches and settings in the state folder.
    pub fn helm(&self) -> Command {
        let mut helm = self.command("helm");
        for (name, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            helm.env(name, self.state.join("helm").join(folder));
        }
        helm
    }

    /// Another program that finds `kubectl` as the admin's, such as a shell.
    pub fn with_kubectl(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::iter::once(self.bin.clone()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(found).unwrap_or(path));
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }
}

//! What a control plane of one's own can be told, and the flags that come of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::running::RunningControlPlane;
use super::state::{self, StateFolder};
use super::{authentication, binaries};

/// How the API server reads JWTs of issuers other than itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// `--authentication-config`: the text of an `AuthenticationConfiguration`, which can be swapped later.
    Configuration(String),
    /// The older flags, each as the API server takes it (`--oidc-issuer-url=…`, `--oidc-client-id=…`, …).
    LegacyOidc(Vec<String>),
}

impl Default for Authentication {
    /// A file without any issuer.
    fn default() -> Self {
        Self::Configuration(authentication::NO_ISSUER.to_owned())
    }
}

/// Options of a control plane of one's own; [`start`](Self::start) makes it.
#[derive(Debug, Clone, Default)]
pub struct ControlPlaneBuilder {
    authentication: Authentication,
    api_server_flags: Vec<String>,
    state_folder: Option<PathBuf>,
}

impl ControlPlaneBuilder {
    /// JWT authentication; by default a configuration file without any issuer.
    #[must_use]
    pub fn authentication(mut self, authentication: Authentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// One more flag for kube-apiserver, such as `--feature-gates=…`; where it repeats one of ours, it wins.
    #[must_use]
    pub fn api_server_flag(mut self, flag: impl Into<String>) -> Self {
        self.api_server_flags.push(flag.into());
        self
    }

    /// Where it lives; what a former one left there is replaced. The folder stays at the end. By default a
    /// scratch folder, which does not.
    #[must_use]
    pub fn state_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state_folder = Some(folder.into());
        self
    }

    /// Starts it and waits until it is ready, 3 to 4 s.
    ///
    /// # Errors
    /// The programs cannot be built, or one of them ends; its last words are in the error.
    pub async fn start(self) -> Result<RunningControlPlane> {
        let bin = binaries::find().await?;
        let state = StateFolder::create(self.state_folder.as_deref())?;
        RunningControlPlane::start(state, bin, &self.authentication, &self.api_server_flags).await
    }
}

/// Where the three listeners are.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub api_server: u16,
    pub etcd_client: u16,
    pub etcd_peer: u16,
}

/// etcd without fsync: what it holds is thrown away in the end.
pub fn etcd_flags(state: &StateFolder, ports: Ports) -> Vec<OsString> {
    let client = format!("http://127.0.0.1:{}", ports.etcd_client);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    let mut flags = vec![flag("--data-dir", &state.file(state::ETCD_DATA))];
    flags.extend(
        [
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ]
        .map(OsString::from),
    );
    flags
}

/// The API server's flags, the extra ones last.
pub fn api_server_flags(
    state: &StateFolder,
    ports: Ports,
    authentication: &Authentication,
    extra: &[String],
) -> Vec<OsString> {
    let mut flags: Vec<OsString> = [
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd_client),
        format!("--secure-port={}", ports.api_server),
        format!("--service-cluster-ip-range={}", state::SERVICE_RANGE),
        "--bind-address=127.0.0.1".to_owned(),
        // It would refuse to publish a loopback address as the service's endpoint.
        "--endpoint-reconciler-type=none".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // Nobody makes the default accounts that it asks for.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--audit-log-mode=blocking".to_owned(),
        // Never begun anew (it would be at 100 MB): a mark is a place in this very file.
        "--audit-log-maxsize=0".to_owned(),
        "--profiling=false".to_owned(),
    ]
    .map(OsString::from)
    .to_vec();
    flags.extend(
        [
            ("--tls-cert-file", state::SERVER_CERTIFICATE),
            ("--tls-private-key-file", state::SERVER_KEY),
            ("--client-ca-file", state::CA_CERTIFICATE),
            ("--service-account-signing-key-file", state::SERVICE_ACCOUNT_KEY),
            ("--service-account-key-file", state::SERVICE_ACCOUNT_PUBLIC_KEY),
            ("--audit-policy-file", state::AUDIT_POLICY),
            ("--audit-log-path", state::AUDIT_LOG),
        ]
        .map(|(name, file)| flag(name, &state.file(file))),
    );
    match authentication {
        Authentication::Configuration(_) => {
            flags.push(flag("--authentication-config", &state.file(state::AUTHENTICATION)));
        }
        Authentication::LegacyOidc(oidc) => flags.extend(oidc.iter().map(OsString::from)),
    }
    flags.extend(extra.iter().map(OsString::from));
    flags
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(path);
    flag
}

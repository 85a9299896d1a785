//! What a run stands on: a control plane and replicas of the release binary, as the chart would run them.
//!
//! The API server writes no audit log: blocking, as the tests need it, it would be the slowest part of every write.
//! etcd does not fsync, as in the tests: both sides of every ratio are spared the same disk.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use http::{Request, StatusCode};
use kube::Client as KubeClient;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::ceiling::Store;
use super::connection::Target;
use super::counters::Counters;
use super::operations::{GROUP, Site};
use super::processes::Observed;
use super::report::{API_SERVER, CLAVIGER, DRIVER, ETCD};
use crate::pki::CertifiedKey;
use crate::process::{Supervised, tied};
use crate::scene::Manifests;
use crate::{ControlPlane, Installation, PortLease, RunningControlPlane, operator};

const CONNECTOR: &str = "proxy";
const CLIENT: &str = "kubernetes";
const PROXY_NAME: &str = "proxy.example.com";
/// A replica that needs longer than this has another problem.
const START: Duration = Duration::from_mins(1);
/// As the chart has it.
const MEMORY: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
];
/// How finely the time to ready is told.
const POLL: Duration = Duration::from_millis(5);

/// A control plane, an installation in it, and what the driver needs to know of both.
pub struct Stage {
    plane: RunningControlPlane,
    installation: Installation,
    admin: KubeClient,
    ports: Ports,
    proxy_identity: CertifiedKey,
}

/// The first replica's listeners, which outlive its restarts: its issuer's URL names one of them.
struct Ports {
    issuer: PortLease,
    proxy: PortLease,
}

/// A running replica. Dropping it kills it.
pub struct Replica {
    process: Supervised,
    _admin: PortLease,
    /// From the start of the process to the first `ok` of `/readyz`.
    pub ready_after: Duration,
}

impl Replica {
    /// The process, to be observed.
    pub fn observed(&self) -> Observed {
        Observed { name: CLAVIGER, pid: self.process.id() }
    }
}

impl Stage {
    /// Starts the control plane and applies the quickstart with an `authProxy` connector.
    ///
    /// # Errors
    /// With what is not as it should be.
    pub async fn set_up() -> Result<Self> {
        let builder = ControlPlane::builder()
            .api_server_flag("--audit-log-path=")
            .api_server_flag("--audit-policy-file=")
            // Its heap can be collected on demand, so that what a Session costs can be told exactly.
            .api_server_flag("--profiling=true");
        let plane = ControlPlane::start(builder).await?;
        let installation = Installation::create(&plane).await?;
        let proxy_identity = installation.authority().client_named(&[PROXY_NAME])?;
        let stage = Self {
            admin: plane.admin().await?,
            ports: Ports { issuer: PortLease::take()?, proxy: PortLease::take()? },
            plane,
            installation,
            proxy_identity,
        };
        stage.installation.apply(&stage.manifests()?.to_json())?;
        Ok(stage)
    }

    fn manifests(&self) -> Result<Manifests> {
        let mut manifests = Manifests::of_example("quickstart")?;
        manifests.remove("ldap");
        let issuer = &mut manifests.find("OIDCIssuer", "main")?["spec"];
        issuer["url"] = self.issuer().into();
        issuer["connectors"] = json!([{"name": CONNECTOR}, {"name": "local"}]);
        manifests.push(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": CONNECTOR, "labels": {"claviger.dev/secret": "connector"}},
            "stringData": {"ca.crt": self.installation.authority().certificate_pem()},
        }));
        manifests.push(json!({
            "apiVersion": "claviger.dev/v1alpha1",
            "kind": "Connector",
            "metadata": {"name": CONNECTOR},
            "spec": {
                "displayName": "Proxy",
                "groupPrefix": "proxy:",
                "allowedGroups": [GROUP],
                "emailDomains": ["example.com"],
                "offlineSessionSeconds": 604_800,
                "upstream": {"authProxy": {
                    "clientCASecretRef": {"name": CONNECTOR, "key": "ca.crt"},
                    "allowedClientNames": [PROXY_NAME],
                    "headers": {
                        "user": "X-Remote-User",
                        "email": "X-Remote-User-Email",
                        "groups": "X-Remote-Group",
                    },
                }},
            },
        }));
        Ok(manifests)
    }

    /// The issuer identifier.
    pub fn issuer(&self) -> String {
        format!("https://{}", self.host())
    }

    /// The control plane's processes and this one.
    pub fn observed(&self) -> Vec<Observed> {
        let names = [API_SERVER, ETCD];
        let processes = names.into_iter().zip(self.plane.process_ids());
        let mut observed: Vec<_> = processes.map(|(name, pid)| Observed { name, pid }).collect();
        observed.push(Observed { name: DRIVER, pid: std::process::id() });
        observed
    }

    /// The installation.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The replica that is measured: TLS, as it ships, with a listener for the trusted proxy.
    ///
    /// # Errors
    /// With the end of its log when it does not become ready.
    pub async fn start_replica(&self) -> Result<Replica> {
        let file = |extension| self.installation.folder().join(format!("tls.{extension}"));
        let (certificate, key) = (file("crt"), file("key"));
        self.installation.authority().server(&[], &[])?.save(&certificate, &key)?;
        let arguments = [
            format!("--tls-cert-file={}", certificate.display()),
            format!("--tls-key-file={}", key.display()),
            format!("--listen=127.0.0.1:{}", self.ports.issuer.port()),
            format!("--auth-proxy-listen=127.0.0.1:{}", self.ports.proxy.port()),
        ];
        self.start("replica-0", &arguments).await
    }

    /// One more replica, for plain HTTP, as behind something that ends TLS; and where it listens.
    ///
    /// # Errors
    /// With the end of its log when it does not become ready.
    pub async fn start_plain_replica(&self, name: &str) -> Result<(Replica, PortLease)> {
        let lease = PortLease::take()?;
        let listen = format!("--listen=127.0.0.1:{}", lease.port());
        Ok((self.start(name, &["--insecure-http".to_owned(), listen]).await?, lease))
    }

    async fn start(&self, name: &str, arguments: &[String]) -> Result<Replica> {
        let binary = operator::binary()?;
        let namespace = self.installation.namespace();
        let kubeconfig = self.plane.service_account_kubeconfig(namespace, "claviger").await?;
        let admin = PortLease::take()?;
        let mut command = tied(binary);
        command.args(["run", "--namespace", namespace, "--identity", name]);
        command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
        command.arg(format!("--admin-listen=127.0.0.1:{}", admin.port()));
        // How fast it is, not how much it lets through.
        command.arg("--session-writes-per-second=1000000").envs(operator::SHARES);
        command.envs(MEMORY);
        let log = self.installation.folder().join(format!("{name}.log"));
        let started = Instant::now();
        let mut process = Supervised::spawn(CLAVIGER, command, &log)?;
        let target = Target::plain(admin.port());
        while !is_ready(&target).await {
            process.check_alive()?;
            ensure!(started.elapsed() < START, "{name} is not ready: {}", process.log_tail());
            sleep(POLL).await;
        }
        Ok(Replica { process, _admin: admin, ready_after: started.elapsed() })
    }

    /// The issuer and its client, for the driver.
    ///
    /// # Errors
    /// When the client does not become ready or has no secret.
    pub async fn site(&self) -> Result<Site> {
        self.installation.wait_for("oauth2client/kubernetes", "Ready").await?;
        let path = "jsonpath={.data.client_secret}";
        let encoded =
            self.installation.kubectl(&["get", "secret", "kubernetes-client", "-o", path])?;
        let authority = self.installation.authority().certificate_pem();
        let proxy = Target::tls(self.ports.proxy.port(), authority, Some(&self.proxy_identity))?;
        Ok(Site {
            provider: Target::tls(self.ports.issuer.port(), authority, None)?,
            proxy: proxy.with_host(&self.host()),
            connector: CONNECTOR,
            client_id: CLIENT,
            client_secret: String::from_utf8(BASE64.decode(encoded.as_bytes())?)?,
        })
    }

    /// The plain listener of another replica, asked for this issuer.
    pub fn plain_target(&self, port: u16) -> Target {
        Target::plain(port).with_host(&self.host())
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.ports.issuer.port())
    }

    /// Where Sessions are stored, asked as the operator does. The template is still empty.
    ///
    /// # Errors
    /// When there is no token.
    pub fn store(&self) -> Result<Store> {
        let create = ["create", "token", "claviger", "--duration=24h"];
        let token = self.installation.kubectl(&create)?.trim().to_owned();
        let namespace = self.installation.namespace().to_owned();
        Ok(Store { target: self.api_server(None)?, token, namespace, template: Value::Null })
    }

    /// The API server as its administrator.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn api_server_as_admin(&self) -> Result<Target> {
        let authority = self.plane.certificate_authority()?;
        self.api_server(Some(&authority.client("bench", &["system:masters"])?))
    }

    fn api_server(&self, client: Option<&CertifiedKey>) -> Result<Target> {
        let authority = read(&self.plane.ca_file())?;
        let url = self.plane.url()?;
        let port = url.rsplit(':').next().context("no port in the API server's URL")?;
        Target::tls(port.parse()?, &authority, client)
    }

    /// The API server's metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let request = Request::get("/metrics").body(Vec::new())?;
        self.admin.request_text(request).await.context("no metrics")
    }

    /// What was asked of the API server so far.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn counters(&self) -> Result<Counters> {
        Ok(Counters::parse(&self.metrics().await?))
    }

    /// Has the API server collect its garbage, so that its heap is what it needs.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn collect_garbage(&self) -> Result<()> {
        let mut connection = self.api_server_as_admin()?.open().await?;
        connection.get("/debug/pprof/heap?gc=1", &[]).await?.expect(StatusCode::OK).map(drop)
    }

    /// Bytes of the value that etcd holds for the Session of this name.
    ///
    /// # Errors
    /// When etcd does not answer or holds none.
    pub async fn bytes_in_etcd(&self, session: &str) -> Result<usize> {
        let namespace = self.installation.namespace();
        let key = format!("/registry/claviger.dev/sessions/{namespace}/{session}");
        let body = json!({"key": BASE64.encode(key.as_bytes())}).to_string();
        let mut connection = Target::plain(self.plane.etcd_port()).open().await?;
        let answer = connection.send(http::Method::POST, "/v3/kv/range", &[], body).await?;
        let answer = answer.expect(StatusCode::OK)?.json()?;
        let value = answer["kvs"][0]["value"].as_str().context("etcd holds no such Session")?;
        Ok(BASE64.decode(value.as_bytes())?.len())
    }
}

async fn is_ready(target: &Target) -> bool {
    let Ok(mut connection) = target.open().await else { return false };
    connection.get("/readyz", &[]).await.is_ok_and(|answer| answer.status == StatusCode::OK)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installation::repository;

    #[test]
    fn memory_is_allotted_as_the_chart_has_it() {
        let deployed = std::fs::read_to_string(repository().join("deploy/claviger.yaml")).unwrap();
        let lines: Vec<_> = deployed.lines().map(str::trim).collect();
        for (name, value) in MEMORY {
            let at = lines.iter().position(|line| *line == format!("- name: {name}"));
            assert_eq!(at.map(|at| lines[at + 1]), Some(&*format!("value: \"{value}\"")), "{name}");
        }
    }
}

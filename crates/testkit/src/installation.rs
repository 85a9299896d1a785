//! Claviger in a namespace of its own, as the chart installs it: the definitions of its resources, and the operator run as a
//! process under exactly the ServiceAccount and roles the chart makes. So RBAC is proven by every test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::Client;
use tokio::time::sleep;

use crate::control_plane::ControlPlane;
use crate::identity::TestNamespace;
use crate::operator::{Operator, Serving};
use crate::pki::CertificateAuthority;
use crate::{AuditMark, eventually};

/// For a condition to come true: about a second on an idle machine.
const SETTLED: Duration = Duration::from_mins(1);
/// An operator that has asked nothing for this long has nothing on its way: it looks at a change within 20 ms, and posts
/// the Events of a status right after it.
const REST: Duration = Duration::from_millis(500);
/// Name of the ServiceAccount that the chart makes for a release called `claviger`.
const ACCOUNT: &str = "claviger";

/// One installation: a home namespace with everything of the chart but the pods.
#[derive(Debug)]
pub struct Installation {
    plane: ControlPlane,
    namespace: String,
    tenants: Vec<String>,
    registrations: Option<String>,
    authority: CertificateAuthority,
    folder: tempfile::TempDir,
    operator_flags: Vec<String>,
}

impl Installation {
    /// Installs the definitions of its resources and the chart's roles into a fresh namespace.
    ///
    /// # Errors
    /// When helm or the API server refuses.
    pub async fn create(plane: &ControlPlane) -> Result<Self> {
        Self::with_tenants(plane, &[]).await
    }

    /// The same, where the operator may read and write Secrets in fresh namespaces of these prefixes too.
    ///
    /// # Errors
    /// When helm or the API server refuses.
    pub async fn with_tenants(plane: &ControlPlane, prefixes: &[&str]) -> Result<Self> {
        let admin = plane.admin().await?;
        let namespace = TestNamespace::create(&admin, "home").await?.name().to_owned();
        let mut tenants = Vec::new();
        for prefix in prefixes {
            tenants.push(TestNamespace::create(&admin, prefix).await?.name().to_owned());
        }
        Self::in_namespaces(plane, namespace, tenants)
    }

    /// The same in namespaces that are there already.
    ///
    /// # Errors
    /// When helm or the API server refuses.
    pub fn in_namespaces(
        plane: &ControlPlane,
        namespace: String,
        tenants: Vec<String>,
    ) -> Result<Self> {
        let installation = Self {
            plane: plane.clone(),
            namespace,
            tenants,
            registrations: None,
            authority: CertificateAuthority::create("claviger test authority")?,
            folder: tempfile::tempdir().context("failed to make a folder")?,
            operator_flags: Vec::new(),
        };
        installation.apply_custom_resource_definitions()?;
        // They name their namespaces: home and the tenants'.
        installation.server_side_apply(&[], &installation.roles()?)?;
        Ok(installation)
    }

    /// The same, where clients may register themselves into the first tenant namespace.
    ///
    /// # Errors
    /// When helm or the API server refuses.
    pub fn with_registration(mut self) -> Result<Self> {
        self.registrations = self.tenants.first().cloned();
        self.server_side_apply(&[], &self.roles()?)?;
        Ok(self)
    }

    /// Every replica started here gets these flags of `claviger run` too.
    #[must_use]
    pub fn with_operator_flags(mut self, flags: &[&str]) -> Self {
        self.operator_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self
    }

    /// The flags every replica gets.
    pub fn operator_flags(&self) -> &[String] {
        &self.operator_flags
    }

    /// The home namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The tenant namespaces, in the order their prefixes were given.
    pub fn tenants(&self) -> &[String] {
        &self.tenants
    }

    /// The control plane it is installed in.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// A folder that lives as long as the installation.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The authority behind the operator's certificates.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// The same, as a PEM file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn authority_file(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("issuer-ca.crt");
        std::fs::write(&path, self.authority.certificate_pem())
            .context("failed to write the CA")?;
        Ok(path)
    }

    /// The name of the operator in the audit log.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{ACCOUNT}", self.namespace)
    }

    /// A client as the admin.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn admin(&self) -> Result<Client> {
        self.plane.admin().await
    }

    /// Requests the operator made since `mark`, leases aside: `create sessions` and how often.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub fn requests_since(&self, mark: AuditMark) -> Result<Vec<(String, usize)>> {
        let counts = self.plane.audit_log().counts_since(mark, &self.user())?;
        Ok(counts.into_iter().filter(|(what, _)| !what.ends_with(" leases")).collect())
    }

    /// Applies manifests (YAML documents) in home, by server-side apply.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.apply_in(&self.namespace, manifests)
    }

    /// Applies manifests in a namespace.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn apply_in(&self, namespace: &str, manifests: &str) -> Result<()> {
        self.server_side_apply(&["--namespace", namespace], manifests)
    }

    fn server_side_apply(&self, options: &[&str], manifests: &str) -> Result<()> {
        let mut kubectl = self.plane.kubectl();
        kubectl.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]).args(options);
        run_with_input(kubectl, manifests).map(drop)
    }

    /// Runs kubectl as the admin, in home unless the arguments say otherwise, and returns what it printed.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = self.plane.kubectl();
        kubectl.args(["-n", &self.namespace]).args(arguments);
        run_with_input(kubectl, "")
    }

    /// Starts one replica and waits until it is ready. Its issuer must be at `serving.url()`.
    ///
    /// # Errors
    /// With the end of its log when it does not become ready.
    pub async fn start_operator(&self, serving: &Serving) -> Result<Operator> {
        let plane = &self.plane;
        let kubeconfig = match serving.api_server() {
            None => plane.service_account_kubeconfig(&self.namespace, ACCOUNT).await?,
            Some(url) => plane.service_account_kubeconfig_by(url, &self.namespace, ACCOUNT).await?,
        };
        Operator::start(self, serving, &kubeconfig).await
    }

    /// Waits until a condition of an object is `True` and says so of the newest generation.
    ///
    /// # Errors
    /// With the object's conditions when it does not come true in time.
    pub async fn wait_for(&self, object: &str, condition: &str) -> Result<()> {
        self.wait_for_status(object, condition, "True").await
    }

    /// Waits until a condition of an object has this status and says so of the newest generation.
    ///
    /// # Errors
    /// With the object's conditions when it does not in time.
    pub async fn wait_for_status(&self, object: &str, condition: &str, status: &str) -> Result<()> {
        let path = format!(
            "jsonpath={{.metadata.generation}} {{range .status.conditions[?(@.type==\"{condition}\")]}}\
             {{.observedGeneration}} {{.status}}{{end}}"
        );
        eventually(SETTLED, async || {
            let now = self.kubectl(&["get", object, "-o", &path])?;
            let is_so = now.split_once(' ').is_some_and(|(generation, said)| {
                said.split_once(' ') == Some((generation, status))
            });
            if !is_so {
                let all = self.kubectl(&["get", object, "-o", "jsonpath={.status.conditions}"])?;
                bail!("{object}: {condition} is not {status} of generation {now}: {all}");
            }
            Ok(())
        })
        .await
    }

    /// Waits until every object that has conditions is `Ready` in its newest generation and the operator has asked
    /// nothing for half a second: what it had to write, Events among it, is written. Since the mark it asked nothing.
    ///
    /// # Errors
    /// With the objects that are not, or what is still asked, when that does not end in time.
    pub async fn at_rest(&self) -> Result<AuditMark> {
        let kinds = "oidcissuers,connectors,signingkeys,localusers,oauth2clients";
        let path = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation} \
                    {.status.conditions[?(@.type==\"Ready\")].observedGeneration} \
                    {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
        eventually(SETTLED, async || {
            let all = self.kubectl(&["get", kinds, "-o", path])?;
            let is_late = |line: &&str| {
                let words: Vec<&str> = line.split(' ').collect();
                !matches!(words[..], [_, now, said, "True"] if now == said)
            };
            let late: Vec<&str> = all.lines().filter(is_late).collect();
            ensure!(late.is_empty(), "not ready in their newest generation: {late:?}");
            ensure!(!all.is_empty(), "there is nothing");
            let mark = self.plane.audit_log().mark()?;
            sleep(REST).await;
            let asked = self.requests_since(mark)?;
            ensure!(asked.is_empty(), "still asking: {asked:?}");
            Ok(mark)
        })
        .await
    }

    fn apply_custom_resource_definitions(&self) -> Result<()> {
        let folder = repository().join("crds");
        let mut kubectl = self.plane.kubectl();
        kubectl.args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(&folder);
        run_with_input(kubectl, "")?;
        let mut kubectl = self.plane.kubectl();
        kubectl.args(["wait", "--for=condition=Established", "--timeout=20s", "-f"]).arg(&folder);
        run_with_input(kubectl, "").map(drop)
    }

    /// The chart's ServiceAccount and roles for this namespace.
    fn roles(&self) -> Result<String> {
        self.template(&["serviceaccount", "rbac"])
    }

    /// Applies one more template of the chart.
    ///
    /// # Errors
    /// When helm or the API server refuses.
    pub fn apply_template(&self, name: &str) -> Result<()> {
        self.server_side_apply(&[], &self.template(&[name])?)
    }

    /// These templates of the chart, for this namespace.
    fn template(&self, names: &[&str]) -> Result<String> {
        let mut helm = self.plane.helm();
        helm.args(["template", "claviger"]).arg(repository().join("charts/claviger"));
        helm.args(["--namespace", &self.namespace]);
        for (index, tenant) in self.tenants.iter().enumerate() {
            helm.args(["--set", &format!("tenantNamespaces[{index}]={tenant}")]);
        }
        if let Some(namespace) = &self.registrations {
            helm.args(["--set", &format!("registrationNamespaces={{{namespace}}}")]);
        }
        for template in names {
            helm.args(["--show-only", &format!("templates/{template}.yaml")]);
        }
        run_with_input(helm, "")
    }
}

/// The repository's top folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a command with this standard input and returns its standard output.
fn run_with_input(mut command: Command, input: &str) -> Result<String> {
    use std::io::Write;
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {what}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("failed to run {what}"))?;
    drop(writer.join());
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

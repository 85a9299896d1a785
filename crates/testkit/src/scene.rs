//! The quickstart example, running: `examples/quickstart/` applied as it stands, with only the addresses,
//! certificates and passwords of this machine put in, and one replica of the operator.
//!
//! What a reader is told to apply is what every test signs in with.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::installation::{Installation, repository};
use crate::operator::{Operator, Serving};
use crate::slapd::{ADMIN_DN, ADMIN_PASSWORD, BASE_DN, Slapd};
use crate::{ControlPlane, Login, RelyingParty, eventually};

/// Where the example's client is sent back to.
pub const REDIRECT_URI: &str = "http://localhost:8000";
/// Every scope the example's client may ask for.
pub const SCOPE: &str = "openid email profile groups offline_access";
/// The example's local user.
pub const LOCAL_USER: Login<'static> = Login {
    connector: "local",
    username: "admin@local.example.com",
    password: "change-me-before-use",
};
/// The directory's user.
pub const LDAP_USER: Login<'static> =
    Login { connector: "ldap", username: "alice", password: "wonderland" };

/// The people and groups of the example's directory.
const DIRECTORY: &str = "dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: uid=alice,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: alice
cn: Alice Liddell
sn: Liddell
mail: alice@example.com
userPassword: wonderland

dn: uid=bob,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Builder
mail: bob@example.com
userPassword: builder

dn: cn=developers,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: developers
member: uid=alice,ou=people,dc=example,dc=org
";

/// Whether a scene has a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// Local users alone.
    None,
    /// A real slapd with [`LDAP_USER`] in the group `developers`.
    Slapd,
}

/// A running installation of the example.
#[derive(Debug)]
pub struct Scene {
    installation: Installation,
    serving: Serving,
    operator: Option<Operator>,
    slapd: Option<Slapd>,
}

impl Scene {
    /// Installs the example, starts one replica and waits until the example's client is ready.
    ///
    /// # Errors
    /// With what is not as it should be.
    pub async fn start(plane: &ControlPlane, directory: Directory) -> Result<Self> {
        Self::start_in(Installation::create(plane).await?, directory, |_| {}).await
    }

    /// The same in an installation that is there already, with the example's objects changed first.
    ///
    /// # Errors
    /// With what is not as it should be.
    pub async fn start_in(
        installation: Installation,
        directory: Directory,
        change: impl FnOnce(&mut Manifests),
    ) -> Result<Self> {
        let slapd = match directory {
            Directory::None => None,
            Directory::Slapd => {
                let slapd = Slapd::start().await?;
                slapd.add(DIRECTORY)?;
                Some(slapd)
            }
        };
        let serving = Serving::prepare(installation.folder(), installation.authority())?;
        let mut manifests = Manifests::of_example("quickstart")?;
        manifests.put_in_place(&serving.url(), slapd.as_ref())?;
        change(&mut manifests);
        installation.apply(&manifests.to_json())?;
        let operator = installation.start_operator(&serving).await?;
        let scene = Self { installation, serving, operator: Some(operator), slapd };
        scene.installation.wait_for("oauth2client/kubernetes", "Ready").await?;
        Ok(scene)
    }

    /// The installation.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The directory.
    ///
    /// # Errors
    /// When the scene has none.
    pub fn slapd(&mut self) -> Result<&mut Slapd> {
        self.slapd.as_mut().context("this scene has no directory")
    }

    /// The issuer identifier.
    pub fn issuer(&self) -> String {
        self.serving.url()
    }

    /// Where the replica listens.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The replica.
    ///
    /// # Errors
    /// When it was stopped.
    pub fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().context("the operator was stopped")
    }

    /// Tells the replica to end and waits until it has, without an error.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn terminate_operator(&mut self) -> Result<()> {
        self.operator.take().context("the operator was stopped")?.terminate().await
    }

    /// Kills the replica and starts it again.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart_operator(&mut self) -> Result<()> {
        drop(self.operator.take());
        self.operator = Some(self.installation.start_operator(&self.serving).await?);
        Ok(())
    }

    /// The secret Claviger generated for the example's client.
    ///
    /// # Errors
    /// When it does not appear.
    pub async fn client_secret(&self) -> Result<String> {
        let secret = eventually(Duration::from_secs(10), async || {
            let path = "jsonpath={.data.client_secret}";
            let encoded =
                self.installation.kubectl(&["get", "secret", "kubernetes-client", "-o", path])?;
            ensure!(!encoded.is_empty(), "the Secret has no client_secret yet");
            Ok(BASE64.decode(encoded.as_bytes())?)
        })
        .await?;
        Ok(String::from_utf8(secret)?)
    }

    /// The example's client, with its secret.
    ///
    /// # Errors
    /// When metadata or secret cannot be had.
    pub async fn relying_party(&self) -> Result<RelyingParty> {
        let secret = self.client_secret().await?;
        let pem = self.installation.authority().certificate_pem();
        let client = ("kubernetes", Some(secret.as_str()));
        RelyingParty::discover(&self.issuer(), pem, client, REDIRECT_URI).await
    }
}

/// Kubernetes objects on their way to the API server.
#[derive(Debug)]
pub struct Manifests(Vec<Value>);

impl Manifests {
    /// The YAML files of an example's folder, in name order.
    ///
    /// # Errors
    /// When a file cannot be read or is not YAML.
    pub fn of_example(name: &str) -> Result<Self> {
        let folder = repository().join("examples").join(name);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .with_context(|| format!("failed to read {}", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        files.sort();
        let mut objects = Vec::new();
        for file in files {
            objects.extend(documents(&file)?);
        }
        Ok(Self(objects))
    }

    /// The object of this kind and name.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&mut self, kind: &str, name: &str) -> Result<&mut Value> {
        self.0
            .iter_mut()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
            .with_context(|| format!("no {kind} {name} among the manifests"))
    }

    /// Takes out every object of this name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|object| object["metadata"]["name"] != name);
    }

    /// Adds an object.
    pub fn push(&mut self, object: Value) {
        self.0.push(object);
    }

    /// A `List` for `kubectl apply`.
    pub fn to_json(&self) -> String {
        json!({"apiVersion": "v1", "kind": "List", "items": self.0}).to_string()
    }

    /// Puts this machine's addresses, certificates and passwords into the quickstart example.
    fn put_in_place(&mut self, issuer: &str, slapd: Option<&Slapd>) -> Result<()> {
        self.find("OIDCIssuer", "main")?["spec"]["url"] = issuer.into();
        let Some(slapd) = slapd else {
            self.find("OIDCIssuer", "main")?["spec"]["connectors"] = json!([{"name": "local"}]);
            self.remove("ldap");
            return Ok(());
        };
        let data = &mut self.find("Secret", "ldap")?["stringData"];
        data["password"] = ADMIN_PASSWORD.into();
        data["ca.crt"] = slapd.ca_pem().into();
        let ldap = &mut self.find("Connector", "ldap")?["spec"]["upstream"]["ldap"];
        ldap["urls"] = json!([slapd.ldaps_url()]);
        ldap["bind"]["dn"] = ADMIN_DN.into();
        ldap["userSearch"]["baseDN"] = format!("ou=people,{BASE_DN}").into();
        ldap["groupSearch"]["baseDN"] = format!("ou=groups,{BASE_DN}").into();
        Ok(())
    }
}

fn documents(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("failed to read {}", file.display()))?;
    serde_saphyr::from_multiple(&text).with_context(|| format!("{} is not YAML", file.display()))
}

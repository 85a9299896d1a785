//! The quickstart example, running: `examples/quickstart/` applied as it stands, with only the addresses,
//! certificates and passwords of this machine put in, and one replica of the operator, or several.
//!
//! What a reader is told to apply is what every test signs in with.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::installation::{Installation, repository};
use crate::operator::{Operator, Serving};
use crate::proxy::Proxy;
use crate::replica::Replica;
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

/// For a dead leader's lease to run out and another to take it.
const LEADER: Duration = Duration::from_mins(2);

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

/// More sessions of one user than any test makes.
const MANY_SESSIONS: u32 = 10_000;

/// Whether a scene has a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// Local users alone.
    None,
    /// A real slapd with [`LDAP_USER`] in the group `developers`.
    Slapd,
}

/// What a scene is made of: one replica without flags, unless more is said.
#[derive(Debug, Clone)]
pub struct Setup {
    directory: Directory,
    replicas: u8,
    proxied: bool,
    flags: Vec<String>,
    environment: Vec<(usize, (String, String))>,
}

impl Setup {
    /// One replica.
    pub fn new(directory: Directory) -> Self {
        Self { directory, replicas: 1, proxied: false, flags: Vec::new(), environment: Vec::new() }
    }

    /// So many replicas behind one issuer URL, each at a loopback address of its own.
    #[must_use]
    pub fn replicas(mut self, count: u8) -> Self {
        self.replicas = count;
        self
    }

    /// Each replica reaches the API server through a [`Proxy`] of its own.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Environment variables of one replica.
    #[must_use]
    pub fn environment(
        mut self,
        replica: usize,
        variables: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        self.environment.extend(variables.map(|variable| (replica, variable)));
        self
    }

    fn environment_of(&self, replica: usize) -> Vec<(String, String)> {
        let of_it = self.environment.iter().filter(|(of, _)| *of == replica);
        of_it.map(|(_, variable)| variable.clone()).collect()
    }

    /// One more flag for every replica's `claviger run`, such as `--name=value`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }
}

/// A running installation of the example.
#[derive(Debug)]
pub struct Scene {
    installation: Installation,
    replicas: Vec<Replica>,
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
        Self::start_as(installation, &Setup::new(directory), change).await
    }

    /// The same, as the setup says.
    ///
    /// # Errors
    /// With what is not as it should be.
    pub async fn start_as(
        installation: Installation,
        setup: &Setup,
        change: impl FnOnce(&mut Manifests),
    ) -> Result<Self> {
        let slapd = match setup.directory {
            Directory::None => None,
            Directory::Slapd => {
                let slapd = Slapd::start().await?;
                slapd.add(DIRECTORY)?;
                Some(slapd)
            }
        };
        let (folder, authority) = (installation.folder(), installation.authority());
        let servings = match setup.replicas {
            1 => vec![Serving::prepare(folder, authority)?],
            count => Serving::replicas(folder, authority, count)?,
        };
        let mut manifests = Manifests::of_example("quickstart")?;
        manifests.put_in_place(&servings[0].url(), slapd.as_ref())?;
        // One user signs in here as often as a whole company elsewhere.
        manifests.find("OIDCIssuer", "main")?["spec"]["sessionLimits"] =
            json!({"perUser": MANY_SESSIONS});
        change(&mut manifests);
        installation.apply(&manifests.to_json())?;
        let mut replicas = Vec::new();
        for (n, serving) in servings.into_iter().enumerate() {
            let serving = serving.with_environment(&setup.environment_of(n));
            let proxy =
                if setup.proxied { Some(Proxy::start(installation.plane()).await?) } else { None };
            let mut replica = Replica::prepare(serving.with_flags(&setup.flags), proxy);
            replica.start(&installation).await?;
            replicas.push(replica);
        }
        let scene = Self { installation, replicas, slapd };
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
        self.serving().url()
    }

    /// Where the (first) replica listens.
    pub fn serving(&self) -> &Serving {
        self.replicas[0].serving()
    }

    /// The (first) replica's process.
    ///
    /// # Errors
    /// When it was stopped.
    pub fn operator(&self) -> Result<&Operator> {
        self.replicas[0].operator()
    }

    /// All replicas.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// One replica, to be stopped; [`start_replica`](Self::start_replica) starts it again.
    pub fn replica(&mut self, n: usize) -> &mut Replica {
        &mut self.replicas[n]
    }

    /// Starts a replica again and waits until it is ready. Nothing if it runs.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_replica(&mut self, n: usize) -> Result<()> {
        self.replicas[n].start(&self.installation).await
    }

    /// Which replica holds the leader Lease; waits until one does.
    ///
    /// # Errors
    /// When none of them comes to hold it.
    pub async fn leader(&self) -> Result<usize> {
        let holder = ["get", "lease", "claviger-leader", "-o", "jsonpath={.spec.holderIdentity}"];
        eventually(LEADER, async || {
            let holder = self.installation.kubectl(&holder)?;
            let leads = |replica: &Replica| {
                replica.operator().is_ok() && replica.serving().name() == holder
            };
            let leader = self.replicas.iter().position(leads);
            leader.with_context(|| format!("the lease is held by {holder:?}"))
        })
        .await
    }

    /// Tells the (first) replica to end and waits until it has, without an error.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn terminate_operator(&mut self) -> Result<()> {
        self.replicas[0].terminate().await
    }

    /// Kills the (first) replica and starts it again.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart_operator(&mut self) -> Result<()> {
        self.replicas[0].kill();
        self.start_replica(0).await
    }

    /// The secret Claviger generated for the example's client.
    ///
    /// # Errors
    /// When it does not appear.
    pub async fn client_secret(&self) -> Result<String> {
        self.generated_secret("kubernetes-client").await
    }

    /// The client secret that Claviger generated into the Secret of this name.
    ///
    /// # Errors
    /// When it does not appear.
    pub async fn generated_secret(&self, name: &str) -> Result<String> {
        let secret = eventually(Duration::from_secs(10), async || {
            let path = "jsonpath={.data.client_secret}";
            let encoded = self.installation.kubectl(&["get", "secret", name, "-o", path])?;
            ensure!(!encoded.is_empty(), "the Secret has no client_secret yet");
            Ok(BASE64.decode(encoded.as_bytes())?)
        })
        .await?;
        Ok(String::from_utf8(secret)?)
    }

    /// The example's client, with its secret, speaking to the (first) replica.
    ///
    /// # Errors
    /// When metadata or secret cannot be had.
    pub async fn relying_party(&self) -> Result<RelyingParty> {
        let secret = self.client_secret().await?;
        let peer = self.replicas[0].peer(&self.installation);
        let client = ("kubernetes", Some(secret.as_str()));
        RelyingParty::discover(&self.issuer(), peer, client, REDIRECT_URI).await
    }

    /// The same client at each replica, in their order.
    ///
    /// # Errors
    /// When metadata or secret cannot be had from the first.
    pub async fn relying_parties(&self) -> Result<Vec<RelyingParty>> {
        let party = self.relying_party().await?;
        self.replicas.iter().map(|replica| party.at(replica.peer(&self.installation))).collect()
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

    /// Adds all of these.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
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

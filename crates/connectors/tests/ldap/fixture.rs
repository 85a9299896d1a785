//! A directory with people and groups, connectors that point at it, and what its log says.

use claviger_connectors::{Probe, Resolved, Upstream, build};
use claviger_domain::connector::{
    Authenticated, ConnectorData, Login, LoginError, PasswordLogin, Recheck, RecheckError, Refresh,
};
use claviger_domain::identity::Identity;
use claviger_testkit::Slapd;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const READER_DN: &str = "cn=reader,ou=services,dc=example,dc=org";
pub const READER_PASSWORD: &str = "reader-password";
/// Everybody's.
pub const PASSWORD: &str = "correct horse";

const ENTRIES: &str = r"dn: ou=services,dc=example,dc=org
objectClass: organizationalUnit
ou: services

dn: cn=reader,ou=services,dc=example,dc=org
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: reader-password

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups
";

/// A running directory with the entries above and what a test adds.
pub async fn directory() -> Slapd {
    let slapd = Slapd::start().await.unwrap();
    slapd.add(ENTRIES).unwrap();
    slapd
}

/// An `inetOrgPerson`; `more` are further lines of LDIF.
pub fn person(uid: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!("{}\n", more.trim_end()) };
    format!(
        "dn: {}\nobjectClass: inetOrgPerson\ncn: Name of {uid}\nsn: {uid}\nuid: {uid}\n\
         mail: {uid}@example.org\nemployeeType: staff\nuserPassword: {PASSWORD}\n{more}",
        person_dn(uid)
    )
}

pub fn person_dn(uid: &str) -> String {
    format!("uid={uid},ou=people,dc=example,dc=org")
}

/// A `groupOfNames`.
pub fn group(name: &str, members: &[String]) -> String {
    let members = members.join("\nmember: ");
    format!("dn: {}\nobjectClass: groupOfNames\ncn: {name}\nmember: {members}\n", group_dn(name))
}

pub fn group_dn(name: &str) -> String {
    format!("cn={name},ou=groups,dc=example,dc=org")
}

/// `spec` of a Connector over LDAPS, for a test to change.
pub fn connector(slapd: &Slapd) -> Value {
    json!({
        "displayName": "Directory",
        "recheckIntervalSeconds": 300,
        "upstream": { "ldap": {
            "urls": [slapd.ldaps_url()],
            "tls": { "caSecretRef": { "name": "directory", "key": "ca.crt" } },
            "bind": { "dn": READER_DN, "passwordSecretRef": { "name": "directory", "key": "password" } },
            "userSearch": {
                "baseDN": "ou=people,dc=example,dc=org",
                "filter": "(employeeType=staff)",
                "usernameAttributes": ["uid", "mail"],
                "idAttribute": "entryUUID",
                "nameAttribute": "cn",
                "preferredUsernameAttribute": "uid",
            },
            "timeouts": { "connectSeconds": 5, "operationSeconds": 5 },
        }},
    })
}

/// The same over plain LDAP, which the log of slapd and the eye can read.
pub fn plain_connector(slapd: &Slapd) -> Value {
    let mut spec = connector(slapd);
    let ldap = ldap(&mut spec);
    ldap["urls"] = json!([slapd.ldap_url()]);
    ldap["tls"] = json!({ "mode": "Plaintext" });
    spec
}

/// `upstream.ldap` of a spec.
pub fn ldap(spec: &mut Value) -> &mut Value {
    &mut spec["upstream"]["ldap"]
}

/// What the controller would have read.
pub fn resolved(slapd: &Slapd) -> Resolved {
    let mut resolved = Resolved::default();
    resolved.insert("directory", "ca.crt", slapd.ca_pem().as_bytes().to_vec());
    resolved.insert("directory", "password", READER_PASSWORD.as_bytes().to_vec());
    resolved
}

/// A connector in service.
#[derive(Clone)]
pub struct Service {
    login: Arc<dyn PasswordLogin>,
    recheck: Arc<dyn Recheck>,
    probe: Arc<dyn Probe>,
}

impl Service {
    pub fn new(spec: &Value, resolved: &Resolved) -> Self {
        let spec = serde_json::from_value(spec.clone()).unwrap();
        let Upstream { login, refresh, probe, .. } = build("directory", &spec, resolved).unwrap();
        let Login::Password(login) = login else { panic!("{login:?}") };
        let Refresh::Upstream { recheck, interval_seconds: 300 } = refresh else {
            panic!("{refresh:?}")
        };
        Self { login, recheck, probe: probe.unwrap() }
    }

    pub fn of(spec: &Value, slapd: &Slapd) -> Self {
        Self::new(spec, &resolved(slapd))
    }

    pub async fn login(&self, name: &str, password: &str) -> Result<Authenticated, LoginError> {
        self.login.authenticate(name, &SecretString::from(password)).await
    }

    /// Signs in with the right password.
    pub async fn identity(&self, name: &str) -> Identity {
        self.login(name, PASSWORD).await.unwrap().identity
    }

    /// Why the user is refused; panics if the upstream is blamed or the user is let in.
    pub async fn refusal(&self, name: &str, password: &str) -> String {
        match self.login(name, password).await {
            Err(LoginError::InvalidCredentials(why)) => why,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    /// Why the upstream is blamed; panics on any verdict.
    pub async fn outage(&self, name: &str) -> String {
        match self.login(name, PASSWORD).await {
            Err(LoginError::Unavailable(why)) => why.to_string(),
            other => panic!("expected an outage, got {other:?}"),
        }
    }

    pub async fn recheck(&self, known: &Authenticated) -> Result<Authenticated, RecheckError> {
        self.recheck.recheck(&known.identity, known.data.as_ref()).await
    }

    pub async fn recheck_with(
        &self,
        known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        self.recheck.recheck(known, data).await
    }

    pub async fn probe(&self) -> Result<(), (&'static str, String)> {
        self.probe.probe().await.map_err(|error| (error.reason, error.message))
    }

    pub fn username_label(&self) -> &str {
        self.login.username_label()
    }
}

/// What slapd logs from now on.
pub struct Watch<'a> {
    slapd: &'a Slapd,
    from: usize,
}

impl<'a> Watch<'a> {
    pub fn on(slapd: &'a Slapd) -> Self {
        Self { slapd, from: slapd.log().unwrap().len() }
    }

    pub fn text(&self) -> String {
        self.slapd.log().unwrap()[self.from..].to_owned()
    }

    pub fn connections(&self) -> usize {
        self.text().matches(" ACCEPT ").count()
    }

    pub fn binds(&self) -> usize {
        self.text().matches(" BIND dn=\"").count() - self.text().matches(" mech=").count()
    }

    pub fn binds_as(&self, dn: &str) -> usize {
        self.text().matches(&format!(" BIND dn=\"{dn}\" method=")).count()
    }

    pub fn searches(&self) -> usize {
        self.text().matches(" SRCH base=").count()
    }

    /// The names bound on each connection.
    pub fn names_by_connection(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in self.text().lines().filter(|line| line.contains(" method=")) {
            let connection = line.split(' ').find(|word| word.starts_with("conn=")).unwrap();
            let (_, dn) = line.split_once("BIND dn=\"").unwrap();
            let (dn, _) = dn.split_once('"').unwrap();
            names.entry(connection.to_owned()).or_default().insert(dn.to_owned());
        }
        names
    }
}

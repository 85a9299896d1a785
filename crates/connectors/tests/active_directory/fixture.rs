//! A domain with people, connectors that point at it, and what became of them.

use std::sync::Arc;

use claviger_connectors::{Probe, Resolved, Upstream, build};
use claviger_domain::connector::{
    Authenticated, ConnectorData, Login, LoginError, PasswordLogin, Recheck, RecheckError, Refresh,
};
use claviger_domain::identity::Identity;
use claviger_testkit::Samba;
use claviger_testkit::samba::BASE_DN;
use secrecy::SecretString;
use serde_json::{Value, json};

/// Everybody's.
pub const PASSWORD: &str = "correct horse";
const READER: &str = "claviger@ad.example.test";
const READER_PASSWORD: &str = "reader-password";

/// A domain with the service account, `ada` and `grace`.
pub async fn domain() -> Samba {
    let samba = Samba::start().await.unwrap();
    samba.add_user("claviger", READER_PASSWORD, "").unwrap();
    let ada = "userPrincipalName: ada@corp.example.com\nmail: ada.lovelace@example.com\n\
               displayName: Ada Lovelace\ngivenName: Ada";
    samba.add_user("ada", PASSWORD, ada).unwrap();
    samba.add_user("grace", PASSWORD, "").unwrap();
    samba
}

/// `spec` of a Connector, for a test to change.
pub fn connector(samba: &Samba) -> Value {
    json!({
        "displayName": "Active Directory",
        "recheckIntervalSeconds": 300,
        "upstream": { "activeDirectory": {
            "urls": [samba.ldaps_url()],
            "tls": { "caSecretRef": { "name": "ad", "key": "ca.crt" } },
            "bind": { "name": READER, "passwordSecretRef": { "name": "ad", "key": "password" } },
            "baseDN": BASE_DN,
            "timeouts": { "connectSeconds": 5, "operationSeconds": 5 },
        }},
    })
}

/// The same with these fields of `upstream.activeDirectory` instead.
pub fn connector_with(samba: &Samba, change: &Value) -> Value {
    let mut spec = connector(samba);
    for (name, value) in change.as_object().unwrap() {
        spec["upstream"]["activeDirectory"][name] = value.clone();
    }
    spec
}

/// What the controller would have read.
pub fn resolved(samba: &Samba) -> Resolved {
    let mut resolved = Resolved::default();
    resolved.insert("ad", "ca.crt", samba.ca_pem().as_bytes().to_vec());
    resolved.insert("ad", "password", READER_PASSWORD.as_bytes().to_vec());
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
        let Upstream { login, refresh, probe, .. } = build("corp", &spec, resolved).unwrap();
        let Login::Password(login) = login else { panic!("{login:?}") };
        let Refresh::Upstream { recheck, interval_seconds: 300 } = refresh else {
            panic!("{refresh:?}")
        };
        Self { login, recheck, probe: probe.unwrap() }
    }

    /// The connector of [`connector_with`].
    pub fn with(samba: &Samba, change: &Value) -> Self {
        Self::new(&connector_with(samba, change), &resolved(samba))
    }

    pub async fn login(&self, name: &str, password: &str) -> Result<Authenticated, LoginError> {
        self.login.authenticate(name, &SecretString::from(password)).await
    }

    /// Signs in with the right password.
    pub async fn signed_in(&self, name: &str) -> Authenticated {
        self.login(name, PASSWORD).await.unwrap()
    }

    /// The same, without what is kept.
    pub async fn identity(&self, name: &str) -> Identity {
        self.signed_in(name).await.identity
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

    /// The same with something else kept.
    pub async fn recheck_with(
        &self,
        known: &Identity,
        data: &[u8],
    ) -> Result<Authenticated, RecheckError> {
        self.recheck.recheck(known, Some(&ConnectorData(data.to_vec()))).await
    }

    /// The verdict that ends a session.
    pub async fn gone(&self, known: &Authenticated) -> String {
        match self.recheck(known).await {
            Err(RecheckError::Gone(why)) => why,
            other => panic!("expected Gone, got {other:?}"),
        }
    }

    pub async fn probe(&self) -> Result<(), (&'static str, String)> {
        self.probe.probe().await.map_err(|error| (error.reason, error.message))
    }
}

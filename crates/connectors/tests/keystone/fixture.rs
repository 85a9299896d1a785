//! A domain of a real Keystone, a front before it, and a connector to that.

use std::sync::Arc;

use claviger_api::ConnectorSpec;
use claviger_connectors::{BuildError, Resolved, Upstream, build, secret_refs};
use claviger_domain::connector::{
    Authenticated, Login, LoginError, PasswordLogin, RecheckError, Refresh,
};
use claviger_testkit::keystone::{Keystone, KeystoneDomain, PASSWORD, SERVICE_PASSWORD};
use claviger_testkit::{CertificateAuthority, WebService};
use secrecy::SecretString;
use serde_json::{Value, json};

pub struct Service {
    pub domain: KeystoneDomain,
    pub front: WebService,
    pub built: Upstream,
    authority: CertificateAuthority,
}

impl Service {
    /// A domain of this name, and a connector to it with this change.
    pub async fn start(name: &str, change: Value) -> Self {
        let keystone = Keystone::shared().await.unwrap();
        let domain = keystone.domain(name).await.unwrap();
        let authority = CertificateAuthority::create("front").unwrap();
        let url = keystone.url();
        let behind = (url.trim_end_matches("/v3"), keystone.authority().certificate_pem());
        let front = WebService::before(&authority, behind).await.unwrap();
        let spec = spec(&domain, &front, (&change, authority.certificate_pem()));
        let built = made(&spec, SERVICE_PASSWORD).unwrap();
        Self { domain, front, built, authority }
    }

    /// The same connector with another change and password.
    pub fn rebuilt(&self, change: &Value, password: &str) -> Upstream {
        let authority = self.authority.certificate_pem();
        made(&spec(&self.domain, &self.front, (change, authority)), password).unwrap()
    }

    /// The same, that trusts somebody else.
    pub fn trusting(&self, authority: &str) -> Upstream {
        made(&spec(&self.domain, &self.front, (&json!({}), authority)), SERVICE_PASSWORD).unwrap()
    }

    pub async fn sign_in(&self, name: &str) -> Result<Authenticated, LoginError> {
        sign_in(&self.built, name, PASSWORD).await
    }

    pub async fn again(&self, known: &Authenticated) -> Result<Authenticated, RecheckError> {
        again(&self.built, known).await
    }

    /// What was asked since, with the user's ID as `ID` and the domain's as `DOMAIN`.
    pub fn take_log(&self, id: &str) -> Vec<String> {
        let log = self.front.take_log().into_iter();
        log.map(|line| line.replace(id, "ID").replace(&self.domain.id, "DOMAIN")).collect()
    }
}

pub async fn sign_in(
    built: &Upstream,
    name: &str,
    password: &str,
) -> Result<Authenticated, LoginError> {
    login(built).authenticate(name, &SecretString::from(password)).await
}

pub async fn again(built: &Upstream, known: &Authenticated) -> Result<Authenticated, RecheckError> {
    let Refresh::Upstream { recheck, .. } = &built.refresh else { panic!("{:?}", built.refresh) };
    recheck.recheck(&known.identity, known.data.as_ref()).await
}

fn login(built: &Upstream) -> Arc<dyn PasswordLogin> {
    let Login::Password(login) = &built.login else { panic!("{:?}", built.login) };
    Arc::clone(login)
}

/// The connector's resource.
fn spec(
    domain: &KeystoneDomain,
    front: &WebService,
    (change, authority): (&Value, &str),
) -> ConnectorSpec {
    let mut upstream = domain.upstream(&format!("{}/v3", front.url()), authority);
    for (name, value) in change.as_object().unwrap() {
        upstream["keystone"][name] = value.clone();
    }
    serde_json::from_value(json!({"displayName": "OpenStack", "upstream": upstream})).unwrap()
}

fn made(spec: &ConnectorSpec, password: &str) -> Result<Upstream, BuildError> {
    let mut resolved = Resolved::default();
    for reference in secret_refs(spec) {
        resolved.insert(&reference.name, &reference.key, password.as_bytes().to_vec());
    }
    build("openstack", spec, &resolved)
}

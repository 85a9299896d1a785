//! A provider, a connector to it, and a browser between them.

use claviger_api::ConnectorSpec;
use claviger_connectors::{BuildError, Resolved, Upstream, build, secret_refs};
use claviger_domain::connector::{Connector, Login, LoginError, Recheck, Refresh};
use claviger_domain::device_page;
use claviger_domain::fakes::World;
use claviger_domain::flow::Flow;
use claviger_domain::trip::{Arrival, RedirectLogin, Trip};
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use claviger_testkit::CertificateAuthority;
use claviger_testkit::openid_provider::{CLIENT_ID, CLIENT_SECRET, Conduct, OpenidProvider};
use serde_json::{Value, json};
use std::sync::Arc;

/// The wall clock, which providers have too.
pub fn now() -> i64 {
    claviger_testkit::ci_issuer::now()
}

pub struct Service {
    pub provider: OpenidProvider,
    pub built: Upstream,
    world: World,
    connector: Connector,
    flow: Flow,
}

impl Service {
    /// A connector of this configuration to an honest provider.
    pub async fn start(change: Value) -> Self {
        Self::start_with(change, CLIENT_SECRET).await
    }

    /// The same, whose Secret holds this.
    pub async fn start_with(change: Value, secret: &str) -> Self {
        let authority = CertificateAuthority::create("upstream").unwrap();
        let provider = OpenidProvider::start(&authority).await.unwrap();
        let built = built(&provider, &change, (authority.certificate_pem(), secret)).unwrap();
        let world = World::new();
        let mut connector = world.issuer.connectors[0].as_ref().clone();
        connector.login = built.login.clone();
        let mut flow = device_page::begin(&world.provider, None);
        flow.scopes = "openid offline_access".into();
        Self { provider, built, world, connector, flow }
    }

    pub fn login(&self) -> Arc<dyn RedirectLogin> {
        let Login::Redirect(login) = &self.built.login else { panic!("{:?}", self.built.login) };
        Arc::clone(login)
    }

    pub fn recheck(&self) -> Arc<dyn Recheck> {
        let Refresh::Upstream { recheck, .. } = &self.built.refresh else {
            panic!("{:?}", self.built.refresh)
        };
        Arc::clone(recheck)
    }

    pub fn change_flow(&mut self, change: impl FnOnce(&mut Flow)) {
        change(&mut self.flow);
    }

    pub fn trip(&self) -> Trip<'_> {
        Trip::of(&self.world.issuer, &self.flow, &self.connector, now())
    }

    /// Where the browser is sent to.
    pub async fn depart(&self) -> Result<String, LoginError> {
        match self.login().depart(&self.trip()).await? {
            Delivery::Redirect(location) => Ok(location),
            other @ Delivery::Post { .. } => panic!("{other:?}"),
        }
    }

    /// The user agrees and comes back with what `change` makes of the provider's answer.
    pub async fn sign_in(&self, change: &[(&str, &str)]) -> Result<Arrival, LoginError> {
        let location = self.depart().await?;
        let mut answer = self.provider.agree(&location).unwrap();
        for (name, value) in change {
            if value.is_empty() {
                answer.remove(*name);
            } else {
                answer.insert((*name).to_owned(), (*value).to_owned());
            }
        }
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        self.login().arrive(&self.trip(), &Params::parse(query.as_bytes()).unwrap()).await
    }

    /// Why a sign-in is not believed, in one word, where the provider behaves like this.
    pub async fn disbelieved(&self, change: impl FnOnce(&mut Conduct)) -> &'static str {
        change(&mut self.provider.conduct());
        match self.sign_in(&[]).await {
            Err(LoginError::Unverified { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// The connector as the controller makes it.
pub fn upstream(provider: &OpenidProvider, change: &Value, authority: &str) -> Upstream {
    built(provider, change, (authority, CLIENT_SECRET)).unwrap()
}

/// The same, whose Secret holds this, or why not.
pub fn built(
    provider: &OpenidProvider,
    change: &Value,
    (authority, secret): (&str, &str),
) -> Result<Upstream, BuildError> {
    let mut oidc = json!({
        "issuer": provider.url(), "clientID": CLIENT_ID,
        "clientSecretRef": {"name": "corp", "key": "clientSecret"},
        "claims": {"groups": "groups"}, "tls": {"caBundle": authority},
    });
    oidc.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let spec: ConnectorSpec =
        serde_json::from_value(json!({"displayName": "Corp", "upstream": {"oidc": oidc}})).unwrap();
    let mut resolved = Resolved::default();
    for reference in secret_refs(&spec) {
        resolved.insert(&reference.name, &reference.key, secret.as_bytes().to_vec());
    }
    build("corp", &spec, &resolved)
}

//! A vendor, the proxy before it, a connector to it through that proxy, and a browser between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_api::ConnectorSpec;
use claviger_connectors::{BuildError, Resolved, Upstream, build, secret_refs};
use claviger_domain::connector::{
    Authenticated, Connector, Login, LoginError, Recheck, RecheckError, Refresh,
};
use claviger_domain::device_page;
use claviger_domain::fakes::World;
use claviger_domain::flow::Flow;
use claviger_domain::trip::{Arrival, Trip};
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use claviger_testkit::CertificateAuthority;
use claviger_testkit::openid_provider::{CLIENT_ID, CLIENT_SECRET, OpenidProvider, Places};
use claviger_testkit::tunnel::Tunnel;
use serde_json::{Value, json};

pub struct Vendor {
    pub provider: OpenidProvider,
    pub tunnel: Tunnel,
    pub built: Upstream,
    world: World,
    connector: Connector,
    flow: Flow,
}

/// A connector of this kind and configuration.
pub fn connector(
    kind: &str,
    change: &Value,
    (secrets, proxy): (&[(&str, &str)], Option<String>),
) -> Result<Upstream, BuildError> {
    let mut upstream =
        json!({"clientID": CLIENT_ID, "clientSecretRef": {"name": "corp", "key": "clientSecret"}});
    upstream.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let spec = json!({"displayName": "Corp", "upstream": {kind: upstream}});
    let spec: ConnectorSpec = serde_json::from_value(spec).unwrap();
    let mut resolved = Resolved::default();
    resolved.proxy = proxy;
    let token = secrets.iter().find(|(name, _)| *name == "federatedTokenFile");
    resolved.azure_federated_token_file = token.map(|(_, path)| path.into());
    let known: BTreeMap<&str, &str> =
        [("clientSecret", CLIENT_SECRET)].into_iter().chain(secrets.iter().copied()).collect();
    for reference in secret_refs(&spec) {
        let value = known[reference.key.as_str()].as_bytes().to_vec();
        resolved.insert(&reference.name, &reference.key, value);
    }
    build("corp", &spec, &resolved)
}

impl Vendor {
    /// A vendor at these places, and a connector of this kind to it.
    pub async fn start(
        places: Places,
        kind: &str,
        change: &Value,
        secrets: &[(&str, &str)],
    ) -> Self {
        let authority = CertificateAuthority::create("vendor").unwrap();
        let provider = OpenidProvider::start_as(&authority, places).await.unwrap();
        let tunnel = Tunnel::to(provider.address()).await.unwrap();
        let mut change = change.clone();
        change["tls"] = json!({"caBundle": authority.certificate_pem()});
        let built = connector(kind, &change, (secrets, Some(tunnel.url()))).unwrap();
        let world = World::new();
        let mut connector = world.issuer.connectors[0].as_ref().clone();
        connector.login = built.login.clone();
        let mut flow = device_page::begin(&world.provider, None);
        flow.scopes = "openid offline_access".into();
        Self { provider, tunnel, built, world, connector, flow }
    }

    fn trip(&self) -> Trip<'_> {
        let now = claviger_testkit::ci_issuer::now();
        Trip::of(&self.world.issuer, &self.flow, &self.connector, now)
    }

    /// Where the browser is sent to.
    pub async fn depart(&self) -> String {
        let Login::Redirect(login) = &self.built.login else { panic!("{:?}", self.built.login) };
        match login.depart(&self.trip()).await.unwrap() {
            Delivery::Redirect(location) => location,
            other @ Delivery::Post { .. } => panic!("{other:?}"),
        }
    }

    /// The user agrees and comes back.
    pub async fn sign_in(&self) -> Result<Arrival, LoginError> {
        let Login::Redirect(login) = &self.built.login else { panic!("{:?}", self.built.login) };
        let mut answer = self.provider.agree(&self.depart().await).unwrap();
        answer.remove("iss");
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        login.arrive(&self.trip(), &Params::parse(query.as_bytes()).unwrap()).await
    }

    /// Who signs in.
    pub async fn user(&self) -> Authenticated {
        self.sign_in().await.unwrap().authenticated
    }

    pub fn recheck(&self) -> Arc<dyn Recheck> {
        let Refresh::Upstream { recheck, .. } = &self.built.refresh else {
            panic!("{:?}", self.built.refresh)
        };
        Arc::clone(recheck)
    }

    pub async fn again(&self, known: &Authenticated) -> Result<Authenticated, RecheckError> {
        self.recheck().recheck(&known.identity, known.data.as_ref()).await
    }

    /// What the vendor answers at a path of its API from now on.
    pub fn answers(&self, path: &str, status: u16, body: &Value) {
        self.provider.conduct().answers.insert(path.to_owned(), (status, body.to_string()));
    }

    /// What its ID tokens say otherwise.
    pub fn says(&self, claims: Value) {
        self.provider.conduct().claims = claims;
    }

    /// Tokens that were shown at paths which contain this.
    pub fn shown_at(&self, part: &str) -> Vec<String> {
        let conduct = self.provider.conduct();
        let shown = conduct.bearers.iter().filter(|(path, _)| path.contains(part));
        shown.map(|(_, token)| token.clone()).collect()
    }
}

//! A vendor, a connector to it, and a browser between them.

use std::sync::Arc;

use claviger_api::ConnectorSpec;
use claviger_connectors::{BuildError, Resolved, Upstream, build, secret_refs};
use claviger_domain::connector::{
    Authenticated, Connector, Login, LoginError, Recheck, RecheckError, Refresh,
};
use claviger_domain::device_page;
use claviger_domain::fakes::World;
use claviger_domain::flow::Flow;
use claviger_domain::trip::{Arrival, RedirectLogin, Trip};
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use claviger_testkit::CertificateAuthority;
use claviger_testkit::vendor::{CLIENT_ID, CLIENT_SECRET, Style, Vendor};
use serde_json::{Value, json};

pub struct Service {
    pub vendor: Vendor,
    pub built: Upstream,
    pub authority: CertificateAuthority,
    world: World,
    connector: Connector,
    flow: Flow,
}

impl Service {
    /// A connector of this configuration to an honest vendor.
    pub async fn start(style: Style, change: Value) -> Self {
        let authority = CertificateAuthority::create("upstream").unwrap();
        let vendor = Vendor::start(style, &authority).await.unwrap();
        let spec = spec(&vendor, style, (&change, authority.certificate_pem()));
        let built = made(&spec, CLIENT_SECRET).unwrap();
        let world = World::new();
        let mut connector = world.issuer.connectors[0].as_ref().clone();
        connector.login = built.login.clone();
        let flow = device_page::begin(&world.provider, None);
        Self { vendor, built, authority, world, connector, flow }
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
        Trip::of(&self.world.issuer, &self.flow, &self.connector, 1_764_000_000)
    }

    /// Where the browser is sent to.
    pub async fn depart(&self) -> String {
        match self.login().depart(&self.trip()).await.unwrap() {
            Delivery::Redirect(location) => location,
            other @ Delivery::Post { .. } => panic!("{other:?}"),
        }
    }

    /// The browser comes back with this.
    pub async fn arrive(&self, query: &str) -> Result<Arrival, LoginError> {
        self.login().arrive(&self.trip(), &Params::parse(query.as_bytes()).unwrap()).await
    }

    /// The user agrees and comes back.
    pub async fn sign_in(&self) -> Result<Authenticated, LoginError> {
        let answer = self.vendor.agree(&self.depart().await).unwrap();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        Ok(self.arrive(&query.extend_pairs(answer).finish()).await?.authenticated)
    }

    /// What the vendor says of them by now.
    pub async fn again(&self, known: &Authenticated) -> Result<Authenticated, RecheckError> {
        self.recheck().recheck(&known.identity, known.data.as_ref()).await
    }

    /// The paths that were asked for since this was last called.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.vendor.conduct().log)
    }

    /// Changes what the vendor's API says at a path.
    pub fn say(&self, path: &str, said: Value) {
        self.vendor.conduct().documents.insert(path.to_owned(), said);
    }
}

/// The connector's resource.
pub fn spec(vendor: &Vendor, style: Style, (change, authority): (&Value, &str)) -> ConnectorSpec {
    let mut upstream = json!({
        "clientID": CLIENT_ID, "clientSecretRef": {"name": "corp", "key": "clientSecret"},
        "tls": {"caBundle": authority},
    });
    for said in [&vendor.addresses(), change] {
        upstream.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    }
    upstream.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let spec = json!({"displayName": "Corp", "upstream": {style.kind(): upstream}});
    serde_json::from_value(spec).unwrap()
}

/// The connector as the controller makes it.
pub fn made(spec: &ConnectorSpec, secret: &str) -> Result<Upstream, BuildError> {
    let mut resolved = Resolved::default();
    for reference in secret_refs(spec) {
        resolved.insert(&reference.name, &reference.key, secret.as_bytes().to_vec());
    }
    build("corp", spec, &resolved)
}

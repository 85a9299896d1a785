//! A connector to an identity provider, and a flow that is on its way there.

use std::sync::Arc;

use claviger_api::ConnectorSpec;
use claviger_connectors::{BuildError, Resolved, Upstream, build, secret_refs};
use claviger_domain::connector::{Connector, Login, LoginError};
use claviger_domain::device_page;
use claviger_domain::fakes::World;
use claviger_domain::flow::Flow;
use claviger_domain::trip::{Arrival, RedirectLogin, Trip};
use claviger_protocol::form::Params;
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::answers::{Answer, IDP};
use crate::signer::Signer;

/// When everything happens.
pub const NOW: i64 = 1_795_700_000;

pub struct Service {
    pub built: Upstream,
    pub now: i64,
    world: World,
    connector: Connector,
    flow: Flow,
}

impl Service {
    /// A connector of this configuration beside the honest provider's certificate.
    pub fn of(change: &Value) -> Self {
        let built = upstream(change).unwrap();
        let world = World::new();
        let mut connector = world.issuer.connectors[0].as_ref().clone();
        connector.login = built.login.clone();
        let flow = device_page::begin(&world.provider, None);
        Self { built, now: NOW, world, connector, flow }
    }

    pub fn login(&self) -> Arc<dyn RedirectLogin> {
        let Login::Redirect(login) = &self.built.login else { panic!("{:?}", self.built.login) };
        Arc::clone(login)
    }

    pub fn change_flow(&mut self, change: impl FnOnce(&mut Flow)) {
        change(&mut self.flow);
    }

    pub fn trip(&self) -> Trip<'_> {
        Trip::of(&self.world.issuer, &self.flow, &self.connector, self.now)
    }

    /// An honest answer to this flow's request.
    pub fn answer(&self) -> Answer {
        let trip = self.trip();
        Answer::to(&trip.request_id(), &trip.callback, NOW)
    }

    /// The browser posts this document.
    pub async fn arrive(&self, document: &str) -> Result<Arrival, LoginError> {
        self.arrive_encoded(&BASE64.encode(document.as_bytes())).await
    }

    pub async fn arrive_encoded(&self, encoded: &str) -> Result<Arrival, LoginError> {
        let answer =
            Params::default().with("SAMLResponse", encoded).with("RelayState", self.trip().state);
        self.login().arrive(&self.trip(), &answer).await
    }
}

/// The specification of a connector by hand, changed.
pub fn spec(change: &Value) -> ConnectorSpec {
    let mut saml = json!({
        "identityProvider": {
            "entityID": IDP, "ssoURL": "https://idp.example.com/sso",
            "certificates": Signer::honest().certificate_pem,
        },
        "attributes": {"email": "mail", "groups": "groups"},
    });
    let members = saml.as_object_mut().unwrap();
    members.extend(change.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    serde_json::from_value(json!({"displayName": "Corp", "upstream": {"saml": saml}})).unwrap()
}

/// The connector as the controller makes it. Secret `corp` has the foreign signer's certificate and key.
pub fn upstream(change: &Value) -> Result<Upstream, BuildError> {
    let spec = spec(change);
    let mut resolved = Resolved::default();
    for reference in secret_refs(&spec) {
        let value = match reference.key.as_str() {
            "tls.key" => Signer::foreign().key_pem.as_str(),
            "tls.crt" => &Signer::foreign().certificate_pem,
            "idp.crt" => &Signer::honest().certificate_pem,
            _ => "nonsense",
        };
        resolved.insert(&reference.name, &reference.key, value.as_bytes().to_vec());
    }
    build("corp", &spec, &resolved)
}

//! Specs that must be taken and specs that must be refused, with the words of the refusal. The
//! tables are judged by a real API server (e2e) and checked here to leave out no rule.

mod active_directory;
mod atlassian_crowd;
mod connector;
mod device_authorization;
mod keystone;
mod local_user;
mod oauth2_client;
mod oidc_issuer;
mod session;
mod signing_key;
mod vendors;

use claviger_api::{
    ConnectorSpec, DeviceAuthorizationSpec, LocalUserSpec, OAuth2ClientSpec, OIDCIssuerSpec,
    SessionSpec, SigningKeySpec,
};
use serde_json::Value;

/// The cases of one kind.
pub struct Table {
    /// Kind.
    pub kind: &'static str,
    /// A good spec; the cases are changes to it.
    pub base: Value,
    /// Changes that leave it good.
    pub good: Vec<Good>,
    /// Changes that make it bad.
    pub bad: Vec<Bad>,
    /// Good specs with a change that may not be made to them.
    pub bad_updates: Vec<BadUpdate>,
}

/// A change (RFC 7386 merge patch) that leaves a spec good.
pub struct Good {
    /// What it shows.
    pub what: &'static str,
    /// The change to the base.
    pub change: Value,
}

/// A change that makes a spec bad.
pub struct Bad {
    /// What is wrong.
    pub what: &'static str,
    /// The change to the base.
    pub change: Value,
    /// What the refusal says: a rule's whole message, or words of the schema's.
    pub says: &'static str,
}

/// A change that may not be made to an object.
pub struct BadUpdate {
    /// What is wrong.
    pub what: &'static str,
    /// The change to the base that is created.
    pub before: Value,
    /// The change to what was created.
    pub change: Value,
    /// What the refusal says.
    pub says: &'static str,
}

fn good(what: &'static str, change: Value) -> Good {
    Good { what, change }
}

fn bad(what: &'static str, change: Value, says: &'static str) -> Bad {
    Bad { what, change, says }
}

fn bad_update(what: &'static str, before: Value, change: Value, says: &'static str) -> BadUpdate {
    BadUpdate { what, before, change, says }
}

/// Every table.
pub fn tables() -> Vec<Table> {
    vec![
        oidc_issuer::table(),
        oauth2_client::table(),
        connector::table(),
        signing_key::table(),
        local_user::table(),
        session::table(),
        device_authorization::table(),
    ]
}

/// `base` with the merge patch `change` (RFC 7386) applied.
pub fn changed(base: &Value, change: &Value) -> Value {
    let Value::Object(change) = change else {
        return change.clone();
    };
    let mut merged = base.as_object().cloned().unwrap_or_default();
    for (name, value) in change {
        if value.is_null() {
            merged.remove(name);
        } else {
            let field = changed(merged.get(name).unwrap_or(&Value::Null), value);
            merged.insert(name.clone(), field);
        }
    }
    Value::Object(merged)
}

/// A spec as Rust writes it after reading it.
pub fn reread(kind: &str, spec: Value) -> serde_json::Result<Value> {
    match kind {
        "OIDCIssuer" => serde_json::to_value(serde_json::from_value::<OIDCIssuerSpec>(spec)?),
        "OAuth2Client" => serde_json::to_value(serde_json::from_value::<OAuth2ClientSpec>(spec)?),
        "Connector" => serde_json::to_value(serde_json::from_value::<ConnectorSpec>(spec)?),
        "SigningKey" => serde_json::to_value(serde_json::from_value::<SigningKeySpec>(spec)?),
        "LocalUser" => serde_json::to_value(serde_json::from_value::<LocalUserSpec>(spec)?),
        "Session" => serde_json::to_value(serde_json::from_value::<SessionSpec>(spec)?),
        "DeviceAuthorization" => {
            serde_json::to_value(serde_json::from_value::<DeviceAuthorizationSpec>(spec)?)
        }
        other => panic!("no kind {other}"),
    }
}

//! How a provider that is shown an assertion instead of a secret judges it (RFC 7523 3): as the strict ones do.

use std::collections::{BTreeMap, BTreeSet};

use claviger_jose::{Algorithm, KeySet, verify_signature};
use serde_json::Value;

use crate::ci_issuer::now;
use crate::openid_provider::CLIENT_ID;

/// Longest life of one, in seconds.
const MAX_LIFE: i64 = 60;

/// A client that is known by its keys.
#[derive(Debug, Default)]
pub struct AssertingClient {
    /// Its keys.
    pub keys: KeySet,
    /// Every assertion that was taken: its header and its claims.
    pub taken: Vec<(Value, Value)>,
    used: BTreeSet<String>,
    /// Who it is to somebody else whose tokens are taken for its own: their issuer, subject and audience.
    federated: Option<[String; 3]>,
}

impl AssertingClient {
    /// A client of these public keys, each under its `kid`.
    pub fn known_by(jwks: &Value) -> Self {
        let keys = KeySet::parse(jwks.to_string().as_bytes()).unwrap_or_default();
        Self { keys, ..Self::default() }
    }

    /// A client that shows what somebody else signed about it: the key, and issuer, subject and audience there.
    pub fn federated(jwks: &Value, named: [&str; 3]) -> Self {
        let federated = Some(named.map(str::to_owned));
        Self { federated, ..Self::known_by(jwks) }
    }

    /// Whether this form shows who the client is, for one of these audiences.
    pub fn is_shown(&mut self, form: &BTreeMap<String, String>, audiences: &[&str]) -> bool {
        let kind = form.get("client_assertion_type").map(String::as_str);
        let is_assertion = kind == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        let others = ["client_secret"].iter().any(|name| form.contains_key(*name));
        let Some(assertion) = form.get("client_assertion") else { return false };
        let Ok(signed) = verify_signature(&self.keys, assertion, &Algorithm::ALL) else {
            return false;
        };
        let text = |name: &str| signed.claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let time = |name: &str| signed.claims.get(name).and_then(Value::as_i64).unwrap_or_default();
        let now = now();
        if let Some(named) = &self.federated {
            let is_good = is_assertion
                && !others
                && [text("iss"), text("sub"), text("aud")] == named.each_ref().map(String::as_str)
                && time("exp") > now;
            if is_good {
                self.taken.push((header(assertion), Value::Object(signed.claims)));
            }
            return is_good;
        }
        let is_timely = time("exp") > now && time("exp") <= now + MAX_LIFE && time("iat") <= now;
        let is_ours = [text("iss"), text("sub")] == [CLIENT_ID; 2]
            && form.get("client_id").is_none_or(|id| id == CLIENT_ID);
        let jti = text("jti").to_owned();
        let is_new = jti.len() >= 16 && self.used.insert(jti);
        let is_good = is_assertion
            && !others
            && is_ours
            && is_timely
            && is_new
            && audiences.contains(&text("aud"));
        if is_good {
            self.taken.push((header(assertion), Value::Object(signed.claims)));
        }
        is_good
    }
}

fn header(compact: &str) -> Value {
    let encoded = compact.split('.').next().unwrap_or_default();
    let bytes = data_encoding::BASE64URL_NOPAD.decode(encoded.as_bytes()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

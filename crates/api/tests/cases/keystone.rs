//! Cases of `Connector` with an OpenStack.

use serde_json::{Value, json};

use super::{Bad, bad, changed};

/// The base with an OpenStack instead.
pub fn openstack(change: &Value) -> Value {
    let upstream = json!({
        "url": "https://keystone.example.com:5000/v3",
        "domain": {"id": "default"},
        "serviceAccount": {
            "name": "claviger", "passwordSecretRef": {"name": "keystone", "key": "password"},
        },
    });
    json!({"upstream": {"ldap": null, "keystone": changed(&upstream, change)}})
}

pub fn every_keystone_field() -> Value {
    json!({
        "url": "https://cloud.example.com/identity/v3/",
        "domain": {"id": null, "name": "Corp Users"},
        "serviceAccount": {"domain": {"id": "default"}, "scope": "System"},
        "usernamePrompt": "OpenStack user",
        "emailVerification": "Always",
        "expiredPassword": "Ignore",
        "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
    })
}

pub fn openstacks() -> Vec<Bad> {
    let one = "a domain of Keystone's is said by id or by name: set exactly one";
    vec![
        bad(
            "OpenStack without TLS",
            openstack(&json!({"url": "http://keystone.example.com/v3"})),
            "must be an https URL without user, query and fragment",
        ),
        bad(
            "OpenStack without a version",
            openstack(&json!({"url": "https://keystone.example.com:5000"})),
            "keystone.url must end with the API's version, such as https://keystone.example.com:5000/v3",
        ),
        bad(
            "OpenStack with an old version",
            openstack(&json!({"url": "https://keystone.example.com/v2.0"})),
            "keystone.url must end with the API's version, such as https://keystone.example.com:5000/v3",
        ),
        bad("no domain", openstack(&json!({"domain": {"id": null}})), one),
        bad("a domain said twice", openstack(&json!({"domain": {"name": "Default"}})), one),
        bad(
            "a domain of the account said twice",
            openstack(&json!({"serviceAccount": {"domain": {"id": "default", "name": "Default"}}})),
            one,
        ),
        bad(
            "a domain's ID that is none",
            openstack(&json!({"domain": {"id": "Corp Users"}})),
            "domain.id must be the ID that `openstack domain list` shows",
        ),
        bad("nobody who reads", openstack(&json!({"serviceAccount": null})), "Required value"),
        bad(
            "an account of no scope",
            openstack(&json!({"serviceAccount": {"scope": "Project"}})),
            "Unsupported value",
        ),
    ]
}

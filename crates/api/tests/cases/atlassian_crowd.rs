//! Cases of `Connector` with an Atlassian Crowd.

use serde_json::{Value, json};

use super::{Bad, bad, changed};

/// The base with a Crowd instead.
pub fn crowd(change: &Value) -> Value {
    let upstream = json!({
        "url": "https://crowd.example.com/crowd",
        "applicationName": "claviger",
        "applicationPasswordSecretRef": {"name": "crowd", "key": "password"},
    });
    json!({"upstream": {"ldap": null, "atlassianCrowd": changed(&upstream, change)}})
}

pub fn every_crowd_field() -> Value {
    json!({
        "userID": "Name", "groups": "Direct", "emailVerification": "Always",
        "usernamePrompt": "Jira user",
        "tls": {"caSecretRef": {"name": "corp-ca", "key": "ca.crt"}},
    })
}

pub fn crowds() -> Vec<Bad> {
    vec![
        bad(
            "Crowd without TLS",
            crowd(&json!({"url": "http://crowd.example.com/crowd"})),
            "must be an https URL without user, query and fragment",
        ),
        bad(
            "an application with a colon",
            crowd(&json!({"applicationName": "claviger:2"})),
            "applicationName must have no colon: HTTP Basic ends a name with it",
        ),
        bad(
            "an application without a password",
            crowd(&json!({"applicationPasswordSecretRef": null})),
            "Required value",
        ),
        bad("Crowd's users by mail", crowd(&json!({"userID": "Email"})), "Unsupported value"),
    ]
}

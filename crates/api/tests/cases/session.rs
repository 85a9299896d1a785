//! Cases of `Session`.

use serde_json::json;

use super::{Table, bad, bad_update, good};

const OWNER: &str = "type and clientUID are immutable: a session belongs to nobody else";

pub fn table() -> Table {
    Table {
        kind: "Session",
        base: json!({
            "state": "Active",
            "type": "Client",
            "generation": 0,
            "clientUID": "6c9f8f0e-0000-4000-8000-000000000002",
            "clientID": "kubernetes",
            "connector": "ldap",
            "user": "jane",
            "rotatedAt": "2026-01-01T00:00:00Z",
            "expiresAt": "2026-01-08T00:00:00Z",
            "payload": "c2VhbGVk",
        }),
        good: vec![
            good("of a client", json!({})),
            good("of a browser", json!({"type": "Browser", "clientUID": "", "clientID": ""})),
            good("revoked", json!({"state": "Revoked", "revokedReason": "CodeReplayed"})),
        ],
        bad: vec![
            bad(
                "a generation below zero",
                json!({"generation": -1}),
                "should be greater than or equal to 0",
            ),
            bad("a state there is not", json!({"state": "Expired"}), "supported values"),
            bad("no payload", json!({"payload": null}), "Required value"),
            bad("a time that is none", json!({"expiresAt": "tomorrow"}), "date-time"),
            bad(
                "a reason of many words",
                json!({"revokedReason": "code replayed"}),
                "should match",
            ),
        ],
        bad_updates: vec![
            bad_update(
                "back to life",
                json!({"state": "Revoked"}),
                json!({"state": "Active"}),
                "a Revoked session stays Revoked: the user must sign in again",
            ),
            bad_update(
                "an earlier generation",
                json!({"generation": 5}),
                json!({"generation": 4}),
                "generation never goes back: a used refresh token would be valid again",
            ),
            bad_update("another client", json!({}), json!({"clientUID": "x"}), OWNER),
            bad_update("another type", json!({}), json!({"type": "Browser"}), OWNER),
        ],
    }
}

//! Cases of `DeviceAuthorization`.

use serde_json::json;

use super::{Table, bad, bad_update, good};

const DECIDED: &str = "what a user decided stays decided: the device must ask anew";
const IMMUTABLE: &str =
    "clientUID, userCodeMAC and expiresAt are immutable: the device must ask anew";

pub fn table() -> Table {
    Table {
        kind: "DeviceAuthorization",
        base: json!({
            "state": "Pending",
            "clientUID": "6c9f8f0e-0000-4000-8000-000000000002",
            "clientID": "tv",
            "userCodeMAC": "abcdefgh.bWFj",
            "expiresAt": "2026-01-01T00:05:00Z",
            "payload": "c2VhbGVk",
        }),
        good: vec![
            good("waiting", json!({})),
            good("of a known address", json!({"sourceMAC": "abcdefgh.bWFj"})),
            good("approved", json!({"state": "Approved"})),
            good("denied", json!({"state": "Denied"})),
        ],
        bad: vec![
            bad("a state there is not", json!({"state": "Expired"}), "supported values"),
            bad("no payload", json!({"payload": null}), "Required value"),
            bad("of no client", json!({"clientUID": ""}), "should be at least 1 chars long"),
            bad("a time that is none", json!({"expiresAt": "soon"}), "date-time"),
        ],
        bad_updates: vec![
            bad_update(
                "decided twice",
                json!({"state": "Denied"}),
                json!({"state": "Approved"}),
                DECIDED,
            ),
            bad_update(
                "waiting again",
                json!({"state": "Approved"}),
                json!({"state": "Pending"}),
                DECIDED,
            ),
            bad_update("another client", json!({}), json!({"clientUID": "x"}), IMMUTABLE),
            bad_update("another code", json!({}), json!({"userCodeMAC": "x.y"}), IMMUTABLE),
            bad_update(
                "a longer life",
                json!({}),
                json!({"expiresAt": "2027-01-01T00:00:00Z"}),
                IMMUTABLE,
            ),
        ],
    }
}

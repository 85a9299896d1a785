//! Cases of `SigningKey`.

use serde_json::json;

use super::{Table, bad, bad_update, good};

pub fn table() -> Table {
    Table {
        kind: "SigningKey",
        base: json!({}),
        good: vec![
            good("nothing at all", json!({})),
            good(
                "everything",
                json!({
                    "algorithm": "PS512",
                    "rsaKeyBits": 4096,
                    "rotationPeriodSeconds": 600,
                    "overlapSeconds": 600,
                    "revokedKeyIDs": ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"],
                    "rotationRequest": 1,
                }),
            ),
        ],
        bad: vec![
            bad("EdDSA", json!({"algorithm": "EdDSA"}), "supported values"),
            bad(
                "a size in between",
                json!({"rsaKeyBits": 2049}),
                "rsaKeyBits must be 2048, 3072 or 4096",
            ),
            bad(
                "a small key",
                json!({"rsaKeyBits": 1024}),
                "should be greater than or equal to 2048",
            ),
            bad(
                "a period below ten minutes",
                json!({"rotationPeriodSeconds": 599}),
                "rotationPeriodSeconds must be at least 600: a key is published for minutes before it \
                 signs and stays for the longest token after it",
            ),
            bad(
                "more overlap than period",
                json!({"rotationPeriodSeconds": 600, "overlapSeconds": 601}),
                "overlapSeconds must not exceed rotationPeriodSeconds: lower the one or raise the \
                 other",
            ),
            bad(
                "an overlap shorter than any token's lifetime",
                json!({"overlapSeconds": 59}),
                "overlapSeconds must be at least 60, the shortest lifetime of an ID token: raise \
                 it, or leave it out for what tokens and caches need",
            ),
            bad("a key ID that is none", json!({"revokedKeyIDs": ["a b"]}), "should match"),
        ],
        bad_updates: vec![bad_update(
            "a request taken back",
            json!({"rotationRequest": 2}),
            json!({"rotationRequest": 1}),
            "rotationRequest can only be raised",
        )],
    }
}

//! Cases of `LocalUser`.

use serde_json::json;

use super::{Table, bad, bad_update, good};

const EMAIL: &str = "email must be a mail address, such as jane@example.com";
const IMMUTABLE: &str = "userID is immutable, set or not: create another LocalUser";

pub fn table() -> Table {
    Table {
        kind: "LocalUser",
        base: json!({
            "email": "jane@example.com",
            "passwordHash": {"secretRef": {"name": "jane", "key": "hash"}},
        }),
        good: vec![
            good("an address and a hash", json!({})),
            good(
                "everything",
                json!({
                    "emailVerified": false,
                    "name": "Jane Doe",
                    "preferredUsername": "jane",
                    "groups": ["admins", "developers"],
                    "userID": "08a8684b-db88-4b73-90a9-3cd1661f5466",
                    "state": "Disabled",
                }),
            ),
        ],
        bad: vec![
            bad("a name for an address", json!({"email": "jane"}), EMAIL),
            bad("two addresses", json!({"email": "a@example.com b@example.com"}), EMAIL),
            bad("no hash", json!({"passwordHash": null}), "Required value"),
            bad(
                "a user ID with a space",
                json!({"userID": "jane doe"}),
                "userID must be printable ASCII without spaces",
            ),
            bad("a state there is not", json!({"state": "Locked"}), "supported values"),
            bad(
                "a key no Secret has",
                json!({"passwordHash": {"secretRef": {"key": "a/b"}}}),
                "should match",
            ),
        ],
        bad_updates: vec![
            bad_update("another ID", json!({"userID": "1"}), json!({"userID": "2"}), IMMUTABLE),
            bad_update("an ID later", json!({}), json!({"userID": "1"}), IMMUTABLE),
            bad_update("an ID no more", json!({"userID": "1"}), json!({"userID": null}), IMMUTABLE),
        ],
    }
}

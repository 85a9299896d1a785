//! Who signed in, as the upstream said and as policy let through.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compact;

/// One user as a connector reported them.
///
/// `user_id` is stable and unique at its connector; everything else may change at every re-check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The upstream's stable identifier. Never empty.
    #[serde(rename = "i", with = "compact::uid")]
    pub user_id: String,
    /// Mail address, if the upstream has one.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the upstream vouches for the mail address.
    #[serde(rename = "v", default, skip_serializing_if = "std::ops::Not::not")]
    pub email_verified: bool,
    /// Full name for display (`name`, OIDC Core 5.1).
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Short name (`preferred_username`, OIDC Core 5.1).
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// Groups, in the upstream's order, without duplicates.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further claims of OIDC Core 5.1 (`given_name`, `address`, `phone_number` …) for users who have them.
    #[serde(rename = "x", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
}

/// Longest label, in bytes.
const MAX_LABEL: usize = 256;

impl Identity {
    /// What a person would call this user: preferred name, mail, name or identifier, cut after
    /// 256 bytes.
    pub fn label(&self) -> &str {
        let label = self
            .preferred_username
            .as_deref()
            .or(self.email.as_deref())
            .or(self.name.as_deref())
            .unwrap_or(&self.user_id);
        &label[..label.floor_char_boundary(MAX_LABEL)]
    }
}

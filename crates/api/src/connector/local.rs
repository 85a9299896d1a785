//! `upstream.local`: the built-in upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The LocalUser objects in Claviger's home namespace, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalUpstream {
    /// Label of the field for the user name on the login page. Default: `Email address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub username_prompt: Option<String>,
}

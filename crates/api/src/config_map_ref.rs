//! A reference to one key of a ConfigMap in the same namespace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object_ref::NAME_PATTERN;

// Nothing in a ConfigMap is secret: the label keeps the watch small, where Secrets' keeps signing keys apart.
/// One key of a ConfigMap in the same namespace, such as trust-manager makes them. It must carry the label
/// `claviger.dev/config-map: connector`; without it the object stays out of service with `ResolvedRefs=False`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// Key inside the ConfigMap's data. Default: `ca.crt`.
    #[serde(default = "ConfigMapKeyRef::default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

impl ConfigMapKeyRef {
    fn default_key() -> String {
        "ca.crt".into()
    }
}

//! A reference to one key of a Secret in the same namespace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object_ref::NAME_PATTERN;

// The same namespace by construction: there is no field to name another. Which Secrets may be
// read at all is decided by their label (labels::SECRET), not here.
/// One key of a Secret in the same namespace. The Secret must carry the label
/// `claviger.dev/secret` with the value for this use (`connector`, `client`, `user`, `tls` or
/// `registration`);
/// without it the object stays out of service with `ResolvedRefs=False`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// Key inside the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

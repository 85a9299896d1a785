//! The password grant of an OAuth2Client: which connector checks what the client was told.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::object_ref::NAME_PATTERN;

/// Where the passwords are checked that users type into this client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct PasswordGrant {
    /// Name of the one connector, of kind local, ldap, activeDirectory, keystone or atlassianCrowd. It must be offered by the
    /// issuer, and be among allowedConnectors where those are listed. The client learns every password that is typed into it:
    /// name no connector whose passwords open anything else.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub connector: String,
}

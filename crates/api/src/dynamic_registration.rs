//! Dynamic client registration (RFC 7591): where clients that register themselves are kept, and who may.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretKeyRef;

/// Clients register themselves at `<url>/register`. Each becomes an OAuth2Client in one namespace, where the
/// issuer's `tenants` bound it as they bound everybody's there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct DynamicRegistration {
    /// Where the OAuth2Clients are made. Not Claviger's home namespace, and one that `allowedClients` admits.
    /// Claviger needs a role there (chart value `registrationNamespaces`). Use it for nothing else: every
    /// client in it counts.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,

    /// Initial access tokens (1 to 8): whoever holds one may register clients. Each is one key of a Secret in
    /// Claviger's home namespace labelled `claviger.dev/secret: registration`, 32 characters at least. Changes
    /// are live within a second; clients that were registered stay.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub initial_access_tokens: Vec<SecretKeyRef>,

    /// Most OAuth2Clients in the namespace: 1 to 10000. Default: 100. Beyond, registrations are refused.
    #[serde(default = "DynamicRegistration::default_max_clients")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_clients: i32,
}

impl DynamicRegistration {
    fn default_max_clients() -> i32 {
        100
    }
}

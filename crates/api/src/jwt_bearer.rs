//! Kubernetes ServiceAccounts that get tokens of an OAuth2Client for their own (RFC 7523 2.1).

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::client_authentication::ServiceAccountRef;

/// Who may come by grant urn:ietf:params:oauth:grant-type:jwt-bearer, and what their tokens say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct JwtBearer {
    /// ServiceAccounts (1 to 64) of this cluster whose projected tokens are taken. The token's audience must
    /// be the issuer's URL, and it may live for an hour at most. Outside the home namespace: accounts of the
    /// client's own namespace alone.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub service_accounts: Vec<ServiceAccountRef>,

    /// Groups (up to 64) of each of them, in tokens with scope groups. Outside the home namespace each must
    /// begin with `<namespace>:`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<String>,
}

//! What tokens by grant `client_credentials` say of a client: nothing but its identifier, unless it is here.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// What tokens by grant client_credentials say of the client itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ClientCredentials {
    /// Groups (up to 64) the client is in, in tokens with scope groups. An API server may take them
    /// for its users' groups. Outside the home namespace each must begin with `<namespace>:`.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<String>,

    /// `name` and `preferred_username` in tokens with scope profile. An API server may take it for a
    /// user's name, so whoever holds the client's secret is that user there; in the home
    /// namespace only. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,

    /// Further claims (up to 16) in its ID tokens and at userinfo, whatever the scopes. In the home
    /// namespace only. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub claims: Vec<ClientClaim>,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ClientClaim {
    /// Its name: letters, digits, `_`, `.`, `:`, `/` and `-`, beginning with a letter; none that OpenID
    /// Connect defines, such as sub or email.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z][A-Za-z0-9_.:/-]*$"))]
    pub name: String,

    /// Its value. What begins with `system:` is refused as everywhere.
    #[schemars(length(min = 1, max = 512))]
    pub value: String,
}

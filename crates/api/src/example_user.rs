//! The user of an example: what an expression is tried on when it is applied.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// A user as an expression sees one. What is left out the user does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ExampleUser {
    /// `user.userID`, the upstream's identifier; `user.sub` is made of it and `connector`. Default:
    /// example.
    #[serde(default = "ExampleUser::example", rename = "userID")]
    #[schemars(length(min = 1, max = 256))]
    pub user_id: String,

    /// `user.connector`, the name of the connector they signed in with. Default: example.
    #[serde(default = "ExampleUser::example")]
    #[schemars(length(min = 1, max = 253))]
    pub connector: String,

    /// `user.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,

    /// `user.preferredUsername`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub preferred_username: Option<String>,

    /// `user.email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 254))]
    pub email: Option<String>,

    /// `user.emailVerified`. Default: false.
    #[serde(default)]
    pub email_verified: bool,

    /// `user.groups` (up to 32), with the connector's groupPrefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<String>,

    /// `user.claims` (up to 16): further claims of OpenID Connect, such as locale.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub claims: Vec<ExampleClaim>,
}

impl ExampleUser {
    /// A user with an identifier and nothing else.
    pub fn somebody() -> Self {
        Self {
            user_id: Self::example(),
            connector: Self::example(),
            name: None,
            preferred_username: None,
            email: None,
            email_verified: false,
            groups: Vec::new(),
            claims: Vec::new(),
        }
    }

    fn example() -> String {
        "example".to_owned()
    }
}

/// A further claim of an example's user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ExampleClaim {
    /// Its name, such as locale.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,

    /// Its value.
    #[schemars(length(min = 1, max = 256))]
    pub value: String,
}

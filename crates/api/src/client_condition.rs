//! A condition in CEL that every user of an OAuth2Client must meet, and the examples it is tried on.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::example_user::ExampleUser;

/// What every user of this client must meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ClientCondition {
    /// A CEL expression that is true for those who may come in. It sees `user` (sub, userID,
    /// connector, name, preferredUsername, email, emailVerified, groups, claims), `client` (id),
    /// `scopes` and `acr` (empty where the sign-in has no class). What a user does not have is not
    /// there: ask by has() first. An expression that fails lets nobody in. Functions: has, size,
    /// startsWith, endsWith, contains, matches (a pattern as it stands), lowerAscii, split, string,
    /// int, all, exists, exists_one, map, filter. What would take long for a user in many groups is
    /// refused.
    #[schemars(length(min = 1, max = 2_048))]
    pub expression: String,

    /// What a user who is kept out is told. Default: that the client's condition is not met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub message: Option<String>,

    /// Users (up to 16) and what must come out for them. They are tried whenever the client
    /// changes; one that comes out otherwise takes the client out of service, and its conditions
    /// name it. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub examples: Vec<ConditionExample>,
}

/// One user, and whether they may come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ConditionExample {
    /// What the example is called where it comes out otherwise.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,

    /// The user.
    pub user: ExampleUser,

    /// `scopes`. Default: openid.
    #[serde(default = "ConditionExample::openid")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<String>,

    /// `acr`. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub acr: Option<String>,

    /// What must come out: Allow or Deny. An expression that fails is neither.
    pub expect: ConditionVerdict,
}

impl ConditionExample {
    fn openid() -> Vec<String> {
        vec!["openid".to_owned()]
    }
}

/// Whether a user may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionVerdict {
    /// They may.
    Allow,
    /// They may not.
    Deny,
}

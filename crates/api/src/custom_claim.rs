//! Claims that an OIDCIssuer computes of its users in CEL, and the scopes that reveal them.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::example_user::ExampleUser;

/// A claim of the issuer's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct CustomClaim {
    /// Its name in ID tokens and at userinfo: letters, digits, `_`, `.`, `:`, `/` and `-`, beginning
    /// with a letter; none that OpenID Connect or a token defines, such as sub, groups or email.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z][A-Za-z0-9_.:/-]*$"))]
    pub name: String,

    /// The scope that reveals it: openid, email, profile, groups, address, phone or federated:id, or a
    /// word of the issuer's own, which a client may ask for if its `customScopes` lists it (and,
    /// outside the home namespace, `tenants.allowedCustomScopes` too).
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_.:/-]*$"))]
    #[x_kube(
        validation = Rule::new("self != 'offline_access' && !self.startsWith('audience:')")
            .message("scope must not be offline_access, nor begin with audience:, which have a meaning of their own: choose another"),
    )]
    pub scope: String,

    /// A CEL expression over `user`, `client` and `scopes`, as an OAuth2Client's condition sees them. It
    /// gives a string, a bool, an int, a list of strings, or a map of those (up to 256 values and 4096
    /// bytes); null is a claim that is not there. One that fails for a user gives them no token:
    /// ask by has() for what a user may not have. What begins with `system:` is refused as everywhere.
    #[schemars(length(min = 1, max = 2_048))]
    pub expression: String,

    /// Users (up to 16) and what must come out for them. They are tried whenever the issuer changes; one
    /// that comes out otherwise takes the issuer out of service, and its conditions name it.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub examples: Vec<ClaimExample>,
}

/// One user, and what a claim must say of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ClaimExample {
    /// What the example is called where it comes out otherwise.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,

    /// The user.
    pub user: ExampleUser,

    /// `client.id`. Default: example.
    #[serde(default = "ClaimExample::example", rename = "clientID")]
    #[schemars(length(min = 1, max = 317))]
    pub client_id: String,

    /// `scopes`. Default: openid and the claim's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<String>,

    /// What must come out, as JSON: a quoted string, true, 7, an array of strings, an object of those, or
    /// null for a claim that is not there.
    #[serde(rename = "expectJSON")]
    #[schemars(length(min = 1, max = 1_024))]
    pub expect_json: String,
}

impl ClaimExample {
    fn example() -> String {
        "example".to_owned()
    }
}

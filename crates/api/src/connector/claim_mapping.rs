//! `claimMapping`: what an upstream's answer says of a user, in CEL, and the examples it is tried on.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::client_condition::ConditionVerdict;
use crate::example_user::ExampleUser;

/// How the upstream's answer is read. Every expression sees `user` (userID, name, preferredUsername, email,
/// emailVerified, groups, claims), which is what the connector makes of the answer, and `upstream`, the answer itself:
/// the claims of an OpenID provider, the user object of a vendor, the attributes of a directory or of a SAML assertion
/// (each a list of texts). What is not there fails the expression, and one that fails lets nobody in (and ends no
/// session): ask by has() first. Functions as in an OAuth2Client's condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ClaimMapping {
    /// Whom not to let in (up to 8), asked in their order, at sign-in and whenever the upstream is asked again.
    /// Default: nobody is kept out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub deny: Vec<MappingDenial>,

    /// The short name (`preferred_username`): a string, or null for none. Default: as the connector reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub username: Option<String>,

    /// The full name (`name`): a string, or null for none. Default: as the connector reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub name: Option<String>,

    /// The mail address: a string, or null for none. It is not verified, whatever the upstream says, unless
    /// `emailVerified` says so here. Default: as the connector reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub email: Option<String>,

    /// Whether the mail address is verified: true or false. Whoever can choose what it looks at can pass for anybody.
    /// Default: as the connector reads it, and false where `email` is mapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub email_verified: Option<String>,

    /// The groups, without `groupPrefix`: a list of strings (up to 1024). `includeGroups`, `excludeGroups` and
    /// `allowedGroups` look at what comes out. Default: as the connector reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub groups: Option<String>,

    /// Further claims (up to 16). Those of OpenID Connect, such as locale, go into tokens by their scope; others are
    /// `user.claims.<name>` to conditions and to an issuer's own claims. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub claims: Vec<MappedClaim>,

    /// Answers (up to 16) and what must come of them. They are tried whenever the Connector changes; one that comes out
    /// otherwise takes it out of service, and its conditions name it. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub examples: Vec<MappingExample>,
}

/// Whom not to let in, and what they are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct MappingDenial {
    /// A CEL expression that is true for those who are kept out.
    #[schemars(length(min = 1, max = 2_048))]
    pub expression: String,

    /// What they, and the application, are told.
    #[schemars(length(min = 1, max = 256))]
    pub message: String,
}

/// A further claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct MappedClaim {
    /// Its name: letters, digits, `_`, `.`, `:`, `/` and `-`, beginning with a letter; none that has a field here, nor
    /// one that a token defines, such as sub.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z][A-Za-z0-9_.:/-]*$"))]
    pub name: String,

    /// A CEL expression that gives a string, a bool, an int, a list of strings, or a map of those; null is a claim that
    /// is not there.
    #[schemars(length(min = 1, max = 2_048))]
    pub expression: String,
}

/// One answer of the upstream, and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.expect == 'Allow' || !has(self.expectJSON)")
        .message("expectJSON is for users who come in: remove it, or set expect to Allow"),
)]
#[serde(rename_all = "camelCase")]
pub struct MappingExample {
    /// What the example is called where it comes out otherwise.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,

    /// `upstream`: the answer, a JSON object of up to 256 values. Default: {}.
    #[serde(rename = "upstreamJSON", default = "MappingExample::empty")]
    #[schemars(length(min = 2, max = 4_096))]
    pub upstream_json: String,

    /// `user`: what the connector makes of it. `connector` means nothing here.
    #[serde(default = "MappingExample::somebody")]
    pub user: ExampleUser,

    /// Whether they come in: Allow (default) or Deny. An expression that fails is neither.
    #[serde(default = "MappingExample::allow")]
    pub expect: ConditionVerdict,

    /// What must come out, as a JSON object with some of preferredUsername, name, email, emailVerified, groups and
    /// claims; null is what is not there, and what it does not name may be anything. Default: {}.
    #[serde(rename = "expectJSON", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 4_096))]
    pub expect_json: Option<String>,
}

impl MappingExample {
    fn empty() -> String {
        "{}".to_owned()
    }

    fn allow() -> ConditionVerdict {
        ConditionVerdict::Allow
    }

    fn somebody() -> ExampleUser {
        ExampleUser::somebody()
    }
}

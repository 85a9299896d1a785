//! Other issuers whose tokens an OAuth2Client exchanges for ours (RFC 8693): an identity provider, a CI system.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::signing_key::SigningAlgorithm;

/// An issuer whose tokens this client exchanges, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct TrustedIssuer {
    /// A name for this entry. Several may be for one issuer: a token is taken by the first that fits.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// `iss` of the tokens, byte for byte, such as `https://token.actions.githubusercontent.com`. It is part
    /// of the `sub` its workloads get, so that they are nobody else. Outside the home namespace it must be in
    /// the issuer's `tenants.allowedTrustedIssuers`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new("self.matches('^https://[^/?#@]+(/[!-~]*)?$') && self.matches('^[!-~]+$') && !self.contains('?') && !self.contains('#') && !self.contains('\\\\')")
            .message("trustedIssuers: issuer must be https://, in printable ASCII without user, query, fragment, spaces and backslashes"),
    )]
    pub issuer: String,

    /// The only audience the tokens may have. Default: the URL of the OIDCIssuer, which no other service
    /// should take. A token for another service could be brought here by whoever runs that. In the home
    /// namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,

    /// Where the issuer publishes its keys (RFC 7517). Default: where its discovery document says. Kept and
    /// asked for as `authentication.jwksURI` is, at the addresses the operator allows. In the home
    /// namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "jwksURI")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^https://[^/?#@]+([/?][!-~]*)?$') && self.matches('^[!-~]+$') && !self.contains('#') && !self.contains('\\\\')")
            .message("trustedIssuers: jwksURI must be https://, in printable ASCII without user, fragment, spaces and backslashes"),
    )]
    pub jwks_uri: Option<String>,

    /// Algorithms the tokens may be signed by. Default: RS256.
    #[serde(default = "TrustedIssuer::default_algorithms")]
    #[schemars(length(min = 1, max = 9))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub algorithms: Vec<SigningAlgorithm>,

    /// What a token must say (1 to 16), each of it. Whoever may make the issuer sign what is asked for here
    /// may come: of a public CI system that is everybody in the world, unless repository or project is listed.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".to_owned()]))]
    pub claims: Vec<ClaimRule>,

    /// Groups (up to 64) of everybody who comes by this entry, in tokens with scope groups. Outside the home
    /// namespace each must begin with `<namespace>:`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<String>,

    /// A claim whose values are groups too. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_from: Option<GroupsFrom>,

    /// Longest a token may live, from `iat` to `exp`, in seconds: 60 to 86400. Default: 3600. What it is
    /// exchanged for ends with it at the latest.
    #[serde(default = "TrustedIssuer::default_max_lifetime")]
    #[schemars(range(min = 60, max = 86_400))]
    pub max_token_lifetime_seconds: i32,
}

impl TrustedIssuer {
    fn default_algorithms() -> Vec<SigningAlgorithm> {
        vec![SigningAlgorithm::Rs256]
    }

    fn default_max_lifetime() -> i32 {
        3_600
    }
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ClaimRule {
    /// Its name, such as repository, ref or project_path.
    #[schemars(length(min = 1, max = 128))]
    pub claim: String,

    /// Values (1 to 64) of which it must have one, exactly; there are no wildcards. A number or a boolean is
    /// compared as JSON writes it; of a list, one text must be among them.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub values: Vec<String>,
}

/// A claim whose values are groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GroupsFrom {
    /// Its name: a text, or a list of up to 256.
    #[schemars(length(min = 1, max = 128))]
    pub claim: String,

    /// Put before each value, such as `gitlab:`, so that whoever names groups there names none here. Outside
    /// the home namespace it must begin with `<namespace>:`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('system:')")
            .message("groupsFrom.prefix must not begin with 'system:': such groups are refused, choose another"),
    )]
    pub prefix: String,
}

//! `upstream.github`: users of github.com or a GitHub Enterprise.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::{EmailVerification, HttpTls};
use super::oidc::{HTTPS, URL_RULE};
use crate::secret_ref::SecretKeyRef;

/// GitHub. Register Claviger there as an OAuth app or a GitHub App with the callback URL
/// `<issuer>/callback/<name of this Connector>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GithubUpstream {
    /// Where users sign in. Default: `https://github.com`. For GitHub Enterprise Server its address, such as
    /// `https://github.example.com`; for Enterprise Cloud with data residency `https://<name>.ghe.com`.
    #[serde(default = "GithubUpstream::public_url")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub url: String,

    /// Where the REST API is. Default: `https://api.github.com`, `https://api.<name>.ghe.com`, or `/api/v3` below `url`.
    #[serde(rename = "apiURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub api_url: Option<String>,

    /// Client ID of the application at GitHub.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// Its client secret: one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    pub client_secret_ref: SecretKeyRef,

    /// Organizations (up to 64) of which a user must be in at least one, at sign-in and at every refresh. Their groups are
    /// taken: `<organization>` and `<organization>:<team>`. Default: everybody with an account at GitHub is admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".to_owned()]),
        validation = Rule::new("self.all(a, self.filter(b, b.name.lowerAscii() == a.name.lowerAscii()).size() == 1)")
            .message("organizations must list each organization once; GitHub does not tell upper from lower case"),
    )]
    pub organizations: Vec<GithubOrganization>,

    /// Whose groups are taken. Listed (default): those of `organizations`; none where there are none. All: those of every
    /// organization the user is in, though anybody can found one and name it as they like: use `groupPrefix`, and give
    /// rights to groups of organizations you know.
    #[serde(default)]
    pub groups: GithubGroups,

    /// What a team is called in a group. Slug (default): by the name in its address, such as `acme:site-admins`. Name: by
    /// the name people see, such as `acme:Site Admins`. Both: two groups for each team.
    #[serde(default)]
    pub team_names: GithubTeamNames,

    /// Domains (up to 16), in order of preference: the first verified address of the user's in one of them is their mail
    /// address. Default, and for users without one: their primary address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(d, d.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))")
            .message("preferredEmailDomains must be lower-case domains without '@', such as example.com"),
    )]
    pub preferred_email_domains: Vec<String>,

    /// Which mail addresses count as verified. Reported (default): those of which GitHub says so. Always: all; for an
    /// Enterprise Server that verifies none, because its accounts come from a directory.
    #[serde(default)]
    pub email_verification: EmailVerification,

    /// Whom to trust for GitHub's certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

impl GithubUpstream {
    fn public_url() -> String {
        "https://github.com".into()
    }
}

/// An organization whose members are admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GithubOrganization {
    /// Its name in addresses, such as `acme`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$')")
            .message("organizations.name must be the organization's name in addresses, such as acme"),
    )]
    pub name: String,

    /// Its number (`id` at `https://api.github.com/orgs/<name>`), at least 1. Default: whoever has the name is believed,
    /// also somebody who took it over after it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub id: Option<i64>,

    /// Teams (up to 256), by slug (the name in their address), of which the user must be in at least one; no other team's
    /// group is taken. Default: the whole organization.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(t, t.matches('^[a-z0-9_.-]+$'))")
            .message("teams must be slugs, as in the team's address: lower case, no spaces"),
    )]
    pub teams: Vec<String>,
}

/// Whose groups are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GithubGroups {
    /// Those of the listed organizations.
    #[default]
    Listed,
    /// Those of every organization.
    All,
}

/// What a team is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GithubTeamNames {
    /// By its slug.
    #[default]
    Slug,
    /// By its name.
    Name,
    /// Twice.
    Both,
}

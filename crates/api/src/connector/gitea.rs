//! `upstream.gitea`: users of a Gitea or a Forgejo.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpTls;
use super::oidc::{HTTPS, URL_RULE};
use crate::secret_ref::SecretKeyRef;

/// Gitea or Forgejo. Register Claviger there as a confidential OAuth2 application with the redirect URI
/// `<issuer>/callback/<name of this Connector>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GiteaUpstream {
    /// Where it is, as its own `ROOT_URL` says, such as `https://codeberg.org`.
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub url: String,

    /// Client ID of the application there.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// Its secret: one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    pub client_secret_ref: SecretKeyRef,

    /// Organizations (up to 64) of which a user must be in at least one, at sign-in and at every refresh. Their groups are
    /// taken: `<organization>` and `<organization>:<team>`. Default: everybody with an account there is admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".to_owned()]),
        validation = Rule::new("self.all(a, self.filter(b, b.name.lowerAscii() == a.name.lowerAscii()).size() == 1)")
            .message("organizations must list each organization once; Gitea does not tell upper from lower case"),
    )]
    pub organizations: Vec<GiteaOrganization>,

    /// Whose groups are taken. Listed (default): those of `organizations`; none where there are none. All: those of every
    /// organization the user is in, though perhaps anybody can found one: use `groupPrefix`.
    #[serde(default)]
    pub groups: GiteaGroups,

    /// Whom to trust for its certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

/// An organization whose members are admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GiteaOrganization {
    /// Its name in addresses, such as `acme`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_.-]+$')")
            .message("organizations.name must be the organization's name in the addresses of its repositories, such as acme"),
    )]
    pub name: String,

    /// Its number (`id` at `/api/v1/orgs/<name>`), at least 1. Default: whoever has the name is believed, also somebody who
    /// took it over after it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub id: Option<i64>,

    /// Teams (up to 256) of which the user must be in at least one; no other team's group is taken. Default: the whole
    /// organization.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(t, t.matches('^[A-Za-z0-9_.-]+$'))")
            .message("teams must be names as the organization's list of teams shows them, without spaces"),
    )]
    pub teams: Vec<String>,
}

/// Whose groups are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GiteaGroups {
    /// Those of the listed organizations.
    #[default]
    Listed,
    /// Those of every organization.
    All,
}

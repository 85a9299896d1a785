//! `upstream.gitlab`: users of gitlab.com or a GitLab of one's own.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpTls;
use super::oidc::{HTTPS, URL_RULE};
use crate::secret_ref::SecretKeyRef;

/// GitLab. Register Claviger there as an application with the redirect URI `<issuer>/callback/<name of this Connector>`
/// and the scopes `openid`, `profile` and `email`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GitlabUpstream {
    /// Where GitLab is. Default: `https://gitlab.com`. A path below which it is installed counts.
    #[serde(default = "GitlabUpstream::public_url")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub url: String,

    /// Application ID there.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// Its secret: one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    pub client_secret_ref: SecretKeyRef,

    /// Which groups are taken, each by its full path, such as `acme/platform/dba`. Memberships (default): those the user is
    /// a member of, by themselves or by a group above. Accessible: also those that were shared with one of their groups;
    /// it needs the scope `read_api`, which opens everything the user may read, so Claviger then holds a key to it.
    #[serde(default)]
    pub groups: GitlabGroups,

    /// Whether the role in a group makes a further group: None (default), or Suffix, such as `acme:owner`,
    /// `acme:maintainer` and `acme:developer`, for direct members.
    #[serde(default)]
    pub roles: GitlabRoles,

    /// Whom to trust for GitLab's certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

impl GitlabUpstream {
    fn public_url() -> String {
        "https://gitlab.com".into()
    }
}

/// Which groups are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GitlabGroups {
    /// Direct and inherited memberships.
    #[default]
    Memberships,
    /// And those by sharing.
    Accessible,
}

/// Whether a role makes a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GitlabRoles {
    /// It does not.
    #[default]
    None,
    /// A further group, with the role at its end.
    Suffix,
}

//! `upstream.google`: Google accounts, and the groups of a Workspace.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpTls;
use crate::secret_ref::SecretKeyRef;

/// What a domain is, in the language of the rules.
const DOMAIN: &str =
    "self.all(d, d.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))";

/// Google. Create an OAuth client of the type *Web application* in the Google Cloud console with the redirect URI
/// `<issuer>/callback/<name of this Connector>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GoogleUpstream {
    /// Client ID at Google, such as `1234-abcd.apps.googleusercontent.com`.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// Its client secret: one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    pub client_secret_ref: SecretKeyRef,

    /// Workspace domains (up to 64) of which the account must be, at sign-in and at every refresh: Google says which
    /// (`hd`); what an address looks like does not matter. Default: every Google account is admitted, `gmail.com`
    /// included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(DOMAIN)
            .message("hostedDomains must be lower-case domains without '@', such as example.com"),
    )]
    pub hosted_domains: Vec<String>,

    /// How groups of a Workspace are read, by their addresses. Default: they are not, and users have no groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<GoogleGroups>,

    /// Whom to trust for Google's certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

/// How groups of a Workspace are read: by a service account with domain-wide delegation of the scope
/// `https://www.googleapis.com/auth/admin.directory.group.readonly`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct GoogleGroups {
    /// The service account's JSON key file: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`.
    pub service_account_secret_ref: SecretKeyRef,

    /// In whose name groups are read (1 to 64), by Workspace domain. Accounts of other domains have no groups.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["domain".to_owned()]))]
    pub administrators: Vec<GoogleAdministrator>,

    /// Direct (default): groups that the user is in. Nested: also groups that those are in (up to 500 in all; a question
    /// for each at every sign-in and refresh).
    #[serde(default)]
    pub nesting: GoogleNesting,
}

/// In whose name the groups of a domain are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.domain == '*' || self.domain.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("domain must be a lower-case domain, such as example.com, or * for every domain that is not listed"),
)]
#[serde(rename_all = "camelCase")]
pub struct GoogleAdministrator {
    /// A Workspace domain, or `*` for every one that is not listed.
    #[schemars(length(min = 1, max = 253))]
    pub domain: String,

    /// Address of a user there who may read groups; no more is needed.
    #[schemars(length(min = 3, max = 254))]
    pub email: String,
}

/// Which groups are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GoogleNesting {
    /// Those that the user is in.
    #[default]
    Direct,
    /// Also those that these are in.
    Nested,
}

//! `upstream.bitbucketCloud`: users of bitbucket.org.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpTls;
use super::oidc::{HTTPS, URL_RULE};
use crate::secret_ref::SecretKeyRef;

/// Bitbucket Cloud. Register Claviger in a workspace's settings as an OAuth consumer with the callback URL
/// `<issuer>/callback/<name of this Connector>` and the permissions Account: Email and Read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct BitbucketCloudUpstream {
    /// Key of the consumer.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// Its secret: one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    pub client_secret_ref: SecretKeyRef,

    /// Whether the role in a workspace makes a further group. Groups are the workspaces the user is in, by slug, such as
    /// `acme`. None (default): and no more. Suffix: `acme:administrator` besides, for its administrators.
    #[serde(default)]
    pub roles: BitbucketCloudRoles,

    /// Where users sign in. Default: `https://bitbucket.org`. Another is for a gateway in front of it.
    #[serde(default = "BitbucketCloudUpstream::public_url")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub url: String,

    /// Where the API is. Default: `https://api.bitbucket.org/2.0`. Another is for a gateway in front of it.
    #[serde(rename = "apiURL", default = "BitbucketCloudUpstream::public_api")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub api_url: String,

    /// Whom to trust for its certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

impl BitbucketCloudUpstream {
    fn public_url() -> String {
        "https://bitbucket.org".into()
    }
    fn public_api() -> String {
        "https://api.bitbucket.org/2.0".into()
    }
}

/// Whether a role makes a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BitbucketCloudRoles {
    /// It does not.
    #[default]
    None,
    /// A further group, with the role at its end.
    Suffix,
}

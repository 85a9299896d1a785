//! `upstream.linkedin`: members of LinkedIn.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpTls;
use crate::secret_ref::SecretKeyRef;

/// LinkedIn. Register an application there with the product *Sign In with LinkedIn using OpenID Connect* and the redirect
/// URL `<issuer>/callback/<name of this Connector>`. It has no groups, gives refresh tokens to chosen partners alone (so
/// other clients get none from Claviger either), and does not check who its members are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct LinkedinUpstream {
    /// Client ID of the application at LinkedIn.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// Its primary client secret: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`.
    pub client_secret_ref: SecretKeyRef,

    /// Whom to trust for LinkedIn's certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

//! `upstream.openshift`: users of an OpenShift cluster.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpTls;
use super::oidc::{HTTPS, URL_RULE};
use crate::secret_ref::SecretKeyRef;

/// An OpenShift cluster with its own OAuth server. Register Claviger there as a service account with the annotation
/// `serviceaccounts.openshift.io/oauth-redirecturi.claviger: <issuer>/callback/<name of this Connector>`, or as an OAuthClient with
/// that redirect URI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct OpenshiftUpstream {
    /// The cluster's API server, such as `https://api.cluster.example.com:6443`. It says where the OAuth server is.
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub url: String,

    /// `system:serviceaccount:<namespace>:<name>` of the service account, or the name of the OAuthClient. A service account is
    /// better: with its token Claviger can tell a user who is gone from an API server in trouble.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// A token of the service account, or the OAuthClient's secret: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`.
    pub client_secret_ref: SecretKeyRef,

    /// Whom to trust for the certificates of the API server and of the OAuth server, which often have different authorities:
    /// give both. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

//! What every upstream that is spoken to over HTTP has in common.
#![expect(clippy::struct_field_names, reason = "the fields' names are the API's")]

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config_map_ref::ConfigMapKeyRef;
use crate::secret_ref::SecretKeyRef;

/// Which certificates an upstream's web servers may show. They are always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("!has(self.caSecretRef) || !has(self.caBundle)")
        .message("tls takes caSecretRef or caBundle, not both: remove one"),
    validation = Rule::new("!has(self.caConfigMapRef) || (!has(self.caSecretRef) && !has(self.caBundle))")
        .message("tls takes one of caConfigMapRef, caSecretRef and caBundle: remove the others"),
)]
#[serde(rename_all = "camelCase")]
pub struct HttpTls {
    /// Certificate authorities (PEM) to trust instead of the system's: one key of a Secret in the
    /// same namespace, labelled `claviger.dev/secret: connector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,

    /// The same, in a ConfigMap of the same namespace, labelled `claviger.dev/config-map: connector`, as trust-manager makes
    /// them. It counts as soon as it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<ConfigMapKeyRef>,

    /// The same, inline (PEM, up to 64 KiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    #[x_kube(
        validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')")
            .message("caBundle must hold certificates in PEM form (-----BEGIN CERTIFICATE-----)"),
    )]
    pub ca_bundle: Option<String>,
}

/// Which mail addresses count as verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EmailVerification {
    /// Those of which the upstream says so.
    #[default]
    Reported,
    /// All.
    Always,
}

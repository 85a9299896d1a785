//! What an OAuth2Client tells its users about itself, and how one that registered itself is managed.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// Pages about a client, for its users: the consent page links to them. The client's word, not Claviger's.
/// Outside the home namespace their hosts must be in the issuer's `tenants.allowedRedirectURIHosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new(
        "[has(self.clientURI) ? self.clientURI : '', has(self.logoURI) ? self.logoURI : '', \
         has(self.policyURI) ? self.policyURI : '', has(self.tosURI) ? self.tosURI : '']\
         .all(u, u == '' || (u.matches('^https://[^/?#@]+([/?][!-~]*)?$') && u.matches('^[!-~]+$') && \
         !u.contains('#') && !u.contains('\"') && !u.contains('\\\\')))"
    )
    .message("information: URIs must be https://, in printable ASCII without user, fragment, quotes, spaces and backslashes"),
)]
#[serde(rename_all = "camelCase")]
pub struct ClientInformation {
    /// Its home page. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clientURI")]
    #[schemars(length(min = 1, max = 512))]
    pub client_uri: Option<String>,

    /// Its logo; browsers fetch it from there. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "logoURI")]
    #[schemars(length(min = 1, max = 512))]
    pub logo_uri: Option<String>,

    /// What it does with what it learns of its users. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "policyURI")]
    #[schemars(length(min = 1, max = 512))]
    pub policy_uri: Option<String>,

    /// Its terms of service. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "tosURI")]
    #[schemars(length(min = 1, max = 512))]
    pub tos_uri: Option<String>,

    /// Whom to write to about it (up to 8 addresses). Not shown to users. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 254)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub contacts: Vec<String>,
}

/// How the client itself manages its registration (RFC 7592). Written by Claviger when a client registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ClientRegistration {
    /// SHA-256 of the registration access token, base64url. Whoever holds the token may read, change and
    /// delete this client at `<issuer>/register/<name>`; remove `registration` to take that back.
    #[schemars(length(min = 43, max = 43), regex(pattern = "^[A-Za-z0-9_-]{43}$"))]
    pub access_token_digest: String,
}

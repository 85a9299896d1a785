//! How an OAuth2Client learns that a session of its users is over.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// https, or http on loopback, without fragment, wildcard, spaces or backslashes.
const ADDRESS: &str = "self.matches('^[!-~]+$') && !self.contains('\\\\') && !self.contains('#') && !self.contains('*') && \
     (self.matches('^https://[^/?#@]+([/?].*)?$') || \
     self.matches('^http://(localhost|127[.]0[.]0[.]1|\\\\[::1\\\\])(:[0-9]{1,5})?([/?].*)?$'))";

/// Where a client is told, by Claviger itself, that a user signed out (OpenID Connect Back-Channel Logout 1.0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct BackChannelLogout {
    /// Where logout tokens are posted: https, or http on localhost, 127.0.0.1 or `[::1]`, without fragment. Claviger
    /// asks it from inside the cluster: what is not public needs --outbound-allowed-networks. 200 or 204 is
    /// success, 400 a refusal; anything else is tried again for a day.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new(ADDRESS)
        .message("backChannelLogout.uri must be https://, or http:// on localhost, 127.0.0.1 or [::1], without fragment, wildcard, spaces or backslashes"),
    )]
    pub uri: String,

    /// What a logout token names: Session (default), by `sid` alone, which the ID tokens of that session carry;
    /// or SessionAndUser, by `sid` and `sub`, for applications that keep no `sid`. A token that names a user could be
    /// shown to an API server that trusts this client's ID and takes `sub` for the user name, for two minutes.
    #[serde(default)]
    pub names: LogoutTokenNames,
}

/// What a logout token names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogoutTokenNames {
    /// The session.
    #[default]
    Session,
    /// The session and its user.
    SessionAndUser,
}

/// The page by which a client is told, through the user's browser, that a user signed out (OpenID Connect Front-Channel
/// Logout 1.0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct FrontChannelLogout {
    /// The page that is loaded in a frame, with `iss` and `sid` added to its query. Scheme, host and port must be
    /// those of one of the redirectURIs. Browsers that keep third-party cookies from frames do not tell the
    /// application who they are: prefer backChannelLogout.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new(ADDRESS)
        .message("frontChannelLogout.uri must be https://, or http:// on localhost, 127.0.0.1 or [::1], without fragment, wildcard, spaces or backslashes"),
    )]
    pub uri: String,
}

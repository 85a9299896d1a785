//! `upstream.authProxy`: a proxy that has authenticated the user already and says so in headers.
//! Every key of dex's connector has a place here, in our words.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretKeyRef;

/// A header's name. No underscore: many servers drop such headers, and others take them for the same
/// name with a dash.
const HEADER_PATTERN: &str = "^[A-Za-z][A-Za-z0-9-]*$";

/// A trusted proxy: it authenticates users by itself, forwards the callback path to Claviger's own
/// listener for it (`--auth-proxy-listen`) with a client certificate, and names the user in headers.
/// Claviger believes these headers, so whoever holds such a certificate can be anybody here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct AuthProxyUpstream {
    /// Certificate authorities (PEM) that sign the proxy's client certificates: one key of a Secret in
    /// the same namespace, labelled `claviger.dev/secret: connector`. Best one that signs for proxies
    /// alone.
    #[serde(rename = "clientCASecretRef")]
    pub client_ca_secret_ref: SecretKeyRef,

    /// Names (1 to 16) of which the client certificate must carry one as a subject alternative name: a
    /// DNS name, such as proxy.example.com, or a URI, such as spiffe://example.com/proxy, compared
    /// exactly. The certificate's common name is not looked at.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(n, n.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*|[a-z][a-z0-9+.-]*://[!-~]+)$'))")
            .message("allowedClientNames must be lower-case DNS names without wildcard, such as proxy.example.com, or URIs, such as spiffe://example.com/proxy"),
    )]
    pub allowed_client_names: Vec<String>,

    /// Networks (up to 32), such as 10.0.0.0/8, of which the proxy's own address must be in one; the
    /// address of the connection counts, never a header. Only in addition to the certificate: an
    /// ingress has one address for everybody. Default: every address.
    #[serde(rename = "allowedSourceCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(c, isCIDR(c))")
            .message("allowedSourceCIDRs must be networks in CIDR form, such as 10.0.0.0/8 or 2001:db8::/32"),
    )]
    pub allowed_source_cidrs: Vec<String>,

    /// Which headers say what. The proxy must set or remove every header named here on every request:
    /// one it lets through is the user's own word. A header that is there twice, or also in another
    /// spelling (X_Remote_User), is refused.
    #[serde(default)]
    pub headers: AuthProxyHeaders,

    /// Groups (up to 32) of everybody who comes through this proxy, besides those of the header, for
    /// proxies that know none. `allowedGroups` counts for them too. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub static_groups: Vec<String>,

    /// Where the proxy signs its users out. The browser goes there after its user signed out here and said so.
    /// Default: the user stays signed in at the proxy, and is back at their next click.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_out: Option<AuthProxySignOut>,
}

/// Where a proxy signs its users out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct AuthProxySignOut {
    /// Its page, https, such as `https://proxy.example.com/oauth2/sign_out`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^https://[^/?#@\\\\ ]+([/?][!-~]*)?$') && !self.contains('#')")
            .message("signOut.url must be https://, without fragment, user or spaces"),
    )]
    pub url: String,

    /// Name of the query parameter by which that page is told where to send the browser afterwards: `rd` for
    /// oauth2-proxy, which must have Claviger's host in its --whitelist-domain. Default: none, and the browser stays
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_.-]+$"))]
    pub return_parameter: Option<String>,
}

/// Which headers say what. Only `user` has a default: a header that the proxy does not set itself
/// could come from anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthProxyHeaders {
    /// Header with the name the user signed in with (`preferred_username`, and the identifier unless
    /// `userID` names another). It must be there. Default: X-Remote-User.
    #[serde(default = "AuthProxyHeaders::default_user")]
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_PATTERN))]
    pub user: String,

    /// Header with what identifies the user for good and goes into `sub`, such as X-Remote-User-Id. If
    /// named, it must be there. Default: the user's name, which must then never be given to
    /// somebody else.
    #[serde(rename = "userID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_PATTERN))]
    pub user_id: Option<String>,

    /// Header with the mail address, such as X-Remote-User-Email. Default: no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_PATTERN))]
    pub email: Option<String>,

    /// Header that says `true` or `false`: whether the mail address was verified. If named, it must be
    /// there with the address. Default: every address counts as verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_PATTERN))]
    pub email_verified: Option<String>,

    /// Header with the short name (`preferred_username`). Default: that of `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_PATTERN))]
    pub preferred_username: Option<String>,

    /// Header with the full name (`name`), such as X-Remote-User-Name. Default: no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_PATTERN))]
    pub name: Option<String>,

    /// Header with the user's groups, such as X-Remote-Group. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_PATTERN))]
    pub groups: Option<String>,

    /// What stands between two groups; white space around a group is dropped. Default: a comma.
    #[serde(default = "AuthProxyHeaders::default_groups_separator")]
    #[schemars(length(min = 1, max = 8))]
    pub groups_separator: String,
}

impl AuthProxyHeaders {
    fn default_user() -> String {
        "X-Remote-User".into()
    }

    fn default_groups_separator() -> String {
        ",".into()
    }
}

impl Default for AuthProxyHeaders {
    fn default() -> Self {
        Self {
            user: Self::default_user(),
            user_id: None,
            email: None,
            email_verified: None,
            preferred_username: None,
            name: None,
            groups: None,
            groups_separator: Self::default_groups_separator(),
        }
    }
}

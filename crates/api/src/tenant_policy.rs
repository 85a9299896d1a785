//! What an OIDCIssuer admits of clients outside the home namespace: what is not listed is denied.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::browser_sessions::SessionSharing;
use crate::grant::Grant;
use crate::lifetimes::Lifetimes;
use crate::object_ref::NAME_PATTERN;
use crate::response_type::ResponseType;
use crate::scope::Scope;

/// Every one is a host in lower case, or `*.` and at least two labels.
const HOSTS: &str = "self.all(h, h.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$') && \
     (!h.startsWith('*') || h.substring(2).contains('.')))";

/// Bounds on clients outside the home namespace. What is not listed is denied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct TenantPolicy {
    /// Scopes a tenant client may be given. Default: openid, email, profile, groups,
    /// offline_access.
    #[serde(default = "TenantPolicy::default_scopes")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_scopes: Vec<Scope>,

    /// Scopes (up to 16) of the issuer's own `claims` that a tenant client may be given. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_custom_scopes: Vec<String>,

    /// Grants a tenant client may use. Default: authorization_code and refresh_token.
    #[serde(default = "Grant::standard")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_grants: Vec<Grant>,

    /// Response types a tenant client may use. Default: code.
    #[serde(default = "ResponseType::code")]
    #[schemars(length(max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_response_types: Vec<ResponseType>,

    /// Resources (RFC 8707, up to 64) that access tokens of tenant clients may be for, besides
    /// `/userinfo`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_resources: Vec<String>,

    /// Names of the connectors whose users may sign in at tenant clients. Each must be one of the
    /// issuer's `connectors`. Default: none, and nobody can sign in there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253), regex(pattern = NAME_PATTERN)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_connectors: Vec<String>,

    /// Hosts that redirect URIs of tenant clients may have: `app.example.com`, or `*.example.com`
    /// for every host below it; `localhost`, `127.0.0.1` and `[::1]` must be listed to be used.
    /// A private-use scheme such as com.example.app: has no host and is never admitted. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "allowedRedirectURIHosts")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(
            "self.all(h, h == '[::1]' || h.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))"
        )
        .message("allowedRedirectURIHosts must be lower-case hosts, such as app.example.com or *.example.com, without scheme, port or path"),
        validation = Rule::new("self.all(h, !h.startsWith('*') || h.substring(2).contains('.'))")
            .message("allowedRedirectURIHosts: '*.' must be followed by at least two labels, such as *.example.com"),
    )]
    pub allowed_redirect_uri_hosts: Vec<String>,

    /// Hosts (up to 64) of the jwksURI of tenant clients, in lower case; `*.example.com` covers every
    /// subdomain. Claviger asks them for the clients' keys. Default: none, so tenant clients put
    /// their keys in jwks.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "allowedJWKSURIHosts")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(HOSTS)
        .message("allowedJWKSURIHosts must be lower-case hosts, such as app.example.com or *.example.com, without scheme, port or path"),
    )]
    pub allowed_jwks_uri_hosts: Vec<String>,

    /// Hosts (up to 64) of the backChannelLogout of tenant clients, in lower case; `*.example.com` covers every
    /// subdomain. Claviger posts logout tokens there, so a tenant chooses whom it asks. Default: none, so tenant
    /// clients are not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(HOSTS)
        .message("allowedBackChannelLogoutHosts must be lower-case hosts, such as app.example.com or *.example.com, without scheme, port or path"),
    )]
    pub allowed_back_channel_logout_hosts: Vec<String>,

    /// Issuers (up to 32 URLs, exactly as in their tokens) whose tokens tenant clients may exchange, by
    /// `trustedIssuers`, where allowedGrants has token-exchange. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_trusted_issuers: Vec<String>,

    /// Longest an ID or access token of a tenant client may live, in seconds (60 to 86400).
    /// Default: 3600.
    #[serde(default = "TenantPolicy::default_max_id_token", rename = "maxIDTokenLifetimeSeconds")]
    #[schemars(range(min = 60, max = 86_400))]
    pub max_id_token_lifetime_seconds: i32,

    /// Longest a session of a tenant client may live, used or not, in seconds (60 to 31536000).
    /// Default: 2592000 (30 days).
    #[serde(default = "Lifetimes::default_refresh_absolute")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub max_refresh_token_lifetime_seconds: i32,

    /// Separate (default): a sign-in at a tenant client is one of its own. Shared: it begins, and goes on
    /// with, the browser's session, if the client wants that.
    #[serde(default = "SessionSharing::separate")]
    pub browser_sessions: SessionSharing,

    /// Required (default): users of tenant clients are always asked. ClientChoice: the client may
    /// skip it.
    #[serde(default)]
    pub consent: TenantConsent,

    /// Forbidden (default): tenant clients have no condition. Allowed: they may. A condition reads everything about
    /// a user, whatever allowedScopes withholds, and who edits it learns it bit by bit from who gets in.
    #[serde(default)]
    pub conditions: TenantConditions,
}

impl TenantPolicy {
    fn default_scopes() -> Vec<Scope> {
        vec![Scope::OpenId, Scope::Email, Scope::Profile, Scope::Groups, Scope::OfflineAccess]
    }

    fn default_max_id_token() -> i32 {
        3_600
    }
}

/// Whether tenant clients may skip the consent page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TenantConsent {
    /// Users are always asked.
    #[default]
    Required,
    /// The client's own `consent` counts.
    ClientChoice,
}

/// Whether tenant clients may have a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TenantConditions {
    /// They may not.
    #[default]
    Forbidden,
    /// They may, and so read everything about their users.
    Allowed,
}

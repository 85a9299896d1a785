//! `Connector`: an upstream identity provider, and what of its answers is let through.
//!
//! A new upstream is one file here, one variant of [`Upstream`], and its name in the rule that
//! lists the variants (a test compares them).

pub mod active_directory;
pub mod atlassian_crowd;
pub mod auth_proxy;
pub mod bitbucket_cloud;
pub mod claim_mapping;
pub mod client_key;
pub mod gitea;
pub mod github;
pub mod gitlab;
pub mod google;
pub mod http;
pub mod keystone;
pub mod ldap;
pub mod ldap_claims;
pub mod linkedin;
pub mod local;
pub mod microsoft;
pub mod oauth2;
pub mod oidc;
pub mod openshift;
pub mod saml;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use active_directory::ActiveDirectoryUpstream;
pub use atlassian_crowd::AtlassianCrowdUpstream;
pub use auth_proxy::{AuthProxySignOut, AuthProxyUpstream};
pub use bitbucket_cloud::BitbucketCloudUpstream;
pub use claim_mapping::ClaimMapping;
pub use gitea::GiteaUpstream;
pub use github::GithubUpstream;
pub use gitlab::GitlabUpstream;
pub use google::GoogleUpstream;
pub use keystone::KeystoneUpstream;
pub use ldap::LdapUpstream;
pub use linkedin::LinkedinUpstream;
pub use local::LocalUpstream;
pub use microsoft::MicrosoftUpstream;
pub use oauth2::OAuth2Upstream;
pub use oidc::OidcUpstream;
pub use openshift::OpenshiftUpstream;
pub use saml::SamlUpstream;

use crate::schema;

/// An upstream identity provider.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "claviger.dev",
    version = "v1alpha1",
    kind = "Connector",
    plural = "connectors",
    namespaced,
    status = "ConnectorStatus",
    derive = "PartialEq",
    shortname = "oconn",
    category = "claviger",
    doc = "An upstream identity provider: where users come from and what of its answers is let \
           through. Read in Claviger's home namespace only. Its name is part of every `sub` and \
           of the callback path: a renamed connector has other users.",
    printcolumn(name = "Display Name", type_ = "string", json_path = ".spec.displayName"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    // The schema's oneOf says the same, but not in words.
    validation = Rule::new("[has(self.upstream.local), has(self.upstream.ldap), has(self.upstream.activeDirectory), has(self.upstream.authProxy), has(self.upstream.oidc), has(self.upstream.google), has(self.upstream.microsoft), has(self.upstream.linkedin), has(self.upstream.saml), has(self.upstream.github), has(self.upstream.gitlab), has(self.upstream.gitea), has(self.upstream.bitbucketCloud), has(self.upstream.oauth2), has(self.upstream.openshift), has(self.upstream.keystone), has(self.upstream.atlassianCrowd)].filter(x, x).size() == 1")
        .message("upstream must be exactly one of: local, ldap, activeDirectory, authProxy, oidc, google, microsoft, linkedin, saml, github, gitlab, gitea, bitbucketCloud, oauth2, openshift, keystone, atlassianCrowd"),
    validation = Rule::new("!has(self.upstream.authProxy) || (has(self.allowedGroups) && self.allowedGroups.size() > 0)")
        .message("upstream.authProxy needs allowedGroups: its word is not checked, so list the groups it may speak for"),
    validation = Rule::new("!has(self.upstream.github) || !has(self.allowedGroups) || self.allowedGroups.size() == 0 || self.upstream.github.groups == 'All' || has(self.upstream.github.organizations)")
        .message("allowedGroups needs groups to be read: list upstream.github.organizations, or set upstream.github.groups to All"),
    validation = Rule::new("!has(self.upstream.gitea) || !has(self.allowedGroups) || self.allowedGroups.size() == 0 || self.upstream.gitea.groups == 'All' || has(self.upstream.gitea.organizations)")
        .message("allowedGroups needs groups to be read: list upstream.gitea.organizations, or set upstream.gitea.groups to All"),
    validation = Rule::new("!has(self.upstream.oauth2) || !has(self.allowedGroups) || self.allowedGroups.size() == 0 || has(self.upstream.oauth2.claims.groups)")
        .message("allowedGroups needs groups to be read: name their claim in upstream.oauth2.claims.groups"),
    validation = Rule::new("!has(self.proxyURL) || !(has(self.upstream.local) || has(self.upstream.ldap) || has(self.upstream.activeDirectory) || has(self.upstream.authProxy))")
        .message("proxyURL is for upstreams with a web API: remove it"),
    validation = Rule::new("!has(self.allowedGroups) || self.allowedGroups.size() == 0 || !((has(self.upstream.google) && !has(self.upstream.google.groups)) || (has(self.upstream.microsoft) && !has(self.upstream.microsoft.groups)) || (has(self.upstream.linkedin) && !has(self.claimMapping)))")
        .message("allowedGroups needs groups to be read: say groups in upstream.google or upstream.microsoft; LinkedIn has none"),
    validation = Rule::new("self.offlineSessionSeconds == 0 || has(self.upstream.authProxy) || has(self.upstream.saml)")
        .message("offlineSessionSeconds is for upstreams that cannot be asked again (authProxy, saml): remove it, the others are asked at refresh"),
    validation = Rule::new("self.offlineSessionSeconds == 0 || self.offlineSessionSeconds >= 600")
        .message("offlineSessionSeconds must be 0 (no refresh token) or at least 600"),
)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorSpec {
    /// What users see on the login page.
    #[schemars(length(min = 1, max = 64))]
    pub display_name: String,

    /// The upstream: exactly one of local (LocalUser objects), ldap, activeDirectory, authProxy, oidc, google, microsoft, linkedin, saml, github,
    /// gitlab, gitea, bitbucketCloud, oauth2, openshift, keystone
    /// and atlassianCrowd.
    pub upstream: Upstream,

    /// The authentication context class (`acr`, OIDC Core 2) of a sign-in here, such as
    /// `urn:example:mfa` or a level of assurance, in 1 to 255 characters: you vouch for it. Tokens say it,
    /// and applications may insist on it (`acr_values`, `claims`, `requiredACR`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new("self.matches('^[!-~]+$')")
            .message("acr must be printable ASCII without spaces"),
    )]
    pub acr: Option<String>,

    /// Groups (up to 256, as the upstream names them, without `groupPrefix`) of which a user must
    /// be in at least one, at sign-in and at every refresh, whatever scopes the client asks for.
    /// Default: everybody is admitted. An authProxy needs it, and no other group of its users gets
    /// into tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_groups: Vec<String>,

    /// The HTTP proxy through which the upstream is reached, such as `http://proxy.example.com:3128`: for upstreams with a
    /// web API. What goes through it is encrypted to the upstream. Default: none, whatever
    /// the environment says.
    #[serde(rename = "proxyURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^https?://([A-Za-z0-9._-]+|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?/?$')")
            .message("proxyURL must be http:// or https:// with a host and perhaps a port, such as http://proxy.example.com:3128"),
    )]
    pub proxy_url: Option<String>,

    /// How the upstream's answer is read, in CEL. Default: as the connector reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_mapping: Option<ClaimMapping>,

    /// Groups that are let through (up to 32 regular expressions over the whole name, without `groupPrefix`), such as
    /// `team-.*`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include_groups: Vec<String>,

    /// Groups that are not let through (up to 32 regular expressions, as in `includeGroups`), though `includeGroups` would let
    /// them. None of them may be one of `allowedGroups`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude_groups: Vec<String>,

    /// Put before the name of every group, such as `corp:`. Default: none. With several connectors
    /// at one issuer it keeps a group of one from passing for a group of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('system:')")
            .message("groupPrefix must not begin with 'system:': Kubernetes gives such groups power"),
    )]
    pub group_prefix: Option<String>,

    /// Mail domains (up to 64) of which the user's verified address must have one, at sign-in and
    /// at every refresh. Subdomains are listed for themselves. Default: every domain, and no
    /// address at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(d, d.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))")
            .message("emailDomains must be lower-case domains without '@', such as example.com"),
    )]
    pub email_domains: Vec<String>,

    /// Least time in seconds between two questions to the upstream about one session: 0 to 86400.
    /// Default: 0, it is asked at every refresh. A user who is removed upstream keeps access for
    /// this long, plus the life of the last ID token.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86_400))]
    pub recheck_interval_seconds: i32,

    /// For upstreams that cannot be asked again (authProxy, saml): how long after sign-in, in seconds, a
    /// client may refresh without the upstream's word. 0 (default): no refresh token. Else 600 to
    /// 604800. A user who is removed upstream keeps access for as long.
    #[serde(default)]
    #[schemars(range(min = 0, max = 604_800))]
    pub offline_session_seconds: i32,
}

/// Where users come from: exactly one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Upstream {
    /// The LocalUser objects in Claviger's home namespace.
    Local(LocalUpstream),
    /// An LDAP directory.
    Ldap(Box<LdapUpstream>),
    /// A domain of Active Directory.
    ActiveDirectory(Box<ActiveDirectoryUpstream>),
    /// A trusted proxy that names the user in headers.
    AuthProxy(Box<AuthProxyUpstream>),
    /// An OpenID provider.
    Oidc(Box<OidcUpstream>),
    /// An identity provider of SAML 2.0.
    Saml(Box<SamlUpstream>),
    /// Google accounts.
    Google(Box<GoogleUpstream>),
    /// Microsoft Entra ID and personal accounts.
    Microsoft(Box<MicrosoftUpstream>),
    /// LinkedIn.
    Linkedin(Box<LinkedinUpstream>),
    /// github.com or a GitHub Enterprise.
    Github(Box<GithubUpstream>),
    /// gitlab.com or a GitLab of one's own.
    Gitlab(Box<GitlabUpstream>),
    /// A Gitea or a Forgejo.
    Gitea(Box<GiteaUpstream>),
    /// bitbucket.org.
    BitbucketCloud(Box<BitbucketCloudUpstream>),
    /// Any other vendor that speaks OAuth 2.0.
    #[serde(rename = "oauth2")]
    OAuth2(Box<OAuth2Upstream>),
    /// An OpenShift cluster.
    Openshift(Box<OpenshiftUpstream>),
    /// The Identity service of an OpenStack.
    Keystone(Box<KeystoneUpstream>),
    /// An Atlassian Crowd.
    AtlassianCrowd(Box<AtlassianCrowdUpstream>),
}

impl Upstream {
    /// The variant's name in YAML; also the word for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Ldap(_) => "ldap",
            Self::ActiveDirectory(_) => "activeDirectory",
            Self::AuthProxy(_) => "authProxy",
            Self::Oidc(_) => "oidc",
            Self::Saml(_) => "saml",
            Self::Google(_) => "google",
            Self::Microsoft(_) => "microsoft",
            Self::Linkedin(_) => "linkedin",
            Self::Github(_) => "github",
            Self::Gitlab(_) => "gitlab",
            Self::Gitea(_) => "gitea",
            Self::BitbucketCloud(_) => "bitbucketCloud",
            Self::OAuth2(_) => "oauth2",
            Self::Openshift(_) => "openshift",
            Self::Keystone(_) => "keystone",
            Self::AtlassianCrowd(_) => "atlassianCrowd",
        }
    }
}

/// What Claviger says about a Connector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorStatus {
    /// The metadata.generation the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Accepted, ResolvedRefs and their summary Ready (which is what the last question to the
    /// upstream said).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

//! `upstream.activeDirectory`: a domain of Active Directory, by its domain controllers' LDAP. What a plain LDAP
//! connector must be told stands here by default, and there is no way to send a password in the clear.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ldap::LdapTimeouts;
use super::ldap_claims::LdapClaimAttributes;
use crate::config_map_ref::ConfigMapKeyRef;
use crate::object_ref::LocalObjectRef;
use crate::secret_ref::SecretKeyRef;

/// A domain of Active Directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.tls.mode == 'StartTLS' || self.urls.all(u, u.startsWith('ldaps://'))")
        .message("activeDirectory never sends passwords in the clear: use ldaps:// urls, or set tls.mode to StartTLS"),
    validation = Rule::new("self.tls.mode != 'StartTLS' || self.urls.all(u, u.startsWith('ldap://'))")
        .message("tls.mode StartTLS needs ldap:// urls: change the urls, or set tls.mode to LDAPS"),
    validation = Rule::new("self.loginNames.exists(n, n == 'DownLevelLogonName') == has(self.netBIOSDomain)")
        .message("loginNames DownLevelLogonName and netBIOSDomain need each other: set both or neither"),
)]
#[serde(rename_all = "camelCase")]
pub struct ActiveDirectoryUpstream {
    /// Domain controllers of one domain (1 to 8), tried in this order: `ldaps://host[:636]`, or
    /// `ldap://host[:389]` with StartTLS. One that failed is tried last for 30 seconds. No global catalogs (3268,
    /// 3269): they do not know whether an account has expired.
    #[schemars(length(min = 1, max = 8), inner(length(min = 8, max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(u, u.matches('^ldaps?://([A-Za-z0-9._-]+|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?$'))")
            .message("urls must be ldaps://host[:port] or ldap://host[:port], without path, query or user"),
        validation = Rule::new("!self.exists(u, u.matches(':326[89]$'))")
            .message("urls must not be global catalogs (ports 3268 and 3269), which do not know when accounts expire: use 636, or 389 with StartTLS"),
    )]
    pub urls: Vec<String>,

    /// How the connection is protected. Default: TLS from the first byte (LDAPS), verified
    /// against the system's certificate authorities. A domain controller that requires signing is content with either.
    #[serde(default)]
    pub tls: ActiveDirectoryTls,

    /// The account that searches. An ordinary user of the domain may: no rights beyond that are needed.
    pub bind: ActiveDirectoryBind,

    /// The domain, such as `DC=ad,DC=example,DC=com`, or an organizational unit of it. Users and groups are searched
    /// below it, unless `userSearch` or `groupSearch` says otherwise.
    #[serde(rename = "baseDN")]
    #[schemars(length(min = 1, max = 1024))]
    pub base_dn: String,

    /// Label of the field for the user name on the login page. Default: `Username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub username_prompt: Option<String>,

    /// By which names users sign in. Default: SAMAccountName and UserPrincipalName. What holds an `@` is never
    /// compared with a sAMAccountName, and nothing else with the others. If two users match, nobody is signed in.
    #[serde(default = "ActiveDirectoryUpstream::default_login_names")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub login_names: Vec<ActiveDirectoryLoginName>,

    /// The domain's NetBIOS name, such as EXAMPLE, for `loginNames: DownLevelLogonName`. Default: none.
    #[serde(default, rename = "netBIOSDomain", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(
        validation = Rule::new("self.matches('^[^\\\\\\\\/:*?\"<>|@ ]+$')")
            .message("netBIOSDomain is the name before the backslash alone, such as EXAMPLE"),
    )]
    pub net_bios_domain: Option<String>,

    /// Which users may be found at all. Default: every user account below `baseDN`; computers and trusts are none.
    #[serde(default)]
    pub user_search: ActiveDirectoryUserSearch,

    /// Where groups come from and how they are called. Default: all security groups, nested ones and the primary
    /// group too (tokenGroups), by sAMAccountName.
    #[serde(default)]
    pub group_search: ActiveDirectoryGroupSearch,

    /// What identifies a user and goes into `sub`. Default: ObjectGUID, which a user keeps for life, whatever is
    /// renamed and wherever the account moves. ObjectSID changes with a move to another domain.
    #[serde(default)]
    pub id_attribute: ActiveDirectoryIDAttribute,

    /// What becomes `preferred_username`. Default: SAMAccountName.
    #[serde(default)]
    pub preferred_username: ActiveDirectoryUsername,

    /// Whether the attribute mail counts as verified. Default: Verified, as with `ldap`: in Active Directory
    /// administrators alone may write it. Say Unverified where users may edit their own; `emailDomains` then admits
    /// nobody.
    #[serde(default)]
    pub email_verification: ActiveDirectoryEmailVerification,

    /// Attributes that become further claims, such as given_name or phone_number. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_attributes: Option<LdapClaimAttributes>,

    /// What ends a session at its next refresh, besides that the account is gone, disabled or expired, its password
    /// has expired or must be changed, or policy no longer admits it, all of which always do.
    #[serde(default)]
    pub session_end: ActiveDirectorySessionEnd,

    /// How long a domain controller may take.
    #[serde(default)]
    pub timeouts: LdapTimeouts,

    /// Most connections kept open per replica: 1 to 32. Default: 4.
    #[serde(default = "ActiveDirectoryUpstream::default_pool_size")]
    #[schemars(range(min = 1, max = 32))]
    pub pool_size: i32,
}

impl ActiveDirectoryUpstream {
    fn default_login_names() -> Vec<ActiveDirectoryLoginName> {
        vec![ActiveDirectoryLoginName::SamAccountName, ActiveDirectoryLoginName::UserPrincipalName]
    }

    fn default_pool_size() -> i32 {
        4
    }
}

/// How a connection to a domain controller is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("!has(self.caSecretRef) || !has(self.caBundle)")
        .message("tls takes caSecretRef or caBundle, not both: remove one"),
    validation = Rule::new("!has(self.caConfigMapRef) || (!has(self.caSecretRef) && !has(self.caBundle))")
        .message("tls takes one of caConfigMapRef, caSecretRef and caBundle: remove the others"),
)]
#[serde(rename_all = "camelCase")]
pub struct ActiveDirectoryTls {
    /// LDAPS (default): TLS from the first byte. StartTLS: plain at first, then TLS, before anything else is sent.
    #[serde(default)]
    pub mode: ActiveDirectoryTlsMode,

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

    /// Certificate Claviger shows to the domain controller: a Secret of type kubernetes.io/tls in the
    /// same namespace, labelled `claviger.dev/secret: connector`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<LocalObjectRef>,
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveDirectoryTlsMode {
    /// TLS from the first byte.
    #[default]
    #[serde(rename = "LDAPS")]
    Ldaps,
    /// RFC 4511 section 4.14.
    #[serde(rename = "StartTLS")]
    StartTls,
}

/// The account that searches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveDirectoryBind {
    /// Its user principal name (`claviger@ad.example.com`), distinguished name or `DOMAIN\name`.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,

    /// Its password: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`.
    pub password_secret_ref: SecretKeyRef,
}

/// A name that users sign in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveDirectoryLoginName {
    /// `ada`.
    #[serde(rename = "SAMAccountName")]
    SamAccountName,
    /// `ada@ad.example.com`: the attribute userPrincipalName, or, in the domain of `baseDN`, the sAMAccountName
    /// before the `@`, as everywhere in Active Directory.
    UserPrincipalName,
    /// The attribute mail.
    Mail,
    /// `EXAMPLE\ada`.
    DownLevelLogonName,
}

/// Which users may be found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ActiveDirectoryUserSearch {
    /// Where users are. Default: `baseDN` of the connector.
    #[serde(default, rename = "baseDN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub base_dn: Option<String>,

    /// Filter (RFC 4515) that a user must match besides, such as
    /// `(memberOf=CN=Staff,OU=Groups,DC=ad,DC=example,DC=com)`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048))]
    #[x_kube(
        validation = Rule::new("self.startsWith('(') && self.endsWith(')')")
            .message("userSearch.filter must be in parentheses, such as (department=Engineering)"),
    )]
    pub filter: Option<String>,
}

/// Where groups come from and how they are called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.source != 'None' || (!has(self.baseDN) && !has(self.filter))")
        .message("groupSearch.source None searches nothing: remove baseDN and filter"),
)]
#[serde(rename_all = "camelCase")]
pub struct ActiveDirectoryGroupSearch {
    /// TokenGroups (default): what the domain controller itself computes at a logon: security groups alone, nested
    /// ones and the primary group (Domain Users) too. InChain: groups of all kinds, nested ones too, by the matching rule
    /// 1.2.840.113556.1.4.1941, which is slow in large domains; not the primary group. Direct: groups of all
    /// kinds that name the user themselves. None: no groups.
    #[serde(default)]
    pub source: ActiveDirectoryGroupSource,

    /// What a group is called. SAMAccountName (default) is unique in a domain. CN is not: groups of one name in two
    /// places become one. DN changes when the group moves. SID never changes, and is nothing to read.
    #[serde(default)]
    pub name_attribute: ActiveDirectoryGroupName,

    /// Groups elsewhere are left out. Default: `baseDN` of the connector.
    #[serde(default, rename = "baseDN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub base_dn: Option<String>,

    /// Filter (RFC 4515) that a group must match besides, such as `(sAMAccountName=k8s-*)`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048))]
    #[x_kube(
        validation = Rule::new("self.startsWith('(') && self.endsWith(')')")
            .message("groupSearch.filter must be in parentheses, such as (sAMAccountName=k8s-*)"),
    )]
    pub filter: Option<String>,
}

/// Where groups come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveDirectoryGroupSource {
    /// The computed attribute of that name.
    #[default]
    TokenGroups,
    /// A search with the matching rule in chain.
    InChain,
    /// A search for groups with the user among their members.
    Direct,
    /// Nowhere.
    None,
}

/// What a group is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveDirectoryGroupName {
    /// The name before Windows 2000.
    #[default]
    #[serde(rename = "SAMAccountName")]
    SamAccountName,
    /// The common name.
    #[serde(rename = "CN")]
    Cn,
    /// The distinguished name.
    #[serde(rename = "DN")]
    Dn,
    /// The security identifier, S-1-5-21-….
    #[serde(rename = "SID")]
    Sid,
}

/// What identifies a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveDirectoryIDAttribute {
    /// As `3f79048f-42cd-4c77-8426-835cd9f8a3ad`.
    #[default]
    #[serde(rename = "ObjectGUID")]
    ObjectGuid,
    /// As `S-1-5-21-1004336348-1177238915-682003330-512`.
    #[serde(rename = "ObjectSID")]
    ObjectSid,
}

/// What becomes `preferred_username`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveDirectoryUsername {
    /// `ada`.
    #[default]
    #[serde(rename = "SAMAccountName")]
    SamAccountName,
    /// `ada@ad.example.com`, of users that have one.
    UserPrincipalName,
}

/// Whether the mail address counts as verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveDirectoryEmailVerification {
    /// It does.
    #[default]
    Verified,
    /// It does not.
    Unverified,
}

/// What else ends a session at its next refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveDirectorySessionEnd {
    /// The password was changed or reset after the sign-in. Default: EndSession.
    #[serde(default)]
    pub password_changed: ActiveDirectoryOnChange,

    /// The account is locked out at that moment. Default: EndSession. Whoever may send wrong passwords to the domain
    /// can so end other people's sessions; with Ignore a lockout keeps nobody from refreshing, only from signing in.
    #[serde(default)]
    pub locked_out: ActiveDirectoryOnChange,
}

/// What a change means to sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveDirectoryOnChange {
    /// They end.
    #[default]
    EndSession,
    /// Nothing.
    Ignore,
}

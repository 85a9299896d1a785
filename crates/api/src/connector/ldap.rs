//! `upstream.ldap`: an LDAP directory. Every key of dex's connector (but Kerberos) has a place
//! here, in our words.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ldap_claims::LdapClaimAttributes;
use crate::config_map_ref::ConfigMapKeyRef;
use crate::object_ref::LocalObjectRef;
use crate::secret_ref::SecretKeyRef;

/// An attribute's name or OID (RFC 4512 section 2.5), with the matching rule that Active Directory
/// needs for nested groups (`member:1.2.840.113556.1.4.1941:`).
pub(super) const ATTRIBUTE_PATTERN: &str = r"^[A-Za-z0-9][A-Za-z0-9.;-]*(:[0-9.]+:)?$";

/// An LDAP directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.tls.mode != 'LDAPS' || self.urls.all(u, u.startsWith('ldaps://'))")
        .message("tls.mode LDAPS needs ldaps:// urls: change the urls, or set tls.mode to StartTLS"),
    validation = Rule::new("self.tls.mode == 'LDAPS' || self.urls.all(u, u.startsWith('ldap://'))")
        .message("tls.mode StartTLS and Plaintext need ldap:// urls: change the urls, or set tls.mode to LDAPS"),
)]
#[serde(rename_all = "camelCase")]
pub struct LdapUpstream {
    /// Servers of one directory (1 to 4), tried in this order: `ldaps://host[:636]` or
    /// `ldap://host[:389]`.
    #[schemars(length(min = 1, max = 4), inner(length(min = 8, max = 512)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(u, u.matches('^ldaps?://([A-Za-z0-9._-]+|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?$'))")
            .message("urls must be ldaps://host[:port] or ldap://host[:port], without path, query or user"),
    )]
    pub urls: Vec<String>,

    /// How the connection is protected. Default: TLS from the first byte (LDAPS), verified
    /// against the system's certificate authorities.
    #[serde(default)]
    pub tls: LdapTls,

    /// The account that searches. Default: anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<LdapBind>,

    /// Label of the field for the user name on the login page. Default: `Username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub username_prompt: Option<String>,

    /// How the entry of somebody who signs in is found.
    pub user_search: LdapUserSearch,

    /// How groups are found by searching for them. Default: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_search: Option<LdapGroupSearch>,

    /// How groups are read from an attribute of the user's entry, such as memberOf. Default: they
    /// are not. With `groupSearch` too, the groups of both are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_from_attribute: Option<LdapGroupsFromAttribute>,

    /// How long the directory may take.
    #[serde(default)]
    pub timeouts: LdapTimeouts,

    /// Most connections kept open per replica: 1 to 32. Default: 4.
    #[serde(default = "LdapUpstream::default_pool_size")]
    #[schemars(range(min = 1, max = 32))]
    pub pool_size: i32,
}

impl LdapUpstream {
    fn default_pool_size() -> i32 {
        4
    }
}

/// How a connection to a directory is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("!has(self.caSecretRef) || !has(self.caBundle)")
        .message("tls takes caSecretRef or caBundle, not both: remove one"),
    validation = Rule::new("!has(self.caConfigMapRef) || (!has(self.caSecretRef) && !has(self.caBundle))")
        .message("tls takes one of caConfigMapRef, caSecretRef and caBundle: remove the others"),
    validation = Rule::new(
        "self.mode != 'Plaintext' || (!has(self.caSecretRef) && !has(self.caBundle) && !has(self.caConfigMapRef) && \
         !has(self.clientCertificateSecretRef) && self.serverVerification == 'Verify')"
    )
    .message("tls.mode Plaintext uses no certificates: remove the other tls fields, or set tls.mode to LDAPS or StartTLS"),
)]
#[serde(rename_all = "camelCase")]
pub struct LdapTls {
    /// LDAPS (default): TLS from the first byte. StartTLS: plain at first, then TLS, before
    /// anything else is sent. Plaintext: passwords travel in the clear; for tests only.
    #[serde(default)]
    pub mode: LdapTlsMode,

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

    /// Certificate Claviger shows to the directory: a Secret of type kubernetes.io/tls in the
    /// same namespace, labelled `claviger.dev/secret: connector`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<LocalObjectRef>,

    /// Verify (default) or InsecureSkip. InsecureSkip takes any certificate: whoever sits between
    /// reads every password and decides who is in which group. For tests only.
    #[serde(default)]
    pub server_verification: LdapServerVerification,
}

/// How TLS begins, if at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LdapTlsMode {
    /// TLS from the first byte.
    #[default]
    #[serde(rename = "LDAPS")]
    Ldaps,
    /// RFC 4511 section 4.14.
    #[serde(rename = "StartTLS")]
    StartTls,
    /// No TLS.
    Plaintext,
}

/// Whether the directory's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LdapServerVerification {
    /// It is.
    #[default]
    Verify,
    /// It is not.
    InsecureSkip,
}

/// The account that searches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LdapBind {
    /// Its distinguished name.
    #[schemars(length(min = 1, max = 1024))]
    pub dn: String,

    /// Its password: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`.
    pub password_secret_ref: SecretKeyRef,
}

/// How the entry of somebody who signs in is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct LdapUserSearch {
    /// Where users are.
    #[serde(rename = "baseDN")]
    #[schemars(length(min = 1, max = 1024))]
    pub base_dn: String,

    /// Filter (RFC 4515) that a user must match besides the name, such as `(objectClass=person)`.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048))]
    #[x_kube(
        validation = Rule::new("self.startsWith('(') && self.endsWith(')')")
            .message("userSearch.filter must be in parentheses, such as (objectClass=person)"),
    )]
    pub filter: Option<String>,

    /// Subtree (default): everything below `baseDN`. OneLevel: directly below it.
    #[serde(default)]
    pub scope: LdapSearchScope,

    /// Attributes (1 to 8) of which one must equal what the user typed, such as uid and mail. If
    /// two entries match, nobody is signed in.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub username_attributes: Vec<String>,

    /// Attribute that identifies the user and goes into `sub`; `DN` means the entry's
    /// distinguished name. Default: uid, as dex. A value that is given to somebody else later gives
    /// them the sub too: entryUUID (or objectGUID in Active Directory) is never given twice.
    #[serde(default = "LdapUserSearch::default_id_attribute")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub id_attribute: String,

    /// Attribute with the mail address, which counts as verified. Default: mail.
    #[serde(default = "LdapUserSearch::default_email_attribute")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub email_attribute: String,

    /// Mail domain for directories without addresses: the address is then the user's
    /// `idAttribute`, '@' and this, and `emailAttribute` is not read. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new("!self.contains('@')")
            .message("userSearch.emailSuffix is a domain without '@', such as example.com"),
    )]
    pub email_suffix: Option<String>,

    /// Attribute with the full name (`name`), such as cn. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub name_attribute: Option<String>,

    /// Attribute with the short name (`preferred_username`), such as uid. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub preferred_username_attribute: Option<String>,

    /// Attributes that become further claims, such as given_name or phone_number. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_attributes: Option<LdapClaimAttributes>,
}

impl LdapUserSearch {
    fn default_id_attribute() -> String {
        "uid".into()
    }

    fn default_email_attribute() -> String {
        "mail".into()
    }
}

/// How deep a search goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LdapSearchScope {
    /// Everything below the base.
    #[default]
    Subtree,
    /// Directly below the base.
    OneLevel,
}

/// How groups are found by searching for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct LdapGroupSearch {
    /// Where groups are.
    #[serde(rename = "baseDN")]
    #[schemars(length(min = 1, max = 1024))]
    pub base_dn: String,

    /// Filter (RFC 4515) that a group must match besides, such as `(objectClass=groupOfNames)`.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048))]
    #[x_kube(
        validation = Rule::new("self.startsWith('(') && self.endsWith(')')")
            .message("groupSearch.filter must be in parentheses, such as (objectClass=groupOfNames)"),
    )]
    pub filter: Option<String>,

    /// Subtree (default): everything below `baseDN`. OneLevel: directly below it.
    #[serde(default)]
    pub scope: LdapSearchScope,

    /// What makes a user a member (1 to 8); the groups of all are joined.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub user_matchers: Vec<LdapUserMatcher>,

    /// Attribute of a group that is its name. Default: cn.
    #[serde(default = "LdapGroupSearch::default_name_attribute")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub name_attribute: String,

    /// How many levels of groups within groups are followed where a matcher has
    /// `recursionGroupAttribute`: 1 to 16. Default: 8. Each level asks the directory again.
    #[serde(default = "LdapGroupSearch::default_nested_depth")]
    #[schemars(range(min = 1, max = 16))]
    pub nested_depth: i32,
}

impl LdapGroupSearch {
    fn default_name_attribute() -> String {
        "cn".into()
    }

    fn default_nested_depth() -> i32 {
        8
    }
}

/// What makes a user a member of a group: an attribute of the user equals one of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LdapUserMatcher {
    /// Attribute of the user; `DN` means the entry's distinguished name.
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub user_attribute: String,

    /// Attribute of the group, such as member or memberUid. In Active Directory
    /// `member:1.2.840.113556.1.4.1941:` finds nested groups in one search.
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub group_attribute: String,

    /// Attribute of a group that names the groups in it by distinguished name, such as member.
    /// Default: none, nested groups are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub recursion_group_attribute: Option<String>,
}

/// How groups are read from an attribute of the user's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.nestedDepth == 0 || self.nameFormat == 'FirstRDN'")
        .message("groupsFromAttribute.nestedDepth needs nameFormat FirstRDN: a bare value leads to no further group"),
)]
#[serde(rename_all = "camelCase")]
pub struct LdapGroupsFromAttribute {
    /// The attribute. Default: memberOf.
    #[serde(default = "LdapGroupsFromAttribute::default_attribute")]
    #[schemars(length(min = 1, max = 128), regex(pattern = ATTRIBUTE_PATTERN))]
    pub attribute: String,

    /// FirstRDN (default): the attribute holds distinguished names, and a group's name is the
    /// value of the first part, so cn=admins,ou=groups,dc=example,dc=com is admins; groups of one
    /// name in two places become one. Value: the attribute's value is the name.
    #[serde(default)]
    pub name_format: LdapGroupNameFormat,

    /// How many levels of groups within groups are followed, by reading the same attribute of
    /// each group's entry: 0 to 16. Default: 0. With `nameFormat: Value` there is nothing to
    /// follow.
    #[serde(default)]
    #[schemars(range(min = 0, max = 16))]
    pub nested_depth: i32,
}

impl LdapGroupsFromAttribute {
    fn default_attribute() -> String {
        "memberOf".into()
    }
}

/// How an attribute's value becomes a group's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LdapGroupNameFormat {
    /// The value of the first relative distinguished name.
    #[default]
    #[serde(rename = "FirstRDN")]
    FirstRdn,
    /// As it is.
    Value,
}

/// How long the directory may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LdapTimeouts {
    /// To connect, TLS included, in seconds: 1 to 60. Default: 5.
    #[serde(default = "LdapTimeouts::default_connect")]
    #[schemars(range(min = 1, max = 60))]
    pub connect_seconds: i32,

    /// To answer one bind or search, in seconds: 1 to 60. Default: 10.
    #[serde(default = "LdapTimeouts::default_operation")]
    #[schemars(range(min = 1, max = 60))]
    pub operation_seconds: i32,
}

impl LdapTimeouts {
    fn default_connect() -> i32 {
        5
    }

    fn default_operation() -> i32 {
        10
    }
}

impl Default for LdapTimeouts {
    fn default() -> Self {
        Self {
            connect_seconds: Self::default_connect(),
            operation_seconds: Self::default_operation(),
        }
    }
}

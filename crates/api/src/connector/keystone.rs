//! `upstream.keystone`: users of an OpenStack.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::{EmailVerification, HttpTls};
use super::oidc::{HTTPS, URL_RULE};
use crate::secret_ref::SecretKeyRef;

/// The Identity service of an OpenStack (Keystone, API version 3). Users of one domain sign in on Claviger's page by their name
/// and password; groups and the account's state are read by a service account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct KeystoneUpstream {
    /// The Identity endpoint with its version, such as `https://keystone.example.com:5000/v3`.
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(
        validation = Rule::new(HTTPS).message(URL_RULE),
        validation = Rule::new("self.matches('/v3/?$')")
            .message("keystone.url must end with the API's version, such as https://keystone.example.com:5000/v3"),
    )]
    pub url: String,

    /// The domain of the users. Nobody else can sign in, and groups of other domains are not taken: names are unique in one
    /// domain alone.
    pub domain: KeystoneDomain,

    /// The account that reads users and groups. It needs the role `reader`, on the domain (or on the system) and no more.
    pub service_account: KeystoneServiceAccount,

    /// Label of the field for the user name on the login page. Default: `Username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub username_prompt: Option<String>,

    /// Which mail addresses count as verified. Reported (default): none, for Keystone says nothing of it. Always: every address;
    /// right where administrators alone write them, as with Keystone's own policy.
    #[serde(default)]
    pub email_verification: EmailVerification,

    /// What ends a session at its next refresh, besides that the user is gone or disabled, or the domain is: the end of the
    /// password's life (`password_expires_at`). End (default), Ignore.
    #[serde(default)]
    pub expired_password: KeystoneExpiredPassword,

    /// Whom to trust for its certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

/// A domain of Keystone's, by what cannot change or by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("has(self.id) != has(self.name)")
        .message("a domain of Keystone's is said by id or by name: set exactly one"),
)]
#[serde(rename_all = "camelCase")]
pub struct KeystoneDomain {
    /// Its ID, such as `default`. Safer than the name, which can be given to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_-]+$')")
            .message("domain.id must be the ID that `openstack domain list` shows"),
    )]
    pub id: Option<String>,

    /// Its name, such as `Default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub name: Option<String>,
}

/// The account that reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct KeystoneServiceAccount {
    /// Its user name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,

    /// Its domain. Default: the domain of the users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<KeystoneDomain>,

    /// Its password: one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    pub password_secret_ref: SecretKeyRef,

    /// Where it has its role. Domain (default): on the domain of the users. System: on the whole system, which opens every
    /// domain's users to whoever has the password.
    #[serde(default)]
    pub scope: KeystoneScope,
}

/// Where the service account has its role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeystoneScope {
    /// On the domain of the users.
    #[default]
    Domain,
    /// On the system.
    System,
}

/// Whether a session ends with the life of the password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeystoneExpiredPassword {
    /// It does: Keystone would not let the user sign in.
    #[default]
    End,
    /// It does not.
    Ignore,
}

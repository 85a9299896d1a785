//! `upstream.microsoft`: accounts of Microsoft Entra ID, and personal ones.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpTls;
use crate::object_ref::LocalObjectRef;
use crate::secret_ref::SecretKeyRef;

/// Microsoft. Register an application in Entra ID with the platform *Web*, the redirect URI
/// `<issuer>/callback/<name of this Connector>`, and the delegated permissions of Microsoft Graph `User.Read` and, for
/// groups, `GroupMember.Read.All` (an administrator consents).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("[has(self.clientSecretRef), has(self.certificateSecretRef), has(self.federatedCredential)].filter(said, said).size() == 1")
        .message("say exactly one of clientSecretRef, certificateSecretRef and federatedCredential, by which Microsoft knows Claviger"),
    validation = Rule::new("!(self.tenant in ['common', 'organizations']) || (has(self.allowedTenants) && self.allowedTenants.size() > 0)")
        .message("tenant common and organizations admit every tenant in the world: list those you mean in allowedTenants, or name one tenant"),
    validation = Rule::new("self.tenant in ['common', 'organizations'] || !has(self.allowedTenants) || self.allowedTenants.size() == 0")
        .message("allowedTenants is for tenant common and organizations: remove it, this connector has one tenant"),
)]
#[serde(rename_all = "camelCase")]
pub struct MicrosoftUpstream {
    /// Who may sign in: the ID of a tenant (a lower-case UUID, not its domain), `organizations` (work and school
    /// accounts of `allowedTenants`), `common` (personal accounts too, if `allowedTenants` lists their tenant
    /// `9188040d-6c67-4c5b-b112-36a304b66dad`), or `consumers` (personal accounts alone).
    #[schemars(length(min = 1, max = 36))]
    #[x_kube(validation = Rule::new(TENANT)
        .message("tenant must be a tenant's ID (a lower-case UUID, as the overview of Entra ID shows it), common, organizations or consumers"))]
    pub tenant: String,

    /// IDs of tenants (up to 64) whose accounts are admitted, at sign-in and at every refresh. Needed for tenant `common`
    /// and `organizations`. Users are then identified by tenant and object ID: `<tenant>/<object>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 36, max = 36)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(t, t.matches('^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'))")
            .message("allowedTenants must be tenants' IDs: lower-case UUIDs, as the overview of Entra ID shows them"),
    )]
    pub allowed_tenants: Vec<String>,

    /// Whose cloud: Global (default), USGovernment or China.
    #[serde(default)]
    pub cloud: MicrosoftCloud,

    /// Application (client) ID.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ -~]+$')")
            .message("clientID must be printable ASCII, as the provider shows it"),
    )]
    pub client_id: String,

    /// The value of its client secret: one key of a Secret in the same namespace, labelled
    /// `claviger.dev/secret: connector`. One of this, `certificateSecretRef` and `federatedCredential` is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretKeyRef>,

    /// A certificate of the application instead of a client secret: a Secret of type kubernetes.io/tls in the same namespace,
    /// labelled `claviger.dev/secret: connector`, with an RSA key of 2048 bits or more. Upload the certificate to the
    /// registration; another one takes over as soon as the Secret holds it, so upload that first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_secret_ref: Option<LocalObjectRef>,

    /// A federated credential of the application instead of a client secret: Claviger's pods show a ServiceAccount token
    /// that their cluster signs, and there is nothing to keep or to rotate. It needs a registration that trusts the
    /// cluster's issuer and `system:serviceaccount:<namespace>:<ServiceAccount>` of Claviger, an issuer whose keys Microsoft
    /// can read, and the flag `--azure-federated-token-file` (in the chart, `azureFederatedToken.create`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federated_credential: Option<MicrosoftFederatedCredential>,

    /// What a user's mail address is. Mail (default): their mailbox (`mail`), verified only where the token says that
    /// the tenant owns its domain (`xms_edov`, an optional claim to be switched on at the registration): a tenant can
    /// write whatever it likes there. UserPrincipalName: their sign-in name, whose domain the tenant has shown to be its
    /// own.
    #[serde(default)]
    pub email: MicrosoftEmail,

    /// How groups are read, nested ones included. Default: they are not, and users have no groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<MicrosoftGroups>,

    /// Domain whose sign-in page is shown at once (`domain_hint`). Default: Microsoft asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub domain_hint: Option<String>,

    /// Whom to trust for Microsoft's certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

/// That this process's own token is shown. There is nothing to say of it: which file holds it, no Connector chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MicrosoftFederatedCredential {}

/// A tenant, or the words for several.
const TENANT: &str = "self in ['common', 'organizations', 'consumers'] || \
    self.matches('^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')";

/// Whose cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MicrosoftCloud {
    /// `login.microsoftonline.com`.
    #[default]
    Global,
    /// `login.microsoftonline.us`.
    USGovernment,
    /// `login.partner.microsoftonline.cn`.
    China,
}

/// What a user's mail address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MicrosoftEmail {
    /// `mail`.
    #[default]
    Mail,
    /// `userPrincipalName`.
    UserPrincipalName,
}

/// How groups are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct MicrosoftGroups {
    /// What a group is called. ID (default): by its object ID. DisplayName: by the name people see, which is not unique,
    /// and which whoever may create a group chooses: give rights to IDs, or restrict who creates groups.
    #[serde(default)]
    pub names: MicrosoftGroupNames,

    /// Which groups. Security (default): security groups. All: those for mail and collaboration too, which users create
    /// themselves.
    #[serde(default)]
    pub types: MicrosoftGroupTypes,
}

/// What a group is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MicrosoftGroupNames {
    /// Its object ID.
    #[default]
    ID,
    /// Its display name.
    DisplayName,
}

/// Which groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MicrosoftGroupTypes {
    /// Security groups.
    #[default]
    Security,
    /// All.
    All,
}

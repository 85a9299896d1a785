//! `upstream.atlassianCrowd`: users of an Atlassian Crowd.

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::{EmailVerification, HttpTls};
use super::oidc::{HTTPS, URL_RULE};
use crate::secret_ref::SecretKeyRef;

/// An Atlassian Crowd, or a Jira that serves as one. Users sign in on Claviger's page by their name and password. Register
/// Claviger there as a generic application, whose remote addresses are those it calls from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct AtlassianCrowdUpstream {
    /// Its base URL, such as `https://crowd.example.com/crowd`.
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new(HTTPS).message(URL_RULE))]
    pub url: String,

    /// Name of the application there.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new("!self.contains(':')")
            .message("applicationName must have no colon: HTTP Basic ends a name with it"),
    )]
    pub application_name: String,

    /// The application's password: one key of a Secret in the same namespace, labelled `claviger.dev/secret: connector`.
    pub application_password_secret_ref: SecretKeyRef,

    /// What identifies a user and goes into `sub`. Key (default): the key of the directory, which a user keeps when renamed, and
    /// which nobody takes over. Name: for directories that give none; whoever gets a name that was given up is the same user
    /// here.
    #[serde(default, rename = "userID")]
    pub user_id: AtlassianCrowdUserID,

    /// Which groups count. Nested (default): those within which the user's are, too. Direct: the user's own alone.
    #[serde(default)]
    pub groups: AtlassianCrowdGroups,

    /// Which mail addresses count as verified. Reported (default): none, for Crowd says nothing of it. Always: every address;
    /// right where users cannot write their own.
    #[serde(default)]
    pub email_verification: EmailVerification,

    /// Label of the field for the user name on the login page. Default: `Username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub username_prompt: Option<String>,

    /// Whom to trust for its certificates. Default: the system's certificate authorities.
    #[serde(default)]
    pub tls: HttpTls,
}

/// What identifies a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AtlassianCrowdUserID {
    /// The directory's key.
    #[default]
    Key,
    /// The user name, in lower case.
    Name,
}

/// Which groups count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AtlassianCrowdGroups {
    /// Those within which the user's are, too.
    #[default]
    Nested,
    /// The user's own.
    Direct,
}

//! `Session`: one sign-in of one user at one client, or of one browser.
//!
//! Written by Claviger alone. What counts is inside `payload`, sealed; the other fields are for
//! people, selectors and atomic preconditions, and are few: every login stores them. When the user signed in is
//! in the payload; `metadata.creationTimestamp` says since when the object is stored here. No status subresource: a create would drop it, and
//! creating one is the single use of an authorization code.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One sign-in.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "claviger.dev",
    version = "v1alpha1",
    kind = "Session",
    plural = "sessions",
    namespaced,
    derive = "PartialEq",
    shortname = "sess",
    category = "claviger",
    doc = "One sign-in of one user at one client, written by Claviger. Delete it to sign the user \
           out: the next refresh is refused. Editing it does not give anybody more rights, but \
           whoever may write sessions may replay them: give nobody that right.",
    selectable = ".spec.state",
    selectable = ".spec.user",
    selectable = ".spec.clientID",
    selectable = ".spec.connector",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.clientID"),
    printcolumn(name = "Connector", type_ = "string", json_path = ".spec.connector"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    // Not a date: kubectl prints a date that is still to come as "<invalid>".
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Reason", type_ = "string", priority = 1, json_path = ".spec.revokedReason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("oldSelf.state != 'Revoked' || self.state == 'Revoked'")
        .message("a Revoked session stays Revoked: the user must sign in again"),
    validation = Rule::new("self.generation >= oldSelf.generation")
        .message("generation never goes back: a used refresh token would be valid again"),
    validation = Rule::new("self.clientUID == oldSelf.clientUID && self.type == oldSelf.type")
        .message("type and clientUID are immutable: a session belongs to nobody else"),
)]
#[serde(rename_all = "camelCase")]
pub struct SessionSpec {
    /// Pending: signed in, the application has not fetched its tokens. Active: in use. Revoked:
    /// over, kept so that nothing replayed can bring it back.
    pub state: SessionState,

    /// Client: of one user at one client. Browser: of one user in one browser.
    #[serde(rename = "type")]
    pub type_: SessionType,

    /// How often the refresh token was exchanged for the next.
    #[schemars(range(min = 0))]
    pub generation: i64,

    /// UID of the OAuth2Client; empty for a browser.
    #[serde(rename = "clientUID")]
    #[schemars(length(max = 64))]
    pub client_uid: String,

    /// Client ID, for people and selectors; empty for a browser.
    #[serde(rename = "clientID")]
    #[schemars(length(max = 317))]
    pub client_id: String,

    /// The connector's name, for people and selectors.
    #[schemars(length(max = 253))]
    pub connector: String,

    /// What a person would call the user, for people and selectors: preferred name, mail address,
    /// name or identifier.
    #[schemars(length(max = 512))]
    pub user: String,

    /// When the refresh token was last exchanged.
    pub rotated_at: Time,

    /// When the session is over if it is not used before.
    pub expires_at: Time,

    /// The redemption that made it Active: tells Claviger's own repeated write from a replayed
    /// code.
    #[serde(rename = "redemptionID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub redemption_id: Option<String>,

    /// What the tokens are made from, sealed.
    #[schemars(length(max = 65_536))]
    pub payload: String,

    /// Why it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub revoked_reason: Option<String>,
}

/// Whether a session may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionState {
    /// Signed in, no tokens given yet.
    Pending,
    /// In use.
    Active,
    /// Over.
    Revoked,
}

impl SessionState {
    /// The word in `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Active => "Active",
            Self::Revoked => "Revoked",
        }
    }
}

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionType {
    /// A user's at a client.
    Client,
    /// A user's in a browser.
    Browser,
}

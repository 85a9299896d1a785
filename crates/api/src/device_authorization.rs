//! `DeviceAuthorization`: one device that waits for its user (RFC 8628).
//!
//! Written by Claviger alone, and the one object that somebody who has not signed in causes; hence capped and short-lived. What
//! counts is inside `payload`, sealed; neither of the two codes is stored: the device's is proven by a MAC of its own, the
//! user's is known by one. No status subresource: a create would drop it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One device that waits.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "claviger.dev",
    version = "v1alpha1",
    kind = "DeviceAuthorization",
    plural = "deviceauthorizations",
    namespaced,
    derive = "PartialEq",
    shortname = "devauth",
    category = "claviger",
    doc = "One device that waits for its user to allow it (RFC 8628), written by Claviger and \
           deleted within minutes after it expires. Delete it to let the device wait in vain. \
           Editing it does not give anybody more rights, but whoever may write these may replay \
           them: give nobody that right.",
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.clientID"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    // Not a date: kubectl prints a date that is still to come as "<invalid>".
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("oldSelf.state == 'Pending' || self.state == oldSelf.state")
        .message("what a user decided stays decided: the device must ask anew"),
    validation = Rule::new(
        "self.clientUID == oldSelf.clientUID && self.userCodeMAC == oldSelf.userCodeMAC && self.expiresAt == oldSelf.expiresAt"
    )
    .message("clientUID, userCodeMAC and expiresAt are immutable: the device must ask anew"),
)]
#[serde(rename_all = "camelCase")]
pub struct DeviceAuthorizationSpec {
    /// Pending: its user has not decided. Approved: the device may fetch its tokens, once. Denied: it
    /// may not.
    pub state: DeviceAuthorizationState,

    /// UID of the OAuth2Client.
    #[serde(rename = "clientUID")]
    #[schemars(length(min = 1, max = 64))]
    pub client_uid: String,

    /// Client ID, for people.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 317))]
    pub client_id: String,

    /// What the user's code is known by: ID of a sealing key, and the MAC under it. Without that key
    /// the code cannot be guessed from it.
    #[serde(rename = "userCodeMAC")]
    #[schemars(length(min = 1, max = 64))]
    pub user_code_mac: String,

    /// What the address that the device asked from is known by: ID of a sealing key, and the MAC under it. One address
    /// has a quarter of what may wait at most.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sourceMAC")]
    #[schemars(length(min = 1, max = 64))]
    pub source_mac: Option<String>,

    /// When it is over.
    pub expires_at: Time,

    /// What was asked for; once it is Approved, what was granted and by whom. Sealed.
    #[schemars(length(max = 16_384))]
    pub payload: String,
}

/// What the user decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeviceAuthorizationState {
    /// Nothing yet.
    Pending,
    /// The device may have its tokens.
    Approved,
    /// It may not.
    Denied,
}

/// Device authorizations of an issuer: the one thing that somebody who has not signed in may cause to be
/// stored, hence bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.perClient <= self.total")
        .message("deviceAuthorizations: perClient must not exceed total: lower it or raise total"),
)]
#[serde(rename_all = "camelCase")]
pub struct DeviceAuthorizations {
    /// Seconds in which a device's user must decide and the device fetch its tokens: 60 to 600.
    /// Default: 300. The longer, the longer a code that was sent to a victim can be used.
    #[serde(default = "DeviceAuthorizations::default_lifetime")]
    #[schemars(range(min = 60, max = 600))]
    pub lifetime_seconds: i32,

    /// Devices of one client that may wait at once: 1 to 5000. Default: 200. Beyond, further ones are told
    /// to try again later. A quarter of them, one at least, may be of one address (of IPv6, a /64); so few that
    /// a quarter is one are soon too few where many devices share an address.
    #[serde(default = "DeviceAuthorizations::default_per_client")]
    #[schemars(range(min = 1, max = 5_000))]
    pub per_client: i32,

    /// Devices that may wait at once at this issuer: 1 to 5000. Default: 1000. A quarter of them, one at least,
    /// may be of one address. Each costs the API server about 15 KB of memory.
    #[serde(default = "DeviceAuthorizations::default_total")]
    #[schemars(range(min = 1, max = 5_000))]
    pub total: i32,
}

impl DeviceAuthorizations {
    fn default_lifetime() -> i32 {
        300
    }

    fn default_per_client() -> i32 {
        200
    }

    fn default_total() -> i32 {
        1_000
    }
}

impl Default for DeviceAuthorizations {
    fn default() -> Self {
        Self {
            lifetime_seconds: Self::default_lifetime(),
            per_client: Self::default_per_client(),
            total: Self::default_total(),
        }
    }
}

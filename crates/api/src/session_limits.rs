//! How many sessions an OIDCIssuer may have at once.

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// How many sessions may be live at once. The oldest beyond are revoked (SessionLimitExceeded): those
/// whose sign-in is longest ago, however recently they were refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.perUser <= self.total && self.perClient <= self.total")
        .message("sessionLimits: perUser and perClient must not exceed total: lower them or raise total"),
)]
#[serde(rename_all = "camelCase")]
pub struct SessionLimits {
    /// Of one user, at all clients together: 1 to 10000. Default: 100. A user who signs in oftener
    /// loses their oldest sessions: with 1, every sign-in ends the one before.
    #[serde(default = "SessionLimits::default_per_user")]
    #[schemars(range(min = 1, max = 10_000))]
    pub per_user: i32,

    /// Of one client, of all users together: 1 to 300000. Default: 50000.
    #[serde(default = "SessionLimits::default_per_client")]
    #[schemars(range(min = 1, max = 300_000))]
    pub per_client: i32,

    /// Of this issuer: 1 to 300000. Default: 150000. Each costs the API server about 15 KB of
    /// memory.
    #[serde(default = "SessionLimits::default_total")]
    #[schemars(range(min = 1, max = 300_000))]
    pub total: i32,
}

impl SessionLimits {
    fn default_per_user() -> i32 {
        100
    }

    fn default_per_client() -> i32 {
        50_000
    }

    fn default_total() -> i32 {
        150_000
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            per_user: Self::default_per_user(),
            per_client: Self::default_per_client(),
            total: Self::default_total(),
        }
    }
}

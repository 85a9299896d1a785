//! How long the tokens and sessions of an OIDCIssuer live.
#![expect(clippy::struct_field_names, reason = "durations have their unit in the name")]

use kube_derive::KubeSchema;
use serde::{Deserialize, Serialize};

/// Lifetimes of tokens and sessions, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.refreshTokenIdleSeconds <= self.refreshTokenAbsoluteSeconds")
        .message("refreshTokenIdleSeconds must not exceed refreshTokenAbsoluteSeconds: lower the one or raise the other"),
)]
#[serde(rename_all = "camelCase")]
pub struct Lifetimes {
    /// ID tokens: 60 to 86400. Default: 600. An API server honours an ID token until it expires,
    /// whatever happened to its user: keep it short, clients refresh by themselves.
    #[serde(default = "Lifetimes::default_token")]
    #[schemars(range(min = 60, max = 86_400))]
    pub id_token_lifetime_seconds: i32,

    /// Access tokens: 60 to 86400. Default: 600.
    #[serde(default = "Lifetimes::default_token")]
    #[schemars(range(min = 60, max = 86_400))]
    pub access_token_lifetime_seconds: i32,

    /// A session whose refresh token is not used for this long is over: 60 to 31536000. Default:
    /// 604800 (7 days).
    #[serde(default = "Lifetimes::default_refresh_idle")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub refresh_token_idle_seconds: i32,

    /// A session is over after this, used or not: 60 to 31536000. Default: 2592000 (30 days).
    #[serde(default = "Lifetimes::default_refresh_absolute")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub refresh_token_absolute_seconds: i32,

    /// A refresh token whose answer was lost may be sent again for this long and gets the same
    /// answer: 0 to 60. Default: 10. With 0 a client that loses one answer loses its session.
    #[serde(default = "Lifetimes::default_grace")]
    #[schemars(range(min = 0, max = 60))]
    pub refresh_grace_seconds: i32,
}

impl Lifetimes {
    fn default_token() -> i32 {
        600
    }

    fn default_refresh_idle() -> i32 {
        7 * 86_400
    }

    pub(crate) fn default_refresh_absolute() -> i32 {
        30 * 86_400
    }

    fn default_grace() -> i32 {
        10
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            id_token_lifetime_seconds: Self::default_token(),
            access_token_lifetime_seconds: Self::default_token(),
            refresh_token_idle_seconds: Self::default_refresh_idle(),
            refresh_token_absolute_seconds: Self::default_refresh_absolute(),
            refresh_grace_seconds: Self::default_grace(),
        }
    }
}

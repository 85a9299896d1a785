//! Single sign-on: sessions of browsers, and which clients share them.
#![expect(clippy::struct_field_names, reason = "durations have their unit in the name")]

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sessions of browsers. Each is a Session object of type Browser: delete it to sign that browser out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("self.idleSeconds <= self.absoluteSeconds")
        .message("browserSessions: idleSeconds must not exceed absoluteSeconds: lower the one or raise the other"),
)]
#[serde(rename_all = "camelCase")]
pub struct BrowserSessions {
    /// A session that is not used for this long is over: 60 to 2592000. Default: 3600. It also ends when the
    /// browser is closed.
    #[serde(default = "BrowserSessions::default_idle")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub idle_seconds: i32,

    /// A session is over after this, used or not: 60 to 2592000. Default: 36000 (10 hours).
    #[serde(default = "BrowserSessions::default_absolute")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub absolute_seconds: i32,

    /// How long a browser remembers what its user consented to, so that they are asked once a client: 0 to
    /// 31536000. Default: 2592000 (30 days). With 0 they are asked every time.
    #[serde(default = "BrowserSessions::default_consent")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub remember_consent_seconds: i32,
}

impl BrowserSessions {
    fn default_idle() -> i32 {
        3_600
    }

    fn default_absolute() -> i32 {
        36_000
    }

    fn default_consent() -> i32 {
        30 * 86_400
    }
}

/// Whether a client takes part in single sign-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionSharing {
    /// A sign-in there begins, and goes on with, the browser's session.
    #[default]
    Shared,
    /// Every sign-in there is one of its own.
    Separate,
}

impl SessionSharing {
    pub(crate) fn separate() -> Self {
        Self::Separate
    }
}

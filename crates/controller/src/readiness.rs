//! Whether this replica may be sent requests, and if not, why.

use crate::world::{Progress, World};

/// What `/readyz` says of the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What is missing, each with its fix. Empty means ready.
    pub missing: Vec<String>,
    /// Whether a Snapshot was ever published.
    pub published: bool,
}

impl Readiness {
    /// Whether this replica may be sent requests.
    pub fn is_ready(&self) -> bool {
        self.published && self.missing.is_empty()
    }

    /// Reflectors have not listed yet.
    pub(crate) fn syncing(world: &World) -> Self {
        let missing = world
            .sources
            .iter()
            .filter(|(_, progress)| **progress == Progress::Syncing)
            .map(|(source, _)| {
                format!("{source} not listed yet: is the API server there, and RBAC applied?")
            })
            .collect();
        Self { missing, published: false }
    }
}

//! What `/readyz` asks: everything this replica needs before it may be sent requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger_controller::Readiness;
use claviger_domain::ports::Clock;
use tokio::sync::watch;

use crate::admin;

/// What is asked.
pub struct Sources {
    /// The control plane: reflectors, keys, staleness.
    pub controller: watch::Receiver<Readiness>,
    /// Whether the revoked sessions are listed.
    pub tombstones: Arc<AtomicBool>,
    /// Whether it agrees with the API server's.
    pub clock: Arc<dyn Clock>,
}

impl Sources {
    /// The question as the admin listener asks it.
    pub fn into_check(self) -> admin::Readiness {
        Arc::new(move || {
            let missing = self.missing();
            if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
        })
    }

    /// All that is missing, each with its fix.
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.tombstones.load(Ordering::Acquire) {
            let fix = "may the ServiceAccount list sessions?";
            missing.push(format!("revoked sessions are not listed yet: {fix}"));
        }
        let controller = self.controller.borrow();
        missing.extend(controller.missing.iter().cloned());
        if missing.is_empty() && !controller.published {
            missing.push("the first snapshot is not published yet".into());
        }
        missing.extend(self.clock.doubt());
        missing
    }
}

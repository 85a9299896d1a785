//! The expiry-hour label, put right where it is gone or cannot be ours.
//!
//! What always holds: one session that cannot be labelled keeps no other from it. It is said, counted, and
//! looked at again in the next round.

use std::time::Instant;

use claviger_store::{GarbageCollector, Pace, PageError};

use crate::cleanup::{Leadership, Metrics};

/// Puts labels right at one time.
pub struct Labels<'a> {
    /// Reads and labels.
    pub garbage: &'a GarbageCollector,
    /// Where it is counted.
    pub metrics: &'a Metrics,
    /// Decides how long a tombstone stays.
    pub now: i64,
}

impl Labels<'_> {
    /// One after another, paced, while this replica leads; says how many have their label again.
    ///
    /// # Errors
    /// [`PageError`] where the API server asks for time.
    pub async fn put_right(
        &self,
        names: impl IntoIterator<Item = String>,
        leadership: &mut Leadership,
    ) -> Result<usize, PageError> {
        let mut pace = Pace::default();
        let mut labelled = 0;
        for name in names {
            if !leadership.holds() {
                break;
            }
            let began = Instant::now();
            match self.garbage.label_named(&name, self.now).await {
                Ok(true) => {
                    labelled += 1;
                    self.metrics.labelled();
                }
                Ok(false) => {}
                Err(error @ PageError::Refused(_)) => {
                    self.metrics.failed(&error);
                    tracing::warn!(session = name, %error, "failed to label a session");
                }
                Err(error) => return Err(error),
            }
            leadership.lasts(pace.went_well(began.elapsed())).await;
        }
        if labelled > 0 {
            tracing::warn!(labelled, "sessions had lost their expiry-hour label");
        }
        Ok(labelled)
    }
}

//! Clean-up: what the leader alone does to stored sessions, round after round.
//!
//! It stops between two pages when another replica leads, remembers nothing that matters, and never
//! ends the process: a round that failed is said, counted, and made again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_domain::ports::Clock;
use claviger_store::{GarbageCollector, Pace, PageError};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::sync::watch;
use tokio::time::timeout;

/// The leader's clean-up.
pub struct Cleanup {
    /// Whether this replica leads.
    pub leadership: watch::Receiver<bool>,
    /// What deletes.
    pub garbage: GarbageCollector,
    /// Decides what is over.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted.
    pub metrics: Metrics,
    /// Time between two rounds.
    pub interval: Duration,
}

impl Cleanup {
    /// Cleans up while this replica leads; ends when nobody says any more who does.
    pub async fn run(mut self) {
        while self.leadership.wait_for(|leads| *leads).await.is_ok() {
            if let Err(error) = self.collect().await {
                self.metrics.failed(&error);
                tracing::warn!(%error, "garbage collection stopped; it is tried again");
            }
            self.still_leads_after(self.interval).await;
        }
    }

    /// Waits, but no longer than this replica leads; says whether it still does.
    async fn still_leads_after(&mut self, wait: Duration) -> bool {
        timeout(wait, self.leadership.wait_for(|leads| !*leads)).await.is_err()
    }

    /// Deletes everything that is over, a page at a time.
    async fn collect(&mut self) -> Result<(), PageError> {
        let now = self.clock.now();
        let labelled = self.garbage.label_strays(now).await?;
        if labelled > 0 {
            self.metrics.labelled.inc_by(labelled as u64);
            tracing::warn!(labelled, "sessions had lost their expiry-hour label");
        }
        if !self.garbage.is_due(now).await? {
            self.metrics.last_success.set(now);
            return Ok(());
        }
        let mut pace = Pace::default();
        let mut deleted = 0;
        loop {
            let began = Instant::now();
            let wait = match self.garbage.delete_page(self.clock.now(), pace.limit()).await {
                Ok(gone) => {
                    self.metrics.page(gone.count, began.elapsed());
                    deleted += gone.count;
                    if !gone.more {
                        break;
                    }
                    pace.went_well(began.elapsed())
                }
                Err(PageError::Busy { message, retry_after }) => {
                    tracing::info!(message, "garbage collection waits for the API server");
                    self.metrics.failed(&PageError::Busy { message, retry_after });
                    pace.was_refused(retry_after)
                }
                Err(error) => return Err(error),
            };
            if !self.still_leads_after(wait).await {
                tracing::info!(deleted, "garbage collection is left to the next leader");
                return Ok(());
            }
        }
        tracing::info!(deleted, "sessions that were over are deleted");
        self.metrics.last_success.set(self.clock.now());
        Ok(())
    }
}

/// What clean-up did, counted. Labels are closed words.
pub struct Metrics {
    deleted: IntCounter,
    labelled: IntCounter,
    page_seconds: Histogram,
    errors: IntCounterVec,
    last_success: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a metric of that name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            deleted: IntCounter::new(
                "claviger_garbage_deleted_total",
                "Sessions deleted because they were over.",
            )?,
            labelled: IntCounter::new(
                "claviger_garbage_labelled_total",
                "Sessions whose expiry-hour label was gone and is there again.",
            )?,
            page_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "claviger_garbage_page_seconds",
                    "How long the API server took for a page of deletions.",
                )
                .buckets(vec![0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0]),
            )?,
            errors: IntCounterVec::new(
                Opts::new("claviger_cleanup_errors_total", "Pages that failed, by reason."),
                &["reason"],
            )?,
            last_success: IntGauge::new(
                "claviger_garbage_last_success_timestamp_seconds",
                "When this replica last left nothing to delete; 0 if it never led.",
            )?,
        };
        registry.register(Box::new(metrics.deleted.clone()))?;
        registry.register(Box::new(metrics.labelled.clone()))?;
        registry.register(Box::new(metrics.page_seconds.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.last_success.clone()))?;
        Ok(metrics)
    }

    fn page(&self, count: usize, took: Duration) {
        self.deleted.inc_by(count as u64);
        self.page_seconds.observe(took.as_secs_f64());
    }

    fn failed(&self, error: &PageError) {
        self.errors.with_label_values(&[error.reason()]).inc();
    }
}

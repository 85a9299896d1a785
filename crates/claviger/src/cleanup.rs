//! Clean-up: what the leader alone does to stored sessions, round after round.
//!
//! It stops between two pages when another replica leads, remembers nothing that matters, and never
//! ends the process: a round that failed is said, counted, and made again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use claviger_domain::ports::Clock;
use claviger_domain::{Provider, Snapshot};
use claviger_store::tally::Bound;
use claviger_store::{GarbageCollector, Pace, PageError, RevokedSessions, SessionSweep};
use kube::runtime::events::{Recorder, Reporter};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::session_limits::SessionLimits;

/// Whether this replica leads.
pub struct Leadership(watch::Receiver<bool>);

impl Leadership {
    /// Waits until it does; false when nobody says any more.
    async fn begins(&mut self) -> bool {
        self.0.wait_for(|leads| *leads).await.is_ok()
    }

    /// Waits, but no longer than it does; says whether it still does.
    pub async fn lasts(&mut self, wait: Duration) -> bool {
        timeout(wait, self.0.wait_for(|leads| !*leads)).await.is_err()
    }
}

/// The leader's clean-up.
pub struct Cleanup {
    leadership: Leadership,
    garbage: GarbageCollector,
    limits: SessionLimits,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    interval: Duration,
}

/// What it is made of.
pub struct Parts<'a> {
    /// Must not retry by itself.
    pub client: &'a kube::Client,
    /// Namespace of sessions and issuers.
    pub home: &'a str,
    /// Name of this replica, in Events.
    pub instance: &'a str,
    /// Whether this replica leads.
    pub leadership: watch::Receiver<bool>,
    /// Whose clock and audit are used.
    pub provider: &'a Provider,
    /// Where session limits stand.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Told of every revocation.
    pub revoked: Arc<RevokedSessions>,
    /// Where it is counted.
    pub registry: &'a Registry,
    /// Time between two rounds.
    pub interval: Duration,
}

impl Cleanup {
    /// Puts it together.
    ///
    /// # Errors
    /// When a metric of its names is registered already.
    pub fn new(parts: Parts<'_>) -> prometheus::Result<Self> {
        let Parts { client, home, provider, .. } = parts;
        let garbage = GarbageCollector::new(client.clone(), home);
        let reporter = Reporter {
            controller: "claviger.dev/cleanup".to_owned(),
            instance: Some(parts.instance.to_owned()),
        };
        let limits = SessionLimits {
            sweep: SessionSweep::new(client.clone(), home, parts.revoked),
            garbage: garbage.clone(),
            snapshot: parts.snapshot,
            audit: Arc::clone(&provider.audit),
            clock: Arc::clone(&provider.clock),
            recorder: Recorder::new(client.clone(), reporter),
            home: home.to_owned(),
            watermark: None,
        };
        Ok(Self {
            leadership: Leadership(parts.leadership),
            garbage,
            limits,
            clock: Arc::clone(&provider.clock),
            metrics: Metrics::new(parts.registry)?,
            interval: parts.interval,
        })
    }

    /// Cleans up while this replica leads; ends when nobody says any more who does.
    pub async fn run(mut self) {
        while self.leadership.begins().await {
            if let Err(error) = self.collect().await {
                self.metrics.failed(&error);
                tracing::warn!(%error, "garbage collection stopped; it is tried again");
            }
            let deleted = self.metrics.deleted.get();
            let enforced = self.limits.enforce(&mut self.leadership, &self.metrics, deleted);
            if let Err(error) = enforced.await {
                self.metrics.failed(&error);
                tracing::warn!(%error, "the look for too many sessions stopped; it is tried again");
            }
            self.leadership.lasts(self.interval).await;
        }
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
            if !self.leadership.lasts(wait).await {
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
    stored: IntGauge,
    revoked: IntCounterVec,
}

impl Metrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
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
            stored: IntGauge::new(
                "claviger_sessions_stored",
                "Sessions stored, live or not, when this replica last counted as leader.",
            )?,
            revoked: IntCounterVec::new(
                Opts::new(
                    "claviger_session_limit_revoked_total",
                    "Sessions revoked because there were too many, by the bound exceeded.",
                ),
                &["bound"],
            )?,
        };
        registry.register(Box::new(metrics.deleted.clone()))?;
        registry.register(Box::new(metrics.labelled.clone()))?;
        registry.register(Box::new(metrics.page_seconds.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.last_success.clone()))?;
        registry.register(Box::new(metrics.stored.clone()))?;
        registry.register(Box::new(metrics.revoked.clone()))?;
        Ok(metrics)
    }

    fn page(&self, count: usize, took: Duration) {
        self.deleted.inc_by(count as u64);
        self.page_seconds.observe(took.as_secs_f64());
    }

    /// How many sessions there are.
    pub fn stored(&self, count: u64) {
        self.stored.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many were revoked for a bound.
    pub fn revoked(&self, bound: Bound, count: usize) {
        self.revoked.with_label_values(&[bound.field()]).inc_by(count as u64);
    }

    fn failed(&self, error: &PageError) {
        self.errors.with_label_values(&[error.reason()]).inc();
    }
}

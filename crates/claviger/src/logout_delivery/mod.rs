//! Telling clients that sessions are over: what the leader alone does (Back-Channel Logout 1.0 2.5 to 2.8).
//!
//! ```text
//! watch of marked sessions ─→ queue ─→ read one ─→ what is due ─→ POST ─→ the mark comes off (one patch)
//!                               ↑ backoff ─────────── failed ──────┘
//! ```
//! What always holds: nothing is remembered that the marked session does not say itself, so whoever leads next goes on;
//! a client is told at least once, each time with the same `jti`; what cannot be told within a day, or is refused, is
//! given up, said and counted. Telling never ends the process.

mod queue;

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use claviger_domain::back_channel_logout::{self, Due, NotNow, Receivers, TELL_SECONDS, TellError};
use claviger_domain::ports::AuditEvent;
use claviger_domain::{Provider, Snapshot, session};
use claviger_store::PendingLogouts;
use claviger_store::pending_logout::{Change, Marked};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::sleep_until;

use self::queue::{Job, Outcome, Queue};
use crate::cleanup::Leadership;

/// Deliveries under way at once.
const IN_FLIGHT: usize = 8;
/// How long a request has to end what it began.
const GRACE: Duration = Duration::from_secs(5);
/// Longest sleep: a clock that was in doubt is looked at again.
const TICK: Duration = Duration::from_secs(5);

/// Tells clients while this replica leads.
pub struct LogoutDelivery {
    leadership: Leadership,
    teller: Teller,
    metrics: Metrics,
}

/// What it is made of.
pub struct Parts<'a> {
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// The marked sessions.
    pub pending: PendingLogouts,
    /// Who brings a token to a client.
    pub receivers: Arc<dyn Receivers>,
    /// Whose clock, store and audit are used.
    pub provider: Provider,
    /// Where clients say how they are told.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where it is counted.
    pub registry: &'a Registry,
}

impl LogoutDelivery {
    /// Puts it together.
    ///
    /// # Errors
    /// When a metric of its names is registered already.
    pub fn new(parts: Parts<'_>) -> prometheus::Result<Self> {
        let Parts { leadership, pending, receivers, provider, snapshot, registry } = parts;
        let metrics = Metrics::new(registry)?;
        let (results, no_client) = (metrics.results.clone(), session::object_hash(""));
        let teller = Teller { pending, receivers, provider, snapshot, results, no_client };
        Ok(Self { leadership, teller, metrics })
    }

    /// Delivers while this replica leads; ends when nobody says any more who does.
    pub async fn run(mut self) {
        while self.leadership.begins().await {
            self.lead().await;
            self.metrics.pending.set(0);
        }
    }

    /// Follows the marks until this replica leads no more. What is under way then is left to the next.
    async fn lead(&mut self) {
        let Self { leadership, teller, metrics } = self;
        let mut queue = Queue::default();
        let mut changes = std::pin::pin!(teller.pending.follow());
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < IN_FLIGHT
                && leadership.holds()
                && let Some(job) = queue.next(Instant::now())
            {
                under_way.push(teller.deliver(job));
            }
            metrics.pending.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
            if queue.must_look_again(Instant::now()) {
                changes.set(teller.pending.follow());
            }
            let now = Instant::now();
            let wakes = queue.wakes(now).map_or(now + TICK, |at| at.min(now + TICK));
            tokio::select! {
                () = leadership.ends() => return,
                Some((session, outcome)) = under_way.next(), if !under_way.is_empty() => {
                    let jitter = teller.jitter();
                    queue.came_back(&session, outcome, (Instant::now(), jitter));
                }
                change = changes.next() => match change {
                    Some(Ok(Change::Marked(marked))) => teller.note(&mut queue, &marked),
                    Some(Ok(Change::Gone(name))) => queue.forget(&name),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of clients to be told failed; resuming");
                    }
                    None => return,
                },
                () = sleep_until(wakes.into()) => {}
            }
        }
    }
}

struct Teller {
    pending: PendingLogouts,
    receivers: Arc<dyn Receivers>,
    provider: Provider,
    snapshot: Arc<ArcSwap<Snapshot>>,
    results: IntCounterVec,
    /// What stands for the client of a browser's session.
    no_client: String,
}

impl Teller {
    fn note(&self, queue: &mut Queue, marked: &Marked) {
        let (since, grace) = standing(marked, &self.no_client, self.provider.clock.now());
        queue.mark(&marked.name, &marked.client_hash, (since, Instant::now() + grace));
    }

    /// From 0 to 1.
    fn jitter(&self) -> f64 {
        let mut byte = [0];
        self.provider.entropy.fill(&mut byte);
        f64::from(byte[0]) / 255.0
    }

    /// One try about one session.
    async fn deliver(&self, job: Job) -> (String, Outcome) {
        let outcome = self.attempt(&job).await;
        let overdue = is_overdue(job.since, self.provider.clock.now());
        let outcome = match outcome {
            Outcome::ClientFailed | Outcome::Failed if overdue => {
                self.give_up(&job.session, "LogoutNotDelivered").await
            }
            outcome => outcome,
        };
        (job.session, outcome)
    }

    async fn attempt(&self, job: &Job) -> Outcome {
        let session = match self.pending.read(&job.session).await {
            Ok(Some(session)) => session,
            Ok(None) => return Outcome::Settled,
            Err(error) => return self.failed(job, &error),
        };
        let snapshot = self.snapshot.load_full();
        let notice =
            match back_channel_logout::due(&self.provider, &snapshot, &session, job.since).await {
                Ok(Due::Tell(notice)) => notice,
                Ok(Due::SpreadOut) => return self.settle(&job.session, "spread").await,
                Ok(Due::Nobody(why)) => {
                    tracing::info!(session = job.session, why, "nobody is told of a session's end");
                    return self.settle(&job.session, "nobody").await;
                }
                Ok(Due::Lost(why)) => {
                    tracing::warn!(
                        session = job.session,
                        why,
                        "nobody can say who is to be told of a session's end"
                    );
                    return self.give_up(&job.session, "LogoutNotDelivered").await;
                }
                Err(error @ NotNow::ClientOut) => {
                    // One look at a time for all its sessions, or a broken client costs a read for each, all day.
                    self.failed(job, &error);
                    return Outcome::ClientFailed;
                }
                Err(error) => return self.failed(job, &error),
            };
        let client = notice.client.as_str();
        match self.receivers.tell(&notice).await {
            Ok(()) => {
                tracing::info!(target: "audit", session = job.session, client, "client told of a session's end");
                self.settle(&job.session, "delivered").await
            }
            Err(TellError::Refused(why)) => {
                tracing::warn!(session = job.session, client, why, "a logout token was refused");
                self.give_up(&job.session, "LogoutTokenRefused").await
            }
            Err(error @ TellError::Unavailable(_)) => {
                self.results.with_label_values(&["failed"]).inc();
                let session = &job.session;
                tracing::warn!(session, client, %error, "a client could not be told of a session's end; it is tried again");
                Outcome::ClientFailed
            }
        }
    }

    fn failed(&self, job: &Job, error: &impl Display) -> Outcome {
        self.results.with_label_values(&["failed"]).inc();
        tracing::warn!(session = job.session, %error, "telling a client waits");
        Outcome::Failed
    }

    /// Takes the mark off. Where that fails the client is told again.
    async fn settle(&self, session: &str, result: &str) -> Outcome {
        match self.pending.unmark(session).await {
            Ok(()) => {
                self.results.with_label_values(&[result]).inc();
                Outcome::Settled
            }
            Err(error) => {
                tracing::warn!(session, %error, "a mark could not be taken off; its client is told again");
                Outcome::Failed
            }
        }
    }

    /// Takes the mark off a session whose client will not be told.
    async fn give_up(&self, session: &str, reason: &'static str) -> Outcome {
        let outcome = self.settle(session, "given_up").await;
        if outcome == Outcome::Settled {
            self.provider.audit.record(&AuditEvent::ClientNotTold { session, reason });
        }
        outcome
    }
}

/// Since when a mark stands, and how long its delivery waits: what is said to be of the future would be tried for ever,
/// and the request that ends a browser's session takes its mark off itself, unless it fails half-way.
fn standing(marked: &Marked, no_client: &str, now: i64) -> (i64, Duration) {
    let since = marked.since.map_or(now, |since| since.min(now));
    let is_under_way = marked.since.is_some() && marked.client_hash == no_client;
    (since, if is_under_way { GRACE } else { Duration::ZERO })
}

/// Whether a mark is given up that could not be delivered until now.
fn is_overdue(since: i64, now: i64) -> bool {
    now.saturating_sub(since) >= TELL_SECONDS
}

/// What was told, counted. Labels are closed words.
struct Metrics {
    results: IntCounterVec,
    pending: IntGauge,
}

impl Metrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let results = IntCounterVec::new(
            Opts::new(
                "claviger_logout_deliveries_total",
                "What came of telling clients that sessions are over: delivered, failed (and tried again), given_up \
                 (refused, or too old), nobody (nobody is to be told), spread (a browser's, to its clients').",
            ),
            &["result"],
        )?;
        let pending = IntGauge::new(
            "claviger_logout_pending",
            "Sessions whose clients are yet to be told that they are over; 0 where this replica does not lead.",
        )?;
        registry.register(Box::new(results.clone()))?;
        registry.register(Box::new(pending.clone()))?;
        Ok(Self { results, pending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600;

    fn marked(client_hash: &str, since: Option<i64>) -> Marked {
        Marked { name: "session".into(), client_hash: client_hash.into(), since }
    }

    #[test]
    fn a_mark_of_the_future_or_of_no_time_is_given_up_a_day_from_now() {
        for since in [Some(i64::MAX), Some(NOW + 1), None] {
            let (stands, _) = standing(&marked("client", since), "", NOW);
            assert_eq!(stands, NOW, "{since:?}");
            assert!(!is_overdue(stands, NOW + 86_399));
            assert!(is_overdue(stands, NOW + 86_400));
        }
        assert_eq!(standing(&marked("client", Some(NOW - 5)), "", NOW), (NOW - 5, Duration::ZERO));
    }

    #[test]
    fn a_browsers_session_that_is_just_ending_has_a_moment_and_an_administrators_mark_none() {
        assert_eq!(standing(&marked("", Some(NOW)), "", NOW), (NOW, GRACE));
        assert_eq!(standing(&marked("", None), "", NOW), (NOW, Duration::ZERO));
    }
}

//! Clean-up: what the leader alone does to stored sessions, round after round.
//!
//! It stops between two pages when another replica leads or this one's clock is in doubt, remembers
//! nothing that matters, and never ends the process: a round that failed is said, counted, and made again.
//! What is over goes first: nothing that cannot be done to one session keeps others stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use claviger_domain::ports::Clock;
use claviger_domain::{Provider, Snapshot};
use claviger_store::tally::Bound;
use claviger_store::{
    DeviceGarbage, GarbageCollector, KubeDevices, Pace, PageError, RevokedSessions, SessionSweep,
};
use kube::runtime::events::{Recorder, Reporter};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::expiry_labels::Labels;
use crate::session_limits::SessionLimits;

/// Whether this replica leads, by a clock that is not in doubt. The clock is asked itself: leadership is
/// given up for a doubt too, but up to a second later.
pub struct Leadership {
    leads: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
}

impl Leadership {
    /// Of whoever `leads` says.
    pub fn new(leads: watch::Receiver<bool>, clock: Arc<dyn Clock>) -> Self {
        Self { leads, clock }
    }

    /// Waits until it leads no more.
    pub async fn ends(&mut self) {
        drop(self.leads.wait_for(|leads| !*leads).await);
    }

    /// Waits until it leads; false when nobody says any more.
    pub async fn begins(&mut self) -> bool {
        self.leads.wait_for(|leads| *leads).await.is_ok()
    }

    /// Whether anything may be deleted or revoked now.
    pub fn holds(&self) -> bool {
        *self.leads.borrow() && self.clock.doubt().is_none()
    }

    /// Waits, but no longer than it leads; says whether it still [`holds`](Self::holds).
    pub async fn lasts(&mut self, wait: Duration) -> bool {
        timeout(wait, self.leads.wait_for(|leads| !*leads)).await.is_err() && self.holds()
    }
}

/// The leader's clean-up.
pub struct Cleanup {
    leadership: Leadership,
    garbage: GarbageCollector,
    devices: DeviceGarbage,
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
    /// Devices that wait, or are over.
    pub devices: Arc<KubeDevices>,
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
            leadership: Leadership::new(parts.leadership, Arc::clone(&provider.clock)),
            garbage,
            devices: DeviceGarbage::new(client.clone(), home, parts.devices),
            limits,
            clock: Arc::clone(&provider.clock),
            metrics: Metrics::new(parts.registry)?,
            interval: parts.interval,
        })
    }

    /// Cleans up while this replica leads; ends when nobody says any more who does.
    pub async fn run(mut self) {
        while self.leadership.begins().await {
            self.round().await;
            self.leadership.lasts(self.interval).await;
        }
    }

    async fn round(&mut self) {
        if let Err(error) = self.collect().await {
            self.metrics.failed(&error);
            tracing::warn!(%error, "garbage collection stopped; it is tried again");
        }
        if let Err(error) = self.collect_devices().await {
            self.metrics.failed(&error);
            tracing::warn!(%error, "deleting device authorizations stopped; it is tried again");
        }
        let deleted = self.metrics.deleted.get();
        let enforced = self.limits.enforce(&mut self.leadership, &self.metrics, deleted);
        if let Err(error) = enforced.await {
            self.metrics.failed(&error);
            tracing::warn!(%error, "the look for too many sessions stopped; it is tried again");
        }
        if let Err(error) = self.label_strays().await {
            self.metrics.failed(&error);
            tracing::warn!(%error, "labelling stopped; it is tried again");
        }
    }

    /// Labels what has lost its label, a page at a time.
    async fn label_strays(&mut self) -> Result<(), PageError> {
        let mut next = None;
        while self.leadership.holds() {
            let page = self.garbage.strays(next).await?;
            let names = page.items.into_iter().filter_map(|stray| stray.metadata.name);
            let now = self.clock.now();
            let labels = Labels { garbage: &self.garbage, metrics: &self.metrics, now };
            labels.put_right(names, &mut self.leadership).await?;
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Deletes device authorizations that are over, a page at a time; costs nothing where there are none.
    async fn collect_devices(&mut self) -> Result<(), PageError> {
        let now = self.clock.now();
        let mut pace = Pace::default();
        let mut is_due = self.devices.is_due(now);
        while is_due && self.leadership.holds() {
            let began = Instant::now();
            is_due = self.devices.delete_page(now, pace.limit()).await?.more;
            if is_due && !self.leadership.lasts(pace.went_well(began.elapsed())).await {
                break;
            }
        }
        Ok(())
    }

    /// Deletes everything that is over, a page at a time.
    async fn collect(&mut self) -> Result<(), PageError> {
        let now = self.clock.now();
        if !self.garbage.is_due(now).await? {
            self.metrics.last_success.set(now);
            return Ok(());
        }
        if !self.leadership.holds() {
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
    beyond_total: IntGauge,
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
                Opts::new(
                    "claviger_cleanup_errors_total",
                    "Pages and single sessions that failed, by reason.",
                ),
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
            beyond_total: IntGauge::new(
                "claviger_sessions_beyond_total",
                "Sessions and tombstones beyond sessionLimits.total, when this replica last looked at all.",
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
        registry.register(Box::new(metrics.beyond_total.clone()))?;
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

    /// One had lost its expiry-hour label, and has it again.
    pub fn labelled(&self) {
        self.labelled.inc();
    }

    /// Sessions and tombstones beyond the totals of their issuers.
    pub fn beyond_total(&self, count: u64) {
        self.beyond_total.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A page, or one session, failed.
    pub fn failed(&self, error: &PageError) {
        self.errors.with_label_values(&[error.reason()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use claviger_domain::fakes::{ManualClock, World};
    use claviger_domain::session::object_hash;
    use claviger_store::{Share, WriteGate, WriteLimits};
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    const GOES_ON: &str = "go-on";

    /// An API server with one answer to each request, that remembers what it was asked.
    struct Fixture {
        world: World,
        asked: Arc<Mutex<Vec<String>>>,
        cleanup: Cleanup,
        // Dropped, nobody says who leads.
        _leads: watch::Sender<bool>,
    }

    type Answer = (u16, Value);

    impl Fixture {
        fn new(answer: impl Fn(&str, &ManualClock) -> Answer + Send + Sync + 'static) -> Self {
            let world = World::new();
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (clock, answer) = (Arc::clone(&world.clock), Arc::new(answer));
            let remembered = Arc::clone(&asked);
            let service = tower::service_fn(move |request: Request<Body>| {
                let asked = words(&request);
                let (code, body) = answer(&asked, &clock);
                remembered.lock().unwrap().push(asked);
                let body = Body::from(body.to_string().into_bytes());
                let response = Response::builder().status(code).body(body).unwrap();
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let snapshot =
                Snapshot { issuers: vec![Arc::new(world.issuer.clone())], ..Snapshot::default() };
            let (leads, leadership) = watch::channel(true);
            let client = kube::Client::new(service, "home");
            let one = std::num::NonZeroU32::MIN;
            let share = Share { per_minute: one, burst: one };
            let limits = WriteLimits {
                per_second: one,
                burst: one,
                in_flight: one,
                per_user: share,
                per_session: share,
            };
            let gate = Arc::new(WriteGate::new(limits, &Registry::new()).unwrap());
            let cleanup = Cleanup::new(Parts {
                client: &client,
                home: "home",
                instance: "me",
                leadership,
                provider: &world.provider,
                snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
                revoked: Arc::default(),
                devices: Arc::new(KubeDevices::new(client.clone(), "home", gate)),
                registry: &Registry::new(),
                interval: Duration::from_secs(1),
            });
            Self { world, asked, cleanup: cleanup.unwrap(), _leads: leads }
        }

        fn asked(&self, verb: &str) -> Vec<String> {
            let asked = self.asked.lock().unwrap();
            asked.iter().filter(|asked| asked.starts_with(verb)).cloned().collect()
        }
    }

    /// Verb, name of the session if any, and selector if any: `DELETE <hour`.
    fn words(request: &Request<Body>) -> String {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let name = path.rsplit('/').next().filter(|name| *name != "sessions").unwrap_or_default();
        let which = if query.contains("expiry-hour%3C") || query.contains("expiry-hour<") {
            "over"
        } else if query.contains("labelSelector") {
            "unlabelled"
        } else {
            "all"
        };
        format!("{} {}", request.method(), if name.is_empty() { which } else { name })
    }

    fn list(items: &[Value], next: &str) -> Answer {
        let kind = "PartialObjectMetadataList";
        let metadata = json!({"continue": next, "resourceVersion": "1"});
        (
            200,
            json!({"apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": metadata, "items": items}),
        )
    }

    fn listed(name: &str, labels: &Value) -> Value {
        json!({"metadata": {"name": name, "labels": labels, "creationTimestamp": "2025-01-01T00:00:00Z"}})
    }

    fn session(name: &str) -> Answer {
        let session = json!({
            "apiVersion": "claviger.dev/v1alpha1", "kind": "Session",
            "metadata": {"name": name, "resourceVersion": "7"},
            "spec": {
                "state": "Active", "type": "Client", "generation": 0, "clientUID": "c",
                "clientID": "c", "connector": "n", "user": "u",
                "rotatedAt": "2025-01-01T00:00:00Z",
                "expiresAt": "2025-01-02T00:00:00Z", "payload": "p",
            },
        });
        (200, session)
    }

    fn status(code: u16) -> Answer {
        (code, json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code}))
    }

    #[tokio::test]
    async fn what_is_over_goes_first_and_one_that_cannot_be_labelled_stops_no_other() {
        let mut fixture = Fixture::new(|asked, _| match asked {
            "GET over" | "DELETE over" => list(&[listed("old", &json!({}))], ""),
            "GET unlabelled" => {
                list(&["bad", "odd", "good"].map(|name| listed(name, &json!({}))), "")
            }
            "GET odd" => (200, json!({"metadata": {"name": "odd"}, "spec": "nonsense"})),
            "PATCH bad" => status(422),
            "GET all" => list(&[], ""),
            other => session(other.split(' ').nth(1).unwrap()),
        });
        fixture.cleanup.round().await;
        let asked = fixture.asked.lock().unwrap().clone();
        let at = |what: &str| asked.iter().position(|asked| asked == what);
        assert!(at("DELETE over").unwrap() < at("GET bad").unwrap(), "{asked:?}");
        assert!(at("PATCH good").is_some(), "{asked:?}");
        let metrics = &fixture.cleanup.metrics;
        assert_eq!((metrics.labelled.get(), metrics.deleted.get()), (1, 1));
        assert_eq!(metrics.errors.with_label_values(&["Refused"]).get(), 2);
    }

    #[tokio::test]
    async fn a_clock_in_doubt_deletes_nothing_more_though_it_still_leads() {
        let pages = AtomicUsize::new(0);
        let mut fixture = Fixture::new(move |asked, clock| match asked {
            "DELETE over" => {
                clock.set_doubt(Some("40 s ahead"));
                let goes_on = pages.fetch_add(1, Ordering::Relaxed) < 5;
                list(&[listed("old", &json!({}))], if goes_on { GOES_ON } else { "" })
            }
            "GET over" => list(&[listed("old", &json!({}))], ""),
            _ => list(&[], ""),
        });
        fixture.cleanup.round().await;
        assert_eq!(fixture.asked("DELETE").len(), 1);
        fixture.cleanup.round().await;
        assert_eq!(fixture.asked("DELETE").len(), 1, "not even one page");
        fixture.world.clock.set_doubt(None);
        fixture.cleanup.round().await;
        assert_eq!(fixture.asked("DELETE").len(), 2);
    }

    #[tokio::test]
    async fn a_clock_in_doubt_revokes_and_labels_nothing_more() {
        let issuer = object_hash(&World::new().issuer.uid);
        let mut fixture = Fixture::new(move |asked, clock| match asked {
            "GET all" => {
                let labels = json!({
                    "claviger.dev/issuer-hash": issuer, "claviger.dev/user-hash": "ann",
                    "claviger.dev/client-hash": "a",
                    "claviger.dev/expiry-hour": (clock.now() / 3_600 + 1).to_string(),
                });
                list(&["1", "2", "3"].map(|name| listed(name, &labels)), "")
            }
            "GET unlabelled" => list(&[listed("4", &json!({}))], ""),
            "PATCH 1" => {
                clock.set_doubt(Some("40 s ahead"));
                session("1")
            }
            "GET 4" => session("4"),
            _ => list(&[], ""),
        });
        let mut changed = fixture.world.issuer.clone();
        changed.session_limits.per_user = 1;
        let snapshot = Snapshot { issuers: vec![Arc::new(changed)], ..Snapshot::default() };
        fixture.cleanup.limits.snapshot.store(Arc::new(snapshot));
        for _ in 0..2 {
            fixture.cleanup.round().await;
            assert_eq!(fixture.asked("PATCH"), ["PATCH 1"]);
        }
    }
}

//! Session limits: the leader revokes the oldest sessions beyond what an OIDCIssuer admits.
//!
//! Nobody is refused at the door and no sign-in reads anything. One small request a round tells
//! whether any bound can have been exceeded since the last full look; only then are all sessions looked
//! at, their metadata alone, a page at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use claviger_controller::deadline::within;
use claviger_domain::Snapshot;
use claviger_domain::ports::{Audit, AuditEvent, Clock, RevocationReason};
use claviger_domain::session::object_hash;
use claviger_store::tally::{Bound, Excess, Limits, Listed, Tally, Watermark};
use claviger_store::{GarbageCollector, Pace, PageError, SessionSweep};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};

use crate::cleanup::{Leadership, Metrics};

/// Full looks in one round; each may revoke a thousand.
const LOOKS: usize = 20;

/// Enforces the limits.
pub struct SessionLimits {
    /// Looks and revokes.
    pub sweep: SessionSweep,
    /// Labels what has lost its label.
    pub garbage: GarbageCollector,
    /// Where the limits stand.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Told of every revocation.
    pub audit: Arc<dyn Audit>,
    /// Decides what is live.
    pub clock: Arc<dyn Clock>,
    /// Publishes one Event a round, issuer and bound.
    pub recorder: Recorder,
    /// Namespace of the issuers.
    pub home: String,
    /// What the last full look found.
    pub watermark: Option<Watermark>,
}

/// How many were revoked, by issuer and bound.
type Revoked = BTreeMap<(String, Bound), usize>;

impl SessionLimits {
    /// Revokes what is beyond the limits, while this replica leads. `deleted` is how many sessions this
    /// process ever deleted.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn enforce(
        &mut self,
        leadership: &mut Leadership,
        metrics: &Metrics,
        deleted: u64,
    ) -> Result<(), PageError> {
        let limits = self.limits();
        if limits.is_empty() {
            return Ok(());
        }
        let stored = self.sweep.count().await?;
        metrics.stored(stored);
        let objects = (stored, deleted);
        let now = self.clock.now();
        if self.watermark.as_ref().is_some_and(|mark| !mark.is_passed(&limits, objects, now)) {
            return Ok(());
        }
        let mut revoked = Revoked::new();
        let outcome = self.look_and_revoke(&limits, leadership, &mut revoked).await;
        for ((issuer, bound), count) in &revoked {
            metrics.revoked(*bound, *count);
            self.publish(issuer, *bound, *count, &limits).await;
        }
        if let Some(headroom) = outcome? {
            self.watermark = Some(Watermark { limits, objects, headroom, at: now });
        }
        Ok(())
    }

    /// Limits of the issuers in service.
    fn limits(&self) -> Limits {
        let snapshot = self.snapshot.load();
        let issuers = snapshot.issuers.iter();
        issuers.map(|issuer| (object_hash(&issuer.uid), issuer.session_limits)).collect()
    }

    /// Looks again and again until no bound is exceeded; then says how far the nearest is.
    async fn look_and_revoke(
        &self,
        limits: &Limits,
        leadership: &mut Leadership,
        revoked: &mut Revoked,
    ) -> Result<Option<u32>, PageError> {
        for _ in 0..LOOKS {
            let now = self.clock.now();
            let mut tally = Tally::new(limits, now);
            if !self.each_session(leadership, |session| tally.count(session)).await? {
                return Ok(None);
            }
            for stray in tally.strays() {
                self.garbage.label_named(stray, now).await?;
            }
            let headroom = tally.headroom();
            let Some(mut excess) = tally.excess() else { return Ok(Some(headroom)) };
            let complete = self.each_session(leadership, |session| excess.look(session)).await?;
            if !complete || !self.revoke(excess, leadership, revoked).await? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Shows every session; says whether this replica led all the while.
    async fn each_session(
        &self,
        leadership: &mut Leadership,
        mut look: impl FnMut(&Listed),
    ) -> Result<bool, PageError> {
        let mut pace = Pace::default();
        let mut next = None;
        loop {
            let began = Instant::now();
            let listed = self.sweep.page(pace.limit(), next).await?;
            listed.items.iter().for_each(&mut look);
            next = listed.next;
            if next.is_none() {
                return Ok(true);
            }
            if !leadership.lasts(pace.went_well(began.elapsed())).await {
                return Ok(false);
            }
        }
    }

    /// Revokes one after another; says whether this replica led all the while.
    async fn revoke(
        &self,
        excess: Excess<'_>,
        leadership: &mut Leadership,
        revoked: &mut Revoked,
    ) -> Result<bool, PageError> {
        let bound = excess.bound();
        let reason = RevocationReason::SessionLimitExceeded;
        let mut pace = Pace::default();
        for session in excess.superfluous() {
            let began = Instant::now();
            match self.sweep.revoke(&session.name, self.clock.now()).await {
                Ok(Some(client)) => {
                    let (session_name, client) = (session.name.as_str(), client.as_str());
                    let event =
                        AuditEvent::SessionRevoked { session: session_name, client, reason };
                    self.audit.record(&event);
                    *revoked.entry((session.issuer, bound)).or_default() += 1;
                }
                Ok(None) => {}
                // One that cannot be revoked must not keep the others alive.
                Err(PageError::Refused(message)) => {
                    tracing::warn!(session = session.name, message, "failed to revoke a session");
                }
                Err(error) => return Err(error),
            }
            if !leadership.lasts(pace.went_well(began.elapsed())).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One Event about the issuer. A failure is logged.
    async fn publish(&self, issuer: &str, bound: Bound, count: usize, limits: &Limits) {
        let snapshot = self.snapshot.load_full();
        let found = snapshot.issuers.iter().find(|found| object_hash(&found.uid) == issuer);
        let (Some(found), Some(limits)) = (found, limits.get(issuer)) else { return };
        let limit = bound.of(limits);
        let field = bound.field();
        let regarding = ObjectReference {
            api_version: Some("claviger.dev/v1alpha1".to_owned()),
            kind: Some("OIDCIssuer".to_owned()),
            name: Some(found.name.clone()),
            namespace: Some(self.home.clone()),
            uid: Some(found.uid.clone()),
            ..ObjectReference::default()
        };
        let note = format!(
            "{count} sessions were revoked, the oldest beyond sessionLimits.{field} ({limit}): raise it if that is too few"
        );
        let event = Event {
            type_: EventType::Warning,
            reason: RevocationReason::SessionLimitExceeded.as_str().to_owned(),
            note: Some(note),
            action: "Revoke".to_owned(),
            secondary: None,
        };
        if let Err(error) = within(self.recorder.publish(&event, &regarding)).await {
            tracing::warn!(%error, "failed to publish an Event");
        }
    }
}

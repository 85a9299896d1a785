//! Session limits: the leader revokes the oldest sessions beyond what an OIDCIssuer admits.
//!
//! Nobody is refused at the door and no sign-in reads anything. One small request a round tells
//! whether any bound can have been exceeded since the last full look; only then are all sessions looked
//! at, their metadata alone, a page at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use claviger_controller::deadline::within;
use claviger_domain::Snapshot;
use claviger_domain::ports::{Audit, AuditEvent, Clock, RevocationReason};
use claviger_domain::session::object_hash;
use claviger_store::tally::{Bound, Crowded, Excess, Limits, Listed, Tally, Watermark};
use claviger_store::{GarbageCollector, Pace, PageError, SessionSweep};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};

use crate::cleanup::{Leadership, Metrics};
use crate::expiry_labels::Labels;

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

/// What looking at all sessions came to.
#[derive(Default)]
struct Found {
    /// How many were revoked, by issuer and bound.
    revoked: BTreeMap<(String, Bound), usize>,
    /// Sessions whose label cannot be ours.
    strays: BTreeSet<String>,
    /// Issuers that have more stored than their total, sessions and tombstones together; `None` before all
    /// were looked at.
    crowded: Option<Vec<Crowded>>,
}

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
        let mut found = Found::default();
        let outcome = self.look_and_revoke(&limits, leadership, &mut found).await;
        self.tell(&found, metrics, &limits).await;
        let headroom = outcome?;
        let labels = Labels { garbage: &self.garbage, metrics, now };
        let labelled = labels.put_right(found.strays, leadership).await?;
        // What has its label again counts again: look once more.
        if let Some(headroom) = headroom.filter(|_| labelled == 0) {
            let crowded = found.crowded.is_some_and(|crowded| !crowded.is_empty());
            self.watermark = Some(Watermark { limits, objects, headroom, crowded, at: now });
        }
        Ok(())
    }

    /// Counts and publishes what was found.
    async fn tell(&self, found: &Found, metrics: &Metrics, limits: &Limits) {
        for ((issuer, bound), count) in &found.revoked {
            metrics.revoked(*bound, *count);
            let Some(limits) = limits.get(issuer) else { continue };
            let (field, limit) = (bound.field(), bound.of(limits));
            let note = format!(
                "{count} sessions were revoked, the oldest beyond sessionLimits.{field} ({limit}): raise it if that is too few"
            );
            let reason = RevocationReason::SessionLimitExceeded.as_str();
            self.publish(issuer, (reason, "Revoke"), note).await;
        }
        let Some(crowded) = &found.crowded else { return };
        metrics.beyond_total(crowded.iter().map(Crowded::beyond).sum());
        for Crowded { issuer, stored, total } in crowded {
            let note = format!(
                "{stored} sessions and tombstones are stored, more than sessionLimits.total ({total}). Tombstones must \
                 stay until no token of theirs can be valid: see who signs in so often, or raise the total"
            );
            self.publish(issuer, ("SessionTotalExceeded", "Count"), note).await;
        }
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
        found: &mut Found,
    ) -> Result<Option<u32>, PageError> {
        for _ in 0..LOOKS {
            let now = self.clock.now();
            let mut tally = Tally::new(limits, now);
            if !self.each_session(leadership, |session| tally.count(session)).await? {
                return Ok(None);
            }
            found.strays = tally.strays().iter().cloned().collect();
            found.crowded = Some(tally.crowded());
            let headroom = tally.headroom();
            let Some(mut excess) = tally.excess() else { return Ok(Some(headroom)) };
            let complete = self.each_session(leadership, |session| excess.look(session)).await?;
            if !complete || !self.revoke(excess, leadership, found).await? {
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
        found: &mut Found,
    ) -> Result<bool, PageError> {
        let bound = excess.bound();
        let reason = RevocationReason::SessionLimitExceeded;
        let mut pace = Pace::default();
        for session in excess.superfluous() {
            if !leadership.holds() {
                return Ok(false);
            }
            let began = Instant::now();
            match self.sweep.revoke(&session.name, self.clock.now()).await {
                Ok(Some(client)) => {
                    let (session_name, client) = (session.name.as_str(), client.as_str());
                    let event =
                        AuditEvent::SessionRevoked { session: session_name, client, reason };
                    self.audit.record(&event);
                    *found.revoked.entry((session.issuer, bound)).or_default() += 1;
                }
                Ok(None) => {}
                // One that cannot be revoked must not keep the others alive.
                Err(PageError::Refused(message)) => {
                    tracing::warn!(session = session.name, message, "failed to revoke a session");
                }
                Err(error) => return Err(error),
            }
            leadership.lasts(pace.went_well(began.elapsed())).await;
        }
        Ok(leadership.holds())
    }

    /// One Event about the issuer. A failure is logged.
    async fn publish(&self, issuer: &str, (reason, action): (&str, &str), note: String) {
        let snapshot = self.snapshot.load_full();
        let found = snapshot.issuers.iter().find(|found| object_hash(&found.uid) == issuer);
        let Some(found) = found else { return };
        let regarding = ObjectReference {
            api_version: Some("claviger.dev/v1alpha1".to_owned()),
            kind: Some("OIDCIssuer".to_owned()),
            name: Some(found.name.clone()),
            namespace: Some(self.home.clone()),
            uid: Some(found.uid.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = within(self.recorder.publish(&event, &regarding)).await {
            tracing::warn!(%error, "failed to publish an Event");
        }
    }
}

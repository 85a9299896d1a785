//! Asks the upstreams whether they work: on change, then every minute, sooner after a failure.
//!
//! What always holds:
//! - only the leader asks, and what it learns goes into conditions, never into the Snapshot: an
//!   upstream that cannot be reached stays offered;
//! - an answer belongs to one [`UpstreamKey`]; a changed connector or Secret is asked anew;
//! - an answer that says the same as the last one wakes nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use claviger_api::condition::Reason;
use claviger_connectors::certificates::{Certificate, Certificates};
use claviger_connectors::{Probe, ProbeError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::assess::Assessment;
use crate::error::ControllerError;
use crate::upstream::UpstreamKey;
use crate::world::Observations;

/// Time between two questions to an upstream that works.
const INTERVAL: Duration = Duration::from_mins(1);
/// First pause after a failure; it doubles up to [`INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// An upstream that has not answered by then has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// Upstreams asked at once.
const AT_ONCE: usize = 8;

/// What is known of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What the last question said.
    pub result: ProbeResult,
    /// Of the certificates its servers have shown, the one that ends first.
    pub certificate: Option<Certificate>,
}

/// What asking an upstream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    /// Dial, bind and base search went well.
    Reachable,
    /// It would not serve a login now.
    Failed {
        /// Reason of `Ready=False`.
        reason: Reason,
        /// What went wrong, with its fix.
        message: String,
    },
}

/// An upstream that can be asked.
#[derive(Debug, Clone)]
pub struct ProbeTarget {
    /// Which build of which connector.
    pub key: UpstreamKey,
    /// How to ask.
    pub probe: Arc<dyn Probe>,
    /// What its servers have shown.
    pub certificates: Certificates,
}

/// When an upstream is asked next.
#[derive(Debug)]
struct Schedule {
    target: ProbeTarget,
    next: Option<Instant>,
    failures: u32,
}

/// Everything the prober remembers.
#[derive(Debug, Default)]
struct Prober {
    schedules: BTreeMap<UpstreamKey, Schedule>,
    running: JoinSet<(UpstreamKey, ProbeResult)>,
}

/// Probes until the assessments end.
///
/// # Errors
/// [`ControllerError`] when a probe panicked.
pub async fn run(
    mut assessments: watch::Receiver<Arc<Assessment>>,
    mut leadership: watch::Receiver<bool>,
    observations: Arc<Observations>,
) -> Result<(), ControllerError> {
    let mut prober = Prober::default();
    loop {
        let leads = *leadership.borrow_and_update();
        let targets = assessments.borrow_and_update().probes.clone();
        prober.retarget(if leads { targets } else { Vec::new() }, &observations);
        prober.start_due(Instant::now());
        tokio::select! {
            changed = assessments.changed() => if changed.is_err() { return Ok(()) },
            changed = leadership.changed() => if changed.is_err() { return Ok(()) },
            () = sleep_until(prober.next_due()) => {}
            Some(done) = prober.running.join_next() => {
                let (key, result) = done.map_err(|error| ControllerError::task("probe", &error))?;
                prober.finished(&key, result, &observations);
            }
        }
    }
}

impl Prober {
    /// Takes over the list of upstreams there are now.
    fn retarget(&mut self, targets: Vec<ProbeTarget>, observations: &Observations) {
        let wanted: BTreeSet<&UpstreamKey> = targets.iter().map(|target| &target.key).collect();
        let gone = self.schedules.keys().any(|key| !wanted.contains(key));
        self.schedules.retain(|key, _| wanted.contains(key));
        if gone {
            let keep: BTreeSet<UpstreamKey> = self.schedules.keys().cloned().collect();
            observations.update(|world| world.probes.retain(|key, _| keep.contains(key)));
        }
        for target in targets {
            self.schedules.entry(target.key.clone()).or_insert_with(|| Schedule {
                target,
                next: Some(Instant::now()),
                failures: 0,
            });
        }
    }

    fn start_due(&mut self, now: Instant) {
        let mut due: Vec<_> = self.schedules.iter_mut().collect();
        due.retain(|(_, schedule)| schedule.next.is_some_and(|next| next <= now));
        // Who has waited longest: those that answer slowly keep nobody from their turn.
        due.sort_by_key(|(_, schedule)| schedule.next);
        for (key, schedule) in due.into_iter().take(AT_ONCE.saturating_sub(self.running.len())) {
            schedule.next = None;
            let (key, probe) = (key.clone(), Arc::clone(&schedule.target.probe));
            self.running.spawn(async move {
                let result = match tokio::time::timeout(PATIENCE, probe.probe()).await {
                    Ok(Ok(())) => ProbeResult::Reachable,
                    Ok(Err(error)) => {
                        ProbeResult::Failed { reason: reason_of(&error), message: error.message }
                    }
                    Err(_) => ProbeResult::Failed {
                        reason: Reason::UpstreamUnreachable,
                        message: format!(
                            "no answer within {} s: check host, port and network policy",
                            PATIENCE.as_secs()
                        ),
                    },
                };
                (key, result)
            });
        }
    }

    fn finished(&mut self, key: &UpstreamKey, result: ProbeResult, observations: &Observations) {
        let Some(schedule) = self.schedules.get_mut(key) else {
            return;
        };
        schedule.failures = match result {
            ProbeResult::Reachable => 0,
            ProbeResult::Failed { .. } => schedule.failures + 1,
        };
        schedule.next = Some(Instant::now() + jittered(pause_after(schedule.failures), key));
        let certificate = schedule.target.certificates.first_to_end();
        let probed = Probed { result, certificate };
        if observations.probe(key).as_ref() != Some(&probed) {
            observations.update(|world| {
                world.probes.insert(key.clone(), probed);
            });
        }
    }

    fn next_due(&self) -> Option<Instant> {
        if self.running.len() >= AT_ONCE {
            return None;
        }
        self.schedules.values().filter_map(|schedule| schedule.next).min()
    }
}

/// The connector's word for it, if it is one that conditions know.
fn reason_of(error: &ProbeError) -> Reason {
    let known = Reason::ALL.iter().find(|reason| reason.as_str() == error.reason);
    known.copied().unwrap_or(Reason::UpstreamUnusable)
}

/// Time to the next question after this many failures in a row.
fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => INTERVAL,
        n => FIRST_RETRY.saturating_mul(1 << (n - 1).min(8)).min(INTERVAL),
    }
}

/// Up to a fifth less, by the connector: a hundred of them that were applied together are not asked together for ever.
fn jittered(pause: Duration, key: &UpstreamKey) -> Duration {
    let mut hasher = DefaultHasher::new();
    key.uid.hash(&mut hasher);
    pause.mul_f64(1.0 - f64::from(hasher.finish().to_le_bytes()[0]) / 256.0 / 5.0)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_upstream_is_asked_sooner_and_never_less_often_than_a_working_one() {
        let pauses: Vec<u64> = (0..7).map(|n| pause_after(n).as_secs()).collect();
        assert_eq!(pauses, [60, 5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn connectors_that_were_applied_together_are_asked_apart() {
        let at = |uid: usize| {
            let key = UpstreamKey { uid: uid.to_string(), generation: 1, inputs: Vec::new() };
            jittered(INTERVAL, &key)
        };
        let pauses: BTreeSet<Duration> = (0..100).map(at).collect();
        assert!(pauses.len() > 50, "{} different pauses", pauses.len());
        assert!(pauses.iter().all(|pause| (INTERVAL * 4 / 5..=INTERVAL).contains(pause)));
        assert_eq!(at(7), at(7));
    }
}

//! Any change → one debounced assessment of the whole world → the Snapshot every request reads.
//!
//! What always holds:
//! - nothing is published before every reflector has listed once;
//! - a change is live within `DEBOUNCE` plus one assessment;
//! - a world that nothing confirmed for 150 s is published once more, without signers;
//! - so is every world while the clock is in doubt; then no key leaves the JWKS by its time.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use claviger_connectors::guard::Observer;
use claviger_domain::Snapshot;
use claviger_domain::ports::Clock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::assess::{self, Assessment, Memo};
use crate::error::ControllerError;
use crate::moment::Moment;
use crate::readiness::Readiness;
use crate::world::{Observations, World};

/// How long changes are gathered before they are assessed together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Longest time without an assessment.
const LONGEST_REST: i64 = 60;
/// How often the clock is looked at: doubt, and its end, wait for nothing else.
const TICK: Duration = Duration::from_secs(1);

/// What the publisher reads and where it publishes.
#[derive(Debug)]
pub struct Publisher {
    /// Everything observed.
    pub observations: Arc<Observations>,
    /// Time of each assessment.
    pub clock: Arc<dyn Clock>,
    /// What requests read.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What the leader's tasks read.
    pub assessments: watch::Sender<Arc<Assessment>>,
    /// What the probes of the process read.
    pub readiness: watch::Sender<Readiness>,
    /// Who is told of every question to an upstream.
    pub observer: Arc<dyn Observer>,
}

/// Assesses and publishes for ever.
///
/// # Errors
/// [`ControllerError`] when an assessment panicked.
pub async fn run(publisher: Publisher) -> Result<(), ControllerError> {
    let mut memo = Memo::new(Arc::clone(&publisher.observer));
    loop {
        let at = Moment::of(publisher.clock.as_ref());
        let world = publisher.observations.world();
        let rest = if world.is_synced() {
            let mut assessment;
            (assessment, memo) = assess_aside(world, memo, at).await?;
            let rest = assessment.next.map_or(LONGEST_REST, |next| next.saturating_sub(at.now));
            // Requests alone keep it: whoever is still writing Secrets by an old assessment must not keep its Snapshot too.
            publisher.snapshot.store(std::mem::take(&mut assessment.snapshot));
            publisher.readiness.send_replace(assessment.readiness.clone());
            publisher.assessments.send_replace(Arc::new(assessment));
            rest
        } else {
            publisher.readiness.send_replace(Readiness::syncing(&world));
            LONGEST_REST
        };
        let rest = Duration::from_secs(rest.clamp(1, LONGEST_REST).unsigned_abs());
        publisher.rest(rest, at.in_doubt).await;
    }
}

impl Publisher {
    /// Waits until something changed or the rest is over, or whether the clock is in doubt has changed.
    async fn rest(&self, rest: Duration, in_doubt: bool) {
        let end = Instant::now() + rest;
        while self.clock.doubt().is_some() == in_doubt && Instant::now() < end {
            let tick = end.min(Instant::now() + TICK);
            if tokio::time::timeout_at(tick, self.observations.changed()).await.is_ok() {
                tokio::time::sleep(DEBOUNCE).await;
                return;
            }
        }
    }
}

/// Building upstreams and reading keys takes milliseconds of pure computing: not on the threads that
/// answer requests.
async fn assess_aside(
    world: World,
    mut memo: Memo,
    at: Moment,
) -> Result<(Assessment, Memo), ControllerError> {
    tokio::task::spawn_blocking(move || {
        let assessment = assess::assess(world, &mut memo, at);
        (assessment, memo)
    })
    .await
    .map_err(|error| ControllerError::task("assess", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::tests::HandClock;

    #[tokio::test]
    async fn doubt_and_its_end_wait_for_no_change_and_no_rest() {
        let clock = Arc::new(HandClock::default());
        let publisher = Publisher {
            observations: Arc::new(Observations::new("home", [], clock.clone())),
            clock: clock.clone(),
            snapshot: Arc::default(),
            assessments: watch::Sender::new(Arc::default()),
            readiness: watch::Sender::new(Readiness::default()),
            observer: Arc::new(()),
        };
        for doubt in [true, false] {
            let rest = publisher.rest(Duration::from_mins(1), !doubt);
            let set = async {
                tokio::task::yield_now().await;
                clock.set_doubt(doubt);
            };
            let both = async { tokio::join!(rest, set) };
            let noticed = tokio::time::timeout(TICK * 20, both).await;
            assert!(noticed.is_ok(), "a tick is enough");
        }
    }
}

//! Any change → one debounced assessment of the whole world → the Snapshot every request reads.
//!
//! What always holds:
//! - nothing is published before every reflector has listed once;
//! - a change is live within `DEBOUNCE` plus one assessment;
//! - a world that nothing confirmed for 150 s is published once more, without signers.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use claviger_domain::Snapshot;
use claviger_domain::ports::Clock;
use tokio::sync::watch;

use crate::assess::{self, Assessment, Memo};
use crate::error::ControllerError;
use crate::readiness::Readiness;
use crate::world::{Observations, World};

/// How long changes are gathered before they are assessed together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Longest time without an assessment, so that a clock that jumps is noticed.
const LONGEST_REST: i64 = 60;

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
}

/// Assesses and publishes for ever.
///
/// # Errors
/// [`ControllerError`] when an assessment panicked.
pub async fn run(publisher: Publisher) -> Result<(), ControllerError> {
    let mut memo = Memo::default();
    loop {
        let now = publisher.clock.now();
        let world = publisher.observations.world();
        let rest = if world.is_synced() {
            let assessment;
            (assessment, memo) = assess_aside(world, memo, now).await?;
            let rest = assessment.next.map_or(LONGEST_REST, |next| next - now);
            publisher.snapshot.store(Arc::clone(&assessment.snapshot));
            publisher.readiness.send_replace(assessment.readiness.clone());
            publisher.assessments.send_replace(Arc::new(assessment));
            rest
        } else {
            publisher.readiness.send_replace(Readiness::syncing(&world));
            LONGEST_REST
        };
        let rest = Duration::from_secs(rest.clamp(1, LONGEST_REST).unsigned_abs());
        if tokio::time::timeout(rest, publisher.observations.changed()).await.is_ok() {
            tokio::time::sleep(DEBOUNCE).await;
        }
    }
}

/// Building upstreams and reading keys takes milliseconds of pure computing: not on the threads that
/// answer requests.
async fn assess_aside(
    world: World,
    mut memo: Memo,
    now: i64,
) -> Result<(Assessment, Memo), ControllerError> {
    tokio::task::spawn_blocking(move || {
        let assessment = assess::assess(world, &mut memo, now);
        (assessment, memo)
    })
    .await
    .map_err(|error| ControllerError::task("assess", &error))
}

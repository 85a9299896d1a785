//! How many session writes this replica asks of the API server: a bucket of them per second, and so
//! many on their way at once.
//!
//! What always holds:
//! - what is refused here was never asked, so it certainly did not happen, and costs nobody anything;
//! - a revocation is never held up.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use claviger_domain::ports::StoreError;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many writes one replica makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteLimits {
    /// Writes per second, on average.
    pub per_second: NonZeroU32,
    /// Writes at once after a quiet while.
    pub burst: NonZeroU32,
    /// Writes whose answer is awaited at once.
    pub in_flight: NonZeroU32,
}

/// Lets writes pass, or says when to come again.
#[derive(Debug)]
pub struct WriteGate<C: Clock = DefaultClock> {
    bucket: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    in_flight: Arc<Semaphore>,
    refused: IntCounterVec,
}

impl WriteGate {
    /// A gate on the system's monotonic clock; registers its counter.
    ///
    /// # Errors
    /// When a metric of that name is registered already.
    pub fn new(limits: WriteLimits, registry: &Registry) -> prometheus::Result<Self> {
        let gate = Self::with_clock(limits, DefaultClock::default())?;
        registry.register(Box::new(gate.refused.clone()))?;
        Ok(gate)
    }
}

impl<C: Clock + Clone> WriteGate<C> {
    fn with_clock(limits: WriteLimits, clock: C) -> prometheus::Result<Self> {
        let quota = Quota::per_second(limits.per_second).allow_burst(limits.burst);
        let permits = usize::try_from(limits.in_flight.get()).unwrap_or(Semaphore::MAX_PERMITS);
        let refused = IntCounterVec::new(
            Opts::new(
                "claviger_session_writes_refused_total",
                "Session writes that were not asked of the API server, by the limit they met.",
            ),
            &["limit"],
        )?;
        for limit in ["rate", "in_flight"] {
            refused.with_label_values(&[limit]).reset();
        }
        Ok(Self {
            bucket: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            in_flight: Arc::new(Semaphore::new(permits)),
            refused,
        })
    }

    /// Lets one write pass for as long as the permit is held.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the seconds to wait.
    pub fn pass(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        // The semaphore first: a write that it refuses takes nothing out of the bucket.
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| {
            self.refuse("in_flight", "as many writes as may be wait for the API server's answer", 1)
        })?;
        self.bucket.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            self.refuse(
                "rate",
                "this replica makes as many writes per second as it may",
                ceil(wait),
            )
        })?;
        Ok(permit)
    }

    fn refuse(&self, limit: &str, message: &str, retry_after: u32) -> StoreError {
        self.refused.with_label_values(&[limit]).inc();
        StoreError::Refused { message: message.to_owned(), retry_after: Some(retry_after) }
    }
}

/// Whole seconds, at least one.
fn ceil(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn gate(per_second: u32, burst: u32, in_flight: u32) -> WriteGate<FakeRelativeClock> {
        let number = |value| NonZeroU32::new(value).unwrap();
        let limits = WriteLimits {
            per_second: number(per_second),
            burst: number(burst),
            in_flight: number(in_flight),
        };
        WriteGate::with_clock(limits, FakeRelativeClock::default()).unwrap()
    }

    fn wait(gate: &WriteGate<FakeRelativeClock>) -> Option<u32> {
        gate.pass().err().map(|error| match error {
            StoreError::Refused { retry_after, .. } => retry_after.unwrap(),
            other => panic!("{other}"),
        })
    }

    fn refused(gate: &WriteGate<FakeRelativeClock>, limit: &str) -> u64 {
        gate.refused.with_label_values(&[limit]).get()
    }

    #[test]
    fn beyond_the_burst_writes_pass_at_the_rate() {
        let gate = gate(10, 20, 100);
        assert_eq!((0..25).filter(|_| wait(&gate).is_none()).count(), 20);
        assert_eq!(wait(&gate), Some(1), "a tenth of a second is a whole one on the wire");
        gate.clock.advance(Duration::from_secs(1));
        assert_eq!((0..25).filter(|_| wait(&gate).is_none()).count(), 10);
        assert_eq!((refused(&gate, "rate"), refused(&gate, "in_flight")), (21, 0));
    }

    #[test]
    fn a_write_on_its_way_keeps_its_place_until_it_is_answered() {
        let gate = gate(1_000, 1_000, 2);
        let (first, second) = (gate.pass().unwrap(), gate.pass().unwrap());
        assert_eq!(wait(&gate), Some(1));
        drop(first);
        let third = gate.pass().unwrap();
        assert_eq!(wait(&gate), Some(1));
        drop((second, third));
        assert_eq!(wait(&gate), None);
        assert_eq!((refused(&gate, "rate"), refused(&gate, "in_flight")), (0, 2));
    }

    #[test]
    fn what_has_no_place_takes_nothing_out_of_the_bucket() {
        let gate = gate(1, 2, 1);
        let permit = gate.pass().unwrap();
        for _ in 0..10 {
            assert_eq!(wait(&gate), Some(1));
        }
        drop(permit);
        assert_eq!(wait(&gate), None);
        assert_eq!(wait(&gate), Some(1), "and now it is empty");
    }

    #[test]
    fn the_wait_is_in_whole_seconds_and_never_none() {
        assert_eq!(ceil(Duration::ZERO), 1);
        assert_eq!(ceil(Duration::from_millis(1_001)), 2);
    }
}

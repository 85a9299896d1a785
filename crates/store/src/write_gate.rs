//! How many session writes this replica asks of the API server: so many for one user or session, so many
//! in all, and so many on their way at once.
//!
//! What always holds:
//! - what is refused here was never asked, so it certainly did not happen, and costs nobody anything;
//! - whoever has used up their own share takes nothing out of everybody's;
//! - a revocation is never held up.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claviger_domain::ports::StoreError;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
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
    /// Sign-ins of one user.
    pub per_user: Share,
    /// Refreshes of one session.
    pub per_session: Share,
}

/// How many writes one user, or one session, may cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Per minute, on average.
    pub per_minute: NonZeroU32,
    /// At once after a quiet while.
    pub burst: NonZeroU32,
}

/// Whose share a write comes out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The user of this hash signs in.
    User(&'a str),
    /// The session of this name goes on.
    Session(&'a str),
    /// A device begins to wait: of no user yet, and bounded by what may wait.
    Devices,
}

/// Users, or sessions, remembered at once, 16 bytes each: those of five busy minutes. Beyond, only the
/// limits for all hold; nobody but that many real users, each with a code of their own, gets there.
const MOST_KEYS: usize = 200_000;
/// After so many writes, whoever has their whole share again is forgotten.
const TIDY_AFTER: u32 = 50_000;

/// The shares of users, or of sessions.
#[derive(Debug)]
struct Shares<C: Clock> {
    buckets: RateLimiter<u64, DefaultKeyedStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    hasher: RandomState,
    clock: C,
    asked: AtomicU32,
}

impl<C: Clock + Clone> Shares<C> {
    fn new(share: Share, clock: C) -> Self {
        let quota = Quota::per_minute(share.per_minute).allow_burst(share.burst);
        Self {
            buckets: RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone()),
            hasher: RandomState::new(),
            clock,
            asked: AtomicU32::new(0),
        }
    }

    /// Takes one out of a share.
    ///
    /// # Errors
    /// How long to wait.
    fn take(&self, whose: &str) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % TIDY_AFTER == TIDY_AFTER - 1 {
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        if self.buckets.len() >= MOST_KEYS {
            return Ok(());
        }
        let taken = self.buckets.check_key(&self.hasher.hash_one(whose));
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// Lets writes pass, or says when to come again.
#[derive(Debug)]
pub struct WriteGate<C: Clock = DefaultClock> {
    bucket: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    users: Shares<C>,
    sessions: Shares<C>,
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
        for limit in ["rate", "in_flight", "user", "session"] {
            refused.with_label_values(&[limit]).reset();
        }
        Ok(Self {
            bucket: RateLimiter::direct_with_clock(quota, clock.clone()),
            users: Shares::new(limits.per_user, clock.clone()),
            sessions: Shares::new(limits.per_session, clock.clone()),
            clock,
            in_flight: Arc::new(Semaphore::new(permits)),
            refused,
        })
    }

    /// Lets one write pass for as long as the permit is held.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the seconds to wait.
    pub fn pass(&self, whose: Whose<'_>) -> Result<OwnedSemaphorePermit, StoreError> {
        self.take_share(whose)?;
        // The semaphore before the bucket: a write that it refuses takes nothing out of that.
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

    fn take_share(&self, whose: Whose<'_>) -> Result<(), StoreError> {
        let (limit, message, taken) = match whose {
            Whose::Devices => return Ok(()),
            Whose::User(hash) => {
                ("user", "this user signs in too often at this replica", self.users.take(hash))
            }
            Whose::Session(name) => (
                "session",
                "this session is refreshed too often at this replica",
                self.sessions.take(name),
            ),
        };
        taken.map_err(|wait| self.refuse(limit, message, ceil(wait)))
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

    fn share(per_minute: u32, burst: u32) -> Share {
        let number = |value| NonZeroU32::new(value).unwrap();
        Share { per_minute: number(per_minute), burst: number(burst) }
    }

    fn gate(per_second: u32, burst: u32, in_flight: u32) -> WriteGate<FakeRelativeClock> {
        let number = |value| NonZeroU32::new(value).unwrap();
        let limits = WriteLimits {
            per_second: number(per_second),
            burst: number(burst),
            in_flight: number(in_flight),
            per_user: share(6, 30),
            per_session: share(60, 100),
        };
        WriteGate::with_clock(limits, FakeRelativeClock::default()).unwrap()
    }

    fn wait(gate: &WriteGate<FakeRelativeClock>) -> Option<u32> {
        wait_of(gate, Whose::Session("name"))
    }

    fn wait_of(gate: &WriteGate<FakeRelativeClock>, whose: Whose<'_>) -> Option<u32> {
        gate.pass(whose).err().map(|error| match error {
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
        let (first, second) = (
            gate.pass(Whose::Session("name")).unwrap(),
            gate.pass(Whose::Session("name")).unwrap(),
        );
        assert_eq!(wait(&gate), Some(1));
        drop(first);
        let third = gate.pass(Whose::Session("name")).unwrap();
        assert_eq!(wait(&gate), Some(1));
        drop((second, third));
        assert_eq!(wait(&gate), None);
        assert_eq!((refused(&gate, "rate"), refused(&gate, "in_flight")), (0, 2));
    }

    #[test]
    fn who_has_used_up_their_share_waits_and_takes_nothing_of_anybody_elses() {
        let gate = gate(1, 33, 100);
        let (ann, bob) = (Whose::User("ann"), Whose::User("bob"));
        assert_eq!((0..40).filter(|_| wait_of(&gate, ann).is_none()).count(), 30);
        assert_eq!(wait_of(&gate, ann), Some(10), "six a minute");
        assert_eq!((wait_of(&gate, bob), wait(&gate)), (None, None));
        gate.clock.advance(Duration::from_secs(10));
        assert_eq!([ann, ann].map(|whose| wait_of(&gate, whose)), [None, Some(10)]);
        assert_eq!((refused(&gate, "user"), refused(&gate, "rate")), (12, 0));
    }

    #[test]
    fn a_session_that_was_refreshed_too_often_waits_and_no_other() {
        let gate = gate(1_000, 1_000, 100);
        let (one, other) = (Whose::Session("one"), Whose::Session("other"));
        assert_eq!((0..120).filter(|_| wait_of(&gate, one).is_none()).count(), 100);
        assert_eq!((wait_of(&gate, one), wait_of(&gate, other)), (Some(1), None));
        assert_eq!(refused(&gate, "session"), 21);
    }

    #[test]
    fn whoever_has_their_whole_share_again_is_forgotten_and_no_number_of_keys_is_too_large() {
        let clock = FakeRelativeClock::default();
        let shares = Shares::new(share(60, 1), clock.clone());
        let most = u32::try_from(MOST_KEYS).unwrap();
        for key in 0..most + TIDY_AFTER {
            assert_eq!(shares.take(&key.to_string()), Ok(()));
        }
        assert_eq!(shares.buckets.len(), MOST_KEYS);
        clock.advance(Duration::from_secs(2));
        for _ in 0..TIDY_AFTER {
            shares.take("one").ok();
        }
        assert_eq!(shares.buckets.len(), 1);
        assert!(shares.take("one").is_err());
    }

    #[test]
    fn what_has_no_place_takes_nothing_out_of_the_bucket() {
        let gate = gate(1, 2, 1);
        let permit = gate.pass(Whose::Session("name")).unwrap();
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

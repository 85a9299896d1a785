//! One moment, by the clocks of this machine.
//!
//! What always holds: what is written down for others goes by the wall clock, and only while that is
//! not in doubt; how long something lasts goes by a clock that nobody sets.

use claviger_domain::ports::Clock;

/// One moment. Assessments see no other clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock, in seconds since the Unix epoch.
    pub now: i64,
    /// Seconds since some moment before, by a clock that nobody sets.
    pub elapsed: i64,
    /// Whether the wall clock must not date anything.
    pub in_doubt: bool,
}

impl Moment {
    /// This moment. A clock that was set while it was read is in doubt before or after.
    pub fn of(clock: &dyn Clock) -> Self {
        let before = clock.doubt().is_some();
        let (now, elapsed) = (clock.now(), clock.elapsed());
        Self { now, elapsed, in_doubt: before || clock.doubt().is_some() }
    }

    /// Up to which time, by the wall clock, everything is certainly past: none while it is in doubt.
    pub fn certainly_past(&self) -> i64 {
        if self.in_doubt { i64::MIN } else { self.now }
    }

    /// A moment at which both clocks show the same and nobody doubts it.
    #[cfg(test)]
    pub fn at(now: i64) -> Self {
        Self { now, elapsed: now, in_doubt: false }
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    use super::*;

    /// A clock whose every hand is set by hand.
    #[derive(Debug, Default)]
    pub struct HandClock {
        wall: AtomicI64,
        elapsed: AtomicI64,
        in_doubt: AtomicBool,
    }

    impl HandClock {
        pub fn set(&self, wall: i64, elapsed: i64) {
            self.wall.store(wall, Ordering::SeqCst);
            self.elapsed.store(elapsed, Ordering::SeqCst);
        }

        pub fn set_doubt(&self, in_doubt: bool) {
            self.in_doubt.store(in_doubt, Ordering::SeqCst);
        }
    }

    impl Clock for HandClock {
        fn now(&self) -> i64 {
            self.wall.load(Ordering::SeqCst)
        }

        fn doubt(&self) -> Option<String> {
            self.in_doubt.load(Ordering::SeqCst).then(|| "an hour ahead".to_owned())
        }

        fn elapsed(&self) -> i64 {
            self.elapsed.load(Ordering::SeqCst)
        }
    }

    /// A clock that jumps an hour ahead while it is read.
    #[derive(Debug)]
    struct Jumping(AtomicI64);

    impl Clock for Jumping {
        fn now(&self) -> i64 {
            self.0.fetch_add(3_600, Ordering::SeqCst)
        }

        fn doubt(&self) -> Option<String> {
            (self.0.load(Ordering::SeqCst) >= 3_600).then(|| "an hour ahead".to_owned())
        }

        fn elapsed(&self) -> i64 {
            7
        }
    }

    #[test]
    fn a_clock_that_jumps_while_it_is_read_is_in_doubt() {
        let moment = Moment::of(&Jumping(AtomicI64::new(0)));
        assert_eq!(moment, Moment { now: 0, elapsed: 7, in_doubt: true });
    }
}

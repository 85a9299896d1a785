//! How often each device polls (RFC 8628 3.5): in memory, of this replica alone.
//!
//! What always holds: memory is bounded, and what is not remembered is not slowed: a poll costs nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::device::INTERVAL_SECONDS;

/// Devices remembered at once: more than may wait at an issuer, for some tens of issuers.
const MAX_DEVICES: usize = 50_000;

/// When each device polled last, and how long it must wait.
#[derive(Debug, Default)]
pub struct DevicePolls {
    devices: Mutex<HashMap<String, Polled>>,
}

#[derive(Debug, Clone, Copy)]
struct Polled {
    last: i64,
    interval: i64,
    /// When its code is over, and it is forgotten; by the wall clock.
    until: i64,
}

impl DevicePolls {
    /// Notes a poll at `elapsed` (a clock that nobody sets) and says whether it came in time. One that comes
    /// too early makes this and every further interval longer.
    pub fn is_in_time(&self, name: &str, (elapsed, now): (i64, i64), until: i64) -> bool {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(polled) = devices.get_mut(name) {
            let in_time = elapsed.saturating_sub(polled.last) >= polled.interval;
            polled.last = elapsed;
            if !in_time {
                polled.interval = polled.interval.saturating_add(INTERVAL_SECONDS);
            }
            return in_time;
        }
        if devices.len() >= MAX_DEVICES {
            devices.retain(|_, polled| polled.until > now);
        }
        if devices.len() < MAX_DEVICES {
            let polled = Polled { last: elapsed, interval: INTERVAL_SECONDS, until };
            devices.insert(name.to_owned(), polled);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_polls_too_early_must_wait_longer_each_time() {
        let polls = DevicePolls::default();
        let at = |second| polls.is_in_time("one", (second, second), 300);
        assert!(at(0));
        assert!(at(5));
        assert!(!at(9), "four seconds after the last");
        assert!(!at(18), "nine: it was told to wait for ten");
        assert!(at(33), "fifteen");
        assert!(at(48));
        assert!(polls.is_in_time("two", (48, 48), 300), "another device's haste is not this one's");
    }

    #[test]
    fn memory_is_bounded_and_what_is_over_makes_room() {
        let polls = DevicePolls::default();
        for n in 0..=MAX_DEVICES {
            assert!(polls.is_in_time(&n.to_string(), (0, 0), 300));
        }
        assert_eq!(polls.devices.lock().unwrap().len(), MAX_DEVICES);
        assert!(polls.is_in_time("late", (300, 300), 600));
        assert_eq!(polls.devices.lock().unwrap().len(), 1);
    }
}

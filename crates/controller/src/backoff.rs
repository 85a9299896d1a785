//! Pauses after failed writes: per object, growing, never shorter than the API server asks for.
//!
//! What always holds: a change of the world never shortens a pause, so a busy world and a struggling
//! API server make no storm; what fails for one object holds up no other.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// First and longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// A longer wait that the API server asks for is cut to this: leadership and world move on.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// What failed lately, by object.
#[derive(Debug)]
pub struct Backoff<K>(HashMap<K, Pause>);

#[derive(Debug, Clone, Copy)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// Whether this object's last write failed so lately that it must wait.
    pub fn is_resting(&self, key: &K, now: Instant) -> bool {
        self.0.get(key).is_some_and(|pause| now < pause.until)
    }

    /// The write failed.
    pub fn failed(&mut self, key: K, error: &kube::Error, now: Instant) {
        // Refused for want of a permission, it costs the API server nothing, and is healed by hand.
        let denied = matches!(error, kube::Error::Api(status) if status.is_forbidden());
        let last = self.0.get(&key).filter(|_| !denied).map(|pause| pause.length);
        let length = last.map_or(PAUSES.0, |last| (last * 2).min(PAUSES.1));
        let until = now + length.max(asked(error));
        self.0.insert(key, Pause { length, until });
    }

    /// The write succeeded, or is needed no more.
    pub fn forget(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Keeps only these objects.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| keep(key));
    }

    /// When the first of those that wait may be tried again.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|pause| pause.until).min()
    }
}

/// What the API server asks for.
fn asked(error: &kube::Error) -> Duration {
    let seconds = match error {
        kube::Error::Api(status) => status.details.as_ref().map_or(0, |d| d.retry_after_seconds),
        _ => 0,
    };
    Duration::from_secs(seconds.into()).min(LONGEST_ASKED)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn refused(seconds: u32) -> kube::Error {
        let status = json!({"code": 429, "details": {"retryAfterSeconds": seconds}});
        kube::Error::Api(serde_json::from_value::<Status>(status).unwrap().boxed())
    }

    #[test]
    fn pauses_grow_per_object_and_end_with_success() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        let mut lengths = Vec::new();
        for _ in 0..6 {
            backoff.failed("a", &refused(0), start);
            lengths.push(backoff.next().unwrap().duration_since(start).as_secs());
        }
        assert_eq!(lengths, [5, 10, 20, 40, 60, 60]);
        assert!(backoff.is_resting(&"a", start + Duration::from_secs(59)));
        assert!(!backoff.is_resting(&"a", start + Duration::from_mins(1)));
        assert!(!backoff.is_resting(&"b", start), "another object's failure");
        backoff.forget(&"a");
        assert!(!backoff.is_resting(&"a", start) && backoff.next().is_none());
    }

    #[test]
    fn a_permission_that_was_given_is_noticed_soon() {
        let start = Instant::now();
        let denied = || {
            let status = json!({"code": 403, "reason": "Forbidden"});
            kube::Error::Api(serde_json::from_value::<Status>(status).unwrap().boxed())
        };
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.failed("a", &denied(), start);
        }
        assert_eq!(backoff.next(), Some(start + Duration::from_secs(5)));
    }

    #[test]
    fn the_api_server_may_ask_for_more_within_reason() {
        let start = Instant::now();
        for (asks, waits) in [(1, 5), (30, 30), (86_400, 300)] {
            let mut backoff = Backoff::default();
            backoff.failed("a", &refused(asks), start);
            assert_eq!(backoff.next(), Some(start + Duration::from_secs(waits)), "{asks}");
        }
    }
}

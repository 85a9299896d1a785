//! Slows password guessing: who keeps failing for one account at one connector must wait. Only
//! failures count, so a busy account that succeeds is never slowed.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Failures in a row that cost nothing.
const BURST: u32 = 10;
/// After them, one more try per this time.
const PERIOD: Duration = Duration::from_secs(3);
/// Accounts remembered at most; beyond, those that may try again are forgotten.
const MAX_ACCOUNTS: usize = 10_000;

/// Failed sign-ins, by account.
pub struct Throttle {
    failures: DefaultKeyedRateLimiter<String>,
    waiting: Mutex<HashMap<String, Instant>>,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Throttle")
    }
}

impl Default for Throttle {
    fn default() -> Self {
        let burst = NonZeroU32::new(BURST).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(PERIOD).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        Self { failures: RateLimiter::keyed(quota.allow_burst(burst)), waiting: Mutex::default() }
    }
}

impl Throttle {
    /// How long this account must wait before the next try, if at all.
    pub fn wait(&self, account: &str) -> Option<Duration> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *waiting.get(account)?;
        let left = until.checked_duration_since(Instant::now());
        if left.is_none() {
            waiting.remove(account);
        }
        left
    }

    /// Notes a failed try.
    pub fn failed(&self, account: String) {
        if self.failures.len() >= MAX_ACCOUNTS {
            self.failures.retain_recent();
        }
        if let Err(not_until) = self.failures.check_key(&account) {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= MAX_ACCOUNTS {
                let now = Instant::now();
                waiting.retain(|_, until| *until > now);
            }
            waiting.insert(account, Instant::now() + wait);
        }
    }
}

/// The account that a try is about.
pub fn account(issuer_uid: &str, connector: &str, username: &str) -> String {
    format!("{issuer_uid}/{connector}/{}", username.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_burst_of_failures_makes_one_account_wait() {
        let throttle = Throttle::default();
        for _ in 0..BURST {
            assert_eq!(throttle.wait("alice"), None);
            throttle.failed("alice".into());
        }
        assert_eq!(throttle.wait("alice"), None);
        throttle.failed("alice".into());
        assert!(throttle.wait("alice").is_some_and(|wait| wait <= PERIOD));
        assert_eq!(throttle.wait("bob"), None);
    }
}

//! How fast pages of deletions follow one another: as fast as harms nobody else.
//!
//! - After each page the API server has twice as long without us as the page took: at most a third of the
//!   time is ours, and of a slow server less than of a fast one.
//! - A page takes about 100 ms: it grows while it is quicker and is halved when it is much slower,
//!   so that leadership is looked at often and nothing of ours is long in the way.
//! - Refused or unanswered: half the page, and a wait that doubles, never shorter than asked for (up to five
//!   minutes).

use std::time::Duration;

/// Time one page should take.
const AIM: Duration = Duration::from_millis(100);
/// Objects in the first page, and what the size never falls below.
const SMALLEST: u32 = 16;
/// Objects in a page, at most: its answer stays below a megabyte.
const LARGEST: u32 = 256;
/// Shortest and longest pause after a page.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));
/// First and longest wait after a refusal.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Longest wait that the API server is granted: whoever says more must not stop the clean-up for good.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// Size of the next page and the wait before it.
#[derive(Debug, Clone)]
pub struct Pace {
    limit: u32,
    refusals: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { limit: SMALLEST, refusals: 0 }
    }
}

impl Pace {
    /// Objects the next page may have.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes note of a page that went well; returns how long to wait before the next.
    pub fn went_well(&mut self, took: Duration) -> Duration {
        self.refusals = 0;
        if took > 2 * AIM {
            self.limit = (self.limit / 2).max(SMALLEST);
        } else if took < AIM {
            self.limit = (self.limit + self.limit / 4).min(LARGEST);
        }
        (2 * took).clamp(PAUSE.0, PAUSE.1)
    }

    /// Takes note of a refusal; returns how long to wait before the next attempt.
    pub fn was_refused(&mut self, retry_after: Option<Duration>) -> Duration {
        let doubled = BACKOFF.0.saturating_mul(1 << self.refusals.min(16)).min(BACKOFF.1);
        self.refusals = self.refusals.saturating_add(1);
        self.limit = (self.limit / 2).max(SMALLEST);
        doubled.max(retry_after.unwrap_or_default().min(LONGEST_ASKED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(10);

    #[test]
    fn pages_grow_on_a_quick_server_and_shrink_on_a_slow_one_between_their_bounds() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.went_well(QUICK);
        }
        assert_eq!(pace.limit(), LARGEST);
        pace.went_well(3 * AIM);
        assert_eq!(pace.limit(), LARGEST / 2);
        for _ in 0..100 {
            pace.went_well(3 * AIM);
        }
        assert_eq!(pace.limit(), SMALLEST);
    }

    #[test]
    fn at_most_a_third_of_the_time_is_ours() {
        let mut pace = Pace::default();
        let slow = Duration::from_millis(700);
        assert_eq!(pace.went_well(slow), 2 * slow);
        assert_eq!(pace.went_well(Duration::ZERO), PAUSE.0, "never page upon page");
        assert_eq!(pace.went_well(Duration::from_mins(1)), PAUSE.1);
    }

    #[test]
    fn refusals_double_the_wait_until_a_page_goes_well() {
        let mut pace = Pace::default();
        let waits: Vec<_> = (0..8).map(|_| pace.was_refused(None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        pace.went_well(QUICK);
        assert_eq!(pace.was_refused(None), BACKOFF.0);
    }

    #[test]
    fn a_server_that_asks_for_more_time_gets_it() {
        let mut pace = Pace::default();
        let asked = Duration::from_secs(90);
        assert_eq!(pace.was_refused(Some(asked)), asked);
    }

    #[test]
    fn no_server_stops_the_clean_up_for_longer_than_five_minutes() {
        let year = Duration::from_hours(8_760);
        assert_eq!(Pace::default().was_refused(Some(year)), Duration::from_mins(5));
    }
}

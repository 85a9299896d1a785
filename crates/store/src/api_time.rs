//! How far this machine's clock is from the API server's, by the `Date` of answers we get anyway.
//!
//! ```text
//! sent ──────── the API server writes Date ──────── received ─ ─ ─ ─ ─ ─ now
//!   └── latest: Date + 1 s (it names whole seconds) ──┘ └── earliest: Date ──┘
//! ```
//! What always holds:
//! - between answers the monotonic clock goes on counting, so that a jump of the wall clock alone is
//!   noticed at once, and an API server that is away raises no doubt;
//! - what an answer cannot prove (whole seconds, time on the way) counts for us, never against;
//! - of two answers that can both be true the more exact one counts, of two that cannot the later one.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use jiff::fmt::rfc2822;

/// A clock this many seconds off is not trusted: half of the skew that everything else allows for, so
/// that two replicas off in different directions stay within it.
pub const LIMIT_SECONDS: i64 = 30;
/// It is trusted again when it is less than this far off.
const BACK_SECONDS: i64 = 25;
/// A date that was long on the way replaces a better one only when that is as old as this.
const FRESH: Duration = Duration::from_mins(1);

/// The API server's time, as far as answers told it.
#[derive(Debug, Default)]
pub struct ApiTime {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: Option<Told>,
    off: bool,
}

/// One answer's date, in seconds since the Unix epoch, and when it was on the way.
#[derive(Debug, Clone, Copy)]
struct Told {
    date: i64,
    sent: Instant,
    received: Instant,
}

impl Told {
    fn trip(&self) -> Duration {
        self.received.duration_since(self.sent)
    }

    /// What the API server's clock shows now, in milliseconds: from when to when.
    fn range(&self, now: Instant) -> RangeInclusive<i64> {
        let date = self.date.saturating_mul(1_000);
        let earliest = date.saturating_add(millis(now.duration_since(self.received)));
        let latest =
            date.saturating_add(1_000).saturating_add(millis(now.duration_since(self.sent)));
        earliest..=latest
    }

    /// Whether both answers can be true.
    fn agrees_with(&self, other: &Self, now: Instant) -> bool {
        let (ours, theirs) = (self.range(now), other.range(now));
        ours.start() <= theirs.end() && theirs.start() <= ours.end()
    }

    /// Milliseconds by which a wall clock is certainly ahead (positive) or behind (negative).
    fn offset_millis(&self, wall_millis: i64, now: Instant) -> i64 {
        let range = self.range(now);
        match wall_millis {
            wall if wall > *range.end() => wall - range.end(),
            wall if wall < *range.start() => wall - range.start(),
            _ => 0,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What is wrong with a wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// No answer of the API server has told its time yet.
    Unknown,
    /// It is off by this many seconds; positive is ahead.
    Off(i64),
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("the clock is not compared with the API server's yet: is it there?")
            }
            Self::Off(seconds) => write!(
                f,
                "the clock of this machine is {} s {} the API server's: set the wrong one right by NTP (chrony, \
                 systemd-timesyncd), on the node or, if all replicas say the same, the API server's; until it is within {BACK_SECONDS} s, this replica \
                 signs nothing",
                seconds.abs(),
                if *seconds > 0 { "ahead of" } else { "behind" },
            ),
        }
    }
}

impl ApiTime {
    /// Takes in the `Date` of an answer to a request that was sent at `sent`.
    pub fn hear(&self, headers: &HeaderMap, sent: Instant, received: Instant) {
        let date = headers.get(header::DATE).and_then(|value| value.to_str().ok());
        let Some(date) = date.and_then(|date| rfc2822::parse(date).ok()) else { return };
        let told = Told { date: date.timestamp().as_second(), sent, received };
        let mut state = self.lock();
        let better = state.told.is_some_and(|old| {
            old.trip() < told.trip()
                && received.duration_since(old.received) < FRESH
                && old.agrees_with(&told, received)
        });
        if !better {
            state.told = Some(told);
        }
    }

    /// How long ago the API server last told its time.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.lock().told.map(|told| now.duration_since(told.received))
    }

    /// Seconds by which a wall clock that shows `wall_millis` is certainly ahead of the API server's
    /// (positive) or behind it (negative); `None` before the first answer.
    #[expect(clippy::cast_precision_loss, reason = "a difference of two clocks, for people")]
    pub fn offset_seconds(&self, wall_millis: i64, now: Instant) -> Option<f64> {
        let told = self.lock().told?;
        Some(told.offset_millis(wall_millis, now) as f64 / 1_000.0)
    }

    /// Why a wall clock that shows `wall_millis` must not date anything, if so.
    pub fn doubt(&self, wall_millis: i64, now: Instant) -> Option<Doubt> {
        let mut state = self.lock();
        let Some(told) = state.told else { return Some(Doubt::Unknown) };
        let offset = told.offset_millis(wall_millis, now);
        let limit = if state.off { BACK_SECONDS } else { LIMIT_SECONDS };
        state.off = offset.abs() >= limit * 1_000;
        state.off.then_some(Doubt::Off(offset / 1_000))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// 2026-11-25 20:00:00 UTC.
    const DATE: &str = "Wed, 25 Nov 2026 20:00:00 GMT";
    const SECONDS: i64 = 1_795_636_800;

    fn headers(date: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::DATE, HeaderValue::from_static(date))])
    }

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    /// Heard `DATE` in an answer that took this long.
    fn heard(start: Instant, trip_millis: u64) -> ApiTime {
        let time = ApiTime::default();
        time.hear(&headers(DATE), start, at(start, trip_millis));
        time
    }

    fn wall(seconds_off: i64) -> i64 {
        (SECONDS + seconds_off) * 1_000
    }

    #[test]
    fn before_the_first_answer_the_clock_is_in_doubt() {
        let time = ApiTime::default();
        assert_eq!(time.doubt(wall(0), Instant::now()), Some(Doubt::Unknown));
        time.hear(&headers("yesterday"), Instant::now(), Instant::now());
        assert_eq!(time.doubt(wall(0), Instant::now()), Some(Doubt::Unknown));
    }

    #[test]
    fn whole_seconds_and_the_way_count_for_us() {
        let start = Instant::now();
        let time = heard(start, 400);
        let now = at(start, 400);
        assert_eq!(time.offset_seconds(wall(0), now), Some(0.0));
        assert_eq!(time.offset_seconds(wall(0) + 1_400, now), Some(0.0));
        assert_eq!(time.offset_seconds(wall(0) + 1_401, now), Some(0.001));
        assert_eq!(time.offset_seconds(wall(0) - 1, now), Some(-0.001));
    }

    #[test]
    fn a_clock_thirty_seconds_off_is_not_trusted_until_it_is_well_back() {
        let start = Instant::now();
        let time = heard(start, 0);
        assert_eq!(time.doubt(wall(31) - 1, start), None, "30 s, less a millisecond");
        assert_eq!(time.doubt(wall(31), start), Some(Doubt::Off(30)));
        assert_eq!(time.doubt(wall(26), start), Some(Doubt::Off(25)), "not well back yet");
        assert_eq!(time.doubt(wall(26) - 1, start), None);
        assert_eq!(time.doubt(wall(31) - 1, start), None, "and the limit is 30 s again");
        assert_eq!(time.doubt(wall(-30), start), Some(Doubt::Off(-30)));
    }

    #[test]
    fn a_jump_between_two_answers_is_noticed_at_once() {
        let start = Instant::now();
        let time = heard(start, 0);
        let later = at(start, 3_600_000);
        assert_eq!(time.doubt(wall(3_600), later), None, "an hour without an answer is no doubt");
        assert_eq!(time.doubt(wall(3_600 + 45), later), Some(Doubt::Off(44)));
        assert_eq!(time.silence(later), Some(Duration::from_hours(1)));
    }

    #[test]
    fn an_answer_that_was_long_on_the_way_does_not_replace_a_fresh_good_one() {
        let start = Instant::now();
        let time = heard(start, 10);
        let slow = headers("Wed, 25 Nov 2026 20:00:40 GMT");
        time.hear(&slow, at(start, 10), at(start, 40_010));
        assert_eq!(time.silence(at(start, 40_010)), Some(Duration::from_secs(40)));
        time.hear(&slow, at(start, 20_010), at(start, 60_010));
        assert_eq!(time.silence(at(start, 60_010)), Some(Duration::ZERO), "but an old one");
    }

    #[test]
    fn an_answer_that_contradicts_a_better_one_replaces_it() {
        let start = Instant::now();
        let (sent, received) = (at(start, 1_000), at(start, 3_000));
        // By then the first answer says 20:00:03 to 20:00:04, and the second its date and 3 s more.
        for (date, contradicts) in [
            ("Wed, 25 Nov 2026 20:00:04 GMT", false),
            ("Wed, 25 Nov 2026 20:00:05 GMT", true),
            ("Wed, 25 Nov 2026 20:00:00 GMT", false),
            ("Wed, 25 Nov 2026 19:59:59 GMT", true),
        ] {
            let time = heard(start, 0);
            time.hear(&headers(date), sent, received);
            let replaced = time.silence(received) == Some(Duration::ZERO);
            assert_eq!(replaced, contradicts, "{date}");
        }
    }

    #[test]
    fn the_words_name_offset_and_fix() {
        let said = Doubt::Off(45).to_string();
        assert!(said.contains("45 s ahead of the API server's") && said.contains("NTP"), "{said}");
        assert!(Doubt::Off(-31).to_string().contains("31 s behind"));
    }
}

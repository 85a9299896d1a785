//! What an upstream says about itself, read when first needed and kept for an hour.
//!
//! What always holds: whoever finds it in memory waits for nobody; one asks, and who has nothing waits for that answer; a
//! failure is given to all who wait, and again for a moment; what was read before is good for a day while nothing newer
//! can be had; it is read anew for an answer that cannot be understood without, though no more often than every half
//! minute, and every two seconds while that fails, whatever answers are shown to us.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer is good for.
pub const KEPT: Duration = Duration::from_hours(1);
/// Least time between two readings at the wish of somebody.
pub const PAUSE: Duration = Duration::from_secs(30);
/// How long an answer is good for while nothing newer can be had.
const STALE: Duration = Duration::from_hours(24);
/// How long a failure is everybody's.
const FAILED: Duration = Duration::from_secs(2);

/// An upstream's description of itself, and why there is none.
pub struct Kept<T, E> {
    known: Mutex<Known<T, E>>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
}

/// What was read, and what failed since.
struct Known<T, E> {
    read: Option<(Instant, Arc<T>)>,
    failed: Option<(Instant, E)>,
}

impl<T, E> Default for Known<T, E> {
    fn default() -> Self {
        Self { read: None, failed: None }
    }
}

impl<T, E> Default for Kept<T, E> {
    fn default() -> Self {
        Self { known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }
}

impl<T, E> fmt::Debug for Kept<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl<T, E: Clone> Known<T, E> {
    fn younger_than(&self, age: Duration) -> Option<Arc<T>> {
        let (at, read) = self.read.as_ref()?;
        (at.elapsed() < age).then(|| Arc::clone(read))
    }

    /// What a failure leaves: what was read before, for so long, or else the failure, for a moment.
    fn left(&self, pause: Duration) -> Option<Result<Arc<T>, E>> {
        let (at, error) = self.failed.as_ref()?;
        let stale = self.younger_than(STALE);
        let pause = if stale.is_some() { pause } else { FAILED };
        (at.elapsed() < pause).then(|| stale.ok_or_else(|| error.clone()))
    }
}

impl<T, E: Clone> Kept<T, E> {
    /// What it says, from memory if that is younger than `age`; else by asking.
    ///
    /// # Errors
    /// What asking failed by.
    pub async fn no_older_than(
        &self,
        age: Duration,
        ask: impl Future<Output = Result<Arc<T>, E>>,
    ) -> Result<Arc<T>, E> {
        self.asked(age, FAILED, ask).await
    }

    /// The same, where what was read before will do for half a minute after a failure: who asks often must not wait each
    /// time while nobody answers.
    ///
    /// # Errors
    /// What asking failed by.
    #[cfg(feature = "saml")]
    pub async fn patiently(
        &self,
        age: Duration,
        ask: impl Future<Output = Result<Arc<T>, E>>,
    ) -> Result<Arc<T>, E> {
        self.asked(age, PAUSE, ask).await
    }

    async fn asked(
        &self,
        age: Duration,
        pause: Duration,
        ask: impl Future<Output = Result<Arc<T>, E>>,
    ) -> Result<Arc<T>, E> {
        if let Some(known) = self.known().younger_than(age) {
            return Ok(known);
        }
        let _alone = self.asking.lock().await;
        {
            let known = self.known(); // by now
            if let Some(found) = known.younger_than(age).map(Ok).or_else(|| known.left(pause)) {
                return found;
            }
        }
        let asked = self.note(ask.await);
        asked.or_else(|error| self.known().younger_than(STALE).ok_or(error))
    }

    /// Keeps what somebody heard who asked, and gives it back.
    ///
    /// # Errors
    /// What asking failed by.
    pub fn note(&self, asked: Result<Arc<T>, E>) -> Result<Arc<T>, E> {
        let mut known = self.known();
        match &asked {
            Ok(read) => {
                *known = Known { read: Some((Instant::now(), Arc::clone(read))), failed: None };
            }
            Err(error) => known.failed = Some((Instant::now(), error.clone())),
        }
        asked
    }

    fn known(&self) -> MutexGuard<'_, Known<T, E>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl<T, E> Kept<T, E> {
    /// What was read so long ago.
    pub fn read_ago(read: Arc<T>, age: Duration) -> Self {
        let at = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        let known = Known { read: Some((at, read)), failed: None };
        Self { known: Mutex::new(known), asking: tokio::sync::Mutex::default() }
    }

    /// So much time goes by.
    pub fn age(&self, by: Duration) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = |at: &mut Instant| *at = at.checked_sub(by).unwrap_or(*at);
        known.read.iter_mut().for_each(|(at, _)| earlier(at));
        known.failed.iter_mut().for_each(|(at, _)| earlier(at));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn known(read: Option<Duration>, failed: Option<Duration>) -> Known<(), &'static str> {
        let ago = |age: Duration| Instant::now().checked_sub(age).unwrap();
        Known {
            read: read.map(|age| (ago(age), Arc::new(()))),
            failed: failed.map(|age| (ago(age), "away")),
        }
    }

    #[test]
    fn what_was_read_is_good_for_an_hour_and_for_a_day_while_nothing_newer_can_be_had() {
        let (minutes, hours) = (Duration::from_mins(59), Duration::from_hours(2));
        assert!(known(Some(minutes), None).younger_than(KEPT).is_some());
        assert!(known(Some(PAUSE), None).younger_than(PAUSE).is_none(), "for an unknown key");
        assert!(known(Some(hours), None).younger_than(KEPT).is_none());
        let left = |read, failed| known(read, failed).left(FAILED);
        assert!(left(Some(hours), None).is_none(), "nothing failed: ask");
        let just_now = Some(Duration::ZERO);
        assert!(left(Some(hours), just_now).unwrap().is_ok());
        assert!(left(Some(Duration::from_hours(25)), just_now).unwrap().is_err());
        assert!(left(None, just_now).unwrap().is_err());
        assert!(left(None, Some(FAILED)).is_none(), "long ago: ask");
        assert!(left(Some(hours), Some(FAILED)).is_none(), "the same where something is known");
        assert!(known(Some(hours), Some(FAILED)).left(PAUSE).unwrap().is_ok(), "patiently");
        assert!(known(Some(hours), Some(PAUSE)).left(PAUSE).is_none());
        assert!(known(None, Some(FAILED)).left(PAUSE).is_none(), "nothing is known: ask");
    }

    #[tokio::test]
    async fn of_any_number_who_want_it_anew_one_asks_in_half_a_minute_and_in_two_seconds_if_that_fails()
     {
        let asked = Cell::new(0);
        let ask = |answer: Result<Arc<()>, &'static str>| {
            let asked = &asked;
            async move {
                asked.set(asked.get() + 1);
                tokio::task::yield_now().await;
                answer
            }
        };
        for (answer, again) in [(Ok(Arc::new(())), PAUSE), (Err("away"), FAILED)] {
            let kept = Kept::read_ago(Arc::new(()), PAUSE);
            asked.set(0);
            let all = (0..50).map(|_| kept.no_older_than(PAUSE, ask(answer.clone())));
            assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
            assert_eq!(asked.get(), 1, "{answer:?}");
            kept.age(again);
            kept.no_older_than(PAUSE, ask(answer.clone())).await.unwrap();
            kept.no_older_than(PAUSE, ask(answer)).await.unwrap();
            assert_eq!(asked.get(), 2, "and again only after {again:?}");
        }
    }
}

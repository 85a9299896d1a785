//! Keys that others publish, kept for a while: those of clients behind their URLs, those of the cluster.
//!
//! What always holds: whoever makes us look for a key nobody has, makes us ask once in a pause and no
//! more; one question at a time about one place, and only so many wait for its answer; keys that cannot
//! be asked for any more are believed for a bounded time; memory is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::ports::FetchError;

/// Requests that may wait for one answer. The others are told to come back.
const WAITING: usize = 32;
/// Most places remembered.
const PLACES: usize = 1_024;

/// How long keys are kept, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// So long they are believed without asking again.
    pub fresh: i64,
    /// So long they are believed when the answer to a question fails.
    pub stale: i64,
    /// Between two questions.
    pub pause: i64,
}

/// What places said, by place.
#[derive(Debug)]
pub struct KeyCache<V> {
    places: Mutex<HashMap<String, Arc<Place<V>>>>,
    patience: Patience,
}

/// What one place said.
#[derive(Debug)]
struct Place<V> {
    known: AsyncMutex<Known<V>>,
    waiting: Semaphore,
}

#[derive(Debug)]
struct Known<V> {
    /// The last good answer and when it came.
    answer: Option<(Arc<V>, i64)>,
    /// When it was last asked, whatever came of it.
    asked_at: Option<i64>,
}

impl<V> KeyCache<V> {
    /// Nothing is known yet.
    pub fn new(patience: Patience) -> Self {
        Self { places: Mutex::default(), patience }
    }

    /// What a place says: from memory if that is fresh and will do, else by asking. `elapsed` is by the
    /// clock that nobody sets.
    ///
    /// # Errors
    /// [`FetchError`] when nothing is known that may still be believed.
    pub async fn get(
        &self,
        place: &str,
        elapsed: i64,
        will_do: impl Fn(&V) -> bool,
        ask: impl Future<Output = Result<V, FetchError>>,
    ) -> Result<Arc<V>, FetchError> {
        let place = self.place(place);
        let busy = |_| FetchError::unavailable("too many wait for the same keys");
        let _waiting = place.waiting.try_acquire().map_err(busy)?;
        let mut known = place.known.lock().await;
        let believable = known.answer.clone().filter(|(_, at)| elapsed - at < self.patience.stale);
        if let Some((value, at)) = &believable
            && elapsed - at < self.patience.fresh
            && will_do(value)
        {
            return Ok(Arc::clone(value));
        }
        let just_asked = known.asked_at.is_some_and(|at| elapsed - at < self.patience.pause);
        let asked = if just_asked {
            Err(FetchError::unavailable("they were asked for a moment ago"))
        } else {
            known.asked_at = Some(elapsed);
            ask.await
        };
        match (asked, believable) {
            (Ok(value), _) => {
                let value = Arc::new(value);
                known.answer = Some((Arc::clone(&value), elapsed));
                Ok(value)
            }
            (Err(error), Some((value, _))) => {
                tracing::debug!(%error, "keys could not be asked for again");
                Ok(value)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn place(&self, name: &str) -> Arc<Place<V>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(name) {
            return Arc::clone(place);
        }
        if places.len() >= PLACES {
            places.clear(); // what is still asked for is soon known again
        }
        let place = Arc::new(Place {
            known: AsyncMutex::new(Known { answer: None, asked_at: None }),
            waiting: Semaphore::new(WAITING),
        });
        places.insert(name.to_owned(), Arc::clone(&place));
        place
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const PATIENCE: Patience = Patience { fresh: 300, stale: 3_600, pause: 10 };

    /// A place that answers a number, one higher each time, or fails while it is below zero.
    struct Numbers {
        cache: KeyCache<i64>,
        next: AtomicI64,
    }

    impl Numbers {
        fn new() -> Self {
            Self { cache: KeyCache::new(PATIENCE), next: AtomicI64::new(1) }
        }

        async fn at_least(&self, least: i64, elapsed: i64) -> Option<i64> {
            let ask = async {
                match self.next.load(Ordering::SeqCst) {
                    ..0 => Err(FetchError::unavailable("away")),
                    _ => Ok(self.next.fetch_add(1, Ordering::SeqCst)),
                }
            };
            self.cache.get("place", elapsed, |value| *value >= least, ask).await.ok().map(|v| *v)
        }
    }

    #[tokio::test]
    async fn what_is_fresh_and_will_do_is_not_asked_for_again() {
        let numbers = Numbers::new();
        assert_eq!(numbers.at_least(1, 0).await, Some(1));
        assert_eq!(numbers.at_least(1, 299).await, Some(1));
        assert_eq!(numbers.at_least(1, 300).await, Some(2), "not fresh");
        assert_eq!(numbers.at_least(3, 310).await, Some(3), "would not do");
    }

    #[tokio::test]
    async fn a_key_nobody_has_is_asked_for_once_in_a_pause() {
        let numbers = Numbers::new();
        assert_eq!(numbers.at_least(1, 0).await, Some(1));
        for elapsed in 1..10 {
            assert_eq!(numbers.at_least(99, elapsed).await, Some(1), "{elapsed}");
        }
        assert_eq!(numbers.at_least(99, 10).await, Some(2));
        for elapsed in 11..20 {
            assert_eq!(numbers.at_least(99, elapsed).await, Some(2), "{elapsed}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_asked_for_again_is_believed_for_a_bounded_time() {
        let numbers = Numbers::new();
        assert_eq!(numbers.at_least(1, 0).await, Some(1));
        numbers.next.store(-1, Ordering::SeqCst);
        assert_eq!(numbers.at_least(1, 300).await, Some(1));
        assert_eq!(numbers.at_least(1, 3_599).await, Some(1));
        assert_eq!(numbers.at_least(1, 3_600).await, None);
        numbers.next.store(7, Ordering::SeqCst);
        assert_eq!(numbers.at_least(1, 3_601).await, None, "asked a moment ago");
        assert_eq!(numbers.at_least(1, 3_610).await, Some(7));
    }

    #[tokio::test]
    async fn only_so_many_wait_for_one_answer_and_they_ask_once() {
        let cache: KeyCache<i64> = KeyCache::new(PATIENCE);
        let asked = AtomicI64::new(0);
        let one = || {
            cache.get("place", 0, |_| true, async {
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok(1)
            })
        };
        let all: Vec<_> = (0..WAITING + 8).map(|_| one()).collect();
        let answers = futures_of(all).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), WAITING);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let cache: KeyCache<i64> = KeyCache::new(PATIENCE);
        for n in 0..=PLACES {
            cache.place(&n.to_string());
        }
        assert!(cache.places.lock().unwrap().len() <= PLACES);
    }

    /// Runs all of them at once and waits for all.
    async fn futures_of<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
        let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
        let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            for (future, output) in futures.iter_mut().zip(&mut outputs) {
                if output.is_none()
                    && let std::task::Poll::Ready(done) = future.as_mut().poll(context)
                {
                    *output = Some(done);
                }
            }
            if outputs.iter().all(Option::is_some) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        outputs.into_iter().flatten().collect()
    }
}

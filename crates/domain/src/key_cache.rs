//! Keys that others publish, kept for a while: those of clients behind their URLs, those of the cluster.
//!
//! ```text
//! get ─┬─ fresh, and will do ───────────────────────────→ answered at once, however many wait
//!      ├─ a question is under way ─────────────────────→ waits for its answer; not long, where what is
//!      │                                                 still believed will do
//!      ├─ asked a moment ago (the pause) ────────────────→ what is still believed, or nothing
//!      └─ asks: a task of its own, which nobody's hanging up ends
//! ```
//! What always holds: whoever makes us look for a key nobody has, makes us ask once in a pause and no
//! more; one question at a time about one place, and only so many wait for its answer; whoever hangs up
//! takes the answer from nobody; keys that cannot be asked for any more are believed for a bounded time;
//! memory is bounded, and whoever fills it makes us forget what was not asked for the longest time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ports::FetchError;

/// Requests that may wait for one answer. The others are told to come back.
const WAITING: usize = 32;
/// So long somebody waits for the answer to a question whom what is still believed would do.
const IMPATIENCE: Duration = Duration::from_secs(1);
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
    known: Mutex<Known<V>>,
    waiting: Semaphore,
    /// When it was last looked at.
    used_at: AtomicI64,
}

#[derive(Debug)]
struct Known<V> {
    /// The last good answer and when it was asked for.
    answer: Option<(Arc<V>, i64)>,
    /// When it was last asked, whatever came of it.
    asked_at: Option<i64>,
    /// The question under way, or the last one.
    question: Option<Question<V>>,
}

/// What became of a question; nothing yet while it is under way.
type Outcome<V> = Option<Result<Arc<V>, FetchError>>;

/// One question: its task keeps the sending half, so that whoever waits learns of its end, a panic's too.
#[derive(Debug)]
struct Question<V> {
    outcome: watch::Receiver<Outcome<V>>,
    task: JoinHandle<()>,
}

impl<V: Send + Sync + 'static> KeyCache<V> {
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
        ask: impl Future<Output = Result<V, FetchError>> + Send + 'static,
    ) -> Result<Arc<V>, FetchError> {
        let place = self.place(place, elapsed);
        let (believable, outcome, _waiting) = {
            let mut known = place.known();
            let believable =
                known.answer.clone().filter(|(_, at)| elapsed - at < self.patience.stale);
            if let Some((value, at)) = &believable
                && elapsed - at < self.patience.fresh
                && will_do(value)
            {
                return Ok(Arc::clone(value));
            }
            let enough = believable.as_ref().map(|(value, _)| value).filter(|value| will_do(value));
            let Ok(permit) = place.waiting.try_acquire() else {
                let busy = || FetchError::unavailable("too many wait for the same keys");
                return enough.cloned().ok_or_else(busy);
            };
            let hurried = enough.is_some();
            let outcome = match known.under_way() {
                Some(outcome) => Some(outcome),
                None if known.asked_at.is_some_and(|at| elapsed - at < self.patience.pause) => None,
                None => Some(begin(&place, &mut known, elapsed, ask)),
            };
            (believable, outcome.map(|outcome| (outcome, hurried)), permit)
        };
        let answered = match outcome {
            Some((outcome, false)) => end_of(outcome).await,
            Some((outcome, true)) => {
                timeout(IMPATIENCE, end_of(outcome)).await.unwrap_or_else(|_| {
                    Err(FetchError::unavailable("the answer is a long time coming"))
                })
            }
            None => Err(FetchError::unavailable("they were asked for a moment ago")),
        };
        match (answered, believable) {
            (Ok(value), _) => Ok(value),
            (Err(error), Some((value, _))) => {
                tracing::debug!(%error, "keys could not be asked for again");
                Ok(value)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn place(&self, name: &str, elapsed: i64) -> Arc<Place<V>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(name) {
            place.used_at.fetch_max(elapsed, Ordering::Relaxed);
            return Arc::clone(place);
        }
        if places.len() >= PLACES {
            forget_oldest(&mut places);
        }
        let known = Known { answer: None, asked_at: None, question: None };
        let place = Arc::new(Place {
            known: Mutex::new(known),
            waiting: Semaphore::new(WAITING),
            used_at: AtomicI64::new(elapsed),
        });
        places.insert(name.to_owned(), Arc::clone(&place));
        place
    }
}

/// Makes room for one: the place that nobody has asked about for the longest time, and nobody waits for if that
/// can be.
fn forget_oldest<V>(places: &mut HashMap<String, Arc<Place<V>>>) {
    let age = |place: &Arc<Place<V>>| {
        (Arc::strong_count(place) > 1, place.used_at.load(Ordering::Relaxed))
    };
    let oldest = places.iter().min_by_key(|(_, place)| age(place)).map(|(name, _)| name.clone());
    if let Some(name) = oldest {
        places.remove(&name);
    }
}

impl<V> Place<V> {
    fn known(&self) -> MutexGuard<'_, Known<V>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Known<V> {
    /// The question under way, if there is one: a task that ended without a word asks nothing any more.
    fn under_way(&self) -> Option<watch::Receiver<Outcome<V>>> {
        let question = self.question.as_ref().filter(|question| !question.task.is_finished())?;
        question.outcome.borrow().is_none().then(|| question.outcome.clone())
    }
}

/// Asks in a task of its own: the request that was the first to need the answer may be gone before it comes.
fn begin<V: Send + Sync + 'static>(
    place: &Arc<Place<V>>,
    known: &mut Known<V>,
    elapsed: i64,
    ask: impl Future<Output = Result<V, FetchError>> + Send + 'static,
) -> watch::Receiver<Outcome<V>> {
    let (told, outcome) = watch::channel(None);
    let own = Arc::clone(place);
    let task = tokio::spawn(async move {
        let answer = ask.await.map(Arc::new);
        let mut known = own.known();
        if let Ok(value) = &answer {
            known.answer = Some((Arc::clone(value), elapsed));
        }
        told.send_replace(Some(answer));
    });
    known.asked_at = Some(elapsed);
    known.question = Some(Question { outcome: outcome.clone(), task });
    outcome
}

/// Waits for the end of a question.
async fn end_of<V>(mut outcome: watch::Receiver<Outcome<V>>) -> Result<Arc<V>, FetchError> {
    let broken = || FetchError::unavailable("the question broke off");
    let told = outcome.wait_for(Option::is_some).await.map_err(|_| broken())?;
    told.clone().unwrap_or_else(|| Err(broken()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { fresh: 300, stale: 3_600, pause: 10 };

    /// A place that answers a number, one higher each time, or fails while it is below zero.
    struct Numbers {
        cache: KeyCache<i64>,
        next: Arc<AtomicI64>,
    }

    impl Numbers {
        fn new() -> Self {
            Self { cache: KeyCache::new(PATIENCE), next: Arc::new(AtomicI64::new(1)) }
        }

        async fn at_least(&self, least: i64, elapsed: i64) -> Option<i64> {
            let next = Arc::clone(&self.next);
            let ask = async move {
                match next.load(Ordering::SeqCst) {
                    ..0 => Err(FetchError::unavailable("away")),
                    _ => Ok(next.fetch_add(1, Ordering::SeqCst)),
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

    /// A place that answers when it is let, and counts who asks.
    struct Gate {
        cache: KeyCache<i64>,
        asked: Arc<AtomicI64>,
        open: Arc<Semaphore>,
    }

    impl Gate {
        fn new() -> Self {
            let (asked, open) = (Arc::default(), Arc::new(Semaphore::new(0)));
            Self { cache: KeyCache::new(PATIENCE), asked, open }
        }

        async fn get(&self, least: i64, elapsed: i64) -> Result<Arc<i64>, FetchError> {
            let (asked, open) = (Arc::clone(&self.asked), Arc::clone(&self.open));
            let ask = async move {
                let answer = asked.fetch_add(1, Ordering::SeqCst) + 1;
                open.acquire().await.unwrap().forget();
                Ok(answer)
            };
            self.cache.get("place", elapsed, |value| *value >= least, ask).await
        }

        fn asked(&self) -> i64 {
            self.asked.load(Ordering::SeqCst)
        }

        /// A request that has asked, and waits.
        async fn waiting(
            &self,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<Arc<i64>, FetchError>> + '_>> {
            let mut waiting = Box::pin(self.get(1, 0));
            let polled = futures_of(vec![std::future::poll_fn(|context| {
                std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())
            })]);
            assert_eq!(polled.await, [true]);
            waiting
        }
    }

    #[tokio::test]
    async fn only_so_many_wait_for_one_answer_and_they_ask_once() {
        let gate = Gate::new();
        gate.open.add_permits(1);
        let all: Vec<_> = (0..WAITING + 8).map(|_| gate.get(1, 0)).collect();
        let answers = futures_of(all).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), WAITING);
        assert_eq!(gate.asked(), 1);
    }

    #[tokio::test]
    async fn whoever_hangs_up_takes_the_answer_from_nobody() {
        let gate = Gate::new();
        drop(gate.waiting().await); // the first request is aborted while its question is under way
        let mut another = gate.waiting().await;
        gate.open.add_permits(1);
        assert_eq!(another.as_mut().await.as_deref(), Ok(&1), "in the pause, and yet answered");
        assert_eq!(gate.asked(), 1, "they share the question");
        assert_eq!(gate.get(1, 0).await.as_deref(), Ok(&1));
    }

    #[tokio::test]
    async fn an_answer_nobody_waits_for_any_more_is_kept() {
        let gate = Gate::new();
        drop(gate.waiting().await);
        gate.open.add_permits(1);
        let kept = || gate.cache.place("place", 0).known().answer.is_some();
        while !kept() {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.get(1, 1).await.as_deref(), Ok(&1));
        assert_eq!(gate.asked(), 1);
    }

    #[tokio::test]
    async fn fresh_keys_are_answered_however_many_wait_for_others() {
        let gate = Gate::new();
        gate.open.add_permits(1);
        assert_eq!(gate.get(1, 0).await.as_deref(), Ok(&1));
        let mut strangers = Vec::new();
        for _ in 0..WAITING {
            let mut stranger = Box::pin(gate.get(99, 10));
            let polled = futures_of(vec![std::future::poll_fn(|context| {
                std::task::Poll::Ready(stranger.as_mut().poll(context).is_pending())
            })]);
            assert_eq!(polled.await, [true]);
            strangers.push(stranger);
        }
        assert!(gate.get(99, 10).await.is_err(), "one more does not wait");
        assert_eq!(
            gate.get(1, 10).await.as_deref(),
            Ok(&1),
            "who needs nothing new does not either"
        );
    }

    #[tokio::test]
    async fn whom_what_is_believed_would_do_gets_it_while_the_answer_hangs_and_the_room_is_full() {
        let gate = Gate::new();
        gate.open.add_permits(1);
        assert_eq!(gate.get(1, 0).await.as_deref(), Ok(&1));
        assert_eq!(gate.get(1, 300).await.as_deref(), Ok(&1), "not fresh, and the answer hangs");
        let mut strangers = Vec::new();
        for _ in 0..WAITING {
            let mut stranger = Box::pin(gate.get(99, 300));
            let polled = futures_of(vec![std::future::poll_fn(|context| {
                std::task::Poll::Ready(stranger.as_mut().poll(context).is_pending())
            })]);
            assert_eq!(polled.await, [true]);
            strangers.push(stranger);
        }
        assert!(gate.get(99, 300).await.is_err(), "one more does not wait");
        assert_eq!(gate.get(1, 300).await.as_deref(), Ok(&1), "nor need whom the old ones do");
        assert!(gate.get(1, 3_600).await.is_err(), "but for a bounded time");
    }

    #[tokio::test]
    async fn a_question_that_breaks_off_ends_for_all_and_is_asked_again_after_the_pause() {
        let cache: KeyCache<i64> = KeyCache::new(PATIENCE);
        let broken = cache.get("place", 0, |_| true, async { panic!("planted by the test") });
        assert_eq!(broken.await, Err(FetchError::unavailable("the question broke off")));
        let again = |elapsed| cache.get("place", elapsed, |_| true, async { Ok(1) });
        assert!(again(9).await.is_err());
        assert_eq!(again(10).await.as_deref(), Ok(&1));
    }

    #[test]
    fn memory_is_bounded() {
        let cache: KeyCache<i64> = KeyCache::new(PATIENCE);
        for n in 0..=PLACES {
            cache.place(&n.to_string(), 0);
        }
        assert!(cache.places.lock().unwrap().len() <= PLACES);
    }

    #[test]
    fn whoever_fills_the_memory_takes_what_was_not_asked_for_the_longest_time_and_no_more() {
        let cache: KeyCache<i64> = KeyCache::new(PATIENCE);
        let known = |name: &str| cache.places.lock().unwrap().contains_key(name);
        let under_way = cache.place("under way", 0);
        cache.place("forgotten", 1);
        cache.place("in use", 2);
        for n in 3..PLACES {
            cache.place(&n.to_string(), 3);
        }
        assert!(known("forgotten"));
        cache.place("in use", 4);
        cache.place("one more", 5);
        assert!(!known("forgotten") && known("in use") && known("under way") && known("3"));
        assert_eq!(cache.places.lock().unwrap().len(), PLACES);
        drop(under_way);
        cache.place("and another", 6);
        assert!(!known("under way") && known("in use") && known("3"));
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

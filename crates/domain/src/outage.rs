//! When the session store was away, as this replica's own requests found it.
//!
//! A rotated refresh token may be presented once more for a while, its grace: the time an honest client
//! takes to come again when it got no answer. While the store is away every client is told to come again
//! later, so **the grace does not run then**: else a rotation whose answer was lost as the store went away
//! would turn its honest client into a thief (ADR 0001).
//!
//! Turned away (a write that certainly did not happen) is not away.
//!
//! What always holds: a token whose successor was used gets nothing, outage or not; and no outage stretches
//! a grace by more than [`LONGEST_SECONDS`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::ports::{
    Activation, Clock, NewSession, RevocationReason, Rotation, Sessions, StoreError, StoredSession,
};

/// A grace is stretched by this much at most, in seconds: 15 minutes.
pub const LONGEST_SECONDS: i64 = 900;
/// Another replica's requests may have found the store away this much earlier, in seconds: two deadlines.
const EARLIER_ELSEWHERE_SECONDS: i64 = 15;
/// A store that is away again so soon was not really back, in seconds.
const RELAPSE_SECONDS: i64 = 10;

/// A time in which the store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    since: i64,
    /// `None` while it lasts.
    until: Option<i64>,
}

impl Outage {
    /// From when the grace of a token counts that was rotated at this time.
    pub fn grace_from(outage: Option<Self>, rotated_at: i64) -> i64 {
        let Some(Self { since, until: Some(until) }) = outage else { return rotated_at };
        if (since - EARLIER_ELSEWHERE_SECONDS..=until).contains(&rotated_at) {
            until.min(rotated_at.saturating_add(LONGEST_SECONDS))
        } else {
            rotated_at
        }
    }

    /// A request that began at this time got no answer.
    fn failed(outage: Option<Self>, began: i64) -> Self {
        match outage {
            Some(Self { since, until: None }) => Self { since: since.min(began), until: None },
            Some(Self { since, until: Some(until) }) if began - until <= RELAPSE_SECONDS => {
                Self { since: since.min(began), until: None }
            }
            _ => Self { since: began, until: None },
        }
    }

    /// A request was answered.
    fn answered(outage: Option<Self>, now: i64) -> Option<Self> {
        outage.map(|outage| Self { until: outage.until.or(Some(now)), ..outage })
    }
}

/// A session store that remembers when it was last away.
#[derive(Debug)]
pub struct Attentive {
    inner: Arc<dyn Sessions>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<Outage>>,
}

impl Attentive {
    /// Watches over a store.
    pub fn new(inner: Arc<dyn Sessions>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, last: Mutex::default() }
    }

    async fn noting<T>(
        &self,
        request: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let began = self.clock.now();
        let answer = request.await;
        let mut last = self.last();
        *last = match &answer {
            Ok(_) | Err(StoreError::AlreadyExists | StoreError::PreconditionFailed) => {
                Outage::answered(*last, self.clock.now())
            }
            // Turned away at a door, ours or the API server's: no answer was lost, and nobody was away.
            Err(StoreError::Refused { .. }) => *last,
            Err(StoreError::Unavailable { .. }) => Some(Outage::failed(*last, began)),
        };
        drop(last);
        answer
    }

    fn last(&self) -> MutexGuard<'_, Option<Outage>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sessions for Attentive {
    async fn create(&self, session: &NewSession) -> Result<(), StoreError> {
        self.noting(self.inner.create(session)).await
    }

    async fn get(&self, name: &str) -> Result<Option<StoredSession>, StoreError> {
        self.noting(self.inner.get(name)).await
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<StoredSession, StoreError> {
        self.noting(self.inner.rotate(rotation)).await
    }

    async fn activate(&self, activation: &Activation) -> Result<StoredSession, StoreError> {
        self.noting(self.inner.activate(activation)).await
    }

    async fn of_user(&self, user_hash: &str) -> Result<Vec<StoredSession>, StoreError> {
        self.noting(self.inner.of_user(user_hash)).await
    }

    async fn of_browser(&self, browser_hash: &str) -> Result<Vec<StoredSession>, StoreError> {
        self.noting(self.inner.of_browser(browser_hash)).await
    }

    async fn replace_payload(&self, name: &str, payload: &str) -> Result<(), StoreError> {
        self.noting(self.inner.replace_payload(name, payload)).await
    }

    async fn claim(&self, read: &StoredSession, payload: &str) -> Result<(), StoreError> {
        self.noting(self.inner.claim(read, payload)).await
    }

    async fn keep(&self, claimed: &StoredSession, payload: &str) -> Result<(), StoreError> {
        self.noting(self.inner.keep(claimed, payload)).await
    }

    async fn revoke(
        &self,
        name: &str,
        reason: RevocationReason,
        now: i64,
    ) -> Result<(), StoreError> {
        self.noting(self.inner.revoke(name, reason, now)).await
    }

    async fn end_and_tell(
        &self,
        name: &str,
        revoked: Option<RevocationReason>,
        now: i64,
    ) -> Result<(), StoreError> {
        self.noting(self.inner.end_and_tell(name, revoked, now)).await
    }

    async fn settled(&self, name: &str) -> Result<(), StoreError> {
        self.noting(self.inner.settled(name)).await
    }

    fn outage(&self) -> Option<Outage> {
        *self.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{Fault, ManualClock, MemorySessions};

    fn lasted(since: i64, until: i64) -> Option<Outage> {
        Outage::answered(Some(Outage::failed(None, since)), until)
    }

    #[test]
    fn the_grace_of_what_was_rotated_in_an_outage_begins_when_that_is_over() {
        let outage = lasted(1_000, 1_300);
        for (rotated_at, from) in
            [(984, 984), (985, 1_300), (1_000, 1_300), (1_300, 1_300), (1_301, 1_301)]
        {
            assert_eq!(Outage::grace_from(outage, rotated_at), from, "{rotated_at}");
        }
        assert_eq!(Outage::grace_from(None, 1_000), 1_000);
    }

    #[test]
    fn no_outage_stretches_a_grace_for_ever() {
        assert_eq!(Outage::grace_from(lasted(1_000, 90_000), 1_000), 1_000 + LONGEST_SECONDS);
    }

    #[test]
    fn an_outage_ends_with_the_first_answer_and_goes_on_when_the_store_relapses() {
        let outage = Outage::answered(lasted(1_000, 1_300), 1_400);
        assert_eq!(outage, lasted(1_000, 1_300), "a later answer changes nothing");
        let relapsed = Outage::failed(outage, 1_310);
        assert_eq!(relapsed, Outage { since: 1_000, until: None });
        assert_eq!(Outage::failed(outage, 1_311), Outage { since: 1_311, until: None });
        let earlier = Outage::failed(Some(relapsed), 990);
        assert_eq!(earlier.since, 990, "a request that began before failed after");
    }

    #[tokio::test]
    async fn what_was_refused_at_a_door_is_no_outage_and_ends_none() {
        let sessions = Arc::new(MemorySessions::default());
        let store = Attentive::new(Arc::clone(&sessions) as _, Arc::new(ManualClock::at(1_000)));
        let fails = async |fault| {
            sessions.fail_next_write(fault);
            store.revoke("name", RevocationReason::CodeReplayed, 1_000).await.unwrap_err();
            store.outage()
        };
        assert_eq!(fails(Fault::TurnedAway(7)).await, None);
        let away = Some(Outage { since: 1_000, until: None });
        assert_eq!(fails(Fault::AnswerLost).await, away);
        assert_eq!(fails(Fault::TurnedAway(7)).await, away, "nobody says that it is back");
    }
}

//! Sessions in memory, with a record of every request and faults on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::lock;
use crate::ports::{
    Activation, NewSession, RevocationReason, Revocations, Rotation, SessionState, Sessions,
    StoreError, StoredSession,
};

/// Sessions in memory, with a record of every request and faults on demand.
#[derive(Debug, Default)]
pub struct MemorySessions {
    stored: Mutex<BTreeMap<String, StoredSession>>,
    /// By session, the hash of the browser session it came of.
    browsers: Mutex<BTreeMap<String, String>>,
    /// By session, the hash of its user.
    users: Mutex<BTreeMap<String, String>>,
    requests: Mutex<Vec<&'static str>>,
    fault: Mutex<Option<Fault>>,
    /// Writes that still succeed before the fault.
    sound: AtomicUsize,
    unreadable: AtomicBool,
    unlabelled: Mutex<bool>,
    untold: Mutex<BTreeSet<String>>,
}

/// What goes wrong with the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not happen.
    Refused,
    /// It happens, but its answer is lost.
    AnswerLost,
    /// It is refused at the API server's door, which asks for this many seconds.
    TurnedAway(u32),
    /// It does not happen, and the API server, which cannot know, asks for this many seconds.
    Overloaded(u32),
    /// It happens, but the API server gives up on it and asks for this many seconds.
    TimedOut(u32),
}

impl MemorySessions {
    /// Makes the next write fail.
    pub fn fail_next_write(&self, fault: Fault) {
        self.fail_write_after(0, fault);
    }

    /// Makes one write fail after some that do not.
    pub fn fail_write_after(&self, sound: usize, fault: Fault) {
        *lock(&self.fault) = Some(fault);
        self.sound.store(sound, Ordering::SeqCst);
    }

    /// Makes every read fail, or no more.
    pub fn set_unreadable(&self, unreadable: bool) {
        self.unreadable.store(unreadable, Ordering::SeqCst);
    }

    /// The requests made so far, taken out: `create`, `get`, `rotate`, `activate`, `revoke`.
    pub fn take_requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut lock(&self.requests))
    }

    /// Every stored session.
    pub fn all(&self) -> Vec<StoredSession> {
        lock(&self.stored).values().cloned().collect()
    }

    /// Names of the sessions whose clients are yet to be told.
    pub fn untold(&self) -> Vec<String> {
        lock(&self.untold).iter().cloned().collect()
    }

    /// Removes every label of every session, as `kubectl label` would. Nothing is rotated before they
    /// are given again.
    pub fn remove_labels(&self) {
        *lock(&self.unlabelled) = true;
    }

    /// Removes a session, as `kubectl delete` or garbage collection would.
    pub fn delete(&self, name: &str) {
        lock(&self.stored).remove(name);
    }

    fn replace_if_unchanged(
        &self,
        verb: &'static str,
        read: &StoredSession,
        payload: &str,
    ) -> Result<(), StoreError> {
        self.write(verb, |stored| {
            let session = stored.get_mut(&read.name).ok_or(StoreError::PreconditionFailed)?;
            if session.state != SessionState::Active || session.payload != read.payload {
                return Err(StoreError::PreconditionFailed);
            }
            payload.clone_into(&mut session.payload);
            Ok(())
        })
    }

    fn write<T>(
        &self,
        verb: &'static str,
        apply: impl FnOnce(&mut BTreeMap<String, StoredSession>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        lock(&self.requests).push(verb);
        let lost = |retry_after| StoreError::Unavailable {
            message: "answer lost by the test".into(),
            retry_after,
        };
        let one_less = |sound: usize| sound.checked_sub(1);
        let is_sound = self.sound.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        let fault = if is_sound.is_ok() { None } else { lock(&self.fault).take() };
        match fault {
            None => apply(&mut lock(&self.stored)),
            Some(Fault::Refused) => Err(lost(None)),
            Some(Fault::Overloaded(seconds)) => Err(lost(Some(seconds))),
            Some(Fault::TurnedAway(seconds)) => Err(StoreError::Refused {
                message: "turned away by the test".into(),
                retry_after: Some(seconds),
            }),
            Some(Fault::AnswerLost) => {
                apply(&mut lock(&self.stored))?;
                Err(lost(None))
            }
            Some(Fault::TimedOut(seconds)) => {
                apply(&mut lock(&self.stored))?;
                Err(lost(Some(seconds)))
            }
        }
    }
}

#[async_trait]
impl Sessions for MemorySessions {
    async fn create(&self, new: &NewSession) -> Result<(), StoreError> {
        self.write("create", |stored| {
            if stored.contains_key(&new.name) {
                return Err(StoreError::AlreadyExists);
            }
            let session = StoredSession {
                name: new.name.clone(),
                state: new.state,
                generation: 0,
                client_uid: new.client_uid.clone(),
                rotated_at: new.rotated_at,
                expires_at: new.expires_at,
                redemption_id: new.redemption_id.clone(),
                payload: new.payload.clone(),
            };
            stored.insert(new.name.clone(), session);
            lock(&self.users).insert(new.name.clone(), new.labels.user_hash.clone());
            if let Some(hash) = &new.labels.browser_hash {
                lock(&self.browsers).insert(new.name.clone(), hash.clone());
            }
            Ok(())
        })
    }

    async fn get(&self, name: &str) -> Result<Option<StoredSession>, StoreError> {
        lock(&self.requests).push("get");
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                message: "unreadable by the test".into(),
                retry_after: None,
            });
        }
        Ok(lock(&self.stored).get(name).cloned())
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<StoredSession, StoreError> {
        self.write("rotate", |stored| {
            let session = stored.get_mut(&rotation.name).ok_or(StoreError::PreconditionFailed)?;
            if session.state != SessionState::Active
                || session.client_uid != rotation.client_uid
                || session.generation != rotation.from_generation
                || (*lock(&self.unlabelled) && rotation.labels.is_none())
            {
                return Err(StoreError::PreconditionFailed);
            }
            *lock(&self.unlabelled) = false;
            session.generation += 1;
            session.rotated_at = rotation.rotated_at;
            session.expires_at = rotation.expires_at;
            if let Some(payload) = &rotation.payload {
                session.payload.clone_from(payload);
            }
            Ok(session.clone())
        })
    }

    async fn activate(&self, activation: &Activation) -> Result<StoredSession, StoreError> {
        self.write("activate", |stored| {
            let session = stored.get_mut(&activation.name).ok_or(StoreError::PreconditionFailed)?;
            if session.state != SessionState::Pending || session.client_uid != activation.client_uid
            {
                return Err(StoreError::PreconditionFailed);
            }
            session.state = SessionState::Active;
            session.redemption_id = Some(activation.redemption_id.clone());
            session.rotated_at = activation.activated_at;
            session.expires_at = activation.expires_at;
            Ok(session.clone())
        })
    }

    async fn of_browser(&self, browser_hash: &str) -> Result<Vec<StoredSession>, StoreError> {
        lock(&self.requests).push("list");
        let browsers = lock(&self.browsers);
        let came_of = |session: &&StoredSession| {
            browsers.get(&session.name).is_some_and(|hash| hash == browser_hash)
        };
        Ok(lock(&self.stored).values().filter(came_of).cloned().collect())
    }

    async fn of_user(&self, user_hash: &str) -> Result<Vec<StoredSession>, StoreError> {
        lock(&self.requests).push("list");
        let users = lock(&self.users);
        let is_theirs = |session: &&StoredSession| {
            users.get(&session.name).is_some_and(|hash| hash == user_hash)
        };
        Ok(lock(&self.stored).values().filter(is_theirs).cloned().collect())
    }

    async fn replace_payload(&self, name: &str, payload: &str) -> Result<(), StoreError> {
        self.write("replace", |stored| {
            let session = stored.get_mut(name).ok_or(StoreError::PreconditionFailed)?;
            if session.state != SessionState::Active {
                return Err(StoreError::PreconditionFailed);
            }
            payload.clone_into(&mut session.payload);
            Ok(())
        })
    }

    async fn claim(&self, read: &StoredSession, payload: &str) -> Result<(), StoreError> {
        self.replace_if_unchanged("claim", read, payload)
    }

    async fn keep(&self, claimed: &StoredSession, payload: &str) -> Result<(), StoreError> {
        self.replace_if_unchanged("keep", claimed, payload)
    }

    async fn revoke(
        &self,
        name: &str,
        _reason: RevocationReason,
        _now: i64,
    ) -> Result<(), StoreError> {
        self.write("revoke", |stored| {
            if let Some(session) = stored.get_mut(name) {
                session.state = SessionState::Revoked;
            }
            Ok(())
        })
    }

    async fn end_and_tell(
        &self,
        name: &str,
        revoked: Option<RevocationReason>,
        _now: i64,
    ) -> Result<(), StoreError> {
        self.write("tell", |stored| {
            if let Some(session) = stored.get_mut(name) {
                if revoked.is_some() {
                    session.state = SessionState::Revoked;
                }
                lock(&self.untold).insert(name.to_owned());
            }
            Ok(())
        })
    }

    async fn settled(&self, name: &str) -> Result<(), StoreError> {
        self.write("settle", |_| {
            lock(&self.untold).remove(name);
            Ok(())
        })
    }
}

impl Revocations for MemorySessions {
    fn is_revoked(&self, name: &str) -> bool {
        lock(&self.stored).get(name).is_some_and(|s| s.state == SessionState::Revoked)
    }
}

//! The key ring: which key seals, which keys open, and how one takes over from another.
//!
//! ```text
//! Published ──→ Active ──→ Retiring ──→ gone
//!  opens        seals       opens
//! ```
//! What always holds: one key is Active (or, right after a revocation written by hand, the oldest
//! Published key stands in); IDs are unique and never used again once revoked; a key opens from the
//! moment it is in the ring, because another replica may already seal with it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::blob::OpenError;
use crate::subkeys::Subkeys;

/// Characters of a key's ID: lower-case base32 of 40 random bits.
pub const KEY_ID_LENGTH: usize = 8;
/// Most keys a ring may hold: every one of them is tried by ID alone, this only bounds the Secret.
pub const MAX_KEYS: usize = 16;

const KEY_ID_BYTES: usize = 5;

/// A ring key's secret.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// Where a key stands. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum KeyState {
    /// Known to the replicas, opens; seals nothing yet. In the ring since its creation.
    Published,
    /// Seals.
    Active {
        /// Since when it seals.
        activated_at: i64,
    },
    /// Opens what it sealed.
    Retiring {
        /// Since when it seals no more.
        retired_at: i64,
    },
}

impl KeyState {
    /// The word that stands in the Secret, status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "Published",
            Self::Active { .. } => "Active",
            Self::Retiring { .. } => "Retiring",
        }
    }
}

/// One key of a ring. Its secret never prints.
#[derive(Clone)]
pub struct RingKey {
    id: String,
    created_at: i64,
    state: KeyState,
    pub(crate) secret: Secret,
    pub(crate) subkeys: Arc<Subkeys>,
}

/// The keys that seal and open. Cheap to clone; subkeys are derived once.
#[derive(Debug, Clone)]
pub struct KeyRing {
    keys: Vec<RingKey>,
    revoked: BTreeSet<String>,
    sealing: usize,
}

/// Why there is no ring, or no such change to it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RingError {
    /// The bytes are not a ring's document. The text never holds key material.
    #[error("sealing ring cannot be read: {0}")]
    Malformed(String),
    /// No key may seal.
    #[error("sealing ring has no Active or Published key left: restore the Secret")]
    NoSealingKey,
    /// More than one key is Active.
    #[error("sealing ring has more than one Active key: restore the Secret")]
    SeveralActiveKeys,
    /// The ring holds [`MAX_KEYS`] keys.
    #[error("sealing ring is full: remove a Retiring key first")]
    Full,
    /// No key of that ID.
    #[error("sealing ring has no key {0}")]
    NoSuchKey(String),
    /// The change does not fit the key's state.
    #[error("key {id} is {state}: only {wanted} keys can do this")]
    WrongState {
        /// The key.
        id: String,
        /// Its state.
        state: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// The crypto library failed.
    #[error("failed to make a sealing key: the crypto library gave no reason")]
    Crypto,
}

impl KeyRing {
    /// A new ring of one key, Active at once: nobody can hold anything older.
    ///
    /// # Errors
    /// [`RingError::Crypto`] when the system has no randomness.
    pub fn generate(now: i64) -> Result<Self, RingError> {
        let key = RingKey::generate(now, KeyState::Active { activated_at: now })?;
        Self::new(vec![key], BTreeSet::new())
    }

    /// Checks what always holds. Revoked keys are dropped with their secrets.
    pub(crate) fn new(
        mut keys: Vec<RingKey>,
        revoked: BTreeSet<String>,
    ) -> Result<Self, RingError> {
        keys.retain(|key| !revoked.contains(&key.id));
        if keys.len() > MAX_KEYS {
            return Err(RingError::Full);
        }
        let ids: BTreeSet<&str> = keys.iter().map(|key| key.id.as_str()).collect();
        if ids.len() < keys.len() {
            return Err(RingError::Malformed("two keys have one ID".into()));
        }
        let sealing = sealing_key(&keys)?;
        Ok(Self { keys, revoked, sealing })
    }

    /// Every key that opens, oldest first.
    pub fn keys(&self) -> &[RingKey] {
        &self.keys
    }

    /// The key that seals.
    pub fn sealing_key(&self) -> &RingKey {
        &self.keys[self.sealing]
    }

    /// IDs of keys that were revoked.
    pub fn revoked(&self) -> impl Iterator<Item = &str> {
        self.revoked.iter().map(String::as_str)
    }

    /// Adds a new Published key and returns its ID.
    ///
    /// # Errors
    /// [`RingError::Full`] or [`RingError::Crypto`]; the ring is as it was.
    pub fn publish(&mut self, now: i64) -> Result<String, RingError> {
        if self.keys.len() >= MAX_KEYS {
            return Err(RingError::Full);
        }
        let key = loop {
            let key = RingKey::generate(now, KeyState::Published)?;
            let taken = self.revoked.contains(&key.id) || self.keys.iter().any(|k| k.id == key.id);
            if !taken {
                break key;
            }
        };
        let id = key.id.clone();
        self.keys.push(key);
        Ok(id)
    }

    /// Makes a Published key the one that seals; the Active one retires. The caller has waited until
    /// every replica has read the key.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`] or [`RingError::WrongState`]; the ring is as it was.
    pub fn activate(&mut self, id: &str, now: i64) -> Result<(), RingError> {
        let at = self.position(id)?;
        if self.keys[at].state != KeyState::Published {
            return Err(self.keys[at].wrong_state("Published"));
        }
        for key in &mut self.keys {
            if matches!(key.state, KeyState::Active { .. }) {
                key.state = KeyState::Retiring { retired_at: now };
            }
        }
        self.keys[at].state = KeyState::Active { activated_at: now };
        self.sealing = at;
        Ok(())
    }

    /// Removes a Retiring key: what it sealed is past its time.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`] or [`RingError::WrongState`]; the ring is as it was.
    pub fn remove(&mut self, id: &str) -> Result<(), RingError> {
        let at = self.position(id)?;
        if !matches!(self.keys[at].state, KeyState::Retiring { .. }) {
            return Err(self.keys[at].wrong_state("Retiring"));
        }
        self.keys.remove(at);
        self.sealing = sealing_key(&self.keys)?;
        Ok(())
    }

    /// Revokes a key: everything it sealed is refused from now on. If it was the one that seals, the
    /// oldest Published key takes over, or a new one.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`], or [`RingError::Crypto`] if no key could be made; the ring is as it was.
    pub fn revoke(&mut self, id: &str, now: i64) -> Result<(), RingError> {
        self.position(id)?;
        let mut revoked = self.revoked.clone();
        revoked.insert(id.to_owned());
        let mut keys: Vec<RingKey> = self.keys.iter().filter(|k| k.id != id).cloned().collect();
        let active = KeyState::Active { activated_at: now };
        match sealing_key(&keys) {
            Ok(at) if keys[at].state == KeyState::Published => keys[at].state = active,
            Ok(_) => {}
            Err(_) => keys.push(RingKey::generate(now, active)?),
        }
        *self = Self::new(keys, revoked)?;
        Ok(())
    }

    /// The key a blob or MAC names.
    pub(crate) fn opening_key(&self, id: &str) -> Result<&RingKey, OpenError> {
        if self.revoked.contains(id) {
            return Err(OpenError::Revoked);
        }
        self.keys.iter().find(|key| key.id == id).ok_or(OpenError::UnknownKey)
    }

    fn position(&self, id: &str) -> Result<usize, RingError> {
        let found = self.keys.iter().position(|key| key.id == id);
        found.ok_or_else(|| RingError::NoSuchKey(id.to_owned()))
    }
}

/// Which of the keys seals: the Active one, or else the oldest Published one.
fn sealing_key(keys: &[RingKey]) -> Result<usize, RingError> {
    let is_active = |key: &RingKey| matches!(key.state, KeyState::Active { .. });
    if keys.iter().filter(|key| is_active(key)).count() > 1 {
        return Err(RingError::SeveralActiveKeys);
    }
    keys.iter()
        .position(is_active)
        .or_else(|| keys.iter().position(|key| key.state == KeyState::Published))
        .ok_or(RingError::NoSealingKey)
}

impl RingKey {
    fn generate(now: i64, state: KeyState) -> Result<Self, RingError> {
        let mut id = [0; KEY_ID_BYTES];
        let mut secret = Secret::default();
        rand::fill(&mut id).map_err(|_| RingError::Crypto)?;
        rand::fill(secret.as_mut()).map_err(|_| RingError::Crypto)?;
        Self::new(BASE32_NOPAD.encode(&id).to_ascii_lowercase(), secret, state, now)
    }

    pub(crate) fn new(
        id: String,
        secret: Secret,
        state: KeyState,
        created_at: i64,
    ) -> Result<Self, RingError> {
        if !is_key_id(&id) {
            return Err(RingError::Malformed(
                "a key ID is not 8 lower-case base32 characters".into(),
            ));
        }
        let subkeys = Subkeys::derive(&secret).map_err(|_| RingError::Crypto)?;
        Ok(Self { id, created_at, state, secret, subkeys: Arc::new(subkeys) })
    }

    /// The ID that stands in every blob: [`KEY_ID_LENGTH`] lower-case base32 characters.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it was made and published.
    pub fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Where it stands.
    pub fn state(&self) -> KeyState {
        self.state
    }

    fn wrong_state(&self, wanted: &'static str) -> RingError {
        RingError::WrongState { id: self.id.clone(), state: self.state.as_str(), wanted }
    }
}

/// Whether a text has the form of a key ID.
pub(crate) fn is_key_id(id: &str) -> bool {
    id.len() == KEY_ID_LENGTH && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingKey")
            .field("id", &self.id)
            .field("created_at", &self.created_at)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Purpose};

    const CONTEXT: Context<'_> = Context { issuer_uid: "issuer", object_name: None };

    fn states(ring: &KeyRing) -> Vec<&'static str> {
        ring.keys().iter().map(|key| key.state().as_str()).collect()
    }

    #[test]
    fn every_key_opens_through_its_whole_life_and_none_after_it() {
        let mut ring = KeyRing::generate(0).unwrap();
        let first = ring.sealing_key().id().to_owned();
        let text = ring.seal(Purpose::Code, &CONTEXT, 100, b"grant");
        let open = |ring: &KeyRing| ring.open(Purpose::Code, &CONTEXT, 1, &text);

        let second = ring.publish(10).unwrap();
        assert_eq!(
            (states(&ring), ring.sealing_key().id()),
            (vec!["Active", "Published"], &*first)
        );
        let replica = ring.clone();
        ring.activate(&second, 20).unwrap();
        assert_eq!(
            (states(&ring), ring.sealing_key().id()),
            (vec!["Retiring", "Active"], &*second)
        );
        assert!(open(&ring).is_ok(), "a retiring key opens");
        let ahead = ring.seal(Purpose::Code, &CONTEXT, 100, b"grant");
        assert!(replica.open(Purpose::Code, &CONTEXT, 1, &ahead).is_ok(), "a published key opens");

        ring.remove(&first).unwrap();
        assert_eq!(open(&ring), Err(OpenError::UnknownKey));
        assert_eq!(ring.sealing_key().id(), second);
    }

    #[test]
    fn a_revoked_key_opens_nothing_and_another_takes_over_at_once() {
        let mut ring = KeyRing::generate(0).unwrap();
        let first = ring.sealing_key().id().to_owned();
        let text = ring.seal(Purpose::Code, &CONTEXT, 100, b"grant");
        let next = ring.publish(1).unwrap();
        ring.revoke(&first, 2).unwrap();
        assert_eq!(ring.open(Purpose::Code, &CONTEXT, 3, &text), Err(OpenError::Revoked));
        assert_eq!(ring.sealing_key().id(), next);
        assert_eq!(ring.sealing_key().state(), KeyState::Active { activated_at: 2 });
        ring.revoke(&next, 4).unwrap();
        assert_eq!(states(&ring), ["Active"], "the last key was revoked: a new one is made");
        assert_eq!(ring.revoked().count(), 2);
        assert!(ring.revoked().all(|id| id != ring.sealing_key().id()));
    }

    #[test]
    fn changes_that_do_not_fit_leave_the_ring_as_it_was() {
        let mut ring = KeyRing::generate(0).unwrap();
        let active = ring.sealing_key().id().to_owned();
        let wrong = |wanted| RingError::WrongState { id: active.clone(), state: "Active", wanted };
        assert_eq!(ring.activate(&active, 1), Err(wrong("Published")));
        assert_eq!(ring.remove(&active), Err(wrong("Retiring")));
        assert_eq!(ring.revoke("aaaaaaaa", 1), Err(RingError::NoSuchKey("aaaaaaaa".into())));
        while ring.keys().len() < MAX_KEYS {
            ring.publish(1).unwrap();
        }
        assert_eq!(ring.publish(1), Err(RingError::Full));
        assert_eq!(ring.sealing_key().id(), active);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let ring = KeyRing::generate(7).unwrap();
        let id = ring.sealing_key().id();
        assert_eq!(
            format!("{:?}", ring.sealing_key()),
            format!(
                "RingKey {{ id: \"{id}\", created_at: 7, state: Active {{ activated_at: 7 }}, .. }}"
            )
        );
    }
}

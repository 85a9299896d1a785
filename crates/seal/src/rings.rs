//! Both rings as values: what stands in the Secret, and what every replica remembers of it.
//!
//! ```text
//! Published ──→ Active ──→ Retiring ──→ destroyed
//!  opens        seals       opens
//! ```
//! What always holds:
//! - no two keys of a ring were made at the same time, so that one number, the horizon, says which are
//!   destroyed: whatever was made up to then and is not there is gone for good;
//! - the ID of a revoked key is kept; no ring holds the key any more, or takes it back;
//! - at most one key of a ring is Active.

use thiserror::Error;

use crate::key::{KeyState, RingKey};
use crate::purpose::RingKind;

/// Most keys a ring may hold. The long one needs 15 for its period of 30 days; the rest is room for
/// rotations on demand.
pub const MAX_KEYS: usize = 32;
/// Most IDs of revoked keys that are kept; the oldest make room.
pub const MAX_REVOKED: usize = 256;

/// Why there is no ring, or no such change to it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RingError {
    /// The bytes are not a ring's document. The text never holds key material.
    #[error("sealing ring cannot be read: {0}")]
    Malformed(String),
    /// A newer release wrote the document.
    #[error("sealing ring has format version {0}, which this release cannot read: update Claviger")]
    UnknownVersion(u64),
    /// No key may seal.
    #[error("sealing ring has no key left that may seal")]
    NoSealingKey,
    /// The crypto library failed.
    #[error("failed to make a sealing key: the crypto library gave no reason")]
    Crypto,
}

/// Both rings, and the keys that must never be trusted again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rings {
    pub(crate) long: Ring,
    pub(crate) short: Ring,
    pub(crate) revoked: Vec<String>,
}

/// The keys of one ring, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Ring {
    pub(crate) keys: Vec<RingKey>,
    /// The highest request for a rotation that was met.
    pub(crate) rotation_request: i64,
    /// The horizon: every key made up to then is destroyed or was never there.
    pub(crate) destroyed_until: i64,
}

impl Default for Ring {
    fn default() -> Self {
        Self { keys: Vec::new(), rotation_request: 0, destroyed_until: -1 }
    }
}

impl Rings {
    /// New rings. Their first keys seal at once, for nobody can hold anything older; the next are
    /// published.
    ///
    /// # Errors
    /// [`RingError::Crypto`] when the system has no randomness.
    pub fn generate(now: i64) -> Result<Self, RingError> {
        let mut rings = Self::default();
        for kind in RingKind::ALL {
            for state in
                [KeyState::Active { activated_at: now }, KeyState::Published { published_at: None }]
            {
                rings.add(kind, now, state)?;
            }
        }
        Ok(rings)
    }

    /// One of the rings.
    pub fn ring(&self, kind: RingKind) -> &Ring {
        match kind {
            RingKind::Long => &self.long,
            RingKind::Short => &self.short,
        }
    }

    pub(crate) fn ring_mut(&mut self, kind: RingKind) -> &mut Ring {
        match kind {
            RingKind::Long => &mut self.long,
            RingKind::Short => &mut self.short,
        }
    }

    /// Every key of both rings.
    pub fn keys(&self) -> impl Iterator<Item = &RingKey> {
        self.long.keys.iter().chain(&self.short.keys)
    }

    /// IDs of keys that were revoked, oldest revocation first.
    pub fn revoked(&self) -> &[String] {
        &self.revoked
    }

    /// Revokes keys by ID, known or not: what they sealed is refused from now on, and their secrets
    /// are gone.
    pub fn revoke<'i>(&mut self, ids: impl IntoIterator<Item = &'i str>) {
        for id in ids {
            if !self.revoked.iter().any(|known| known == id) {
                self.revoked.push(id.to_owned());
            }
        }
        let surplus = self.revoked.len().saturating_sub(MAX_REVOKED);
        let revoked = &self.revoked;
        for ring in [&mut self.long, &mut self.short] {
            ring.keys.retain(|key| revoked.iter().all(|id| id != key.id()));
        }
        self.revoked.drain(..surplus);
    }

    /// Adds a new key in this state, made now or right after the newest.
    pub(crate) fn add(
        &mut self,
        kind: RingKind,
        now: i64,
        state: KeyState,
    ) -> Result<(), RingError> {
        let made_at = self.ring(kind).next_time(now);
        let key = loop {
            let key = RingKey::generate(made_at, state)?;
            let mut taken = self.keys().map(RingKey::id).chain(self.revoked.iter().map(|id| &**id));
            if !taken.any(|id| id == key.id()) {
                break key;
            }
        };
        self.ring_mut(kind).keys.push(key);
        Ok(())
    }
}

impl Ring {
    /// Its keys, oldest first.
    pub fn keys(&self) -> &[RingKey] {
        &self.keys
    }

    /// The key that seals.
    pub fn active(&self) -> Option<&RingKey> {
        self.keys.iter().find(|key| matches!(key.state, KeyState::Active { .. }))
    }

    /// The key that seals next.
    pub fn next(&self) -> Option<&RingKey> {
        self.keys.iter().find(|key| matches!(key.state, KeyState::Published { .. }))
    }

    /// Whether there is no room for another key.
    pub fn is_full(&self) -> bool {
        self.keys.len() >= MAX_KEYS
    }

    /// The highest request for a rotation that was met.
    pub fn rotation_request(&self) -> i64 {
        self.rotation_request
    }

    pub(crate) fn find(&self, id: &str) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.id() == id)
    }

    /// When a key that is made now is said to be made: after every other.
    fn next_time(&self, now: i64) -> i64 {
        let newest = self.keys.iter().map(RingKey::created_at).max().unwrap_or(-1);
        now.max(newest.max(self.destroyed_until).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ring_seals_and_its_next_key_is_published() {
        let rings = Rings::generate(5).unwrap();
        for kind in RingKind::ALL {
            let ring = rings.ring(kind);
            let made: Vec<_> = ring.keys().iter().map(RingKey::created_at).collect();
            assert_eq!(made, [5, 6], "no two were made at the same time");
            assert_eq!(ring.active(), ring.keys().first());
            assert_eq!(ring.next(), ring.keys().last());
        }
        let ids: std::collections::BTreeSet<_> = rings.keys().map(RingKey::id).collect();
        assert_eq!(ids.len(), 4, "no key is in both rings");
    }

    #[test]
    fn revoking_removes_secrets_from_whichever_ring_and_keeps_the_ids() {
        let mut rings = Rings::generate(0).unwrap();
        let ids: Vec<String> = rings.keys().map(|key| key.id().to_owned()).collect();
        let wanted = [ids[0].as_str(), ids[3].as_str(), "aaaaaaaa"];
        rings.revoke(wanted);
        rings.revoke(wanted);
        assert_eq!(rings.keys().map(RingKey::id).collect::<Vec<_>>(), [&ids[1], &ids[2]]);
        assert_eq!(rings.revoked(), wanted);
    }

    #[test]
    fn however_many_are_revoked_none_stays_and_the_list_is_bounded() {
        let mut rings = Rings::generate(0).unwrap();
        let own: Vec<String> = rings.keys().map(|key| key.id().to_owned()).collect();
        let strangers: Vec<String> = (0..MAX_REVOKED).map(|n| format!("{n:08}")).collect();
        rings.revoke(own.iter().chain(&strangers).map(String::as_str));
        assert_eq!(rings.keys().count(), 0);
        assert_eq!(rings.revoked().len(), MAX_REVOKED);
    }
}

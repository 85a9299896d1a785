//! The keys that seal and open, checked and ready: what a request uses.
//!
//! What always holds: every key that is not revoked opens from the moment it is in its ring, because
//! another replica may already seal with it; the same rings give the same sealing key on every replica.

use std::sync::Arc;

use crate::blob::OpenError;
use crate::key::RingKey;
use crate::purpose::{Purpose, RingKind};
use crate::rings::{RingError, Rings};

/// The keys that seal and open. Cheap to clone; subkeys are derived once.
#[derive(Debug, Clone)]
pub struct KeyRing {
    rings: Arc<Rings>,
    long: RingKey,
    short: RingKey,
}

impl KeyRing {
    /// Rings ready for use.
    ///
    /// In the long ring the next key stands in where the Active one was revoked. A short ring without
    /// an Active key seals nothing: a key of the long one, which every replica has, stands in.
    ///
    /// # Errors
    /// [`RingError::NoSealingKey`].
    pub fn new(rings: Arc<Rings>) -> Result<Self, RingError> {
        let long = rings.ring(RingKind::Long);
        let long = long.active().or_else(|| long.next()).ok_or(RingError::NoSealingKey)?.clone();
        let short = rings.ring(RingKind::Short).active().unwrap_or(&long).clone();
        Ok(Self { rings, long, short })
    }

    /// New rings, ready for use.
    ///
    /// # Errors
    /// [`RingError::Crypto`] when the system has no randomness.
    pub fn generate(now: i64) -> Result<Self, RingError> {
        Self::new(Arc::new(Rings::generate(now)?))
    }

    /// What it is made of.
    pub fn rings(&self) -> &Arc<Rings> {
        &self.rings
    }

    /// The key that seals what lives as long as this.
    pub fn sealing_key(&self, kind: RingKind) -> &RingKey {
        match kind {
            RingKind::Long => &self.long,
            RingKind::Short => &self.short,
        }
    }

    /// The key that a blob or MAC names, looked for where this purpose's keys are and where their
    /// stand-in is.
    pub(crate) fn opening_key(&self, purpose: Purpose, id: &str) -> Result<&RingKey, OpenError> {
        let rings = &self.rings;
        let own = rings.ring(purpose.ring()).find(id);
        own.or_else(|| rings.ring(RingKind::Long).find(id)).ok_or_else(|| {
            if rings.revoked().iter().any(|revoked| revoked == id) {
                OpenError::Revoked
            } else {
                OpenError::UnknownKey
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;

    const CONTEXT: Context<'_> =
        Context { issuer_uid: "issuer", object_name: None, client_uid: None };

    fn ids(rings: &Rings, kind: RingKind) -> Vec<String> {
        rings.ring(kind).keys().iter().map(|key| key.id().to_owned()).collect()
    }

    fn revoked(ring: &KeyRing, ids: &[&str]) -> Result<KeyRing, RingError> {
        let mut rings = Rings::clone(ring.rings());
        rings.revoke(ids.iter().copied());
        KeyRing::new(Arc::new(rings))
    }

    #[test]
    fn every_purpose_is_sealed_by_its_own_ring() {
        let ring = KeyRing::generate(0).unwrap();
        let (long, short) = (ids(ring.rings(), RingKind::Long), ids(ring.rings(), RingKind::Short));
        for purpose in Purpose::ALL {
            let wanted = match purpose.ring() {
                RingKind::Long => &long[0],
                RingKind::Short => &short[0],
            };
            assert_eq!(ring.mac(purpose, &[]).0, wanted, "{purpose}");
            let text = ring.seal(purpose, &CONTEXT, 1, b"");
            let only = |kept: &[String]| {
                let mut rings = Rings::clone(ring.rings());
                rings.long.keys.retain(|key| kept.iter().any(|id| id == key.id()));
                rings.short.keys.retain(|key| kept.iter().any(|id| id == key.id()));
                KeyRing { rings: Arc::new(rings), ..ring.clone() }.open(purpose, &CONTEXT, 0, &text)
            };
            assert!(only(std::slice::from_ref(wanted)).is_ok(), "{purpose}");
        }
    }

    #[test]
    fn a_key_of_the_short_ring_proves_nothing_that_lives_long() {
        let ring = KeyRing::generate(0).unwrap();
        let forged = KeyRing { long: ring.short.clone(), ..ring.clone() };
        for purpose in [Purpose::SessionPayload, Purpose::AccessToken, Purpose::RefreshMac] {
            let text = forged.seal(purpose, &CONTEXT, 1, b"");
            assert_eq!(ring.open(purpose, &CONTEXT, 0, &text), Err(OpenError::UnknownKey));
            let (id, mac) = forged.mac(purpose, &[]);
            assert_eq!(ring.verify_mac(purpose, id, &[], &mac), Err(OpenError::UnknownKey));
        }
    }

    #[test]
    fn a_revoked_key_opens_nothing_and_another_takes_over_at_once() {
        let ring = KeyRing::generate(0).unwrap();
        let long = ids(ring.rings(), RingKind::Long);
        let text = ring.seal(Purpose::SessionPayload, &CONTEXT, 100, b"session");
        let after = revoked(&ring, &[&long[0]]).unwrap();
        let opened = after.open(Purpose::SessionPayload, &CONTEXT, 3, &text);
        assert_eq!(opened, Err(OpenError::Revoked));
        assert_eq!(after.sealing_key(RingKind::Long).id(), long[1]);
        let all = revoked(&ring, &[&long[0], &long[1]]);
        assert_eq!(all.unwrap_err(), RingError::NoSealingKey);
    }

    #[test]
    fn the_long_ring_stands_in_for_a_short_one_without_an_active_key() {
        let ring = KeyRing::generate(0).unwrap();
        let short = ids(ring.rings(), RingKind::Short);
        let after = revoked(&ring, &[&short[0]]).unwrap();
        assert_eq!(after.sealing_key(RingKind::Short), after.sealing_key(RingKind::Long));
        let text = after.seal(Purpose::Flow, &CONTEXT, 100, b"flow");
        assert_eq!(ring.open(Purpose::Flow, &CONTEXT, 3, &text), Ok(b"flow".to_vec()));
    }
}

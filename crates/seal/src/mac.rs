//! Proofs without content: HMAC-SHA256 over length-prefixed parts.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use crate::blob::OpenError;
use crate::key::RingKey;
use crate::purpose::Purpose;
use crate::ring::KeyRing;

/// Bytes of a MAC.
const MAC_LENGTH: usize = 32;

impl KeyRing {
    /// The MAC of these parts under the key that seals, with that key's ID.
    ///
    /// The same parts give the same MAC as long as the same key seals.
    pub fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> (&str, [u8; MAC_LENGTH]) {
        let key = self.sealing_key(purpose.ring());
        (key.id(), compute(key, purpose, parts))
    }

    /// Whether a MAC is the one that the key of this ID gives these parts; in constant time.
    ///
    /// # Errors
    /// [`OpenError::UnknownKey`], [`OpenError::Revoked`] or [`OpenError::Forged`].
    pub fn verify_mac(
        &self,
        purpose: Purpose,
        key_id: &str,
        parts: &[&[u8]],
        mac: &[u8],
    ) -> Result<(), OpenError> {
        let key = self.opening_key(purpose, key_id)?;
        let expected = compute(key, purpose, parts);
        verify_slices_are_equal(&expected, mac).map_err(|_| OpenError::Forged)
    }
}

fn compute(key: &RingKey, purpose: Purpose, parts: &[&[u8]]) -> [u8; MAC_LENGTH] {
    let mut context = hmac::Context::with_key(&key.subkeys.of(purpose).mac);
    context.update(&(parts.len() as u64).to_be_bytes());
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let tag = context.sign();
    let mut mac = [0; MAC_LENGTH];
    mac.copy_from_slice(tag.as_ref());
    mac
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{Period, Rings, Schedule};

    /// Rotates whenever it is asked to.
    const AT_ONCE: Schedule = {
        let period = Period { rotation: 1_000, kept: 1_000 };
        Schedule { lead: 0, long: period, short: period }
    };

    #[test]
    fn a_mac_is_good_for_its_parts_purpose_and_key_alone() {
        let ring = KeyRing::generate(0).unwrap();
        let (id, mac) = ring.mac(Purpose::Csrf, &[b"ab", b"c"]);
        let verify = |purpose, id, parts: &[&[u8]], mac| ring.verify_mac(purpose, id, parts, mac);
        assert_eq!(verify(Purpose::Csrf, id, &[b"ab", b"c"], &mac), Ok(()));
        assert_eq!(verify(Purpose::Csrf, id, &[b"a", b"bc"], &mac), Err(OpenError::Forged));
        assert_eq!(verify(Purpose::Csrf, id, &[b"abc"], &mac), Err(OpenError::Forged));
        assert_eq!(verify(Purpose::Csrf, id, &[b"ab", b"c", b""], &mac), Err(OpenError::Forged));
        assert_eq!(verify(Purpose::Flow, id, &[b"ab", b"c"], &mac), Err(OpenError::Forged));
        assert_eq!(verify(Purpose::Csrf, id, &[b"ab", b"c"], &mac[..31]), Err(OpenError::Forged));
        assert_eq!(verify(Purpose::Csrf, id, &[b"ab", b"c"], &[]), Err(OpenError::Forged));
        assert_eq!(
            verify(Purpose::Csrf, "aaaaaaaa", &[b"ab", b"c"], &mac),
            Err(OpenError::UnknownKey)
        );
    }

    #[test]
    fn the_same_parts_give_the_same_mac_until_another_key_seals() {
        let ring = KeyRing::generate(0).unwrap();
        let (first, mac) = ring.mac(Purpose::RefreshMac, &[b"session"]);
        assert_eq!(ring.mac(Purpose::RefreshMac, &[b"session"]), (first, mac));
        let mut rings = Rings::clone(ring.rings());
        rings = rings.step(0, &AT_ONCE, 1).unwrap().unwrap();
        let rotated = KeyRing::new(Arc::new(rings.clone())).unwrap();
        assert_ne!(rotated.mac(Purpose::RefreshMac, &[b"session"]).0, first);
        let verify =
            |ring: &KeyRing| ring.verify_mac(Purpose::RefreshMac, first, &[b"session"], &mac);
        assert_eq!(verify(&rotated), Ok(()));
        rings.revoke([first]);
        let revoked = KeyRing::new(Arc::new(rings)).unwrap();
        assert_eq!(verify(&revoked), Err(OpenError::Revoked));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_refused(bit in 0_usize..256) {
            let ring = KeyRing::generate(0).unwrap();
            let (id, mut mac) = ring.mac(Purpose::Csrf, &[b"flow"]);
            mac[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(
                ring.verify_mac(Purpose::Csrf, id, &[b"flow"], &mac),
                Err(OpenError::Forged)
            );
        }
    }
}

//! The subkeys of one ring key, derived once: no HKDF on the path of a request.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::purpose::Purpose;

/// Bytes of key material per purpose: the first half for the AEAD, the second for the MAC.
const MATERIAL_LENGTH: usize = 64;
const AEAD_KEY_LENGTH: usize = 32;

/// One purpose's pair of keys.
pub(crate) struct Subkey {
    pub(crate) aead: RandomizedNonceKey,
    pub(crate) mac: hmac::Key,
}

/// One pair for every purpose, in the order of [`Purpose::ALL`].
pub(crate) struct Subkeys([Subkey; Purpose::ALL.len()]);

struct MaterialLength;

impl hkdf::KeyType for MaterialLength {
    fn len(&self) -> usize {
        MATERIAL_LENGTH
    }
}

impl Subkeys {
    /// Derives every subkey of a ring key's secret (HKDF-SHA256 without salt, RFC 5869).
    pub(crate) fn derive(secret: &[u8; 32]) -> Result<Self, Unspecified> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
        let subkeys = Purpose::ALL.map(|purpose| Subkey::derive(&extracted, purpose));
        let derived: Vec<Subkey> = subkeys.into_iter().collect::<Result<_, _>>()?;
        derived.try_into().map(Self).map_err(|_| Unspecified)
    }

    pub(crate) fn of(&self, purpose: Purpose) -> &Subkey {
        &self.0[purpose as usize]
    }
}

impl Subkey {
    fn derive(extracted: &hkdf::Prk, purpose: Purpose) -> Result<Self, Unspecified> {
        let info = format!("claviger/v1/{purpose}");
        let mut material = Zeroizing::new([0; MATERIAL_LENGTH]);
        extracted.expand(&[info.as_bytes()], MaterialLength)?.fill(material.as_mut())?;
        let (aead, mac) = material.split_at(AEAD_KEY_LENGTH);
        Ok(Self {
            aead: RandomizedNonceKey::new(&AES_256_GCM_SIV, aead)?,
            mac: hmac::Key::new(hmac::HMAC_SHA256, mac),
        })
    }
}

impl fmt::Debug for Subkeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subkeys(redacted)")
    }
}

//! Sets of public keys: what we publish, and what upstreams publish (RFC 7517 5).

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::algorithm::Algorithm;
use crate::key::PublicKey;

/// Longest JWKS document read, in bytes.
pub const MAX_DOCUMENT_LENGTH: usize = 256 * 1024;
/// Most keys of one set.
pub const MAX_KEYS: usize = 64;

/// Public keys, in the order they are published.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

/// Why a document is no key set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Longer than [`MAX_DOCUMENT_LENGTH`], or more than [`MAX_KEYS`] keys.
    #[error("JWKS is too large: at most 256 KiB and 64 keys are read")]
    TooLarge,
    /// Not a JSON object with an array `keys`.
    #[error("not a JWKS: a JSON object with an array named keys is needed")]
    Malformed,
}

impl KeySet {
    /// A set of these keys.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().collect() }
    }

    /// Reads a JWKS document. Keys we cannot verify with (other kinds, encryption keys, malformed
    /// ones) are passed over, as RFC 7517 5 advises.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > MAX_DOCUMENT_LENGTH {
            return Err(KeySetError::TooLarge);
        }
        let document: Map<String, Value> =
            serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::Malformed)?;
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooLarge);
        }
        let usable = keys.iter().filter_map(|jwk| PublicKey::from_jwk(jwk.as_object()?).ok());
        Ok(Self::new(usable))
    }

    /// The JWKS document.
    pub fn to_json(&self) -> String {
        let keys: Vec<Value> = self.keys.iter().map(PublicKey::to_jwk).collect();
        json!({ "keys": keys }).to_string()
    }

    /// Every key.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The key of this ID.
    pub fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.kid() == kid)
    }

    /// Whether a token of this header could be verified.
    pub fn has(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        !self.candidates(kid, algorithm).is_empty()
    }

    /// The keys a token of this header may be signed with: those of its `kid`, or, without one, the
    /// only key that fits its algorithm (OIDC Core 10.1).
    pub(crate) fn candidates<'s>(
        &'s self,
        kid: Option<&'s str>,
        algorithm: Algorithm,
    ) -> Vec<&'s PublicKey> {
        let fits =
            |key: &&PublicKey| key.is_for(algorithm) && kid.is_none_or(|kid| key.kid() == kid);
        let found: Vec<&PublicKey> = self.keys.iter().filter(fits).collect();
        if kid.is_none() && found.len() > 1 { Vec::new() } else { found }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::PrivateKey;

    fn public(algorithm: Algorithm) -> PublicKey {
        PrivateKey::generate(algorithm, 2_048).unwrap().public_key().clone()
    }

    #[test]
    fn a_set_is_read_back_as_it_was_published() {
        let set = KeySet::new([public(Algorithm::RS256), public(Algorithm::ES256)]);
        let read = KeySet::parse(set.to_json().as_bytes()).unwrap();
        assert_eq!(read.to_json(), set.to_json());
        for key in set.keys() {
            assert_eq!(read.get(key.kid()).map(PublicKey::algorithm), Some(key.algorithm()));
        }
        assert!(read.get("other").is_none());
        assert_eq!(KeySet::default().to_json(), r#"{"keys":[]}"#);
    }

    #[test]
    fn keys_we_cannot_use_are_passed_over() {
        let good = public(Algorithm::ES256).to_jwk();
        let mut encryption = good.clone();
        encryption["use"] = json!("enc");
        let document = json!({
            "keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
                     encryption, 7, {}, good],
            "extra": 1,
        });
        let set = KeySet::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!(set.keys().len(), 1);
        assert_eq!(Some(set.keys()[0].kid()), good["kid"].as_str());
    }

    #[test]
    fn what_is_no_set_or_too_large_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[}"#] {
            assert_eq!(
                KeySet::parse(text.as_bytes()).unwrap_err(),
                KeySetError::Malformed,
                "{text}"
            );
        }
        let many = json!({ "keys": vec![json!({}); MAX_KEYS + 1] }).to_string();
        assert_eq!(KeySet::parse(many.as_bytes()).unwrap_err(), KeySetError::TooLarge);
        let long = vec![b' '; MAX_DOCUMENT_LENGTH + 1];
        assert_eq!(KeySet::parse(&long).unwrap_err(), KeySetError::TooLarge);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = KeySet::parse(&bytes);
        }
    }
}

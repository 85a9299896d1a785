//! The public and private halves of an issuer's signing keys, as one consistent value.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_jose::{Algorithm, KeySet, Signer};

/// What one issuer signs with and what it publishes.
///
/// `jwks` holds every key that signs, will sign or has signed tokens that live; `signers` the one that signs
/// per algorithm.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    /// The JWKS document (RFC 7517), ready to serve.
    pub jwks: Arc<str>,
    /// The same keys, parsed, for our own verifiers.
    pub key_set: Arc<KeySet>,
    /// The signer of each algorithm that has an Active key. Kept: parsing a PEM per token costs 4×.
    pub signers: BTreeMap<Algorithm, Arc<Signer>>,
    /// The algorithm of the issuer's first signing key: what clients get that ask for none.
    pub default_algorithm: Algorithm,
    /// `Cache-Control: max-age` of the JWKS, in seconds.
    pub max_age_seconds: u32,
}

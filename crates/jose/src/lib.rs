//! JOSE behind four verbs: [`key`], [`keyset`], [`sign`], [`mod@verify`]. `OpenSSL` stops here.
//!
//! What always holds:
//! - only asymmetric signatures: `none`, the HS family and every JWE are refused;
//! - a key is used for the algorithm it was made for and no other (RFC 8725 3.1);
//! - a key's ID is its RFC 7638 thumbprint, so two keys never share one;
//! - private keys do not print.

mod algorithm;
pub mod key;
pub mod keyset;
pub mod sign;
pub mod verify;

pub use algorithm::{Algorithm, UnknownAlgorithm, left_half_hash};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use keyset::{KeySet, KeySetError};
pub use sign::{SignError, Signer};
pub use verify::{
    Claims, Signed, UnverifiedHeader, VerifyError, VerifyOptions, unverified_claims,
    unverified_header, verify, verify_signature,
};

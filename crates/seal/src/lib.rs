//! What browsers and clients carry for us: a key ring, an AEAD, a MAC, one subkey per purpose.
//!
//! ```text
//! KeyRing ── RingKey (id, secret, state) ── HKDF-SHA256 "claviger/v1/<purpose>" ─┬─ AES-256-GCM-SIV
//!                                                                                └─ HMAC-SHA256
//! ```
//! What always holds:
//! - one key of a ring seals, and every key that is not revoked opens;
//! - a blob opens only for the purpose, issuer and object it was sealed for, and before its expiry,
//!   which is inside;
//! - every blob says its format version and key; a new format is read one release before it is written;
//! - nothing is compressed: a requester chooses part of the plaintext.

mod blob;
mod document;
mod mac;
mod purpose;
mod ring;
mod subkeys;

pub use blob::{Context, MAX_SEALED_LENGTH, OpenError};
pub use purpose::Purpose;
pub use ring::{KEY_ID_LENGTH, KeyRing, KeyState, MAX_KEYS, RingError, RingKey};

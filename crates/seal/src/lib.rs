//! What browsers and clients carry for us: two rings of keys, an AEAD, a MAC, one subkey per purpose.
//!
//! ```text
//! Rings (Secret, memory) ─→ KeyRing ─┬─ long  ring ─┐
//!   step · restored · revoke         └─ short ring ─┴ RingKey ── HKDF "claviger/v1/<purpose>" ─┬─ AEAD
//!                                                                                              └─ HMAC
//! ```
//! What always holds:
//! - one key of each ring seals, and every key that is not revoked or destroyed opens;
//! - every purpose names its ring: what lives minutes is sealed by keys that are destroyed after days;
//! - a blob opens only for the purpose, issuer and object it was sealed for, and before its expiry,
//!   which is inside;
//! - every blob says its format version and key; a new format is read one release before it is written;
//! - nothing is compressed: a requester chooses part of the plaintext.

mod blob;
mod document;
mod key;
mod mac;
mod purpose;
mod restored;
mod ring;
mod rings;
mod step;
mod subkeys;

pub use blob::{Context, MAX_SEALED_LENGTH, OpenError};
pub use key::{KEY_ID_LENGTH, KeyState, RingKey, is_key_id};
pub use purpose::{Purpose, RingKind};
pub use ring::KeyRing;
pub use rings::{MAX_KEYS, MAX_REVOKED, Ring, RingError, Rings};
pub use step::{Period, Schedule};

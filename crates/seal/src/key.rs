//! One key of a ring: its ID, its secret, and where it stands.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::rings::RingError;
use crate::subkeys::Subkeys;

/// Characters of a key's ID: lower-case base32 of 40 random bits.
pub const KEY_ID_LENGTH: usize = 8;

const KEY_ID_BYTES: usize = 5;

/// A ring key's secret.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// Where a key stands. Times are seconds since the Unix epoch. A later state is a greater one.
///
/// Those of Published and Retiring are written down only after the state was seen in the store: a
/// write that was under way for long must not shorten what is counted from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum KeyState {
    /// Known to the replicas, opens; seals nothing yet.
    Published {
        /// A time at which it was in the store.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        published_at: Option<i64>,
    },
    /// Seals.
    Active {
        /// Since when it seals.
        activated_at: i64,
    },
    /// Opens what it sealed.
    Retiring {
        /// A time at which the store said that it seals no more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retired_at: Option<i64>,
    },
}

impl KeyState {
    /// The word that stands in the Secret and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published { .. } => "Published",
            Self::Active { .. } => "Active",
            Self::Retiring { .. } => "Retiring",
        }
    }

    /// The time in it, where there is one.
    pub(crate) fn time(self) -> Option<i64> {
        match self {
            Self::Published { published_at: at } | Self::Retiring { retired_at: at } => at,
            Self::Active { activated_at } => Some(activated_at),
        }
    }
}

/// One key of a ring. Its secret never prints.
#[derive(Clone)]
pub struct RingKey {
    id: String,
    created_at: i64,
    pub(crate) state: KeyState,
    pub(crate) secret: Secret,
    pub(crate) subkeys: Arc<Subkeys>,
}

impl RingKey {
    pub(crate) fn generate(created_at: i64, state: KeyState) -> Result<Self, RingError> {
        let mut id = [0; KEY_ID_BYTES];
        let mut secret = Secret::default();
        rand::fill(&mut id).map_err(|_| RingError::Crypto)?;
        rand::fill(secret.as_mut()).map_err(|_| RingError::Crypto)?;
        Self::new(BASE32_NOPAD.encode(&id).to_ascii_lowercase(), secret, state, created_at)
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

    /// When it was made. No two keys of a ring were made at the same time.
    pub fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Where it stands.
    pub fn state(&self) -> KeyState {
        self.state
    }

    /// The same key, standing elsewhere.
    pub(crate) fn in_state(self, state: KeyState) -> Self {
        Self { state, ..self }
    }

    /// The same key, made at another time.
    pub(crate) fn made_at(self, created_at: i64) -> Self {
        Self { created_at, ..self }
    }
}

impl PartialEq for RingKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, self.created_at, self.state) == (&other.id, other.created_at, other.state)
            && verify_slices_are_equal(self.secret.as_ref(), other.secret.as_ref()).is_ok()
    }
}

/// Whether a text has the form of a key ID.
pub fn is_key_id(id: &str) -> bool {
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

    #[test]
    fn nothing_secret_is_printed() {
        let key = RingKey::generate(7, KeyState::Active { activated_at: 7 }).unwrap();
        let id = key.id();
        assert_eq!(
            format!("{key:?}"),
            format!(
                "RingKey {{ id: \"{id}\", created_at: 7, state: Active {{ activated_at: 7 }}, .. }}"
            )
        );
    }

    #[test]
    fn a_state_that_is_further_on_is_the_greater_one() {
        let states = [
            KeyState::Published { published_at: None },
            KeyState::Published { published_at: Some(9) },
            KeyState::Active { activated_at: 1 },
            KeyState::Retiring { retired_at: None },
            KeyState::Retiring { retired_at: Some(1) },
            KeyState::Retiring { retired_at: Some(2) },
        ];
        assert!(states.is_sorted());
    }
}

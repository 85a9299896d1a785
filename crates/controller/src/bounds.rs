//! The bounds that say when every cache must have seen a signing key: settings of the process.
//!
//! What always holds: [`Bounds::lead`] is longer than any fresh copy of an older JWKS can live. The
//! argument is in `docs/adr/0003-signing-keys.md`.

use claviger_domain::SKEW_SECONDS;

use crate::keyring::STALENESS_SECONDS;

/// How old knowledge may be, in seconds. All replicas of one installation must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// `Cache-Control: max-age` of the JWKS: how long a relying party may hold a copy.
    pub jwks_max_age: u32,
    /// How far two clocks may be apart.
    pub skew: u32,
    /// A replica that nothing confirmed for this long signs nothing, and tells nobody to keep its JWKS.
    pub staleness: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            jwks_max_age: 60,
            skew: u32::try_from(SKEW_SECONDS).unwrap_or(u32::MAX),
            staleness: u32::try_from(STALENESS_SECONDS).unwrap_or(u32::MAX),
        }
    }
}

impl Bounds {
    /// How long a key is in the JWKS before it signs, and after the last token it signed has expired.
    pub fn lead(self) -> i64 {
        i64::from(self.jwks_max_age) + i64::from(self.skew) + i64::from(self.staleness)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_a_key_is_known_for_four_and_a_half_minutes_before_it_signs() {
        assert_eq!(Bounds::default().lead(), 270);
    }
}

//! The life of an issuer's signing keys, as a pure state machine over one ring.
//!
//! ```text
//! Pending → Published → Active → Retiring → gone
//!   made    in the JWKS  signs    verifies
//! ```
//! What always holds:
//! - exactly one key of a settled ring is Active, and the *next* one is Published from that moment;
//! - a key signs only after [`LEAD_SECONDS`] in the JWKS, unless nobody can hold an older JWKS (the
//!   first key) or there is nothing else to sign with (the Active key was revoked);
//! - a key stays in the JWKS for the longest token it signed plus the same bound;
//! - a revoked key is in no JWKS and signs nothing, whatever the stored state says.

use std::collections::BTreeSet;

use claviger_jose::Algorithm;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// `Cache-Control: max-age` of the JWKS, in seconds.
pub const JWKS_MAX_AGE_SECONDS: u32 = 60;
/// A replica that nothing confirmed for this long mints nothing.
pub const STALENESS_SECONDS: i64 = 150;
/// How long a key is in the JWKS before it signs, and after the last token it signed has expired.
pub const LEAD_SECONDS: i64 =
    JWKS_MAX_AGE_SECONDS as i64 + claviger_domain::SKEW_SECONDS + STALENESS_SECONDS;

/// Where a key stands, with the times that say when it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum Stage {
    /// Made, shown to nobody.
    Pending,
    /// In the JWKS, signs nothing yet.
    Published {
        /// Since when it is in the JWKS.
        published_at: i64,
    },
    /// Signs.
    Active {
        /// Since when it signs.
        activated_at: i64,
        /// The longest lifetime of any token it may have signed, in seconds.
        longest_token_seconds: i64,
    },
    /// Verifies what it signed.
    Retiring {
        /// Since when it signs no more.
        retired_at: i64,
        /// When the last token it signed is past, with the bound.
        until: i64,
    },
}

impl Stage {
    /// The word that stands in status.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Published { .. } => "Published",
            Self::Active { .. } => "Active",
            Self::Retiring { .. } => "Retiring",
        }
    }
}

/// One key of a ring.
#[derive(Debug, Clone)]
pub struct RingKey {
    /// RFC 7638 thumbprint; never used again.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// When it was made.
    pub created_at: i64,
    /// Where it stands.
    pub stage: Stage,
    /// Private key, PKCS#8 PEM.
    pub pem: SecretString,
}

impl RingKey {
    /// A key that was just made.
    pub fn pending(kid: String, algorithm: Algorithm, pem: SecretString, now: i64) -> Self {
        Self { kid, algorithm, created_at: now, stage: Stage::Pending, pem }
    }
}

/// All keys of one `SigningKey`, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// The keys.
    pub keys: Vec<RingKey>,
    /// The `rotationRequest` that was last honoured.
    pub rotation_request: i32,
}

/// What a `SigningKey` and the issuers that use it ask for.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Algorithm of new keys.
    pub algorithm: Algorithm,
    /// How long a key signs, in seconds.
    pub rotation_period: i64,
    /// Higher than the ring's: rotate ahead of the period.
    pub rotation_request: i32,
    /// The longest lifetime of a token signed now, in seconds.
    pub longest_token_seconds: i64,
    /// Least seconds a retired key stays in the JWKS, if that is longer than it must.
    pub overlap: i64,
    /// Keys that must not be trusted.
    pub revoked: BTreeSet<String>,
}

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// A new key must be pushed as Pending, and the step taken again.
    pub needs_key: bool,
    /// When time alone makes the next step.
    pub due: Option<i64>,
}

impl Ring {
    /// Moves every key as far as `now` allows.
    pub fn step(&mut self, now: i64, policy: &Policy) -> Outcome {
        self.keys.retain(|key| !policy.revoked.contains(&key.kid));
        // A next key of another algorithm never signed, and never will.
        self.keys.retain(|key| {
            key.algorithm == policy.algorithm || !matches!(key.stage, Stage::Published { .. })
        });
        self.keys.retain(|key| !matches!(key.stage, Stage::Retiring { until, .. } if until <= now));
        for key in &mut self.keys {
            if key.stage == Stage::Pending {
                key.stage = Stage::Published { published_at: now };
            }
        }
        self.rotate(now, policy);
        if self.active().is_none() && !self.activate_next(now, policy) {
            return Outcome { needs_key: true, due: None };
        }
        if let Some(Stage::Active { longest_token_seconds, .. }) =
            self.active_mut().map(|key| &mut key.stage)
        {
            *longest_token_seconds = (*longest_token_seconds).max(policy.longest_token_seconds);
        }
        Outcome { needs_key: self.next(policy).is_none(), due: self.due(policy) }
    }

    /// The key that signs: the Active one, or, if that was revoked, the one that will take over.
    ///
    /// Every replica answers this the same way before the leader has written the change down.
    pub fn signing(&self, revoked: &BTreeSet<String>) -> Option<&RingKey> {
        let trusted = || self.keys.iter().filter(|key| !revoked.contains(&key.kid));
        trusted()
            .find(|key| matches!(key.stage, Stage::Active { .. }))
            .or_else(|| trusted().find(|key| matches!(key.stage, Stage::Published { .. })))
    }

    /// The keys that belong in the JWKS.
    pub fn public<'a>(
        &'a self,
        revoked: &'a BTreeSet<String>,
        now: i64,
    ) -> impl Iterator<Item = &'a RingKey> {
        self.keys.iter().filter(move |key| match key.stage {
            _ if revoked.contains(&key.kid) => false,
            Stage::Pending => false,
            Stage::Published { .. } | Stage::Active { .. } => true,
            Stage::Retiring { until, .. } => now < until,
        })
    }

    /// When time alone changes what this ring says.
    pub fn due(&self, policy: &Policy) -> Option<i64> {
        let retiring = self.keys.iter().filter_map(|key| match key.stage {
            Stage::Retiring { until, .. } => Some(until),
            _ => None,
        });
        retiring.chain(self.rotation_due(policy)).min()
    }

    /// When the next key takes over.
    pub fn rotation_due(&self, policy: &Policy) -> Option<i64> {
        let Stage::Active { activated_at, .. } = self.active()?.stage else {
            return None;
        };
        let Stage::Published { published_at } = self.next(policy)?.stage else {
            return None;
        };
        let asked = policy.rotation_request > self.rotation_request;
        let over = if asked { activated_at } else { activated_at + policy.rotation_period };
        Some(over.max(published_at + LEAD_SECONDS))
    }

    fn rotate(&mut self, now: i64, policy: &Policy) {
        if self.rotation_due(policy).is_none_or(|due| now < due) {
            return;
        }
        let Some(next) = self.next(policy).map(|key| key.kid.clone()) else {
            return;
        };
        self.rotation_request = self.rotation_request.max(policy.rotation_request);
        for key in &mut self.keys {
            match key.stage {
                Stage::Active { longest_token_seconds, .. } => {
                    let until = now + (longest_token_seconds + LEAD_SECONDS).max(policy.overlap);
                    key.stage = Stage::Retiring { retired_at: now, until };
                }
                _ if key.kid == next => {
                    key.stage = Stage::Active {
                        activated_at: now,
                        longest_token_seconds: policy.longest_token_seconds,
                    };
                }
                _ => {}
            }
        }
    }

    /// Nothing signs: the next key takes over at once, however short it has been published.
    fn activate_next(&mut self, now: i64, policy: &Policy) -> bool {
        self.rotation_request = self.rotation_request.max(policy.rotation_request);
        let candidate =
            self.keys.iter_mut().find(|key| matches!(key.stage, Stage::Published { .. }));
        let Some(key) = candidate else { return false };
        key.stage = Stage::Active {
            activated_at: now,
            longest_token_seconds: policy.longest_token_seconds,
        };
        true
    }

    fn active(&self) -> Option<&RingKey> {
        self.keys.iter().find(|key| matches!(key.stage, Stage::Active { .. }))
    }

    fn active_mut(&mut self) -> Option<&mut RingKey> {
        self.keys.iter_mut().find(|key| matches!(key.stage, Stage::Active { .. }))
    }

    fn next(&self, policy: &Policy) -> Option<&RingKey> {
        self.keys.iter().find(|key| {
            matches!(key.stage, Stage::Published { .. }) && key.algorithm == policy.algorithm
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn policy() -> Policy {
        Policy {
            algorithm: Algorithm::RS256,
            rotation_period: 30 * DAY,
            rotation_request: 0,
            longest_token_seconds: 600,
            overlap: 0,
            revoked: BTreeSet::new(),
        }
    }

    /// Steps until settled, giving the ring as many keys as it asks for.
    fn settle(ring: &mut Ring, now: i64, policy: &Policy) -> Option<i64> {
        for _ in 0..4 {
            let outcome = ring.step(now, policy);
            if !outcome.needs_key {
                return outcome.due;
            }
            let kid = format!("{now}-{}", ring.keys.len());
            ring.keys.push(RingKey::pending(kid, policy.algorithm, "pem".into(), now));
        }
        panic!("a ring needs two keys at most");
    }

    fn states(ring: &Ring) -> Vec<&'static str> {
        ring.keys.iter().map(|key| key.stage.as_str()).collect()
    }

    fn settled(now: i64) -> Ring {
        let mut ring = Ring::default();
        settle(&mut ring, now, &policy());
        ring
    }

    #[test]
    fn the_first_key_signs_at_once_and_the_next_is_published() {
        let ring = settled(0);
        assert_eq!(states(&ring), ["Active", "Published"]);
    }

    #[test]
    fn a_settled_ring_does_not_change_before_it_is_due() {
        let mut ring = settled(0);
        let due = settle(&mut ring, 0, &policy()).unwrap();
        assert_eq!(due, 30 * DAY);
        let before: Vec<_> = ring.keys.iter().map(|key| key.stage.clone()).collect();
        settle(&mut ring, due - 1, &policy());
        assert_eq!(ring.keys.iter().map(|key| key.stage.clone()).collect::<Vec<_>>(), before);
    }

    #[test]
    fn a_rotation_retires_activates_and_publishes_in_one_step() {
        let mut ring = settled(0);
        settle(&mut ring, 30 * DAY, &policy());
        assert_eq!(states(&ring), ["Retiring", "Active", "Published"]);
        let Stage::Retiring { until, .. } = ring.keys[0].stage else { panic!() };
        assert_eq!(until, 30 * DAY + 600 + LEAD_SECONDS);
        settle(&mut ring, until - 1, &policy());
        assert_eq!(ring.keys.len(), 3);
        settle(&mut ring, until, &policy());
        assert_eq!(states(&ring), ["Active", "Published"]);
    }

    #[test]
    fn no_key_signs_before_every_cache_can_know_it() {
        let mut ring = settled(0);
        let hasty = Policy { rotation_period: 1, ..policy() };
        settle(&mut ring, LEAD_SECONDS - 1, &hasty);
        assert_eq!(states(&ring), ["Active", "Published"]);
        settle(&mut ring, LEAD_SECONDS, &hasty);
        assert_eq!(states(&ring), ["Retiring", "Active", "Published"]);
    }

    #[test]
    fn a_request_rotates_once_and_only_after_the_lead() {
        let mut ring = settled(0);
        let asked = Policy { rotation_request: 7, ..policy() };
        assert_eq!(settle(&mut ring, 1, &asked), Some(LEAD_SECONDS));
        settle(&mut ring, LEAD_SECONDS, &asked);
        assert_eq!(states(&ring), ["Retiring", "Active", "Published"]);
        let due = settle(&mut ring, 3 * LEAD_SECONDS, &asked);
        assert_eq!(states(&ring).iter().filter(|state| **state == "Active").count(), 1);
        assert!(due.is_some_and(|due| due > 3 * LEAD_SECONDS));
        assert_eq!(ring.rotation_request, 7);
    }

    #[test]
    fn a_revoked_active_key_is_replaced_without_waiting() {
        let mut ring = settled(0);
        let revoked = BTreeSet::from([ring.keys[0].kid.clone()]);
        let next = ring.keys[1].kid.clone();
        assert_eq!(ring.signing(&revoked).map(|key| &key.kid), Some(&next));
        assert!(ring.public(&revoked, 5).all(|key| !revoked.contains(&key.kid)));
        settle(&mut ring, 5, &Policy { revoked, ..policy() });
        assert_eq!(states(&ring), ["Active", "Published"]);
        assert_eq!(ring.keys[0].kid, next);
    }

    #[test]
    fn revoking_every_key_makes_new_ones() {
        let mut ring = settled(0);
        let revoked: BTreeSet<String> = ring.keys.iter().map(|key| key.kid.clone()).collect();
        assert!(ring.signing(&revoked).is_none());
        settle(&mut ring, 5, &Policy { revoked: revoked.clone(), ..policy() });
        assert_eq!(states(&ring), ["Active", "Published"]);
        assert!(ring.keys.iter().all(|key| !revoked.contains(&key.kid)));
    }

    #[test]
    fn a_retired_key_stays_for_the_longest_token_it_ever_signed() {
        let mut ring = settled(0);
        settle(&mut ring, 10, &Policy { longest_token_seconds: 7_200, ..policy() });
        settle(&mut ring, 30 * DAY, &policy());
        let Stage::Retiring { until, .. } = ring.keys[0].stage else { panic!() };
        assert_eq!(until, 30 * DAY + 7_200 + LEAD_SECONDS);
    }

    #[test]
    fn an_overlap_lengthens_and_never_shortens_retirement() {
        for (overlap, stays) in [(0, 600 + LEAD_SECONDS), (DAY, DAY)] {
            let mut ring = settled(0);
            settle(&mut ring, 30 * DAY, &Policy { overlap, ..policy() });
            let Stage::Retiring { until, .. } = ring.keys[0].stage else { panic!() };
            assert_eq!(until, 30 * DAY + stays);
        }
    }

    #[test]
    fn another_algorithm_comes_with_the_next_key() {
        let mut ring = settled(0);
        let other = Policy { algorithm: Algorithm::ES256, ..policy() };
        settle(&mut ring, 10, &other);
        let algorithms: Vec<_> = ring.keys.iter().map(|key| key.algorithm).collect();
        assert_eq!(algorithms, [Algorithm::RS256, Algorithm::ES256]);
        assert_eq!(states(&ring), ["Active", "Published"]);
    }

    #[test]
    fn pending_and_gone_keys_are_not_in_the_jwks() {
        let mut ring = settled(0);
        ring.keys.push(RingKey::pending("new".into(), Algorithm::RS256, "pem".into(), 5));
        let none = BTreeSet::new();
        assert_eq!(ring.public(&none, 5).count(), 2);
        ring.keys[0].stage = Stage::Retiring { retired_at: 5, until: 10 };
        assert_eq!(ring.public(&none, 9).count(), 2);
        assert_eq!(ring.public(&none, 10).count(), 1);
    }
}

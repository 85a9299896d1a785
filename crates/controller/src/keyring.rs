//! The life of an issuer's signing keys, as a pure state machine over one ring.
//!
//! ```text
//! Pending   → Published     → Active → Retiring → gone
//!   written     seen written   signs    verifies
//!   └──────── in the JWKS of every replica that read it ───────┘
//! ```
//! What always holds:
//! - at most one key is Active, and exactly one in a settled ring; the *next* one is in the JWKS from
//!   that moment;
//! - a key is Published, and its lead begins, only when the leader has seen it in the store: a write that
//!   was slow or lost makes no key older than it is;
//! - a key signs only after the lead, unless there is nothing else to sign with (the first key, or the
//!   Active and the next one are revoked);
//! - a key stays in the JWKS for the longest token it signed plus the lead;
//! - a revoked key is in no JWKS and signs nothing, whatever the stored state says;
//! - a ring never has more than [`MOST_KEYS`] keys: a rotation waits until one is gone;
//! - an older ring, or another one, that was put over a newer one takes no key out of service; what only
//!   that one has verifies for a while, and signs nothing.

mod memory;

use std::collections::BTreeSet;

use claviger_jose::Algorithm;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

pub use self::memory::Known;

/// By default, a replica that nothing confirmed for this long mints nothing.
pub const STALENESS_SECONDS: i64 = 150;
/// Most keys of one ring: some are as large as 3.3 KB, and all are in every JWKS.
pub const MOST_KEYS: usize = 32;

/// Where a key stands, with the times that say when it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum Stage {
    /// Written, and in the JWKS of every replica that read it; when that was is not known yet.
    Pending,
    /// In the store since this moment at the latest; signs nothing yet.
    Published {
        /// When the leader saw it there.
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

    /// The stage where another takes over at this moment, told or not; `None` if the key never signed.
    fn verifying(&self, now: i64, lead: i64) -> Option<Self> {
        match self {
            Self::Active { longest_token_seconds, .. } => {
                let until = now.saturating_add(*longest_token_seconds).saturating_add(lead);
                Some(Self::Retiring { retired_at: now, until })
            }
            Self::Retiring { .. } => Some(self.clone()),
            Self::Pending | Self::Published { .. } => None,
        }
    }

    /// Whether the key has not signed yet.
    fn is_next(&self) -> bool {
        matches!(self, Self::Pending | Self::Published { .. })
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

    /// The key where another took over from it without being told so; `None` if it never signed.
    fn verifying(self, now: i64, lead: i64) -> Option<Self> {
        let stage = self.stage.verifying(now, lead)?;
        Some(Self { stage, ..self })
    }

    /// Until when it verifies, as far as that is settled.
    fn until(&self) -> i64 {
        match self.stage {
            Stage::Retiring { until, .. } => until,
            _ => i64::MAX,
        }
    }

    /// Until when it certainly verifies, whatever comes: one that signs may retire this very moment, and one that
    /// has not signed may be dropped.
    fn certainly_until(&self, now: i64, lead: i64) -> i64 {
        match self.stage.verifying(now, lead) {
            Some(Stage::Retiring { until, .. }) => until,
            _ => i64::MIN,
        }
    }

    /// Whether whatever it signed is past.
    fn is_past(&self, now: i64) -> bool {
        self.until() <= now
    }
}

/// All keys of one `SigningKey`, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// The keys.
    pub keys: Vec<RingKey>,
    /// The `rotationRequest` that was last honoured.
    pub rotation_request: i32,
    /// Which ring this is, through all its revisions: the `kid` of its first key.
    pub lineage: String,
    /// Raised by every write of the leader.
    pub revision: u64,
}

/// What a `SigningKey` and the issuers that use it ask for.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Algorithm of new keys.
    pub algorithm: Algorithm,
    /// How long a key is asked to sign, in seconds.
    pub rotation_period: i64,
    /// Higher than the ring's: rotate ahead of the period.
    pub rotation_request: i32,
    /// The longest lifetime of a token signed now, in seconds.
    pub longest_token_seconds: i64,
    /// Least seconds a retired key stays in the JWKS, if that is longer than it must.
    pub overlap: i64,
    /// How long a key is in the JWKS before it signs, and after its last token, in seconds.
    pub lead: i64,
    /// Keys that must not be trusted.
    pub revoked: BTreeSet<String>,
}

impl Policy {
    /// How long a key must be let sign, in seconds: until the one before it is gone. Rotating faster
    /// would pile up keys that still verify.
    pub fn shortest_period(&self) -> i64 {
        self.longest_token_seconds.saturating_add(self.lead)
    }

    /// How long a key does sign, in seconds.
    pub fn effective_period(&self) -> i64 {
        self.rotation_period.max(self.shortest_period())
    }
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
    /// The store was seen to hold this very ring: whatever was on its way there has arrived.
    pub fn confirm(&mut self, now: i64) {
        for key in &mut self.keys {
            if key.stage == Stage::Pending {
                key.stage = Stage::Published { published_at: now };
            }
        }
    }

    /// Moves every key as far as `now` allows.
    pub fn step(&mut self, now: i64, policy: &Policy) -> Outcome {
        self.keys.retain(|key| !policy.revoked.contains(&key.kid));
        self.keys.retain(|key| !key.is_past(now));
        self.note_longest_token(policy);
        if self.active().is_some() {
            // A next key of another algorithm never signed, and never will.
            self.keys.retain(|key| key.algorithm == policy.algorithm || !key.stage.is_next());
            self.rotate(now, policy);
        } else if !self.activate_next(now, policy) {
            return Outcome { needs_key: true, due: None };
        }
        let needs_key = self.next(policy).is_none() && self.keys.len() < MOST_KEYS;
        Outcome { needs_key, due: self.due(policy) }
    }

    /// The key that signs: the Active one, or, if that was revoked, the one that will take over.
    ///
    /// Every replica answers this the same way before the leader has written the change down.
    pub fn signing(&self, revoked: &BTreeSet<String>) -> Option<&RingKey> {
        let trusted = || self.keys.iter().filter(|key| !revoked.contains(&key.kid));
        trusted()
            .find(|key| matches!(key.stage, Stage::Active { .. }))
            .or_else(|| trusted().find(|key| matches!(key.stage, Stage::Published { .. })))
            .or_else(|| trusted().find(|key| key.stage == Stage::Pending))
    }

    /// The keys that belong in the JWKS.
    pub fn public<'a>(
        &'a self,
        revoked: &'a BTreeSet<String>,
        now: i64,
    ) -> impl Iterator<Item = &'a RingKey> {
        self.keys.iter().filter(move |key| match key.stage {
            _ if revoked.contains(&key.kid) => false,
            Stage::Pending | Stage::Published { .. } | Stage::Active { .. } => true,
            Stage::Retiring { until, .. } => now < until,
        })
    }

    /// When time alone changes what this ring says.
    pub fn due(&self, policy: &Policy) -> Option<i64> {
        self.retirements().chain(self.rotation_due(policy)).min()
    }

    /// When the next key takes over; `None` while it is not known to be published.
    pub fn rotation_due(&self, policy: &Policy) -> Option<i64> {
        let Stage::Active { activated_at, .. } = self.active()?.stage else {
            return None;
        };
        let Stage::Published { published_at } = self.next(policy)?.stage else {
            return None;
        };
        let period = if self.is_asked_to_rotate(policy) { 0 } else { policy.effective_period() };
        let full = self.keys.len() >= MOST_KEYS;
        let room = if full { self.retirements().min()? } else { i64::MIN };
        let over = activated_at.saturating_add(period);
        Some(over.max(published_at.saturating_add(policy.lead)).max(room))
    }

    /// Whether the next key is to take over as soon as it may: it was asked for, or it brings the
    /// algorithm that is asked for.
    pub fn is_asked_to_rotate(&self, policy: &Policy) -> bool {
        policy.rotation_request > self.rotation_request
            || self.active().is_some_and(|key| key.algorithm != policy.algorithm)
    }

    /// Whether this ring was written by a leader that knew `known`, or is `known`.
    pub fn follows(&self, known: &Self) -> bool {
        self.lineage == known.lineage
            && (self.revision > known.revision
                || (self.revision == known.revision && self.says_the_same_as(known)))
    }

    /// Whether both have the same keys in the same places.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let stages = |ring: &Self| -> Vec<(String, Stage)> {
            ring.keys.iter().map(|key| (key.kid.clone(), key.stage.clone())).collect()
        };
        self.rotation_request == other.rotation_request && stages(self) == stages(other)
    }

    /// The ring that stays in force when `stored`, which does not follow this one, is found in the store:
    /// somebody restored an old copy, or another ring.
    ///
    /// A leader that never knew this ring takes the stored one, and may sign by any key of it at once:
    /// all verify for as long as that can go on (the lead, after which this replica gives in) and their
    /// tokens live. A key that is not in the store is not in the JWKS of a replica that
    /// starts now: its lead begins when it is seen there again.
    #[must_use]
    pub fn withstand(&self, stored: &Self, now: i64, lead: i64) -> Self {
        let mut ring = self.clone();
        ring.rotation_request = ring.rotation_request.max(stored.rotation_request);
        ring.revision = ring.revision.max(stored.revision);
        for key in ring.keys.iter_mut().filter(|key| !stored.has(&key.kid)) {
            if matches!(key.stage, Stage::Published { .. }) {
                key.stage = Stage::Pending;
            }
        }
        let longest = self.longest_token().max(stored.longest_token());
        let needed = now.saturating_add(longest).saturating_add(lead);
        let verifies = Stage::Retiring { retired_at: now, until: needed.saturating_add(lead) };
        let mut missing = Vec::new();
        for key in stored.keys.iter().filter(|key| !key.is_past(now)) {
            let may_sign = !matches!(key.stage, Stage::Retiring { .. });
            match ring.keys.iter_mut().find(|ours| ours.kid == key.kid) {
                Some(ours) if may_sign && ours.until() < needed => ours.stage = verifies.clone(),
                Some(_) => {}
                None if may_sign => {
                    missing.push(RingKey { stage: verifies.clone(), ..key.clone() });
                }
                None => missing.push(key.clone()),
            }
        }
        // The newest are those that may sign.
        let surplus = missing.len().saturating_sub(MOST_KEYS.saturating_sub(ring.keys.len()));
        ring.keys.splice(0..0, missing.into_iter().skip(surplus));
        ring
    }

    /// Whether it has this key, in whatever state.
    pub fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid == kid)
    }

    /// The longest lifetime of any token its Active key may have signed.
    fn longest_token(&self) -> i64 {
        match self.active().map(|key| &key.stage) {
            Some(Stage::Active { longest_token_seconds, .. }) => *longest_token_seconds,
            _ => 0,
        }
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
                    let stays = longest_token_seconds.saturating_add(policy.lead);
                    let until = now.saturating_add(stays.max(policy.overlap));
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
        let none = BTreeSet::new();
        let Some(kid) = self.signing(&none).map(|key| key.kid.clone()) else { return false };
        self.rotation_request = self.rotation_request.max(policy.rotation_request);
        for key in self.keys.iter_mut().filter(|key| key.kid == kid) {
            key.stage = Stage::Active {
                activated_at: now,
                longest_token_seconds: policy.longest_token_seconds,
            };
        }
        true
    }

    /// Tokens of the lifetime that is asked for now may have been signed already.
    fn note_longest_token(&mut self, policy: &Policy) {
        for key in &mut self.keys {
            if let Stage::Active { longest_token_seconds, .. } = &mut key.stage {
                *longest_token_seconds = (*longest_token_seconds).max(policy.longest_token_seconds);
            }
        }
    }

    fn retirements(&self) -> impl Iterator<Item = i64> {
        self.keys.iter().filter_map(|key| match key.stage {
            Stage::Retiring { until, .. } => Some(until),
            _ => None,
        })
    }

    /// The key that signs, if it is settled which.
    pub fn active(&self) -> Option<&RingKey> {
        self.keys.iter().find(|key| matches!(key.stage, Stage::Active { .. }))
    }

    fn next(&self, policy: &Policy) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.stage.is_next() && key.algorithm == policy.algorithm)
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const LEAD: i64 = 270;

    fn policy() -> Policy {
        Policy {
            algorithm: Algorithm::RS256,
            rotation_period: 30 * DAY,
            rotation_request: 0,
            longest_token_seconds: 600,
            overlap: 0,
            lead: LEAD,
            revoked: BTreeSet::new(),
        }
    }

    /// Steps until settled, giving the ring as many keys as it asks for, and sees it in the store.
    fn settle(ring: &mut Ring, now: i64, policy: &Policy) -> Option<i64> {
        for _ in 0..4 {
            let outcome = ring.step(now, policy);
            if !outcome.needs_key {
                ring.confirm(now);
                return ring.due(policy);
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
        assert_eq!(until, 30 * DAY + 600 + LEAD);
        settle(&mut ring, until - 1, &policy());
        assert_eq!(ring.keys.len(), 3);
        settle(&mut ring, until, &policy());
        assert_eq!(states(&ring), ["Active", "Published"]);
    }

    #[test]
    fn no_key_signs_before_every_cache_can_know_it() {
        let mut ring = settled(0);
        let hasty = Policy { rotation_request: 1, ..policy() };
        settle(&mut ring, LEAD - 1, &hasty);
        assert_eq!(states(&ring), ["Active", "Published"]);
        settle(&mut ring, LEAD, &hasty);
        assert_eq!(states(&ring), ["Retiring", "Active", "Published"]);
    }

    #[test]
    fn the_lead_begins_when_the_key_was_seen_in_the_store_however_long_the_write_took() {
        let mut ring = Ring::default();
        while ring.step(0, &policy()).needs_key {
            let kid = ring.keys.len().to_string();
            ring.keys.push(RingKey::pending(kid, Algorithm::RS256, "pem".into(), 0));
        }
        assert_eq!(states(&ring), ["Active", "Pending"]);
        let asked = Policy { rotation_request: 1, ..policy() };
        assert_eq!(ring.step(DAY, &asked).due, None, "a write that is under way for a day");
        ring.confirm(DAY);
        assert_eq!(ring.due(&asked), Some(DAY + LEAD));
    }

    #[test]
    fn a_period_shorter_than_tokens_live_is_stretched_to_what_keeps_one_retiring_key() {
        let mut ring = settled(0);
        let short = Policy { rotation_period: 600, longest_token_seconds: 7_200, ..policy() };
        let mut now = 0;
        for _ in 0..10 {
            now = settle(&mut ring, now, &short).unwrap();
            settle(&mut ring, now, &short);
            assert!(ring.keys.len() <= 4, "{:?}", states(&ring));
        }
        assert_eq!(short.effective_period(), 7_200 + LEAD);
    }

    #[test]
    fn a_request_rotates_once_and_only_after_the_lead() {
        let mut ring = settled(0);
        let asked = Policy { rotation_request: 7, ..policy() };
        assert_eq!(settle(&mut ring, 1, &asked), Some(LEAD));
        settle(&mut ring, LEAD, &asked);
        assert_eq!(states(&ring), ["Retiring", "Active", "Published"]);
        let due = settle(&mut ring, 3 * LEAD, &asked);
        assert_eq!(states(&ring).iter().filter(|state| **state == "Active").count(), 1);
        assert!(due.is_some_and(|due| due > 3 * LEAD));
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
        assert_eq!(until, 30 * DAY + 7_200 + LEAD);
    }

    #[test]
    fn an_overlap_lengthens_and_never_shortens_retirement() {
        for (overlap, stays) in [(0, 600 + LEAD), (DAY, DAY)] {
            let mut ring = settled(0);
            settle(&mut ring, 30 * DAY, &Policy { overlap, ..policy() });
            let Stage::Retiring { until, .. } = ring.keys[0].stage else { panic!() };
            assert_eq!(until, 30 * DAY + stays);
        }
    }

    #[test]
    fn another_algorithm_is_a_rotation_that_waits_for_the_lead_alone() {
        let mut ring = settled(0);
        let other = Policy { algorithm: Algorithm::ES256, ..policy() };
        let due = settle(&mut ring, 10, &other);
        let algorithms =
            |ring: &Ring| -> Vec<_> { ring.keys.iter().map(|k| k.algorithm).collect() };
        assert_eq!(algorithms(&ring), [Algorithm::RS256, Algorithm::ES256]);
        assert_eq!(states(&ring), ["Active", "Published"]);
        assert_eq!(due, Some(10 + LEAD), "without waiting for the period");
        settle(&mut ring, 10 + LEAD, &other);
        assert_eq!(states(&ring), ["Retiring", "Active", "Published"]);
        assert_eq!(algorithms(&ring), [Algorithm::RS256, Algorithm::ES256, Algorithm::ES256]);
    }

    #[test]
    fn a_revocation_together_with_another_algorithm_signs_by_the_key_that_is_published() {
        let mut ring = settled(0);
        let revoked = BTreeSet::from([ring.keys[0].kid.clone()]);
        let next = ring.keys[1].kid.clone();
        let other = Policy { algorithm: Algorithm::ES256, revoked: revoked.clone(), ..policy() };
        assert_eq!(ring.signing(&revoked).map(|key| &key.kid), Some(&next));
        settle(&mut ring, 10, &other);
        assert_eq!(ring.signing(&revoked).map(|key| &key.kid), Some(&next));
        assert_eq!(ring.due(&other), Some(10 + LEAD), "then the algorithm changes");
    }

    #[test]
    fn a_lifetime_that_grew_at_the_moment_of_rotation_counts() {
        let mut ring = settled(0);
        settle(&mut ring, 30 * DAY, &Policy { longest_token_seconds: 7_200, ..policy() });
        let Stage::Retiring { until, .. } = ring.keys[0].stage else { panic!() };
        assert_eq!(until, 30 * DAY + 7_200 + LEAD);
    }

    #[test]
    fn an_older_revision_takes_no_key_away_and_none_of_its_keys_signs() {
        let mut known = settled(0);
        known.lineage = "first".into();
        let mut backup = known.clone();
        backup.rotation_request = 9;
        settle(&mut known, 30 * DAY, &policy());
        settle(&mut known, 31 * DAY, &policy());
        known.revision = 7;
        assert!(!backup.follows(&known));
        let ring = known.withstand(&backup, 31 * DAY, LEAD);
        assert_eq!((ring.rotation_request, ring.revision), (9, 7));
        assert_eq!(states(&known), ["Active", "Published"]);
        assert_eq!(states(&ring), ["Retiring", "Active", "Pending"]);
        let kids = |ring: &Ring| ring.keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>();
        assert_eq!(kids(&ring)[0], backup.keys[0].kid, "who starts now may sign by it");
        assert_eq!(kids(&ring)[1..], kids(&known), "and the next key was not in the store");
    }

    #[test]
    fn keys_of_another_ring_verify_and_never_sign() {
        let mut known = settled(31 * DAY);
        known.lineage = "ours".into();
        let mut other = settled(0);
        other.lineage = "theirs".into();
        other.revision = 99;
        settle(&mut other, 30 * DAY, &policy());
        let ring = known.withstand(&other, 31 * DAY, LEAD);
        assert_eq!(states(&ring), ["Retiring", "Retiring", "Active", "Pending"]);
        assert_eq!(ring.signing(&BTreeSet::new()).unwrap().kid, known.keys[0].kid);
        for key in &ring.keys[..2] {
            let until = 31 * DAY + 600 + 2 * LEAD;
            assert_eq!(key.stage, Stage::Retiring { retired_at: 31 * DAY, until });
        }
        assert!(
            ring.withstand(&other, 31 * DAY + LEAD, LEAD).says_the_same_as(&ring),
            "again: the same"
        );
    }

    #[test]
    fn keys_are_in_the_jwks_from_the_write_until_they_are_gone() {
        let mut ring = settled(0);
        ring.keys.push(RingKey::pending("new".into(), Algorithm::RS256, "pem".into(), 5));
        let none = BTreeSet::new();
        assert_eq!(ring.public(&none, 5).count(), 3);
        ring.keys[0].stage = Stage::Retiring { retired_at: 5, until: 10 };
        assert_eq!(ring.public(&none, 9).count(), 3);
        assert_eq!(ring.public(&none, 10).count(), 2);
    }
}

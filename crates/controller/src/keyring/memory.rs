//! What one replica knows of one ring, whatever the store says of it from one look to the next.
//!
//! ```text
//! stored ─ follows the known one ─→ taken; keys of ours it has lost verify until their tokens are past
//!    └──── does not: an old copy, another ring ─→ disputed: the known one signs, both verify
//!                                                      └─ for a whole lead ─→ taken
//! ```
//! What always holds:
//! - a ring that does not follow the known one changes nobody's signing key before its keys were in
//!   this replica's JWKS for the lead;
//! - a leader without this memory may sign by any of its keys at once, so all are in the JWKS from the
//!   first look on;
//! - a key this replica signed by, or let verify, leaves the JWKS by its time or by being revoked, never
//!   because a ring without it was found;
//! - a key that was seen revoked comes back by no ring that is disputed.

use std::collections::BTreeSet;

use super::{MOST_KEYS, Ring, RingKey};
use crate::moment::Moment;

/// Most key IDs that are remembered as revoked: more than any administrator lists.
const MOST_WITHDRAWN: usize = 4_096;

/// What is known of one ring.
#[derive(Debug, Clone, Default)]
pub struct Known {
    ring: Option<Ring>,
    /// Keys the ring in the store has lost, or lets go too early; each of them is Retiring.
    lost: Vec<RingKey>,
    withdrawn: BTreeSet<String>,
    /// Since when the store holds a ring that does not follow the known one, by the clock nobody sets.
    disputed_at: Option<i64>,
}

impl Known {
    /// Remembers which keys are revoked.
    pub fn withdraw(&mut self, revoked: &BTreeSet<String>) {
        let room = MOST_WITHDRAWN.saturating_sub(self.withdrawn.len());
        self.withdrawn.extend(revoked.iter().take(room).cloned());
    }

    /// Whether the store holds a ring that is not in force.
    pub fn is_disputed(&self) -> bool {
        self.disputed_at.is_some()
    }

    /// The ring in force now that the store holds this one, and whether that is this one.
    ///
    /// While the clock is in doubt nothing is dated, so a dispute goes on as it is.
    pub fn read(&mut self, stored: &Ring, at: Moment, lead: i64) -> (Ring, bool) {
        let Some(known) = self.ring.as_ref().filter(|known| !self.is_followed(known, stored))
        else {
            self.take(stored, at, lead);
            return (self.in_force(at), true);
        };
        let since = *self.disputed_at.get_or_insert(at.elapsed);
        if !at.in_doubt {
            if at.elapsed - since >= lead {
                self.take(stored, at, lead);
                return (self.in_force(at), true);
            }
            let mut trusted = stored.clone();
            trusted.keys.retain(|key| !self.withdrawn.contains(&key.kid));
            self.ring = Some(known.withstand(&trusted, at.now, lead));
        }
        (self.in_force(at), false)
    }

    /// Whether the stored ring was written by somebody who knew what is known here. In a dispute a
    /// higher revision does not say so, for who knows nothing counts on from the backup: the key that
    /// signs here must have signed there.
    fn is_followed(&self, known: &Ring, stored: &Ring) -> bool {
        let signs = known.active().filter(|key| !self.withdrawn.contains(&key.kid));
        let signed = |kid: &str| stored.keys.iter().any(|k| k.kid == kid && !k.stage.is_next());
        stored.follows(known)
            && (!self.is_disputed() || signs.is_none_or(|key| signed(key.kid.as_str())))
    }

    fn take(&mut self, stored: &Ring, at: Moment, lead: i64) {
        let disputed = self.disputed_at.take().is_some();
        let before = self.ring.take().map(|ring| ring.keys).unwrap_or_default();
        // Whoever wrote the other ring may have retired a key of ours while it still signed here.
        let signed = before.into_iter().filter(|key| disputed || !stored.has(&key.kid));
        let signed = signed.filter_map(|key| key.verifying(at.now, lead));
        let lost = std::mem::take(&mut self.lost).into_iter().chain(signed);
        let keeps = |key: &RingKey| {
            let until = |kept: &RingKey| kept.certainly_until(at.now, lead);
            stored.keys.iter().any(|kept| kept.kid == key.kid && until(kept) >= key.until())
        };
        self.lost = lost
            .filter(|key| !keeps(key) && !self.withdrawn.contains(&key.kid))
            .filter(|key| !key.is_past(at.certainly_past()))
            .collect();
        self.lost.drain(..self.lost.len().saturating_sub(MOST_KEYS));
        self.ring = Some(stored.clone());
    }

    /// The ring that was taken, with what it has lost.
    fn in_force(&self, at: Moment) -> Ring {
        let mut ring = self.ring.clone().unwrap_or_default();
        let past = at.certainly_past();
        let mut missing = Vec::new();
        for lost in self.lost.iter().filter(|key| !key.is_past(past)) {
            match ring.keys.iter_mut().find(|key| key.kid == lost.kid) {
                Some(key) if key.until() < lost.until() => key.stage = lost.stage.clone(),
                Some(_) => {}
                None => missing.push(lost.clone()),
            }
        }
        let room = MOST_KEYS.saturating_sub(ring.keys.len());
        // The newest are those that signed last.
        let surplus = missing.len().saturating_sub(room);
        ring.keys.splice(0..0, missing.into_iter().skip(surplus));
        ring
    }
}

#[cfg(test)]
mod tests {
    use claviger_jose::Algorithm;

    use super::*;
    use crate::keyring::Stage;

    const LEAD: i64 = 270;
    const ACTIVE: Stage = Stage::Active { activated_at: 0, longest_token_seconds: 600 };
    const NEXT: Stage = Stage::Published { published_at: 0 };

    fn ring<const N: usize>(revision: u64, keys: [(&str, Stage); N]) -> Ring {
        let keys = keys.into_iter().map(|(kid, stage)| {
            let key = RingKey::pending(kid.into(), Algorithm::ES256, "pem".into(), 0);
            RingKey { stage, ..key }
        });
        Ring { keys: keys.collect(), rotation_request: 0, lineage: "a".into(), revision }
    }

    /// Who read the newer of two revisions, and the older one.
    fn restored() -> (Known, Ring) {
        let mut known = Known::default();
        let newer = ring(2, [("b", ACTIVE), ("c", NEXT)]);
        assert!(known.read(&newer, Moment::at(0), LEAD).1);
        (known, ring(1, [("a", ACTIVE), ("b", NEXT)]))
    }

    #[test]
    fn a_key_that_was_seen_revoked_comes_back_by_no_disputed_ring() {
        let (mut known, backup) = restored();
        known.withdraw(&BTreeSet::from(["a".to_owned()]));
        known.withdraw(&BTreeSet::new());
        let (ring, intact) = known.read(&backup, Moment::at(1), LEAD);
        assert!(!intact && known.is_disputed());
        assert_eq!((ring.has("a"), ring.has("b"), ring.has("c")), (false, true, true));
    }

    #[test]
    fn a_clock_in_doubt_dates_nothing_in_a_dispute_and_a_jump_ends_none() {
        let (mut known, backup) = restored();
        let doubted = Moment { now: 90_000, elapsed: 1, in_doubt: true };
        let (ring, _) = known.read(&backup, doubted, LEAD);
        assert!(!ring.has("a"), "nobody knows until when it would have to stay");
        let jumped = Moment { now: 90_000, elapsed: LEAD, in_doubt: false };
        let (ring, intact) = known.read(&backup, jumped, LEAD);
        assert!(!intact && ring.has("a"));
        let outlasted = Moment { elapsed: LEAD + 1, ..jumped };
        let (ring, intact) = known.read(&backup, outlasted, LEAD);
        assert!(intact);
        let kept = ring.keys.iter().find(|key| key.kid == "b").map(|key| &key.stage);
        assert_eq!(kept, Some(&NEXT), "it may sign again");
    }

    #[test]
    fn a_higher_revision_alone_ends_no_dispute() {
        let (mut known, _) = restored();
        let counted_on = |revision| ring(revision, [("a", ACTIVE), ("d", NEXT)]);
        for (revision, now) in [(1, 0), (2, 1), (3, 2), (99, LEAD - 1)] {
            let (ring, intact) = known.read(&counted_on(revision), Moment::at(now), LEAD);
            assert!(!intact, "revision {revision}");
            assert_eq!(ring.active().map(|key| key.kid.as_str()), Some("b"));
            assert!(ring.has("a") && ring.has("d"));
        }
        let published = ring(100, [("a", ACTIVE), ("b", NEXT)]);
        assert!(!known.read(&published, Moment::at(LEAD - 1), LEAD).1, "it has not signed there");
        let by_who_knows = ring(101, [("a", ACTIVE), ("b", ACTIVE)]);
        assert!(known.read(&by_who_knows, Moment::at(LEAD - 1), LEAD).1);
    }

    #[test]
    fn a_key_that_signed_longer_tokens_here_outlasts_its_early_retirement_there() {
        let active =
            |longest_token_seconds| Stage::Active { activated_at: 0, longest_token_seconds };
        let mut known = Known::default();
        known.read(&ring(2, [("a", active(900)), ("b", NEXT)]), Moment::at(0), LEAD);
        // Somebody restored what was before tokens lived so long, and its leader knows no better.
        known.read(&ring(1, [("a", active(60)), ("b", NEXT)]), Moment::at(0), LEAD);
        let (_, intact) =
            known.read(&ring(2, [("a", active(60)), ("b", NEXT)]), Moment::at(LEAD), LEAD);
        assert!(intact);
        let retired = Stage::Retiring { retired_at: LEAD + 1, until: LEAD + 1 + 60 + LEAD };
        let rotated = ring(3, [("a", retired), ("b", active(60))]);
        let (_, intact) = known.read(&rotated, Moment::at(LEAD + 1), LEAD);
        assert!(intact);
        let last = LEAD + 900 + LEAD - 1;
        let gone = ring(4, [("b", active(60)), ("c", NEXT)]);
        assert!(known.read(&gone, Moment::at(last), LEAD).0.has("a"), "a token of 900 s may live");
        assert!(!known.read(&gone, Moment::at(last + 2 * LEAD), LEAD).0.has("a"));
    }

    #[test]
    fn a_ring_that_is_taken_takes_no_key_of_ours_with_it() {
        let (mut known, _) = restored();
        let other = Ring { lineage: "x".into(), ..ring(9, [("x", ACTIVE), ("y", NEXT)]) };
        known.read(&other, Moment::at(0), LEAD);
        let (ring, intact) = known.read(&other, Moment::at(LEAD), LEAD);
        assert!(intact);
        assert_eq!(ring.active().map(|key| key.kid.as_str()), Some("x"));
        let ours = ring.keys.iter().find(|key| key.kid == "b").map(|key| &key.stage);
        let until = LEAD + 600 + LEAD;
        assert_eq!(ours, Some(&Stage::Retiring { retired_at: LEAD, until }));
        let mut later = other.clone();
        later.revision += 1;
        assert!(known.read(&later, Moment::at(until - 1), LEAD).0.has("b"), "nor a later one");
        assert!(!known.read(&later, Moment::at(until), LEAD).0.has("b"));
    }
}

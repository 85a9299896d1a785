//! Rotation: how time, and an administrator's wish, move the keys of both rings.
//!
//! What always holds:
//! - a key seals only when it was seen in the store a lead ago, so that every replica can open what it
//!   seals; the next key is published from the moment the current one becomes Active;
//! - a key is destroyed only when the store has said for as long as anything it sealed may live that
//!   it seals no more;
//! - only what the store holds is stepped: the leader reads back what it wrote before it counts on it.

use crate::key::{KeyState, RingKey};
use crate::purpose::RingKind;
use crate::rings::{MAX_KEYS, Ring, RingError, Rings};

/// How long one ring's keys do what, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// How long a key seals.
    pub rotation: i64,
    /// How long it opens after it was seen to seal no more: the longest life of anything it sealed,
    /// the time a replica may be behind, and twice the difference of two clocks, for three meet: who
    /// seals, who sees that the key retired, who destroys it.
    pub kept: i64,
}

/// When keys go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How long a key is known to be in the store before it seals, in seconds: the time a replica may
    /// be behind, and the difference of two clocks.
    pub lead: i64,
    /// Of the long ring.
    pub long: Period,
    /// Of the short ring.
    pub short: Period,
}

impl Schedule {
    /// Of one ring.
    pub fn period(&self, kind: RingKind) -> Period {
        match kind {
            RingKind::Long => self.long,
            RingKind::Short => self.short,
        }
    }
}

/// One moment, one ring.
#[derive(Debug, Clone, Copy)]
struct Turn {
    now: i64,
    lead: i64,
    period: Period,
    request: i64,
}

impl Rings {
    /// The rings as they must be now, or `None` if they are; `self` is what the store holds. A request
    /// higher than the last one that was met rotates both as soon as their next keys may seal.
    ///
    /// # Errors
    /// [`RingError::Crypto`] when a key is needed and the system has no randomness.
    pub fn step(
        &self,
        now: i64,
        schedule: &Schedule,
        request: i64,
    ) -> Result<Option<Self>, RingError> {
        let mut stepped = self.clone();
        for kind in RingKind::ALL {
            let turn = Turn { now, lead: schedule.lead, period: schedule.period(kind), request };
            let ring = stepped.ring_mut(kind);
            ring.note_what_was_seen(now);
            ring.destroy_past(turn);
            ring.rotate(turn);
        }
        let stepped = stepped.completed(now)?;
        Ok((stepped != *self).then_some(stepped))
    }

    /// The rings with a key that seals and a next one, where these were revoked or never made.
    ///
    /// # Errors
    /// [`RingError::Crypto`] when the system has no randomness.
    pub fn completed(mut self, now: i64) -> Result<Self, RingError> {
        let long = &mut self.long;
        if long.active().is_none() && !long.activate_next(now) {
            self.add(RingKind::Long, now, KeyState::Active { activated_at: now })?;
        }
        for kind in RingKind::ALL {
            if self.ring(kind).next().is_none() && !self.ring(kind).is_full() {
                self.add(kind, now, KeyState::Published { published_at: None })?;
            }
        }
        Ok(self)
    }

    /// When time alone changes the rings.
    pub fn due(&self, schedule: &Schedule, request: i64) -> Option<i64> {
        let of = |kind| {
            let period = schedule.period(kind);
            let turn = Turn { now: 0, lead: schedule.lead, period, request };
            let ring = self.ring(kind);
            ring.gone_at(period).into_iter().chain(ring.rotation_due(turn)).min()
        };
        RingKind::ALL.into_iter().filter_map(of).min()
    }
}

impl Ring {
    /// What the store holds now it held at this time.
    fn note_what_was_seen(&mut self, now: i64) {
        for key in &mut self.keys {
            match &mut key.state {
                KeyState::Published { published_at: at }
                | KeyState::Retiring { retired_at: at } => {
                    at.get_or_insert(now);
                }
                KeyState::Active { .. } => {}
            }
        }
    }

    /// Destroys the keys whose time is over, oldest first: the horizon leaves none out.
    fn destroy_past(&mut self, turn: Turn) {
        while self.gone_at(turn.period).is_some_and(|at| at <= turn.now) {
            self.destroyed_until = self.keys.remove(0).created_at();
        }
    }

    /// When the oldest key, if it retires, can have nothing left that it sealed.
    fn gone_at(&self, period: Period) -> Option<i64> {
        match self.keys.first()?.state {
            KeyState::Retiring { retired_at } => {
                retired_at.map(|at| at.saturating_add(period.kept))
            }
            KeyState::Published { .. } | KeyState::Active { .. } => None,
        }
    }

    fn rotate(&mut self, turn: Turn) {
        if self.rotation_due(turn).is_some_and(|due| due <= turn.now) {
            self.rotation_request = self.rotation_request.max(turn.request);
            self.activate_next(turn.now);
        }
    }

    /// When the next key takes over; unknown until it was seen in the store. Where none is Active that
    /// is as soon as it may.
    fn rotation_due(&self, turn: Turn) -> Option<i64> {
        let KeyState::Published { published_at: Some(published_at) } = self.next()?.state else {
            return None;
        };
        let over = match self.active().and_then(|key| key.state.time()) {
            Some(since) if turn.request > self.rotation_request => since,
            Some(since) => since.saturating_add(turn.period.rotation),
            None => i64::MIN,
        };
        Some(over.max(published_at.saturating_add(turn.lead)))
    }

    /// Makes the next key the one that seals; the Active one retires.
    fn activate_next(&mut self, now: i64) -> bool {
        let Some(next) = self.next().map(RingKey::created_at) else { return false };
        for key in &mut self.keys {
            if matches!(key.state, KeyState::Active { .. }) {
                key.state = KeyState::Retiring { retired_at: None };
            }
            if key.created_at() == next {
                key.state = KeyState::Active { activated_at: now };
            }
        }
        true
    }

    /// Whether a rotation was asked for that cannot be made before an old key is gone.
    pub fn is_stuck(&self, request: i64) -> bool {
        request > self.rotation_request && self.next().is_none() && self.keys.len() >= MAX_KEYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: i64 = 210;
    const SCHEDULE: Schedule = Schedule {
        lead: LEAD,
        long: Period { rotation: 30_000, kept: 360_000 },
        short: Period { rotation: 1_000, kept: 800 },
    };

    fn states(rings: &Rings, kind: RingKind) -> Vec<&'static str> {
        rings.ring(kind).keys().iter().map(|key| key.state().as_str()).collect()
    }

    /// Steps until nothing changes any more.
    fn settled(mut rings: Rings, now: i64, request: i64) -> Rings {
        for _ in 0..4 {
            match rings.step(now, &SCHEDULE, request).unwrap() {
                Some(stepped) => rings = stepped,
                None => return rings,
            }
        }
        panic!("{rings:?} does not settle");
    }

    fn new() -> Rings {
        settled(Rings::generate(0).unwrap(), 0, 0)
    }

    #[test]
    fn a_settled_ring_is_left_alone_until_it_is_due() {
        let rings = new();
        let due = rings.due(&SCHEDULE, 0).unwrap();
        assert_eq!(due, SCHEDULE.short.rotation);
        assert_eq!(rings.step(due - 1, &SCHEDULE, 0).unwrap(), None);
        assert!(rings.step(due, &SCHEDULE, 0).unwrap().is_some());
    }

    #[test]
    fn each_ring_rotates_by_its_own_period_and_publishes_the_next_key_in_the_same_step() {
        let rings = new().step(1_000, &SCHEDULE, 0).unwrap().unwrap();
        assert_eq!(states(&rings, RingKind::Short), ["Retiring", "Active", "Published"]);
        assert_eq!(states(&rings, RingKind::Long), ["Active", "Published"]);
        let rings = settled(rings, 30_000, 0);
        assert_eq!(states(&rings, RingKind::Long), ["Retiring", "Active", "Published"]);
    }

    #[test]
    fn no_key_seals_before_it_was_seen_in_the_store_for_the_lead() {
        let unseen = Rings::generate(0).unwrap();
        assert_eq!(unseen.due(&SCHEDULE, 1), None, "nobody knows when it reached the store");
        let late = 29_990; // a write that was long under way
        let seen = unseen.step(late, &SCHEDULE, 1).unwrap().unwrap();
        assert_eq!(states(&seen, RingKind::Long), ["Active", "Published"]);
        assert_eq!(seen.due(&SCHEDULE, 1), Some(late + LEAD));
        assert_eq!(seen.step(late + LEAD - 1, &SCHEDULE, 1).unwrap(), None);
        let rotated = seen.step(late + LEAD, &SCHEDULE, 1).unwrap().unwrap();
        for kind in RingKind::ALL {
            assert_eq!(states(&rotated, kind), ["Retiring", "Active", "Published"]);
        }
    }

    #[test]
    fn an_old_key_opens_until_what_it_sealed_is_past_and_is_then_destroyed() {
        let rotated = new().step(1_000, &SCHEDULE, 0).unwrap().unwrap();
        let old = rotated.short.keys[0].clone();
        let seen_at = 1_070; // its retirement was read back late
        let rings = settled(rotated, seen_at, 0);
        let gone = seen_at + SCHEDULE.short.kept;
        assert_eq!(rings.due(&SCHEDULE, 0), Some(gone));
        assert!(settled(rings.clone(), gone - 1, 0).short.find(old.id()).is_some());
        let after = settled(rings.clone(), gone, 0);
        assert_eq!(after.short.find(old.id()), None);
        assert_eq!(after.short.destroyed_until, old.created_at());
        assert_eq!(Rings::restored(&rings, &after), after, "and forgotten");
    }

    #[test]
    fn a_request_rotates_both_rings_once() {
        let rings = settled(new(), LEAD, 7);
        for kind in RingKind::ALL {
            assert_eq!(states(&rings, kind), ["Retiring", "Active", "Published"]);
            assert_eq!(rings.ring(kind).rotation_request(), 7);
        }
        let again = settled(rings.clone(), 3 * LEAD, 7);
        assert_eq!(again.long.active().map(RingKey::id), rings.long.active().map(RingKey::id));
        let lower = settled(rings.clone(), 3 * LEAD, 6);
        assert_eq!(lower, again, "a lower request asks for nothing");
        let higher = settled(rings.clone(), 3 * LEAD, 8);
        assert_ne!(higher.long.active().map(RingKey::id), rings.long.active().map(RingKey::id));
    }

    #[test]
    fn what_was_revoked_is_made_up_for_at_once_in_the_long_ring() {
        let mut rings = new();
        let ids: Vec<String> = rings.long.keys.iter().map(|key| key.id().to_owned()).collect();
        rings.revoke([ids[0].as_str()]);
        let completed = rings.clone().completed(5).unwrap();
        assert_eq!(states(&completed, RingKind::Long), ["Active", "Published"]);
        assert_eq!(completed.long.active().map(RingKey::id), Some(ids[1].as_str()));
        rings.revoke([ids[1].as_str()]);
        let completed = rings.completed(5).unwrap();
        assert_eq!(states(&completed, RingKind::Long), ["Active", "Published"]);
    }

    #[test]
    fn a_short_ring_without_keys_waits_for_the_lead_for_the_long_one_stands_in() {
        let mut rings = new();
        let ids: Vec<String> = rings.short.keys.iter().map(|key| key.id().to_owned()).collect();
        rings.revoke(ids.iter().map(String::as_str));
        let rings = settled(rings, 5, 0);
        assert_eq!(states(&rings, RingKind::Short), ["Published"]);
        assert_eq!(rings.due(&SCHEDULE, 0), Some(5 + LEAD));
        let rings = settled(rings, 5 + LEAD, 0);
        assert_eq!(states(&rings, RingKind::Short), ["Active", "Published"]);
    }

    #[test]
    fn a_full_ring_goes_on_and_waits_for_an_old_key_to_go() {
        let mut rings = new();
        let mut now = 0;
        for request in 1..100 {
            now += LEAD;
            rings = settled(rings, now, request);
        }
        assert_eq!(rings.long.keys.len(), MAX_KEYS);
        assert!(rings.long.is_stuck(100));
        assert!(rings.long.active().is_some());
        let oldest_retired = LEAD;
        let rings = settled(rings, oldest_retired + SCHEDULE.long.kept, 100);
        assert_eq!(rings.long.next().map(|key| key.state().as_str()), Some("Published"));
    }
}

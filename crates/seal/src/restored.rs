//! What a replica remembers and what the store holds, together: how rings survive an old backup.
//!
//! What always holds:
//! - revoked stays revoked, destroyed stays destroyed, whichever side knows it;
//! - no other key is lost, whichever side has it;
//! - a key that both have is in the later of its states;
//! - time counts only from what the store holds: where it held something older for a while, or nothing,
//!   a lead or a retirement begins again.

use crate::key::{KeyState, RingKey};
use crate::purpose::RingKind;
use crate::rings::{MAX_KEYS, MAX_REVOKED, Ring, Rings};

impl Rings {
    /// What is known of the rings by what is remembered and what the store holds now. Equal to what
    /// the store holds, unless that is older, in part or in all, than the memory. A store that is empty
    /// or cannot be read holds empty rings.
    #[must_use]
    pub fn restored(remembered: &Self, stored: &Self) -> Self {
        // The memory first: the order stays that of the revocations.
        let mut revoked: Vec<&str> = Vec::new();
        for id in remembered.revoked.iter().chain(&stored.revoked) {
            if !revoked.contains(&id.as_str()) {
                revoked.push(id);
            }
        }
        // A revoked key must not stand in the way of the one that took over from it. Nor may it come
        // back because the list is full: what a key stands for, here or there, is cut last.
        let trusted = |key: &&RingKey| revoked.iter().all(|id| *id != key.id());
        let mut rings = Self::default();
        if revoked.len() > MAX_REVOKED {
            let held = |id: &&str| remembered.keys().chain(stored.keys()).any(|k| k.id() == *id);
            let (held, strangers): (Vec<&str>, Vec<&str>) = revoked.iter().copied().partition(held);
            rings.revoke(strangers.into_iter().chain(held));
        } else {
            rings.revoke(revoked.iter().copied());
        }
        let both = |kind| Ring::restored(remembered.ring(kind), stored.ring(kind), &trusted);
        let (long, short) = (both(RingKind::Long), both(RingKind::Short));
        Self { long, short, ..rings }
    }
}

impl Ring {
    fn restored(remembered: &Self, stored: &Self, trusted: &dyn Fn(&&RingKey) -> bool) -> Self {
        let of_stored =
            stored.keys.iter().filter(trusted).map(|key| match remembered.find(key.id()) {
                // Subkeys are derived once; and whoever changed a secret by hand changed nothing.
                Some(known) => known.clone().in_state(together(known.state, key.state)),
                None => key.clone(),
            });
        let lost = remembered.keys.iter().filter(trusted);
        let lost = lost.filter(|key| stored.find(key.id()).is_none());
        let lost = lost.map(|key| key.clone().in_state(unseen(key.state)));
        let mut ring = Self {
            keys: of_stored.chain(lost).collect(),
            rotation_request: remembered.rotation_request.max(stored.rotation_request),
            destroyed_until: remembered.destroyed_until.max(stored.destroyed_until),
        };
        ring.keys.retain(|key| key.created_at() > ring.destroyed_until);
        ring.keys.sort_by(|a, b| (a.created_at(), a.id()).cmp(&(b.created_at(), b.id())));
        ring.settle();
        ring
    }

    /// Two histories may have made keys at one time, more keys than fit, or two Active ones.
    pub(crate) fn settle(&mut self) {
        let mut last = self.destroyed_until;
        for key in &mut self.keys {
            if key.created_at() <= last {
                *key = key.clone().made_at(last.saturating_add(1));
            }
            last = key.created_at();
        }
        let is_active = |key: &&RingKey| matches!(key.state, KeyState::Active { .. });
        let newest = self.keys.iter().filter(is_active).map(|key| (key.state, key.created_at()));
        if let Some((_, newest)) = newest.max() {
            for key in &mut self.keys {
                if is_active(&&*key) && key.created_at() != newest {
                    key.state = KeyState::Retiring { retired_at: None };
                }
            }
        }
        while self.keys.len() > MAX_KEYS {
            let retiring = |key: &RingKey| matches!(key.state, KeyState::Retiring { .. });
            let oldest = self.keys.iter().position(retiring).unwrap_or(0);
            self.keys.remove(oldest);
        }
    }
}

/// The later of two states. The store must have said it for its time to count: a replica that was
/// behind when an older Secret came back goes on as that says.
fn together(remembered: KeyState, stored: KeyState) -> KeyState {
    let later = remembered.max(stored);
    if later.as_str() == stored.as_str() { later } else { unseen(later) }
}

/// A state that the store does not hold now: what is counted from it begins again.
fn unseen(state: KeyState) -> KeyState {
    match state {
        KeyState::Published { .. } => KeyState::Published { published_at: None },
        KeyState::Active { .. } => state,
        KeyState::Retiring { .. } => KeyState::Retiring { retired_at: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Period, Schedule};

    const SCHEDULE: Schedule = Schedule {
        lead: 10,
        long: Period { rotation: 1_000, kept: 10_000 },
        short: Period { rotation: 100, kept: 50 },
    };

    fn at(mut rings: Rings, now: i64) -> Rings {
        while let Some(stepped) = rings.step(now, &SCHEDULE, 0).unwrap() {
            rings = stepped;
        }
        rings
    }

    fn through(rings: Rings, from: i64, to: i64) -> Rings {
        (from..=to).step_by(10).fold(rings, at)
    }

    #[test]
    fn the_store_is_believed_where_it_is_newer() {
        let mut before = Rings::generate(0).unwrap();
        for now in (0..3_000).step_by(10) {
            while let Some(after) = before.step(now, &SCHEDULE, 0).unwrap() {
                assert_eq!(Rings::restored(&before, &after), after, "at {now}");
                before = after;
            }
        }
    }

    #[test]
    fn an_old_backup_loses_no_key_and_brings_none_back() {
        let backup = at(Rings::generate(0).unwrap(), 0);
        let mut live = through(backup.clone(), 0, 1_200);
        let revoked = live.long.active().unwrap().id().to_owned();
        live.revoke([revoked.as_str()]);
        let live = at(live, 1_210);
        let known = Rings::restored(&live, &backup);
        assert_eq!(known.revoked(), [revoked.as_str()]);
        assert_eq!(known.short.find(backup.short.keys[0].id()), None, "destroyed");
        let ids = |rings: &Rings| rings.keys().map(|key| key.id().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&known), ids(&live));
        for (known, live) in known.keys().zip(live.keys()) {
            assert_eq!(known.state(), unseen(live.state()), "the backup holds none of it");
        }
        assert_eq!(Rings::restored(&known, &backup), known, "once is enough");
    }

    #[test]
    fn what_a_backup_says_to_seal_is_retired_anew_from_when_the_store_says_so_again() {
        let backup = at(Rings::generate(0).unwrap(), 0);
        let live = through(backup.clone(), 0, 110);
        let old = live.short.keys[0].clone();
        assert_eq!(old.state(), KeyState::Retiring { retired_at: Some(100) });
        let state = |known: &Rings| known.short.find(old.id()).map(RingKey::state);
        let unseen = Some(KeyState::Retiring { retired_at: None });
        assert_eq!(state(&Rings::restored(&live, &backup)), unseen);
        assert_eq!(state(&Rings::restored(&live, &Rings::default())), unseen);
        assert_eq!(state(&Rings::restored(&live, &live)), Some(old.state()));
    }

    #[test]
    fn a_revoked_key_in_a_backup_takes_nothing_from_who_took_over() {
        let backup = Rings::generate(100).unwrap();
        let mut live = at(backup.clone(), 100);
        live.revoke([backup.long.keys[0].id()]);
        let live = live.completed(99).unwrap(); // by a clock that is behind
        let known = Rings::restored(&live, &backup);
        let active = backup.long.keys[1].id();
        assert_eq!(known.long.active().map(RingKey::id), Some(active));
    }

    #[test]
    fn no_revocation_is_pushed_out_while_a_backup_holds_the_key() {
        let strangers = |from: usize| (from..from + MAX_REVOKED).map(|n| format!("{n:08}"));
        let mut backup = Rings::generate(0).unwrap();
        let mut live = backup.clone();
        let revoked = live.long.keys[0].id().to_owned();
        live.revoke([revoked.as_str()]);
        live.revoke(strangers(1).skip(1).collect::<Vec<_>>().iter().map(String::as_str));
        assert_eq!(live.revoked().first(), Some(&revoked), "the next one pushes it out");
        backup.revoke(strangers(1_000).collect::<Vec<_>>().iter().map(String::as_str));
        let mut known = live.completed(0).unwrap();
        for _ in 0..3 {
            known = Rings::restored(&known, &backup);
            assert_eq!(known.long.find(&revoked), None);
            assert!(known.revoked().contains(&revoked));
            assert_eq!(known.revoked().len(), MAX_REVOKED);
        }
    }

    #[test]
    fn of_two_histories_the_newest_active_key_seals_and_every_other_opens() {
        let ours = through(Rings::generate(0).unwrap(), 0, 30);
        let theirs = through(Rings::generate(20).unwrap(), 20, 30);
        let known = Rings::restored(&ours, &theirs);
        for kind in RingKind::ALL {
            let ring = known.ring(kind);
            assert_eq!(ring.keys().len(), 4);
            assert_eq!(ring.active().map(RingKey::id), theirs.ring(kind).active().map(RingKey::id));
            let old = ring.find(ours.ring(kind).active().unwrap().id()).unwrap();
            assert_eq!(old.state(), KeyState::Retiring { retired_at: None });
            assert!(ring.keys().is_sorted_by_key(RingKey::created_at));
        }
        assert_eq!(at(known.clone(), 30).step(30, &SCHEDULE, 0).unwrap(), None, "it settles");
    }

    #[test]
    fn more_keys_than_fit_are_cut_from_the_oldest_retiring() {
        let grown = |from: i64| {
            let mut rings = Rings::generate(from).unwrap();
            for turn in 1..40 {
                while let Some(stepped) = rings.step(from + 10 * turn, &SCHEDULE, turn).unwrap() {
                    rings = stepped;
                }
            }
            rings
        };
        let (ours, theirs) = (grown(0), grown(5));
        let known = Rings::restored(&ours, &theirs);
        assert_eq!(known.long.keys().len(), MAX_KEYS);
        assert!(known.long.active().is_some());
    }

    #[test]
    fn a_secret_changed_by_hand_changes_nothing_for_who_remembers() {
        let ours = Rings::generate(0).unwrap();
        let mut edited = ours.clone();
        edited.long.keys[0].secret[0] ^= 1;
        assert_ne!(edited, ours);
        assert_eq!(Rings::restored(&ours, &edited), ours);
    }
}

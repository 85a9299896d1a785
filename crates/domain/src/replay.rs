//! What may be used once: the `jti` of assertions and proofs, for as long as they could be used again.
//!
//! What always holds: nothing that could still be used is forgotten; each owner has room of its own that no
//! other takes, and beyond it shares a common room of which none has more than a part; who has used up
//! both is told so, and nothing is admitted unseen. Memory is bounded by the number of owners, which are
//! clients that have proven themselves. Every replica remembers for itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;

/// Identifiers of one owner that have room whatever others do: five a second, of proofs that live as long as
/// they may. About 48 KB.
const OWN: usize = 1_024;
/// Most identifiers remembered for one owner: a client that proves itself 45 times a second, each time
/// with a proof that lives as long as it may.
const PER_OWNER: usize = 8_192;
/// Most identifiers remembered beyond what each owner has for its own: about 4 MB.
const COMMON: usize = 65_536;
/// Longest what is past stays in memory, in seconds, while anything is claimed at all.
const SWEEP_SECONDS: i64 = 60;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// It was not used before, and is now.
    First,
    /// It was used before.
    Again,
    /// There is no room to remember it.
    NoRoom,
}

/// Identifiers that were used, by owner.
#[derive(Debug)]
pub struct Replays {
    seen: Mutex<Seen>,
    room: Room,
}

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
struct Room {
    own: usize,
    per_owner: usize,
    common: usize,
}

#[derive(Debug, Default)]
struct Seen {
    /// By owner, each identifier and the last second it is remembered in.
    owners: HashMap<String, HashMap<[u8; 16], i64>>,
    /// Identifiers beyond what their owners have for their own.
    in_common: usize,
    /// When what is past was last forgotten: within one second nothing more is.
    swept_at: i64,
}

impl Default for Replays {
    fn default() -> Self {
        let room = Room { own: OWN, per_owner: PER_OWNER, common: COMMON };
        Self { seen: Mutex::default(), room }
    }
}

impl Replays {
    /// Uses an identifier up. It is remembered to the end of second `until`.
    pub fn claim(&self, owner: &str, id: &str, until: i64, now: i64) -> Claimed {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let id = shortened(id);
        if seen.owners.get(owner).and_then(|ids| ids.get(&id)).is_some_and(|until| *until >= now) {
            return Claimed::Again;
        }
        if seen.swept_at.saturating_add(SWEEP_SECONDS) <= now
            || (seen.swept_at < now && !seen.has_room(owner, self.room))
        {
            seen.sweep(now, self.room);
        }
        if !seen.has_room(owner, self.room) {
            return Claimed::NoRoom;
        }
        let ids = seen.owners.entry(owner.to_owned()).or_default();
        if ids.insert(id, until).is_none() && ids.len() > self.room.own {
            seen.in_common += 1;
        }
        Claimed::First
    }
}

impl Seen {
    fn has_room(&self, owner: &str, room: Room) -> bool {
        let of_owner = self.owners.get(owner).map_or(0, HashMap::len);
        of_owner < room.own || (of_owner < room.per_owner && self.in_common < room.common)
    }

    /// Forgets what is past.
    fn sweep(&mut self, now: i64, room: Room) {
        self.owners.retain(|_, ids| {
            ids.retain(|_, until| *until >= now);
            ids.shrink_to_fit();
            !ids.is_empty()
        });
        self.in_common = self.owners.values().map(|ids| ids.len().saturating_sub(room.own)).sum();
        self.swept_at = now;
    }
}

/// 128 bits of the identifier's hash: whoever finds two that agree has used up one of their own.
fn shortened(id: &str) -> [u8; 16] {
    let hash = digest::digest(&digest::SHA256, id.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_ref()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replays(own: usize, per_owner: usize, common: usize) -> Replays {
        Replays { room: Room { own, per_owner, common }, ..Replays::default() }
    }

    #[test]
    fn an_identifier_is_used_once_by_each_owner_until_it_is_forgotten() {
        let replays = Replays::default();
        assert_eq!(replays.claim("web", "a", 100, 50), Claimed::First);
        assert_eq!(replays.claim("web", "a", 160, 100), Claimed::Again);
        assert_eq!(replays.claim("web", "b", 100, 50), Claimed::First);
        assert_eq!(replays.claim("other", "a", 100, 50), Claimed::First);
        assert_eq!(replays.claim("web", "a", 200, 101), Claimed::First);
    }

    #[test]
    fn a_full_memory_admits_nothing_unseen_until_time_makes_room() {
        let replays = replays(1, 2, 1);
        for id in ["a", "b"] {
            assert_eq!(replays.claim("web", id, 100, 50), Claimed::First);
        }
        assert_eq!(replays.claim("web", "c", 100, 50), Claimed::NoRoom);
        assert_eq!(
            replays.claim("web", "a", 100, 50),
            Claimed::Again,
            "nothing was forgotten for it"
        );
        assert_eq!(replays.claim("web", "c", 300, 101), Claimed::First);
        let seen = replays.seen.lock().unwrap();
        assert_eq!(seen.owners["web"].len(), 1, "what is past is forgotten");
    }

    #[test]
    fn no_owners_flood_takes_the_room_of_another() {
        let replays = Replays::default();
        let flood = |owner: usize| {
            let claims =
                |n: &usize| replays.claim(&format!("flood {owner}"), &n.to_string(), 100, 50);
            (0..=PER_OWNER).map(|n| claims(&n)).filter(|claim| *claim == Claimed::First).count()
        };
        let admitted: Vec<usize> = (0..11).map(flood).collect();
        assert_eq!(admitted[0], PER_OWNER, "one has its part of the common room");
        assert_eq!(admitted[10], OWN, "the common room is used up, its own is not");
        assert_eq!(admitted.iter().sum::<usize>(), COMMON + 11 * OWN);
        for n in 0..OWN {
            assert_eq!(replays.claim("honest", &n.to_string(), 100, 50), Claimed::First, "{n}");
        }
        assert_eq!(replays.claim("honest", "one more", 100, 50), Claimed::NoRoom);
        assert_eq!(replays.claim("flood 0", "0", 100, 50), Claimed::Again);
    }

    #[test]
    fn what_owners_that_are_gone_used_is_forgotten_too() {
        let replays = Replays::default();
        assert_eq!(replays.claim("gone", "a", 100, 50), Claimed::First);
        assert_eq!(replays.claim("web", "a", 300, 120), Claimed::First);
        assert_eq!(replays.seen.lock().unwrap().owners.len(), 1);
    }
}

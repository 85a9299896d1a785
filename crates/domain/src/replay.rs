//! What may be used once: the `jti` of assertions and proofs, for as long as they could be used again.
//!
//! What always holds: memory is bounded, for each owner and for all; when there is no room the caller is
//! told so and nothing is admitted unseen; no owner has more than its share, though
//! all together have a limit too. Every replica remembers for itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;

/// Most identifiers remembered for one owner: a client that proves itself 45 times a second, each time
/// with a proof that lives as long as it may.
const PER_OWNER: usize = 8_192;
/// Most identifiers remembered: about 4 MB.
const TOTAL: usize = 65_536;

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
    seen: Mutex<HashMap<String, HashMap<[u8; 16], i64>>>,
    per_owner: usize,
    total: usize,
}

impl Default for Replays {
    fn default() -> Self {
        Self { seen: Mutex::default(), per_owner: PER_OWNER, total: TOTAL }
    }
}

impl Replays {
    /// Uses an identifier up. It is remembered to the end of second `until`.
    pub fn claim(&self, owner: &str, id: &str, until: i64, now: i64) -> Claimed {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let id = shortened(id);
        let of_owner = seen.get(owner);
        if of_owner.and_then(|ids| ids.get(&id)).is_some_and(|until| *until >= now) {
            return Claimed::Again;
        }
        if of_owner.map_or(0, HashMap::len) >= self.per_owner
            || seen.values().map(HashMap::len).sum::<usize>() >= self.total
        {
            seen.retain(|_, ids| {
                ids.retain(|_, until| *until >= now);
                ids.shrink_to_fit();
                !ids.is_empty()
            });
        }
        let total: usize = seen.values().map(HashMap::len).sum();
        let ids = seen.entry(owner.to_owned()).or_default();
        if ids.len() >= self.per_owner || total >= self.total {
            return Claimed::NoRoom;
        }
        ids.insert(id, until);
        Claimed::First
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
        let replays = Replays { per_owner: 2, total: 3, ..Replays::default() };
        for id in ["a", "b"] {
            assert_eq!(replays.claim("web", id, 100, 50), Claimed::First);
        }
        assert_eq!(replays.claim("web", "c", 100, 50), Claimed::NoRoom);
        assert_eq!(replays.claim("other", "c", 300, 50), Claimed::First, "others have their own");
        assert_eq!(replays.claim("third", "c", 100, 50), Claimed::NoRoom);
        assert_eq!(replays.claim("web", "a", 100, 50), Claimed::Again);
        assert_eq!(replays.claim("third", "c", 300, 101), Claimed::First);
        assert_eq!(replays.seen.lock().unwrap().len(), 2, "what is past is forgotten");
    }
}

//! What was read of objects before: reading is done once for each of their generations.

use std::collections::HashMap;

/// What came of reading objects, by their UID and by what it was read of (`K`: their generation above all).
#[derive(Debug)]
pub struct ReadBefore<K, T> {
    before: HashMap<String, (K, T)>,
    now: HashMap<String, (K, T)>,
}

impl<K, T> Default for ReadBefore<K, T> {
    fn default() -> Self {
        Self { before: HashMap::new(), now: HashMap::new() }
    }
}

impl<K: PartialEq, T: Clone> ReadBefore<K, T> {
    /// Begins an assessment: what is not read in it is forgotten with the next.
    pub fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// What was read of this before, or is read now.
    pub fn get(&mut self, uid: Option<String>, of: K, read: impl FnOnce() -> T) -> T {
        let uid = uid.unwrap_or_default();
        let known = self.before.remove(&uid).filter(|(known, _)| *known == of);
        let read = known.map_or_else(read, |(_, read)| read);
        self.now.insert(uid, (of, read.clone()));
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_again_when_it_changes_or_was_away() {
        let mut memo = ReadBefore::default();
        let mut readings = 0;
        let mut get = |memo: &mut ReadBefore<i64, i64>, uid: &str, generation| {
            memo.get(Some(uid.to_owned()), generation, || {
                readings += 1;
                readings
            })
        };
        assert_eq!((get(&mut memo, "a", 1), get(&mut memo, "b", 1)), (1, 2));
        memo.turn();
        assert_eq!(get(&mut memo, "a", 1), 1, "as it was");
        memo.turn();
        assert_eq!((get(&mut memo, "a", 2), get(&mut memo, "b", 1)), (3, 4));
    }
}

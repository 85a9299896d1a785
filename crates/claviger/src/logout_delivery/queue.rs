//! Which delivery is next: pure, told what time it is.
//!
//! What always holds: a session has one delivery under way at most; a client that does not answer is asked by few at
//! once and ever more rarely, and keeps no other client waiting; what one session's delivery does wrong costs the
//! other sessions of its client nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Sessions remembered at once; the others stay marked and are found by the next look.
pub const MAX_REMEMBERED: usize = 20_000;
/// Deliveries under way to one client.
const PER_CLIENT: usize = 2;
/// Wait after a first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// What is to be delivered.
#[derive(Debug, Default)]
pub struct Queue {
    sessions: BTreeMap<String, Waiting>,
    clients: BTreeMap<String, Client>,
    /// Whether some found no room.
    overflowed: bool,
}

#[derive(Debug)]
struct Waiting {
    client: String,
    since: i64,
    failures: u32,
    not_before: Instant,
    under_way: bool,
}

#[derive(Debug, Default)]
struct Client {
    under_way: usize,
    failures: u32,
    not_before: Option<Instant>,
}

/// One delivery to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Name of the session.
    pub session: String,
    /// When it was marked, in seconds since the epoch.
    pub since: i64,
}

/// What came of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do about the session, and its client answers.
    Settled,
    /// To be tried again: the client did not answer as it should.
    ClientFailed,
    /// To be tried again: it is nothing that the client did.
    Failed,
}

impl Queue {
    /// Takes note of a marked session.
    pub fn mark(&mut self, session: &str, client: &str, (since, now): (i64, Instant)) {
        if self.sessions.contains_key(session) {
            return;
        }
        if self.sessions.len() >= MAX_REMEMBERED {
            self.overflowed = true;
            return;
        }
        let waiting = Waiting {
            client: client.to_owned(),
            since,
            failures: 0,
            not_before: now,
            under_way: false,
        };
        self.sessions.insert(session.to_owned(), waiting);
    }

    /// Forgets a session that is not marked any more. One that is under way is forgotten when it comes back.
    pub fn forget(&mut self, session: &str) {
        if self.sessions.get(session).is_some_and(|waiting| !waiting.under_way) {
            self.sessions.remove(session);
        }
    }

    /// How many sessions wait.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether all that found room are done and others found none: look again. Asked once.
    pub fn must_look_again(&mut self) -> bool {
        self.sessions.is_empty() && std::mem::take(&mut self.overflowed)
    }

    /// The delivery to make now, if any: of those that are due, the one that failed least and waits longest.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        let due = |waiting: &Waiting| {
            !waiting.under_way && waiting.not_before <= now && self.may_ask(&waiting.client, now)
        };
        let ready = self.sessions.iter().filter(|(_, waiting)| due(waiting));
        let (session, _) = ready.min_by_key(|(_, waiting)| (waiting.failures, waiting.since))?;
        let session = session.clone();
        let waiting = self.sessions.get_mut(&session)?;
        waiting.under_way = true;
        self.clients.entry(waiting.client.clone()).or_default().under_way += 1;
        Some(Job { session, since: waiting.since })
    }

    fn may_ask(&self, client: &str, now: Instant) -> bool {
        self.clients.get(client).is_none_or(|client| {
            // One that failed is asked by one at a time, until it answers.
            let room = if client.failures > 0 { 1 } else { PER_CLIENT };
            client.under_way < room && client.not_before.is_none_or(|at| at <= now)
        })
    }

    /// When [`next`](Self::next) may have something that it has not now, if only time passes.
    pub fn wakes(&self, now: Instant) -> Option<Instant> {
        let waiting = self.sessions.values().filter(|waiting| !waiting.under_way);
        let at = waiting.map(|waiting| {
            let client = self.clients.get(&waiting.client).and_then(|client| client.not_before);
            client.map_or(waiting.not_before, |client| client.max(waiting.not_before))
        });
        at.filter(|at| *at > now).min()
    }

    /// A delivery came back. `jitter` is from 0 to 1, by chance.
    pub fn came_back(&mut self, session: &str, outcome: Outcome, (now, jitter): (Instant, f64)) {
        let Some(waiting) = self.sessions.get_mut(session) else { return };
        waiting.under_way = false;
        let name = waiting.client.clone();
        let client = self.clients.entry(name.clone()).or_default();
        client.under_way = client.under_way.saturating_sub(1);
        match outcome {
            Outcome::Settled => {
                (client.failures, client.not_before) = (0, None);
                self.sessions.remove(session);
            }
            Outcome::ClientFailed | Outcome::Failed => {
                waiting.failures += 1;
                waiting.not_before = now + pause(waiting.failures, jitter);
                if outcome == Outcome::ClientFailed {
                    client.failures += 1;
                    client.not_before = Some(now + pause(client.failures, jitter));
                }
            }
        }
        let idle = |client: &Client| client.under_way == 0 && client.failures == 0;
        if self.clients.get(&name).is_some_and(idle) {
            self.clients.remove(&name);
        }
    }
}

/// Exponential, and shortened by up to a half, so that what failed together is not tried together.
fn pause(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT);
    whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.next(now)).map(|job| job.session).collect()
    }

    #[test]
    fn a_session_is_under_way_once_and_a_client_a_few_times() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for session in ["a", "b", "c", "a"] {
            queue.mark(session, "one", (1, now));
        }
        queue.mark("d", "two", (9, now));
        assert_eq!(names(&mut queue, now), ["a", "b", "d"]);
        queue.came_back("a", Outcome::Settled, (now, 0.0));
        assert_eq!(names(&mut queue, now), ["c"]);
        assert_eq!(queue.len(), 3);
    }

    #[test]
    fn a_client_that_fails_is_asked_ever_more_rarely_and_holds_up_no_other() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for at in 0..10 {
            queue.mark(&format!("down-{at}"), "down", (at, start));
        }
        queue.mark("up", "up", (99, start));
        let mut now = start;
        let mut waits = Vec::new();
        assert_eq!(names(&mut queue, now), ["down-0", "down-1", "up"]);
        queue.came_back("down-1", Outcome::ClientFailed, (now, 0.0));
        queue.came_back("up", Outcome::Settled, (now, 0.0));
        queue.came_back("down-0", Outcome::ClientFailed, (now, 0.0));
        for _ in 0..12 {
            assert!(queue.next(now).is_none());
            let wakes = queue.wakes(now).unwrap();
            waits.push((wakes - now).as_secs());
            now = wakes;
            let tried = names(&mut queue, now);
            assert_eq!(tried.len(), 1, "one at a time: {tried:?}");
            queue.came_back(&tried[0], Outcome::ClientFailed, (now, 0.0));
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
        now += LONGEST_WAIT;
        let recovered = names(&mut queue, now).remove(0);
        queue.came_back(&recovered, Outcome::Settled, (now, 0.0));
        assert_eq!(names(&mut queue, now).len(), PER_CLIENT, "it answers again");
    }

    #[test]
    fn what_is_no_fault_of_the_client_holds_up_none_of_its_other_sessions() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark("poisoned", "one", (1, now));
        assert_eq!(names(&mut queue, now), ["poisoned"]);
        queue.came_back("poisoned", Outcome::Failed, (now, 0.0));
        queue.mark("sound", "one", (2, now));
        assert_eq!(names(&mut queue, now), ["sound"]);
        queue.came_back("sound", Outcome::Settled, (now, 0.0));
        assert!(names(&mut queue, now).is_empty(), "not at once");
        assert_eq!(names(&mut queue, now + FIRST_WAIT), ["poisoned"]);
    }

    #[test]
    fn chance_shortens_a_wait_by_up_to_a_half() {
        assert_eq!(pause(3, 0.0), Duration::from_secs(4));
        assert_eq!(pause(3, 1.0), Duration::from_secs(2));
        assert_eq!(pause(u32::MAX, 0.0), LONGEST_WAIT);
    }

    #[test]
    fn what_finds_no_room_is_looked_for_when_there_is_some() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for at in 0..=MAX_REMEMBERED {
            queue.mark(&at.to_string(), &at.to_string(), (0, now));
        }
        assert_eq!(queue.len(), MAX_REMEMBERED);
        assert!(!queue.must_look_again());
        queue.sessions.clear();
        assert!(queue.must_look_again() && !queue.must_look_again());
    }

    #[test]
    fn one_that_is_told_by_somebody_else_is_forgotten() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark("a", "one", (1, now));
        queue.forget("a");
        assert!(queue.next(now).is_none());
        queue.mark("b", "one", (1, now));
        assert_eq!(names(&mut queue, now), ["b"]);
        queue.forget("b");
        queue.came_back("b", Outcome::Settled, (now, 0.0));
        assert_eq!(queue.len(), 0);
    }
}

//! Which delivery is next: pure, told what time it is.
//!
//! What always holds: a session has one delivery under way at most; a client that does not answer is asked by few at
//! once and ever more rarely, and keeps no other client waiting; what one session's delivery does wrong costs the
//! other sessions of its client nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Sessions remembered at once; the others stay marked and are found by a later look.
pub const MAX_REMEMBERED: usize = 50_000;
/// Of these, sessions of one client: one that never answers leaves the others their room.
pub const MAX_OF_CLIENT: usize = 1_000;
/// Shortest time between two looks for those that found no room.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Deliveries under way to one client.
const PER_CLIENT: usize = 2;
/// Wait after a first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// What is to be delivered. No call looks at all that waits.
#[derive(Debug, Default)]
pub struct Queue {
    sessions: BTreeMap<String, Waiting>,
    clients: BTreeMap<String, Client>,
    /// Of each client that may be asked, the session that is next.
    heads: BTreeSet<Rank>,
    /// Clients that have something to be told later, and when.
    resting: BTreeSet<(Instant, String)>,
    /// Clients of which some sessions found no room.
    turned_away: BTreeSet<String>,
    looked: Option<Instant>,
}

/// What goes first: the session that failed least, then the one that waits longest; its name.
type Rank = (u32, i64, String);

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
    sessions: usize,
    under_way: usize,
    failures: u32,
    not_before: Option<Instant>,
    ready: BTreeSet<Rank>,
    asleep: BTreeSet<(Instant, String)>,
    place: Place,
}

/// Where the queue finds a client.
#[derive(Debug, Default)]
enum Place {
    /// Nowhere: it has nothing to be told, or is being told all it may be at once.
    #[default]
    Nowhere,
    Head(Rank),
    Resting(Instant),
}

impl Waiting {
    fn rank(&self, session: &str) -> Rank {
        (self.failures, self.since, session.to_owned())
    }
}

impl Client {
    /// Where it is to be found, by what it has.
    fn place(&self) -> Place {
        // One that failed is asked by one at a time, until it answers.
        let room = if self.failures > 0 { 1 } else { PER_CLIENT };
        if self.under_way >= room {
            return Place::Nowhere;
        }
        let Some(first) = self.ready.first() else {
            let wakes =
                self.asleep.first().map(|(at, _)| self.not_before.map_or(*at, |b| b.max(*at)));
            return wakes.map_or(Place::Nowhere, Place::Resting);
        };
        self.not_before.map_or_else(|| Place::Head(first.clone()), Place::Resting)
    }
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
    /// Takes note of a marked session, to be delivered from `not_before` on.
    pub fn mark(&mut self, session: &str, client: &str, (since, not_before): (i64, Instant)) {
        if self.sessions.contains_key(session) {
            return;
        }
        let of_client = self.clients.get(client).map_or(0, |known| known.sessions);
        if self.sessions.len() >= MAX_REMEMBERED || of_client >= MAX_OF_CLIENT {
            self.turned_away.insert(client.to_owned());
            return;
        }
        let (client, failures, under_way) = (client.to_owned(), 0, false);
        let known = self.clients.entry(client.clone()).or_default();
        known.sessions += 1;
        known.asleep.insert((not_before, session.to_owned()));
        let waiting = Waiting { client: client.clone(), since, failures, not_before, under_way };
        self.sessions.insert(session.to_owned(), waiting);
        self.settle(&client);
    }

    /// Forgets a session that is not marked any more. One that is under way is forgotten when it comes back.
    pub fn forget(&mut self, session: &str) {
        if self.sessions.get(session).is_some_and(|waiting| !waiting.under_way) {
            self.remove(session);
        }
    }

    fn remove(&mut self, session: &str) {
        let Some(waiting) = self.sessions.remove(session) else { return };
        if let Some(client) = self.clients.get_mut(&waiting.client) {
            client.sessions = client.sessions.saturating_sub(1);
            client.ready.remove(&waiting.rank(session));
            client.asleep.remove(&(waiting.not_before, session.to_owned()));
        }
        self.settle(&waiting.client);
    }

    /// How many sessions wait.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether a client that found no room for some has room now: look again. Asked once.
    pub fn must_look_again(&mut self, now: Instant) -> bool {
        let too_soon = self.looked.is_some_and(|looked| now < looked + LOOK_AGAIN);
        if too_soon || self.sessions.len() >= MAX_REMEMBERED {
            return false;
        }
        let has_room = |client: &String| {
            self.clients.get(client).is_none_or(|known| known.sessions <= MAX_OF_CLIENT / 2)
        };
        if !self.turned_away.iter().any(has_room) {
            return false;
        }
        self.turned_away.clear();
        self.looked = Some(now);
        true
    }

    /// The delivery to make now, if any: of those that are due, the one that failed least and waits longest.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        while let Some((at, client)) = self.resting.first()
            && *at <= now
        {
            let client = client.clone();
            self.wake(&client, now);
        }
        let (_, since, session) = self.heads.first()?.clone();
        let waiting = self.sessions.get_mut(&session)?;
        waiting.under_way = true;
        let (rank, name) = (waiting.rank(&session), waiting.client.clone());
        if let Some(client) = self.clients.get_mut(&name) {
            client.ready.remove(&rank);
            client.under_way += 1;
        }
        self.wake(&name, now);
        Some(Job { session, since })
    }

    /// Makes ready what a client has due by now.
    fn wake(&mut self, name: &str, now: Instant) {
        let Some(client) = self.clients.get_mut(name) else { return };
        client.not_before = client.not_before.filter(|at| *at > now);
        while let Some((at, _)) = client.asleep.first()
            && *at <= now
            && let Some((_, session)) = client.asleep.pop_first()
        {
            if let Some(waiting) = self.sessions.get(&session) {
                client.ready.insert(waiting.rank(&session));
            }
        }
        self.settle(name);
    }

    /// Puts a client where it is to be found now; forgets one that is idle.
    fn settle(&mut self, name: &str) {
        let Some(client) = self.clients.get_mut(name) else { return };
        match std::mem::take(&mut client.place) {
            Place::Nowhere => {}
            Place::Head(rank) => {
                self.heads.remove(&rank);
            }
            Place::Resting(at) => {
                self.resting.remove(&(at, name.to_owned()));
            }
        }
        client.place = client.place();
        match &client.place {
            Place::Nowhere => {}
            Place::Head(rank) => {
                self.heads.insert(rank.clone());
            }
            Place::Resting(at) => {
                self.resting.insert((*at, name.to_owned()));
            }
        }
        if client.sessions == 0 && client.under_way == 0 && client.failures == 0 {
            self.clients.remove(name);
        }
    }

    /// When [`next`](Self::next) may have something that it has not now, if only time passes.
    pub fn wakes(&self, now: Instant) -> Option<Instant> {
        let later = (now + Duration::from_nanos(1), String::new());
        self.resting.range(later..).next().map(|(at, _)| *at)
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
                self.remove(session);
            }
            Outcome::ClientFailed | Outcome::Failed => {
                waiting.failures += 1;
                waiting.not_before = now + pause(waiting.failures, jitter);
                client.asleep.insert((waiting.not_before, session.to_owned()));
                if outcome == Outcome::ClientFailed {
                    client.failures += 1;
                    client.not_before = Some(now + pause(client.failures, jitter));
                }
                self.settle(&name);
            }
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
    fn a_client_that_never_answers_leaves_the_others_their_room() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for at in 0..=MAX_REMEMBERED {
            queue.mark(&format!("down-{at}"), "down", (0, now));
        }
        assert_eq!(queue.len(), MAX_OF_CLIENT);
        for session in names(&mut queue, now) {
            queue.came_back(&session, Outcome::ClientFailed, (now, 0.0));
        }
        queue.mark("up", "up", (99, now));
        assert_eq!(names(&mut queue, now), ["up"]);
        assert!(!queue.must_look_again(now), "there is no room for more of it");
    }

    #[test]
    fn what_finds_no_room_is_looked_for_when_there_is_some() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for at in 0..=MAX_REMEMBERED {
            queue.mark(&at.to_string(), &at.to_string(), (0, now));
        }
        assert_eq!(queue.len(), MAX_REMEMBERED);
        assert!(!queue.must_look_again(now));
        queue.forget("7");
        assert!(queue.must_look_again(now) && !queue.must_look_again(now));

        for at in 0..=MAX_OF_CLIENT {
            queue.forget(&at.to_string());
        }
        for at in 0..=MAX_OF_CLIENT {
            queue.mark(&format!("many-{at}"), "many", (0, now));
        }
        for at in 0..MAX_OF_CLIENT / 2 {
            assert!(!queue.must_look_again(now + LOOK_AGAIN), "{at}");
            queue.forget(&format!("many-{at}"));
        }
        assert!(!queue.must_look_again(now), "not all the time");
        assert!(queue.must_look_again(now + LOOK_AGAIN));
    }

    #[test]
    fn what_failed_is_not_kept_waiting_for_ever_by_what_is_new() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.mark("failed", "one", (0, now));
        names(&mut queue, now);
        queue.came_back("failed", Outcome::Failed, (now, 0.0));
        queue.mark("new", "one", (9, now));
        now += FIRST_WAIT;
        assert_eq!(names(&mut queue, now), ["new", "failed"]);
    }

    #[test]
    fn what_is_to_wait_a_little_does() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark("browser", "", (0, now + FIRST_WAIT));
        assert_eq!((queue.next(now), queue.wakes(now)), (None, Some(now + FIRST_WAIT)));
        queue.forget("browser");
        assert_eq!((queue.next(now + FIRST_WAIT), queue.wakes(now)), (None, None));
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

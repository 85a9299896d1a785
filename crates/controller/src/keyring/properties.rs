//! Whatever happens to a ring, in whatever order: what always holds of the keys that sign.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::moment::Moment;

const LEAD: i64 = 270;

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes.
    Wait(i64),
    /// `rotationRequest` is raised.
    Ask,
    /// The key at this place is revoked.
    Revoke(usize),
    /// Another algorithm is asked for.
    Algorithm(Algorithm),
    /// Clients get longer or shorter tokens.
    Lifetime(i64),
    /// Another period and overlap.
    Schedule(i64, i64),
    /// The leader dies before its write, and its work is lost.
    Crash,
    /// The copy of the store made at this point in time is put back.
    Restore(usize),
    /// The Secret is deleted.
    Delete,
    /// A ring of somebody else's making is put in place.
    Replace,
}

fn step() -> impl Strategy<Value = Step> {
    let algorithms = prop_oneof![Just(Algorithm::RS256), Just(Algorithm::ES256)];
    prop_oneof![
        6 => (1_i64..2_000).prop_map(Step::Wait),
        1 => (2_000_i64..200_000).prop_map(Step::Wait),
        2 => Just(Step::Ask),
        1 => (0_usize..8).prop_map(Step::Revoke),
        1 => algorithms.prop_map(Step::Algorithm),
        1 => (60_i64..86_400).prop_map(Step::Lifetime),
        1 => (600_i64..100_000, 0_i64..100_000).prop_map(|(p, o)| Step::Schedule(p, o.min(p))),
        1 => Just(Step::Crash),
        1 => (0_usize..64).prop_map(Step::Restore),
        1 => Just(Step::Delete),
        1 => Just(Step::Replace),
    ]
}

/// A store, a leader that remembers what it read, and what the world has seen of each key.
struct Model {
    now: i64,
    policy: Policy,
    store: Option<Ring>,
    memory: Known,
    known: Ring,
    backups: Vec<Ring>,
    made: usize,
    /// Since when each key has been in the JWKS without a gap.
    in_jwks: BTreeMap<String, i64>,
    /// Whether this replica says which key signs, and so must know what others that start now see.
    leads: bool,
    /// Since when each key has been in the store without a gap, when there was something.
    in_store: BTreeMap<String, i64>,
    /// Until when a token of each key may live.
    alive: BTreeMap<String, i64>,
    signed_last: Option<String>,
}

impl Model {
    fn new() -> Self {
        let policy = Policy {
            algorithm: Algorithm::RS256,
            rotation_period: 3_600,
            rotation_request: 0,
            longest_token_seconds: 600,
            overlap: 0,
            lead: LEAD,
            revoked: BTreeSet::new(),
        };
        let mut model = Self {
            now: 1_000_000,
            policy,
            store: None,
            memory: Known::default(),
            known: Ring::default(),
            backups: Vec::new(),
            made: 0,
            in_jwks: BTreeMap::new(),
            leads: true,
            in_store: BTreeMap::new(),
            alive: BTreeMap::new(),
            signed_last: None,
        };
        model.settle();
        model
    }

    fn key(&mut self) -> RingKey {
        self.made += 1;
        let kid = format!("key-{}", self.made);
        RingKey::pending(kid, self.policy.algorithm, "pem".into(), self.now)
    }

    /// What every replica does: takes the store's ring in, or withstands it.
    fn read(&mut self) -> bool {
        self.memory.withdraw(&self.policy.revoked);
        let Some(stored) = &self.store else { return false };
        let (known, intact) = self.memory.read(stored, Moment::at(self.now), LEAD);
        self.known = known;
        intact
    }

    /// What the leader makes of it; `None` if there is nothing to write.
    fn write(&mut self) -> Option<Ring> {
        let intact = self.read();
        let mut ring = self.known.clone();
        if intact {
            ring.confirm(self.now);
        }
        while ring.step(self.now, &self.policy).needs_key {
            let key = self.key();
            ring.keys.push(key);
        }
        if intact && ring.says_the_same_as(&self.known) {
            return None;
        }
        ring.revision += 1;
        if ring.lineage.is_empty() {
            ring.lineage.clone_from(&ring.keys[0].kid);
        }
        Some(ring)
    }

    /// Reconciles until nothing is left to write.
    fn settle(&mut self) {
        for _ in 0..6 {
            match self.write() {
                Some(ring) => self.store = Some(ring),
                None => return,
            }
            self.read();
            self.sign();
        }
        panic!("the leader never comes to an end: {:?}", self.known);
    }

    /// Somebody signs in at a replica that has read the store, and everybody looks at the JWKS.
    fn sign(&mut self) {
        self.read();
        let revoked = &self.policy.revoked;
        let public: BTreeSet<String> =
            self.known.public(revoked, self.now).map(|key| key.kid.clone()).collect();
        assert!(public.is_disjoint(revoked), "a revoked key is in the JWKS");
        assert!(self.known.keys.len() <= MOST_KEYS, "{} keys", self.known.keys.len());
        let active = self.known.keys.iter().filter(|k| matches!(k.stage, Stage::Active { .. }));
        assert!(active.count() <= 1, "two keys are active");
        self.in_jwks.retain(|kid, _| public.contains(kid));
        for kid in &public {
            self.in_jwks.entry(kid.clone()).or_insert(self.now);
        }
        if let Some(stored) = &self.store {
            self.in_store.retain(|kid, _| stored.has(kid));
            for key in &stored.keys {
                self.in_store.entry(key.kid.clone()).or_insert(self.now);
            }
        }
        for (kid, until) in &self.alive {
            let needed = self.now < until + LEAD && !revoked.contains(kid);
            assert!(!needed || public.contains(kid), "{kid} left before its last token");
        }
        let Some(kid) = self.known.signing(revoked).map(|key| key.kid.clone()) else { return };
        assert!(public.contains(&kid), "signed by a key that is not in the JWKS");
        let stored_at = self.in_store.get(&kid).copied().unwrap_or(self.now);
        let stored_at = if self.leads { stored_at } else { i64::MIN };
        let known_for = self.now - self.in_jwks[&kid].max(stored_at);
        let before = self.signed_last.replace(kid.clone());
        let in_emergency = before.as_ref().is_none_or(|before| revoked.contains(before));
        assert!(
            before.as_ref() == Some(&kid) || in_emergency || known_for >= LEAD,
            "{kid} signs after {known_for} s in store and JWKS"
        );
        let until = self.now + self.policy.longest_token_seconds;
        let alive = self.alive.entry(kid).or_insert(until);
        *alive = until.max(*alive);
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Wait(seconds) => self.now += seconds,
            Step::Ask => self.policy.rotation_request += 1,
            Step::Revoke(at) => {
                let kid = self.known.keys.get(at).map(|key| key.kid.clone());
                self.policy.revoked.extend(kid);
            }
            Step::Algorithm(algorithm) => self.policy.algorithm = algorithm,
            Step::Lifetime(seconds) => self.policy.longest_token_seconds = seconds,
            Step::Schedule(period, overlap) => {
                self.policy.rotation_period = period;
                self.policy.overlap = overlap;
            }
            Step::Crash => {
                self.write();
            }
            Step::Restore(at) => {
                let backup = at.checked_rem(self.backups.len()).map(|at| self.backups[at].clone());
                self.store = backup.or(self.store.take());
            }
            Step::Delete => self.store = None,
            Step::Replace => {
                let mut other = Ring { revision: 99, ..Ring::default() };
                while other.step(self.now, &self.policy).needs_key {
                    let key = self.key();
                    other.keys.push(key);
                }
                other.lineage.clone_from(&other.keys[0].kid);
                self.store = Some(other);
            }
        }
        // Before the leader has done anything, every replica serves what it has read.
        self.sign();
        self.settle();
        self.sign();
        self.backups.extend(self.store.clone());
    }
}

/// A leader that knows nothing took a backup; this replica knows better, and does not lead.
struct Split {
    ours: Model,
    leader: Known,
    alive_of_leader: BTreeMap<String, i64>,
}

impl Split {
    fn new(mut ours: Model, backup: usize) -> Self {
        ours.leads = false;
        ours.store = Some(ours.backups[backup % ours.backups.len()].clone());
        Self { ours, leader: Known::default(), alive_of_leader: BTreeMap::new() }
    }

    /// The leader brings the store to what it believes in, and signs; so does this replica.
    fn turn(&mut self) {
        // This replica may see the backup before the leader has made anything of it.
        self.check();
        for _ in 0..6 {
            let at = Moment::at(self.ours.now);
            let stored = self.ours.store.clone().unwrap();
            self.leader.withdraw(&self.ours.policy.revoked);
            let (read, intact) = self.leader.read(&stored, at, LEAD);
            let mut ring = read.clone();
            if intact {
                ring.confirm(at.now);
            }
            while ring.step(at.now, &self.ours.policy).needs_key {
                let key = self.ours.key();
                ring.keys.push(key);
            }
            let settled = intact && ring.says_the_same_as(&read);
            if !settled {
                ring.revision += 1;
                self.ours.store = Some(ring.clone());
            }
            let signs = ring.signing(&self.ours.policy.revoked).unwrap().kid.clone();
            let until = at.now + self.ours.policy.longest_token_seconds;
            self.alive_of_leader.insert(signs, until);
            self.check();
            if settled {
                return;
            }
        }
        panic!("the leader never comes to an end");
    }

    fn check(&mut self) {
        self.ours.sign();
        let revoked = &self.ours.policy.revoked;
        let public: BTreeSet<&str> =
            self.ours.known.public(revoked, self.ours.now).map(|key| key.kid.as_str()).collect();
        for (kid, until) in &self.alive_of_leader {
            let needed = self.ours.now < *until && !revoked.contains(kid);
            assert!(!needed || public.contains(kid.as_str()), "the leader's {kid} is unknown here");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nobody_meets_a_key_they_cannot_know(steps in vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(&step);
        }
    }

    #[test]
    fn a_ring_never_outgrows_its_limit_whatever_is_asked_of_it(
        waits in vec(LEAD..2_000, 40..80),
        overlap in 0_i64..10_000_000,
    ) {
        let mut model = Model::new();
        model.apply(&Step::Schedule(overlap, overlap));
        for wait in waits {
            model.apply(&Step::Ask);
            model.apply(&Step::Wait(wait));
            prop_assert!(model.known.keys.len() <= MOST_KEYS);
        }
    }

    #[test]
    fn a_rotation_that_was_asked_for_comes_and_is_the_only_one(waits in vec(1_i64..4_000, 1..30)) {
        let mut model = Model::new();
        let first = model.signed_last.clone();
        model.apply(&Step::Ask);
        let due = model.known.rotation_due(&model.policy).expect("a rotation is due");
        for wait in waits {
            model.now += wait.min(due - model.now - 1).max(0);
            model.settle();
            model.sign();
        }
        prop_assert_eq!(&model.signed_last, &first);
        model.now = due;
        model.settle();
        model.sign();
        prop_assert_ne!(&model.signed_last, &first);
        prop_assert_eq!(model.known.rotation_request, 1);
    }

    #[test]
    fn a_leader_without_memory_takes_no_key_in_use_out_of_anybodys_jwks(
        steps in vec(step(), 1..10),
        backup in 0_usize..64,
        waits in vec((1_i64..120, any::<bool>()), 10..40),
    ) {
        let mut ours = Model::new();
        for step in steps {
            ours.apply(&step);
        }
        let mut split = Split::new(ours, backup);
        split.turn();
        for (wait, asked) in waits {
            split.ours.policy.rotation_request += i32::from(asked);
            split.ours.now += wait;
            split.turn();
        }
        split.ours.now += LEAD;
        split.turn();
        let signs = |ring: &Ring| ring.signing(&split.ours.policy.revoked).map(|key| key.kid.clone());
        let leaders = split.ours.store.as_ref().and_then(signs);
        prop_assert_eq!(signs(&split.ours.known), leaders, "in the end all sign by the same");
    }
}

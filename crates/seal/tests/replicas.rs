//! Three replicas with clocks that differ, a leader that may crash, a store that is deleted, broken and
//! restored from backups, an administrator who rotates and revokes; all of it at random.
//!
//! What must hold at every moment: what any replica sealed opens on every other until it is past,
//! unless its key was revoked; no ring outgrows its bound; a key that is destroyed is nowhere.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_seal::{Context, KeyRing, MAX_KEYS, Period, Purpose, RingKind, Rings, Schedule};
use proptest::prelude::*;

const CONTEXT: Context<'_> = Context { issuer_uid: "issuer", object_name: None, client_uid: None };
/// Longest a replica does without reading.
const STALENESS: i64 = 30;
/// Most that two clocks differ.
const SKEW: i64 = 10;
const OFFSETS: [i64; 3] = [-SKEW / 2, 0, SKEW / 2];
const LEAD: i64 = STALENESS + SKEW;
const LONGEST: [(Purpose, i64); 2] = [(Purpose::SessionPayload, 2_000), (Purpose::Flow, 60)];
const SCHEDULE: Schedule = Schedule {
    lead: LEAD,
    long: Period { rotation: 400, kept: LONGEST[0].1 + LEAD + SKEW },
    short: Period { rotation: 100, kept: LONGEST[1].1 + LEAD + SKEW },
};

#[derive(Debug, Clone)]
enum Act {
    /// Time goes by, in which nobody but who must does anything.
    Wait(i64),
    Read(usize),
    /// The leader decides what to write, by what it reads.
    Decide,
    /// What was decided is written, if nothing else was since.
    Write,
    /// The leader is gone with what it decided; another leads.
    Crash(usize),
    /// A replica that remembers nothing starts, while the store holds what the last leader wrote.
    Restart(usize),
    Rotate,
    Revoke(prop::sample::Index),
    Delete,
    Break,
    Backup(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1..40_i64).prop_map(Act::Wait),
        4 => (0..3_usize).prop_map(Act::Read),
        8 => Just(Act::Decide),
        8 => Just(Act::Write),
        1 => (0..3_usize).prop_map(Act::Crash),
        1 => (0..3_usize).prop_map(Act::Restart),
        1 => Just(Act::Rotate),
        1 => any::<prop::sample::Index>().prop_map(Act::Revoke),
        1 => Just(Act::Delete),
        1 => Just(Act::Break),
        1 => any::<prop::sample::Index>().prop_map(Act::Backup),
    ]
}

struct Replica {
    rings: Rings,
    read_at: i64,
}

struct Blob {
    purpose: Purpose,
    text: String,
    key: String,
    not_after: i64,
}

struct Cluster {
    now: i64,
    store: Option<Vec<u8>>,
    version: usize,
    /// Whether the store holds what a leader wrote last.
    true_to_itself: bool,
    revoked: Vec<String>,
    request: i64,
    replicas: Vec<Replica>,
    leader: usize,
    decided: Option<(usize, Rings)>,
    backups: Vec<Vec<u8>>,
    blobs: Vec<Blob>,
    /// Keys a leader wrote out of the store.
    destroyed: BTreeSet<String>,
}

impl Cluster {
    fn new() -> Self {
        let rings = Rings::generate(1_000).unwrap();
        let replica = || Replica { rings: rings.clone(), read_at: 1_000 };
        let json = rings.to_json().unwrap().to_vec();
        Self {
            now: 1_000,
            store: Some(json.clone()),
            version: 0,
            true_to_itself: true,
            revoked: Vec::new(),
            request: 0,
            replicas: OFFSETS.iter().map(|_| replica()).collect(),
            leader: 0,
            decided: None,
            backups: vec![json],
            blobs: Vec::new(),
            destroyed: BTreeSet::new(),
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Wait(seconds) => self.wait(*seconds),
            Act::Read(replica) => self.read(*replica),
            Act::Decide => self.decide(),
            Act::Write => self.write(),
            Act::Crash(next) => {
                self.decided = None;
                if self.true_to_itself {
                    self.read(*next);
                    self.leader = *next;
                }
            }
            Act::Restart(replica) => self.restart(*replica),
            Act::Rotate => {
                self.request += 1;
                self.version += 1; // the wish is an annotation of the Secret
            }
            Act::Revoke(which) => {
                let ids: Vec<_> =
                    self.replicas[0].rings.keys().map(|key| key.id().to_owned()).collect();
                if ids.is_empty() || !self.true_to_itself {
                    return;
                }
                self.revoked.push(which.get(&ids).clone());
                self.version += 1;
                // Who has not read of it yet may not know the key that takes over: that is the price of
                // revoking at once.
                (0..3).for_each(|replica| self.read(replica));
            }
            Act::Delete => self.damage(None),
            Act::Break => self.damage(Some(b"{".to_vec())),
            Act::Backup(which) => self.damage(Some(which.get(&self.backups).clone())),
        }
    }

    fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1;
            for replica in 0..3 {
                if self.now - self.replicas[replica].read_at >= STALENESS {
                    self.read(replica);
                }
            }
        }
    }

    /// What the assessor does with a Secret.
    fn read(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        replica.read_at = self.now;
        let stored = self.store.as_deref().and_then(|json| Rings::from_json(json).ok());
        replica.rings = Rings::restored(&replica.rings, &stored.unwrap_or_default());
        replica.rings.revoke(self.revoked.iter().map(String::as_str));
        if self.true_to_itself {
            for id in &self.destroyed {
                let known = replica.rings.keys().any(|key| key.id() == id);
                assert!(!known, "{id} is destroyed and still known");
            }
        }
    }

    /// What the leader does.
    fn decide(&mut self) {
        self.read(self.leader);
        let now = self.now + OFFSETS[self.leader];
        let rings = &self.replicas[self.leader].rings;
        let same = self.store.as_deref() == Some(rings.to_json().unwrap().as_slice());
        let wanted = if same {
            rings.step(now, &SCHEDULE, self.request).unwrap()
        } else {
            Some(rings.clone().completed(now).unwrap())
        };
        self.decided = wanted.map(|rings| (self.version, rings));
    }

    fn write(&mut self) {
        let Some((version, rings)) = self.decided.take() else { return };
        if version != self.version {
            return;
        }
        let before = self.store.as_deref().map(Rings::from_json);
        let kept: BTreeSet<&str> = rings.keys().map(claviger_seal::RingKey::id).collect();
        for key in before.iter().flatten().flat_map(Rings::keys) {
            if !kept.contains(key.id()) {
                self.destroyed.insert(key.id().to_owned());
            }
        }
        let json = rings.to_json().unwrap().to_vec();
        self.backups.push(json.clone());
        self.put(Some(json));
        self.true_to_itself = true;
    }

    fn put(&mut self, json: Option<Vec<u8>>) {
        self.store = json;
        self.version += 1;
        self.true_to_itself = false;
    }

    /// Somebody else writes. What nobody remembers is lost then, so it is assumed that whoever leads has
    /// read what was there, and leads until it is restored.
    fn damage(&mut self, json: Option<Vec<u8>>) {
        self.read(self.leader);
        self.put(json);
    }

    fn restart(&mut self, at: usize) {
        if self.true_to_itself
            && let Some(json) = &self.store
        {
            self.replicas[at].rings = Rings::from_json(json).unwrap();
            self.read(at);
        }
    }

    fn rings_in_use(&self) -> Vec<(i64, KeyRing)> {
        let replicas = self.replicas.iter().zip(OFFSETS);
        replicas
            .filter_map(|(replica, offset)| {
                let now = self.now + offset;
                Some((now, KeyRing::new(Arc::new(replica.rings.clone())).ok()?))
            })
            .collect()
    }

    fn check(&mut self) {
        let in_use = self.rings_in_use();
        for (now, ring) in &in_use {
            for (purpose, life) in LONGEST {
                self.blobs.push(Blob {
                    purpose,
                    text: ring.seal(purpose, &CONTEXT, now + life, b"x"),
                    key: ring.sealing_key(purpose.ring()).id().to_owned(),
                    not_after: now + life,
                });
            }
        }
        let (now, revoked) = (self.now, &self.revoked);
        self.blobs.retain(|blob| blob.not_after + SKEW > now && !revoked.contains(&blob.key));
        let mut newest = BTreeMap::new();
        for blob in &self.blobs {
            newest.insert((blob.purpose, &blob.key), blob); // of one key the last is the longest
        }
        for (now, ring) in &in_use {
            for blob in newest.values().filter(|blob| *now < blob.not_after) {
                let opened = ring.open(blob.purpose, &CONTEXT, *now, &blob.text);
                assert!(opened.is_ok(), "{:?} by {}: {opened:?}\n{ring:?}", blob.purpose, blob.key);
            }
            for kind in RingKind::ALL {
                assert!(ring.rings().ring(kind).keys().len() <= MAX_KEYS);
            }
        }
    }
}

/// Who seals last and who destroys are ahead of who noted that the key retired: a retirement must be longer
/// by twice the difference of two clocks.
#[test]
fn three_clocks_meet_in_a_retirement() {
    let mut cluster = Cluster::new();
    let (behind, ahead) = (0, 2);
    for act in [Act::Decide, Act::Write, Act::Wait(105), Act::Read(ahead)] {
        cluster.act(&act); // the leader's clock is behind
    }
    let old = cluster.replicas[ahead].rings.ring(RingKind::Short).active().unwrap().id().to_owned();
    for act in [Act::Decide, Act::Write, Act::Decide, Act::Write, Act::Wait(STALENESS - 1)] {
        cluster.act(&act); // the short ring rotates, and that is noted; one replica has not read it yet
    }
    cluster.check();
    assert!(cluster.blobs.iter().any(|blob| blob.key == old && blob.purpose == Purpose::Flow));
    cluster.act(&Act::Crash(ahead));
    for _ in 0..LONGEST[1].1 + LEAD {
        for act in [Act::Wait(1), Act::Decide, Act::Write, Act::Read(behind)] {
            cluster.act(&act);
            cluster.check();
        }
    }
    assert!(cluster.destroyed.contains(&old));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_one_replica_sealed_every_other_opens(acts in proptest::collection::vec(act(), 1..250)) {
        let mut cluster = Cluster::new();
        for act in &acts {
            cluster.act(act);
            cluster.check();
        }
    }
}

//! `SigningKey` and its Secret → conditions, signers, and what the Secret must become.
//!
//! What always holds: keys and their states come from the Secret and from what this replica read there
//! before, never from status; a signer is built once per key and kept; a key whose ID is not its own
//! thumbprint is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_api::condition::{ConditionType, Reason, Verdict};
use claviger_api::{KeyState, PublishedKey, SigningKey, SigningKeyStatus, time};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::assess::algorithm;
use crate::assess::findings::Findings;
use crate::assess::ring_memory::{LoadedRing, Reading, RingMemory};
use crate::keyring::{MOST_KEYS, Policy, Ring, RingKey, Stage};
use crate::moment::Moment;
use crate::secret::{Unresolved, Use};
use crate::world::{ObjectKey, Obstacle, World};

/// Longest name of a `SigningKey`: it must fit into a label.
const LONGEST_NAME: usize = 63;
/// Most keys status reports; the newest ones.
const MOST_REPORTED: usize = 128;

/// Rings by the name of their `SigningKey`.
pub type RingCache = BTreeMap<String, RingMemory>;

/// What the reconciler must see to about one `SigningKey`.
#[derive(Debug, Clone)]
pub struct SigningKeyPlan {
    /// Its Secret.
    pub secret: ObjectKey,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The Secret as it is now.
    pub observed: Option<Arc<Secret>>,
    /// The ring in force: as it is in the Secret, or was before somebody deleted, broke or replaced it.
    pub ring: Ring,
    /// Whether the Secret holds this very ring.
    pub intact: bool,
    /// What is asked of the ring.
    pub policy: Policy,
    /// Size of new RSA keys.
    pub rsa_bits: u32,
}

/// What came of one `SigningKey`.
#[derive(Debug)]
pub struct AssessedSigningKey {
    /// The object.
    pub object: Arc<SigningKey>,
    /// What was found.
    pub findings: Findings,
    /// The ring in force, if there is one to sign with.
    pub ring: Option<Arc<LoadedRing>>,
    intact: bool,
    /// Keys that must not be trusted.
    pub revoked: BTreeSet<String>,
    observed: Option<Arc<Secret>>,
    writable: bool,
}

/// Name of a `SigningKey`'s Secret.
pub fn secret_name(signing_key: &str) -> String {
    format!("claviger-signing-key-{signing_key}")
}

/// Assesses all signing keys, by name.
pub fn assess(
    world: &World,
    cache: &mut RingCache,
    at: Moment,
) -> BTreeMap<String, AssessedSigningKey> {
    let names: BTreeSet<String> =
        world.signing_keys.values().map(|object| object.name_any()).collect();
    cache.retain(|name, _| names.contains(name));
    world
        .signing_keys
        .values()
        .map(|object| {
            let name = object.name_any();
            let cached = cache.entry(name.clone()).or_default();
            (name, assess_one(world, object, cached, at))
        })
        .collect()
}

fn assess_one(
    world: &World,
    object: &Arc<SigningKey>,
    memory: &mut RingMemory,
    at: Moment,
) -> AssessedSigningKey {
    let mut findings = Findings::default();
    let name = object.name_any();
    if name.len() > LONGEST_NAME {
        findings.reject(
            Reason::InvalidSpec,
            format!("the name has more than {LONGEST_NAME} characters: create a SigningKey with a shorter one"),
        );
    }
    let key = ObjectKey::new(&world.home, &secret_name(&name));
    let live = world.secrets.get(&key);
    let squatted = live.is_some_and(|secret| !Use::SigningKey.admits(secret));
    let own = live.filter(|_| !squatted);
    let revoked: BTreeSet<String> = object.spec.revoked_key_ids.iter().cloned().collect();
    memory.withdraw(&revoked);
    let read = own.map(|secret| memory.read(secret, at, world.bounds.lead()));
    let (ring, intact) = match read {
        Some(Ok(Reading { ring, intact })) => (Some(ring), intact),
        Some(Err(error)) => (unreadable(&mut findings, &key, &error, memory.known()), false),
        None => (from_memory(world, &key, memory, at), false),
    };
    match &ring {
        Some(_) if squatted => findings.unready(Reason::SecretNotOwned, foreign(&key).message),
        Some(_) if own.is_some() && !intact => restored(&mut findings, &key),
        None if own.is_none() => findings.unresolved(absent(world, &key, squatted)),
        _ => {}
    }
    // What nobody remembers cannot be put right, and may be worth a look: it is left alone.
    let lost = own.is_some() && ring.is_none();
    let writable = findings.is_accepted() && !squatted && !lost;
    let observed = own.cloned();
    if let Some(ring) = &ring
        && ring.signer(&revoked).is_none()
    {
        findings.unready(Reason::Progressing, "Claviger is making a new key");
    }
    let object = Arc::clone(object);
    AssessedSigningKey { object, findings, ring, intact, revoked, observed, writable }
}

/// The ring as it last was, if this replica ever read it.
fn from_memory(
    world: &World,
    key: &ObjectKey,
    memory: &mut RingMemory,
    at: Moment,
) -> Option<Arc<LoadedRing>> {
    memory.known().or_else(|| {
        let remembered = world.remembered.get(key)?;
        let readable = Use::SigningKey.admits(remembered);
        let read = readable.then(|| memory.read(remembered, at, world.bounds.lead()))?;
        read.ok().map(|reading| reading.ring)
    })
}

fn unreadable(
    findings: &mut Findings,
    key: &ObjectKey,
    error: &str,
    known: Option<Arc<LoadedRing>>,
) -> Option<Arc<LoadedRing>> {
    if known.is_some() {
        let message = format!("Secret {key} cannot be read: {error}");
        findings.unready(Reason::SecretInvalid, message);
    } else {
        let message = format!(
            "Secret {key} cannot be read: {error}; restore it from a backup, or delete it and Claviger makes new keys"
        );
        findings.unresolved(Unresolved::new(Reason::SecretInvalid, message));
    }
    known
}

/// The Secret does not hold the ring in force.
fn restored(findings: &mut Findings, key: &ObjectKey) {
    findings.unready(
        Reason::SecretReplaced,
        format!(
            "Secret {key} does not hold the newest keys Claviger knows, as after a restore from an older backup: Claviger goes on with those and writes them back"
        ),
    );
}

fn absent(world: &World, key: &ObjectKey, labelled_otherwise: bool) -> Unresolved {
    match world.obstacles.get(key) {
        _ if labelled_otherwise => foreign(key),
        Some(Obstacle::Foreign) => foreign(key),
        Some(_) => Unresolved::new(
            Reason::WriteFailed,
            format!(
                "Claviger may not write Secret {key}: grant its ServiceAccount create and update on secrets in its own namespace"
            ),
        ),
        None => Unresolved::new(
            Reason::Progressing,
            format!("Claviger is making the first key in Secret {key}"),
        ),
    }
}

fn foreign(key: &ObjectKey) -> Unresolved {
    Unresolved::new(
        Reason::SecretNotOwned,
        format!(
            "Secret {key} exists and is not Claviger's: it is left alone; remove it, or name the SigningKey otherwise"
        ),
    )
}

fn feasible(policy: &Policy) -> Verdict {
    let (asked, least) = (policy.rotation_period, policy.shortest_period());
    if asked >= least {
        let message = format!("a key signs for {asked} s");
        return Verdict::holds(ConditionType::ScheduleFeasible, Reason::Feasible, message);
    }
    let (longest, lead) = (policy.longest_token_seconds, policy.lead);
    Verdict::fails(
        ConditionType::ScheduleFeasible,
        Reason::ImpossibleSchedule,
        format!(
            "rotationPeriodSeconds {asked} is shorter than the longest ID token ({longest} s) and the {lead} s in which caches learn of keys; a key signs for {least} s instead: raise rotationPeriodSeconds to {least}, or shorten idTokenLifetimeSeconds of the issuers and clients that use this SigningKey"
        ),
    )
}

impl AssessedSigningKey {
    /// The status but for its conditions.
    pub fn status(&self, policy: &Policy) -> SigningKeyStatus {
        let keys = self.ring.iter().flat_map(|loaded| {
            let ring = &loaded.ring;
            let surplus = ring.keys.len().saturating_sub(MOST_REPORTED);
            ring.keys.iter().skip(surplus).map(|key| self.report(ring, key, policy))
        });
        SigningKeyStatus {
            observed_generation: self.object.metadata.generation,
            secret_name: Some(secret_name(&self.object.name_any())),
            keys: keys.collect(),
            next_rotation_time: self
                .ring
                .as_ref()
                .and_then(|loaded| loaded.ring.rotation_due(policy))
                .map(time::from_seconds),
            conditions: Vec::new(),
        }
    }

    fn report(&self, ring: &Ring, key: &RingKey, policy: &Policy) -> PublishedKey {
        let (state, since) = match key.stage {
            Stage::Pending => (KeyState::Pending, key.created_at),
            Stage::Published { published_at } => (KeyState::Published, published_at),
            Stage::Active { activated_at, .. } => (KeyState::Active, activated_at),
            Stage::Retiring { retired_at, .. } => (KeyState::Retiring, retired_at),
        };
        let not_before = match key.stage {
            Stage::Published { .. } => ring.rotation_due(policy),
            Stage::Active { activated_at, .. } => Some(activated_at),
            Stage::Pending | Stage::Retiring { .. } => None,
        };
        let not_after = match key.stage {
            Stage::Retiring { until, .. } => Some(until),
            _ => None,
        };
        let revoked = self.revoked.contains(&key.kid);
        PublishedKey {
            kid: key.kid.clone(),
            algorithm: crate::assess::api_algorithm(key.algorithm),
            state: if revoked { KeyState::Revoked } else { state },
            since: time::from_seconds(since),
            not_before: not_before.map(time::from_seconds),
            not_after: not_after.map(time::from_seconds),
        }
    }

    /// What is asked of its ring, where the longest ID token of the issuers that use it lives this
    /// many seconds.
    pub fn policy(&self, longest_token_seconds: i64, lead: i64) -> Policy {
        let spec = &self.object.spec;
        Policy {
            algorithm: algorithm(spec.algorithm),
            rotation_period: i64::from(spec.rotation_period_seconds),
            rotation_request: spec.rotation_request,
            longest_token_seconds,
            overlap: spec.overlap_seconds.map_or(0, i64::from),
            lead,
            revoked: self.revoked.clone(),
        }
    }

    /// What else is said of it: whether what was asked for has come about, and whether it can.
    pub fn verdicts(&self, policy: &Policy) -> Vec<Verdict> {
        vec![self.rotated(policy), feasible(policy), self.withdrawn(policy)]
    }

    fn rotated(&self, policy: &Policy) -> Verdict {
        let Some(ring) = self.ring.as_ref().map(|loaded| &loaded.ring) else {
            let message = "there is no key yet";
            return Verdict::fails(ConditionType::Rotated, Reason::Progressing, message);
        };
        let Some(active) = ring.active() else {
            let message = "Claviger is making another key the one that signs";
            return Verdict::fails(ConditionType::Rotated, Reason::Progressing, message);
        };
        if !ring.is_asked_to_rotate(policy) {
            let message = format!("a key of algorithm {} signs", active.algorithm.as_str());
            return Verdict::holds(ConditionType::Rotated, Reason::Rotated, message);
        }
        let full = if ring.keys.len() < MOST_KEYS {
            String::new()
        } else {
            format!(
                "; the ring has {MOST_KEYS} keys, the most it may: a rotation waits until one is gone. Lower overlapSeconds, or withdraw keys nobody needs by revokedKeyIDs"
            )
        };
        let message = match ring.rotation_due(policy) {
            Some(due) => {
                let at = time::from_seconds(due).0;
                format!("the next key signs from {at} on, when every cache must have seen it{full}")
            }
            None => format!("the next key is being made and published{full}"),
        };
        Verdict::fails(ConditionType::Rotated, Reason::RotationPending, message)
    }

    fn withdrawn(&self, policy: &Policy) -> Verdict {
        let type_ = ConditionType::RevokedKeysWithdrawn;
        if policy.revoked.is_empty() {
            return Verdict::holds(type_, Reason::NothingRevoked, "revokedKeyIDs is empty");
        }
        let keys = self.ring.iter().flat_map(|loaded| &loaded.ring.keys);
        let held = keys.filter(|key| policy.revoked.contains(&key.kid)).count();
        if held > 0 {
            let message = format!(
                "no replica publishes, signs by or trusts them; the private halves of {held} are still to be deleted"
            );
            return Verdict::fails(type_, Reason::Progressing, message);
        }
        Verdict::holds(
            type_,
            Reason::Withdrawn,
            "Claviger publishes, signs by and trusts none of them. Whoever holds one in memory, such as an API server, trusts it until it fetches the key set again, and that is unbounded: it does so for a key ID it does not know. To force it, raise rotationRequest, wait for Rotated, and present a fresh ID token to every API server; or restart them",
        )
    }

    /// What the reconciler must see to; `None` if the Secret is not ours to write.
    pub fn plan(&self, policy: Policy) -> Option<SigningKeyPlan> {
        let name = self.object.name_any();
        let namespace = self.object.namespace().unwrap_or_default();
        self.writable.then(|| SigningKeyPlan {
            secret: ObjectKey::new(&namespace, &secret_name(&name)),
            uid: self.object.uid().unwrap_or_default(),
            observed: self.observed.clone(),
            intact: self.intact,
            ring: self.ring.as_ref().map(|loaded| loaded.ring.clone()).unwrap_or_default(),
            policy,
            rsa_bits: self.object.spec.rsa_key_bits.unsigned_abs(),
            name,
        })
    }
}

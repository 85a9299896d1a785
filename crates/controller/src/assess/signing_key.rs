//! `SigningKey` and its Secret → conditions, signers, and what the Secret must become.
//!
//! What always holds: keys and their states come from the Secret alone, never from status; a signer
//! is built once per key and kept; a key whose ID is not its own thumbprint is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::{KeyState, PublishedKey, SigningKey, SigningKeyStatus, time};
use claviger_jose::{PrivateKey, PublicKey, Signer};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::ExposeSecret;

use crate::assess::algorithm;
use crate::assess::findings::Findings;
use crate::keyring::{LEAD_SECONDS, Policy, Ring, RingKey, Stage};
use crate::ring_secret;
use crate::secret::{Unresolved, Use};
use crate::world::{ObjectKey, Obstacle, World};

/// Longest name of a `SigningKey`: it must fit into a label.
const LONGEST_NAME: usize = 63;
/// Most keys status reports; the newest ones.
const MOST_REPORTED: usize = 128;

/// A ring with its keys ready for use.
#[derive(Debug)]
pub struct LoadedRing {
    /// The ring.
    pub ring: Ring,
    keys: BTreeMap<String, LoadedKey>,
}

#[derive(Debug, Clone)]
struct LoadedKey {
    signer: Arc<Signer>,
    public: PublicKey,
}

impl LoadedRing {
    fn load(secret: &Secret, known: Option<&Self>) -> Result<Self, String> {
        let ring = ring_secret::decode(secret).map_err(|error| error.to_string())?;
        let mut keys = BTreeMap::new();
        for key in &ring.keys {
            let loaded = match known.and_then(|known| known.keys.get(&key.kid)) {
                Some(loaded) if loaded.signer.algorithm() == key.algorithm => loaded.clone(),
                _ => load_key(key)?,
            };
            keys.insert(key.kid.clone(), loaded);
        }
        Ok(Self { ring, keys })
    }

    /// The key that signs, with its signer.
    pub fn signer(&self, revoked: &BTreeSet<String>) -> Option<&Arc<Signer>> {
        let key = self.ring.signing(revoked)?;
        self.keys.get(&key.kid).map(|loaded| &loaded.signer)
    }

    /// The keys that belong in the JWKS.
    pub fn public<'a>(
        &'a self,
        revoked: &'a BTreeSet<String>,
        now: i64,
    ) -> impl Iterator<Item = PublicKey> + 'a {
        self.ring
            .public(revoked, now)
            .filter_map(|key| self.keys.get(&key.kid).map(|loaded| loaded.public.clone()))
    }
}

fn load_key(key: &RingKey) -> Result<LoadedKey, String> {
    let private = PrivateKey::from_pkcs8_pem(key.algorithm, key.pem.expose_secret())
        .map_err(|error| format!("key {}: {error}", key.kid))?;
    if private.kid() != key.kid {
        return Err(format!("key {} is another key: its thumbprint is {}", key.kid, private.kid()));
    }
    let signer = Signer::new(&private).map_err(|error| format!("key {}: {error}", key.kid))?;
    Ok(LoadedKey { signer: Arc::new(signer), public: private.public_key().clone() })
}

/// What was read of one Secret, kept until the Secret changes.
#[derive(Debug)]
pub struct Cached<T> {
    version: (String, String),
    loaded: Result<Arc<T>, String>,
    good: Option<Arc<T>>,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self { version: Default::default(), loaded: Err("not read yet".into()), good: None }
    }
}

impl<T> Cached<T> {
    /// What the Secret holds; `load` is given the last good value and runs only for a new version.
    pub fn read(
        &mut self,
        secret: &Secret,
        load: impl FnOnce(&Secret, Option<&T>) -> Result<T, String>,
    ) -> Result<Arc<T>, String> {
        let version =
            (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
        if self.version != version {
            self.loaded = load(secret, self.good.as_deref()).map(Arc::new);
            self.version = version;
            if let Ok(loaded) = &self.loaded {
                self.good = Some(Arc::clone(loaded));
            }
        }
        self.loaded.clone()
    }

    /// The last value that could be read.
    pub fn last_good(&self) -> Option<Arc<T>> {
        self.good.clone()
    }
}

/// Rings by the name of their `SigningKey`.
pub type RingCache = BTreeMap<String, Cached<LoadedRing>>;

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
    /// The ring as it is in the Secret, or was before somebody deleted it.
    pub ring: Ring,
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
    /// Its ring, if there is one to sign with.
    pub ring: Option<Arc<LoadedRing>>,
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
pub fn assess(world: &World, cache: &mut RingCache) -> BTreeMap<String, AssessedSigningKey> {
    let names: BTreeSet<String> =
        world.signing_keys.values().map(|object| object.name_any()).collect();
    cache.retain(|name, _| names.contains(name));
    world
        .signing_keys
        .values()
        .map(|object| {
            let name = object.name_any();
            let cached = cache.entry(name.clone()).or_default();
            (name, assess_one(world, object, cached))
        })
        .collect()
}

fn assess_one(
    world: &World,
    object: &Arc<SigningKey>,
    cached: &mut Cached<LoadedRing>,
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
    let mut writable = findings.is_accepted() && !squatted;
    let own = live.filter(|_| !squatted);
    let ring = match own.map(|secret| cached.read(secret, LoadedRing::load)) {
        Some(Ok(ring)) => Some(ring),
        Some(Err(error)) => {
            writable = false;
            unreadable(&mut findings, &key, &error, cached.last_good())
        }
        None => from_memory(world, &key, cached),
    };
    match &ring {
        Some(_) if squatted => findings.unready(Reason::SecretNotOwned, foreign(&key).message),
        None if own.is_none() => findings.unresolved(absent(world, &key, squatted)),
        _ => {}
    }
    let observed = own.cloned();
    let revoked: BTreeSet<String> = object.spec.revoked_key_ids.iter().cloned().collect();
    if let Some(ring) = &ring
        && ring.signer(&revoked).is_none()
    {
        findings.unready(Reason::Progressing, "Claviger is making a new key");
    }
    AssessedSigningKey { object: Arc::clone(object), findings, ring, revoked, observed, writable }
}

/// The ring as it last was, if this replica ever read it.
fn from_memory(
    world: &World,
    key: &ObjectKey,
    cached: &mut Cached<LoadedRing>,
) -> Option<Arc<LoadedRing>> {
    let remembered = world.remembered.get(key);
    remembered
        .filter(|secret| Use::SigningKey.admits(secret))
        .and_then(|secret| cached.read(secret, LoadedRing::load).ok())
        .or_else(|| cached.last_good())
}

fn unreadable(
    findings: &mut Findings,
    key: &ObjectKey,
    error: &str,
    good: Option<Arc<LoadedRing>>,
) -> Option<Arc<LoadedRing>> {
    let message = format!(
        "Secret {key} cannot be read: {error}; restore it from a backup, or delete it and Claviger makes new keys"
    );
    if good.is_some() {
        findings.unready(Reason::SecretInvalid, message);
    } else {
        findings.unresolved(Unresolved::new(Reason::SecretInvalid, message));
    }
    good
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
    pub fn policy(&self, longest_token_seconds: i64) -> Policy {
        let spec = &self.object.spec;
        Policy {
            algorithm: algorithm(spec.algorithm),
            rotation_period: i64::from(spec.rotation_period_seconds).max(LEAD_SECONDS),
            rotation_request: spec.rotation_request,
            longest_token_seconds,
            overlap: spec.overlap_seconds.map_or(0, i64::from),
            revoked: self.revoked.clone(),
        }
    }

    /// What the reconciler must see to; `None` if the Secret is not ours to write.
    pub fn plan(&self, policy: Policy) -> Option<SigningKeyPlan> {
        let name = self.object.name_any();
        let namespace = self.object.namespace().unwrap_or_default();
        self.writable.then(|| SigningKeyPlan {
            secret: ObjectKey::new(&namespace, &secret_name(&name)),
            uid: self.object.uid().unwrap_or_default(),
            observed: self.observed.clone(),
            ring: self.ring.as_ref().map(|loaded| loaded.ring.clone()).unwrap_or_default(),
            policy,
            rsa_bits: self.object.spec.rsa_key_bits.unsigned_abs(),
            name,
        })
    }
}

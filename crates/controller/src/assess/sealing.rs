//! The sealing rings' Secret, and what is remembered of it → the keys that seal and open.
//!
//! ```text
//! Secret ─ document ─────┐
//! memory of this replica ┴→ together ─ annotation revoked-key-ids ─→ rings ─→ KeyRing
//! ```
//! What always holds:
//! - whatever becomes of its Secret, a replica that ever read the rings goes on with them;
//! - what was revoked, in the document or by annotation, opens nothing from the moment it was read, on
//!   every replica, and stays revoked when an older Secret comes back;
//! - what the Secret says is destroyed is forgotten too.

use std::sync::Arc;

use claviger_api::labels;
use claviger_seal::{KeyRing, MAX_REVOKED, RingError, RingKind, Rings, Schedule, is_key_id};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::reconcile::sealing_ring::schedule;
use crate::secret::{self, Use};
use crate::world::{ObjectKey, Obstacle, World};

/// Name of the Secret, in home.
pub const SECRET_NAME: &str = "claviger-sealing-ring";
/// Key in its data.
pub const RING: &str = "ring.json";

/// What is known of the rings.
#[derive(Debug, Clone, Default)]
pub enum Sealing {
    /// There are none yet; the leader makes them.
    #[default]
    Missing,
    /// There are none, and sessions exist that only the lost ones can open.
    Lost,
    /// A Secret of its name is somebody else's, or may not be written.
    Blocked(String),
    /// Its Secret cannot be read.
    Unreadable(String),
    /// There are some.
    Known(Known),
}

/// Rings, and how their Secret stands to them.
#[derive(Debug, Clone)]
pub struct Known {
    /// The rings as they must be in the Secret.
    pub rings: Arc<Rings>,
    /// Ready for use; `None` while every key that could seal is revoked.
    pub ring: Option<Arc<KeyRing>>,
    /// Their Secret as it is now; `None` if somebody deleted it.
    pub observed: Option<Arc<Secret>>,
    /// What the Secret holds.
    pub store: Store,
    /// The rotation that an administrator asks for; zero if none.
    pub request: i64,
    /// When their keys go on.
    pub schedule: Schedule,
    /// What is wrong and takes nothing out of service, each with its fix.
    pub complaints: Vec<String>,
}

/// What the Secret holds, compared with what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// These very rings.
    Same,
    /// Nothing, less, something older or something broken: it is to be written.
    Differs,
    /// What is somebody else's, or a newer release's: it is not overwritten.
    Untouchable,
}

impl Sealing {
    /// The ring, if there is one.
    pub fn ring(&self) -> Option<&Arc<KeyRing>> {
        match self {
            Self::Known(known) => known.ring.as_ref(),
            _ => None,
        }
    }

    /// Why nothing can be sealed, with its fix.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Self::Known(Known { ring: Some(_), .. }) => None,
            Self::Known(_) => Some(format!(
                "every key of the sealing ring (Secret {SECRET_NAME}) is revoked: the leading replica makes a new one"
            )),
            Self::Missing => Some(format!(
                "the sealing ring (Secret {SECRET_NAME}) is not there yet: the leading replica makes it"
            )),
            Self::Lost => Some(format!(
                "the sealing ring (Secret {SECRET_NAME}) is lost and sessions exist that only it can open: restore the Secret from a backup, or delete all sessions"
            )),
            Self::Blocked(why) | Self::Unreadable(why) => Some(why.clone()),
        }
    }

    /// What is wrong and takes nothing out of service.
    pub fn remarks(&self) -> &[String] {
        match self {
            Self::Known(known) => &known.complaints,
            _ => &[],
        }
    }

    /// When time alone changes the rings.
    pub fn due(&self) -> Option<i64> {
        match self {
            Self::Known(known) => known.rings.due(&known.schedule, known.request),
            _ => None,
        }
    }
}

/// What one replica remembers of the rings, from one assessment to the next.
#[derive(Debug, Default)]
pub struct Memory {
    read: Option<Read>,
    ring: Option<Arc<KeyRing>>,
    rings: Option<Arc<Rings>>,
    said: Vec<String>,
}

/// The Secret that was read last, and what was in it.
#[derive(Debug)]
struct Read {
    /// UID and resource version.
    version: (String, String),
    rings: Result<Arc<Rings>, RingError>,
}

impl Memory {
    fn read(&mut self, secret: &Secret) -> Result<Arc<Rings>, RingError> {
        let version =
            (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
        if let Some(read) = self.read.as_ref().filter(|read| read.version == version) {
            return read.rings.clone();
        }
        let rings = read(secret).map(Arc::new);
        self.read = Some(Read { version, rings: rings.clone() });
        rings
    }

    /// What is known now. What was known before is kept where nothing changed.
    fn learn(&mut self, rings: Rings) -> (Arc<Rings>, Option<Arc<KeyRing>>) {
        let rings = match &self.rings {
            Some(known) if **known == rings => Arc::clone(known),
            _ => {
                let rings = Arc::new(rings);
                self.ring = KeyRing::new(Arc::clone(&rings)).ok().map(Arc::new);
                self.rings = Some(Arc::clone(&rings));
                rings
            }
        };
        (rings, self.ring.clone())
    }

    /// Says what is newly wrong, once.
    fn say(&mut self, complaints: &[String]) {
        for complaint in complaints.iter().filter(|complaint| !self.said.contains(complaint)) {
            tracing::error!(complaint, "the sealing ring needs looking at");
        }
        self.said = complaints.to_vec();
    }
}

/// Where the rings' Secret is.
pub fn secret_key(home: &str) -> ObjectKey {
    ObjectKey::new(home, SECRET_NAME)
}

/// The rings in a Secret.
///
/// # Errors
/// What is wrong with it; never key material.
pub fn read(secret: &Secret) -> Result<Rings, RingError> {
    let json = secret::value(secret, RING)
        .ok_or_else(|| RingError::Malformed(format!("it has no {RING}")))?;
    Rings::from_json(json)
}

/// Reads the rings, and puts them together with what is remembered.
pub fn assess(world: &World, memory: &mut Memory) -> Sealing {
    let key = secret_key(&world.home);
    let live = world.secrets.get(&key);
    let own = live.filter(|secret| Use::SealingRing.admits(secret));
    let read = own.map(|secret| memory.read(secret));
    let mut complaints = Vec::new();
    let untouchable = match (live, &read) {
        (Some(_), None) => {
            complaints.push(format!("Secret {key} exists and is not Claviger's: remove it"));
            true
        }
        (_, Some(Err(error @ RingError::UnknownVersion(_)))) => {
            complaints.push(format!("Secret {key}: {error}"));
            true
        }
        (_, Some(Err(error))) => {
            complaints.push(format!("Secret {key} cannot be read: {error}"));
            false
        }
        _ => false,
    };
    let mut rings = match (&memory.rings, &read) {
        (Some(known), Some(Ok(stored))) => Rings::restored(known, stored),
        (Some(known), _) => Rings::restored(known, &Rings::default()),
        (None, Some(Ok(stored))) => Rings::clone(stored),
        (None, _) => return nothing_known(world, &key, complaints.pop()),
    };
    let wishes = Wishes::of(own.map(Arc::as_ref), &mut complaints);
    for id in &wishes.revoked {
        // Strangers, such as keys long destroyed, must not push out what was revoked before.
        if rings.keys().any(|key| key.id() == id) || rings.revoked().len() < MAX_REVOKED {
            rings.revoke([id.as_str()]);
        }
    }
    let stuck = |kind: &RingKind| rings.ring(*kind).is_stuck(wishes.request);
    complaints.extend(RingKind::ALL.into_iter().filter(stuck).map(|kind| {
        format!("the {kind} sealing ring is full: the rotation that was asked for waits until an old key is gone, or revoke one")
    }));
    let store = match own {
        _ if untouchable => Store::Untouchable,
        Some(secret) if holds(secret, &rings) => Store::Same,
        _ => Store::Differs,
    };
    memory.say(&complaints);
    let (rings, ring) = memory.learn(rings);
    Sealing::Known(Known {
        rings,
        ring,
        observed: live.cloned(),
        store,
        request: wishes.request,
        schedule: schedule(world.bounds),
        complaints,
    })
}

/// Whether a Secret holds these rings to the letter: a revoked key's secret may still stand in a
/// document that reads the same.
fn holds(secret: &Secret, rings: &Rings) -> bool {
    let wanted = rings.to_json();
    wanted.is_ok_and(|json| secret::value(secret, RING) == Some(json.as_slice()))
}

fn nothing_known(world: &World, key: &ObjectKey, complaint: Option<String>) -> Sealing {
    let foreign =
        || Sealing::Blocked(format!("Secret {key} exists and is not Claviger's: remove it"));
    match world.secrets.get(key) {
        Some(secret) if Use::SealingRing.admits(secret) => Sealing::Unreadable(format!(
            "{}; restore it from a backup, or delete it and all sessions and Claviger makes a new one",
            complaint.unwrap_or_default()
        )),
        Some(_) => foreign(),
        None => match world.obstacles.get(key) {
            None => Sealing::Missing,
            Some(Obstacle::SessionsWithoutRing) => Sealing::Lost,
            Some(Obstacle::Foreign) => foreign(),
            Some(Obstacle::Denied) => Sealing::Blocked(format!(
                "Claviger may not write Secret {key}: grant its ServiceAccount create and update on secrets in its own namespace"
            )),
        },
    }
}

/// What an administrator asks for by the Secret's annotations.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wishes {
    request: i64,
    revoked: Vec<String>,
}

impl Wishes {
    /// What can be understood is done; the rest is complained about.
    fn of(secret: Option<&Secret>, complaints: &mut Vec<String>) -> Self {
        let annotation = |name| secret.and_then(|secret| secret.annotations().get(name));
        let mut wishes = Self::default();
        if let Some(text) = annotation(labels::ROTATION_REQUEST) {
            match text.trim().parse() {
                Ok(request) if request >= 0 => wishes.request = request,
                _ => complaints.push(format!(
                    "annotation {} of Secret {SECRET_NAME} is no whole number from 0 to {}: write one higher than the last",
                    labels::ROTATION_REQUEST,
                    i64::MAX
                )),
            }
        }
        let ids = annotation(labels::REVOKED_KEY_IDS).map_or("", String::as_str).split(',');
        let (good, bad): (Vec<&str>, Vec<&str>) =
            ids.map(str::trim).filter(|id| !id.is_empty()).partition(|id| is_key_id(id));
        wishes.revoked = good.into_iter().map(str::to_owned).collect();
        if !bad.is_empty() {
            complaints.push(format!(
                "annotation {} of Secret {SECRET_NAME} has {} entries that are no key IDs: separate the 8-character IDs of {RING} by commas",
                labels::REVOKED_KEY_IDS,
                bad.len()
            ));
        }
        wishes
    }
}

//! The sealing ring's Secret → the ring that seals and opens.

use std::sync::Arc;

use claviger_seal::KeyRing;
use k8s_openapi::api::core::v1::Secret;

use crate::assess::signing_key::Cached;
use crate::secret::{self, Use};
use crate::world::{ObjectKey, Obstacle, World};

/// Name of the Secret, in home.
pub const SECRET_NAME: &str = "claviger-sealing-ring";
/// Key in its data.
pub const RING: &str = "ring.json";

/// What is known of the ring.
#[derive(Debug, Clone, Default)]
pub enum Sealing {
    /// There is none yet; the leader makes one.
    #[default]
    Missing,
    /// There is none, and sessions exist that only the lost one can open.
    Lost,
    /// A Secret of its name is somebody else's, or may not be written.
    Blocked(String),
    /// Its Secret cannot be read.
    Unreadable(String),
    /// In use.
    Ready {
        /// The ring.
        ring: Arc<KeyRing>,
        /// Its Secret as it is now; `None` if somebody deleted it.
        observed: Option<Arc<Secret>>,
        /// Whether the Secret holds this very ring; what cannot be read or is somebody else's is not
        /// overwritten.
        intact: bool,
    },
}

impl Sealing {
    /// The ring, if there is one.
    pub fn ring(&self) -> Option<&Arc<KeyRing>> {
        match self {
            Self::Ready { ring, .. } => Some(ring),
            _ => None,
        }
    }

    /// Why nothing can be sealed, with its fix.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Self::Ready { .. } => None,
            Self::Missing => Some(format!(
                "the sealing ring (Secret {SECRET_NAME}) is not there yet: the leading replica makes it"
            )),
            Self::Lost => Some(format!(
                "the sealing ring (Secret {SECRET_NAME}) is lost and sessions exist that only it can open: restore the Secret from a backup, or delete all sessions"
            )),
            Self::Blocked(why) | Self::Unreadable(why) => Some(why.clone()),
        }
    }
}

/// Where the ring's Secret is.
pub fn secret_key(home: &str) -> ObjectKey {
    ObjectKey::new(home, SECRET_NAME)
}

/// The ring in a Secret.
///
/// # Errors
/// What is wrong with it; never key material.
pub fn read(secret: &Secret) -> Result<KeyRing, String> {
    let json = secret::value(secret, RING).ok_or_else(|| format!("it has no {RING}"))?;
    KeyRing::from_json(json).map_err(|error| error.to_string())
}

/// Reads the ring. Whatever becomes of its Secret, the last good ring stays in use.
pub fn assess(world: &World, cache: &mut Cached<KeyRing>) -> Sealing {
    let key = secret_key(&world.home);
    let live = world.secrets.get(&key);
    let Some(live) = live else {
        return match from_memory(world, cache) {
            Some(ring) => Sealing::Ready { ring, observed: None, intact: true },
            None => absent(world, &key),
        };
    };
    let failed = if Use::SealingRing.admits(live) {
        match cache.read(live, |secret, _| read(secret)) {
            Ok(ring) => {
                return Sealing::Ready { ring, observed: Some(Arc::clone(live)), intact: true };
            }
            Err(error) => Sealing::Unreadable(format!(
                "Secret {key} cannot be read: {error}; restore it from a backup, or delete it and all sessions and Claviger makes a new one"
            )),
        }
    } else {
        foreign(&key)
    };
    let Some(ring) = from_memory(world, cache) else {
        return failed;
    };
    if let Some(complaint) = failed.complaint() {
        tracing::error!(complaint, "the sealing ring is used from memory alone");
    }
    Sealing::Ready { ring, observed: Some(Arc::clone(live)), intact: false }
}

/// The ring as it last was, if this replica ever read it.
fn from_memory(world: &World, cache: &mut Cached<KeyRing>) -> Option<Arc<KeyRing>> {
    let remembered = world.remembered.get(&secret_key(&world.home));
    remembered
        .filter(|secret| Use::SealingRing.admits(secret))
        .and_then(|secret| cache.read(secret, |secret, _| read(secret)).ok())
        .or_else(|| cache.last_good())
}

fn absent(world: &World, key: &ObjectKey) -> Sealing {
    match world.obstacles.get(key) {
        None => Sealing::Missing,
        Some(Obstacle::SessionsWithoutRing) => Sealing::Lost,
        Some(Obstacle::Foreign) => foreign(key),
        Some(Obstacle::Denied) => Sealing::Blocked(format!(
            "Claviger may not write Secret {key}: grant its ServiceAccount create and update on secrets in its own namespace"
        )),
    }
}

fn foreign(key: &ObjectKey) -> Sealing {
    Sealing::Blocked(format!("Secret {key} exists and is not Claviger's: remove it"))
}

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
        /// Whether the Secret holds this very ring; what cannot be read is not overwritten.
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

/// Reads the ring. A Secret that became unreadable leaves the last good ring in use.
pub fn assess(world: &World, cache: &mut Cached<KeyRing>) -> Sealing {
    let key = secret_key(&world.home);
    let live = world.secrets.get(&key);
    if live.is_some_and(|secret| !Use::SealingRing.admits(secret)) {
        return Sealing::Blocked(format!("Secret {key} exists and is not Claviger's: remove it"));
    }
    let Some(own) = world.own_secret(SECRET_NAME) else {
        return match world.obstacles.get(&key) {
            None => Sealing::Missing,
            Some(Obstacle::SessionsWithoutRing) => Sealing::Lost,
            Some(Obstacle::Foreign) => {
                Sealing::Blocked(format!("Secret {key} exists and is not Claviger's: remove it"))
            }
            Some(Obstacle::Denied) => Sealing::Blocked(format!(
                "Claviger may not write Secret {key}: grant its ServiceAccount create and update on secrets in its own namespace"
            )),
        };
    };
    let read = cache.read(own, |secret, _| {
        let json = secret::value(secret, RING).ok_or_else(|| format!("it has no {RING}"))?;
        KeyRing::from_json(json).map_err(|error| error.to_string())
    });
    match (read, cache.last_good()) {
        (Ok(ring), _) => Sealing::Ready { ring, observed: live.cloned(), intact: true },
        (Err(error), good) => {
            tracing::error!(secret = %key, error, "sealing ring cannot be read");
            match good {
                Some(ring) => Sealing::Ready { ring, observed: live.cloned(), intact: false },
                None => Sealing::Unreadable(format!(
                    "Secret {key} cannot be read: {error}; restore it from a backup"
                )),
            }
        }
    }
}

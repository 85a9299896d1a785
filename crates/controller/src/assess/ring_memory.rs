//! What one replica knows of one ring, from one look at its Secret to the next.
//!
//! ```text
//! Secret ─→ decode ─→ follows what is known? ─ yes → known (intact)
//!                          └ no: an old copy, another ring → known withstands it, and the leader puts it back
//! ```
//! What always holds:
//! - a ring that replaces a newer one, or cannot be read, changes nobody's signing key;
//! - where no leader puts the known ring back for as long as the lead (it never knew it), the one in the
//!   store is taken: by then its keys were in every JWKS for that long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_jose::{PrivateKey, PublicKey, Signer};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::ExposeSecret;

use crate::keyring::{Ring, RingKey};
use crate::ring_secret;

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
    fn load(ring: Ring, known: Option<&Self>) -> Result<Self, String> {
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

/// What a look at a Secret came to.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The ring in force.
    pub ring: Arc<LoadedRing>,
    /// Whether the Secret holds this very ring.
    pub intact: bool,
}

/// What this replica knows of one ring.
#[derive(Debug, Default)]
pub struct RingMemory {
    version: (String, String),
    stored: Option<Ring>,
    error: Option<String>,
    known: Option<Arc<LoadedRing>>,
    /// Since when the store holds a ring that does not follow the known one.
    disputed_at: Option<i64>,
}

impl RingMemory {
    /// The ring in force, now that the Secret looks like this.
    ///
    /// # Errors
    /// What is wrong with the Secret; [`Self::known`] is the ring in force then, if there is one.
    pub fn read(&mut self, secret: &Secret, now: i64, lead: i64) -> Result<Reading, String> {
        let version =
            (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
        if self.version != version {
            self.version = version;
            match ring_secret::decode(secret) {
                Ok(ring) => (self.stored, self.error) = (Some(ring), None),
                Err(error) => (self.stored, self.error) = (None, Some(error.to_string())),
            }
        } else if self.disputed_at.is_none()
            && let (None, Some(known)) = (&self.error, &self.known)
        {
            return Ok(Reading { ring: Arc::clone(known), intact: true });
        }
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.settle(now, lead).inspect_err(|error| self.error = Some(error.clone()))
    }

    /// The ring as it last was, if this replica ever read it.
    pub fn known(&self) -> Option<Arc<LoadedRing>> {
        self.known.clone()
    }

    fn settle(&mut self, now: i64, lead: i64) -> Result<Reading, String> {
        let stored = self.stored.clone().unwrap_or_default();
        let known = self.known.as_deref();
        let withstanding = known.filter(|known| !stored.follows(&known.ring));
        let disputed_at = withstanding.map(|_| self.disputed_at.unwrap_or(now));
        let outlasted = disputed_at.is_some_and(|at| now - at >= lead);
        let (ring, intact) = match withstanding {
            Some(known) if !outlasted => (known.ring.withstand(&stored, now, lead), false),
            _ => (stored, true),
        };
        let ring = Arc::new(LoadedRing::load(ring, known)?);
        self.disputed_at = disputed_at.filter(|_| !intact);
        self.known = Some(Arc::clone(&ring));
        Ok(Reading { ring, intact })
    }
}

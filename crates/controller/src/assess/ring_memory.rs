//! What one replica knows of one ring, from one look at its Secret to the next.
//!
//! ```text
//! Secret ─→ decode ─→ keyring::Known ─→ the ring in force ─→ its keys, ready for use
//! ```
//! What always holds: what cannot be read, or whose keys cannot be used, leaves in force what was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_jose::{PrivateKey, PublicKey, Signer};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::ExposeSecret;

use crate::keyring::{Known, Ring, RingKey};
use crate::moment::Moment;
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
    loaded: Option<Arc<LoadedRing>>,
    known: Known,
}

impl RingMemory {
    /// The ring in force, now that the Secret looks like this.
    ///
    /// # Errors
    /// What is wrong with the Secret; [`Self::known`] is the ring in force then, if there is one.
    pub fn read(&mut self, secret: &Secret, at: Moment, lead: i64) -> Result<Reading, String> {
        let version =
            (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
        if self.version != version {
            self.version = version;
            match ring_secret::decode(secret) {
                Ok(ring) => (self.stored, self.error) = (Some(ring), None),
                Err(error) => (self.stored, self.error) = (None, Some(error.to_string())),
            }
        } else if !self.known.is_disputed()
            && let (None, Some(loaded)) = (&self.error, &self.loaded)
        {
            return Ok(Reading { ring: Arc::clone(loaded), intact: true });
        }
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.settle(at, lead).inspect_err(|error| self.error = Some(error.clone()))
    }

    /// Remembers which keys are revoked.
    pub fn withdraw(&mut self, revoked: &BTreeSet<String>) {
        self.known.withdraw(revoked);
    }

    /// The ring as it last was, if this replica ever read it.
    pub fn known(&self) -> Option<Arc<LoadedRing>> {
        self.loaded.clone()
    }

    fn settle(&mut self, at: Moment, lead: i64) -> Result<Reading, String> {
        let stored = self.stored.clone().unwrap_or_default();
        let mut known = self.known.clone();
        let (ring, intact) = known.read(&stored, at, lead);
        let ring = Arc::new(LoadedRing::load(ring, self.loaded.as_deref())?);
        self.known = known;
        self.loaded = Some(Arc::clone(&ring));
        Ok(Reading { ring, intact })
    }
}

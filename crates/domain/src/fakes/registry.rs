//! Registered clients in memory, with a record of every request.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use secrecy::ExposeSecret;

use super::lock;
use crate::registry::{ClientMetadata, KeptClient, NewClient, Place, Registry, RegistryError};

/// The registry of a test. It has no part in what an issuer serves: the test puts a client there.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    kept: Mutex<BTreeMap<String, (KeptClient, Option<String>)>>,
    requests: Mutex<Vec<&'static str>>,
    away: Mutex<bool>,
    changes: Mutex<u32>,
}

impl MemoryRegistry {
    /// The requests made so far, taken out.
    pub fn take_requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut lock(&self.requests))
    }

    /// Takes the registry away, or brings it back.
    pub fn set_away(&self, away: bool) {
        *lock(&self.away) = away;
    }

    /// Changes a client after each of the next reads, as somebody else would.
    pub fn change_after_reads(&self, reads: u32) {
        *lock(&self.changes) = reads;
    }

    /// The secret a client got.
    pub fn secret(&self, name: &str) -> Option<String> {
        lock(&self.kept).get(name)?.1.clone()
    }

    fn ask(&self, verb: &'static str) -> Result<(), RegistryError> {
        lock(&self.requests).push(verb);
        if *lock(&self.away) {
            return Err(RegistryError::Unavailable("away".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn create(&self, client: &NewClient) -> Result<String, RegistryError> {
        self.ask("create")?;
        let uid = format!("uid-of-{}", client.place.name);
        let kept = KeptClient {
            uid: uid.clone(),
            registered_at: 0,
            metadata: client.metadata.clone(),
            version: "1".into(),
        };
        let secret = client.secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        lock(&self.kept).insert(client.place.name.clone(), (kept, secret));
        Ok(uid)
    }

    async fn read(&self, place: &Place, uid: &str) -> Result<KeptClient, RegistryError> {
        self.ask("read")?;
        let kept = lock(&self.kept).get(&place.name).map(|(kept, _)| kept.clone());
        let mut changes = lock(&self.changes);
        if let (Some(left), Some((stored, _))) =
            (changes.checked_sub(1), lock(&self.kept).get_mut(&place.name))
        {
            *changes = left;
            stored.version.push('+');
        }
        kept.filter(|kept| kept.uid == uid).ok_or(RegistryError::Gone)
    }

    async fn replace(
        &self,
        place: &Place,
        kept: &KeptClient,
        metadata: &ClientMetadata,
    ) -> Result<(), RegistryError> {
        self.ask("replace")?;
        let mut clients = lock(&self.kept);
        let (known, _) = clients.get_mut(&place.name).ok_or(RegistryError::Gone)?;
        if known.uid != kept.uid || known.version != kept.version {
            return Err(RegistryError::Conflict);
        }
        known.metadata = metadata.clone();
        Ok(())
    }

    async fn delete(&self, place: &Place, uid: &str) -> Result<(), RegistryError> {
        self.ask("delete")?;
        let mut clients = lock(&self.kept);
        if clients.get(&place.name).is_none_or(|(known, _)| known.uid != uid) {
            return Err(RegistryError::Gone);
        }
        clients.remove(&place.name);
        Ok(())
    }
}

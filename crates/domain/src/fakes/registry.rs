//! Registered clients in memory, with a record of every request.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use secrecy::ExposeSecret;

use super::lock;
use crate::registry::{
    Change, ClientMetadata, KeptClient, NewClient, Place, Registry, RegistryError,
};

/// The registry of a test. It has no part in what an issuer serves: the test puts a client there.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    kept: Mutex<BTreeMap<String, Kept>>,
    requests: Mutex<Vec<&'static str>>,
    away: Mutex<bool>,
    changes: Mutex<u32>,
    failing: Mutex<u32>,
}

#[derive(Debug)]
struct Kept {
    uid: String,
    metadata: ClientMetadata,
    secret: Option<String>,
    token_digest: Option<String>,
    version: u32,
}

impl Kept {
    fn read(&self) -> KeptClient {
        KeptClient {
            registered_at: 0,
            metadata: self.metadata.clone(),
            token_digest: self.token_digest.clone(),
        }
    }
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

    /// Takes a client's registration access token back, as an administrator does.
    pub fn take_token_back(&self, name: &str) {
        if let Some(kept) = lock(&self.kept).get_mut(name) {
            kept.token_digest = None;
        }
    }

    /// Makes so many deletions fail.
    pub fn fail_deletions(&self, deletions: u32) {
        *lock(&self.failing) = deletions;
    }

    /// The secret a client got.
    pub fn secret(&self, name: &str) -> Option<String> {
        lock(&self.kept).get(name)?.secret.clone()
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
        let kept = Kept {
            uid: uid.clone(),
            metadata: client.metadata.clone(),
            secret: client.secret.as_ref().map(|secret| secret.expose_secret().to_owned()),
            token_digest: Some(client.token_digest.clone()),
            version: 1,
        };
        lock(&self.kept).insert(client.place.name.clone(), kept);
        Ok(uid)
    }

    async fn read(&self, place: &Place, uid: &str) -> Result<KeptClient, RegistryError> {
        self.ask("read")?;
        let clients = lock(&self.kept);
        let kept = clients.get(&place.name).filter(|kept| kept.uid == uid);
        let kept = kept.ok_or(RegistryError::Gone)?;
        Ok(kept.read())
    }

    async fn replace(
        &self,
        place: &Place,
        uid: &str,
        change: Change<'_>,
    ) -> Result<i64, RegistryError> {
        self.ask("read")?;
        let mut clients = lock(&self.kept);
        let kept = clients.get_mut(&place.name).filter(|kept| kept.uid == uid);
        let kept = kept.ok_or(RegistryError::Gone)?;
        let read = kept.version;
        let metadata = change.after(kept.read())?;
        let mut changes = lock(&self.changes);
        if let Some(left) = changes.checked_sub(1) {
            *changes = left;
            kept.version += 1;
        }
        self.ask("replace")?;
        if kept.version != read {
            return Err(RegistryError::Conflict);
        }
        kept.metadata = metadata.clone();
        kept.version += 1;
        Ok(0)
    }

    async fn delete(&self, place: &Place, uid: &str) -> Result<(), RegistryError> {
        self.ask("delete")?;
        let mut failing = lock(&self.failing);
        if let Some(left) = failing.checked_sub(1) {
            *failing = left;
            return Err(RegistryError::Gone); // as a conflict reads
        }
        let mut clients = lock(&self.kept);
        if clients.get(&place.name).is_none_or(|known| known.uid != uid) {
            return Err(RegistryError::Gone);
        }
        clients.remove(&place.name);
        Ok(())
    }
}

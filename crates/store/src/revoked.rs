//! Which sessions are revoked, from a watch of tombstones alone: what `/userinfo` asks on every call.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use claviger_api::{Session, labels};
use claviger_domain::ports::Revocations;
use futures::TryStreamExt;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};

/// Names of the revoked sessions of one namespace.
#[derive(Debug, Default)]
pub struct RevokedSessions {
    names: RwLock<HashSet<String>>,
}

impl RevokedSessions {
    /// Notes a revocation this process made itself, before the watch tells of it.
    pub fn insert(&self, name: &str) {
        self.names.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Follows the tombstones of a namespace until the task is dropped. Metadata only; errors back
    /// off and the watch resumes. `on_synced` is called whenever the whole set is known.
    pub async fn follow(&self, client: kube::Client, namespace: &str, on_synced: impl Fn()) {
        let api: Api<PartialObjectMeta<Session>> = Api::namespaced(client, namespace);
        let tombstones = watcher::Config::default().labels(&format!(
            "{}={}",
            labels::STATE,
            labels::STATE_REVOKED
        ));
        let mut events = std::pin::pin!(watcher(api, tombstones).default_backoff());
        let mut listed = HashSet::new();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.apply(event, &mut listed, &on_synced),
                Ok(None) => return,
                Err(error) => tracing::warn!(%error, "watch of revoked sessions failed; resuming"),
            }
        }
    }

    fn apply(
        &self,
        event: Event<PartialObjectMeta<Session>>,
        listed: &mut HashSet<String>,
        on_synced: &impl Fn(),
    ) {
        let name = |object: PartialObjectMeta<Session>| object.metadata.name.unwrap_or_default();
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(name(object));
            }
            Event::InitDone => {
                *names = std::mem::take(listed);
                on_synced();
            }
            Event::Apply(object) => {
                names.insert(name(object));
            }
            Event::Delete(object) => {
                names.remove(&name(object));
            }
        }
    }
}

impl Revocations for RevokedSessions {
    fn is_revoked(&self, name: &str) -> bool {
        self.names.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

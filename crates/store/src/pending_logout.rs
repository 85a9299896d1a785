//! Sessions whose clients are yet to be told that they are over: marked by a label, so that whoever leads lists and
//! watches these alone, their metadata alone.
//!
//! What always holds: the mark is set by the request that ends the session ([`KubeSessions`](crate::KubeSessions)) and
//! taken off by one patch when there is nobody left to tell; nothing else remembers it.

use crate::request::{Failure, within};
use crate::session::{params, stored, told};
use claviger_api::{Session, labels};
use claviger_domain::ports::{StoreError, StoredSession};
use futures::{Stream, StreamExt};
use kube::Api;
use kube::api::Patch;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};

/// The marked sessions of one namespace.
#[derive(Clone)]
pub struct PendingLogouts {
    api: Api<Session>,
    metadata: Api<PartialObjectMeta<Session>>,
}

/// What became of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A session is marked.
    Marked(Marked),
    /// The session of this name is not marked any more, or gone.
    Gone(String),
}

/// A marked session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its name.
    pub name: String,
    /// Hash of its client's UID; of a browser's session, that of none.
    pub client_hash: String,
    /// When it was marked, in seconds since the epoch; `None` where somebody wrote something else.
    pub since: Option<i64>,
}

impl PendingLogouts {
    /// The marked sessions of a namespace.
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            metadata: Api::namespaced(client, namespace),
        }
    }

    /// Follows the marks, those that are there first; errors back off and the watch resumes.
    pub fn follow(&self) -> impl Stream<Item = Result<Change, watcher::Error>> + Send + use<> {
        let marked = watcher::Config::default().labels(labels::LOGOUT_PENDING);
        let events = watcher(self.metadata.clone(), marked).default_backoff();
        events.filter_map(|event| async move {
            match event {
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    Some(Ok(Change::Marked(marked_of(object))))
                }
                Ok(Event::Delete(object)) => {
                    Some(Ok(Change::Gone(object.metadata.name.unwrap_or_default())))
                }
                Ok(Event::Init | Event::InitDone) => None,
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Reads a marked session; `None` if it is gone, not marked any more, or nobody's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self, name: &str) -> Result<Option<StoredSession>, StoreError> {
        match within(self.api.get(name)).await {
            Ok(session) if is_marked(&session) => stored(session).map(Some),
            Ok(_) | Err(Failure::Unreadable(_)) => Ok(None),
            Err(Failure::Answered(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the mark off. A session that is gone is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unmark(&self, name: &str) -> Result<(), StoreError> {
        match within(self.api.patch_metadata(name, &params(), &Patch::Merge(told()))).await {
            Ok(_) => Ok(()),
            Err(Failure::Answered(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_marked(session: &Session) -> bool {
    let labels = session.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(labels::LOGOUT_PENDING))
}

fn marked_of(object: PartialObjectMeta<Session>) -> Marked {
    let mut labels = object.metadata.labels.unwrap_or_default();
    Marked {
        name: object.metadata.name.unwrap_or_default(),
        client_hash: labels.remove(labels::CLIENT_HASH).unwrap_or_default(),
        since: labels.get(labels::LOGOUT_PENDING).and_then(|since| since.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mark_that_an_administrator_wrote_has_no_time() {
        let marked = |mark: &str| {
            let object = json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "s", "labels": {labels::LOGOUT_PENDING: mark, labels::CLIENT_HASH: "c"}},
            });
            marked_of(serde_json::from_value(object).unwrap())
        };
        let expected = |since| Marked { name: "s".into(), client_hash: "c".into(), since };
        assert_eq!(marked("1764000000"), expected(Some(1_764_000_000)));
        assert_eq!(marked("yes"), expected(None));
    }
}

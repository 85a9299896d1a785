//! Writes conditions: leader only, server-side apply, and nothing when nothing changed.
//!
//! What always holds:
//! - status is output: nothing in this crate reads it back, but for the time of the last flip;
//! - a write carries the object's UID, so a new object of an old name gets no old status;
//! - what was written is not written again while its echo is on the way;
//! - what failed is tried again after a pause that grows, whatever changes meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::assess::Assessment;
use crate::backoff::Backoff;
use crate::deadline::within;
use crate::error::ControllerError;
use crate::events::{Flip, Publisher};
use crate::world::ObjectKey;

/// Field manager of every status Claviger writes.
pub const FIELD_MANAGER: &str = "claviger-status";
/// Status writes under way at once.
const AT_ONCE: usize = 8;

/// A status that differs from what the object carries.
#[derive(Debug, Clone)]
pub struct StatusUpdate {
    /// Kind and plural.
    pub resource: ApiResource,
    /// Which object.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// Its resource version when this was assessed.
    pub observed_version: String,
    /// The whole new status, as JSON: a tree of it takes several times the memory, and a change of an issuer's may make
    /// one for each of a thousand clients.
    pub status: String,
    /// Conditions that flip by it.
    pub flips: Vec<Flip>,
}

impl StatusUpdate {
    /// The update that gives `object` this status, or `None` if it has it already.
    pub fn of<K, S>(object: &K, current: Option<&S>, wanted: &S, flips: Vec<Flip>) -> Option<Self>
    where
        K: Resource<DynamicType = ()> + ResourceExt,
        S: Serialize + PartialEq,
    {
        if current == Some(wanted) {
            return None;
        }
        Some(Self {
            resource: ApiResource::erase::<K>(&()),
            key: ObjectKey::of(object),
            uid: object.uid().unwrap_or_default(),
            observed_version: object.resource_version().unwrap_or_default(),
            status: serde_json::to_string(wanted).ok()?,
            flips,
        })
    }

    fn identity(&self) -> Identity {
        (self.resource.kind.clone(), self.key.clone())
    }

    /// For Events.
    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.resource.api_version.clone()),
            kind: Some(self.resource.kind.clone()),
            namespace: Some(self.key.namespace.clone()),
            name: Some(self.key.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }

    /// The status to look into.
    ///
    /// # Errors
    /// None that is known: [`StatusUpdate::of`] wrote it.
    pub fn tree(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.status)
    }

    /// The status but for the times of conditions.
    fn timeless(&self) -> String {
        without_times(&self.tree().unwrap_or_default()).to_string()
    }
}

/// The body of a server-side apply.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Apply<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: ApplyMeta<'a>,
    status: Value,
}

#[derive(Debug, Serialize)]
struct ApplyMeta<'a> {
    name: &'a str,
    namespace: &'a str,
    uid: &'a str,
}

/// Kind and key.
type Identity = (String, ObjectKey);

/// What was written last, until its echo comes, and what failed.
#[derive(Debug, Default)]
struct Memory {
    written: HashMap<Identity, (String, String)>,
    failed: Backoff<Identity>,
}

impl Memory {
    /// Whether the same was already written upon the same version of the object, or writing it failed
    /// so lately that it must wait.
    fn is_pending(&self, update: &StatusUpdate) -> bool {
        let identity = update.identity();
        if self.failed.is_resting(&identity, Instant::now()) {
            return true;
        }
        self.written.get(&identity).is_some_and(|(version, status)| {
            *version == update.observed_version && *status == update.timeless()
        })
    }

    fn remember(&mut self, update: &StatusUpdate) {
        let written = (update.observed_version.clone(), update.timeless());
        self.failed.forget(&update.identity());
        self.written.insert(update.identity(), written);
    }

    /// Keeps only what still differs: everything else has had its echo.
    fn retain(&mut self, updates: &[StatusUpdate]) {
        let open: std::collections::HashSet<_> =
            updates.iter().map(StatusUpdate::identity).collect();
        self.written.retain(|identity, _| open.contains(identity));
        self.failed.retain(|identity| open.contains(identity));
    }
}

fn without_times(status: &Value) -> Value {
    match status {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "lastTransitionTime")
            .map(|(name, value)| (name.clone(), without_times(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_times).collect(),
        other => other.clone(),
    }
}

/// Writes what the assessments ask for, while leading, until they end.
///
/// # Errors
/// None of its own; the signature is that of every task.
pub async fn run(
    client: Client,
    mut assessments: watch::Receiver<Arc<Assessment>>,
    mut leadership: watch::Receiver<bool>,
    events: Publisher,
) -> Result<(), ControllerError> {
    let mut memory = Memory::default();
    loop {
        let leads = *leadership.borrow_and_update();
        let updates = Arc::clone(&assessments.borrow_and_update().updates);
        if leads {
            memory.retain(&updates);
            write_all(&client, &updates, &mut memory, &events).await;
        }
        let again = memory.failed.next().filter(|_| leads);
        tokio::select! {
            changed = assessments.changed() => if changed.is_err() { return Ok(()) },
            changed = leadership.changed() => if changed.is_err() { return Ok(()) },
            () = until(again) => {}
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Writes every update that is not on its way yet.
async fn write_all(
    client: &Client,
    updates: &[StatusUpdate],
    memory: &mut Memory,
    events: &Publisher,
) {
    let open: Vec<&StatusUpdate> =
        updates.iter().filter(|update| !memory.is_pending(update)).collect();
    for batch in open.chunks(AT_ONCE) {
        let writes = batch.iter().map(|update| write_and_tell(client, update, events));
        for (update, result) in batch.iter().zip(join_all(writes).await) {
            note(update, result, memory);
        }
    }
}

/// Takes in how a write went.
fn note(update: &StatusUpdate, result: Result<(), kube::Error>, memory: &mut Memory) {
    match result {
        Ok(()) => memory.remember(update),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            tracing::debug!(object = %update.key, "object changed before its status was written");
        }
        Err(error) => {
            let kind = update.resource.kind.as_str();
            tracing::warn!(kind, object = %update.key, %error, "failed to write status");
            memory.failed.failed(update.identity(), &error, Instant::now());
        }
    }
}

async fn write_and_tell(
    client: &Client,
    update: &StatusUpdate,
    events: &Publisher,
) -> Result<(), kube::Error> {
    write(client, update).await?;
    events.publish(&update.reference(), &update.flips).await;
    Ok(())
}

async fn write(client: &Client, update: &StatusUpdate) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &update.key.namespace, &update.resource);
    let body = Apply {
        api_version: &update.resource.api_version,
        kind: &update.resource.kind,
        metadata: ApplyMeta {
            name: &update.key.name,
            namespace: &update.key.namespace,
            uid: &update.uid,
        },
        status: update.tree().map_err(kube::Error::SerdeError)?,
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    within(api.patch_status(&update.key.name, &params, &Patch::Apply(&body))).await.map(|_| ())
}

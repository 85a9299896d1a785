//! [`Devices`] over `DeviceAuthorization` objects: one create, one patch, and a watch that answers everything
//! else from memory.
//!
//! What always holds:
//! - asking costs no request; what the watch has not told yet is not known here, but for what this replica
//!   stored itself;
//! - deciding is a JSON patch that begins with a `test` of the state, so a device is decided about once;
//! - what is over is deleted by the leader, by a label of the minute it expired in (by name, where somebody
//!   removed that), and only where memory says that there is something: at rest that costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use claviger_api::{
    DeviceAuthorization, DeviceAuthorizationSpec, DeviceAuthorizationState, labels, time,
};
use claviger_domain::ports::{
    DeviceDecision, DeviceState, Devices, KnownDevice, NewDevice, StoreError, Waiting,
};
use futures::TryStreamExt;
use kube::Resource;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::collection::{Collection, Deleted, PageError};
use crate::request::{Failure, within};
use crate::session::unavailable;
use crate::write_gate::{Whose, WriteGate};

/// Name under which our writes stand in `managedFields`.
const FIELD_MANAGER: &str = "claviger-devices";
/// How long after its minute a device's authorization goes: replicas' clocks may differ.
const MARGIN_SECONDS: i64 = 120;
/// How many whose label somebody removed go in one round, a request each.
const MAX_STRAYS: usize = 20;

/// Devices that wait, as Kubernetes objects in one namespace.
#[derive(Debug)]
pub struct KubeDevices {
    api: Api<DeviceAuthorization>,
    gate: Arc<WriteGate>,
    known: RwLock<HashMap<String, Held>>,
    synced: AtomicBool,
}

impl KubeDevices {
    /// Devices in a namespace; `client` must be a [`crate::request_path_client`]. What is written passes
    /// `gate`.
    pub fn new(client: kube::Client, namespace: &str, gate: Arc<WriteGate>) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            gate,
            known: RwLock::default(),
            synced: AtomicBool::new(false),
        }
    }

    /// Follows the devices of a namespace until the task is dropped. Errors back off and the watch resumes.
    pub async fn follow(&self, client: kube::Client, namespace: &str) {
        let api: Api<Watched> = Api::namespaced(client, namespace);
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        let mut listed = HashMap::new();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.apply(event, &mut listed),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "watch of device authorizations failed; resuming");
                }
            }
        }
    }

    fn apply(&self, event: Event<Watched>, listed: &mut HashMap<String, Held>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => put(listed, object),
            Event::InitDone => {
                *known = std::mem::take(listed);
                self.synced.store(true, Ordering::Release);
            }
            Event::Apply(object) => put(&mut known, object),
            Event::Delete(object) => {
                known.remove(object.meta().name.as_deref().unwrap_or_default());
            }
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, HashMap<String, Held>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is to be deleted at this time, as far as memory knows.
    pub fn is_garbage_due(&self, now: i64) -> bool {
        self.known().values().any(|held| held.is_over(now))
    }

    /// Those that are over and that the label does not find, `limit` at most; and whether it finds any.
    fn garbage(&self, now: i64, limit: usize) -> (Vec<String>, bool) {
        let known = self.known();
        let over = || known.values().filter(|held| held.is_over(now));
        let strays = over().filter(|held| !held.is_labelled).take(limit);
        let strays = strays.map(|held| held.device.name.clone()).collect();
        (strays, over().any(|held| held.is_labelled))
    }
}

/// What is known of one that is stored.
#[derive(Debug)]
struct Held {
    device: KnownDevice,
    /// Whether it carries the label of the minute it expires in.
    is_labelled: bool,
}

impl Held {
    fn is_over(&self, now: i64) -> bool {
        self.device.expires_at.div_euclid(60) < past_minute(now)
    }
}

/// An object, or what somebody edited into something else: that is nobody's, and hides no other.
type Watched = DeserializeGuard<DeviceAuthorization>;

fn put(devices: &mut HashMap<String, Held>, object: Watched) {
    match object.0 {
        Ok(object) => {
            let held = held(object);
            devices.insert(held.device.name.clone(), held);
        }
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            tracing::warn!(name, error = invalid.error, "a device authorization cannot be read");
            devices.remove(&name);
        }
    }
}

#[async_trait]
impl Devices for KubeDevices {
    async fn create(&self, device: &NewDevice) -> Result<(), StoreError> {
        let _permit = self.gate.pass(Whose::Devices)?;
        let object = object(device);
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match within(self.api.create(&params, &object)).await {
            Ok(stored) => {
                let held = held(stored);
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                // Unless the watch was faster, and told of more.
                known.entry(held.device.name.clone()).or_insert(held);
                Ok(())
            }
            Err(Failure::Answered(status)) if status.is_already_exists() => {
                Err(StoreError::AlreadyExists)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn decide(&self, name: &str, decision: &DeviceDecision) -> Result<(), StoreError> {
        let _permit = self.gate.pass(Whose::Session(name))?;
        let mut operations = vec![json!({"op": "test", "path": "/spec/state", "value": "Pending"})];
        let state = match decision {
            DeviceDecision::Approved(payload) => {
                let replace = json!({"op": "replace", "path": "/spec/payload", "value": payload});
                operations.push(replace);
                "Approved"
            }
            DeviceDecision::Denied => "Denied",
        };
        operations.push(json!({"op": "replace", "path": "/spec/state", "value": state}));
        let patch = serde_json::from_value(json!(operations)).map_err(unavailable)?;
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match within(self.api.patch_metadata(name, &params, &Patch::Json::<()>(patch))).await {
            Ok(_) => Ok(()),
            Err(Failure::Answered(status)) if matches!(status.code, 404 | 409 | 422) => {
                Err(StoreError::PreconditionFailed)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn find(&self, name: &str) -> Option<KnownDevice> {
        self.known().get(name).map(|held| held.device.clone())
    }

    fn find_pending(
        &self,
        issuer_hash: &str,
        now: i64,
        is_wanted: &dyn Fn(&KnownDevice) -> bool,
    ) -> Option<KnownDevice> {
        let known = self.known();
        let mut found = known.values().map(|held| &held.device).filter(|device| {
            device.issuer_hash == issuer_hash
                && device.state == DeviceState::Pending
                && device.expires_at > now
                && is_wanted(device)
        });
        let first = found.next();
        first.filter(|_| found.next().is_none()).cloned()
    }

    fn waiting(
        &self,
        issuer_hash: &str,
        client_hash: &str,
        source_mac: &str,
        now: i64,
    ) -> Option<Waiting> {
        if !self.synced.load(Ordering::Acquire) {
            return None;
        }
        let mut waiting = Waiting::default();
        for Held { device, .. } in self.known().values() {
            if device.issuer_hash == issuer_hash && device.expires_at > now {
                waiting.count(device.client_hash == client_hash, device.source_mac == source_mac);
            }
        }
        Some(waiting)
    }
}

/// Deletes device authorizations that are over.
#[derive(Clone)]
pub struct DeviceGarbage {
    devices: Collection,
    known: Arc<KubeDevices>,
}

impl DeviceGarbage {
    /// Collects in a namespace; `client` must not retry by itself.
    pub fn new(client: kube::Client, namespace: &str, known: Arc<KubeDevices>) -> Self {
        Self { devices: Collection::of::<DeviceAuthorization>(client, namespace), known }
    }

    /// Whether anything is to be deleted at this time, as far as memory knows: no request.
    pub fn is_due(&self, now: i64) -> bool {
        self.known.is_garbage_due(now)
    }

    /// Deletes at most `limit` of what is over at this time: one by one what has lost its label, and what has
    /// it in one request.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn delete_page(&self, now: i64, limit: u32) -> Result<Deleted, PageError> {
        let (strays, finds_any) = self.known.garbage(now, MAX_STRAYS);
        let mut count = 0;
        for name in &strays {
            count += self.devices.delete_named(name).await?.count;
        }
        if !finds_any {
            return Ok(Deleted { count, more: false }); // more strays: the next round
        }
        let past = format!("{}<{}", labels::EXPIRY_MINUTE, past_minute(now));
        let page = self.devices.delete_page(&past, limit).await?;
        Ok(Deleted { count: page.count + count, ..page })
    }
}

/// Whatever expired in a minute before this one is over for good.
fn past_minute(now: i64) -> i64 {
    now.saturating_sub(MARGIN_SECONDS).div_euclid(60)
}

fn minute_label(expires_at: i64) -> String {
    expires_at.div_euclid(60).to_string()
}

fn object(device: &NewDevice) -> DeviceAuthorization {
    let labels: BTreeMap<String, String> = [
        (labels::EXPIRY_MINUTE, minute_label(device.expires_at)),
        (labels::ISSUER_HASH, device.issuer_hash.clone()),
        (labels::CLIENT_HASH, device.client_hash.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    DeviceAuthorization {
        metadata: ObjectMeta {
            name: Some(device.name.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: DeviceAuthorizationSpec {
            state: DeviceAuthorizationState::Pending,
            client_uid: device.client_uid.clone(),
            client_id: device.client_id.clone(),
            user_code_mac: device.user_code_mac.clone(),
            source_mac: Some(device.source_mac.clone()),
            expires_at: time::from_seconds(device.expires_at),
            payload: device.payload.clone(),
        },
    }
}

fn held(object: DeviceAuthorization) -> Held {
    let labels = object.metadata.labels.as_ref();
    let minute = labels.and_then(|given| given.get(labels::EXPIRY_MINUTE).cloned());
    let device = device_of(object);
    let is_labelled = minute == Some(minute_label(device.expires_at));
    Held { device, is_labelled }
}

fn device_of(object: DeviceAuthorization) -> KnownDevice {
    let labels = object.metadata.labels.unwrap_or_default();
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let spec = object.spec;
    KnownDevice {
        name: object.metadata.name.unwrap_or_default(),
        issuer_hash: label(labels::ISSUER_HASH),
        client_hash: label(labels::CLIENT_HASH),
        client_uid: spec.client_uid,
        state: match spec.state {
            DeviceAuthorizationState::Pending => DeviceState::Pending,
            DeviceAuthorizationState::Approved => DeviceState::Approved,
            DeviceAuthorizationState::Denied => DeviceState::Denied,
        },
        user_code_mac: spec.user_code_mac,
        source_mac: spec.source_mac.unwrap_or_default(),
        expires_at: time::to_seconds(&spec.expires_at),
        payload: spec.payload,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use kube::Config;
    use prometheus::Registry;

    use super::*;
    use crate::api_time::ApiTime;
    use crate::client::request_path_client;
    use crate::write_gate::{Share, WriteLimits};

    fn devices() -> KubeDevices {
        let share = Share { per_minute: NonZeroU32::MIN, burst: NonZeroU32::MIN };
        let limits = WriteLimits {
            per_second: NonZeroU32::MIN,
            burst: NonZeroU32::MIN,
            in_flight: NonZeroU32::MIN,
            per_user: share,
            per_session: share,
        };
        let gate = Arc::new(WriteGate::new(limits, &Registry::new()).unwrap());
        let config = Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = request_path_client(&config, &Arc::new(ApiTime::default())).unwrap();
        KubeDevices::new(client, "home", gate)
    }

    fn stored(name: &str, (issuer, client): (&str, &str), expires_at: i64) -> Watched {
        DeserializeGuard(Ok(object(&NewDevice {
            name: name.into(),
            issuer_hash: issuer.into(),
            client_hash: client.into(),
            client_uid: "uid".into(),
            client_id: "id".into(),
            user_code_mac: format!("mac-of-{name}"),
            source_mac: "here".into(),
            expires_at,
            payload: "sealed".into(),
        })))
    }

    fn tell(devices: &KubeDevices, events: impl IntoIterator<Item = Event<Watched>>) {
        let mut listed = HashMap::new();
        for event in events {
            devices.apply(event, &mut listed);
        }
    }

    #[tokio::test]
    async fn what_the_watch_told_is_known_and_nothing_is_said_before_it_did() {
        let devices = devices();
        assert_eq!(devices.waiting("i", "c", "here", 0), None);
        let mut approved = stored("two", ("i", "d"), 900);
        approved.0.as_mut().unwrap().spec.state = DeviceAuthorizationState::Approved;
        let mut elsewhere = stored("three", ("i", "c"), 900);
        elsewhere.0.as_mut().unwrap().spec.source_mac = None; // of an older release
        tell(
            &devices,
            [
                Event::Init,
                Event::InitApply(stored("one", ("i", "c"), 900)),
                Event::InitApply(stored("other", ("j", "c"), 900)),
                Event::InitDone,
                Event::Apply(approved),
                Event::Apply(elsewhere),
            ],
        );
        let waiting = |now| devices.waiting("i", "c", "here", now);
        let counted = Waiting { of_client: 2, of_issuer: 3, of_client_and_source: 1, of_source: 2 };
        assert_eq!(waiting(899), Some(counted));
        assert_eq!(waiting(900), Some(Waiting::default()), "over");
        let pending = |mac: &'static str, now| {
            let found = devices.find_pending("i", now, &|device| device.user_code_mac == mac);
            found.map(|device| device.name)
        };
        assert_eq!(pending("mac-of-one", 899).as_deref(), Some("one"));
        assert_eq!(pending("mac-of-one", 900), None, "over");
        assert_eq!(pending("mac-of-two", 899), None, "decided");
        assert_eq!(pending("mac-of-other", 899), None, "another issuer's");
        assert_eq!(devices.find("two").unwrap().state, DeviceState::Approved);
        tell(&devices, [Event::Delete(stored("two", ("i", "d"), 900))]);
        assert_eq!(devices.find("two"), None);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_nobodys_and_hides_no_other() {
        let devices = devices();
        tell(&devices, [Event::Apply(stored("one", ("i", "c"), 900))]);
        let edited = serde_json::json!({
            "apiVersion": "claviger.dev/v1alpha1", "kind": "DeviceAuthorization",
            "metadata": {"name": "one"}, "spec": {"expiresAt": "never"},
        });
        let edited: Watched = serde_json::from_value(edited).unwrap();
        tell(&devices, [Event::Apply(edited), Event::Apply(stored("two", ("i", "c"), 900))]);
        assert_eq!(devices.find("one"), None);
        assert!(devices.find("two").is_some());
    }

    #[tokio::test]
    async fn a_code_that_two_devices_show_is_nobodys() {
        let devices = devices();
        let both = ["one", "two"].map(|name| Event::Apply(stored(name, ("i", "c"), 900)));
        tell(&devices, both);
        assert_eq!(devices.find_pending("i", 0, &|_| true), None);
    }

    #[tokio::test]
    async fn what_is_over_is_due_two_minutes_after_its_minute_and_not_before() {
        let devices = devices();
        tell(&devices, [Event::Apply(stored("one", ("i", "c"), 6_010))]);
        assert!(!devices.is_garbage_due(6_060 + MARGIN_SECONDS - 1));
        assert!(devices.is_garbage_due(6_060 + MARGIN_SECONDS));
    }

    #[tokio::test]
    async fn what_lost_its_label_goes_by_name_and_what_has_it_by_the_label() {
        let devices = devices();
        let mut stray = stored("stray", ("i", "c"), 6_010);
        stray.0.as_mut().unwrap().metadata.labels = None;
        let mut wrong = stored("wrong", ("i", "c"), 6_010);
        let labels = wrong.0.as_mut().unwrap().metadata.labels.as_mut().unwrap();
        labels.insert(labels::EXPIRY_MINUTE.into(), "99999999".into());
        tell(&devices, [Event::Apply(stray), Event::Apply(wrong)]);
        assert_eq!(devices.garbage(6_010, 9), (vec![], false), "not over");
        let over = 6_060 + MARGIN_SECONDS;
        let (mut strays, finds_any) = devices.garbage(over, 9);
        strays.sort();
        assert_eq!((strays, finds_any), (vec!["stray".into(), "wrong".into()], false));
        assert_eq!(devices.garbage(over, 1).0.len(), 1);
        tell(&devices, [Event::Apply(stored("one", ("i", "c"), 6_010))]);
        assert!(devices.garbage(over, 9).1);
    }
}

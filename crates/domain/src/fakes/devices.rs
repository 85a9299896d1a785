//! Devices that wait, in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::lock;
use crate::ports::{
    DeviceDecision, DeviceState, Devices, KnownDevice, NewDevice, StoreError, Waiting,
};

/// Devices in memory, with a record of every request, and a watch that lags on demand.
#[derive(Debug, Default)]
pub struct MemoryDevices {
    stored: Mutex<BTreeMap<String, KnownDevice>>,
    /// What the watch told of them.
    known: Mutex<BTreeMap<String, KnownDevice>>,
    requests: Mutex<Vec<&'static str>>,
    lags: AtomicBool,
    unknown: AtomicBool,
}

impl MemoryDevices {
    /// The requests made so far, taken out: `create`, `decide`.
    pub fn take_requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut lock(&self.requests))
    }

    /// Every stored one.
    pub fn all(&self) -> Vec<KnownDevice> {
        lock(&self.stored).values().cloned().collect()
    }

    /// From now on decisions are not heard of; or what was missed is.
    pub fn set_lagging(&self, lags: bool) {
        self.lags.store(lags, Ordering::SeqCst);
        if !lags {
            self.catch_up();
        }
    }

    /// Nothing is known yet, or no more.
    pub fn set_unknown(&self, unknown: bool) {
        self.unknown.store(unknown, Ordering::SeqCst);
    }

    /// Changes one, as somebody who may patch them would.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut KnownDevice)) {
        if let Some(device) = lock(&self.stored).get_mut(name) {
            edit(device);
        }
        self.catch_up();
    }

    fn catch_up(&self) {
        let stored = lock(&self.stored).clone();
        *lock(&self.known) = stored;
    }
}

#[async_trait]
impl Devices for MemoryDevices {
    async fn create(&self, device: &NewDevice) -> Result<(), StoreError> {
        lock(&self.requests).push("create");
        let known = KnownDevice {
            name: device.name.clone(),
            issuer_hash: device.issuer_hash.clone(),
            client_hash: device.client_hash.clone(),
            client_uid: device.client_uid.clone(),
            state: DeviceState::Pending,
            user_code_mac: device.user_code_mac.clone(),
            source_mac: device.source_mac.clone(),
            expires_at: device.expires_at,
            payload: device.payload.clone(),
        };
        if lock(&self.stored).insert(device.name.clone(), known.clone()).is_some() {
            return Err(StoreError::AlreadyExists);
        }
        lock(&self.known).insert(device.name.clone(), known);
        Ok(())
    }

    async fn decide(&self, name: &str, decision: &DeviceDecision) -> Result<(), StoreError> {
        lock(&self.requests).push("decide");
        match lock(&self.stored).get_mut(name) {
            Some(device) if device.state == DeviceState::Pending => match decision {
                DeviceDecision::Approved(payload) => {
                    device.state = DeviceState::Approved;
                    device.payload.clone_from(payload);
                }
                DeviceDecision::Denied => device.state = DeviceState::Denied,
            },
            _ => return Err(StoreError::PreconditionFailed),
        }
        if !self.lags.load(Ordering::SeqCst) {
            self.catch_up();
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<KnownDevice> {
        lock(&self.known).get(name).cloned()
    }

    fn find_pending(
        &self,
        issuer_hash: &str,
        now: i64,
        is_wanted: &dyn Fn(&KnownDevice) -> bool,
    ) -> Option<KnownDevice> {
        let known = lock(&self.known);
        let mut found = known.values().filter(|device| {
            device.issuer_hash == issuer_hash
                && device.state == DeviceState::Pending
                && device.expires_at > now
                && is_wanted(device)
        });
        let first = found.next().cloned();
        first.filter(|_| found.next().is_none())
    }

    fn waiting(
        &self,
        issuer_hash: &str,
        client_hash: &str,
        source_mac: &str,
        now: i64,
    ) -> Option<Waiting> {
        if self.unknown.load(Ordering::SeqCst) {
            return None;
        }
        let known = lock(&self.known);
        let mut waiting = Waiting::default();
        for device in known.values().filter(|d| d.issuer_hash == issuer_hash && d.expires_at > now)
        {
            waiting.count(device.client_hash == client_hash, device.source_mac == source_mac);
        }
        Some(waiting)
    }
}

//! Built upstreams, kept as long as nothing they were built from changed: their connection pools
//! must survive every other change in the world, and so must what their circuit breakers know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_connectors::guard::Observer;
use claviger_connectors::{BuildError, Upstream};

/// One build of one connector: the same key, the same upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamKey {
    /// `metadata.uid` of the Connector.
    pub uid: String,
    /// `metadata.generation` of the Connector.
    pub generation: i64,
    /// Versions of everything else it was built from: Secrets, users.
    pub inputs: Vec<String>,
}

/// Upstreams by what they were built from.
#[derive(Debug)]
pub struct Cache {
    observer: Arc<dyn Observer>,
    built: BTreeMap<UpstreamKey, Result<Upstream, BuildError>>,
    used: BTreeSet<UpstreamKey>,
}

impl Cache {
    /// An empty one; the observer is told of every question to the upstreams in it.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer, built: BTreeMap::new(), used: BTreeSet::new() }
    }

    /// The upstream of this key of the connector of this name, built now if it was never built before.
    ///
    /// # Errors
    /// What `build` said, the first time.
    pub fn get(
        &mut self,
        (name, key): (&str, &UpstreamKey),
        build: impl FnOnce() -> Result<Upstream, BuildError>,
    ) -> Result<Upstream, BuildError> {
        self.used.insert(key.clone());
        let guarded = || build().map(|upstream| upstream.guarded(name, &self.observer));
        self.built.entry(key.clone()).or_insert_with(guarded).clone()
    }

    /// Drops what was not asked for since the last sweep.
    pub fn sweep(&mut self) {
        let used = std::mem::take(&mut self.used);
        self.built.retain(|key, _| used.contains(key));
    }
}

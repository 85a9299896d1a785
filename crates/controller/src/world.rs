//! What is known of the cluster and of the upstreams: plain maps, and nothing decided.
//!
//! ```text
//! watch::follow ─→ ┐
//! probe         ─→ ├ Observations ─ wake ─→ publish: World (a clone) → assess
//! reconcile     ─→ ┘
//! ```
//! What always holds:
//! - outside home only `OAuth2Clients`, namespace labels and labelled Secrets are known at all;
//! - an object that cannot be decoded is logged and kept apart, as it came; it never hurts another;
//! - the signing keys Claviger made are remembered when somebody deletes their Secret.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claviger_api::{Connector, LocalUser, OAuth2Client, OIDCIssuer, SigningKey};
use claviger_domain::ports::Clock;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::DynamicObject;
use tokio::sync::Notify;

use crate::bounds::Bounds;
use crate::config_map;
use crate::probe::Probed;
use crate::ring_secret;
use crate::secret::{self, Use};
use crate::upstream::UpstreamKey;
use crate::watch::Change;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// The key of this name in this namespace.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All known objects of one kind.
pub type Objects<K> = BTreeMap<ObjectKey, Arc<K>>;

/// One reflector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `OIDCIssuers` in home.
    Issuers,
    /// Connectors in home.
    Connectors,
    /// `SigningKeys` in home.
    SigningKeys,
    /// `LocalUsers` in home.
    LocalUsers,
    /// `OAuth2Clients` everywhere.
    Clients,
    /// Namespaces (metadata).
    Namespaces,
    /// Labelled Secrets of one namespace.
    Secrets(String),
    /// Labelled `ConfigMaps` in home.
    ConfigMaps,
}

impl Source {
    /// Which of the objects are looked at.
    pub fn labels(&self) -> Option<&'static str> {
        match self {
            Self::Secrets(_) => Some(secret::WATCHED),
            Self::ConfigMaps => Some(config_map::WATCHED),
            _ => None,
        }
    }

    /// Whether Claviger can serve without these objects: only the Secrets of a tenant namespace, and `ConfigMaps`, which a
    /// Role of an older chart does not show.
    fn may_be_denied(&self, home: &str) -> bool {
        match self {
            Self::Secrets(namespace) => namespace != home,
            Self::ConfigMaps => true,
            _ => false,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secrets(namespace) => write!(f, "Secrets in {namespace}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// How far a reflector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The first list has not come yet.
    Syncing,
    /// Its objects are known, as they were at this time.
    Synced {
        /// When the API server last said that nothing was missed, by the clock that nobody sets.
        confirmed_at: i64,
    },
    /// The API server refuses to show them.
    Denied,
}

/// Why Claviger could not write a Secret of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A Secret of that name exists and is somebody else's.
    Foreign,
    /// The API server refuses the write.
    Denied,
    /// There is no ring, and sessions exist that only the lost one can open.
    SessionsWithoutRing,
}

/// Everything observed, at one moment. Clones are cheap.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The namespace the operator runs in.
    pub home: String,
    /// How old knowledge may be.
    pub bounds: Bounds,
    /// Whether this process listens for trusted proxies.
    pub takes_proxies: bool,
    /// The token by which Entra ID knows this process, if there is one.
    pub azure_federated_token_file: Option<PathBuf>,
    /// Issuers in home.
    pub issuers: Objects<OIDCIssuer>,
    /// Connectors in home.
    pub connectors: Objects<Connector>,
    /// Signing keys in home.
    pub signing_keys: Objects<SigningKey>,
    /// Local users in home.
    pub local_users: Objects<LocalUser>,
    /// Clients everywhere.
    pub clients: Objects<OAuth2Client>,
    /// Labels of every namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Labelled Secrets of the namespaces that are watched.
    pub secrets: Objects<Secret>,
    /// Labelled `ConfigMaps` in home.
    pub config_maps: Objects<ConfigMap>,
    /// Signing-key Secrets that somebody deleted or labelled for another use, as they last were. One
    /// that cannot be read is not among them: to delete it is the way to be rid of it.
    pub remembered: Objects<Secret>,
    /// What exists and does not fit its schema.
    pub unreadable: BTreeMap<Source, Objects<DynamicObject>>,
    /// How far each reflector is.
    pub sources: BTreeMap<Source, Progress>,
    /// What asking the upstreams said.
    pub probes: BTreeMap<UpstreamKey, Probed>,
    /// What stands in the way of Secrets we would write.
    pub obstacles: BTreeMap<ObjectKey, Obstacle>,
}

impl World {
    /// Whether every reflector has listed once (or was refused).
    pub fn is_synced(&self) -> bool {
        self.sources.values().all(|progress| *progress != Progress::Syncing)
    }

    /// When the oldest news was last confirmed by the API server, by the clock that nobody sets.
    pub fn confirmed_at(&self) -> Option<i64> {
        let confirmed = self.sources.values().filter_map(|progress| match progress {
            Progress::Synced { confirmed_at } => Some(*confirmed_at),
            Progress::Syncing | Progress::Denied => None,
        });
        confirmed.min()
    }

    /// Whether nothing confirmed this world for so long that it must not be signed from.
    pub fn is_stale(&self, elapsed: i64) -> bool {
        self.stale_at().is_some_and(|at| elapsed >= at)
    }

    /// When it is, unless something confirms it before.
    pub fn stale_at(&self) -> Option<i64> {
        self.confirmed_at().map(|at| at + i64::from(self.bounds.staleness))
    }

    /// How far the Secrets of a namespace are; `None` if they are not watched at all.
    pub fn secret_access(&self, namespace: &str) -> Option<Progress> {
        self.sources.get(&Source::Secrets(namespace.to_owned())).copied()
    }
}

/// The one place observations are written to and read from.
#[derive(Debug)]
pub struct Observations {
    world: Mutex<World>,
    wake: Notify,
    clock: Arc<dyn Clock>,
}

impl Observations {
    /// Nothing is known yet, and these sources are to be waited for.
    pub fn new(
        home: &str,
        sources: impl IntoIterator<Item = Source>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let sources = sources.into_iter().map(|source| (source, Progress::Syncing)).collect();
        let world = World { home: home.to_owned(), sources, ..World::default() };
        Self { world: Mutex::new(world), wake: Notify::new(), clock }
    }

    /// The same, where knowledge may be this old.
    #[must_use]
    pub fn with_bounds(self, bounds: Bounds) -> Self {
        self.lock().bounds = bounds;
        self
    }

    /// Everything known now.
    pub fn world(&self) -> World {
        self.lock().clone()
    }

    /// What is known to stand in the way of a Secret.
    pub fn obstacle(&self, key: &ObjectKey) -> Option<Obstacle> {
        self.lock().obstacles.get(key).copied()
    }

    /// What the last question to an upstream said.
    pub fn probe(&self, key: &UpstreamKey) -> Option<Probed> {
        self.lock().probes.get(key).cloned()
    }

    /// Changes what is known and wakes the publisher.
    pub fn update(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }

    /// Resolves when something changed since the last call.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Takes in what a reflector learned.
    pub fn take_in<K>(
        &self,
        source: &Source,
        change: Change<K>,
        store: impl FnOnce(&mut World, Change<K>),
    ) {
        // Not the wall clock: set back, it would make a replica that is cut off look fresh.
        let now = self.clock.elapsed();
        let mut world = self.lock();
        let was_stale = world.is_stale(now);
        let quiet = matches!(change, Change::Confirmed);
        let denied = matches!(change, Change::Denied);
        if denied && !source.may_be_denied(&world.home) {
            // Forgetting all clients would end their sessions; going stale only makes them wait.
            return;
        }
        store(&mut world, change);
        let progress =
            if denied { Progress::Denied } else { Progress::Synced { confirmed_at: now } };
        let before = world.sources.insert(source.clone(), progress);
        let silent = quiet || (denied && before == Some(Progress::Denied));
        let wake = !silent || was_stale != world.is_stale(now);
        drop(world);
        if wake {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings a map of objects up to date.
pub fn store<K: ResourceExt>(objects: &mut Objects<K>, change: Change<K>) {
    match change {
        Change::Replaced(all) => *objects = all.into_iter().map(keyed).collect(),
        Change::Applied(object) => {
            let (key, object) = keyed(object);
            objects.insert(key, object);
        }
        Change::Deleted(key) => {
            objects.remove(&key);
        }
        Change::Denied => objects.clear(),
        Change::Confirmed => {}
    }
}

/// Brings the Secrets of one namespace up to date, and remembers keys of ours that vanish.
pub fn store_secrets(world: &mut World, namespace: &str, change: Change<Secret>) {
    let mut of_namespace: Objects<Secret> =
        world.secrets.extract_if(.., |key, _| key.namespace == namespace).collect();
    let before = of_namespace.clone();
    let denied = matches!(change, Change::Denied);
    store(&mut of_namespace, change);
    if namespace == world.home && !denied {
        let is_there =
            |key: &ObjectKey| of_namespace.get(key).is_some_and(|secret| secret::is_own(secret));
        world.remembered.retain(|key, _| !is_there(key));
        for (key, secret) in before {
            if !is_there(&key) && is_readable(&secret) {
                world.remembered.insert(key, secret);
            }
        }
    }
    world.secrets.append(&mut of_namespace);
}

/// Whether this is a signing-key Secret that holds what it must, and is somebody's: keys that no
/// `SigningKey` has claimed are gone when they are deleted. Of the sealing ring's, the assessor
/// remembers the keys.
fn is_readable(secret: &Secret) -> bool {
    let is_orphan = secret.annotations().contains_key(secret::ORPHANED_AT);
    !is_orphan && Use::SigningKey.admits(secret) && ring_secret::decode(secret).is_ok()
}

/// Brings the namespaces' labels up to date.
pub fn store_namespaces(
    namespaces: &mut BTreeMap<String, BTreeMap<String, String>>,
    change: Change<kube::core::PartialObjectMeta<k8s_openapi::api::core::v1::Namespace>>,
) {
    let labels = |meta: &kube::core::PartialObjectMeta<_>| {
        (meta.name_any(), meta.metadata.labels.clone().unwrap_or_default())
    };
    match change {
        Change::Replaced(all) => *namespaces = all.iter().map(labels).collect(),
        Change::Applied(namespace) => {
            let (name, labels) = labels(&namespace);
            namespaces.insert(name, labels);
        }
        Change::Deleted(namespace) => {
            namespaces.remove(&namespace.name);
        }
        Change::Denied => namespaces.clear(),
        Change::Confirmed => {}
    }
}

fn keyed<K: ResourceExt>(mut object: K) -> (ObjectKey, Arc<K>) {
    object.meta_mut().managed_fields = None;
    (ObjectKey::of(&object), Arc::new(object))
}

#[cfg(test)]
mod tests {
    use claviger_api::labels;
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> i64 {
            1_000
        }
    }

    fn secret(name: &str, label: &str) -> Secret {
        serde_json::from_value(json!({"metadata": {
            "namespace": "home", "name": name, "labels": {labels::SECRET: label},
        }}))
        .unwrap()
    }

    fn signing_keys(index: &str) -> Secret {
        let mut secret = secret("keys", labels::SECRET_SIGNING_KEY);
        let index = ByteString(index.as_bytes().to_vec());
        secret.data = Some(BTreeMap::from([("ring.json".to_owned(), index)]));
        secret
    }

    fn names<K>(objects: &Objects<K>) -> Vec<&str> {
        objects.keys().map(|key| key.name.as_str()).collect()
    }

    fn world() -> World {
        World { home: "home".into(), ..World::default() }
    }

    #[test]
    fn a_relist_forgets_what_is_not_in_it_and_only_in_its_own_namespace() {
        let mut world = world();
        store_secrets(&mut world, "home", Change::Applied(secret("old", "client")));
        let mut tenant = secret("tenant", "client");
        tenant.metadata.namespace = Some("team".into());
        store_secrets(&mut world, "team", Change::Applied(tenant));
        store_secrets(&mut world, "home", Change::Replaced(vec![secret("new", "client")]));
        assert_eq!(names(&world.secrets), ["new", "tenant"]);
        store_secrets(&mut world, "team", Change::Denied);
        assert_eq!(names(&world.secrets), ["new"]);
    }

    #[test]
    fn keys_of_ours_are_remembered_however_they_vanish_until_they_are_back() {
        let vanish: [fn() -> Change<Secret>; 3] = [
            || Change::Deleted(ObjectKey::new("home", "keys")),
            || Change::Replaced(Vec::new()),
            || Change::Applied(secret("keys", "connector")),
        ];
        for change in vanish {
            let mut world = world();
            let keys = || Change::Applied(signing_keys(r#"{"keys": []}"#));
            store_secrets(&mut world, "home", keys());
            store_secrets(&mut world, "home", Change::Applied(secret("theirs", "client")));
            store_secrets(&mut world, "home", change());
            assert_eq!(names(&world.remembered), ["keys"]);
            store_secrets(&mut world, "home", keys());
            assert!(world.remembered.is_empty());
        }
    }

    #[test]
    fn an_unreadable_key_secret_that_is_deleted_is_not_remembered() {
        let mut world = world();
        let apply = |world: &mut World, secret| {
            store_secrets(world, "home", Change::Applied(secret));
        };
        apply(&mut world, signing_keys("{"));
        apply(&mut world, secret("ring", labels::SECRET_SEALING_RING));
        for name in ["keys", "ring"] {
            let key = ObjectKey::new("home", name);
            store_secrets(&mut world, "home", Change::Deleted(key));
        }
        assert!(world.secrets.is_empty() && world.remembered.is_empty());
    }

    #[test]
    fn keys_of_no_signing_key_are_gone_when_they_are_deleted() {
        let mut world = world();
        let mut orphan = signing_keys(r#"{"keys": []}"#);
        orphan.annotations_mut().insert(secret::ORPHANED_AT.into(), "2026-01-01T00:00:00Z".into());
        store_secrets(&mut world, "home", Change::Applied(orphan));
        let key = ObjectKey::new("home", "keys");
        store_secrets(&mut world, "home", Change::Deleted(key));
        assert!(world.remembered.is_empty());
    }

    #[test]
    fn only_a_tenants_secrets_may_be_denied() {
        let tenant = Source::Secrets("team".into());
        let observations =
            Observations::new("home", [Source::Clients, tenant.clone()], Arc::new(Fixed));
        let client: OAuth2Client = serde_json::from_value(json!({
            "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
            "metadata": {"namespace": "home", "name": "app"},
            "spec": {"issuerRef": {"name": "main"}, "type": "Public"},
        }))
        .unwrap();
        let clients = |change| {
            observations.take_in(&Source::Clients, change, |world, change| {
                store(&mut world.clients, change);
            });
        };
        clients(Change::Replaced(vec![client]));
        clients(Change::Denied);
        observations.take_in(&tenant, Change::Denied, |world, change| {
            store_secrets(world, "team", change);
        });
        let world = observations.world();
        assert_eq!(names(&world.clients), ["app"], "its sessions must not die");
        assert_eq!(world.sources[&Source::Clients], Progress::Synced { confirmed_at: 1_000 });
        assert_eq!(world.sources[&tenant], Progress::Denied);
        assert!(world.is_synced());
    }

    #[test]
    fn the_oldest_news_decides_whether_a_world_is_stale() {
        let mut world = world();
        let synced = |confirmed_at| Progress::Synced { confirmed_at };
        world.sources.insert(Source::Clients, synced(1_000));
        world.sources.insert(Source::Issuers, synced(1_100));
        world.sources.insert(Source::Secrets("team".into()), Progress::Denied);
        assert!(!world.is_stale(1_149) && world.is_stale(1_150));
        world.bounds.staleness = 15;
        assert!(!world.is_stale(1_014) && world.is_stale(1_015));
        assert!(!self::World::default().is_stale(i64::MAX), "nothing was ever published");
    }

    #[test]
    fn a_wall_clock_that_is_set_back_makes_no_old_news_fresh() {
        let clock = Arc::new(crate::moment::tests::HandClock::default());
        clock.set(100_000, 10);
        let observations = Observations::new("home", [Source::Clients], clock.clone());
        observations.take_in(&Source::Clients, Change::Confirmed, |_, _: Change<OAuth2Client>| {});
        clock.set(20_000, 160);
        assert_eq!(observations.world().confirmed_at(), Some(10));
        assert!(observations.world().is_stale(clock.elapsed()));
    }

    #[test]
    fn a_confirmation_wakes_nobody_and_a_change_does() {
        let observations = Observations::new("home", [Source::Clients], Arc::new(Fixed));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let woken = |change: Change<OAuth2Client>| {
            observations.take_in(&Source::Clients, change, |world, change| {
                store(&mut world.clients, change);
            });
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = observations.changed() => true,
                    () = std::future::ready(()) => false,
                }
            })
        };
        assert!(woken(Change::Replaced(Vec::new())));
        assert!(!woken(Change::Confirmed));
    }
}

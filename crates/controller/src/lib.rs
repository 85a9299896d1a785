//! Watch, assess, publish: from custom resources to conditions and the Snapshot.
//!
//! ```text
//! reflectors ─→ World ─→ assess (pure) ─→ Snapshot            every replica, within 1 s of a change
//! probes     ─→   ↑            └────────→ conditions, Events, Secrets of ours       leader only
//!                 └── reconcile: what the API server said to our own writes
//! ```
//! What always holds:
//! - conditions and the served value come out of the same assessment: status cannot disagree with
//!   behaviour, and nothing is ever decided from status;
//! - one invalid object never hurts another;
//! - nothing is written when nothing changed; only the leader writes;
//! - every task is awaited: when one ends, [`Controller::run`] ends.

pub mod assess;
pub mod backoff;
pub mod bounds;
pub mod config_map;
pub mod deadline;
pub mod error;
pub mod events;
pub mod keyring;
pub mod moment;
pub mod probe;
pub mod publish;
pub mod readiness;
pub mod reconcile;
pub mod ring_secret;
pub mod secret;
pub mod status;
pub mod upstream;
pub mod watch;
pub mod world;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use claviger_api::{Connector, LocalUser, OAuth2Client, OIDCIssuer, SigningKey};
use claviger_connectors::guard::Observer;
use claviger_domain::Snapshot;
use claviger_domain::ports::Clock;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;

pub use crate::bounds::Bounds;
pub use crate::error::ControllerError;
pub use crate::readiness::Readiness;

use crate::assess::Assessment;
use crate::watch::{Change, Rhythm};
use crate::world::{Objects, Observations, Source, World};

/// Where the control plane works.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespace the operator runs in.
    pub home: String,
    /// Other namespaces whose labelled Secrets may be read and written (a Role there must say so).
    pub tenant_namespaces: BTreeSet<String>,
    /// Name of this instance in Events, such as the pod's name.
    pub instance: Option<String>,
    /// How old knowledge may be.
    pub bounds: Bounds,
    /// Whether this process listens for trusted proxies.
    pub takes_proxies: bool,
    /// The token by which Entra ID knows this process, if there is one.
    pub azure_federated_token_file: Option<PathBuf>,
    /// Who is told of every question to an upstream.
    pub observer: Arc<dyn Observer>,
}

/// The control plane of one replica.
pub struct Controller {
    client: Client,
    config: Config,
    clock: Arc<dyn Clock>,
    leadership: channel::Receiver<bool>,
    observations: Arc<Observations>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    readiness: channel::Sender<Readiness>,
    assessments: channel::Sender<Arc<Assessment>>,
}

type Tasks = JoinSet<(String, Result<(), ControllerError>)>;

impl Controller {
    /// A control plane that has not started.
    ///
    /// `client` must not retry by itself for minutes: build it with `default_retry = false`.
    /// `leadership` says whether this replica may write; it may change at any time.
    pub fn new(
        client: Client,
        config: Config,
        clock: Arc<dyn Clock>,
        leadership: channel::Receiver<bool>,
    ) -> Self {
        let namespaces = config.tenant_namespaces.iter().chain([&config.home]);
        let sources = [
            Source::Issuers,
            Source::Connectors,
            Source::SigningKeys,
            Source::LocalUsers,
            Source::Clients,
            Source::Namespaces,
            Source::ConfigMaps,
        ]
        .into_iter()
        .chain(namespaces.map(|namespace| Source::Secrets(namespace.clone())));
        let observations = Observations::new(&config.home, sources, Arc::clone(&clock));
        let observations = Arc::new(observations.with_bounds(config.bounds));
        observations.update(|world| {
            world.takes_proxies = config.takes_proxies;
            world.azure_federated_token_file.clone_from(&config.azure_federated_token_file);
        });
        Self {
            client,
            clock,
            leadership,
            observations,
            snapshot: Arc::default(),
            readiness: channel::Sender::new(Readiness::default()),
            assessments: channel::Sender::default(),
            config,
        }
    }

    /// The value every request reads; empty until [`Readiness::published`].
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// Whether this replica may be sent requests, as it changes.
    pub fn readiness(&self) -> channel::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// What was assessed last, as it changes. Each task that writes (conditions; Secrets) holds the one it took
    /// until it has written what that asks for and takes a later one.
    pub fn assessments(&self) -> channel::Receiver<Arc<Assessment>> {
        self.assessments.subscribe()
    }

    /// Runs until `shutdown` resolves.
    ///
    /// # Errors
    /// [`ControllerError`] when a task ended by itself: the process must end too.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ControllerError> {
        let mut tasks = Tasks::new();
        self.spawn_reflectors(&mut tasks);
        self.spawn_workers(&mut tasks);
        let ended = tokio::select! {
            () = shutdown => None,
            ended = tasks.join_next() => ended,
        };
        tasks.shutdown().await;
        match ended {
            None => Ok(()),
            Some(Err(error)) => Err(ControllerError::task("control plane", &error)),
            Some(Ok((_, Err(error)))) => Err(error),
            Some(Ok((task, Ok(())))) => {
                Err(ControllerError::TaskEnded { task, message: "returned".into() })
            }
        }
    }

    fn spawn_reflectors(&self, tasks: &mut Tasks) {
        self.reflect::<OIDCIssuer>(tasks, Source::Issuers, |world| &mut world.issuers);
        self.reflect::<Connector>(tasks, Source::Connectors, |world| &mut world.connectors);
        self.reflect::<SigningKey>(tasks, Source::SigningKeys, |world| &mut world.signing_keys);
        self.reflect::<LocalUser>(tasks, Source::LocalUsers, |world| &mut world.local_users);
        self.reflect_clients(tasks);
        self.reflect_namespaces(tasks);
        self.reflect_config_maps(tasks);
        for namespace in self.config.tenant_namespaces.iter().chain([&self.config.home]) {
            self.reflect_secrets(tasks, namespace.clone());
        }
    }

    /// Follows one kind in home.
    fn reflect<K>(
        &self,
        tasks: &mut Tasks,
        source: Source,
        objects: fn(&mut World) -> &mut Objects<K>,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + ResourceExt
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let api = Api::namespaced_with(
            self.client.clone(),
            &self.config.home,
            &ApiResource::erase::<K>(&()),
        );
        self.follow(tasks, source, api, move |world, change| {
            world::store(objects(world), change);
        });
    }

    fn reflect_clients(&self, tasks: &mut Tasks) {
        let resource = ApiResource::erase::<OAuth2Client>(&());
        let api = Api::all_with(self.client.clone(), &resource);
        self.follow(tasks, Source::Clients, api, |world, change| {
            world::store::<OAuth2Client>(&mut world.clients, change);
        });
    }

    fn reflect_config_maps(&self, tasks: &mut Tasks) {
        let resource = ApiResource::erase::<ConfigMap>(&());
        let api = Api::namespaced_with(self.client.clone(), &self.config.home, &resource);
        self.follow(tasks, Source::ConfigMaps, api, |world, change| {
            config_map::store(&mut world.config_maps, change);
        });
    }

    fn reflect_secrets(&self, tasks: &mut Tasks, namespace: String) {
        let resource = ApiResource::erase::<Secret>(&());
        let api = Api::namespaced_with(self.client.clone(), &namespace, &resource);
        let source = Source::Secrets(namespace.clone());
        self.follow(tasks, source, api, move |world, change| {
            world::store_secrets(world, &namespace, change);
        });
    }

    fn reflect_namespaces(&self, tasks: &mut Tasks) {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let observations = Arc::clone(&self.observations);
        let rhythm = Rhythm::of(self.config.bounds);
        tasks.spawn(async move {
            let source = Source::Namespaces;
            watch::follow(api, (None, rhythm), "Namespaces", |change| {
                observations.take_in(&source, change, |world, change| {
                    world::store_namespaces(&mut world.namespaces, change);
                });
            })
            .await;
            (source.to_string(), Ok(()))
        });
    }

    /// Follows objects that are decoded one by one, so that a broken one hurts no other.
    fn follow<K: Resource + DeserializeOwned + Send + 'static>(
        &self,
        tasks: &mut Tasks,
        source: Source,
        api: Api<DynamicObject>,
        store: impl FnMut(&mut World, Change<K>) + Send + 'static,
    ) {
        let observations = Arc::clone(&self.observations);
        let rhythm = Rhythm::of(self.config.bounds);
        let mut store = store;
        tasks.spawn(async move {
            let what = source.to_string();
            watch::follow(api, (source.labels(), rhythm), &what, |change| {
                observations.take_in(&source, change, |world, change| {
                    let unreadable = world.unreadable.entry(source.clone()).or_default();
                    let change = change.decode::<K>(unreadable);
                    store(world, change);
                });
            })
            .await;
            (what, Ok(()))
        });
    }

    fn spawn_workers(&self, tasks: &mut Tasks) {
        let assessments = self.assessments();
        let publisher = publish::Publisher {
            observations: Arc::clone(&self.observations),
            clock: Arc::clone(&self.clock),
            snapshot: Arc::clone(&self.snapshot),
            assessments: self.assessments.clone(),
            readiness: self.readiness.clone(),
            observer: Arc::clone(&self.config.observer),
        };
        tasks.spawn(async move { ("publish".to_owned(), publish::run(publisher).await) });
        let probing = probe::run(
            assessments.clone(),
            self.leadership.clone(),
            Arc::clone(&self.observations),
        );
        tasks.spawn(async move { ("probe".to_owned(), probing.await) });
        let events = events::Publisher::new(self.client.clone(), self.config.instance.clone());
        let status =
            status::run(self.client.clone(), assessments.clone(), self.leadership.clone(), events);
        tasks.spawn(async move { ("status".to_owned(), status.await) });
        let reconciler = reconcile::Reconciler::new(
            self.client.clone(),
            Arc::clone(&self.observations),
            Arc::clone(&self.clock),
        );
        let reconciling = reconcile::run(reconciler, assessments, self.leadership.clone());
        tasks.spawn(async move { ("reconcile".to_owned(), reconciling.await) });
    }
}

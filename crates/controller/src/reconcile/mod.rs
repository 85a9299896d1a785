//! Writes the Secrets that are Claviger's own: signing keys, the sealing ring, client credentials.
//!
//! ```text
//! Assessment ─→ what each Secret must be (pure) ─→ one create or one compare-and-swap
//!                                   ↑ the reflector brings the result back
//! ```
//! What always holds:
//! - only the leader writes, and every write is conditional, so that two leaders do no harm;
//! - while the clock is in doubt nothing is written: what was decided by its time is decided again;
//! - a Secret that is somebody else's is never touched: [`Obstacle::Foreign`] says so in a condition;
//! - nothing is written when nothing changed.

pub mod client_secret;
pub mod orphan;
pub mod sealing_ring;
pub mod signing_key;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use claviger_domain::ports::Clock;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::assess::Assessment;
use crate::backoff::Backoff;
use crate::deadline::within;
use crate::error::ControllerError;
use crate::secret::Use;
use crate::world::{ObjectKey, Observations, Obstacle};

/// Field manager of every Secret Claviger writes.
const FIELD_MANAGER: &str = "claviger-keys";
/// Pause before a failed write, or a name that is taken, is looked at again.
const RETRY: Duration = Duration::from_secs(5);

/// Why a Secret could not be brought to what it must be.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A key could not be made.
    #[error("failed to make a key: {0}")]
    Key(String),
    /// It cannot be told whether sessions exist.
    #[error("failed to list sessions: {source}")]
    Sessions {
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A Secret whose name is taken cannot be looked at.
    #[error("failed to read Secret {key}: {source}")]
    Read {
        /// Which.
        key: ObjectKey,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server refused or did not answer.
    #[error("failed to write Secret {key}: {source}")]
    Write {
        /// Which.
        key: ObjectKey,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// What one look at a Secret came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is as it must be, or the write is on its way back to us.
    Settled,
    /// Look again after a pause.
    Again,
}

/// Everything the reconcilers act with.
pub struct Reconciler {
    client: Client,
    observations: Arc<Observations>,
    clock: Arc<dyn Clock>,
    written: Written,
}

/// Resource versions our writes were based on, so that an echo on its way is not written again; and
/// what failed, so that it waits.
#[derive(Debug, Default)]
struct Written {
    bases: BTreeMap<ObjectKey, Option<String>>,
    failed: Backoff<ObjectKey>,
}

impl Written {
    fn is_pending(&self, key: &ObjectKey, observed: Option<&Secret>) -> bool {
        self.failed.is_resting(key, Instant::now())
            || self
                .bases
                .get(key)
                .is_some_and(|base| *base == observed.and_then(ResourceExt::resource_version))
    }

    /// Keeps only what still looks as it did before the write.
    fn retain(&mut self, version: impl Fn(&ObjectKey) -> Option<String>) {
        self.bases.retain(|key, base| *base == version(key));
    }

    fn remember(&mut self, key: &ObjectKey, observed: Option<&Secret>) {
        self.failed.forget(key);
        self.bases.insert(key.clone(), observed.and_then(ResourceExt::resource_version));
    }
}

/// Reconciles while leading, until the assessments end.
///
/// # Errors
/// None of its own; the signature is that of every task.
pub async fn run(
    mut reconciler: Reconciler,
    mut assessments: watch::Receiver<Arc<Assessment>>,
    mut leadership: watch::Receiver<bool>,
) -> Result<(), ControllerError> {
    loop {
        let leads = *leadership.borrow_and_update();
        let assessment = Arc::clone(&assessments.borrow_and_update());
        let again = leads && reconciler.pass(&assessment).await == Done::Again;
        tokio::select! {
            changed = assessments.changed() => if changed.is_err() { return Ok(()) },
            changed = leadership.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(RETRY), if again => reconciler.forget(),
        }
    }
}

impl Reconciler {
    /// A reconciler that writes by this client.
    pub fn new(client: Client, observations: Arc<Observations>, clock: Arc<dyn Clock>) -> Self {
        Self { client, observations, clock, written: Written::default() }
    }

    /// One look at every Secret of ours.
    async fn pass(&mut self, assessment: &Assessment) -> Done {
        if !assessment.readiness.published {
            return Done::Settled;
        }
        if self.is_in_doubt() {
            return Done::Again;
        }
        let versions = &assessment.world.secrets;
        self.written.retain(|key| versions.get(key).and_then(|secret| secret.resource_version()));
        let mut outcomes = vec![sealing_ring::reconcile(self, assessment).await];
        for key in &assessment.signing_keys {
            outcomes.push(signing_key::reconcile(self, key).await);
        }
        for secret in &assessment.client_secrets {
            outcomes.push(client_secret::reconcile(self, secret).await);
        }
        for orphan in &assessment.orphans {
            outcomes.push(orphan::reconcile(self, orphan).await);
        }
        self.forget_obstacles(assessment);
        let again = outcomes.into_iter().fold(false, |again, outcome| match outcome {
            Ok(done) => again || done == Done::Again,
            Err(error) => {
                tracing::warn!(%error, "failed to reconcile; trying again");
                true
            }
        });
        if again { Done::Again } else { Done::Settled }
    }

    /// Whether the clock must not date anything. Asked again before each write, for leadership is given
    /// up a little after the clock has jumped.
    fn is_in_doubt(&self) -> bool {
        let doubt = self.clock.doubt();
        if let Some(doubt) = &doubt {
            tracing::warn!(doubt, "writing no Secret");
        }
        doubt.is_some()
    }

    /// After a pause no echo is on its way any more.
    fn forget(&mut self) {
        self.written.bases.clear();
    }

    /// An obstacle that stands in nobody's way any more is forgotten.
    fn forget_obstacles(&self, assessment: &Assessment) {
        let known = &assessment.world.obstacles;
        let sealing = crate::assess::sealing::secret_key(&assessment.world.home);
        let wanted: BTreeSet<&ObjectKey> = assessment
            .client_secrets
            .iter()
            .map(|secret| &secret.key)
            .chain(assessment.signing_keys.iter().map(|plan| &plan.secret))
            .chain([&sealing])
            .collect();
        for key in known.keys().filter(|key| !wanted.contains(key)) {
            self.clear(key);
        }
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes the Secret, or changes exactly the version that was observed.
    ///
    /// # Errors
    /// [`ReconcileError::Write`], unless the answer is that somebody was faster.
    async fn write(
        &mut self,
        key: &ObjectKey,
        observed: Option<&Secret>,
        wanted: &Secret,
    ) -> Result<Done, ReconcileError> {
        if self.written.is_pending(key, observed) || self.is_in_doubt() {
            return Ok(Done::Again);
        }
        let api = self.secrets(&key.namespace);
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let result = match observed {
            None => within(api.create(&params, wanted)).await,
            Some(_) => within(api.replace(&key.name, &params, wanted)).await,
        };
        match result {
            Ok(_) => {
                tracing::info!(secret = %key, "wrote Secret");
                self.written.remember(key, observed);
                self.clear(key);
                Ok(Done::Settled)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => self.taken(key).await,
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                tracing::debug!(secret = %key, "Secret changed before it was written");
                Ok(Done::Again)
            }
            Err(error) => {
                if matches!(&error, kube::Error::Api(status) if status.is_forbidden()) {
                    self.obstruct(key, Obstacle::Denied);
                }
                self.written.failed.failed(key.clone(), &error, Instant::now());
                Err(ReconcileError::Write { key: key.clone(), source: Box::new(error) })
            }
        }
    }

    /// Deletes exactly the version that was observed.
    ///
    /// # Errors
    /// [`ReconcileError::Write`], unless the answer is that somebody was faster.
    async fn delete(&self, key: &ObjectKey, observed: &Secret) -> Result<Done, ReconcileError> {
        if self.is_in_doubt() {
            return Ok(Done::Again);
        }
        let preconditions =
            Preconditions { uid: observed.uid(), resource_version: observed.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.secrets(&key.namespace).delete(&key.name, &params).await {
            Ok(_) => {
                tracing::warn!(secret = %key, "deleted keys that no SigningKey has claimed");
                Ok(Done::Settled)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(Done::Again)
            }
            Err(error) => Err(ReconcileError::Write { key: key.clone(), source: Box::new(error) }),
        }
    }

    /// Whether a name that was found taken still is; asked before anything costly is made for it.
    async fn is_taken(&mut self, key: &ObjectKey) -> Result<bool, ReconcileError> {
        if self.observations.obstacle(key) != Some(Obstacle::Foreign) {
            return Ok(false);
        }
        let free = self.find(key).await?.is_none();
        if free {
            self.clear(key);
        }
        Ok(!free)
    }

    /// The name is taken: by our own Secret that the reflector has not brought yet, or by another.
    async fn taken(&mut self, key: &ObjectKey) -> Result<Done, ReconcileError> {
        if let Some(secret) = self.find(key).await? {
            let uses = [Use::Client, Use::SigningKey, Use::SealingRing];
            if !uses.iter().any(|wanted| wanted.admits(&secret)) {
                self.obstruct(key, Obstacle::Foreign);
            }
        }
        Ok(Done::Again)
    }

    async fn find(&self, key: &ObjectKey) -> Result<Option<Secret>, ReconcileError> {
        within(self.secrets(&key.namespace).get_opt(&key.name))
            .await
            .map_err(|source| ReconcileError::Read { key: key.clone(), source: Box::new(source) })
    }

    fn obstruct(&self, key: &ObjectKey, obstacle: Obstacle) {
        if self.observations.obstacle(key) != Some(obstacle) {
            tracing::warn!(secret = %key, ?obstacle, "cannot write Secret");
            self.observations.update(|world| {
                world.obstacles.insert(key.clone(), obstacle);
            });
        }
    }

    fn clear(&self, key: &ObjectKey) {
        if self.observations.obstacle(key).is_some() {
            self.observations.update(|world| {
                world.obstacles.remove(key);
            });
        }
    }
}

/// A Secret for this use with this data, upon the observed one where there is one, so that labels
/// and annotations that others put there stay.
fn secret_for(
    key: &ObjectKey,
    observed: Option<&Secret>,
    wanted: Use,
    data: BTreeMap<String, ByteString>,
) -> Secret {
    let mut secret = observed.cloned().unwrap_or_else(|| Secret {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        ..Secret::default()
    });
    secret.metadata.managed_fields = None;
    secret.labels_mut().extend(wanted.labels());
    secret.data = Some(data);
    secret
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::moment::tests::HandClock;
    use crate::readiness::Readiness;

    #[tokio::test]
    async fn a_leader_whose_clock_is_in_doubt_looks_again_and_asks_for_nothing() {
        // Whatever is asked finds a connection that nobody takes.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let clock = Arc::new(HandClock::default());
        clock.set_doubt(true);
        let observations = Arc::new(Observations::new("home", [], clock.clone()));
        let mut reconciler = Reconciler::new(client, observations, clock);
        let readiness = Readiness { missing: Vec::new(), published: true };
        let assessment = Assessment { readiness, ..Assessment::default() };
        let key = ObjectKey::new("home", "claviger-signing-key-main");
        let secret = Secret::default();
        let acting = async {
            assert_eq!(reconciler.pass(&assessment).await, Done::Again);
            let written = reconciler.write(&key, Some(&secret), &secret).await;
            assert_eq!(written.unwrap(), Done::Again, "it jumped after the pass had begun");
            assert_eq!(reconciler.delete(&key, &secret).await.unwrap(), Done::Again);
        };
        let acted = tokio::time::timeout(Duration::from_secs(5), acting).await;
        assert!(acted.is_ok(), "something was asked of the API server");
        assert!(listener.accept().is_err(), "something was asked of the API server");
    }
}

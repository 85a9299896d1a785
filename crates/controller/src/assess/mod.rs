//! The whole world → conditions and the Snapshot, in one pure step.
//!
//! ```text
//! LocalUsers ─→ Connectors ─┐
//! SigningKeys + Secrets ────┼─→ OIDCIssuers ─→ OAuth2Clients ─→ Snapshot
//! sealing ring ─────────────┘        every kind ─────────────→ StatusUpdates, plans, probes
//! ```
//! What always holds: no I/O, no clock; the same world gives the same answer on every replica.
//! [`Memo`] only spares work that would come out the same.

pub mod age;
pub mod claim_mapping;
pub mod client;
pub mod client_authentication;
pub mod client_credentials;
pub mod client_lifetimes;
pub mod client_logout;
pub mod client_requests;
pub mod client_secret;
pub mod client_uris;
pub mod client_users;
pub mod condition;
pub mod connector;
pub mod custom_claims;
pub mod findings;
pub mod grants;
pub mod introspection;
pub mod issuer;
pub mod local_claims;
pub mod local_user;
pub mod orphan;
pub mod password_grant;
pub mod read_before;
pub mod registration;
pub mod ring_memory;
pub mod sealing;
pub mod selector;
pub mod signing_key;
#[cfg(test)]
mod tests;
pub mod unreadable;
pub mod workloads;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use claviger_api::condition::{Condition, Conditioned};
use claviger_api::{
    ConnectorStatus, LocalUserStatus, OAuth2ClientStatus, OIDCIssuerStatus, SigningAlgorithm,
    SigningKeyStatus,
};
use claviger_connectors::guard::Observer;
use claviger_domain::Snapshot;
use claviger_domain::issuer::ClientEntry;
use claviger_jose::Algorithm;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::keyring::Policy;
use crate::moment::Moment;
use crate::probe::ProbeTarget;
use crate::readiness::Readiness;
use crate::status::StatusUpdate;
use crate::upstream;
use crate::world::World;

use self::claim_mapping::MappingMemo;
use self::client::AssessedClient;
use self::client_authentication::KeyMemo;
use self::client_secret::ClientSecret;
use self::condition::ConditionMemo;
use self::connector::AssessedConnector;
use self::custom_claims::ClaimMemo;
use self::findings::{Findings, settle};
use self::issuer::{AssessedIssuer, Parts};
use self::local_user::AssessedUser;
use self::orphan::Orphan;
use self::sealing::Sealing;
use self::signing_key::{AssessedSigningKey, RingCache, SigningKeyPlan};
use self::unreadable::Unreadable;

/// What one assessment came to.
#[derive(Debug, Default)]
pub struct Assessment {
    /// What was assessed.
    pub world: World,
    /// What requests see; taken out once it is published.
    pub snapshot: Arc<Snapshot>,
    /// Statuses that differ from what the objects carry.
    pub updates: Arc<[StatusUpdate]>,
    /// Upstreams to ask.
    pub probes: Vec<ProbeTarget>,
    /// When time alone changes the answer, in seconds since the epoch.
    pub next: Option<i64>,
    /// Whether this replica may be sent requests.
    pub readiness: Readiness,
    /// The sealing ring.
    pub sealing: Sealing,
    /// What must be seen to in signing-key Secrets.
    pub signing_keys: Vec<SigningKeyPlan>,
    /// What must be seen to in generated client Secrets.
    pub client_secrets: Vec<ClientSecret>,
    /// Key Secrets whose `SigningKey` is gone.
    pub orphans: Vec<Orphan>,
}

/// What was built before and need not be built again.
#[derive(Debug)]
pub struct Memo {
    upstreams: upstream::Cache,
    rings: RingCache,
    sealing: sealing::Memory,
    client_keys: KeyMemo,
    conditions: ConditionMemo,
    claims: ClaimMemo,
    mappings: MappingMemo,
}

impl Memo {
    /// One that has built nothing; the observer is told of every question to an upstream.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self {
            upstreams: upstream::Cache::new(observer),
            rings: RingCache::default(),
            sealing: sealing::Memory::default(),
            client_keys: KeyMemo::default(),
            conditions: ConditionMemo::default(),
            claims: ClaimMemo::default(),
            mappings: MappingMemo::default(),
        }
    }
}

/// Every object with what was found about it.
struct Assessed {
    users: Vec<AssessedUser>,
    connectors: BTreeMap<String, AssessedConnector>,
    signing_keys: BTreeMap<String, AssessedSigningKey>,
    sealing: Sealing,
    issuers: BTreeMap<String, AssessedIssuer>,
    clients: Vec<AssessedClient>,
    unreadable: Unreadable,
}

/// Assesses everything.
pub fn assess(world: World, memo: &mut Memo, at: Moment) -> Assessment {
    let now = at.now;
    let assessed = Assessed::of(&world, memo, at);
    let stale = world.is_stale(at.elapsed);
    // A clock in doubt dates nothing: nothing is signed, and nobody is told to keep what it dated.
    let snapshot = Arc::new(assessed.snapshot(&world, at, stale || at.in_doubt));
    let policies = assessed.policies(world.bounds.lead());
    let probes = assessed.connectors.values().filter_map(|connector| connector.probe.clone());
    Assessment {
        readiness: readiness(&assessed.sealing, stale.then_some(world.bounds.staleness), at),
        next: assessed.next(&world, &policies, at).filter(|at| *at > now).min(),
        updates: assessed.updates(&world, &policies, now).into(),
        probes: probes.collect(),
        signing_keys: policies
            .into_iter()
            .filter_map(|(name, policy)| assessed.signing_keys.get(&name)?.plan(policy))
            .collect(),
        client_secrets: assessed.clients.into_iter().filter_map(|client| client.secret).collect(),
        sealing: assessed.sealing,
        orphans: orphan::assess(&world),
        snapshot,
        world,
    }
}

impl Assessed {
    fn of(world: &World, memo: &mut Memo, at: Moment) -> Self {
        let unreadable = Unreadable::of(world);
        let users = local_user::assess(world);
        let memos = (&mut memo.upstreams, &mut memo.mappings);
        let connectors = connector::assess(world, &users, &unreadable, memos, at.now);
        let signing_keys = signing_key::assess(world, &mut memo.rings, at);
        let sealing = sealing::assess(world, &mut memo.sealing);
        let parts = Parts {
            connectors: &connectors,
            signing_keys: &signing_keys,
            sealing: &sealing,
            unreadable: &unreadable,
            at,
            max_age: world.bounds.jwks_max_age,
        };
        let issuers = issuer::assess(world, &parts, &mut memo.claims);
        let clients =
            client::assess(world, &issuers, (&mut memo.client_keys, &mut memo.conditions));
        Self { users, connectors, signing_keys, sealing, issuers, clients, unreadable }
    }

    fn snapshot(&self, world: &World, at: Moment, stale: bool) -> Snapshot {
        let parts = Parts {
            connectors: &self.connectors,
            signing_keys: &self.signing_keys,
            sealing: &self.sealing,
            unreadable: &self.unreadable,
            at,
            max_age: world.bounds.jwks_max_age,
        };
        snapshot(&self.issuers, &self.clients, &parts, stale)
    }

    /// By signing key: what is asked of its ring.
    fn policies(&self, lead: i64) -> BTreeMap<String, Policy> {
        let longest = longest_tokens(&self.issuers, &self.clients);
        let policy = |(name, key): (&String, &AssessedSigningKey)| {
            (name.clone(), key.policy(longest.get(name).copied().unwrap_or_default(), lead))
        };
        self.signing_keys.iter().map(policy).collect()
    }

    /// Times at which time alone changes the answer.
    fn next(
        &self,
        world: &World,
        policies: &BTreeMap<String, Policy>,
        at: Moment,
    ) -> impl Iterator<Item = i64> {
        let stale = world.stale_at().map(|stale| at.now + (stale - at.elapsed));
        let rings = self.signing_keys.iter().filter_map(|(name, key)| {
            key.ring.as_ref().and_then(|loaded| loaded.ring.due(policies.get(name)?))
        });
        rings.chain(stale).chain(self.sealing.due())
    }

    /// The statuses that must be written.
    fn updates(
        &self,
        world: &World,
        policies: &BTreeMap<String, Policy>,
        now: i64,
    ) -> Vec<StatusUpdate> {
        let mut updates = Updates { all: Vec::new(), now };
        for (key, policy) in
            self.signing_keys.iter().filter_map(|(name, key)| Some((key, policies.get(name)?)))
        {
            let mut findings = key.findings.clone();
            findings.also(key.verdicts(policy));
            updates.add(key.object.as_ref(), &findings, key.status(policy));
        }
        for user in &self.users {
            let observed_generation = user.object.metadata.generation;
            let status = LocalUserStatus { observed_generation, conditions: Vec::new() };
            updates.add(user.object.as_ref(), &user.findings, status);
        }
        for connector in self.connectors.values().filter(|one| one.is_settled(world)) {
            updates.add(connector.object.as_ref(), &connector.findings, connector.status());
        }
        for issuer in self.issuers.values() {
            updates.add(issuer.object.as_ref(), &issuer.findings, issuer.status());
        }
        for client in &self.clients {
            updates.add(client.object.as_ref(), &client.findings, client.status());
        }
        updates.all
    }
}

fn snapshot(
    issuers: &BTreeMap<String, AssessedIssuer>,
    clients: &[AssessedClient],
    parts: &Parts<'_>,
    stale: bool,
) -> Snapshot {
    let mut entries: HashMap<&str, HashMap<String, ClientEntry>> = HashMap::new();
    for client in clients {
        if let (Some(issuer), Some(id), Some(entry)) = (&client.issuer, &client.id, &client.entry) {
            entries.entry(issuer).or_default().insert(id.clone(), entry.clone());
        }
    }
    for client in &parts.unreadable.clients {
        let of = issuers.keys().filter(|name| client.issuer.as_ref().is_none_or(|of| of == *name));
        for issuer in of {
            let entries = entries.entry(issuer).or_default();
            entries.entry(client.id.clone()).or_insert_with(|| client.entry());
        }
    }
    let mut snapshot = Snapshot {
        unavailable: parts.unreadable.issuers.clone(),
        published: true,
        ..Snapshot::default()
    };
    for issuer in issuers.values() {
        let entries = entries.remove(issuer.name()).unwrap_or_default();
        match issuer.serve(parts, entries, stale) {
            Some(served) => snapshot.issuers.push(served),
            None => snapshot.unavailable.extend(issuer.wanted_url()),
        }
    }
    snapshot
}

/// By signing key: the longest lifetime of an ID token that an issuer using it may make.
fn longest_tokens(
    issuers: &BTreeMap<String, AssessedIssuer>,
    clients: &[AssessedClient],
) -> BTreeMap<String, i64> {
    let mut longest = BTreeMap::new();
    for issuer in issuers.values() {
        let lifetimes = &issuer.object.spec.lifetimes;
        let own = i64::from(
            lifetimes.id_token_lifetime_seconds.max(lifetimes.access_token_lifetime_seconds),
        );
        let of_clients = clients.iter().filter_map(|client| match &client.entry {
            Some(ClientEntry::InService(served))
                if client.issuer.as_deref() == Some(issuer.name()) =>
            {
                Some(served.lifetimes.id_token.max(served.lifetimes.access_token))
            }
            _ => None,
        });
        let token = of_clients.fold(own, i64::max);
        for key in &issuer.object.spec.signing_keys {
            let entry = longest.entry(key.name.clone()).or_insert(token);
            *entry = token.max(*entry);
        }
    }
    longest
}

fn readiness(sealing: &Sealing, stale_for: Option<u32>, at: Moment) -> Readiness {
    let mut missing: Vec<String> = sealing.complaint().into_iter().collect();
    if let Some(seconds) = stale_for {
        missing.push(format!("the API server has confirmed nothing for {seconds} s: is it there?"));
    }
    if at.in_doubt {
        // Until there are signers again: the clock itself says at once when it is right.
        missing.push("nothing is signed, for the clock was in doubt a second ago".to_owned());
    }
    Readiness { missing, published: true }
}

/// Gathers the statuses that must be written.
struct Updates {
    all: Vec<StatusUpdate>,
    now: i64,
}

impl Updates {
    fn add<K, S>(&mut self, object: &K, findings: &Findings, wanted: S)
    where
        K: Resource<DynamicType = ()> + ResourceExt + Conditioned + HasStatus<S>,
        S: WithConditions + Serialize + PartialEq + Clone,
    {
        let generation = object.meta().generation.unwrap_or_default();
        let settled = settle(object.conditions(), findings, generation, self.now);
        let wanted = wanted.with(settled.after);
        let current = object.status().cloned().map(|status| status.with(settled.before));
        self.all.extend(StatusUpdate::of(object, current.as_ref(), &wanted, settled.flips));
    }
}

/// A kind with a status.
trait HasStatus<S> {
    fn status(&self) -> Option<&S>;
}

/// A status with conditions.
trait WithConditions {
    fn with(self, conditions: Vec<Condition>) -> Self;
}

macro_rules! status {
    ($($kind:ident: $status:ident),+) => {
        $(
            impl HasStatus<$status> for claviger_api::$kind {
                fn status(&self) -> Option<&$status> {
                    self.status.as_ref()
                }
            }

            impl WithConditions for $status {
                fn with(self, conditions: Vec<Condition>) -> Self {
                    Self { conditions, ..self }
                }
            }
        )+
    };
}

status!(
    OIDCIssuer: OIDCIssuerStatus,
    OAuth2Client: OAuth2ClientStatus,
    Connector: ConnectorStatus,
    SigningKey: SigningKeyStatus,
    LocalUser: LocalUserStatus
);

/// The algorithm as signers know it.
pub fn algorithm(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Rs384 => Algorithm::RS384,
        SigningAlgorithm::Rs512 => Algorithm::RS512,
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::Es384 => Algorithm::ES384,
        SigningAlgorithm::Es512 => Algorithm::ES512,
        SigningAlgorithm::Ps256 => Algorithm::PS256,
        SigningAlgorithm::Ps384 => Algorithm::PS384,
        SigningAlgorithm::Ps512 => Algorithm::PS512,
    }
}

/// The algorithm as custom resources know it.
pub fn api_algorithm(algorithm: Algorithm) -> SigningAlgorithm {
    match algorithm {
        Algorithm::RS256 => SigningAlgorithm::Rs256,
        Algorithm::RS384 => SigningAlgorithm::Rs384,
        Algorithm::RS512 => SigningAlgorithm::Rs512,
        Algorithm::ES256 => SigningAlgorithm::Es256,
        Algorithm::ES384 => SigningAlgorithm::Es384,
        Algorithm::ES512 => SigningAlgorithm::Es512,
        Algorithm::PS256 => SigningAlgorithm::Ps256,
        Algorithm::PS384 => SigningAlgorithm::Ps384,
        Algorithm::PS512 => SigningAlgorithm::Ps512,
    }
}

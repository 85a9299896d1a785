//! In-memory ports and builders, for tests alone (feature `fakes`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::rand;
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_protocol::redirect_uri::RedirectUri;
use claviger_protocol::response_type::ResponseType;
use claviger_seal::KeyRing;
use secrecy::{ExposeSecret, SecretString};

use crate::browser_session::Sharing;
use crate::client::{Client, ClientAuthentication, ClientSubject, Demands, Grant, Introspection};
use crate::client_assertion::Assertions;
use crate::connector::{
    Authenticated, Connector, ConnectorData, IdentityPolicy, Login, LoginError, PasswordLogin,
    Recheck, RecheckError, Refresh,
};
use crate::identity::Identity;
use crate::issuer::{ClientEntry, Issuer, IssuerUrl, Lifetimes, SessionLimits, SubjectFormat};
use crate::keys::SigningKeys;
use crate::outage::Attentive;
use crate::ports::{
    Activation, Audit, AuditEvent, Clock, Cluster, ClusterIssuer, Entropy, FetchError, NewSession,
    PublishedKeys, RevocationReason, Revocations, Rotation, SessionState, Sessions, StoreError,
    StoredSession,
};
use crate::provider::Provider;

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    doubt: Mutex<Option<String>>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: i64) -> Self {
        Self { now: AtomicI64::new(now), doubt: Mutex::default() }
    }

    /// Moves it.
    pub fn advance(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Puts it in doubt, or takes it out again.
    pub fn set_doubt(&self, doubt: Option<&str>) {
        *lock(&self.doubt) = doubt.map(ToOwned::to_owned);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    fn doubt(&self) -> Option<String> {
        lock(&self.doubt).clone()
    }
}

/// The operating system's randomness.
#[derive(Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        assert!(rand::fill(buffer).is_ok(), "the system has no randomness");
    }
}

/// Sessions in memory, with a record of every request and faults on demand.
#[derive(Debug, Default)]
pub struct MemorySessions {
    stored: Mutex<BTreeMap<String, StoredSession>>,
    /// By session, the hash of the browser session it came of.
    browsers: Mutex<BTreeMap<String, String>>,
    requests: Mutex<Vec<&'static str>>,
    fault: Mutex<Option<Fault>>,
    unreadable: AtomicBool,
    unlabelled: Mutex<bool>,
}

/// What goes wrong with the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not happen.
    Refused,
    /// It happens, but its answer is lost.
    AnswerLost,
    /// It is refused at the API server's door, which asks for this many seconds.
    TurnedAway(u32),
    /// It does not happen, and the API server, which cannot know, asks for this many seconds.
    Overloaded(u32),
    /// It happens, but the API server gives up on it and asks for this many seconds.
    TimedOut(u32),
}

impl MemorySessions {
    /// Makes the next write fail.
    pub fn fail_next_write(&self, fault: Fault) {
        *lock(&self.fault) = Some(fault);
    }

    /// Makes every read fail, or no more.
    pub fn set_unreadable(&self, unreadable: bool) {
        self.unreadable.store(unreadable, Ordering::SeqCst);
    }

    /// The requests made so far, taken out: `create`, `get`, `rotate`, `activate`, `revoke`.
    pub fn take_requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut lock(&self.requests))
    }

    /// Every stored session.
    pub fn all(&self) -> Vec<StoredSession> {
        lock(&self.stored).values().cloned().collect()
    }

    /// Removes every label of every session, as `kubectl label` would. Nothing is rotated before they
    /// are given again.
    pub fn remove_labels(&self) {
        *lock(&self.unlabelled) = true;
    }

    /// Removes a session, as `kubectl delete` or garbage collection would.
    pub fn delete(&self, name: &str) {
        lock(&self.stored).remove(name);
    }

    fn write<T>(
        &self,
        verb: &'static str,
        apply: impl FnOnce(&mut BTreeMap<String, StoredSession>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        lock(&self.requests).push(verb);
        let lost = |retry_after| StoreError::Unavailable {
            message: "answer lost by the test".into(),
            retry_after,
        };
        match lock(&self.fault).take() {
            None => apply(&mut lock(&self.stored)),
            Some(Fault::Refused) => Err(lost(None)),
            Some(Fault::Overloaded(seconds)) => Err(lost(Some(seconds))),
            Some(Fault::TurnedAway(seconds)) => Err(StoreError::Refused {
                message: "turned away by the test".into(),
                retry_after: Some(seconds),
            }),
            Some(Fault::AnswerLost) => {
                apply(&mut lock(&self.stored))?;
                Err(lost(None))
            }
            Some(Fault::TimedOut(seconds)) => {
                apply(&mut lock(&self.stored))?;
                Err(lost(Some(seconds)))
            }
        }
    }
}

#[async_trait]
impl Sessions for MemorySessions {
    async fn create(&self, new: &NewSession) -> Result<(), StoreError> {
        self.write("create", |stored| {
            if stored.contains_key(&new.name) {
                return Err(StoreError::AlreadyExists);
            }
            let session = StoredSession {
                name: new.name.clone(),
                state: new.state,
                generation: 0,
                client_uid: new.client_uid.clone(),
                rotated_at: new.rotated_at,
                expires_at: new.expires_at,
                redemption_id: new.redemption_id.clone(),
                payload: new.payload.clone(),
            };
            stored.insert(new.name.clone(), session);
            if let Some(hash) = &new.labels.browser_hash {
                lock(&self.browsers).insert(new.name.clone(), hash.clone());
            }
            Ok(())
        })
    }

    async fn get(&self, name: &str) -> Result<Option<StoredSession>, StoreError> {
        lock(&self.requests).push("get");
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                message: "unreadable by the test".into(),
                retry_after: None,
            });
        }
        Ok(lock(&self.stored).get(name).cloned())
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<StoredSession, StoreError> {
        self.write("rotate", |stored| {
            let session = stored.get_mut(&rotation.name).ok_or(StoreError::PreconditionFailed)?;
            if session.state != SessionState::Active
                || session.client_uid != rotation.client_uid
                || session.generation != rotation.from_generation
                || (*lock(&self.unlabelled) && rotation.labels.is_none())
            {
                return Err(StoreError::PreconditionFailed);
            }
            *lock(&self.unlabelled) = false;
            session.generation += 1;
            session.rotated_at = rotation.rotated_at;
            session.expires_at = rotation.expires_at;
            if let Some(payload) = &rotation.payload {
                session.payload.clone_from(payload);
            }
            Ok(session.clone())
        })
    }

    async fn activate(&self, activation: &Activation) -> Result<StoredSession, StoreError> {
        self.write("activate", |stored| {
            let session = stored.get_mut(&activation.name).ok_or(StoreError::PreconditionFailed)?;
            if session.state != SessionState::Pending || session.client_uid != activation.client_uid
            {
                return Err(StoreError::PreconditionFailed);
            }
            session.state = SessionState::Active;
            session.redemption_id = Some(activation.redemption_id.clone());
            session.rotated_at = activation.activated_at;
            session.expires_at = activation.expires_at;
            Ok(session.clone())
        })
    }

    async fn of_browser(&self, browser_hash: &str) -> Result<Vec<StoredSession>, StoreError> {
        lock(&self.requests).push("list");
        let browsers = lock(&self.browsers);
        let came_of = |session: &&StoredSession| {
            browsers.get(&session.name).is_some_and(|hash| hash == browser_hash)
        };
        Ok(lock(&self.stored).values().filter(came_of).cloned().collect())
    }

    async fn replace_payload(&self, name: &str, payload: &str) -> Result<(), StoreError> {
        self.write("replace", |stored| {
            let session = stored.get_mut(name).ok_or(StoreError::PreconditionFailed)?;
            if session.state != SessionState::Active {
                return Err(StoreError::PreconditionFailed);
            }
            payload.clone_into(&mut session.payload);
            Ok(())
        })
    }

    async fn revoke(
        &self,
        name: &str,
        _reason: RevocationReason,
        _now: i64,
    ) -> Result<(), StoreError> {
        self.write("revoke", |stored| {
            if let Some(session) = stored.get_mut(name) {
                session.state = SessionState::Revoked;
            }
            Ok(())
        })
    }
}

impl Revocations for MemorySessions {
    fn is_revoked(&self, name: &str) -> bool {
        lock(&self.stored).get(name).is_some_and(|s| s.state == SessionState::Revoked)
    }
}

/// Remembers the names of audit events.
#[derive(Debug, Default)]
pub struct RecordingAudit(Mutex<Vec<String>>);

impl RecordingAudit {
    /// The events so far, taken out, in their debug form.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl Audit for RecordingAudit {
    fn record(&self, event: &AuditEvent<'_>) {
        lock(&self.0).push(format!("{event:?}"));
    }
}

/// An upstream with a fixed table of users, whose availability a test controls.
#[derive(Debug, Default)]
pub struct TableUpstream {
    users: Mutex<HashMap<String, (String, Identity)>>,
    away: Mutex<bool>,
}

impl TableUpstream {
    /// Adds or replaces a user who signs in by this name and password.
    pub fn put(&self, username: &str, password: &str, identity: Identity) {
        lock(&self.users).insert(username.to_owned(), (password.to_owned(), identity));
    }

    /// Removes a user.
    pub fn remove(&self, username: &str) {
        lock(&self.users).remove(username);
    }

    /// Takes the upstream away, or brings it back.
    pub fn set_away(&self, away: bool) {
        *lock(&self.away) = away;
    }
}

#[async_trait]
impl PasswordLogin for TableUpstream {
    fn username_label(&self) -> &'static str {
        "Email address"
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError> {
        if *lock(&self.away) {
            return Err(LoginError::Unavailable("away".into()));
        }
        match lock(&self.users).get(username) {
            Some((known, identity)) if known == password.expose_secret() => {
                Ok(Authenticated { identity: identity.clone(), data: None })
            }
            _ => Err(LoginError::InvalidCredentials("no such user or password".into())),
        }
    }
}

#[async_trait]
impl Recheck for TableUpstream {
    fn is_certain(&self) -> bool {
        !*lock(&self.away)
    }

    async fn recheck(
        &self,
        known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        if *lock(&self.away) {
            return Err(RecheckError::Unavailable("away".into()));
        }
        lock(&self.users)
            .values()
            .find(|(_, identity)| identity.user_id == known.user_id)
            .map(|(_, identity)| Authenticated { identity: identity.clone(), data: data.cloned() })
            .ok_or_else(|| RecheckError::Gone("removed".into()))
    }
}

/// A user with every claim.
pub fn alice() -> Identity {
    Identity {
        user_id: "08a8684b".into(),
        email: Some("alice@example.org".into()),
        email_verified: true,
        name: Some("Alice Liddell".into()),
        preferred_username: Some("alice".into()),
        groups: vec!["developers".into(), "oncall".into()],
        extra: BTreeMap::new(),
    }
}

/// A provider on fakes, with the handles a test needs.
#[derive(Debug)]
pub struct World {
    /// The provider.
    pub provider: Provider,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// Its store.
    pub sessions: Arc<MemorySessions>,
    /// Its audit trail.
    pub audit: Arc<RecordingAudit>,
    /// The upstream of both connectors; knows `alice` by the password `wonderland`.
    pub upstream: Arc<TableUpstream>,
    /// Those whose keys are asked for.
    pub publishers: Arc<TablePublishers>,
    /// `https://id.example.org` with the connectors `local` (memory) and `directory` (remote), the
    /// confidential client `kubernetes` (secret `s3cret`) and the public client `cli`.
    pub issuer: Issuer,
}

/// Everybody who publishes keys: clients by URL, and the cluster, whose document is `cluster`'s.
#[derive(Debug, Default)]
pub struct TablePublishers {
    documents: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<String>>,
}

/// `iss` of the cluster of [`TablePublishers`].
pub const CLUSTER_ISSUER: &str = "https://kubernetes.default.svc";

impl TablePublishers {
    /// Publishes a document in place of the one before.
    pub fn publish(&self, place: &str, document: String) {
        lock(&self.documents).insert(place.to_owned(), document);
    }

    /// The places asked so far, taken out.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.asked))
    }

    fn ask(&self, place: &str) -> Result<Vec<u8>, FetchError> {
        lock(&self.asked).push(place.to_owned());
        let found = lock(&self.documents).get(place).cloned();
        found.map(String::into_bytes).ok_or_else(|| FetchError::unavailable("nobody is there"))
    }
}

#[async_trait]
impl PublishedKeys for TablePublishers {
    async fn fetch(&self, uri: &str) -> Result<Vec<u8>, FetchError> {
        self.ask(uri)
    }
}

#[async_trait]
impl Cluster for TablePublishers {
    async fn discover(&self) -> Result<ClusterIssuer, FetchError> {
        Ok(ClusterIssuer { issuer: CLUSTER_ISSUER.into(), jwks: self.ask("cluster")? })
    }
}

/// The redirect URI of both clients of [`World`].
pub const REDIRECT_URI: &str = "https://app.example.org/callback";

impl World {
    /// A fresh world at 2026-01-01.
    ///
    /// # Panics
    /// When the crypto library cannot make a key.
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_767_225_600));
        let sessions = Arc::new(MemorySessions::default());
        let audit = Arc::new(RecordingAudit::default());
        let upstream = Arc::new(TableUpstream::default());
        upstream.put("alice", "wonderland", alice());
        let publishers = Arc::new(TablePublishers::default());
        let provider = Provider {
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            sessions: Arc::new(Attentive::new(sessions.clone(), clock.clone())),
            revocations: sessions.clone(),
            audit: audit.clone(),
            assertions: Arc::new(Assertions::new(publishers.clone(), publishers.clone())),
        };
        let issuer = issuer(&upstream, clock.now());
        Self { provider, clock, sessions, audit, upstream, publishers, issuer }
    }

    /// Changes a client of the issuer.
    ///
    /// # Panics
    /// When there is no such client in service.
    pub fn change_client(&mut self, id: &str, change: impl FnOnce(&mut Client)) {
        let Some(ClientEntry::InService(client)) = self.issuer.clients.get_mut(id) else {
            panic!("no client {id} in service");
        };
        change(Arc::make_mut(client));
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn issuer(upstream: &Arc<TableUpstream>, now: i64) -> Issuer {
    let connector = |name: &str, refresh: Refresh| {
        Arc::new(Connector {
            uid: format!("uid-of-{name}"),
            name: name.to_owned(),
            display_name: name.to_owned(),
            acr: None,
            policy: IdentityPolicy::default(),
            login: Login::Password(upstream.clone()),
            refresh,
        })
    };
    let remote = Refresh::Upstream { recheck: upstream.clone(), interval_seconds: 0 };
    let clients = [
        client("kubernetes", ClientAuthentication::Secret(vec![SecretString::from("s3cret")])),
        client("cli", ClientAuthentication::Public),
    ];
    Issuer {
        uid: "uid-of-issuer".into(),
        name: "main".into(),
        url: url("https://id.example.org"),
        title: "Example".into(),
        logo_url: None,
        clients: clients
            .into_iter()
            .map(|client| (client.id.clone(), ClientEntry::InService(Arc::new(client))))
            .collect(),
        connectors: vec![
            connector("local", Refresh::Memory(upstream.clone())),
            connector("directory", remote),
        ],
        unavailable_connectors: BTreeSet::new(),
        callback_connector: None,
        keys: Arc::new(keys()),
        sealing: Arc::new(ring(now)),
        lifetimes: LIFETIMES,
        session_limits: SessionLimits { per_user: 100, per_client: 50_000, total: 150_000 },
        grants: BTreeSet::from([Grant::AuthorizationCode, Grant::RefreshToken]),
        response_types: BTreeSet::from([ResponseType::Code]),
        browser_sessions: None,
        subject: SubjectFormat::Dex,
        allowed_system_values: BTreeSet::new(),
        cors_allowed_origins: BTreeSet::new(),
        tls: None,
    }
}

const LIFETIMES: Lifetimes = Lifetimes {
    id_token: 600,
    access_token: 600,
    refresh_idle: 7 * 86_400,
    refresh_absolute: 30 * 86_400,
    refresh_grace: 10,
};

fn client(id: &str, authentication: ClientAuthentication) -> Client {
    let public = matches!(authentication, ClientAuthentication::Public);
    Client {
        uid: format!("uid-of-{id}"),
        id: id.to_owned(),
        display_name: id.to_owned(),
        authentication,
        redirect_uris: vec![redirect_uri()],
        post_logout_redirect_uris: BTreeSet::new(),
        grants: BTreeSet::from([Grant::AuthorizationCode, Grant::RefreshToken]),
        response_types: BTreeSet::from([ResponseType::Code]),
        allowed_resources: BTreeSet::new(),
        required_acr: BTreeSet::new(),
        sharing: Sharing::Shared,
        scopes: crate::scopes::KNOWN_SCOPES.into_iter().map(str::to_owned).collect(),
        allowed_connectors: None,
        allowed_groups: BTreeSet::new(),
        trusted_peers: BTreeSet::new(),
        pkce_required: public,
        demands: Demands::default(),
        id_token_algorithm: Algorithm::ES256,
        max_id_token: 32_768,
        lifetimes: LIFETIMES,
        consent_required: false,
        introspection: Introspection::Forbidden,
        as_subject: ClientSubject::default(),
        exchange_peers: BTreeSet::new(),
    }
}

fn redirect_uri() -> RedirectUri {
    RedirectUri::parse(REDIRECT_URI).unwrap_or_else(|error| panic!("{error}"))
}

fn url(raw: &str) -> IssuerUrl {
    IssuerUrl::parse(raw).unwrap_or_else(|error| panic!("{error}"))
}

fn ring(now: i64) -> KeyRing {
    KeyRing::generate(now).unwrap_or_else(|error| panic!("{error}"))
}

fn keys() -> SigningKeys {
    let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap_or_else(|error| panic!("{error}"));
    let signer = Signer::new(&key).unwrap_or_else(|error| panic!("{error}"));
    let key_set = KeySet::new([key.public_key().clone()]);
    SigningKeys {
        jwks: key_set.to_json().into(),
        key_set: Arc::new(key_set),
        signers: BTreeMap::from([(Algorithm::ES256, Arc::new(signer))]),
        default_algorithm: Algorithm::ES256,
        max_age_seconds: 60,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

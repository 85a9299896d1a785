//! In-memory ports and builders, for tests alone (feature `fakes`).

mod devices;
mod posting;
mod publishers;
mod registry;
mod rotating;
mod sessions;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer};
use claviger_protocol::redirect_uri::RedirectUri;
use claviger_protocol::response_type::ResponseType;
use claviger_seal::KeyRing;
use secrecy::SecretString;

use crate::browser_session::Sharing;
use crate::client::{
    Client, ClientAuthentication, ClientPages, ClientSubject, Demands, Grant, Introspection,
};
use crate::client_assertion::Assertions;
use crate::client_logout::ClientLogout;
use crate::connector::{Connector, IdentityPolicy, Login, Refresh};
use crate::custom_claim::CustomClaims;
use crate::device::DevicePolicy;
use crate::device_polls::DevicePolls;
use crate::identity::Identity;
use crate::issuer::{ClientEntry, Issuer, IssuerUrl, Lifetimes, SessionLimits, SubjectFormat};
use crate::keys::SigningKeys;
use crate::outage::Attentive;
use crate::ports::{Audit, AuditEvent, Clock, Entropy};
use crate::provider::Provider;
use crate::workload::AllowedWorkloads;

pub use devices::MemoryDevices;
pub use posting::PostingUpstream;
pub use publishers::{CLUSTER_ISSUER, TablePublishers};
pub use registry::MemoryRegistry;
pub use rotating::{Answer, RotatingUpstream};
pub use sessions::{Fault, MemorySessions};
pub use upstream::TableUpstream;

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
    /// Its store of devices that wait.
    pub devices: Arc<MemoryDevices>,
    /// Its audit trail.
    pub audit: Arc<RecordingAudit>,
    /// The upstream of both connectors; knows `alice` by the password `wonderland`.
    pub upstream: Arc<TableUpstream>,
    /// Those whose keys are asked for.
    pub publishers: Arc<TablePublishers>,
    /// Clients that registered themselves.
    pub registry: Arc<MemoryRegistry>,
    /// `https://id.example.org` with the connectors `local` (memory) and `directory` (remote), the
    /// confidential client `kubernetes` (secret `s3cret`) and the public client `cli`.
    pub issuer: Issuer,
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
        let devices = Arc::new(MemoryDevices::default());
        let audit = Arc::new(RecordingAudit::default());
        let upstream = Arc::new(TableUpstream::default());
        upstream.put("alice", "wonderland", alice());
        let publishers = Arc::new(TablePublishers::default());
        let registry = Arc::new(MemoryRegistry::default());
        let provider = Provider {
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            sessions: Arc::new(Attentive::new(sessions.clone(), clock.clone())),
            devices: devices.clone(),
            polls: Arc::new(DevicePolls::default()),
            revocations: sessions.clone(),
            audit: audit.clone(),
            registry: registry.clone(),
            assertions: Arc::new(Assertions::new(publishers.clone(), publishers.clone())),
        };
        let issuer = issuer(&upstream, clock.now());
        Self { provider, clock, sessions, devices, audit, upstream, publishers, registry, issuer }
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
            sign_out: None,
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
        devices: DevicePolicy { lifetime: 300, per_client: 200, total: 1_000 },
        session_limits: SessionLimits { per_user: 100, per_client: 50_000, total: 150_000 },
        grants: BTreeSet::from([Grant::AuthorizationCode, Grant::RefreshToken]),
        response_types: BTreeSet::from([ResponseType::Code]),
        browser_sessions: None,
        registration: None,
        subject: SubjectFormat::Dex,
        custom_claims: CustomClaims::default(),
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
        password_connector: None,
        allowed_groups: BTreeSet::new(),
        condition: None,
        trusted_peers: BTreeSet::new(),
        pkce_required: public,
        demands: Demands::default(),
        id_token_algorithm: Algorithm::ES256,
        userinfo_algorithm: None,
        max_id_token: 32_768,
        lifetimes: LIFETIMES,
        consent_required: false,
        introspection: Introspection::Forbidden,
        as_subject: ClientSubject::default(),
        exchange_peers: BTreeSet::new(),
        pages: Arc::new(ClientPages::default()),
        registration_digest: None,
        logout: ClientLogout::default(),
        workloads: AllowedWorkloads::default(),
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

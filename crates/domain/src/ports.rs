//! What the domain needs from outside: time, randomness, the session store, and somebody to tell.

mod devices;

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::outage::Outage;

pub use devices::{DeviceDecision, DeviceState, Devices, KnownDevice, NewDevice, Waiting};

/// The wall clock.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Seconds since the Unix epoch.
    fn now(&self) -> i64;

    /// Why this clock must not date anything at the moment, if so: it is not what the rest of the
    /// cluster goes by. While it is in doubt nothing is signed.
    fn doubt(&self) -> Option<String> {
        None
    }

    /// Seconds since some moment before, by a clock that nobody sets: how long something took, or
    /// lasts, is counted by it. By default the wall clock is taken for one.
    fn elapsed(&self) -> i64 {
        self.now()
    }
}

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills the buffer. Aborts the process rather than return predictable bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// Whether a stored session may still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Holds a grant too large for a code; becomes Active when the code is redeemed.
    Pending,
    /// In use.
    Active,
    /// Over. Kept as a tombstone so that no replay can create it again.
    Revoked,
}

/// One stored session, as the store gives it back.
#[derive(Debug, Clone)]
pub struct StoredSession {
    /// Object name: base32 of a hash.
    pub name: String,
    /// Whether it may be used.
    pub state: SessionState,
    /// How often its refresh token was rotated; the current refresh token carries this number.
    pub generation: i64,
    /// UID of the client it belongs to.
    pub client_uid: String,
    /// When `generation` last moved.
    pub rotated_at: i64,
    /// When the current refresh token dies.
    pub expires_at: i64,
    /// Identifier of the redemption that made it Active: tells our own retried write from a replay.
    pub redemption_id: Option<String>,
    /// Sealed [`crate::session::Payload`].
    pub payload: String,
}

/// Whose a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// One user's at one client.
    Client,
    /// One user's in one browser.
    Browser,
}

/// A session to store.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Object name: base32 of a hash.
    pub name: String,
    /// Whose it is.
    pub kind: SessionKind,
    /// `Pending` or `Active`.
    pub state: SessionState,
    /// UID of the client.
    pub client_uid: String,
    /// `client_id`, for people and selectors.
    pub client_id: String,
    /// Connector name, for people and selectors.
    pub connector: String,
    /// The user's label, for people and selectors.
    pub user: String,
    /// For selectors.
    pub labels: SessionLabels,
    /// Now: its first refresh token is as good as just exchanged.
    pub rotated_at: i64,
    /// When it dies.
    pub expires_at: i64,
    /// Identifier of this redemption; `None` while Pending.
    pub redemption_id: Option<String>,
    /// Sealed payload.
    pub payload: String,
}

/// Moves a session's refresh token from one generation to the next.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Object name.
    pub name: String,
    /// UID of the client that must own it.
    pub client_uid: String,
    /// The generation it must have; it then has this plus one.
    pub from_generation: i64,
    /// Now.
    pub rotated_at: i64,
    /// When the next refresh token dies.
    pub expires_at: i64,
    /// A new sealed payload, where the identity or the connector's data changed.
    pub payload: Option<String>,
    /// The labels, where somebody removed them by hand and nothing can be written without.
    pub labels: Option<SessionLabels>,
}

/// What sessions are selected by, besides their expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLabels {
    /// Stable hash of the issuer's UID.
    pub issuer_hash: String,
    /// Stable hash of issuer, connector and user ID.
    pub user_hash: String,
    /// Stable hash of the client's UID; of a browser's session, that of none.
    pub client_hash: String,
    /// Hash of the browser session that a client's session came of.
    pub browser_hash: Option<String>,
}

/// Makes a pending session active: the redemption of a large code.
#[derive(Debug, Clone)]
pub struct Activation {
    /// Object name.
    pub name: String,
    /// UID of the client that must own it.
    pub client_uid: String,
    /// Identifier of this redemption.
    pub redemption_id: String,
    /// Now.
    pub activated_at: i64,
    /// When its first refresh token dies.
    pub expires_at: i64,
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The object exists already (`create`).
    #[error("session exists already")]
    AlreadyExists,
    /// A precondition did not hold, or the object is not there. Read it to learn which.
    #[error("session changed or is gone")]
    PreconditionFailed,
    /// The write certainly did not happen: nobody was asked, or the API server refused at its door.
    #[error("session store refuses: {message}")]
    Refused {
        /// For logs.
        message: String,
        /// Seconds the caller should wait, if somebody said.
        retry_after: Option<u32>,
    },
    /// The API server could not be asked, or its answer was lost: the write may have happened.
    #[error("session store unavailable: {message}")]
    Unavailable {
        /// For logs.
        message: String,
        /// Seconds the caller should wait, if the API server said.
        retry_after: Option<u32>,
    },
}

impl StoreError {
    /// Seconds the caller should wait, if somebody said.
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::AlreadyExists | Self::PreconditionFailed => None,
            Self::Refused { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
        }
    }
}

/// The session store: every method is one atomic API-server request unless said otherwise.
#[async_trait]
pub trait Sessions: Send + Sync + fmt::Debug {
    /// Creates a session. The name is the single-use guard.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn create(&self, session: &NewSession) -> Result<(), StoreError>;

    /// Reads a session by quorum.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn get(&self, name: &str) -> Result<Option<StoredSession>, StoreError>;

    /// Rotates an Active session's refresh token and returns the session as it is now.
    ///
    /// # Errors
    /// [`StoreError::PreconditionFailed`] when it is not there, not Active, another client's or at
    /// another generation, or has no labels and is given none; [`StoreError::Refused`] or
    /// [`StoreError::Unavailable`].
    async fn rotate(&self, rotation: &Rotation) -> Result<StoredSession, StoreError>;

    /// Makes a Pending session Active and returns it as it is now.
    ///
    /// # Errors
    /// [`StoreError::PreconditionFailed`] when it is not there, not Pending or another client's;
    /// [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn activate(&self, activation: &Activation) -> Result<StoredSession, StoreError>;

    /// The sessions of clients that came of a browser session, by its hash: a list, a page at a time. One that
    /// cannot be read is left out.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn of_browser(&self, browser_hash: &str) -> Result<Vec<StoredSession>, StoreError>;

    /// The sessions of a user at a connector, by their hash, browsers' and clients': a list, a page at a time. One that
    /// cannot be read is left out.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn of_user(&self, user_hash: &str) -> Result<Vec<StoredSession>, StoreError>;

    /// Gives an Active browser session another sealed payload.
    ///
    /// # Errors
    /// [`StoreError::PreconditionFailed`] when it is not there or not Active; [`StoreError::Refused`] or
    /// [`StoreError::Unavailable`].
    async fn replace_payload(&self, name: &str, payload: &str) -> Result<(), StoreError>;

    /// Gives a client's Active session another sealed payload, if it still has the one that was read: of several that
    /// try, one has it to themselves.
    ///
    /// # Errors
    /// [`StoreError::PreconditionFailed`] when it is not there, not Active or has another payload by now;
    /// [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn claim(&self, read: &StoredSession, payload: &str) -> Result<(), StoreError>;

    /// The same for one that was claimed: never turned away by a bound of ours, for what it keeps may be had nowhere else.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    async fn keep(&self, claimed: &StoredSession, payload: &str) -> Result<(), StoreError>;

    /// Makes a session a tombstone that stays until nothing the session gave out, at the latest now, can
    /// be valid. Revoking a revoked or missing session is no error.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn revoke(
        &self,
        name: &str,
        reason: RevocationReason,
        now: i64,
    ) -> Result<(), StoreError>;

    /// Marks a session whose client is yet to be told that it is over (see
    /// [`back_channel_logout`](crate::back_channel_logout)), and where a reason is given makes it a tombstone in the
    /// same request. One that is missing is no error.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn end_and_tell(
        &self,
        name: &str,
        revoked: Option<RevocationReason>,
        now: i64,
    ) -> Result<(), StoreError>;

    /// Takes the mark of [`end_and_tell`](Self::end_and_tell) off: nothing is left to do. One that is missing is no
    /// error.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn settled(&self, name: &str) -> Result<(), StoreError>;

    /// When the store last did not answer this replica, as far as anybody took note.
    fn outage(&self) -> Option<Outage> {
        None
    }
}

/// Which sessions are revoked, from memory (a watch of tombstones).
pub trait Revocations: Send + Sync + fmt::Debug {
    /// Whether the session of this name is known to be revoked.
    fn is_revoked(&self, name: &str) -> bool;
}

/// Why a document could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct FetchError {
    message: String,
}

impl FetchError {
    /// It could not be asked for, or the answer was none.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Key sets that clients publish.
#[async_trait]
pub trait PublishedKeys: Send + Sync + fmt::Debug {
    /// The JWKS document at an https URL: one request to an address that policy admits, bounded in
    /// time and size, no redirect followed.
    ///
    /// # Errors
    /// [`FetchError`].
    async fn fetch(&self, uri: &str) -> Result<Vec<u8>, FetchError>;
}

/// The issuer of this cluster's ServiceAccount tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterIssuer {
    /// `iss` of its tokens.
    pub issuer: String,
    /// Its JWKS document.
    pub jwks: Vec<u8>,
}

/// Who signs the tokens of Kubernetes `ServiceAccounts`.
#[async_trait]
pub trait Cluster: Send + Sync + fmt::Debug {
    /// Asks the API server itself (two reads).
    ///
    /// # Errors
    /// [`FetchError`].
    async fn discover(&self) -> Result<ClusterIssuer, FetchError>;
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationReason {
    /// An authorization code was presented a second time (RFC 6749 4.1.2).
    CodeReplayed,
    /// A rotated refresh token was presented outside its grace (RFC 9700 4.14.2).
    RefreshTokenReused,
    /// The upstream says the user is gone, or policy no longer admits them.
    UserNoLongerValid,
    /// The client, connector or issuer it was made for is gone.
    ConfigurationRemoved,
    /// Its user signed out.
    SignedOut,
    /// It was the oldest of more than its issuer's limits admit.
    SessionLimitExceeded,
    /// Its client revoked one of its tokens (RFC 7009).
    TokenRevoked,
}

impl RevocationReason {
    /// The word that stands in the session, the Event, the metric and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CodeReplayed => "CodeReplayed",
            Self::RefreshTokenReused => "RefreshTokenReused",
            Self::UserNoLongerValid => "UserNoLongerValid",
            Self::ConfigurationRemoved => "ConfigurationRemoved",
            Self::SignedOut => "SignedOut",
            Self::SessionLimitExceeded => "SessionLimitExceeded",
            Self::TokenRevoked => "TokenRevoked",
        }
    }
}

/// Something an auditor wants to know. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditEvent<'a> {
    /// A user signed in and a session was stored.
    SessionStarted {
        /// Session name.
        session: &'a str,
        /// `client_id`.
        client: &'a str,
        /// Connector name.
        connector: &'a str,
        /// What a person would call the user.
        user: &'a str,
    },
    /// A session's tokens were refreshed.
    SessionRefreshed {
        /// Session name.
        session: &'a str,
        /// `client_id`.
        client: &'a str,
    },
    /// Tokens were given without a session of their own.
    TokensIssued {
        /// `client_id`.
        client: &'a str,
        /// `grant_type`.
        grant: &'static str,
    },
    /// Tokens were given about a workload: whom another issuer, or the cluster, vouched for.
    WorkloadAdmitted {
        /// `client_id`.
        client: &'a str,
        /// `grant_type`.
        grant: &'static str,
        /// Who it is: the issuer and its `sub`, or the ServiceAccount.
        workload: &'a str,
        /// `client_id` the new token is for; empty where it is the client's own.
        audience: &'a str,
    },
    /// An upstream's ID token was exchanged for one of ours.
    UpstreamTokenExchanged {
        /// `client_id` of the client that exchanged it.
        client: &'a str,
        /// Connector name.
        connector: &'a str,
        /// What a person would call the user.
        user: &'a str,
        /// `client_id` the new token is for.
        audience: &'a str,
    },
    /// A user's token was exchanged for another.
    TokenExchanged {
        /// Session name.
        session: &'a str,
        /// `client_id` of the client that exchanged it.
        client: &'a str,
        /// `client_id` the new token is for; empty where it is for resources.
        audience: &'a str,
    },
    /// A client registered, changed or deleted itself.
    ClientRegistration {
        /// `client_id`.
        client: &'a str,
        /// `Registered`, `Updated` or `Deleted`.
        change: &'static str,
    },
    /// A session was revoked.
    SessionRevoked {
        /// Session name.
        session: &'a str,
        /// `client_id`.
        client: &'a str,
        /// Why.
        reason: RevocationReason,
    },
    /// A client was not told that a session is over, and will not be.
    ClientNotTold {
        /// Session name.
        session: &'a str,
        /// Why: it refused, or did not answer for a day.
        reason: &'static str,
    },
    /// A user decided about a device.
    DeviceDecided {
        /// Name of the authorization.
        device: &'a str,
        /// `client_id`.
        client: &'a str,
        /// Connector name.
        connector: &'a str,
        /// What a person would call the user.
        user: &'a str,
        /// Whether the device may have its tokens.
        approved: bool,
    },
    /// What an upstream said against a user, in its own words, beside what became of it: why a sign-in was refused, or
    /// a session ended. For the log alone; users are told one and the same.
    UpstreamVerdict {
        /// `client_id`.
        client: &'a str,
        /// Connector name.
        connector: &'a str,
        /// Session name; empty at a sign-in.
        session: &'a str,
        /// In words; holds no secret.
        why: &'a str,
    },
    /// What an upstream is said to have told of a sign-out there is not believed.
    LogoutRefused {
        /// Connector name.
        connector: &'a str,
        /// Why, in one word.
        reason: &'static str,
    },
    /// A sign-in failed at a connector or by policy.
    LoginRefused {
        /// `client_id`.
        client: &'a str,
        /// Connector name.
        connector: &'a str,
        /// Why, in one word.
        reason: &'static str,
    },
}

/// Where audit events go: log, metrics, Kubernetes Events.
pub trait Audit: Send + Sync + fmt::Debug {
    /// Takes note. Never blocks, never fails.
    fn record(&self, event: &AuditEvent<'_>);
}

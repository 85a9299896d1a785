//! What the domain needs to know of devices that wait for their users.

use std::fmt;

use async_trait::async_trait;

use super::StoreError;

/// What the user of a device decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// Nothing yet.
    Pending,
    /// The device may have its tokens.
    Approved,
    /// It may not.
    Denied,
}

/// A device's authorization, as memory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDevice {
    /// Object name: base32 of a hash.
    pub name: String,
    /// Stable hash of the issuer's UID.
    pub issuer_hash: String,
    /// Stable hash of the client's UID.
    pub client_hash: String,
    /// UID of the client.
    pub client_uid: String,
    /// What was decided.
    pub state: DeviceState,
    /// What the user's code is known by ([`crate::device::user_code_mac`]).
    pub user_code_mac: String,
    /// What the address it asked from is known by ([`crate::device::source_mac`]).
    pub source_mac: String,
    /// When it is over.
    pub expires_at: i64,
    /// Sealed: while Pending [`crate::device::Request`], when Approved [`crate::code::LoginGrant`].
    pub payload: String,
}

/// A device's authorization to store; it is Pending.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Object name: base32 of a hash.
    pub name: String,
    /// Stable hash of the issuer's UID.
    pub issuer_hash: String,
    /// Stable hash of the client's UID.
    pub client_hash: String,
    /// UID of the client.
    pub client_uid: String,
    /// `client_id`, for people.
    pub client_id: String,
    /// What the user's code is known by.
    pub user_code_mac: String,
    /// What the address it asks from is known by.
    pub source_mac: String,
    /// When it is over.
    pub expires_at: i64,
    /// Sealed payload.
    pub payload: String,
}

/// A user's decision about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceDecision {
    /// It may have its tokens, made of this sealed payload.
    Approved(String),
    /// It may not.
    Denied,
}

/// How many devices wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Of the client.
    pub of_client: usize,
    /// Of the issuer.
    pub of_issuer: usize,
    /// Of the client, asked for from the address.
    pub of_client_and_source: usize,
    /// Of the issuer, asked for from the address.
    pub of_source: usize,
}

impl Waiting {
    /// Counts one of the issuer: whether it is the client's, and whether it asked from the address.
    pub fn count(&mut self, of_client: bool, of_source: bool) {
        self.of_issuer += 1;
        self.of_client += usize::from(of_client);
        self.of_source += usize::from(of_source);
        self.of_client_and_source += usize::from(of_client && of_source);
    }
}

/// The devices that wait for their users: written by one atomic request each, known from memory (a watch).
#[async_trait]
pub trait Devices: Send + Sync + fmt::Debug {
    /// Stores one that waits. It is known here at once, elsewhere when the watch tells.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Refused`] or [`StoreError::Unavailable`].
    async fn create(&self, device: &NewDevice) -> Result<(), StoreError>;

    /// Stores what its user decided, once.
    ///
    /// # Errors
    /// [`StoreError::PreconditionFailed`] when it is not there or decided already; [`StoreError::Refused`]
    /// or [`StoreError::Unavailable`].
    async fn decide(&self, name: &str, decision: &DeviceDecision) -> Result<(), StoreError>;

    /// The one of this name, as far as memory knows.
    fn find(&self, name: &str) -> Option<KnownDevice>;

    /// The one Pending device of an issuer that is not over and that this is true of; none where it is true
    /// of two.
    fn find_pending(
        &self,
        issuer_hash: &str,
        now: i64,
        is_wanted: &dyn Fn(&KnownDevice) -> bool,
    ) -> Option<KnownDevice>;

    /// How many are not over, decided or not, as a client asks from an address. `None` while that is not known.
    fn waiting(
        &self,
        issuer_hash: &str,
        client_hash: &str,
        source_mac: &str,
        now: i64,
    ) -> Option<Waiting>;
}

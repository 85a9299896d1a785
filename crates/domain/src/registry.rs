//! The port behind dynamic registration: clients that registered themselves, kept as `OAuth2Client`s.

use std::fmt;

use async_trait::async_trait;
pub use claviger_protocol::registration::{
    BackChannelAddress, ClientMetadata, ClientPages, LogoutAddresses, RegisteredProof,
};
pub use claviger_protocol::response_type::ResponseType;
pub use claviger_protocol::scope::ScopeSet;
use secrecy::SecretString;
use thiserror::Error;

/// Which object a registered client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its namespace: never home.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// A client to register.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// Where.
    pub place: Place,
    /// `metadata.name` of its issuer, which is in home.
    pub issuer: String,
    /// What it said, with the bounds applied.
    pub metadata: ClientMetadata,
    /// SHA-256 of its registration access token, base64url.
    pub token_digest: String,
    /// Its secret, if it has one.
    pub secret: Option<SecretString>,
}

/// A registered client as it is kept.
#[derive(Debug, Clone)]
pub struct KeptClient {
    /// When it registered, in seconds since the Unix epoch.
    pub registered_at: i64,
    /// What is kept of what it said.
    pub metadata: ClientMetadata,
    /// SHA-256 of its registration access token, base64url; none where an administrator took it back.
    pub token_digest: Option<String>,
}

impl KeptClient {
    /// Whether it is still the one whose token has this digest: what the watch brings may be late.
    ///
    /// # Errors
    /// [`RegistryError::Gone`].
    pub fn of_token(self, digest: &str) -> Result<Self, RegistryError> {
        let holds = self.token_digest.as_deref() == Some(digest);
        if holds { Ok(self) } else { Err(RegistryError::Gone) }
    }
}

/// What a client says now, in place of what it said before.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    metadata: &'a ClientMetadata,
    token_digest: &'a str,
}

impl<'a> Change<'a> {
    /// A change to this, by whoever has the token of this digest.
    pub fn to(metadata: &'a ClientMetadata, token_digest: &'a str) -> Self {
        Self { metadata, token_digest }
    }

    /// What is to be kept from now on: nobody learns it without showing what is kept.
    ///
    /// # Errors
    /// [`RegistryError::Gone`] where the token was taken back, [`RegistryError::Invalid`] for a change from one kind
    /// of proof to another.
    pub fn after(self, kept: KeptClient) -> Result<&'a ClientMetadata, RegistryError> {
        let kept = kept.of_token(self.token_digest)?.metadata;
        if kind_of(&kept.proof) == kind_of(&self.metadata.proof) {
            return Ok(self.metadata);
        }
        let why = "token_endpoint_auth_method cannot change between secret, keys and none: register another client";
        Err(RegistryError::Invalid(why.to_owned()))
    }
}

fn kind_of(proof: &RegisteredProof) -> &'static str {
    match proof {
        RegisteredProof::SecretBasic | RegisteredProof::SecretPost => "secret",
        RegisteredProof::Keys(_) | RegisteredProof::KeysAt(_) => "keys",
        RegisteredProof::Nothing => "none",
    }
}

/// Why the registry did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// The API server does not take such a client, or not in place of what is kept.
    #[error("{0}")]
    Invalid(String),
    /// It is not there, or another one of the same name is, or its token was taken back.
    #[error("the client is gone")]
    Gone,
    /// Somebody changed it since it was read.
    #[error("the client was changed meanwhile")]
    Conflict,
    /// Nobody could be asked, or we may not.
    #[error("registry unavailable: {0}")]
    Unavailable(String),
}

/// Clients that registered themselves.
#[async_trait]
pub trait Registry: Send + Sync + fmt::Debug {
    /// Makes a client and returns its UID: one write, and one more for a secret. Where one of
    /// them fails, or its answer is lost, what was made is taken back as far as the registry answers.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] or [`RegistryError::Unavailable`].
    async fn create(&self, client: &NewClient) -> Result<String, RegistryError>;

    /// Reads a client (one read); its UID must be this one.
    ///
    /// # Errors
    /// [`RegistryError::Gone`] or [`RegistryError::Unavailable`].
    async fn read(&self, place: &Place, uid: &str) -> Result<KeptClient, RegistryError>;

    /// Replaces what a client of this UID said, at exactly the version that it reads (one read, and one write where
    /// the change may follow). Returns when the client registered.
    ///
    /// # Errors
    /// [`RegistryError`].
    async fn replace(
        &self,
        place: &Place,
        uid: &str,
        change: Change<'_>,
    ) -> Result<i64, RegistryError>;

    /// Deletes a client of this UID (one write); its secret goes with it.
    ///
    /// # Errors
    /// [`RegistryError::Gone`] or [`RegistryError::Unavailable`].
    async fn delete(&self, place: &Place, uid: &str) -> Result<(), RegistryError>;
}

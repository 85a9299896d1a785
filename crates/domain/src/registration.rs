//! Dynamic client registration (RFC 7591) and its management (RFC 7592): who may, and what they get.
//!
//! What always holds:
//! - nothing is asked of the API server for anybody without an initial access token, or the registration access
//!   token of the very client it manages; both are known from memory;
//! - a registered client is one of a namespace that is not home, so its ID holds a slash and can be no cluster's
//!   audience, and the issuer's `tenants` bound it: here with an error that says so, and again when it is assessed;
//! - of a registration access token only the digest is kept;
//! - a client that is out of service manages itself as any other: that is how it comes back.

use std::collections::BTreeSet;

use claviger_protocol::error::{ErrorCode, ErrorResponse};
use claviger_protocol::registration::IMPLICIT;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::client::{ClientAuthentication, Grant, ResponseType};
use crate::host::{admits_host, host_of};
use crate::issuer::{ClientEntry, Issuer};
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::registry::{
    Change, ClientMetadata, NewClient, Place, RegisteredProof, RegistryError, ScopeSet,
};

/// Where clients register, below the issuer.
pub const PATH: &str = "/register";
/// Names of registered clients begin like this.
const NAME_PREFIX: &str = "dynamic-";

/// What an issuer says of dynamic registration.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Namespace of the clients: never home.
    pub namespace: String,
    /// Whoever holds one of these may register.
    pub initial_access_tokens: Vec<SecretString>,
    /// Most clients in the namespace.
    pub max_clients: usize,
    /// What they may have.
    pub bounds: Bounds,
}

/// What the issuer and its `tenants` admit of a registered client.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Grants.
    pub grants: BTreeSet<Grant>,
    /// Response types.
    pub response_types: BTreeSet<ResponseType>,
    /// Scopes.
    pub scopes: BTreeSet<String>,
    /// Hosts of redirect URIs; `*.` admits every host below.
    pub redirect_hosts: Vec<String>,
    /// Hosts of `jwks_uri`.
    pub jwks_hosts: Vec<String>,
    /// Hosts of `backchannel_logout_uri`.
    pub back_channel_hosts: Vec<String>,
}

/// Why there is no registration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistrationError {
    /// This issuer registers nobody.
    #[error("this issuer has no dynamic registration")]
    Off,
    /// No token, or none of ours.
    #[error("the access token is missing, unknown or revoked")]
    Unauthorized,
    /// The metadata are at fault, or there are too many clients.
    #[error(transparent)]
    Refused(#[from] ErrorResponse),
    /// Somebody we need is away.
    #[error("temporarily unavailable: {0}")]
    Unavailable(String),
}

impl From<RegistryError> for RegistrationError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Invalid(why) => {
                Self::Refused(ErrorResponse::new(ErrorCode::InvalidClientMetadata, &why))
            }
            // RFC 7592 2: a client that is gone has no token.
            RegistryError::Gone => Self::Unauthorized,
            RegistryError::Conflict => Self::Unavailable(error.to_string()),
            RegistryError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

/// A registration that was made.
pub struct Registered {
    /// `client_id`.
    pub client_id: String,
    place: Place,
    uid: String,
    /// What is answered (RFC 7591 3.2.1). It holds secrets.
    pub answer: Map<String, Value>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Whether somebody may register, and what the issuer says of it. From memory.
///
/// # Errors
/// [`RegistrationError::Off`] or [`RegistrationError::Unauthorized`].
pub fn may_register<'i>(
    issuer: &'i Issuer,
    token: Option<&SecretString>,
) -> Result<&'i Registration, RegistrationError> {
    let registration = issuer.registration.as_ref().ok_or(RegistrationError::Off)?;
    if token.is_some_and(|token| holds(&registration.initial_access_tokens, token)) {
        Ok(registration)
    } else {
        Err(RegistrationError::Unauthorized)
    }
}

/// Registers a client for whoever has an initial access token.
///
/// # Errors
/// [`RegistrationError`].
pub async fn register(
    provider: &Provider,
    issuer: &Issuer,
    token: Option<&SecretString>,
    body: &[u8],
) -> Result<Registered, RegistrationError> {
    let registration = may_register(issuer, token)?;
    let metadata = bounded(issuer, registration, ClientMetadata::parse(body)?)?;
    if registered(issuer, registration) >= registration.max_clients {
        let why = "as many clients are registered as the issuer admits: ask its administrator";
        return Err(ErrorResponse::new(ErrorCode::AccessDenied, why).into());
    }
    let access_token = random(provider);
    let new = NewClient {
        place: Place {
            namespace: registration.namespace.clone(),
            name: format!("{NAME_PREFIX}{}", random_name(provider)),
        },
        issuer: issuer.name.clone(),
        token_digest: digest(access_token.expose_secret()),
        secret: metadata.proof.is_secret().then(|| random(provider)),
        metadata,
    };
    let uid = provider.registry.create(&new).await?;
    let client_id = id_of(&new.place);
    tell(provider, &client_id, "Registered");
    let mut answer = information(issuer, &new.place, &new.metadata, &access_token);
    answer.insert("client_id_issued_at".into(), json!(provider.clock.now()));
    add_secret(&mut answer, new.secret.as_ref());
    Ok(Registered { client_id, place: new.place, uid, answer })
}

/// Takes a client back that turned out not to be admitted, before anybody is told of it.
pub async fn withdraw(provider: &Provider, registered: &Registered) {
    const TRIES: u32 = 3;
    let Registered { place, uid, client_id, .. } = registered;
    for tries_left in (0..TRIES).rev() {
        let Err(error) = provider.registry.delete(place, uid).await else { return };
        // The control plane writes its status at the same time, and an answer may be lost.
        if matches!(provider.registry.read(place, uid).await, Err(RegistryError::Gone)) {
            return;
        }
        if tries_left == 0 {
            tracing::warn!(client = client_id, %error, "a registration could not be taken back");
        }
    }
}

/// What is kept of a client, for the client itself (RFC 7592 2.1).
///
/// # Errors
/// [`RegistrationError`].
pub async fn read(
    provider: &Provider,
    issuer: &Issuer,
    name: &str,
    token: Option<&SecretString>,
) -> Result<Map<String, Value>, RegistrationError> {
    let managed = Managed::of(issuer, name, token)?;
    let kept = provider.registry.read(&managed.place, managed.uid).await?;
    let kept = kept.of_token(&managed.token_digest)?;
    Ok(managed.answer(issuer, &kept.metadata, kept.registered_at))
}

/// Replaces what a client said by what it says now (RFC 7592 2.2).
///
/// # Errors
/// [`RegistrationError`]; a change from one kind of proof to another among them, for which a client registers anew.
pub async fn update(
    provider: &Provider,
    issuer: &Issuer,
    (name, token): (&str, Option<&SecretString>),
    body: &[u8],
) -> Result<Map<String, Value>, RegistrationError> {
    let managed = Managed::of(issuer, name, token)?;
    managed.check_identity(body)?;
    let metadata = bounded(issuer, managed.registration, ClientMetadata::parse(body)?)?;
    let registered_at = replace(provider, &managed, &metadata).await?;
    tell(provider, &id_of(&managed.place), "Updated");
    Ok(managed.answer(issuer, &metadata, registered_at))
}

/// Writes what a client says now; again where somebody else, such as the control plane with the client's status,
/// wrote in between. Returns when the client registered.
async fn replace(
    provider: &Provider,
    managed: &Managed<'_>,
    metadata: &ClientMetadata,
) -> Result<i64, RegistrationError> {
    const TRIES: u32 = 3;
    for _ in 0..TRIES {
        let change = Change::to(metadata, &managed.token_digest);
        match provider.registry.replace(&managed.place, managed.uid, change).await {
            Ok(registered_at) => return Ok(registered_at),
            Err(RegistryError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RegistryError::Conflict.into())
}

/// Deletes a client at its own word (RFC 7592 2.3); its sessions end with it.
///
/// # Errors
/// [`RegistrationError`].
pub async fn delete(
    provider: &Provider,
    issuer: &Issuer,
    name: &str,
    token: Option<&SecretString>,
) -> Result<(), RegistrationError> {
    let managed = Managed::of(issuer, name, token)?;
    provider.registry.delete(&managed.place, managed.uid).await?;
    tell(provider, &id_of(&managed.place), "Deleted");
    Ok(())
}

/// A client whose registration access token was presented. It may be out of service: it can mend itself.
struct Managed<'a> {
    registration: &'a Registration,
    uid: &'a str,
    secrets: Secrets<'a>,
    place: Place,
    token: &'a SecretString,
    /// Its digest, as it is kept.
    token_digest: String,
}

/// What is known of a client's secrets.
enum Secrets<'a> {
    /// It has none.
    None,
    /// These, the current one first.
    Live(&'a [SecretString]),
    /// Nothing, while it is out of service.
    Unknown,
}

impl<'a> Secrets<'a> {
    fn of(authentication: &'a ClientAuthentication) -> Self {
        match authentication {
            ClientAuthentication::Secret(live) => Self::Live(live),
            _ => Self::None,
        }
    }
}

impl<'a> Managed<'a> {
    fn of(
        issuer: &'a Issuer,
        name: &str,
        token: Option<&'a SecretString>,
    ) -> Result<Self, RegistrationError> {
        let registration = issuer.registration.as_ref().ok_or(RegistrationError::Off)?;
        let token = token.ok_or(RegistrationError::Unauthorized)?;
        let place = Place { namespace: registration.namespace.clone(), name: name.to_owned() };
        let entry = issuer.client(&id_of(&place)).ok_or(RegistrationError::Unauthorized)?;
        let (known, secrets) = match entry {
            ClientEntry::InService(client) => {
                (&client.registration_digest, Secrets::of(&client.authentication))
            }
            ClientEntry::OutOfService(client) if client.secrets.is_empty() => {
                (&client.registration_digest, Secrets::Unknown)
            }
            ClientEntry::OutOfService(client) => {
                (&client.registration_digest, Secrets::Live(&client.secrets))
            }
        };
        let presented = digest(token.expose_secret());
        let known = known.as_deref().unwrap_or_default();
        if !bool::from(presented.as_bytes().ct_eq(known.as_bytes())) {
            return Err(RegistrationError::Unauthorized);
        }
        Ok(Self { registration, uid: entry.uid(), secrets, place, token, token_digest: presented })
    }

    /// RFC 7592 2.2: the client says who it is, and says the secret it has or none.
    fn check_identity(&self, body: &[u8]) -> Result<(), ErrorResponse> {
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        let wrong = |why| Err(ErrorResponse::new(ErrorCode::InvalidClientMetadata, why));
        if said["client_id"] != id_of(&self.place).as_str() {
            return wrong("client_id must be there and be the client's own");
        }
        let secret = said.get("client_secret").and_then(Value::as_str).map(SecretString::from);
        match (&secret, &self.secrets) {
            (Some(said), Secrets::Live(live)) if !holds(live, said) => {
                wrong("client_secret must be the client's own, or be left out")
            }
            (Some(_), Secrets::Unknown) => {
                wrong("client_secret is not known while the client is out of service: leave it out")
            }
            _ => Ok(()),
        }
    }

    fn answer(
        &self,
        issuer: &Issuer,
        metadata: &ClientMetadata,
        registered_at: i64,
    ) -> Map<String, Value> {
        let mut answer = information(issuer, &self.place, metadata, self.token);
        answer.insert("client_id_issued_at".into(), json!(registered_at));
        if let Secrets::Live(live) = &self.secrets {
            add_secret(&mut answer, live.first());
        }
        answer
    }
}

/// What a client gets of what it asked for: what it could not do without is refused, scopes are narrowed.
fn bounded(
    issuer: &Issuer,
    registration: &Registration,
    mut metadata: ClientMetadata,
) -> Result<ClientMetadata, ErrorResponse> {
    let bounds = &registration.bounds;
    let refused = |why: String| Err(ErrorResponse::new(ErrorCode::InvalidClientMetadata, &why));
    for wanted in metadata.grant_types.iter().filter(|grant| *grant != IMPLICIT) {
        if !bounds.grants.iter().any(|grant| grant.as_str() == wanted) {
            return refused(format!(
                "grant_types: {wanted} is not on offer for registered clients"
            ));
        }
    }
    for wanted in &metadata.response_types {
        if metadata.redirect_uris.is_empty() {
            continue; // nobody comes by the authorization endpoint
        }
        if !bounds.response_types.contains(wanted) {
            let word = wanted.as_str();
            return refused(format!(
                "response_types: {word} is not on offer for registered clients"
            ));
        }
    }
    let pages = &metadata.pages;
    let pages = [&pages.client, &pages.logo, &pages.policy, &pages.terms];
    for uri in pages.into_iter().flatten() {
        if !host_of(uri).is_some_and(|host| admits_host(&bounds.redirect_hosts, &host)) {
            return refused(format!("{uri}: its host is not among those the issuer admits"));
        }
    }
    for uri in metadata.redirect_uris.iter().chain(&metadata.post_logout_redirect_uris) {
        if !host_of(uri).is_some_and(|host| admits_host(&bounds.redirect_hosts, &host)) {
            let why = format!("{uri}: its host is not among those the issuer admits");
            return Err(ErrorResponse::new(ErrorCode::InvalidRedirectUri, &why));
        }
    }
    if let RegisteredProof::KeysAt(uri) = &metadata.proof
        && !host_of(uri).is_some_and(|host| admits_host(&bounds.jwks_hosts, &host))
    {
        return refused(format!("jwks_uri: {uri}: its host is not among those the issuer admits"));
    }
    if let Some(back_channel) = &metadata.logout.back_channel {
        let uri = &back_channel.uri;
        if !host_of(uri).is_some_and(|host| admits_host(&bounds.back_channel_hosts, &host)) {
            return refused(format!(
                "backchannel_logout_uri: {uri}: its host is not among those the issuer admits"
            ));
        }
    }
    if let Some(wanted) = &metadata.id_token_algorithm
        && !issuer.keys.signers.keys().any(|algorithm| algorithm.as_str() == wanted)
    {
        return refused(format!(
            "id_token_signed_response_alg: the issuer has no signing key for {wanted}"
        ));
    }
    metadata.scope = Some(scopes(bounds, metadata.scope.as_ref()));
    Ok(metadata)
}

/// The scopes asked for that the bounds admit, `openid` always; without any word all they admit.
fn scopes(bounds: &Bounds, wanted: Option<&ScopeSet>) -> ScopeSet {
    let admitted =
        bounds.scopes.iter().filter(|scope| wanted.is_none_or(|set| set.contains(scope)));
    let words: BTreeSet<&str> = admitted.map(String::as_str).chain(["openid"]).collect();
    let text = words.into_iter().collect::<Vec<_>>().join(" ");
    ScopeSet::parse(&text).unwrap_or_default()
}

/// Clients in the namespace, valid or not.
fn registered(issuer: &Issuer, registration: &Registration) -> usize {
    let prefix = format!("{}/", registration.namespace);
    issuer.clients.keys().filter(|id| id.starts_with(&prefix)).count()
}

fn information(
    issuer: &Issuer,
    place: &Place,
    metadata: &ClientMetadata,
    token: &SecretString,
) -> Map<String, Value> {
    let mut answer = metadata.to_members();
    let uri = issuer.url.join(&format!("{PATH}/{}", place.name));
    answer.insert("client_id".into(), json!(id_of(place)));
    answer.insert("registration_client_uri".into(), json!(uri));
    answer.insert("registration_access_token".into(), json!(token.expose_secret()));
    answer
}

fn add_secret(answer: &mut Map<String, Value>, secret: Option<&SecretString>) {
    if let Some(secret) = secret {
        answer.insert("client_secret".into(), json!(secret.expose_secret()));
        answer.insert("client_secret_expires_at".into(), json!(0));
    }
}

fn id_of(place: &Place) -> String {
    format!("{}/{}", place.namespace, place.name)
}

fn tell(provider: &Provider, client: &str, change: &'static str) {
    provider.audit.record(&AuditEvent::ClientRegistration { client, change });
}

/// Whether one of these is the one presented; every one is compared.
fn holds(known: &[SecretString], presented: &SecretString) -> bool {
    let presented = digest(presented.expose_secret());
    known.iter().fold(false, |found, one| {
        let one = digest(one.expose_secret());
        found | bool::from(one.as_bytes().ct_eq(presented.as_bytes()))
    })
}

/// SHA-256, base64url.
fn digest(token: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    BASE64URL_NOPAD.encode(hash.as_ref())
}

/// 256 unpredictable bits as 43 base64url characters.
fn random(provider: &Provider) -> SecretString {
    let mut bytes = [0; 32];
    provider.entropy.fill(&mut bytes);
    SecretString::from(BASE64URL_NOPAD.encode(&bytes))
}

/// 80 unpredictable bits in the characters of object names.
fn random_name(provider: &Provider) -> String {
    let mut bytes = [0; 10];
    provider.entropy.fill(&mut bytes);
    BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
}

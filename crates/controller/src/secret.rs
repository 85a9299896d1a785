//! Secrets: which label admits which reader, and whose a Secret is.
//!
//! What always holds: a Secret without [`labels::SECRET`] is not watched at all, and one with
//! another value than the reader's is refused, so that nobody who may edit a Connector or a client
//! can point it at the signing keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::labels;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::world::{ObjectKey, Progress, World};

/// Selects the Secrets that are watched: whoever has the label, whatever its value.
pub const WATCHED: &str = labels::SECRET;
/// Annotation of a signing-key Secret: UID of the `SigningKey` it belongs to.
pub const SIGNING_KEY_UID: &str = "claviger.dev/signing-key-uid";
/// Annotation of a signing-key Secret: since when (RFC 3339) its `SigningKey` is gone.
pub const ORPHANED_AT: &str = "claviger.dev/orphaned-at";

/// What a Secret may be used for: a value of [`labels::SECRET`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Bind passwords, CAs, upstream client secrets: what a Connector may read.
    Connector,
    /// Client secrets: what an OAuth2Client may read.
    Client,
    /// Password hashes: what a `LocalUser` may read.
    User,
    /// Serving certificates: what an OIDCIssuer may read.
    Tls,
    /// Initial access tokens: what an OIDCIssuer may read.
    Registration,
    /// Signing keys: ours alone.
    SigningKey,
    /// The sealing ring: ours alone.
    SealingRing,
}

impl Use {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connector => labels::SECRET_CONNECTOR,
            Self::Client => labels::SECRET_CLIENT,
            Self::User => labels::SECRET_USER,
            Self::Tls => labels::SECRET_TLS,
            Self::Registration => labels::SECRET_REGISTRATION,
            Self::SigningKey => labels::SECRET_SIGNING_KEY,
            Self::SealingRing => labels::SECRET_SEALING_RING,
        }
    }

    /// Whether a Secret is labelled for this use.
    pub fn admits(self, secret: &Secret) -> bool {
        let labels = secret.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(labels::SECRET)).map(String::as_str)
            == Some(self.as_str())
    }

    /// Labels of a Secret that Claviger makes for this use.
    pub fn labels(self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::SECRET.to_owned(), self.as_str().to_owned()),
            (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_CLAVIGER.to_owned()),
        ])
    }
}

/// Why a referenced Secret cannot be used, as a condition says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// Reason of `ResolvedRefs=False`.
    pub reason: Reason,
    /// What is wrong and how to fix it.
    pub message: String,
}

impl Unresolved {
    /// This reason with this message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The Secret of this name, if it is there and labelled for this use.
///
/// # Errors
/// [`Unresolved`] says what to do: make it, label it, or let Claviger read it.
pub fn resolve<'w>(
    world: &'w World,
    namespace: &str,
    name: &str,
    wanted: Use,
) -> Result<&'w Arc<Secret>, Unresolved> {
    check_access(world, namespace)?;
    let label = format!("{}={}", labels::SECRET, wanted.as_str());
    let Some(secret) = world.secrets.get(&ObjectKey::new(namespace, name)) else {
        return Err(Unresolved::new(
            Reason::SecretNotFound,
            format!(
                "Secret {namespace}/{name} not found or not labelled {label}: create it, or add the label"
            ),
        ));
    };
    if wanted.admits(secret) {
        return Ok(secret);
    }
    Err(Unresolved::new(
        Reason::SecretNotLabelled,
        format!(
            "Secret {namespace}/{name} is labelled for another use: label it {label}, or refer to another"
        ),
    ))
}

/// One value of a Secret, if all is as [`resolve`] demands and the key is there and not empty.
///
/// # Errors
/// As [`resolve`], or the key is missing.
pub fn resolve_value<'w>(
    world: &'w World,
    namespace: &str,
    reference: (&str, &str),
    wanted: Use,
) -> Result<&'w [u8], Unresolved> {
    let (name, key) = reference;
    let secret = resolve(world, namespace, name, wanted)?;
    value(secret, key).filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        Unresolved::new(
            Reason::SecretKeyNotFound,
            format!("Secret {namespace}/{name} has no value under key {key}: add it"),
        )
    })
}

/// Whether Secrets of this namespace can be seen at all.
///
/// # Errors
/// [`Reason::SecretAccessDenied`] with the `RoleBinding` to apply.
pub fn check_access(world: &World, namespace: &str) -> Result<(), Unresolved> {
    let home = &world.home;
    let binding = format!(
        "kubectl create role claviger-secrets --namespace {namespace} \
         --verb=get,list,watch,create,update --resource=secrets && \
         kubectl create rolebinding claviger-secrets --namespace {namespace} \
         --role=claviger-secrets --serviceaccount={home}:claviger"
    );
    let message = match world.secret_access(namespace) {
        Some(Progress::Synced { .. } | Progress::Syncing) => return Ok(()),
        Some(Progress::Denied) => format!(
            "Claviger may not read Secrets in namespace {namespace}: apply a RoleBinding for its ServiceAccount, such as: {binding}"
        ),
        None => format!(
            "Claviger does not watch Secrets in namespace {namespace}: add it to its tenant namespaces \
             (--tenant-namespaces) and apply a RoleBinding for its ServiceAccount, such as: {binding}"
        ),
    };
    Err(Unresolved::new(Reason::SecretAccessDenied, message))
}

/// Whether this is a key Secret that Claviger made for itself.
pub fn is_own(secret: &Secret) -> bool {
    Use::SigningKey.admits(secret) || Use::SealingRing.admits(secret)
}

/// A value of a Secret.
pub fn value<'s>(secret: &'s Secret, key: &str) -> Option<&'s [u8]> {
    secret.data.as_ref()?.get(key).map(|ByteString(bytes)| bytes.as_slice())
}

/// A value as text, without the line break that editors and shells put at its end.
pub fn line(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line)))
}

/// Whether an object of this UID owns the Secret.
pub fn is_owned_by(secret: &Secret, uid: &str) -> bool {
    let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.uid == uid)
}

//! What a provider says of itself, and which of its keys are for which issuer.
//!
//! What always holds: a key that a vendor publishes for one customer's issuer signs no token of another's.

use std::ops::Deref;
use std::sync::OnceLock;

use claviger_jose::KeySet;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType,
    CoreJsonWebKey, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, IssuerUrl, ProviderMetadata};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::metadata::MetadataError;
use crate::http::Http;

/// What stands for the customer in an issuer that is a pattern.
const TENANT: &str = "{tenantid}";

/// A provider's configuration, as it says it.
pub type Configuration = ProviderMetadata<
    Beyond,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// What it says beyond OpenID Connect Discovery. Nobody need use it, so nothing in it makes the rest unusable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beyond {
    #[serde(default)]
    end_session_endpoint: Value,
}

impl AdditionalProviderMetadata for Beyond {}

/// What a provider says.
pub struct Description {
    metadata: Configuration,
    keys: Option<Keys>,
    own: OnceLock<Option<KeySet>>,
}

/// Keys, each with the issuer whose tokens it may sign, or a pattern of it.
#[derive(Debug, Deserialize)]
pub struct Keys {
    keys: Vec<Key>,
}

#[derive(Debug, Deserialize)]
struct Key {
    #[serde(default)]
    issuer: Option<String>,
    #[serde(flatten)]
    key: CoreJsonWebKey,
}

impl Deref for Description {
    type Target = Configuration;

    fn deref(&self) -> &Configuration {
        &self.metadata
    }
}

impl Description {
    /// Of one issuer, whose keys are all for it.
    pub fn of(metadata: Configuration) -> Self {
        Self { metadata, keys: None, own: OnceLock::new() }
    }

    /// Of an issuer whose keys say what they are for.
    pub fn with_keys(metadata: Configuration, keys: Keys) -> Self {
        Self { metadata, keys: Some(keys), own: OnceLock::new() }
    }

    /// Where users sign out (RP-Initiated Logout 1.0 2.1), if it says so and it is https.
    pub fn end_session_endpoint(&self) -> Option<Url> {
        let said = self.metadata.additional_metadata().end_session_endpoint.as_str()?;
        Url::parse(said).ok().filter(|url| url.scheme() == "https" && url.has_host())
    }

    /// The keys that may sign tokens of this issuer.
    pub fn keys_of(&self, issuer: &str) -> CoreJsonWebKeySet {
        let Some(keys) = &self.keys else { return self.metadata.jwks().clone() };
        let keys = keys.keys.iter().filter(|key| key.is_for(issuer));
        CoreJsonWebKeySet::new(keys.map(|key| key.key.clone()).collect())
    }

    /// Those of its own issuer, to verify by; `None` if none of them can be read.
    pub fn key_set(&self) -> Option<&KeySet> {
        let read = || {
            let keys = serde_json::to_vec(&self.keys_of(self.metadata.issuer().as_str())).ok()?;
            KeySet::parse(&keys).ok()
        };
        self.own.get_or_init(read).as_ref()
    }
}

impl Key {
    fn is_for(&self, issuer: &str) -> bool {
        match self.issuer.as_deref() {
            None => true,
            Some(of) => match of.split_once(TENANT) {
                None => of == issuer,
                Some((before, after)) => {
                    let tenant = issuer.strip_prefix(before).and_then(|i| i.strip_suffix(after));
                    tenant.is_some_and(|tenant| !tenant.is_empty() && !tenant.contains('/'))
                }
            },
        }
    }
}

/// The configuration below an address that says its issuer is this one, and its keys.
///
/// # Errors
/// [`MetadataError`].
pub async fn read(
    http: &Http,
    address: &IssuerUrl,
    stated: &str,
) -> Result<(Configuration, Keys), MetadataError> {
    let place = format!("{}/.well-known/openid-configuration", address.as_str());
    let metadata: Configuration = document(http, &place).await?;
    let said = metadata.issuer().as_str();
    if said != stated {
        let why = format!("it says that its issuer is {said}, and not {stated}");
        return Err(MetadataError::Unusable(why));
    }
    let keys: Keys = document(http, metadata.jwks_uri().as_str()).await?;
    let all = keys.keys.iter().map(|key| key.key.clone()).collect();
    Ok((metadata.set_jwks(CoreJsonWebKeySet::new(all)), keys))
}

async fn document<T: DeserializeOwned>(http: &Http, place: &str) -> Result<T, MetadataError> {
    let request = http::Request::builder().uri(place).header("accept", "application/json");
    let request = request.body(Vec::new());
    let request = request.map_err(|error| MetadataError::Unusable(error.to_string()))?;
    let answer = http.send(request).await?;
    if answer.status() != http::StatusCode::OK {
        let why = format!("{place} answered {}; is the tenant right?", answer.status().as_u16());
        return Err(MetadataError::Unusable(why));
    }
    serde_json::from_slice(answer.body()).map_err(|error| {
        // Where, and not what: the words of the error may hold what was answered.
        let (line, column) = (error.line(), error.column());
        let why = format!("{place} cannot be read, at line {line} column {column}");
        MetadataError::Unusable(why)
    })
}

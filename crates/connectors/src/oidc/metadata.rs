//! What a provider says about itself: endpoints and keys, read when first needed and kept for an hour.
//!
//! What always holds: whoever finds it in memory waits for nobody; one asks, and who has nothing waits for that answer; a
//! failure is given to all who wait, and again for a moment; what was read before is good for a day while nothing newer
//! can be had; keys are read anew for a token whose key is not known, though no more often than every half minute,
//! whatever tokens are shown to us.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use claviger_api::Reason;
use claviger_api::connector::oidc::OidcEndpoints;
use openidconnect::core::{CoreJsonWebKeySet, CoreProviderMetadata};
use openidconnect::{AuthUrl, DiscoveryError, IssuerUrl, TokenUrl, UserInfoUrl};
use thiserror::Error;

use crate::http::{Http, HttpError};

/// How long an answer is good for.
const KEPT: Duration = Duration::from_hours(1);
/// How long it is good for while nothing newer can be had.
const STALE: Duration = Duration::from_hours(24);
/// Least time between two readings at the wish of a token.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a failure is everybody's.
const FAILED: Duration = Duration::from_secs(2);

/// Why a provider's description of itself is not there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// It could not be read.
    #[error("the provider's configuration could not be read: {0}")]
    Http(#[from] HttpError),
    /// It is not usable.
    #[error("the provider's configuration is not usable: {0}")]
    Unusable(String),
}

impl MetadataError {
    /// The word for the `Ready` condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Http(error) => error.reason(),
            Self::Unusable(_) => Reason::UpstreamUnusable,
        }
    }
}

/// A provider's configuration and keys.
pub struct Metadata {
    issuer: IssuerUrl,
    endpoints: OidcEndpoints,
    known: Mutex<Known>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
}

/// What was read, and what failed since.
#[derive(Default)]
struct Known {
    read: Option<(Instant, Arc<CoreProviderMetadata>)>,
    failed: Option<(Instant, MetadataError)>,
}

impl Known {
    fn younger_than(&self, age: Duration) -> Option<Arc<CoreProviderMetadata>> {
        let (at, metadata) = self.read.as_ref()?;
        (at.elapsed() < age).then(|| Arc::clone(metadata))
    }

    /// What a failure leaves.
    fn left(&self) -> Option<Result<Arc<CoreProviderMetadata>, MetadataError>> {
        let (at, error) = self.failed.as_ref()?;
        let stale = || self.younger_than(STALE).ok_or_else(|| error.clone());
        (at.elapsed() < FAILED).then(stale)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({:?})", self.issuer.as_str())
    }
}

impl Metadata {
    /// Of this issuer, where nobody has asked yet.
    pub fn of(issuer: IssuerUrl, endpoints: OidcEndpoints) -> Self {
        Self { issuer, endpoints, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// What it says, from memory if it was asked within the hour.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn get(&self, http: &Http) -> Result<Arc<CoreProviderMetadata>, MetadataError> {
        self.no_older_than(http, KEPT).await
    }

    /// What it says by now, for a token whose key is not among those it said before.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn again(&self, http: &Http) -> Result<Arc<CoreProviderMetadata>, MetadataError> {
        self.no_older_than(http, PAUSE).await
    }

    /// Asks, whatever is known, and waits for nobody else.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn refresh(&self, http: &Http) -> Result<Arc<CoreProviderMetadata>, MetadataError> {
        let asked = self.ask(http).await;
        self.note(&asked);
        asked
    }

    async fn no_older_than(
        &self,
        http: &Http,
        age: Duration,
    ) -> Result<Arc<CoreProviderMetadata>, MetadataError> {
        if let Some(known) = self.known().younger_than(age) {
            return Ok(known);
        }
        let _alone = self.asking.lock().await;
        {
            let known = self.known(); // by now
            if let Some(found) = known.younger_than(age).map(Ok).or_else(|| known.left()) {
                return found;
            }
        }
        let asked = self.ask(http).await;
        self.note(&asked);
        asked.or_else(|error| self.known().younger_than(STALE).ok_or(error))
    }

    async fn ask(&self, http: &Http) -> Result<Arc<CoreProviderMetadata>, MetadataError> {
        let metadata = CoreProviderMetadata::discover_async(self.issuer.clone(), http).await;
        self.complete(metadata.map_err(failure)?).map(Arc::new)
    }

    fn note(&self, asked: &Result<Arc<CoreProviderMetadata>, MetadataError>) {
        let mut known = self.known();
        match asked {
            Ok(metadata) => {
                *known = Known { read: Some((Instant::now(), Arc::clone(metadata))), failed: None };
            }
            Err(error) => known.failed = Some((Instant::now(), error.clone())),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With what the administrator says instead, and nothing missing.
    fn complete(
        &self,
        mut metadata: CoreProviderMetadata,
    ) -> Result<CoreProviderMetadata, MetadataError> {
        let bad = |error: url::ParseError| MetadataError::Unusable(error.to_string());
        let said = |url: &Option<String>| url.clone();
        if let Some(url) = said(&self.endpoints.authorization) {
            metadata = metadata.set_authorization_endpoint(AuthUrl::new(url).map_err(bad)?);
        }
        if let Some(url) = said(&self.endpoints.token) {
            metadata = metadata.set_token_endpoint(Some(TokenUrl::new(url).map_err(bad)?));
        }
        if let Some(url) = said(&self.endpoints.userinfo) {
            metadata = metadata.set_userinfo_endpoint(Some(UserInfoUrl::new(url).map_err(bad)?));
        }
        let mut urls = vec![metadata.authorization_endpoint().url(), metadata.jwks_uri().url()];
        urls.extend(metadata.token_endpoint().map(TokenUrl::url));
        urls.extend(metadata.userinfo_endpoint().map(UserInfoUrl::url));
        if let Some(plain) = urls.iter().find(|url| url.scheme() != "https") {
            let why = format!("{plain} is not https: say another in endpoints");
            return Err(MetadataError::Unusable(why));
        }
        if metadata.token_endpoint().is_none() {
            let why = "it has no token_endpoint: say it in endpoints.tokenURL";
            return Err(MetadataError::Unusable(why.to_owned()));
        }
        if *metadata.jwks() == CoreJsonWebKeySet::new(Vec::new()) {
            let why = "it has no keys that sign tokens";
            return Err(MetadataError::Unusable(why.to_owned()));
        }
        Ok(metadata)
    }
}

fn failure(error: DiscoveryError<HttpError>) -> MetadataError {
    match error {
        DiscoveryError::Request(error) => MetadataError::Http(error),
        DiscoveryError::Response(status, _, why) => {
            MetadataError::Unusable(format!("it answered {status}: {why}; is the issuer right?"))
        }
        DiscoveryError::Validation(why) => {
            MetadataError::Unusable(format!("{why}: write issuer exactly as the provider says it"))
        }
        DiscoveryError::Parse(why) => MetadataError::Unusable(why.to_string()),
        other => MetadataError::Unusable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata() -> Arc<CoreProviderMetadata> {
        let said = json!({
            "issuer": "https://idp.example.com", "authorization_endpoint": "https://idp.example.com/auth",
            "jwks_uri": "https://idp.example.com/keys", "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
        });
        Arc::new(serde_json::from_value(said).unwrap())
    }

    fn known(read: Option<Duration>, failed: Option<Duration>) -> Known {
        let ago = |age: Duration| Instant::now().checked_sub(age).unwrap();
        let error = || MetadataError::Unusable("away".into());
        Known {
            read: read.map(|age| (ago(age), metadata())),
            failed: failed.map(|age| (ago(age), error())),
        }
    }

    #[test]
    fn what_was_read_is_good_for_an_hour_and_for_a_day_while_nothing_newer_can_be_had() {
        let (minutes, hours) = (Duration::from_mins(59), Duration::from_hours(2));
        assert!(known(Some(minutes), None).younger_than(KEPT).is_some());
        assert!(known(Some(PAUSE), None).younger_than(PAUSE).is_none(), "for an unknown key");
        assert!(known(Some(hours), None).younger_than(KEPT).is_none());
        assert!(known(Some(hours), None).left().is_none(), "nothing failed: ask");
        let just_now = Some(Duration::ZERO);
        assert!(known(Some(hours), just_now).left().unwrap().is_ok());
        assert!(known(Some(Duration::from_hours(25)), just_now).left().unwrap().is_err());
        assert!(known(None, just_now).left().unwrap().is_err());
        assert!(known(None, Some(FAILED)).left().is_none(), "long ago: ask");
    }
}

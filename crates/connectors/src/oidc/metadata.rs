//! What a provider says about itself: endpoints and keys, [kept](crate::kept). Keys are read anew for a token whose key is not
//! known.

use std::fmt;
use std::sync::Arc;

use claviger_api::Reason;
use claviger_api::connector::oidc::OidcEndpoints;
use claviger_domain::no_verdict::NoVerdict;
use openidconnect::core::CoreJsonWebKeySet;
use openidconnect::{AuthUrl, DiscoveryError, IssuerUrl, TokenUrl, UserInfoUrl};
use thiserror::Error;

use super::description::{self, Configuration, Description};
use crate::http::{Http, HttpError};
use crate::kept::{KEPT, Kept, PAUSE};

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

impl From<MetadataError> for NoVerdict {
    fn from(error: MetadataError) -> Self {
        let why = error.to_string();
        let retry_after = match &error {
            MetadataError::Http(error) => Self::from(error).retry_after(),
            MetadataError::Unusable(_) => None,
        };
        retry_after.map_or_else(|| why.clone().into(), |seconds| Self::busy(&why, Some(seconds)))
    }
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
    /// What it says its issuer is, where that may be another than where it is read.
    stated_issuer: Option<String>,
    endpoints: OidcEndpoints,
    kept: Kept<Description, MetadataError>,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({:?})", self.issuer.as_str())
    }
}

impl Metadata {
    /// Of this issuer, where nobody has asked yet.
    pub fn of(issuer: IssuerUrl, stated_issuer: Option<String>, endpoints: OidcEndpoints) -> Self {
        Self { issuer, stated_issuer, endpoints, kept: Kept::default() }
    }

    /// What it says, from memory if it was asked within the hour.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn get(&self, http: &Http) -> Result<Arc<Description>, MetadataError> {
        self.kept.no_older_than(KEPT, self.ask(http)).await
    }

    /// What it says by now, for a token whose key is not among those it said before.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn again(&self, http: &Http) -> Result<Arc<Description>, MetadataError> {
        self.kept.no_older_than(PAUSE, self.ask(http)).await
    }

    /// Asks, whatever is known, and waits for nobody else.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn refresh(&self, http: &Http) -> Result<Arc<Description>, MetadataError> {
        self.kept.note(self.ask(http).await)
    }

    async fn ask(&self, http: &Http) -> Result<Arc<Description>, MetadataError> {
        let Some(stated) = &self.stated_issuer else {
            let metadata = Configuration::discover_async(self.issuer.clone(), http).await;
            let metadata = self.complete(metadata.map_err(failure)?)?;
            return Ok(Arc::new(Description::of(metadata)));
        };
        let (metadata, keys) = description::read(http, &self.issuer, stated).await?;
        let metadata = self.complete(metadata)?;
        Ok(Arc::new(Description::with_keys(metadata, keys)))
    }

    /// With what the administrator says instead, and nothing missing.
    fn complete(&self, mut metadata: Configuration) -> Result<Configuration, MetadataError> {
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
impl Metadata {
    /// So much time goes by.
    pub fn age(&self, by: std::time::Duration) {
        self.kept.age(by);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use claviger_testkit::CertificateAuthority;
    use claviger_testkit::openid_provider::OpenidProvider;

    use super::*;
    use crate::tls::{Material, client_config};

    #[tokio::test]
    async fn any_number_of_tokens_by_unknown_keys_reads_the_keys_once_in_half_a_minute() {
        let authority = CertificateAuthority::create("upstream").unwrap();
        let provider = OpenidProvider::start(&authority).await.unwrap();
        let ca = Some(authority.certificate_pem().as_bytes());
        let tls = client_config(&Material { ca, ..Material::default() }).unwrap();
        let http = Http::new(&tls, None).unwrap();
        let issuer = IssuerUrl::new(provider.url().to_owned()).unwrap();
        let mut metadata = Metadata::of(issuer, None, OidcEndpoints::default());
        let known = metadata.get(&http).await.unwrap();
        let log = || std::mem::take(&mut provider.conduct().log);
        let once = ["/.well-known/openid-configuration", "/keys"];
        assert_eq!(log(), once);
        for (seconds, read) in [(25, &[][..]), (30, &once)] {
            metadata.kept = Kept::read_ago(Arc::clone(&known), Duration::from_secs(seconds));
            let tokens = (0..50).map(|_| metadata.again(&http));
            assert!(futures::future::join_all(tokens).await.iter().all(Result::is_ok));
            assert_eq!(log(), read, "what was read {seconds} s ago");
        }
    }
}

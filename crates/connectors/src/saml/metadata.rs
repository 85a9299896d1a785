//! Who the identity provider is: what a URL says of it, [kept](crate::kept), or what stands in the Connector. Behind a URL it is
//! read anew for a signature that no known certificate verifies.

use std::sync::Arc;
use std::time::Duration;

use claviger_api::Reason;
use claviger_api::connector::saml::SamlBinding;
use http::{Method, Request, header};
use thiserror::Error;

use super::provider::IdentityProvider;
use crate::http::{Http, HttpError};
use crate::kept::{KEPT, Kept, PAUSE};

/// How long a key is believed that the provider's metadata says no more, while the metadata can be had.
const FRESH: Duration = Duration::from_mins(5);

/// Why an identity provider's metadata is not there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// It could not be read.
    #[error("the identity provider's metadata could not be read: {0}")]
    Http(#[from] HttpError),
    /// It is not usable.
    #[error("the identity provider's metadata is not usable: {0}")]
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

/// Where an identity provider is described.
#[derive(Debug)]
pub enum Source {
    /// In the Connector.
    Given(Arc<IdentityProvider>),
    /// Behind a URL.
    Url(Box<Remote>),
}

/// Metadata behind a URL.
#[derive(Debug)]
pub struct Remote {
    /// The URL.
    pub url: String,
    /// The binding to send requests by, if not any.
    pub binding: Option<SamlBinding>,
    /// What it is read by.
    pub http: Http,
    /// What was read.
    pub kept: Kept<IdentityProvider, MetadataError>,
}

impl Source {
    /// The provider whose answers are believed, from memory if it was read within [`FRESH`]: a key that it withdrew is good no
    /// longer.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn believed(&self, now: i64) -> Result<Arc<IdentityProvider>, MetadataError> {
        let found = match self {
            Self::Given(provider) => Arc::clone(provider),
            Self::Url(remote) => remote.kept.patiently(FRESH, remote.ask()).await?,
        };
        found.check_validity(now).map_err(MetadataError::Unusable)?;
        Ok(found)
    }

    /// The provider to send users to, from memory if it was read within the hour.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn get(&self, now: i64) -> Result<Arc<IdentityProvider>, MetadataError> {
        let found = match self {
            Self::Given(provider) => Arc::clone(provider),
            Self::Url(remote) => remote.kept.no_older_than(KEPT, remote.ask()).await?,
        };
        found.check_validity(now).map_err(MetadataError::Unusable)?;
        Ok(found)
    }

    /// The provider as it is by now, if that is another than `known`: it may sign with another key.
    pub async fn changed(&self, known: &IdentityProvider) -> Option<Arc<IdentityProvider>> {
        let Self::Url(remote) = self else { return None };
        let found = remote.kept.no_older_than(PAUSE, remote.ask()).await.ok()?;
        (*found != *known).then_some(found)
    }
}

impl Remote {
    /// Reads, whatever is known, and waits for nobody else.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn refresh(&self) -> Result<Arc<IdentityProvider>, MetadataError> {
        self.kept.note(self.ask().await)
    }

    async fn ask(&self) -> Result<Arc<IdentityProvider>, MetadataError> {
        let unusable = |why: String| MetadataError::Unusable(why);
        let request = Request::builder().method(Method::GET).uri(&self.url);
        let request =
            request.header(header::ACCEPT, "application/samlmetadata+xml, application/xml");
        let request = request.body(Vec::new()).map_err(|error| unusable(error.to_string()))?;
        let answer = self.http.send(request).await?;
        if !answer.status().is_success() {
            return Err(unusable(format!("its address answered {}", answer.status())));
        }
        let provider = IdentityProvider::from_metadata(answer.body(), self.binding);
        provider.map(Arc::new).map_err(unusable)
    }
}

#[cfg(test)]
mod tests {
    use claviger_testkit::{CertificateAuthority, KeyServer, pki};

    use super::*;
    use crate::tls::{Material, client_config};

    /// A provider with a key of its own.
    fn document() -> String {
        let certificate = pki::rsa("idp").unwrap().certificate_pem;
        let base64: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
        format!(
            "<md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"https://idp.example.com\">\
             <md:IDPSSODescriptor protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">\
             <md:KeyDescriptor use=\"signing\"><ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data>\
             <ds:X509Certificate>{base64}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\
             <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
             Location=\"https://idp.example.com/sso\"/></md:IDPSSODescriptor></md:EntityDescriptor>"
        )
    }

    fn provider(document: &str) -> Arc<IdentityProvider> {
        Arc::new(IdentityProvider::from_metadata(document.as_bytes(), None).unwrap())
    }

    #[tokio::test]
    async fn a_withdrawn_key_is_believed_for_five_minutes_while_the_metadata_can_be_had() {
        let authority = CertificateAuthority::create("idp").unwrap();
        let (old, new) = (document(), document());
        let server = KeyServer::start(&authority, new.clone()).await.unwrap();
        let ca = Some(authority.certificate_pem().as_bytes());
        let tls = client_config(&Material { ca, ..Material::default() }).unwrap();
        let http = Http::new(&tls, None).unwrap();
        let url = server.url();
        let known_for = |age| {
            let kept = Kept::read_ago(provider(&old), age);
            let (url, http) = (url.clone(), http.clone());
            Source::Url(Box::new(Remote { url, binding: None, http, kept }))
        };
        let minutes = Duration::from_mins;
        assert_eq!(known_for(minutes(4)).believed(0).await, Ok(provider(&old)));
        assert_eq!(known_for(minutes(6)).get(0).await, Ok(provider(&old)), "users may go there");
        assert_eq!(server.take_asked(), 0);
        let source = known_for(minutes(6));
        for _ in 0..3 {
            assert_eq!(source.believed(0).await, Ok(provider(&new)));
        }
        assert_eq!(server.take_asked(), 1);
        server.publish("<html/>".to_owned());
        let source = known_for(minutes(6));
        for _ in 0..3 {
            assert_eq!(source.believed(0).await, Ok(provider(&old)), "a failure is no verdict");
        }
        assert_eq!(server.take_asked(), 1, "and not asked for again at once");
        drop(server);
        assert_eq!(known_for(minutes(6)).believed(0).await, Ok(provider(&old)), "nobody says more");
        assert!(known_for(Duration::from_hours(25)).believed(0).await.is_err());
    }
}

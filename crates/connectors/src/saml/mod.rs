//! An identity provider of SAML 2.0 as upstream (SAML Profiles 4.1, web browser SSO; the answer by HTTP-POST).
//!
//! ```text
//! mod (depart, arrive, probe) → request                       our AuthnRequest, by Redirect or POST
//!   │                         → metadata → provider           who the identity provider is
//!   │ logout (our messages) → redirect ← logout_notice (the provider's): signed over the query's text
//!   └ answer: xml (strict) → response (form) → signature → xml again: what it covers → assertion → claims
//! ```
//! What always holds: there is a certificate of the identity provider's, and what no certificate of it signed is not read;
//! the user is read from what the signature covers, as it was digested, and from nothing else of the answer; every check of
//! an assertion is ours, by the clock that is passed in, for the library leaves several out (`docs/saml.md` has the table);
//! an answer is good once, whichever replica it is shown to.

mod assertion;
mod claims;
mod description;
mod logout;
mod logout_notice;
mod metadata;
mod provider;
mod redirect;
mod refusal;
mod request;
mod response;
mod signature;
mod signature_form;
mod xml;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_api::connector::saml::SamlUpstream;
use claviger_domain::connector::{Authenticated, ConnectorData, LoginError};
use claviger_domain::single_logout::SingleLogout;
use claviger_domain::trip::{Arrival, Description, RedirectLogin, Trip};
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Semaphore;

use self::assertion::{Believed, Expected};
use self::metadata::{MetadataError, Remote, Source};
use self::provider::{IdentityProvider, SingleLogoutService};
use self::refusal::Refusal;
use self::request::{RELAY_STATE, Request, SigningKey};
use self::xml::{Element, MAX_BYTES};
use crate::http::Http;
use crate::kept::Kept;
use crate::{BuildError, Probe, ProbeError, Purpose, Resolved, SecretRef};

/// Answers whose signatures are verified at once, at all connectors: anybody can send what takes long to refuse.
static VERIFYING: Semaphore = Semaphore::const_new(4);
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest `SAMLResponse` that is decoded: what it holds is longer than may be read anyway, line breaks included.
const MAX_ENCODED: usize = MAX_BYTES / 3 * 4 + MAX_BYTES / 16;

/// Claviger as a service provider at one identity provider.
pub struct ServiceProvider {
    name: String,
    spec: SamlUpstream,
    source: Source,
    key: Option<SigningKey>,
    certificate: Option<Vec<u8>>,
}

impl fmt::Debug for ServiceProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceProvider({:?})", self.name)
    }
}

/// Which keys of which Secrets the connector needs.
pub fn secret_refs(spec: &SamlUpstream) -> Vec<SecretRef> {
    let by_hand =
        spec.identity_provider.iter().flat_map(|by_hand| &by_hand.certificates_secret_ref);
    let by_hand = by_hand.map(|at| SecretRef::new(at, Purpose::SignatureCertificates));
    let keys = spec.signing.iter().map(|signing| &signing.key_secret_ref);
    let keys = keys.map(|at| SecretRef::new(at, Purpose::RequestKey));
    let own = spec.signing.iter().flat_map(|signing| &signing.certificate_secret_ref);
    let own = own.map(|at| SecretRef::new(at, Purpose::RequestCertificate));
    let authorities = spec.tls.ca_secret_ref.iter();
    let authorities = authorities.map(|at| SecretRef::new(at, Purpose::CertificateAuthority));
    by_hand.chain(keys).chain(own).chain(authorities).collect()
}

impl ServiceProvider {
    /// Contacts nobody. `name` is for logs.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(name: &str, spec: &SamlUpstream, resolved: &Resolved) -> Result<Self, BuildError> {
        let mut key = None;
        let mut certificate = None;
        if let Some(signing) = &spec.signing {
            let at = &signing.key_secret_ref;
            let pem = resolved.bytes(&at.name, &at.key, Purpose::RequestKey)?;
            let read = SigningKey::from_pem(pem);
            key = Some(read.map_err(|why| BuildError::unusable(at, Purpose::RequestKey, &why))?);
            if let Some(at) = &signing.certificate_secret_ref {
                let purpose = Purpose::RequestCertificate;
                let found = certificates(resolved.bytes(&at.name, &at.key, purpose)?);
                let found = found.map_err(|why| BuildError::unusable(at, purpose, &why))?;
                certificate = found.into_iter().next();
            }
        }
        let source = source(spec, resolved)?;
        Ok(Self { name: name.to_owned(), spec: spec.clone(), source, key, certificate })
    }

    /// What to ask whether a sign-in would do: where the metadata is not behind a URL, nothing can be asked.
    pub fn is_probed(&self) -> bool {
        matches!(self.source, Source::Url(_))
    }

    fn entity_id<'a>(&'a self, callback: &'a str) -> &'a str {
        self.spec.entity_id.as_deref().unwrap_or(callback)
    }

    /// Judges an answer. Only a signature that does not verify is worth a look whether the provider has another key by now.
    async fn believed(
        &self,
        trip: &Trip<'_>,
        answer: &Params,
    ) -> Result<(Believed, Arc<IdentityProvider>), LoginError> {
        let document = decoded(answer)?;
        let provider = self.source.believed(trip.now).await.map_err(|error| unavailable(&error))?;
        match self.judged(trip, &document, &provider).await {
            Ok(believed) => Ok((believed, provider)),
            Err(Refusal::BadSignature) => match self.source.changed(&provider).await {
                Some(now) => Ok((self.judged(trip, &document, &now).await?, now)),
                None => Err(Refusal::BadSignature.into()),
            },
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn judged(
        &self,
        trip: &Trip<'_>,
        document: &[u8],
        provider: &Arc<IdentityProvider>,
    ) -> Result<Believed, Refusal> {
        let envelope = Element::parse(document)?;
        let signed = response::check_form(&envelope, self.spec.signatures)?;
        let text = std::str::from_utf8(document).map_err(|_| xml::XmlError::NotUtf8)?.to_owned();
        let covered = verified(text, Arc::clone(provider)).await?;
        let covered = Element::parse(covered.as_bytes())?;
        let expected = Expected {
            issuer: &provider.entity_id,
            audience: self.entity_id(&trip.callback),
            address: &trip.callback,
            request: &trip.request_id(),
            contexts: &self.spec.requested_authn_contexts,
            now: trip.now,
        };
        assertion::judge(&envelope, &covered, signed, &expected)
    }
}

fn unavailable(error: &MetadataError) -> LoginError {
    LoginError::Unavailable(error.to_string().into())
}

/// What the signatures of a document cover. They are verified aside, since they take a processor; and whoever asks and
/// goes away leaves no room for another before it is done.
async fn verified(document: String, by: Arc<IdentityProvider>) -> Result<String, Refusal> {
    let permit = tokio::time::timeout(PATIENCE, VERIFYING.acquire()).await;
    let Ok(Ok(permit)) = permit else { return Err(Refusal::Busy) };
    let verifying = tokio::task::spawn_blocking(move || {
        let covered = signature::covered(&document, &by.certificates);
        drop(permit);
        covered
    });
    verifying.await.map_err(|_| Refusal::BadSignature)?
}

fn source(spec: &SamlUpstream, resolved: &Resolved) -> Result<Source, BuildError> {
    if let Some(document) = &spec.metadata {
        let provider = IdentityProvider::from_metadata(document.as_bytes(), spec.request_binding);
        let provider = provider.map_err(|why| BuildError::Saml(format!("metadata: {why}")))?;
        return Ok(Source::Given(Arc::new(provider)));
    }
    if let Some(by_hand) = &spec.identity_provider {
        let pem = match (&by_hand.certificates_secret_ref, &by_hand.certificates) {
            (Some(at), _) => resolved.bytes(&at.name, &at.key, Purpose::SignatureCertificates)?,
            (None, inline) => inline.as_deref().unwrap_or_default().as_bytes(),
        };
        let unusable = |why: String| BuildError::Saml(format!("identityProvider: {why}"));
        let found = certificates(pem).map_err(unusable)?;
        let binding = spec.request_binding.unwrap_or(by_hand.sso_binding);
        let sign_on = (by_hand.sso_url.as_str(), binding);
        let provider = IdentityProvider::new(&by_hand.entity_id, sign_on, found);
        let single_logout = by_hand.slo_url.as_deref();
        let single_logout = single_logout.map(|url| SingleLogoutService::new(url, None));
        return Ok(Source::Given(Arc::new(IdentityProvider {
            single_logout: single_logout.transpose().map_err(unusable)?,
            ..provider.map_err(unusable)?
        })));
    }
    let Some(url) = &spec.metadata_url else {
        let why = "say exactly one of metadataURL, metadata and identityProvider";
        return Err(BuildError::Saml(why.into()));
    };
    Ok(Source::Url(Box::new(Remote {
        url: url.clone(),
        binding: spec.request_binding,
        http: Http::trusting(&spec.tls, resolved)?,
        kept: Kept::default(),
    })))
}

/// The certificates of a PEM text, in DER.
fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found =
        found.map_err(|error| format!("there is no certificate in PEM form in it: {error}"))?;
    if found.is_empty() {
        return Err("there is no certificate in PEM form in it".into());
    }
    Ok(found.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// The document in a form's `SAMLResponse`.
fn decoded(answer: &Params) -> Result<Vec<u8>, Refusal> {
    let encoded = answer.get("SAMLResponse").filter(|text| !text.is_empty());
    let encoded = encoded.ok_or(Refusal::NoResponse)?;
    if encoded.len() > MAX_ENCODED {
        return Err(xml::XmlError::TooLarge.into());
    }
    let encoded: String = encoded.split_ascii_whitespace().collect();
    let document = BASE64.decode(encoded.as_bytes()).map_err(|_| Refusal::NotBase64)?;
    if document.len() > MAX_BYTES {
        return Err(xml::XmlError::TooLarge.into());
    }
    Ok(document)
}

#[async_trait]
impl RedirectLogin for ServiceProvider {
    async fn depart(&self, trip: &Trip<'_>) -> Result<Delivery, LoginError> {
        let provider = self.source.get(trip.now).await.map_err(|error| unavailable(&error))?;
        let request = Request {
            spec: &self.spec,
            provider: &provider,
            entity_id: self.entity_id(&trip.callback),
            key: self.key.as_ref(),
        };
        request.deliver(trip).map_err(LoginError::Unusable)
    }

    fn form_field(&self) -> Option<&'static str> {
        Some(RELAY_STATE)
    }

    fn description(&self, callback: &str) -> Option<Description> {
        let names = (self.entity_id(callback), callback);
        let certificate = self.certificate.as_deref();
        // A provider sends its users where it is told, and we would not know who they are.
        let hears = self.signs_out() && self.spec.attributes.user_id.is_none();
        Some(description::describe(&self.spec, names, certificate, hears))
    }

    fn single_logout(&self) -> Option<&dyn SingleLogout> {
        Some(self)
    }

    fn session_there(&self, data: Option<&ConnectorData>) -> Option<String> {
        String::from_utf8(data?.0.clone()).ok()
    }

    async fn arrive(&self, trip: &Trip<'_>, answer: &Params) -> Result<Arrival, LoginError> {
        let (believed, provider) = self.believed(trip, answer).await?;
        let identity = claims::identity(&believed, &self.spec).map_err(LoginError::Unusable)?;
        let (sign_out, data) = self.kept(&believed, &provider.entity_id);
        Ok(Arrival {
            authenticated: Authenticated { identity, raw: claims::raw(&believed), data },
            time: Some(believed.authenticated_at),
            amr: Vec::new(),
            once: Some(format!("{}\n{}", provider.entity_id, believed.id)),
            sign_out,
        })
    }
}

#[async_trait]
impl Probe for ServiceProvider {
    async fn probe(&self) -> Result<(), ProbeError> {
        let failed = |error: MetadataError| ProbeError {
            reason: error.reason().as_str(),
            message: error.to_string(),
        };
        match &self.source {
            Source::Given(_) => Ok(()),
            Source::Url(remote) => remote.refresh().await.map(drop).map_err(failed),
        }
    }
}

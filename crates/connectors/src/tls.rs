//! How a directory's certificate is checked, and what its refusal means in words.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use thiserror::Error;

use crate::certificates::Certificates;

/// What the administrator said about TLS, with its Secrets read.
#[derive(Default)]
pub struct Material<'a> {
    /// Authorities to trust instead of the system's, PEM.
    pub ca: Option<&'a [u8]>,
    /// Our certificate chain and its key, PEM.
    pub client: Option<(&'a [u8], &'a [u8])>,
    /// Trust whatever certificate the server shows.
    pub skip_verification: bool,
    /// Where what servers show is noted.
    pub seen: Certificates,
}

/// Why TLS could not be set up from what the administrator gave.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TlsError {
    /// No certificate in the CA bundle, or not PEM.
    #[error("the CA bundle holds no usable PEM certificate: {0}")]
    Ca(String),
    /// No authority in the image.
    #[error("the system trusts no certificate authority: name the directory's CA in the Connector")]
    NoSystemRoots,
    /// Certificate or key unusable, or they do not belong together.
    #[error("the client certificate and key are not usable together: {0}")]
    Client(String),
    /// Not a fault of the administrator's.
    #[error("failed to set up TLS: {0}")]
    Setup(String),
}

/// Builds what every connection of a connector uses.
///
/// # Errors
/// [`TlsError`] names the part that is not usable.
pub fn client_config(material: &Material<'_>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let setup = |error: &dyn ToString| TlsError::Setup(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?;
    let verifier: Arc<dyn ServerCertVerifier> = if material.skip_verification {
        Arc::new(TrustAnything(provider))
    } else {
        WebPkiServerVerifier::builder_with_provider(roots(material.ca)?, provider)
            .build()
            .map_err(|error| setup(&error))?
    };
    let noting = material.seen.noting(verifier);
    let builder = builder.dangerous().with_custom_certificate_verifier(noting);
    let mut config = match material.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let unusable = |error: &dyn ToString| TlsError::Client(error.to_string());
            let chain = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| unusable(&error))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(&error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
        }
    };
    // A resumed session shows no certificate: one that was renewed would be warned of for ever.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(ca: Option<&[u8]>) -> Result<Arc<RootCertStore>, TlsError> {
    let Some(ca) = ca else { return system_roots() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|error| TlsError::Ca(error.to_string()))?;
        roots.add(certificate).map_err(|error| TlsError::Ca(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TlsError::Ca("it is empty".to_owned()));
    }
    Ok(Arc::new(roots))
}

/// The system's authorities: read once and shared, for a hundred connectors would hold a hundred copies.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static READ: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = READ.get() {
        return Ok(Arc::clone(roots));
    }
    let mut roots = RootCertStore::empty();
    // One unreadable file among the system's must not cost us the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoSystemRoots); // not kept: somebody may still install them
    }
    Ok(Arc::clone(READ.get_or_init(|| Arc::new(roots))))
}

/// For `insecureSkipVerify`: signatures are still checked, so the peer holds the key it shows.
#[derive(Debug)]
struct TrustAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a TLS failure means, if the connection failed for one; `None` for other I/O errors.
pub fn explain_io(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(explain(error))
}

/// What a TLS failure means and what to do about it.
pub fn explain(error: &rustls::Error) -> String {
    match advice(error) {
        Some(advice) => format!("{error}: {advice}"),
        None => error.to_string(),
    }
}

fn advice(error: &rustls::Error) -> Option<&'static str> {
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::InvalidMessage(_) => {
            return Some(
                "the server does not speak TLS on this port; is it ldap:// with StartTLS?",
            );
        }
        rustls::Error::AlertReceived(_) => {
            return Some("the server ended the handshake; does it ask for a client certificate?");
        }
        _ => return None,
    };
    match certificate {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(
            "the server's certificate is not signed by the CA that the Connector trusts; \
             put the issuing CA into the Secret the Connector names",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some("the certificate is for other names; use one of them in the Connector's URL")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Some("renew the server's certificate")
        }
        CertificateError::Other(OtherError(other)) if is_ca_as_end_entity(other.as_ref()) => Some(
            "the server shows a CA certificate as its own; \
             issue it a server certificate that this CA signs",
        ),
        _ => None,
    }
}

fn is_ca_as_end_entity(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.to_string().contains("CaUsedAsEndEntity")
}

#[cfg(test)]
mod tests {
    use claviger_testkit::pki::CertificateAuthority;

    use super::*;

    fn error(material: &Material<'_>) -> TlsError {
        client_config(material).unwrap_err()
    }

    #[test]
    fn certificates_of_an_authority_and_a_client_are_taken() {
        let ca = CertificateAuthority::create("test").unwrap();
        let client = ca.client("claviger", &[]).unwrap();
        let material = Material {
            ca: Some(ca.certificate_pem().as_bytes()),
            client: Some((client.certificate_pem.as_bytes(), client.key_pem.as_bytes())),
            ..Material::default()
        };
        let config = client_config(&material).unwrap();
        assert!(config.client_auth_cert_resolver.has_certs());
    }

    #[test]
    fn connectors_share_the_systems_authorities() {
        let (Ok(one), Ok(other)) = (system_roots(), system_roots()) else {
            return assert_eq!(error(&Material::default()), TlsError::NoSystemRoots);
        };
        assert!(Arc::ptr_eq(&one, &other), "a hundred connectors would hold a hundred copies");
        assert!(client_config(&Material::default()).is_ok());
    }

    #[test]
    fn unusable_material_is_refused_by_name() {
        let ca = CertificateAuthority::create("test").unwrap();
        let (one, other) = (ca.client("one", &[]).unwrap(), ca.client("other", &[]).unwrap());
        let empty = Material { ca: Some(b"not PEM"), ..Material::default() };
        assert_eq!(error(&empty), TlsError::Ca("it is empty".to_owned()));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            error(&Material { ca: Some(broken), ..Material::default() }),
            TlsError::Ca(_)
        ));
        let mixed = Material {
            ca: Some(ca.certificate_pem().as_bytes()),
            client: Some((one.certificate_pem.as_bytes(), other.key_pem.as_bytes())),
            ..Material::default()
        };
        assert!(matches!(error(&mixed), TlsError::Client(_)));
        let keyless =
            Material { client: Some((b"", b"")), skip_verification: true, ..Material::default() };
        assert!(matches!(error(&keyless), TlsError::Client(_)));
    }

    #[test]
    fn failures_are_explained_with_their_fix() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(explain(&unknown).contains("issuing CA"));
        let io = io::Error::new(io::ErrorKind::InvalidData, unknown);
        assert!(explain_io(&io).unwrap().starts_with("invalid peer certificate: UnknownIssuer"));
        assert_eq!(explain_io(&io::Error::other("something else")), None);
    }
}

//! Whose client certificates a handshake at the listener for trusted proxies takes.
//!
//! What always holds: what the Snapshot says now counts, with no restart; without a connector that
//! trusts a proxy, nobody gets in. Which connector a certificate is good for is decided per request,
//! by that connector.

use std::sync::Arc;

use arc_swap::ArcSwap;
use claviger_domain::Snapshot;
use claviger_domain::connector::Login;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

/// Asks every connector that has a proxy.
#[derive(Debug)]
pub struct ProxyVerifier {
    snapshot: Arc<ArcSwap<Snapshot>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ProxyVerifier {
    /// A verifier over what the Snapshot says at each handshake.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, provider: &CryptoProvider) -> Self {
        Self { snapshot, algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for ProxyVerifier {
    /// None: they change with the connectors, and a client that has several certificates is told
    /// which one to use by its own configuration.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<&[u8]> =
            std::iter::once(end_entity).chain(intermediates).map(AsRef::as_ref).collect();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let snapshot = self.snapshot.load();
        let trusted = snapshot
            .issuers
            .iter()
            .flat_map(|issuer| &issuer.connectors)
            .filter_map(|connector| match &connector.login {
                Login::Proxy(proxy) => Some(proxy),
                Login::Password(_) | Login::Redirect(_) => None,
            })
            .any(|proxy| proxy.verify_certificate(&chain, now).is_ok());
        if trusted {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

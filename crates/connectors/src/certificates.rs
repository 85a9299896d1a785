//! Which certificates a connector's upstreams have shown, and how long they are good.
//!
//! What always holds: a certificate is noted where the handshake judges it, so it is the one that logins meet; an
//! upstream with several servers is as good as the one whose certificate ends first; a server that is not asked any more warns
//! nobody for longer than a week in which others are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Servers of one connector whose certificates are remembered.
const MAX_SERVERS: usize = 64;
/// How much later than one another must be shown for it to be forgotten: a server that is only asked when somebody signs in may
/// not be asked for days, and a connection that is kept open shows none; but one that the upstream has given up must not warn
/// until the process ends.
const REMEMBERED: Duration = Duration::from_hours(7 * 24);
/// Before the end of a certificate, at most: seconds in two weeks.
const WARNING: i64 = 14 * 24 * 3_600;

/// A certificate that a server has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The server's name, as it was asked for.
    pub server: String,
    /// From when it is good, in seconds since the Unix epoch.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl Certificate {
    /// From when somebody should see to it: two weeks before its end, or when three quarters of its life are over, for
    /// one that lives shortly.
    pub fn warning_from(&self) -> i64 {
        let life = self.not_after.saturating_sub(self.not_before).max(0);
        self.not_after.saturating_sub(WARNING.min(life / 4))
    }
}

/// What the servers of one connector have shown, and when last.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Arc<Mutex<BTreeMap<String, (Instant, Certificate)>>>);

impl Certificates {
    /// The one that ends first.
    pub fn first_to_end(&self) -> Option<Certificate> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let certificates = shown.values().map(|(_, certificate)| certificate);
        certificates.min_by_key(|certificate| certificate.not_after).cloned()
    }

    /// A verifier that judges as `inner` does, and notes what it was shown.
    pub(crate) fn noting(&self, inner: Arc<dyn ServerCertVerifier>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Noting { inner, certificates: self.clone() })
    }

    fn note(&self, server: &ServerName<'_>, certificate: &CertificateDer<'_>, now: Instant) {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return };
        let server = server.to_str().into_owned();
        let validity = parsed.validity();
        let certificate = Certificate {
            server: server.clone(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        };
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|_, (at, _)| now.saturating_duration_since(*at) < REMEMBERED);
        if shown.len() < MAX_SERVERS || shown.contains_key(&server) {
            shown.insert(server, (now, certificate));
        }
    }
}

/// Notes certificates, and judges none.
#[derive(Debug)]
struct Noting {
    inner: Arc<dyn ServerCertVerifier>,
    certificates: Certificates,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.certificates.note(server_name, end_entity, Instant::now());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}

#[cfg(test)]
mod tests {
    use claviger_testkit::pki::CertificateAuthority;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn certificate(not_before: i64, not_after: i64) -> Certificate {
        Certificate { server: "ldap.example.com".into(), not_before, not_after }
    }

    #[test]
    fn a_warning_leaves_two_weeks_or_a_quarter_of_a_short_life() {
        let day = 24 * 3_600;
        assert_eq!(certificate(0, 365 * day).warning_from(), 351 * day);
        assert_eq!(certificate(0, 8 * day).warning_from(), 6 * day);
        assert_eq!(certificate(100, 0).warning_from(), 0, "one that makes no sense");
    }

    #[test]
    fn of_several_servers_the_certificate_that_ends_first_counts_and_a_new_one_replaces_the_old() {
        let ca = CertificateAuthority::create("test").unwrap();
        let one = ca.server(&["one.example.com"], &[]).unwrap();
        let der = CertificateDer::from_pem_slice(one.certificate_pem.as_bytes()).unwrap();
        let name = |name: &'static str| ServerName::try_from(name).unwrap();
        let (seen, now) = (Certificates::default(), Instant::now());
        assert_eq!(seen.first_to_end(), None);
        seen.note(&name("one.example.com"), &der, now);
        let first = seen.first_to_end().unwrap();
        assert_eq!(first.server, "one.example.com");
        assert!(first.not_before < first.not_after, "{first:?}");
        seen.note(&name("two.example.com"), &CertificateDer::from(vec![0x30, 0]), now);
        assert_eq!(seen.first_to_end(), Some(first), "what is no certificate is nothing");
    }

    #[test]
    fn a_server_that_has_shown_none_for_a_week_is_forgotten_and_makes_room() {
        let ca = CertificateAuthority::create("test").unwrap();
        let one = ca.server(&["one.example.com"], &[]).unwrap();
        let der = CertificateDer::from_pem_slice(one.certificate_pem.as_bytes()).unwrap();
        let name = |n: usize| ServerName::try_from(format!("s{n}.example.com")).unwrap();
        let (seen, begun) = (Certificates::default(), Instant::now());
        for n in 0..=MAX_SERVERS {
            seen.note(&name(n), &der, begun);
        }
        let count = || seen.0.lock().unwrap().len();
        assert_eq!(count(), MAX_SERVERS);
        let later = begun + Duration::from_hours(7 * 24 - 1);
        seen.note(&name(0), &der, later);
        assert_eq!(count(), MAX_SERVERS, "an hour is left");
        let week = begun + REMEMBERED;
        seen.note(&name(MAX_SERVERS), &der, week);
        assert_eq!(count(), 2, "the others are forgotten, and there is room again");
        assert_eq!(seen.first_to_end().unwrap().server, "s0.example.com");
        seen.note(&name(1), &der, later + REMEMBERED);
        assert_eq!(count(), 2, "that one, too");
        assert_eq!(seen.first_to_end().unwrap().server, "s1.example.com");
    }
}

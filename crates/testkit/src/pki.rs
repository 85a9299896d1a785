//! Certificates for tests: one authority, server certificates for loopback, client certificates for people.
//!
//! A server's certificate is never the authority's own: rustls refuses that (`CaUsedAsEndEntity`), rightly.
//! Keys are ECDSA P-256; certificates do not expire within anybody's test.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// No extension but these: openssl's own default would make the client a CA.
const CLIENT_REQUEST: &str = "[req]
distinguished_name = name
x509_extensions = client
[name]
[client]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
";

/// A private certificate authority.
#[derive(Debug)]
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate and its private key (PKCS #8), both PEM.
#[derive(Debug, Clone)]
pub struct CertifiedKey {
    /// The certificate alone, without the authority's.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl CertificateAuthority {
    /// Makes a new authority. `common_name` tells it from others in error messages.
    pub fn create(common_name: &str) -> Result<Self> {
        let key = KeyPair::generate().context("failed to make a CA key")?;
        let certificate_pem = parameters(common_name)
            .self_signed(&key)
            .context("failed to sign a CA certificate")?
            .pem();
        Ok(Self { issuer: Issuer::new(parameters(common_name), key), certificate_pem })
    }

    /// Reads the authority that [`save`](Self::save) wrote. `common_name` is what it was created with.
    pub fn load(certificate: &Path, key: &Path, common_name: &str) -> Result<Self> {
        let key = KeyPair::from_pem(&read(key)?).context("failed to parse the CA key")?;
        let certificate_pem = read(certificate)?;
        Ok(Self { issuer: Issuer::new(parameters(common_name), key), certificate_pem })
    }

    /// Writes certificate and key as PEM.
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<()> {
        write(certificate, &self.certificate_pem)?;
        write(key, &self.issuer.key().serialize_pem())
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A server certificate for `names` and for 127.0.0.1, `addresses` and localhost.
    pub fn server(&self, names: &[&str], addresses: &[IpAddr]) -> Result<CertifiedKey> {
        let mut all = vec!["localhost".to_owned()];
        all.extend(names.iter().map(|name| (*name).to_owned()));
        let mut parameters =
            CertificateParams::new(all).context("failed to use a name in a certificate")?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let addresses = std::iter::once(loopback).chain(addresses.iter().copied());
        parameters.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        parameters.distinguished_name.push(DnType::CommonName, "server");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(parameters)
    }

    /// A client certificate with these subject alternative names: URIs where they hold `://`, else DNS
    /// names.
    pub fn client_named(&self, names: &[&str]) -> Result<CertifiedKey> {
        let mut parameters = CertificateParams::default();
        for name in names {
            let text = name.to_string().try_into().context("failed to use a name")?;
            let is_uri = name.contains("://");
            let name = if is_uri { SanType::URI(text) } else { SanType::DnsName(text) };
            parameters.subject_alt_names.push(name);
        }
        parameters.distinguished_name.push(DnType::CommonName, "client");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(parameters)
    }

    /// A client certificate that a kube-apiserver reads as `user` in `groups`.
    ///
    /// Made by `openssl`: rcgen's names hold one organization at most, and each group is one.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<CertifiedKey> {
        let folder = tempfile::tempdir().context("failed to make a scratch folder")?;
        let file = |name: &str| folder.path().join(name);
        self.save(&file("ca.crt"), &file("ca.key"))?;
        write(&file("request.conf"), CLIENT_REQUEST)?;
        let subject: String = groups.iter().map(|group| relative_name("O", group)).collect();
        let output = Command::new("openssl")
            .current_dir(folder.path())
            .args(["req", "-x509", "-CA", "ca.crt", "-CAkey", "ca.key", "-config", "request.conf"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "3650", "-utf8", "-subj", &(subject + &relative_name("CN", user))])
            .args(["-keyout", "client.key", "-out", "client.crt"])
            .output()
            .context("failed to run openssl (scripts/setup installs it)")?;
        ensure!(
            output.status.success(),
            "openssl made no certificate for {user}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(CertifiedKey {
            certificate_pem: read(&file("client.crt"))?,
            key_pem: read(&file("client.key"))?,
        })
    }

    fn sign(&self, mut parameters: CertificateParams) -> Result<CertifiedKey> {
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("failed to make a key")?;
        let certificate =
            parameters.signed_by(&key, &self.issuer).context("failed to sign a certificate")?;
        Ok(CertifiedKey { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl CertifiedKey {
    /// What takes TLS off a connection to a server of this certificate.
    ///
    /// # Errors
    /// When certificate and key do not belong together.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let chain = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Writes certificate and key as PEM.
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<()> {
        write(certificate, &self.certificate_pem)?;
        write(key, &self.key_pem)
    }
}

fn parameters(common_name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

/// A self-signed RSA certificate, as services have that sign XML.
///
/// # Errors
/// When `openssl` makes none.
pub fn rsa(common_name: &str) -> Result<CertifiedKey> {
    let folder = tempfile::tempdir().context("failed to make a scratch folder")?;
    let file = |name: &str| folder.path().join(name);
    let output = Command::new("openssl")
        .current_dir(folder.path())
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"])
        .args(["-subj", &relative_name("CN", common_name), "-keyout", "key", "-out", "crt"])
        .output()
        .context("failed to run openssl (scripts/setup installs it)")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(CertifiedKey { certificate_pem: read(&file("crt"))?, key_pem: read(&file("key"))? })
}

/// One part of a subject as `openssl -subj` reads it.
fn relative_name(kind: &str, value: &str) -> String {
    let mut name = format!("/{kind}=");
    for letter in value.chars() {
        if matches!(letter, '/' | '+' | '\\') {
            name.push('\\');
        }
        name.push(letter);
    }
    name
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn write(path: &Path, pem: &str) -> Result<()> {
    std::fs::write(path, pem).with_context(|| format!("failed to write {}", path.display()))
}

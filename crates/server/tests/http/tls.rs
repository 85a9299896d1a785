//! TLS: certificates from files and from an issuer's Secret, replaced while connections are served.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger_domain::issuer::TlsIdentity;
use claviger_server::tls::{CertificateFiles, Certificates};
use claviger_server::{Limits, serve};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::rig::Rig;

const HOST: &str = "id.example.org";

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([HOST.to_owned(), "other.example.org".to_owned()]).unwrap()
}

fn write(folder: &Path, identity: &CertifiedKey<KeyPair>) {
    fs::write(folder.join("tls.crt"), identity.cert.pem()).unwrap();
    fs::write(folder.join("tls.key"), identity.signing_key.serialize_pem()).unwrap();
}

fn pem(identity: &CertifiedKey<KeyPair>) -> TlsIdentity {
    TlsIdentity {
        certificate_pem: identity.cert.pem(),
        key_pem: SecretString::from(identity.signing_key.serialize_pem()),
    }
}

struct Secured {
    rig: Rig,
    folder: TempDir,
    certificates: Arc<Certificates>,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn files(folder: &TempDir) -> CertificateFiles {
    CertificateFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    }
}

async fn start(first: &CertifiedKey<KeyPair>) -> Secured {
    let rig = Rig::new();
    let folder = TempDir::new().unwrap();
    write(folder.path(), first);
    let certificates = Certificates::load(files(&folder), Arc::clone(&rig.snapshot)).unwrap();
    let certificates = Arc::new(certificates);
    let config = certificates.server_config().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let limits = Limits { handshake: Duration::from_millis(200), ..Limits::default() };
    tokio::spawn(serve(listener, Some(config), rig.app.clone(), limits, shutdown.clone()));
    Secured { rig, folder, certificates, address, shutdown }
}

impl Secured {
    /// Shakes hands as a client that trusts these certificates: the one it was shown, the protocol
    /// that was agreed on, and the answer to a request for the keys.
    async fn fetch(
        &self,
        host: &str,
        trusted: &[&CertifiedKey<KeyPair>],
        alpn: &[u8],
    ) -> (CertificateDer<'static>, String) {
        let mut roots = RootCertStore::empty();
        for identity in trusted {
            roots.add(identity.cert.der().clone()).unwrap();
        }
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        let mut answer = String::new();
        if alpn == b"http/1.1" {
            let request =
                format!("GET /keys HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
        (shown, answer)
    }

    async fn shown(
        &self,
        host: &str,
        trusted: &[&CertifiedKey<KeyPair>],
    ) -> CertificateDer<'static> {
        let (shown, answer) = self.fetch(host, trusted, b"http/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        shown
    }

    fn set_issuer_tls(&self, identity: TlsIdentity) {
        let mut issuer = self.rig.world.issuer.clone();
        issuer.tls = Some(Arc::new(identity));
        self.rig.replace_issuer(issuer);
    }
}

#[tokio::test]
async fn replaced_files_are_shown_without_a_restart_and_broken_ones_are_not() {
    let (old, new) = (certificate(), certificate());
    let server = start(&old).await;
    let both = [&old, &new];
    assert_eq!(server.shown(HOST, &both).await, *old.cert.der());

    // Half replaced: the key does not belong to the certificate.
    fs::write(server.folder.path().join("tls.crt"), new.cert.pem()).unwrap();
    server.certificates.reload();
    assert_eq!(server.shown(HOST, &both).await, *old.cert.der());
    fs::write(server.folder.path().join("tls.crt"), "nonsense").unwrap();
    server.certificates.reload();
    fs::remove_file(server.folder.path().join("tls.key")).unwrap();
    server.certificates.reload();
    assert_eq!(server.shown(HOST, &both).await, *old.cert.der());

    write(server.folder.path(), &new);
    server.certificates.reload();
    assert_eq!(server.shown(HOST, &both).await, *new.cert.der());
}

#[tokio::test]
async fn an_issuers_own_certificate_is_shown_at_its_host_alone_and_follows_the_snapshot() {
    let (default, first, second) = (certificate(), certificate(), certificate());
    let all = [&default, &first, &second];
    let server = start(&default).await;
    for own in [&first, &second] {
        server.set_issuer_tls(pem(own));
        assert_eq!(server.shown(HOST, &all).await, *own.cert.der());
        assert_eq!(server.shown("other.example.org", &all).await, *default.cert.der());
    }
}

#[tokio::test]
async fn a_broken_new_secret_leaves_the_issuers_old_certificate_in_use() {
    let (default, own) = (certificate(), certificate());
    let server = start(&default).await;
    server.set_issuer_tls(pem(&own));
    assert_eq!(server.shown(HOST, &[&default, &own]).await, *own.cert.der());
    server.set_issuer_tls(TlsIdentity {
        certificate_pem: default.cert.pem(),
        key_pem: SecretString::from(own.signing_key.serialize_pem()),
    });
    assert_eq!(server.shown(HOST, &[&default, &own]).await, *own.cert.der());
}

#[tokio::test]
async fn http_2_is_offered_first() {
    let identity = certificate();
    let server = start(&identity).await;
    let (shown, _) = server.fetch(HOST, &[&identity], b"h2").await;
    assert_eq!(shown, *identity.cert.der());
}

#[tokio::test]
async fn a_pair_that_does_not_match_is_named_at_start() {
    let (one, other) = (certificate(), certificate());
    let folder = TempDir::new().unwrap();
    write(folder.path(), &one);
    fs::write(folder.path().join("tls.key"), other.signing_key.serialize_pem()).unwrap();
    let rig = Rig::new();
    let error = Certificates::load(files(&folder), Arc::clone(&rig.snapshot)).err().unwrap();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(!error.to_string().contains("PRIVATE KEY"), "{error}");
    fs::remove_file(folder.path().join("tls.crt")).unwrap();
    let error = Certificates::load(files(&folder), Arc::clone(&rig.snapshot)).err().unwrap();
    assert!(error.to_string().contains("tls.crt"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_off() {
    let server = start(&certificate()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the connection was not closed");
}

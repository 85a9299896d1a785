//! Something in front of a directory: another address, or TLS of the test's own making.

use std::sync::Arc;

use claviger_testkit::pki::CertifiedKey;
use claviger_testkit::{CertificateAuthority, PortLease};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Passes connections on to a directory until it is dropped.
pub struct Front {
    address: String,
    task: JoinHandle<()>,
    _lease: PortLease,
}

impl Front {
    /// Listens on `host` for a directory at `to`; takes TLS off if there is an acceptor.
    pub async fn start(to: &str, host: &str, tls: Option<TlsAcceptor>) -> Self {
        let lease = PortLease::take().unwrap();
        let address = format!("{host}:{}", lease.port());
        let listener = TcpListener::bind(&address).await.unwrap();
        let to = to.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, to.clone(), tls.clone()));
            }
        });
        Self { address, task, _lease: lease }
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Either side may end it at any time.
async fn pass_on(mut client: TcpStream, to: String, tls: Option<TlsAcceptor>) {
    let mut server = TcpStream::connect(to).await.unwrap();
    match tls {
        None => drop(copy_bidirectional(&mut client, &mut server).await),
        Some(tls) => {
            if let Ok(mut client) = tls.accept(client).await {
                drop(copy_bidirectional(&mut client, &mut server).await);
            }
        }
    }
}

/// Shows `server`; asks for a certificate of `clients`, if given.
pub fn acceptor(server: &CertifiedKey, clients: Option<&CertificateAuthority>) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(authority.certificate_pem()));
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).unwrap();
    let config = builder.with_single_cert(certificates(&server.certificate_pem), key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

//! How a test's browsers and applications reach an issuer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use reqwest::{Certificate, Client, ClientBuilder};

use crate::{CertificateAuthority, Serving};

/// Longer than Claviger lets any request take; a replica that is frozen never answers.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Whose certificates to trust and, where several replicas share an issuer's name, which one to speak to.
#[derive(Debug, Clone)]
pub struct Peer {
    authority_pem: String,
    replica: Option<(&'static str, SocketAddr)>,
}

impl Peer {
    /// One replica, under its issuer's name.
    pub fn replica(authority: &CertificateAuthority, serving: &Serving) -> Self {
        let authority_pem = authority.certificate_pem().to_owned();
        Self { authority_pem, replica: Some(serving.place()) }
    }

    /// An HTTP client that follows no redirects and never retries by itself.
    pub(crate) fn client(&self) -> Result<ClientBuilder> {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(TIMEOUT)
            .no_proxy()
            .tls_certs_only([Certificate::from_pem(self.authority_pem.as_bytes())?]);
        Ok(match self.replica {
            Some((host, address)) => client.resolve(host, address),
            None => client,
        })
    }
}

impl From<&str> for Peer {
    /// Whoever is behind the issuer's name, with a certificate of the authority of this PEM.
    fn from(authority_pem: &str) -> Self {
        Self { authority_pem: authority_pem.to_owned(), replica: None }
    }
}

impl From<&Peer> for Peer {
    fn from(peer: &Peer) -> Self {
        peer.clone()
    }
}

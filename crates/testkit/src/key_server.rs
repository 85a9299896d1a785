//! A client's key set at an https URL on loopback, which a test can change and whose readers it counts.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::pki::CertificateAuthority;
use crate::ports::PortLease;
use crate::reverse_proxy::TlsListener;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct KeyServer {
    site: Arc<Mutex<Site>>,
    serving: JoinHandle<()>,
    port: PortLease,
}

#[derive(Debug, Default)]
struct Site {
    document: String,
    asked: usize,
}

impl KeyServer {
    /// Starts it with a certificate of this authority.
    ///
    /// # Errors
    /// When there is no port, or the certificate cannot be used.
    pub async fn start(authority: &CertificateAuthority, document: String) -> Result<Self> {
        let port = PortLease::take()?;
        let site = Arc::new(Mutex::new(Site { document, asked: 0 }));
        let listener = TlsListener {
            tcp: TcpListener::bind(("127.0.0.1", port.port())).await?,
            tls: authority.server(&["localhost"], &[])?.acceptor()?,
        };
        let router = Router::new().fallback(answer).with_state(Arc::clone(&site));
        let serving = tokio::spawn(async move {
            // It ends with its task alone.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self { site, serving, port })
    }

    /// Where the key set is.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/keys", self.port.port())
    }

    /// Publishes another document.
    pub fn publish(&self, document: String) {
        self.site.lock().unwrap_or_else(PoisonError::into_inner).document = document;
    }

    /// How often it was asked since this was last called.
    pub fn take_asked(&self) -> usize {
        let mut site = self.site.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut site.asked)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(site): State<Arc<Mutex<Site>>>) -> impl IntoResponse {
    let mut site = site.lock().unwrap_or_else(PoisonError::into_inner);
    site.asked += 1;
    ([("content-type", "application/jwk-set+json")], site.document.clone())
}

//! An application that is told of sign-outs, at an https URL on loopback: it keeps what it is told, can be made to
//! refuse or fail, and can be away.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::pki::{CertificateAuthority, CertifiedKey};
use crate::ports::PortLease;
use crate::reverse_proxy::TlsListener;

/// A running application. Dropping it stops it.
#[derive(Debug)]
pub struct LogoutReceiver {
    site: Arc<Mutex<Site>>,
    certificate: CertifiedKey,
    serving: Option<JoinHandle<()>>,
    port: PortLease,
}

#[derive(Debug)]
struct Site {
    status: StatusCode,
    tokens: Vec<String>,
    frames: Vec<String>,
}

impl LogoutReceiver {
    /// Starts it with a certificate of this authority.
    ///
    /// # Errors
    /// When there is no port, or the certificate cannot be used.
    pub async fn start(authority: &CertificateAuthority) -> Result<Self> {
        let site = Site { status: StatusCode::OK, tokens: Vec::new(), frames: Vec::new() };
        let mut receiver = Self {
            site: Arc::new(Mutex::new(site)),
            certificate: authority.server(&["localhost"], &[])?,
            serving: None,
            port: PortLease::take()?,
        };
        receiver.come_back().await?;
        Ok(receiver)
    }

    /// Where logout tokens are posted.
    pub fn back_channel(&self) -> String {
        format!("https://localhost:{}/bc", self.port.port())
    }

    /// The page that is loaded in a frame.
    pub fn front_channel(&self) -> String {
        format!("https://localhost:{}/fc", self.port.port())
    }

    /// What it answers from now on.
    pub fn answer(&self, status: StatusCode) {
        self.site.lock().unwrap_or_else(PoisonError::into_inner).status = status;
    }

    /// The logout tokens it was told since this was last called, whatever it answered.
    pub fn take_tokens(&self) -> Vec<String> {
        std::mem::take(&mut self.site.lock().unwrap_or_else(PoisonError::into_inner).tokens)
    }

    /// The queries its frame was loaded with since this was last called.
    pub fn take_frames(&self) -> Vec<String> {
        std::mem::take(&mut self.site.lock().unwrap_or_else(PoisonError::into_inner).frames)
    }

    /// Goes away: nothing listens there.
    pub async fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            drop(serving.await);
        }
    }

    /// Comes back at the same address.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn come_back(&mut self) -> Result<()> {
        let listener = TlsListener {
            tcp: TcpListener::bind(("127.0.0.1", self.port.port())).await?,
            tls: self.certificate.acceptor()?,
        };
        let router = Router::new()
            .route("/bc", post(told))
            .route("/fc", get(framed))
            .with_state(Arc::clone(&self.site));
        self.serving = Some(tokio::spawn(async move {
            // It ends with its task alone.
            drop(axum::serve(listener, router).await);
        }));
        Ok(())
    }
}

impl Drop for LogoutReceiver {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn told(State(site): State<Arc<Mutex<Site>>>, body: String) -> StatusCode {
    let mut site = site.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(form) = Url::parse(&format!("form:?{body}")) {
        let tokens = form.query_pairs().filter(|(name, _)| name == "logout_token");
        site.tokens.extend(tokens.map(|(_, token)| token.into_owned()));
    }
    site.status
}

async fn framed(State(site): State<Arc<Mutex<Site>>>, uri: Uri) -> &'static str {
    let mut site = site.lock().unwrap_or_else(PoisonError::into_inner);
    site.frames.push(uri.query().unwrap_or_default().to_owned());
    "signed out"
}

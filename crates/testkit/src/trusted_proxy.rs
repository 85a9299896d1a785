//! A client that plays the trusted proxy of an `authProxy` connector, browser included: it begins a flow
//! at the issuer and brings it to the listener for proxies, with its certificate and the user's headers.
//! No password, so it is also how a benchmark signs in.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use reqwest::header::{COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use reqwest::{Client, Identity, Response, Url};

use crate::browser::query_value;
use crate::peer::Peer;
use crate::pki::CertifiedKey;
use crate::relying_party::{Attempt, RelyingParty};

/// A trusted proxy with its client certificate.
#[derive(Debug, Clone)]
pub struct TrustedProxy {
    http: Client,
    listener: SocketAddr,
    host: HeaderValue,
}

/// A flow that has come as far as the proxy: where to, and the browser's cookies.
#[derive(Debug, Clone)]
pub struct AtProxy {
    /// `/callback/{connector}?state=…`, below the issuer's host.
    pub target: String,
    /// The `Cookie` header.
    pub cookies: String,
    /// What the application remembers.
    pub attempt: Attempt,
}

impl TrustedProxy {
    /// A proxy in front of this issuer that forwards to `listener`, trusts the authority of this PEM, and
    /// shows this certificate, if it has one.
    ///
    /// # Errors
    /// When a PEM or the issuer's URL is none.
    pub fn new(
        issuer: &str,
        listener: SocketAddr,
        authority_pem: &str,
        identity: Option<&CertifiedKey>,
    ) -> Result<Self> {
        let mut http = Peer::from(authority_pem).client()?;
        if let Some(identity) = identity {
            let pem = format!("{}{}", identity.certificate_pem, identity.key_pem);
            http = http.identity(Identity::from_pem(pem.as_bytes())?);
        }
        let url: Url = issuer.parse()?;
        let host = url.host_str().context("an issuer without host")?;
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self { http: http.build()?, listener, host: host.parse()? })
    }

    /// Forwards a request for a path (with its query) below the issuer's host. Headers may repeat.
    ///
    /// # Errors
    /// When there is no answer: the handshake failed, for one.
    pub async fn forward(
        &self,
        target: &str,
        cookies: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let mut all = HeaderMap::new();
        all.insert(HOST, self.host.clone());
        if !cookies.is_empty() {
            all.insert(COOKIE, cookies.parse()?);
        }
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes())?;
            all.append(name.parse::<HeaderName>()?, value);
        }
        let url = format!("https://{}{target}", self.listener);
        Ok(self.http.get(url).headers(all).send().await?)
    }

    /// From an authorization request to the callback path, as far as a browser comes by itself.
    ///
    /// # Errors
    /// When the issuer leads elsewhere.
    pub async fn begin(party: &RelyingParty, scope: &str, connector: &str) -> Result<AtProxy> {
        /// `/auth` to `/auth/{connector}` to `/callback/{connector}`.
        const MAX_REDIRECTS: usize = 3;
        let attempt = party.attempt(scope)?;
        let mut url = attempt.url.clone();
        url.query_pairs_mut().append_pair("connector_id", connector);
        let mut cookies = String::new();
        for _ in 0..MAX_REDIRECTS {
            let request = party.http().get(url.clone()).header(COOKIE, cookies.as_str());
            let answer = request.send().await?;
            let location = answer.headers().get(LOCATION).context("no redirect")?.to_str()?;
            let next = url.join(location)?;
            if let Some(set) = answer.headers().get(SET_COOKIE) {
                set.to_str()?.split(';').next().unwrap_or_default().clone_into(&mut cookies);
            }
            if next.path().ends_with(&format!("/callback/{connector}")) {
                let query = next.query().unwrap_or_default();
                let target = format!("{}?{query}", next.path());
                return Ok(AtProxy { target, cookies, attempt });
            }
            url = next;
        }
        anyhow::bail!("the issuer does not lead to /callback/{connector}")
    }

    /// A whole login of the user these headers name, up to the code.
    ///
    /// # Errors
    /// When it does not end with a code for this attempt.
    pub async fn code(
        &self,
        party: &RelyingParty,
        scope: &str,
        connector: &str,
        headers: &[(&str, &str)],
    ) -> Result<(String, Attempt)> {
        let AtProxy { target, cookies, attempt } = Self::begin(party, scope, connector).await?;
        let answer = self.forward(&target, &cookies, headers).await?;
        let status = answer.status();
        let Some(location) = answer.headers().get(LOCATION).cloned() else {
            anyhow::bail!("no redirect but {status}: {}", answer.text().await?)
        };
        let landed: Url = location.to_str()?.parse()?;
        ensure!(query_value(&landed, "state")? == attempt.state, "another state: {landed}");
        let code = query_value(&landed, "code").with_context(|| landed.to_string())?;
        Ok((code, attempt))
    }
}

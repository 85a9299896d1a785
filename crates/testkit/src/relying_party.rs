//! An application that uses the provider: authorization URL, code, refresh, userinfo. Written to
//! the specifications, not to our server, so that both cannot be wrong in the same way.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::{digest, rand};
use data_encoding::BASE64URL_NOPAD;
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;

use crate::browser::{Browser, Login, query_value};
use crate::peer::Peer;

/// One client of one issuer.
#[derive(Debug, Clone)]
pub struct RelyingParty {
    http: Client,
    metadata: Value,
    peer: Peer,
    client_id: String,
    secret: Option<String>,
    redirect_uri: String,
}

/// One authorization request: what the application remembers until the answer comes.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Where the browser goes.
    pub url: Url,
    /// `state` it must come back with.
    pub state: String,
    /// `nonce` the ID token must repeat.
    pub nonce: String,
    /// PKCE verifier.
    pub verifier: String,
}

/// An answer of the token endpoint.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON body.
    pub body: Value,
    /// `Retry-After`, if there is one.
    pub retry_after: Option<String>,
}

impl RelyingParty {
    /// Reads the issuer's metadata.
    ///
    /// # Errors
    /// When it cannot be had, or names another issuer.
    pub async fn discover(
        issuer: &str,
        peer: impl Into<Peer>,
        client: (&str, Option<&str>),
        redirect_uri: &str,
    ) -> Result<Self> {
        let peer = peer.into();
        let http = peer.client()?.build()?;
        let url = format!("{issuer}/.well-known/openid-configuration");
        let metadata: Value = http.get(url).send().await?.error_for_status()?.json().await?;
        ensure!(metadata["issuer"] == issuer, "metadata of another issuer: {metadata}");
        Ok(Self {
            http,
            metadata,
            peer,
            client_id: client.0.to_owned(),
            secret: client.1.map(str::to_owned),
            redirect_uri: redirect_uri.to_owned(),
        })
    }

    /// The same application, speaking to another replica of its issuer.
    ///
    /// # Errors
    /// When the peer's PEM is none.
    pub fn at(&self, peer: impl Into<Peer>) -> Result<Self> {
        let peer = peer.into();
        Ok(Self { http: peer.client()?.build()?, peer, ..self.clone() })
    }

    /// Its client ID.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The issuer's metadata.
    pub fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// The HTTP client it uses, for requests of a test's own.
    pub fn http(&self) -> &Client {
        &self.http
    }

    /// URL of an endpoint, such as `token_endpoint`.
    ///
    /// # Errors
    /// When the metadata does not name it.
    pub fn endpoint(&self, name: &str) -> Result<Url> {
        let url =
            self.metadata[name].as_str().with_context(|| format!("no {name} in the metadata"))?;
        Ok(url.parse()?)
    }

    /// An authorization request with PKCE, state and nonce.
    ///
    /// # Errors
    /// When the metadata names no authorization endpoint.
    pub fn attempt(&self, scope: &str) -> Result<Attempt> {
        let (state, nonce, verifier) = (random()?, random()?, random()?);
        let challenge = digest::digest(&digest::SHA256, verifier.as_bytes());
        let mut url = self.endpoint("authorization_endpoint")?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", scope)
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &BASE64URL_NOPAD.encode(challenge.as_ref()))
            .append_pair("code_challenge_method", "S256");
        Ok(Attempt { url, state, nonce, verifier })
    }

    /// A fresh browser, for steps of a test's own.
    ///
    /// # Errors
    /// When the peer's PEM is none.
    pub fn browser(&self) -> Result<Browser> {
        Browser::new(&self.peer)
    }

    /// A whole login in a fresh browser, up to the code.
    ///
    /// # Errors
    /// When the login does not end with a code for this attempt.
    pub async fn code(&self, scope: &str, who: Login<'_>) -> Result<(String, Attempt)> {
        let attempt = self.attempt(scope)?;
        let browser = Browser::new(&self.peer)?;
        let landed = browser.sign_in(&attempt.url, who).await?;
        ensure!(landed.as_str().starts_with(&self.redirect_uri), "landed at {landed}");
        ensure!(query_value(&landed, "state")? == attempt.state, "another state: {landed}");
        let issuer = self.metadata["issuer"].as_str().unwrap_or_default();
        ensure!(query_value(&landed, "iss")? == issuer, "another issuer: {landed}");
        Ok((query_value(&landed, "code")?, attempt))
    }

    /// A whole login in a fresh browser, up to the tokens.
    ///
    /// # Errors
    /// When it does not end with tokens.
    pub async fn log_in(&self, scope: &str, who: Login<'_>) -> Result<Value> {
        let (code, attempt) = self.code(scope, who).await?;
        self.redeem(&code, &attempt.verifier).await?.tokens()
    }

    /// Redeems a code.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn redeem(&self, code: &str, verifier: &str) -> Result<Answer> {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", verifier),
        ])
        .await
    }

    /// Refreshes.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Answer> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    /// A request at the token endpoint, authenticated as this client.
    ///
    /// # Errors
    /// When there is no answer, or none in JSON.
    pub async fn token(&self, form: &[(&str, &str)]) -> Result<Answer> {
        self.answer("token_endpoint", form).await
    }

    /// Asks for a device code and a user code (RFC 8628 3.1).
    ///
    /// # Errors
    /// When there is no answer, or none in JSON.
    pub async fn device(&self, scope: &str) -> Result<Answer> {
        self.answer("device_authorization_endpoint", &[("scope", scope)]).await
    }

    async fn answer(&self, endpoint: &str, form: &[(&str, &str)]) -> Result<Answer> {
        let response = self.post(endpoint, form).await?;
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: response.status(), retry_after, body: response.json().await? })
    }

    /// Asks for tokens about the client itself.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn client_credentials(&self, scope: &str) -> Result<Answer> {
        self.token(&[("grant_type", "client_credentials"), ("scope", scope)]).await
    }

    /// Exchanges an access token (RFC 8693), with further parameters.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn exchange(&self, access_token: &str, further: &[(&str, &str)]) -> Result<Answer> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", access_token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ];
        self.token(&[&form[..], further].concat()).await
    }

    /// Revokes a token: the status of the answer, which has no content when it is done.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn revoke(&self, token: &str) -> Result<(StatusCode, String)> {
        let response = self.post("revocation_endpoint", &[("token", token)]).await?;
        Ok((response.status(), response.text().await?))
    }

    /// Asks what a token is good for.
    ///
    /// # Errors
    /// When there is no answer, or none in JSON.
    pub async fn introspect(&self, token: &str) -> Result<(StatusCode, Value)> {
        let response = self.post("introspection_endpoint", &[("token", token)]).await?;
        Ok((response.status(), response.json().await?))
    }

    /// A form sent to an endpoint, authenticated as this client.
    async fn post(&self, endpoint: &str, form: &[(&str, &str)]) -> Result<reqwest::Response> {
        let mut form = form.to_vec();
        let mut request = self.http.post(self.endpoint(endpoint)?);
        match &self.secret {
            Some(secret) => request = request.basic_auth(&self.client_id, Some(secret)),
            None => form.push(("client_id", &self.client_id)),
        }
        Ok(request.form(&form).send().await?)
    }

    /// Asks `/userinfo`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn userinfo(&self, access_token: &str) -> Result<(StatusCode, String)> {
        let request = self.http.get(self.endpoint("userinfo_endpoint")?).bearer_auth(access_token);
        let response = request.send().await?;
        Ok((response.status(), response.text().await?))
    }
}

impl Answer {
    /// The tokens.
    ///
    /// # Errors
    /// When the answer is an error.
    pub fn tokens(self) -> Result<Value> {
        ensure!(self.status == StatusCode::OK, "{}: {}", self.status, self.body);
        Ok(self.body)
    }

    /// The error code, or an empty text.
    pub fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }
}

/// The claims of a JWT, unverified: for looking at.
///
/// # Errors
/// When it is no JWT.
pub fn claims(token: &str) -> Result<Value> {
    let payload = token.split('.').nth(1).context("not a JWT")?;
    Ok(serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes())?)?)
}

/// 43 unpredictable base64url characters.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok().context("no randomness")?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}

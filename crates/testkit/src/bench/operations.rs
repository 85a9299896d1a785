//! What clients of the provider do: whole sign-ins with redirects and cookies, refreshes, and the requests that are
//! answered from memory.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::{digest, rand};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{Method, StatusCode, header};
use serde_json::Value;

use super::connection::{Answer, Connection, Target};
use super::drive::Client;

/// Where the example's client is sent back to, and the same in a query.
const REDIRECT: (&str, &str) = ("http://localhost:8000", "http%3A%2F%2Flocalhost%3A8000");
const SCOPE: &str = "openid+email+profile+groups+offline_access";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
/// More redirects than any sign-in has.
const MAX_REDIRECTS: usize = 8;
/// The group that the bench's users are in.
pub const GROUP: &str = "staff";

/// One issuer and one client of it, as the driver knows them.
#[derive(Clone)]
pub struct Site {
    /// The OpenID Connect listener.
    pub provider: Target,
    /// The listener that a trusted proxy forwards callbacks to.
    pub proxy: Target,
    /// Name of the `authProxy` connector.
    pub connector: &'static str,
    pub client_id: &'static str,
    pub client_secret: String,
}

impl Site {
    fn authorization_path(&self, connector: &str, attempt: &Attempt) -> String {
        format!(
            "/auth?response_type=code&client_id={}&redirect_uri={}&scope={SCOPE}&state={}&nonce={}\
             &code_challenge={}&code_challenge_method=S256&connector_id={connector}",
            self.client_id, REDIRECT.1, attempt.state, attempt.nonce, attempt.challenge
        )
    }

    fn basic(&self) -> String {
        let pair = format!("{}:{}", self.client_id, self.client_secret);
        format!("Basic {}", BASE64.encode(pair.as_bytes()))
    }
}

/// A document from memory, again and again.
pub struct Document {
    connection: Connection,
    path: &'static str,
}

impl Document {
    /// A client of its own connection.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn client(target: &Target, path: &'static str) -> Result<Self> {
        Ok(Self { connection: target.open().await?, path })
    }
}

impl Client for Document {
    async fn once(&mut self) -> Result<()> {
        self.connection.get(self.path, &[]).await?.expect(StatusCode::OK).map(drop)
    }
}

/// Authorization requests by somebody who never signs in.
pub struct Stranger {
    connection: Connection,
    path: String,
}

impl Stranger {
    /// A client of its own connection. Its requests are all alike: the answer is not.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn client(site: &Site) -> Result<Self> {
        let path = site.authorization_path(site.connector, &Attempt::new()?);
        Ok(Self { connection: site.provider.open().await?, path })
    }
}

impl Client for Stranger {
    async fn once(&mut self) -> Result<()> {
        let answer = self.connection.get(&self.path, &[]).await?.expect(StatusCode::SEE_OTHER)?;
        ensure!(answer.headers.contains_key(header::SET_COOKIE), "no flow was begun");
        Ok(())
    }
}

/// Claims for an access token, from memory.
pub struct UserInfo {
    connection: Connection,
    authorization: String,
}

impl UserInfo {
    /// A client of its own connection.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn client(site: &Site, access_token: &str) -> Result<Self> {
        let authorization = format!("Bearer {access_token}");
        Ok(Self { connection: site.provider.open().await?, authorization })
    }
}

impl Client for UserInfo {
    async fn once(&mut self) -> Result<()> {
        let headers = [("authorization", self.authorization.as_str())];
        self.connection.get("/userinfo", &headers).await?.expect(StatusCode::OK).map(drop)
    }
}

/// What an application keeps of a sign-in.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: String,
}

impl Tokens {
    fn of(answer: Answer) -> Result<Self> {
        let body = answer.expect(StatusCode::OK)?.json()?;
        let text = |name: &str| -> Result<String> {
            let value = body[name].as_str().with_context(|| format!("no {name} in {body}"))?;
            Ok(value.to_owned())
        };
        ensure!(body["id_token"].is_string(), "no id_token in {body}");
        Ok(Self { access_token: text("access_token")?, refresh_token: text("refresh_token")? })
    }
}

/// Whole sign-ins: a browser that follows redirects with its cookies through the trusted proxy, and an
/// application that redeems the code. Every one is another user in a fresh browser.
pub struct LogIn {
    site: Arc<Site>,
    browser: Connection,
    proxy: Connection,
    application: Connection,
    basic: String,
    worker: usize,
    done: usize,
    /// Of the last sign-in.
    pub tokens: Option<Tokens>,
}

impl LogIn {
    /// A client of its own connections. `worker` makes its users nobody else's.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn client(site: &Arc<Site>, worker: usize) -> Result<Self> {
        Ok(Self {
            browser: site.provider.open().await?,
            proxy: site.proxy.open().await?,
            application: site.provider.open().await?,
            basic: site.basic(),
            site: Arc::clone(site),
            worker,
            done: 0,
            tokens: None,
        })
    }

    /// From the authorization request to the code.
    async fn code(&mut self, attempt: &Attempt) -> Result<String> {
        let user = format!("user-{}-{}", self.worker, self.done);
        let email = format!("{user}@example.com");
        let mut cookies = String::new();
        let mut path = self.site.authorization_path(self.site.connector, attempt);
        for _ in 0..MAX_REDIRECTS {
            let answer = if path.starts_with("/callback/") {
                let headers = [
                    ("cookie", cookies.as_str()),
                    ("x-remote-user", user.as_str()),
                    ("x-remote-user-email", email.as_str()),
                    ("x-remote-group", GROUP),
                ];
                self.proxy.get(&path, &headers).await?
            } else if cookies.is_empty() {
                self.browser.get(&path, &[]).await?
            } else {
                self.browser.get(&path, &[("cookie", cookies.as_str())]).await?
            };
            let answer = answer
                .expect(StatusCode::SEE_OTHER)
                .with_context(|| format!("at {}", path.split('?').next().unwrap_or_default()))?;
            for set in answer.headers.get_all(header::SET_COOKIE) {
                set.to_str()?.split(';').next().unwrap_or_default().clone_into(&mut cookies);
            }
            let location = answer.header(&header::LOCATION)?;
            if let Some(query) = location.strip_prefix(REDIRECT.0) {
                ensure!(parameter(query, "state") == Some(&attempt.state), "state of {location}");
                let code = parameter(query, "code").with_context(|| format!("at {location}"))?;
                return Ok(code.to_owned());
            }
            location.clone_into(&mut path);
        }
        anyhow::bail!("more than {MAX_REDIRECTS} redirects")
    }
}

impl Client for LogIn {
    async fn once(&mut self) -> Result<()> {
        let attempt = Attempt::new()?;
        self.done += 1;
        let code = self.code(&attempt).await?;
        let form = format!(
            "grant_type=authorization_code&code={code}&redirect_uri={}&code_verifier={}",
            REDIRECT.1, attempt.verifier
        );
        let headers = [FORM, ("authorization", self.basic.as_str())];
        let answer = self.application.send(Method::POST, "/token", &headers, form).await?;
        self.tokens = Some(Tokens::of(answer)?);
        Ok(())
    }
}

/// Refreshes: each client has one session and rotates its refresh token.
pub struct Refresh {
    connection: Connection,
    basic: String,
    tokens: Tokens,
}

impl Refresh {
    /// A client of its own connection and session.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn client(site: &Site, tokens: Tokens) -> Result<Self> {
        Ok(Self { connection: site.provider.open().await?, basic: site.basic(), tokens })
    }
}

impl Client for Refresh {
    async fn once(&mut self) -> Result<()> {
        let form = format!("grant_type=refresh_token&refresh_token={}", self.tokens.refresh_token);
        let headers = [FORM, ("authorization", self.basic.as_str())];
        let answer = self.connection.send(Method::POST, "/token", &headers, form).await?;
        let tokens = Tokens::of(answer)?;
        ensure!(tokens.refresh_token != self.tokens.refresh_token, "did not rotate");
        self.tokens = tokens;
        Ok(())
    }
}

/// One authorization request: what the application remembers until the answer comes.
struct Attempt {
    state: String,
    nonce: String,
    verifier: String,
    challenge: String,
}

impl Attempt {
    fn new() -> Result<Self> {
        let verifier = random()?;
        let challenge = digest::digest(&digest::SHA256, verifier.as_bytes());
        Ok(Self {
            state: random()?,
            nonce: random()?,
            challenge: BASE64URL_NOPAD.encode(challenge.as_ref()),
            verifier,
        })
    }
}

/// 43 unpredictable base64url characters.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok().context("no randomness")?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}

/// A parameter of `?a=b&c=d` whose value needs no decoding.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.trim_start_matches(['/', '?']).split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
}

/// What `/.well-known/openid-configuration` names: whether an endpoint is there yet.
///
/// # Errors
/// When there are no metadata.
pub async fn metadata(target: &Target) -> Result<Value> {
    let mut connection = target.open().await?;
    connection.get(super::DISCOVERY, &[]).await?.expect(StatusCode::OK)?.json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_any_place() {
        assert_eq!(parameter("?code=a.b&state=s", "state"), Some("s"));
        assert_eq!(parameter("/?code=a.b&state=s", "code"), Some("a.b"));
        assert_eq!(parameter("?error=x", "code"), None);
    }

    #[test]
    fn attempts_are_never_alike() {
        let (one, other) = (Attempt::new().unwrap(), Attempt::new().unwrap());
        assert_ne!(one.state, other.state);
        assert_ne!(one.verifier, one.challenge);
        assert_eq!(one.challenge.len(), 43);
    }
}

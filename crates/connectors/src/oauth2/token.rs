//! A vendor's token endpoint (RFC 6749 4.1.3, 5, 6).
//!
//! What always holds: only an answer to our question is one: whatever a server in trouble says (5xx, 429), it is no
//! verdict; vendors that say errors with status 200 are understood.

use std::borrow::Cow;
use std::pin::Pin;

use ::oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use ::oauth2::{
    AsyncHttpClient, AuthType, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, TokenResponse as _, TokenUrl,
};
use claviger_api::Reason;
use claviger_domain::no_verdict::NoVerdict;
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use thiserror::Error;
use url::Url;

use crate::http::{Http, HttpError, retry_after};

/// How we show who we are (RFC 6749 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// HTTP Basic.
    Header,
    /// In the form.
    Form,
}

/// Whose fault an error of the token endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The code or refresh token is not good: a verdict about this grant.
    Grant,
    /// We are not known there, or by another secret.
    Client,
    /// Something else.
    Unknown,
}

impl Blame {
    /// By the words of RFC 6749 5.2.
    pub fn by_rfc(code: &str) -> Self {
        match code {
            "invalid_grant" => Self::Grant,
            "invalid_client" | "unauthorized_client" => Self::Client,
            _ => Self::Unknown,
        }
    }
}

/// Why there is no token.
#[derive(Debug)]
pub enum TokenFailure {
    /// The vendor refuses what we asked with.
    Refused(String),
    /// It refuses us.
    Client(String),
    /// It says something else, which is no verdict.
    Said(String),
    /// No verdict.
    Unavailable(NoVerdict),
}

impl TokenFailure {
    /// What it comes to where only a refusal of what we asked with is a verdict.
    pub fn no_verdict(self) -> NoVerdict {
        match self {
            Self::Refused(why) | Self::Client(why) | Self::Said(why) => why.into(),
            Self::Unavailable(why) => why,
        }
    }
}

/// What the token endpoint gave.
pub struct Received {
    /// The user's token.
    pub access_token: String,
    /// The token to ask for the next with.
    pub refresh_token: Option<String>,
    /// For how many seconds the user's token is good (`expires_in`), if that is said.
    pub seconds: Option<u64>,
    scopes: Vec<String>,
}

impl Received {
    /// A scope that was asked for and not granted, where the vendor says what it granted.
    pub fn lacking<'s>(&self, asked: &'s [String]) -> Option<&'s str> {
        if self.scopes.is_empty() {
            return None; // the same as asked (RFC 6749 5.1), or a vendor without such a thing
        }
        asked.iter().find(|scope| !self.scopes.contains(scope)).map(String::as_str)
    }
}

/// The endpoint and us.
#[derive(Clone)]
pub struct Endpoint {
    /// What messages call the vendor.
    pub vendor: &'static str,
    /// Where it is.
    pub url: Url,
    /// Our ID there.
    pub client_id: String,
    /// Our secret.
    pub secret: Option<SecretString>,
    /// How it is shown.
    pub authentication: Authentication,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({:?})", self.url.as_str())
    }
}

/// Whose fault an error is, by its code and its description.
pub type Judge<'j> = dyn Fn(&str, &str) -> Blame + Send + Sync + 'j;
/// What a code is redeemed with: the code, our callback if it is said, the PKCE verifier.
pub type Redeemed<'r> = (&'r str, Option<&'r str>, String);

type Known =
    BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// Why there is no answer from which anything follows.
#[derive(Debug, Error)]
enum NoAnswer {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("it answered {0}")]
    Trouble(StatusCode),
    #[error("it is asked too much")]
    TooMuch(Option<u32>),
}

impl Endpoint {
    /// Redeems a code.
    pub async fn redeem(
        &self,
        http: &Http,
        redeemed: Redeemed<'_>,
        judge: &Judge<'_>,
    ) -> Result<Received, TokenFailure> {
        self.ask(http, redeemed, judge).await.map_err(|(_, failure)| failure)
    }

    /// The same, with a word for the condition `Ready`.
    pub async fn ask(
        &self,
        http: &Http,
        (code, callback, verifier): Redeemed<'_>,
        judge: &Judge<'_>,
    ) -> Result<Received, (Reason, TokenFailure)> {
        let ours = |error: &dyn ToString| {
            (Reason::UpstreamUnusable, TokenFailure::Unavailable(error.to_string().into()))
        };
        let client = self.client();
        let mut asking = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier));
        if let Some(callback) = callback {
            let callback = RedirectUrl::new(callback.to_owned()).map_err(|error| ours(&error))?;
            asking = asking.set_redirect_uri(Cow::Owned(callback));
        }
        let answer = asking.request_async(&Asking(http)).await;
        answer.map(|answer| received(&answer)).map_err(|error| self.failure(error, judge))
    }

    /// Uses a refresh token.
    pub async fn renew(
        &self,
        http: &Http,
        refresh_token: &str,
        judge: &Judge<'_>,
    ) -> Result<Received, TokenFailure> {
        let used = RefreshToken::new(refresh_token.to_owned());
        let client = self.client();
        let asking = client.exchange_refresh_token(&used);
        let answer = asking.request_async(&Asking(http)).await;
        answer.map(|answer| received(&answer)).map_err(|error| self.failure(error, judge).1)
    }

    fn client(&self) -> Known {
        let by = match self.authentication {
            Authentication::Header => AuthType::BasicAuth,
            Authentication::Form => AuthType::RequestBody,
        };
        let client = BasicClient::new(ClientId::new(self.client_id.clone()))
            .set_auth_type(by)
            .set_token_uri(TokenUrl::from_url(self.url.clone()));
        match &self.secret {
            Some(secret) => {
                client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()))
            }
            None => client,
        }
    }

    fn failure(
        &self,
        error: RequestTokenError<NoAnswer, BasicErrorResponse>,
        judge: &Judge<'_>,
    ) -> (Reason, TokenFailure) {
        let vendor = self.vendor;
        let unavailable = |reason, why: String| (reason, TokenFailure::Unavailable(why.into()));
        match error {
            RequestTokenError::ServerResponse(answer) => {
                let description = answer.error_description().map_or("", String::as_str);
                self.judged(answer.error().as_ref(), description, judge)
            }
            RequestTokenError::Request(NoAnswer::Http(error)) => {
                unavailable(error.reason(), error.to_string())
            }
            RequestTokenError::Request(NoAnswer::Trouble(status)) => {
                let why = format!("the token endpoint of {vendor} answered {}", status.as_u16());
                unavailable(Reason::UpstreamUnusable, why)
            }
            RequestTokenError::Request(NoAnswer::TooMuch(retry_after)) => {
                let why = format!("the token endpoint of {vendor} answered 429");
                let why = NoVerdict::busy(why, retry_after);
                (Reason::UpstreamUnusable, TokenFailure::Unavailable(why))
            }
            RequestTokenError::Parse(error, body) => {
                // With status 200, as GitHub has it.
                if let Ok(said) = serde_json::from_slice::<Said>(&body) {
                    return self.judged(&said.error, &said.error_description, judge);
                }
                // Where, and not what: the words of the error may hold what was answered.
                let place = error.path();
                let why = format!(
                    "the token endpoint of {vendor} answered what cannot be read, at {place}"
                );
                unavailable(Reason::UpstreamUnusable, why)
            }
            RequestTokenError::Other(why) => unavailable(Reason::UpstreamUnusable, why),
        }
    }

    fn judged(&self, code: &str, description: &str, judge: &Judge<'_>) -> (Reason, TokenFailure) {
        let vendor = self.vendor;
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let word = if code.bytes().all(is_word) && code.len() <= 64 { code } else { "an error" };
        let why = format!("the token endpoint of {vendor} answered {word}");
        match judge(code, description) {
            Blame::Grant => (Reason::UpstreamUnusable, TokenFailure::Refused(why)),
            Blame::Client => {
                let fix = "compare clientID, clientSecretRef and the redirect URI with what is registered there";
                let failure = TokenFailure::Client(format!("{why}: {fix}"));
                (Reason::UpstreamRefusedCredentials, failure)
            }
            Blame::Unknown => (Reason::UpstreamUnusable, TokenFailure::Said(why)),
        }
    }
}

/// An error that came as a success.
#[derive(Deserialize)]
struct Said {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Our HTTP, as the library wants it.
struct Asking<'h>(&'h Http);

impl<'c> AsyncHttpClient<'c> for Asking<'_> {
    type Error = NoAnswer;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, NoAnswer>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async {
            let answer = self.0.send(request).await?;
            let status = answer.status();
            match status {
                StatusCode::TOO_MANY_REQUESTS => {
                    Err(NoAnswer::TooMuch(retry_after(answer.headers())))
                }
                status if status.is_server_error() => Err(NoAnswer::Trouble(status)),
                _ => Ok(answer),
            }
        })
    }
}

fn received(answer: &BasicTokenResponse) -> Received {
    // RFC 6749 3.3 has spaces between scopes, GitHub commas.
    let scopes = answer.scopes().into_iter().flatten();
    let scopes = scopes.flat_map(|scope| scope.as_str().split([',', ' ']));
    Received {
        access_token: answer.access_token().secret().clone(),
        refresh_token: answer.refresh_token().map(|token| token.secret().clone()),
        seconds: answer.expires_in().map(|time| time.as_secs()),
        scopes: scopes.filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
    }
}

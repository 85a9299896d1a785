//! Services with a web API that Claviger asks by an account of its own: `keystone`, `atlassianCrowd`.
//!
//! What always holds: a user's name and password are in the body of one request and nowhere else; nothing of an answer's
//! body is in an error; only what the service says of the user is a verdict: no answer, our own account refused, trouble and
//! what cannot be read are none.

use std::time::Duration;

use claviger_api::Reason;
use claviger_domain::connector::{LoginError, RecheckError};
use claviger_domain::no_verdict::NoVerdict;
use http::{Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use crate::ProbeError;
use crate::http::{Http, HttpError};
use crate::oauth2::Answer;
use crate::password_hash::MAX_PASSWORD_BYTES;

/// Longest a service may take to say all about one user.
const WHOLE: Duration = Duration::from_secs(25);
/// Longest user name that is passed on.
const MAX_USERNAME_BYTES: usize = 320;

/// Why nothing is known about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No answer.
    NoAnswer(HttpError),
    /// Our own account is refused, in words with the fix.
    Account(String),
    /// Trouble there, or too many questions.
    Trouble(NoVerdict),
    /// An answer that cannot be used, in words with the fix.
    Unusable(String),
}

impl Failure {
    fn no_verdict(self) -> NoVerdict {
        match self {
            Self::NoAnswer(error) => (&error).into(),
            Self::Account(why) | Self::Unusable(why) => why.into(),
            Self::Trouble(why) => why,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::NoAnswer(error) => error.reason(),
            Self::Account(_) => Reason::UpstreamRefusedCredentials,
            Self::Trouble(_) | Self::Unusable(_) => Reason::UpstreamUnusable,
        }
    }
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unusable(why) => Self::Unusable(why),
            other => Self::Unavailable(other.no_verdict()),
        }
    }
}

impl From<Failure> for RecheckError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.no_verdict())
    }
}

impl From<Failure> for ProbeError {
    fn from(failure: Failure) -> Self {
        Self { reason: failure.reason().as_str(), message: failure.no_verdict().to_string() }
    }
}

/// Refuses what no service need see.
///
/// # Errors
/// [`LoginError::InvalidCredentials`].
pub fn require_usable(username: &str, password: &SecretString) -> Result<(), LoginError> {
    let refused = |why: &str| Err(LoginError::InvalidCredentials(why.to_owned()));
    let length = password.expose_secret().len();
    if length == 0 || username.is_empty() {
        return refused("empty user name or password");
    }
    if length > MAX_PASSWORD_BYTES || username.len() > MAX_USERNAME_BYTES {
        return refused("user name or password too long");
    }
    Ok(())
}

/// All questions about one user, with an end.
///
/// # Errors
/// [`Failure::Trouble`], and what they end with.
pub async fn in_time<T, E: From<Failure>>(
    service: &str,
    questions: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(WHOLE, questions).await.unwrap_or_else(|_| {
        let seconds = WHOLE.as_secs();
        let why = format!("{service} did not say all within {seconds} s");
        Err(Failure::Trouble(why.into()).into())
    })
}

/// Asks, whatever the answer.
///
/// # Errors
/// [`Failure::NoAnswer`].
pub async fn ask(http: &Http, request: http::Result<Request<Vec<u8>>>) -> Result<Answer, Failure> {
    let request = request.map_err(|error| Failure::Unusable(error.to_string()))?;
    let (parts, body) = http.send(request).await.map_err(Failure::NoAnswer)?.into_parts();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// An answer that is neither a success nor a verdict, whoever was asked for.
pub fn trouble(service: &str, what: &str, answer: &Answer) -> Failure {
    let said = format!("{service} answered {} for {what}", answer.status.as_u16());
    if answer.is_rate_limit() {
        return Failure::Trouble(answer.no_verdict(said));
    }
    match answer.status {
        status if status.is_server_error() => Failure::Trouble(said.into()),
        StatusCode::NOT_FOUND => {
            Failure::Unusable(format!("{said}: compare the url in the Connector"))
        }
        _ => Failure::Unusable(said),
    }
}

/// What an answer holds.
///
/// # Errors
/// [`Failure::Unusable`].
pub fn read<T: DeserializeOwned>(service: &str, what: &str, body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        // Where, and not what: its words may hold what was answered.
        let (line, column) = (error.line(), error.column());
        Failure::Unusable(format!(
            "the answer of {service} for {what} cannot be read, at line {line} column {column}"
        ))
    })
}

/// What a part of an answer holds that was read before.
///
/// # Errors
/// [`Failure::Unusable`].
pub fn read_part<'de, T: Deserialize<'de>>(
    service: &str,
    what: &str,
    part: impl Deserializer<'de>,
) -> Result<T, Failure> {
    T::deserialize(part).map_err(|_| {
        // Its words may hold what was answered.
        Failure::Unusable(format!(
            "the answer of {service} for {what} cannot be read: something in it is missing, or of another type"
        ))
    })
}

//! The token endpoint's decisions: who asks, for what, and what the answer is.

use claviger_protocol::client_auth::{ClientCredentials, ClientProof};
use claviger_protocol::error::ErrorCode;
use claviger_protocol::token::{TokenRequest, TokenResponse};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::client::{Client, ClientAuthentication, Grant};
use crate::client_assertion::Presented;
use crate::code::Code;
use crate::device::DeviceCode;
use crate::dpop::{self, Proof, ProofError};
use crate::grants::{
    authorization_code, client_credentials, device_code, jwt_bearer, password, refresh_token,
    token_exchange,
};
use crate::issue::IssueError;
use crate::issuer::{ClientEntry, Issuer};
use crate::ports::StoreError;
use crate::provider::Provider;
use crate::refresh_token::{Binding, RefreshToken};

/// Seconds a client is told to wait when nobody said how long.
pub const DEFAULT_RETRY_AFTER: u32 = 2;
/// A client is never told to wait for longer, whatever the API server says: a login is waited for.
pub const LONGEST_RETRY_AFTER: u32 = 120;

/// What a client is told where a claim of the issuer's own fails; the log says which.
pub(crate) const CLAIM_FAILED: &str = "a claim about this user could not be told";

/// Why a token request got no tokens.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The request is at fault, as RFC 6749 5.2 words it.
    #[error("{code:?}: {description}")]
    Refused {
        /// The error code on the wire.
        code: ErrorCode,
        /// `error_description`.
        description: String,
    },
    /// Something we need is away; the same request may succeed later. Nothing was consumed.
    #[error("temporarily unavailable: {reason}")]
    Unavailable {
        /// For logs.
        reason: String,
        /// Seconds to wait.
        retry_after: u32,
    },
}

impl TokenError {
    /// Whether this is what a client is told.
    pub fn is(&self, wanted: ErrorCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }

    pub(crate) fn refused(code: ErrorCode, description: impl Into<String>) -> Self {
        Self::Refused { code, description: description.into() }
    }

    pub(crate) fn invalid_grant(description: impl Into<String>) -> Self {
        Self::refused(ErrorCode::InvalidGrant, description)
    }

    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), retry_after: DEFAULT_RETRY_AFTER }
    }
}

/// Seconds a client is told to wait: what the store asks for, within reason.
pub(crate) fn retry_after(error: &StoreError) -> u32 {
    error.retry_after().map_or(DEFAULT_RETRY_AFTER, |asked| asked.clamp(1, LONGEST_RETRY_AFTER))
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable { reason: error.to_string(), retry_after: retry_after(&error) }
    }
}

impl From<IssueError> for TokenError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::ReservedValue { .. }
            | IssueError::TooLarge { .. }
            | IssueError::SubjectTooLong { .. } => Self::invalid_grant(error.to_string()),
            IssueError::Claim { .. } => {
                tracing::warn!(%error, "no token was made");
                Self::refused(ErrorCode::ServerError, CLAIM_FAILED)
            }
            IssueError::NoSigner | IssueError::Sign(_) => Self::unavailable(error.to_string()),
        }
    }
}

/// Answers one request at the token endpoint.
///
/// # Errors
/// [`TokenError`].
pub async fn exchange(
    provider: &Provider,
    issuer: &Issuer,
    credentials: &ClientCredentials,
    request: TokenRequest,
    proof: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    let client = authenticate(provider, issuer, credentials, "/token").await?;
    answer(provider, issuer, client, request, proof).await
}

/// Answers one request of a client that has proven who it is.
///
/// # Errors
/// [`TokenError`].
pub async fn answer(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: TokenRequest,
    proof: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    if let Some(doubt) = provider.clock.doubt() {
        return Err(TokenError::unavailable(doubt));
    }
    if !issuer.can_sign_for(client) {
        return Err(IssueError::NoSigner.into()); // before anything is consumed
    }
    let key = proven_key(provider, issuer, client, (&request, proof))?;
    let key = key.as_deref();
    match request {
        TokenRequest::AuthorizationCode(request) => {
            require_grant(issuer, client, Grant::AuthorizationCode)?;
            authorization_code::redeem(provider, issuer, client, &request, key).await
        }
        TokenRequest::RefreshToken(request) => {
            require_grant(issuer, client, Grant::RefreshToken)?;
            refresh_token::refresh(provider, issuer, client, &request, key).await
        }
        TokenRequest::DeviceCode(request) => {
            require_grant(issuer, client, Grant::DeviceCode)?;
            device_code::redeem(provider, issuer, client, &request, key).await
        }
        TokenRequest::Password(request) => {
            require_grant(issuer, client, Grant::Password)?;
            password::grant(provider, issuer, client, &request, key).await
        }
        TokenRequest::ClientCredentials(_)
        | TokenRequest::TokenExchange(_)
        | TokenRequest::JwtBearer(_)
            if key.is_some() =>
        {
            Err(TokenError::refused(
                ErrorCode::InvalidDpopProof,
                "DPoP: tokens of this grant are not bound to keys: leave the header out",
            ))
        }
        TokenRequest::ClientCredentials(request) => {
            require_grant(issuer, client, Grant::ClientCredentials)?;
            client_credentials::grant(provider, issuer, client, &request)
        }
        TokenRequest::TokenExchange(request) => {
            require_grant(issuer, client, Grant::TokenExchange)?;
            token_exchange::exchange(provider, issuer, client, &request).await
        }
        TokenRequest::JwtBearer(request) => {
            require_grant(issuer, client, Grant::JwtBearer)?;
            jwt_bearer::grant(provider, issuer, client, &request).await
        }
    }
}

/// The key that the request proves to hold, if it brings a proof (RFC 9449 5).
fn proven_key(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    (request, proof): (&TokenRequest, Option<&str>),
) -> Result<Option<String>, TokenError> {
    let Some(jwt) = proof else {
        if client.demands.dpop {
            let why = "DPoP: the header is missing, and this client must prove possession of a key";
            return Err(TokenError::refused(ErrorCode::InvalidDpopProof, why));
        }
        return Ok(None);
    };
    let proof = Proof { jwt, method: "POST", path: "/token", access_token: None };
    let verified = dpop::verify(provider, issuer, proof).and_then(|verified| {
        // A proof alone is nobody's: anyone may say a public client's ID, and none shall use up its room.
        if opens(issuer, client, request, provider.clock.now()) {
            verified.claim(provider, &client.uid)
        } else {
            Ok(verified.key)
        }
    });
    Ok(verified.map(Some)?)
}

impl From<ProofError> for TokenError {
    fn from(error: ProofError) -> Self {
        match &error {
            ProofError::Invalid(_) => Self::refused(ErrorCode::InvalidDpopProof, error.to_string()),
            ProofError::NonceNeeded => Self::refused(ErrorCode::UseDpopNonce, error.to_string()),
            ProofError::TooMany => Self::unavailable(error.to_string()),
        }
    }
}

/// Whether a request brings what was made here for its client; whatever else is wrong is found out later.
fn opens(issuer: &Issuer, client: &Client, request: &TokenRequest, now: i64) -> bool {
    match request {
        TokenRequest::AuthorizationCode(request) => {
            let code = Code::open(issuer, request.code.expose_secret(), now);
            code.is_ok_and(|code| code.client_uid == client.uid)
        }
        TokenRequest::RefreshToken(request) => {
            let binding = Binding { issuer_uid: &issuer.uid, client_uid: &client.uid };
            let text = request.refresh_token.expose_secret();
            RefreshToken::decode(text, &issuer.sealing, binding, now).is_ok()
        }
        TokenRequest::DeviceCode(request) => {
            let binding = Binding { issuer_uid: &issuer.uid, client_uid: &client.uid };
            let text = request.device_code.expose_secret();
            DeviceCode::decode(text, &issuer.sealing, binding, now).is_ok()
        }
        TokenRequest::ClientCredentials(_)
        | TokenRequest::TokenExchange(_)
        | TokenRequest::JwtBearer(_)
        | TokenRequest::Password(_) => client.is_confidential(),
    }
}

/// Proves who the client is (RFC 6749 2.3): the one place for every endpoint, whose `path` below the
/// issuer an assertion may be made for. The kind of proof that is registered decides: no other is
/// looked at.
///
/// # Errors
/// `invalid_client`, or [`TokenError::Unavailable`] for a client that is invalid at the moment.
pub async fn authenticate<'i>(
    provider: &Provider,
    issuer: &'i Issuer,
    credentials: &ClientCredentials,
    path: &str,
) -> Result<&'i Client, TokenError> {
    let failed = || TokenError::refused(ErrorCode::InvalidClient, "client authentication failed");
    let client = match issuer.client(credentials.client_id()) {
        Some(ClientEntry::InService(client)) => client,
        Some(ClientEntry::OutOfService(_)) => {
            return Err(TokenError::unavailable("the OAuth2Client is invalid: see its conditions"));
        }
        None => return Err(failed()),
    };
    let clock = provider.clock.as_ref();
    match (&client.authentication, credentials.proof()) {
        (ClientAuthentication::Public, ClientProof::None) => Ok(client),
        (ClientAuthentication::Secret(live), ClientProof::Secret(given))
            if is_one_of(live, given) =>
        {
            Ok(client)
        }
        (ClientAuthentication::Keys(keys), ClientProof::Assertion(jwt)) => {
            let presented = Presented { jwt: jwt.expose_secret(), endpoint: path, clock };
            provider.assertions.verify(issuer, client, keys, presented).await?;
            Ok(client)
        }
        (ClientAuthentication::ServiceAccount(account), ClientProof::Assertion(jwt)) => {
            let presented = Presented { jwt: jwt.expose_secret(), endpoint: path, clock };
            provider.assertions.verify_service_account(issuer, account, presented).await?;
            Ok(client)
        }
        _ => Err(failed()),
    }
}

/// Whether this is one of the secrets; how long that takes says nothing about them.
fn is_one_of(live: &[SecretString], given: &SecretString) -> bool {
    let given = given.expose_secret().as_bytes();
    live.iter().fold(false, |proven, secret| {
        proven | bool::from(secret.expose_secret().as_bytes().ct_eq(given))
    })
}

pub(crate) fn require_grant(
    issuer: &Issuer,
    client: &Client,
    grant: Grant,
) -> Result<(), TokenError> {
    if !issuer.grants.contains(&grant) {
        return Err(TokenError::refused(
            ErrorCode::UnsupportedGrantType,
            format!("{} is not offered by this issuer", grant.as_str()),
        ));
    }
    if !client.grants.contains(&grant) {
        return Err(TokenError::refused(
            ErrorCode::UnauthorizedClient,
            format!("{} is not among this client's grants", grant.as_str()),
        ));
    }
    Ok(())
}

//! `client_credentials` (RFC 6749 4.4): tokens about the client itself.
//!
//! There is no user and no session: nothing is stored and nothing is read, no refresh token is given, and
//! what was given ends by its time, or with its client. What the tokens say is what the OAuth2Client says.

use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::{ClientCredentialsRequest, TokenResponse};

use crate::client::{Client, Grant};
use crate::issue::{self, About};
use crate::issuer::Issuer;
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::resources;
use crate::scopes::{self, Judgement};
use crate::token::TokenError;
use crate::workload::Workload;

/// Scopes about a user: there is none.
const OF_USERS: [&str; 2] = ["offline_access", "federated:id"];
/// Scopes that reveal nothing of a workload; the answer's `scope` is without them.
const EMPTY: [&str; 3] = ["email", "address", "phone"];

/// Answers a request of a client that has proven who it is.
///
/// # Errors
/// [`TokenError`].
pub fn grant(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &ClientCredentialsRequest,
) -> Result<TokenResponse, TokenError> {
    if !client.is_confidential() {
        return Err(TokenError::refused(
            ErrorCode::UnauthorizedClient,
            "a public client cannot prove who it is",
        ));
    }
    let scopes = granted(issuer, client, request.scope.as_ref())?;
    resources::check(issuer, client, &request.resources)
        .map_err(|why| TokenError::refused(ErrorCode::InvalidTarget, why))?;
    let workload = Workload::of_client(client);
    let about = About {
        workload: &workload,
        client,
        scopes: &scopes,
        grant: Grant::ClientCredentials,
        azp: None,
        not_after: issue::FOR_EVER,
    };
    let response = respond(provider, issuer, about, &request.resources)?;
    provider.audit.record(&AuditEvent::TokensIssued {
        client: &client.id,
        grant: Grant::ClientCredentials.as_str(),
    });
    Ok(response)
}

/// An access token about a workload and, where it was asked for, an ID token.
pub(super) fn respond(
    provider: &Provider,
    issuer: &Issuer,
    about: About<'_>,
    resources: &[String],
) -> Result<TokenResponse, TokenError> {
    let About { client, scopes, not_after, .. } = about;
    let access_token = issue::workload_access_token(provider, issuer, about, resources)?;
    let id_token = scopes
        .contains("openid")
        .then(|| issue::workload_id_token(provider, issuer, about, Some(&access_token)))
        .transpose()?;
    let expires_in = client.lifetimes.access_token.min(not_after - provider.clock.now());
    Ok(TokenResponse::new(access_token, expires_in, id_token, None, scopes.to_string()))
}

/// The scopes of an answer about a workload.
pub(super) fn granted(
    issuer: &Issuer,
    client: &Client,
    requested: Option<&ScopeSet>,
) -> Result<ScopeSet, TokenError> {
    let mut scopes = requested.cloned().unwrap_or_default();
    let refused = |why: String| TokenError::refused(ErrorCode::InvalidScope, why);
    if let Some(scope) = scopes.iter().find(|scope| OF_USERS.contains(&scope.as_str())) {
        return Err(refused(format!("scope {} needs a user", scope.as_str())));
    }
    for scope in scopes.iter() {
        match scopes::judge(issuer, client, scope) {
            Judgement::Granted => {}
            Judgement::Refused => {
                return Err(refused(format!("scope {} is not for this client", scope.as_str())));
            }
            Judgement::Unknown => {
                return Err(TokenError::unavailable("a client named in the scopes is invalid"));
            }
        }
    }
    if scopes.audiences().next().is_some() && !scopes.contains("openid") {
        return Err(refused("an audience is that of an ID token: ask for openid too".into()));
    }
    scopes.retain(|scope| !EMPTY.contains(&scope.as_str()));
    Ok(scopes)
}

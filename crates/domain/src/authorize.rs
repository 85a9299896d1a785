//! `/auth`: an authorization request becomes a flow, or an error in the right place.
//!
//! Until client and redirect URI are known good, errors are pages; afterwards they go to the client
//! by redirect with `state` (RFC 6749 4.1.2.1). Nothing is written either way.

use claviger_protocol::authorize::{
    AuthorizationRequest, AuthorizationResponse, Prompt, UnverifiedRequest,
};
use claviger_protocol::error::ErrorCode;
use claviger_protocol::form::Params;
use claviger_protocol::redirect_uri::RedirectUri;
use claviger_protocol::scope::ScopeSet;
use thiserror::Error;

use crate::client::{Client, Grant};
use crate::flow::{Flow, FlowCookie, MAX_COOKIE_LENGTH};
use crate::issuer::{ClientEntry, Issuer};
use crate::provider::Provider;
use crate::scopes::{self, Judgement};

/// A flow that has begun.
#[derive(Debug)]
pub struct Begun {
    /// To be set in the browser.
    pub cookie: FlowCookie,
    /// The flow.
    pub flow: Flow,
    /// Where the user goes now.
    pub next: Next,
}

/// Where the user goes now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// To the one connector there is, or the one asked for.
    Connector(String),
    /// To the chooser.
    Choose,
}

/// Why no flow began.
#[derive(Debug, Error)]
pub enum AuthorizeError {
    /// Shown to the user: client or redirect URI is not known good.
    #[error("{0}")]
    Page(String),
    /// The client exists but is invalid at the moment: a page with status 503.
    #[error("{0}")]
    Unavailable(String),
    /// Sent to the client by redirect to this URL.
    #[error("error redirect")]
    Redirect(String),
}

/// Begins a flow.
///
/// # Errors
/// [`AuthorizeError`].
pub fn begin(
    provider: &Provider,
    issuer: &Issuer,
    params: &Params,
) -> Result<Begun, AuthorizeError> {
    let unverified = UnverifiedRequest::parse(params)
        .map_err(|error| AuthorizeError::Page(error.to_string()))?;
    let client = client_of(issuer, &unverified)?;
    let redirect_uri = redirect_uri_of(client, &unverified)?;
    let state = unverified.state.clone();
    let refuse = |code: ErrorCode, description: &str| {
        error_redirect(issuer, &redirect_uri, state.as_deref(), code, description)
    };
    let request = unverified
        .validate()
        .map_err(|error| refuse(error.error, error.error_description.as_deref().unwrap_or("")))?;
    check_client(issuer, client, &request).map_err(|(code, why)| refuse(code, &why))?;
    let next = next_step(issuer, client, &request).map_err(|(code, why)| refuse(code, &why))?;
    let flow = flow_of(provider, client, &redirect_uri, request);
    let cookie = flow.seal(issuer);
    if cookie.value.len() > MAX_COOKIE_LENGTH {
        return Err(refuse(
            ErrorCode::InvalidRequest,
            "the request is too long: shorten redirect_uri, state, nonce or scope",
        ));
    }
    Ok(Begun { cookie, flow, next })
}

fn client_of<'i>(
    issuer: &'i Issuer,
    request: &UnverifiedRequest,
) -> Result<&'i Client, AuthorizeError> {
    match issuer.client(&request.client_id) {
        Some(ClientEntry::InService(client)) if !issuer.can_sign_for(client) => {
            Err(AuthorizeError::Unavailable(
                "No signing key is in service at the moment. Please try again later.".into(),
            ))
        }
        Some(ClientEntry::InService(client)) => Ok(client),
        Some(ClientEntry::OutOfService) => Err(AuthorizeError::Unavailable(
            "This application is not available at the moment: its OAuth2Client is invalid.".into(),
        )),
        None => Err(AuthorizeError::Page("Unknown client_id.".into())),
    }
}

fn redirect_uri_of(
    client: &Client,
    request: &UnverifiedRequest,
) -> Result<RedirectUri, AuthorizeError> {
    let page = |why: &str| AuthorizeError::Page(why.to_owned());
    let raw = request.redirect_uri.as_deref().ok_or_else(|| page("redirect_uri is missing."))?;
    let redirect_uri =
        RedirectUri::parse(raw).map_err(|error| page(&format!("Bad redirect_uri: {error}.")))?;
    if client.accepts_redirect(&redirect_uri) {
        Ok(redirect_uri)
    } else {
        Err(page("redirect_uri is not registered for this client."))
    }
}

fn error_redirect(
    issuer: &Issuer,
    redirect_uri: &RedirectUri,
    state: Option<&str>,
    code: ErrorCode,
    description: &str,
) -> AuthorizeError {
    let response = AuthorizationResponse::error(code, description, state, issuer.url.as_str());
    AuthorizeError::Redirect(response.location(redirect_uri))
}

type Refusal = (ErrorCode, String);

/// What the client may not ask for.
fn check_client(
    issuer: &Issuer,
    client: &Client,
    request: &AuthorizationRequest,
) -> Result<(), Refusal> {
    let grant = Grant::AuthorizationCode;
    if !issuer.grants.contains(&grant) || !client.grants.contains(&grant) {
        let why = "authorization_code is not among this client's grants";
        return Err((ErrorCode::UnauthorizedClient, why.into()));
    }
    if request.code_challenge.is_none() && client.pkce_required {
        let why = "code_challenge with code_challenge_method=S256 is required for this client";
        return Err((ErrorCode::InvalidRequest, why.into()));
    }
    check_scopes(issuer, client, &request.scope)
}

fn check_scopes(issuer: &Issuer, client: &Client, requested: &ScopeSet) -> Result<(), Refusal> {
    for scope in requested.iter() {
        if scopes::judge(issuer, client, scope) != Judgement::Granted {
            let why = format!("scope {} is not granted to this client", scope.as_str());
            return Err((ErrorCode::InvalidScope, why));
        }
    }
    Ok(())
}

fn next_step(
    issuer: &Issuer,
    client: &Client,
    request: &AuthorizationRequest,
) -> Result<Next, Refusal> {
    if request.prompt.contains(&Prompt::None) {
        return Err((ErrorCode::LoginRequired, "the user is not signed in".into()));
    }
    if let Some(wanted) = &request.connector_id {
        return match issuer.connectors_for(client).find(|c| c.name == *wanted) {
            Some(connector) => Ok(Next::Connector(connector.name.clone())),
            None => Err((
                ErrorCode::InvalidRequest,
                "connector_id names no connector that this client may use".into(),
            )),
        };
    }
    let mut offered = issuer.connectors_for(client);
    match (offered.next(), offered.next()) {
        (None, _) => Err((
            ErrorCode::TemporarilyUnavailable,
            "no connector is in service for this client".into(),
        )),
        (Some(only), None) => Ok(Next::Connector(only.name.clone())),
        _ => Ok(Next::Choose),
    }
}

fn flow_of(
    provider: &Provider,
    client: &Client,
    redirect_uri: &RedirectUri,
    request: AuthorizationRequest,
) -> Flow {
    Flow {
        id: provider.random_id(),
        client_id: client.id.clone(),
        client_uid: client.uid.clone(),
        redirect_uri: redirect_uri.as_str().to_owned(),
        scopes: request.scope.to_string(),
        state: request.state,
        nonce: request.nonce,
        challenge: request.code_challenge,
        force_consent: request.prompt.contains(&Prompt::Consent) || request.force_approval,
        must_authenticate: request.prompt.contains(&Prompt::Login) || request.max_age.is_some(),
        login_hint: request.login_hint,
        began_at: provider.clock.now(),
    }
}

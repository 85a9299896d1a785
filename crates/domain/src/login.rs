//! From a flow to a code: sign-in at a connector, policy, consent.
//!
//! Nothing is stored on the way, except a grant too large for a code, and that only for a user who
//! has authenticated and agreed.

use std::sync::Arc;

use claviger_protocol::error::ErrorCode;
use claviger_protocol::response_type::Delivery;
use claviger_protocol::scope::ScopeSet;
use claviger_seal::{Context, Purpose};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::answer;
use crate::authentication::Authentication;
use crate::client::Client;
use crate::code::LoginGrant;
use crate::connector::{Authenticated, Connector, Login, LoginError, Refresh};
use crate::flow::{FLOW_SECONDS, Flow};
use crate::issue::{self, IssueError, Subject};
use crate::issuer::{ClientEntry, Issuer};
use crate::offline;
use crate::ports::{AuditEvent, StoreError};
use crate::provider::Provider;
use crate::proxy::{ProxyError, ProxyRequest};
use crate::session::UpstreamState;
use crate::token;

/// What comes of a sign-in.
#[derive(Debug)]
pub enum Outcome {
    /// Back to the client, with what it asked for or an error.
    Answer(Delivery),
    /// The user is asked whether the client may know them.
    Consent(Consent),
}

/// What the consent page shows and carries.
#[derive(Debug)]
pub struct Consent {
    /// Name of the client.
    pub client: String,
    /// Scopes it gets, in the order asked for.
    pub scopes: Vec<String>,
    /// What a person would call the user.
    pub user: String,
    /// The sealed grant the form sends back.
    pub grant: String,
}

/// Why a step of the login did not happen. The user may try again where they are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StepError {
    /// Unknown user or wrong password: one message for both.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// No connector of that name is in service for this client.
    #[error("this way to sign in is not available")]
    NoConnector,
    /// The client is gone or changed since the flow began.
    #[error("the application is not available")]
    NoClient,
    /// The upstream or the session store is away: try again later.
    #[error("temporarily unavailable: {0}")]
    Unavailable(String),
    /// The request of a trusted proxy is not as it must be.
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    /// The session store refused: try again after this many seconds.
    #[error("temporarily unavailable: {reason}")]
    Busy {
        /// For logs.
        reason: String,
        /// Seconds to wait.
        retry_after: u32,
    },
    /// The consent form is not the one we sent, or too old.
    #[error("this sign-in has expired")]
    Expired,
}

/// Whether tokens can be made is asked before anything else: what fails then is ours.
impl From<IssueError> for StepError {
    fn from(error: IssueError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        Self::Busy { reason: error.to_string(), retry_after: token::retry_after(&error) }
    }
}

/// The flow's client, if it may still be used.
///
/// # Errors
/// [`StepError::NoClient`].
pub fn client_of<'i>(issuer: &'i Issuer, flow: &Flow) -> Result<&'i Client, StepError> {
    match issuer.client(&flow.client_id) {
        Some(ClientEntry::InService(client)) if flow.belongs_to(&client.uid) => Ok(client),
        _ => Err(StepError::NoClient),
    }
}

/// The connector of this name, if the flow's client may use it.
///
/// # Errors
/// [`StepError::NoClient`] or [`StepError::NoConnector`].
pub fn connector_of<'i>(
    issuer: &'i Issuer,
    flow: &'i Flow,
    name: &str,
) -> Result<&'i Arc<Connector>, StepError> {
    let client = client_of(issuer, flow)?;
    flow.connectors(issuer, client).find(|c| c.name == name).ok_or(StepError::NoConnector)
}

/// A sign-in by name and password at the connector of this name.
///
/// # Errors
/// [`StepError`].
pub async fn with_password(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    connector: &str,
    attempt: (&str, &SecretString),
) -> Result<Outcome, StepError> {
    let connector = connector_of(issuer, flow, connector)?;
    let (username, password) = attempt;
    let refused = |reason| {
        provider.audit.record(&AuditEvent::LoginRefused {
            client: &flow.client_id,
            connector: &connector.name,
            reason,
        });
        StepError::InvalidCredentials
    };
    if username.is_empty() || password.expose_secret().is_empty() {
        return Err(refused("EmptyCredentials"));
    }
    let Login::Password(upstream) = &connector.login else { return Err(StepError::NoConnector) };
    match upstream.authenticate(username, password).await {
        Ok(authenticated) => {
            authenticated_at(provider, issuer, flow, connector, authenticated).await
        }
        Err(LoginError::InvalidCredentials(_)) => Err(refused("InvalidCredentials")),
        Err(error) => {
            tracing::warn!(connector = connector.name, %error, "sign-in could not be checked");
            Err(StepError::Unavailable("the directory behind this sign-in cannot be used".into()))
        }
    }
}

/// A sign-in by the word of a trusted proxy at the connector of this name. Only the listener made
/// for proxies may call it.
///
/// # Errors
/// [`StepError`].
pub async fn with_proxy(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    connector: &str,
    request: &ProxyRequest<'_>,
) -> Result<Outcome, StepError> {
    let connector = connector_of(issuer, flow, connector)?;
    let Login::Proxy(upstream) = &connector.login else { return Err(StepError::NoConnector) };
    if flow.must_authenticate {
        // When the user last proved themselves is the proxy's affair, and unknown here.
        let why = "users of this connector cannot be asked to sign in again: its proxy does that";
        return answer::refuse(issuer, flow, ErrorCode::LoginRequired, why);
    }
    match upstream.authenticate(request, provider.clock.now()) {
        Ok(authenticated) => {
            authenticated_at(provider, issuer, flow, connector, authenticated).await
        }
        Err(error) => {
            provider.audit.record(&AuditEvent::LoginRefused {
                client: &flow.client_id,
                connector: &connector.name,
                reason: error.reason(),
            });
            tracing::warn!(connector = connector.name, %error, "a proxy's request was refused");
            Err(error.into())
        }
    }
}

/// The upstream has vouched for the user: policy, then consent, then a code.
async fn authenticated_at(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    connector: &Connector,
    authenticated: Authenticated,
) -> Result<Outcome, StepError> {
    let client = client_of(issuer, flow)?;
    let now = provider.clock.now();
    let deny = |reason: &'static str, description: &str| {
        provider.audit.record(&AuditEvent::LoginRefused {
            client: &client.id,
            connector: &connector.name,
            reason,
        });
        answer::refuse(issuer, flow, ErrorCode::AccessDenied, description)
    };
    let identity = match connector.policy.admit(authenticated.identity) {
        Ok(identity) => identity,
        Err(error) => return deny("ConnectorPolicy", &error.to_string()),
    };
    if !client.allows_groups(&identity.groups) {
        return deny("ClientPolicy", "user is in none of the client's allowedGroups");
    }
    let scopes = ScopeSet::parse(&flow.scopes).map_err(|_| StepError::Expired)?;
    if flow.subject.as_ref().is_some_and(|s| *s != issue::subject(issuer, connector, &identity)) {
        // OIDC Core 3.1.2.1 (id_token_hint) and 5.5.1 (sub)
        let why = "the user who signed in is not the one the request names";
        return answer::refuse(issuer, flow, ErrorCode::LoginRequired, why);
    }
    let about =
        Subject { identity: &identity, connector, client, scopes: &scopes, asked: &flow.asked };
    match issue::check(issuer, about) {
        Ok(()) => {}
        Err(error @ IssueError::ReservedValue { .. }) => {
            return deny("ReservedValue", &error.to_string());
        }
        Err(error @ IssueError::TooLarge { .. }) => {
            return deny("TokenTooLarge", &error.to_string());
        }
        Err(error) => return Err(error.into()),
    }
    let grant = LoginGrant {
        identity,
        upstream: UpstreamState {
            connector_uid: connector.uid.clone(),
            data: match connector.refresh {
                Refresh::Offline { .. } => offline::data_of(&connector.policy),
                _ => authenticated.data,
            },
            checked_at: now,
        },
        scopes: flow.scopes.clone(),
        nonce: flow.nonce.clone(),
        authentication: Authentication::at(connector, now),
        asked: flow.asked.clone(),
        resources: flow.resources.clone(),
    };
    if client.consent_required || flow.force_consent {
        return Ok(Outcome::Consent(Consent {
            client: client.display_name.clone(),
            scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            user: grant.identity.label().to_owned(),
            grant: seal_consent(issuer, flow, &grant),
        }));
    }
    answer::grant(provider, issuer, flow, grant).await
}

/// The user's answer on the consent page.
///
/// # Errors
/// [`StepError`].
pub async fn answer_consent(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    sealed_grant: &str,
    approved: bool,
) -> Result<Outcome, StepError> {
    let now = provider.clock.now();
    let plain = issuer
        .sealing
        .open(Purpose::Consent, &consent_context(issuer, flow), now, sealed_grant)
        .map_err(|_| StepError::Expired)?;
    let grant: LoginGrant = serde_json::from_slice(&plain).map_err(|_| StepError::Expired)?;
    if !approved {
        return answer::refuse(issuer, flow, ErrorCode::AccessDenied, "the user refused");
    }
    answer::grant(provider, issuer, flow, grant).await
}

fn seal_consent(issuer: &Issuer, flow: &Flow, grant: &LoginGrant) -> String {
    let plain = serde_json::to_vec(grant).unwrap_or_default();
    let not_after = flow.began_at + FLOW_SECONDS;
    issuer.sealing.seal(Purpose::Consent, &consent_context(issuer, flow), not_after, &plain)
}

fn consent_context<'a>(issuer: &'a Issuer, flow: &'a Flow) -> Context<'a> {
    Context { issuer_uid: &issuer.uid, object_name: Some(&flow.id), client_uid: None }
}

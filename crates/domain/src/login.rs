//! From a flow to a code: sign-in at a connector, policy, consent.
//!
//! Nothing is stored on the way, except a grant too large for a code, and that only for a user who
//! has authenticated and agreed.

use std::sync::Arc;

use claviger_protocol::error::ErrorCode;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::admission::{self, Denied, SignedIn};
use crate::answer;
use crate::authentication::Authentication;
use crate::browser_session::{self, Rechecked, Ticket};
use crate::client::Client;
use crate::connector::{Authenticated, Connector, ConnectorData, Login, LoginError, PolicyError};
use crate::consent::{Consent, Remembered};
use crate::cookie::Cookie;
use crate::device_page::Entry;
use crate::door::Door;
use crate::flow::Flow;
use crate::issue::IssueError;
use crate::issuer::{ClientEntry, Issuer};
use crate::ports::{AuditEvent, StoreError};
use crate::provider::Provider;
use crate::proxy::{ProxyError, ProxyRequest};
use crate::session::{self, UpstreamState};
use crate::token;
use crate::trip::{Arrival, Trip};
use crate::upstream_ticket::{self, UpstreamTicket};

/// What comes of a sign-in.
#[derive(Debug)]
pub enum Outcome {
    /// Back to the client, with what it asked for or an error.
    Answer(Delivery),
    /// The user is asked whether the client may know them.
    Consent(Consent),
    /// The user is asked which device they let in.
    Device(Entry),
}

/// What comes of a step, and the cookies that go with it.
#[derive(Debug)]
pub struct Step {
    /// What comes of it.
    pub outcome: Outcome,
    /// To be set in the browser.
    pub cookies: Vec<Cookie>,
}

impl From<Outcome> for Step {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, cookies: Vec::new() }
    }
}

/// What the browser brought along, of itself.
#[derive(Debug, Clone, Default)]
pub struct Brought {
    /// Its session's ticket.
    pub ticket: Option<Ticket>,
    /// Its ticket of an upstream that has no sessions here.
    pub there: Option<UpstreamTicket>,
    /// What its user agreed to before.
    pub remembered: Remembered,
}

impl Brought {
    /// What is among a browser's cookies.
    pub fn of<'c>(
        issuer: &Issuer,
        cookies: impl Iterator<Item = (&'c str, &'c str)> + Clone,
        now: i64,
    ) -> Self {
        Self {
            ticket: Ticket::of(issuer, cookies.clone(), now),
            there: UpstreamTicket::of(issuer, cookies.clone(), now),
            remembered: Remembered::of(issuer, cookies, now),
        }
    }
}

/// Why a step of the login did not happen. The user may try again where they are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StepError {
    /// Unknown user or wrong password: one message for both.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// The upstream says of the user what the connector cannot use; perhaps after it looked at the password.
    #[error("what the upstream says of the user cannot be used")]
    Unusable,
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
    /// What the browser brought back from the upstream is not believed.
    #[error("the answer of the other sign-in could not be verified")]
    Unverified,
    /// The session store refused: try again after this many seconds.
    #[error("temporarily unavailable: {reason}")]
    Busy {
        /// For logs.
        reason: String,
        /// Seconds to wait.
        retry_after: u32,
    },
    /// Policy refuses a user whom no client waits for.
    #[error("{0}")]
    Denied(String),
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

/// What the pages of a flow call whoever its user signs in to.
///
/// # Errors
/// [`StepError::NoClient`].
pub fn door_name<'i>(issuer: &'i Issuer, flow: &Flow) -> Result<&'i str, StepError> {
    Ok(Door::of(issuer, flow)?.name())
}

/// The connectors that a flow's user may choose from.
///
/// # Errors
/// [`StepError::NoClient`].
pub fn connectors_of<'i>(
    issuer: &'i Issuer,
    flow: &'i Flow,
) -> Result<impl Iterator<Item = &'i Arc<Connector>>, StepError> {
    Ok(flow.connectors(issuer, Door::of(issuer, flow)?))
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
    let door = Door::of(issuer, flow)?;
    flow.connectors(issuer, door).find(|c| c.name == name).ok_or(StepError::NoConnector)
}

/// A sign-in by name and password at the connector of this name.
///
/// # Errors
/// [`StepError`].
pub async fn with_password(
    provider: &Provider,
    issuer: &Issuer,
    (flow, brought): (&Flow, Brought),
    connector: &str,
    attempt: (&str, &SecretString),
) -> Result<Step, StepError> {
    let connector = connector_of(issuer, flow, connector)?;
    let authenticated = check_password(provider, &flow.client_id, connector, attempt).await?;
    let authentication = Authentication::at(connector, provider.clock.now());
    let arrived = Arrived { authenticated, authentication, session: None, sign_out: None };
    authenticated_at(provider, issuer, (flow, brought), connector, arrived).await
}

/// Who this name and password are to the connector, wherever they were typed.
pub(crate) async fn check_password(
    provider: &Provider,
    client_id: &str,
    connector: &Connector,
    (username, password): (&str, &SecretString),
) -> Result<Authenticated, StepError> {
    let refused = |reason| {
        let connector = &connector.name;
        provider.audit.record(&AuditEvent::LoginRefused { client: client_id, connector, reason });
        StepError::InvalidCredentials
    };
    if username.is_empty() || password.expose_secret().is_empty() {
        return Err(refused("EmptyCredentials"));
    }
    let Login::Password(upstream) = &connector.login else { return Err(StepError::NoConnector) };
    match upstream.authenticate(username, password).await {
        Ok(authenticated) => Ok(authenticated),
        Err(LoginError::InvalidCredentials(why)) => {
            provider.audit.record(&AuditEvent::UpstreamVerdict {
                client: client_id,
                connector: &connector.name,
                session: "",
                why: &why,
            });
            Err(refused("InvalidCredentials"))
        }
        Err(LoginError::Unusable(why)) => {
            tracing::warn!(
                connector = connector.name,
                why,
                "what the upstream says of a user cannot be used"
            );
            refused("Unusable");
            Err(StepError::Unusable)
        }
        Err(error) => Err(unchecked(connector, &error)),
    }
}

/// Nobody knows whether the user is who they say.
fn unchecked(connector: &Connector, error: &LoginError) -> StepError {
    tracing::warn!(connector = connector.name, %error, "sign-in could not be checked");
    error.into()
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
) -> Result<Step, StepError> {
    let connector = connector_of(issuer, flow, connector)?;
    let Login::Proxy(upstream) = &connector.login else { return Err(StepError::NoConnector) };
    if flow.must_authenticate || flow.max_age.is_some() {
        // When the user last proved themselves is the proxy's affair, and unknown here.
        let why = "users of this connector cannot be asked to sign in again: its proxy does that";
        return Ok(answer::refuse(issuer, flow, ErrorCode::LoginRequired, why)?.into());
    }
    match upstream.authenticate(request, provider.clock.now()) {
        Ok(authenticated) => {
            let arriving = (flow, Brought::default());
            let authentication = Authentication::at(connector, provider.clock.now());
            let arrived = Arrived { authenticated, authentication, session: None, sign_out: None };
            authenticated_at(provider, issuer, arriving, connector, arrived).await
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

/// Where the browser goes to sign in at the connector of this name: the upstream's own pages.
///
/// # Errors
/// [`StepError`].
pub async fn depart(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    connector: &str,
) -> Result<Delivery, StepError> {
    let connector = connector_of(issuer, flow, connector)?;
    let Login::Redirect(upstream) = &connector.login else { return Err(StepError::NoConnector) };
    let trip = Trip::of(issuer, flow, connector, provider.clock.now());
    upstream.depart(&trip).await.map_err(|error| unchecked(connector, &error))
}

/// A sign-in at the connector of this name by what the browser brought back from its upstream.
///
/// # Errors
/// [`StepError`].
pub async fn with_answer(
    provider: &Provider,
    issuer: &Issuer,
    (flow, brought): (&Flow, Brought),
    connector: &str,
    answer: &Params,
) -> Result<Step, StepError> {
    let connector = connector_of(issuer, flow, connector)?;
    let Login::Redirect(upstream) = &connector.login else { return Err(StepError::NoConnector) };
    let now = provider.clock.now();
    let trip = Trip::of(issuer, flow, connector, now);
    let deny = |code, reason, description| {
        let denied = Denied { code, reason, description };
        Ok(Step::from(admission::deny(provider, issuer, flow, (connector, &denied))?))
    };
    match upstream.arrive(&trip, answer).await {
        Ok(arrival) if !is_recent_enough(flow, &arrival, now) => {
            let why = "the other sign-in does not say that its user has just signed in there";
            deny(ErrorCode::LoginRequired, "NotRecent", why.to_owned())
        }
        Ok(Arrival { authenticated, time, amr, once, sign_out }) => {
            let authentication = Authentication {
                time: time.unwrap_or(now).min(now),
                acr: connector.acr.clone(),
                amr,
            };
            let session =
                once.map(|once| session::name_for_answer(&issuer.uid, &connector.uid, &once));
            let arrived = Arrived { authenticated, authentication, session, sign_out };
            authenticated_at(provider, issuer, (flow, brought), connector, arrived).await
        }
        Err(LoginError::Refused(why)) => deny(ErrorCode::AccessDenied, "UpstreamRefused", why),
        Err(LoginError::Unverified { reason, message }) => {
            let (client, connector) = (flow.client_id.as_str(), connector.name.as_str());
            provider.audit.record(&AuditEvent::LoginRefused { client, connector, reason });
            tracing::warn!(connector, reason, message, "an upstream's answer is not believed");
            Err(StepError::Unverified)
        }
        Err(error) => Err(unchecked(connector, &error)),
    }
}

/// Whether the user proved themselves at the upstream as lately as the flow's client wants: it was asked for that, and
/// one that does not say when gives no proof of it.
fn is_recent_enough(flow: &Flow, arrival: &Arrival, now: i64) -> bool {
    let oldest = match (flow.must_authenticate, flow.max_age) {
        (false, None) => return true,
        (true, None) => flow.began_at,
        (false, Some(seconds)) => now.saturating_sub(seconds),
        (true, Some(seconds)) => flow.began_at.max(now.saturating_sub(seconds)),
    };
    arrival.time.is_some_and(|time| time.saturating_add(crate::SKEW_SECONDS) >= oldest)
}

/// Who an upstream vouched for, and how.
struct Arrived {
    authenticated: Authenticated,
    authentication: Authentication,
    /// Name of the session that it may become, where the upstream's answer is good once.
    session: Option<String>,
    /// What signing out there will take.
    sign_out: Option<ConnectorData>,
}

/// The upstream has vouched for the user: policy, then the browser's session, then the client.
async fn authenticated_at(
    provider: &Provider,
    issuer: &Issuer,
    (flow, brought): (&Flow, Brought),
    connector: &Connector,
    arrived: Arrived,
) -> Result<Step, StepError> {
    let Arrived { authenticated, authentication, session, sign_out } = arrived;
    let data = authenticated.data.clone();
    let identity = match connector.policy.admit(authenticated) {
        Ok(identity) => identity,
        Err(error) => {
            let denied = not_let_through(connector, &error);
            return Ok(admission::deny(provider, issuer, flow, (connector, &denied))?.into());
        }
    };
    let now = provider.clock.now();
    let signed_in = SignedIn::now(connector, identity, data, now);
    let mut signed_in = SignedIn { authentication, session, ..signed_in };
    let arriving = (&signed_in.identity, signed_in.authentication.acr.as_deref());
    if let Err(denied) = admission::judge(issuer, flow, connector, arriving)? {
        return Ok(admission::deny(provider, issuer, flow, (connector, &denied))?.into());
    }
    let before = brought.ticket;
    let had_ticket = brought.there.is_some();
    let there = UpstreamTicket::issue(connector, &signed_in, sign_out.as_ref(), now);
    let arriving = (&mut signed_in, sign_out);
    let session = begin_session(provider, issuer, (flow, before), connector, arriving).await?;
    let remembered = &brought.remembered;
    let outcome = admission::admit(provider, issuer, flow, signed_in, remembered).await?;
    // One of an earlier sign-in would sign somebody else out.
    let there = there.map(|ticket| ticket.cookie(issuer));
    let there = there.or_else(|| had_ticket.then(|| upstream_ticket::cleared(issuer)));
    Ok(Step { outcome, cookies: session.into_iter().chain(there).collect() })
}

/// What a client is told of a user whom its connector does not let through. A mapping that failed is the administrator's.
fn not_let_through(connector: &Connector, error: &PolicyError) -> Denied {
    let (code, description) = if error.is_verdict() {
        (ErrorCode::AccessDenied, error.to_string())
    } else {
        tracing::warn!(connector = connector.name, %error, "a user cannot be read");
        (ErrorCode::ServerError, "what the upstream says of the user cannot be read".to_owned())
    };
    Denied { code, reason: error.reason(), description }
}

/// Begins the browser's session, where issuer, client and connector have such a thing.
async fn begin_session(
    provider: &Provider,
    issuer: &Issuer,
    (flow, before): (&Flow, Option<Ticket>),
    connector: &Connector,
    (signed_in, sign_out): (&mut SignedIn, Option<ConnectorData>),
) -> Result<Option<Cookie>, StepError> {
    let shares = Door::of(issuer, flow)?.shares();
    let Some(policy) = issuer.browser_sessions.filter(|_| shares) else { return Ok(None) };
    if !browser_session::has_sessions(connector, signed_in.upstream.data.as_ref()) {
        return Ok(None);
    }
    if let Some(doubt) = provider.clock.doubt() {
        return Err(StepError::Unavailable(doubt));
    }
    let payload = browser_session::Payload {
        identity: signed_in.identity.clone(),
        upstream: signed_in.upstream.clone(),
        authentication: signed_in.authentication.clone(),
        absolute_expiry: provider.clock.now().saturating_add(policy.absolute),
        sign_out,
    };
    let begun = browser_session::begin(provider, issuer, flow, (payload, before)).await?;
    let (name, cookie) = begun;
    signed_in.browser = Some(name);
    Ok(Some(cookie))
}

/// Goes on with the browser's session instead of a sign-in. `None` where there is none that will do: the user
/// is asked to sign in.
///
/// # Errors
/// [`StepError`].
pub async fn with_session(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    brought: Brought,
) -> Result<Option<Step>, StepError> {
    let door = Door::of(issuer, flow)?;
    let Some(ticket) = brought.ticket.filter(|_| door.shares()) else {
        return Ok(None);
    };
    let Some(session) = browser_session::read(provider, issuer, &ticket).await? else {
        return Ok(None);
    };
    if !flow.admits(issuer, door, &session, provider.clock.now()) {
        return Ok(None);
    }
    let (session, ticket) =
        match browser_session::recheck(provider, issuer, session, ticket).await? {
            Rechecked::Good(session, ticket) => (session, ticket),
            Rechecked::Over => return Ok(None),
            Rechecked::Unavailable(why) => {
                tracing::warn!(%why, "a browser's session could not be checked");
                return Err((&why).into());
            }
        };
    let identity = &session.payload.identity;
    let connector = &session.connector;
    let cookies = vec![ticket.cookie(issuer, provider.clock.now())];
    let arriving = (identity, session.payload.authentication.acr.as_deref());
    if let Err(denied) = admission::judge(issuer, flow, connector, arriving)? {
        let outcome = admission::deny(provider, issuer, flow, (connector, &denied))?;
        return Ok(Some(Step { outcome, cookies }));
    }
    let signed_in = SignedIn {
        identity: identity.clone(),
        upstream: UpstreamState {
            checked_at: ticket.checked_at,
            ..session.payload.upstream.clone()
        },
        authentication: session.payload.authentication.clone(),
        browser: Some(session.name.clone()),
        session: None,
        in_this_flow: false,
    };
    let remembered = &brought.remembered;
    let outcome = admission::admit(provider, issuer, flow, signed_in, remembered).await?;
    Ok(Some(Step { outcome, cookies }))
}

/// The user's answer on the consent page.
///
/// # Errors
/// [`StepError`].
pub async fn answer_consent(
    provider: &Provider,
    issuer: &Issuer,
    (flow, remembered): (&Flow, Remembered),
    sealed_grant: &str,
    approved: bool,
) -> Result<Step, StepError> {
    let now = provider.clock.now();
    let grant = Consent::grant(issuer, flow, sealed_grant, now).ok_or(StepError::Expired)?;
    if !approved {
        let why = "the user refused";
        return Ok(answer::refuse(issuer, flow, ErrorCode::AccessDenied, why)?.into());
    }
    let cookie = remembered.with(issuer, client_of(issuer, flow)?, &grant, now);
    let outcome = answer::grant(provider, issuer, flow, grant).await?;
    Ok(Step { outcome, cookies: cookie.into_iter().collect() })
}

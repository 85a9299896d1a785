//! `/device` (RFC 8628 3.3): a user who has signed in says which device they let in.
//!
//! ```text
//! sign-in at the page ─▶ entry: code ─▶ confirmation: which client, what for ─▶ 1 patch
//! ```
//! What always holds:
//! - no code is looked at before its user has signed in; until then nothing is stored here;
//! - who signed in travels sealed in the page's form, bound to the flow of this browser;
//! - the user always sees what they agree to, whatever they agreed to before: a code may come from somebody
//!   else (RFC 8628 5.4); what they allow is what they were shown;
//! - a code that is wrong, over or used is told from another by nobody: one answer for all;
//! - the client's own policy (connectors, acr, groups) is held against whoever allows it, and one that shares no
//!   browser session (`Separate`) has them sign in for it alone.

use std::fmt;

use claviger_protocol::device::UserCode;
use claviger_protocol::scope::ScopeSet;
use claviger_seal::{Context, Purpose};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::admission::{self, Denied, SignedIn};
use crate::authentication::Authentication;
use crate::browser_session::Sharing;
use crate::claim::RequestedClaims;
use crate::client::{Client, Grant};
use crate::code::LoginGrant;
use crate::connector::Connector;
use crate::consent::revealed;
use crate::device::{MAX_PAYLOAD, Request, is_user_code, seal_grant};
use crate::flow::{FLOW_SECONDS, Flow};
use crate::form_token::{form_token, is_form_token};
use crate::identity::Identity;
use crate::issue::Subject;
use crate::issuer::{ClientEntry, Issuer};
use crate::login::StepError;
use crate::ports::{AuditEvent, DeviceDecision, KnownDevice, StoreError};
use crate::provider::Provider;
use crate::session::{self, UpstreamState};

/// What the page that asks for the code shows and carries. Prints its user alone: with the rest whoever reads it lets
/// a device in.
pub struct Entry {
    /// What a person would call the user.
    pub user: String,
    /// The code that the address brought, to be looked at by the user.
    pub user_code: String,
    /// Who signed in, sealed: the form sends it back.
    pub sign_in: String,
}

/// Who signed in at the device page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visitor {
    #[serde(rename = "i")]
    identity: Identity,
    #[serde(rename = "u")]
    upstream: UpstreamState,
    #[serde(rename = "a")]
    authentication: Authentication,
    /// Name of the browser session it came of: over, and so is this.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    browser: Option<String>,
    /// Whether they proved themselves in this very flow, and not before in this browser.
    #[serde(rename = "f", default)]
    in_this_flow: bool,
}

/// What the page that asks for the decision shows and carries. Prints user and client alone.
pub struct Confirmation {
    /// Name of the client whose device it is.
    pub client: String,
    /// Its client ID, where it is a tenant's: what it calls itself, nobody else has looked at.
    pub tenant_id: Option<String>,
    /// What it gets.
    pub scopes: Vec<String>,
    /// What a person would call the user.
    pub user: String,
    /// The code, as the device shows it.
    pub user_code: String,
    /// Proves that this page was seen, for this device.
    pub token: String,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmation")
            .field("user", &self.user)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// Why a code leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// Wrong, over, used, or not of a device that may go on: one message for all.
    #[error("no device waits with this code")]
    Unknown,
    /// The client wants a sign-in of its own: go on with a flow of [`begin_separately`].
    #[error("the client wants its users to sign in for it alone")]
    SignIn,
    /// Policy does not let this user do it.
    #[error("{0}")]
    Denied(String),
    /// Something needed is away.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// A sign-in at the device page begins.
pub fn begin(provider: &Provider, user_code: Option<&str>) -> Flow {
    let code = user_code.and_then(UserCode::parse).map(|code| code.to_string());
    Flow::at_device_page(provider, code.unwrap_or_default())
}

/// The sign-in begins again, of its own this time, with the code that was typed.
pub fn begin_separately(provider: &Provider, user_code: &str) -> Flow {
    Flow { separate: true, ..begin(provider, Some(user_code)) }
}

/// The question for the code, asked of a user who has signed in.
pub(crate) fn ask(issuer: &Issuer, flow: &Flow, signed_in: SignedIn) -> Entry {
    let SignedIn { identity, mut upstream, authentication, browser, in_this_flow, .. } = signed_in;
    let connector = issuer.connector_by_uid(&upstream.connector_uid);
    let data = upstream.data.as_ref();
    if connector.is_none_or(|connector| connector.refresh.consumes(data)) {
        upstream.data = None; // it may stand in one session alone, and several devices may be let in
    }
    let user = identity.label().to_owned();
    let visitor = Visitor { identity, upstream, authentication, browser, in_this_flow };
    Entry {
        user,
        user_code: flow.device.clone().unwrap_or_default(),
        sign_in: visitor.seal(issuer, flow),
    }
}

impl Visitor {
    fn seal(&self, issuer: &Issuer, flow: &Flow) -> String {
        let plain = rmp_serde::to_vec_named(self).unwrap_or_default();
        let not_after = flow.began_at + FLOW_SECONDS;
        issuer.sealing.seal(Purpose::DeviceSignIn, &context(issuer, flow), not_after, &plain)
    }

    /// Whoever signed in in this flow, from what the form sent back.
    ///
    /// # Errors
    /// [`StepError::Expired`].
    pub fn open(issuer: &Issuer, flow: &Flow, sealed: &str, now: i64) -> Result<Self, StepError> {
        let opened =
            issuer.sealing.open(Purpose::DeviceSignIn, &context(issuer, flow), now, sealed);
        let plain = opened.map_err(|_| StepError::Expired)?;
        rmp_serde::from_slice(&plain).map_err(|_| StepError::Expired)
    }

    /// Stands for this user where tries are counted.
    pub fn hash(&self, issuer: &Issuer) -> String {
        session::user_hash(&issuer.uid, &self.upstream.connector_uid, &self.identity.user_id)
    }

    /// What a person would call them.
    pub fn label(&self) -> &str {
        self.identity.label()
    }
}

/// A visitor before a device that waits.
struct Visit<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    client: &'a Client,
    connector: &'a Connector,
    device: KnownDevice,
    grant: LoginGrant,
    in_this_flow: bool,
}

/// What a user is shown before they decide.
///
/// # Errors
/// [`DeviceError`].
pub fn look_up(
    provider: &Provider,
    issuer: &Issuer,
    (flow, visitor): (&Flow, &Visitor),
    typed: &str,
) -> Result<Confirmation, DeviceError> {
    let (visit, code) = visit(provider, issuer, visitor, typed)?;
    visit.judge()?;
    Ok(Confirmation {
        client: visit.client.display_name.clone(),
        tenant_id: Some(&visit.client.id).filter(|id| id.contains('/')).cloned(),
        scopes: revealed(issuer, &visit.grant),
        user: visitor.label().to_owned(),
        user_code: code.to_string(),
        token: form_token(issuer, &about(issuer, flow, &visit.device.name)),
    })
}

/// Stores what a user decided who was shown what it is about. Returns the client's name.
///
/// # Errors
/// [`DeviceError`].
pub async fn decide(
    provider: &Provider,
    issuer: &Issuer,
    (flow, visitor): (&Flow, &Visitor),
    (typed, token): (&str, &str),
    approved: bool,
) -> Result<String, DeviceError> {
    let (visit, _) = visit(provider, issuer, visitor, typed)?;
    if !is_form_token(issuer, &about(issuer, flow, &visit.device.name), token) {
        return Err(DeviceError::Unknown); // no other answer than for a wrong code: this form is a way to try codes
    }
    if let Some(doubt) = provider.clock.doubt() {
        return Err(StepError::Unavailable(doubt).into());
    }
    let decision = if approved { visit.approval()? } else { DeviceDecision::Denied };
    provider.devices.decide(&visit.device.name, &decision).await.map_err(|error| match error {
        StoreError::PreconditionFailed => DeviceError::Unknown,
        error => StepError::from(error).into(),
    })?;
    provider.audit.record(&AuditEvent::DeviceDecided {
        device: &visit.device.name,
        client: &visit.client.id,
        connector: &visit.connector.name,
        user: visitor.label(),
        approved,
    });
    Ok(visit.client.display_name.clone())
}

/// The device that waits with this code, and its visitor.
fn visit<'a>(
    provider: &'a Provider,
    issuer: &'a Issuer,
    visitor: &Visitor,
    typed: &str,
) -> Result<(Visit<'a>, UserCode), DeviceError> {
    if visitor.browser.as_deref().is_some_and(|name| provider.revocations.is_revoked(name)) {
        return Err(StepError::Expired.into()); // they have signed out meanwhile
    }
    let code = UserCode::parse(typed).ok_or(DeviceError::Unknown)?;
    let now = provider.clock.now();
    let hash = session::object_hash(&issuer.uid);
    let is_wanted = |device: &KnownDevice| is_user_code(issuer, device, &code);
    let device =
        provider.devices.find_pending(&hash, now, &is_wanted).ok_or(DeviceError::Unknown)?;
    let client = client_of(issuer, &device.client_uid).ok_or(DeviceError::Unknown)?;
    let request = Request::open(issuer, &device, now).map_err(|_| DeviceError::Unknown)?;
    let connector =
        issuer.connector_by_uid(&visitor.upstream.connector_uid).ok_or(StepError::NoConnector)?;
    let grant = LoginGrant {
        identity: visitor.identity.clone(),
        upstream: visitor.upstream.clone(),
        scopes: request.scopes,
        nonce: None,
        authentication: visitor.authentication.clone(),
        asked: RequestedClaims::default(),
        resources: request.resources,
        browser: None, // the device is not in this browser: it stays when its user signs out here
        session: None, // nor is it the upstream's answer that it came of: the device is let in once
    };
    let in_this_flow = visitor.in_this_flow;
    Ok((Visit { provider, issuer, client, connector, device, grant, in_this_flow }, code))
}

fn client_of<'i>(issuer: &'i Issuer, uid: &str) -> Option<&'i Client> {
    let mut clients = issuer.clients.values().filter_map(|entry| match entry {
        ClientEntry::InService(client) => Some(client.as_ref()),
        ClientEntry::OutOfService(_) => None,
    });
    clients.find(|client| client.uid == uid && client.grants.contains(&Grant::DeviceCode))
}

impl Visit<'_> {
    /// Whether the client may have this user.
    fn judge(&self) -> Result<(), DeviceError> {
        let Self { issuer, client, connector, grant, .. } = self;
        if client.sharing == Sharing::Separate && !self.in_this_flow {
            return Err(DeviceError::SignIn);
        }
        let acr = grant.authentication.acr.as_deref();
        if !client.admits(connector) || !client.allows_acr(acr) {
            let why = "the client wants its users to sign in another way";
            return Err(self.denied("ClientPolicy", why));
        }
        let scopes = ScopeSet::parse(&grant.scopes).map_err(|_| StepError::Expired)?;
        let identity = &grant.identity;
        let about = Subject { identity, connector, client, scopes: &scopes, asked: &grant.asked };
        match admission::may_have(issuer, about, acr)? {
            Ok(()) => Ok(()),
            Err(Denied { reason, description, .. }) => Err(self.denied(reason, &description)),
        }
    }

    fn denied(&self, reason: &'static str, description: &str) -> DeviceError {
        self.provider.audit.record(&AuditEvent::LoginRefused {
            client: &self.client.id,
            connector: &self.connector.name,
            reason,
        });
        DeviceError::Denied(description.to_owned())
    }

    fn approval(&self) -> Result<DeviceDecision, DeviceError> {
        self.judge()?;
        let payload = seal_grant(self.issuer, &self.device, &self.grant);
        if payload.len() > MAX_PAYLOAD {
            let why = "the user is in more groups than a device can be given: narrow the connector's search";
            return Err(self.denied("GrantTooLarge", why));
        }
        Ok(DeviceDecision::Approved(payload))
    }
}

fn context<'a>(issuer: &'a Issuer, flow: &'a Flow) -> Context<'a> {
    Context { issuer_uid: &issuer.uid, object_name: Some(&flow.id), client_uid: None }
}

/// What a form token stands for that lets this device in: no other, and no other flow.
fn about<'a>(issuer: &'a Issuer, flow: &'a Flow, device: &'a str) -> [&'a [u8]; 3] {
    [issuer.uid.as_bytes(), flow.id.as_bytes(), device.as_bytes()]
}

//! Single sign-on: one user's sign-in in one browser, for all clients that share it.
//!
//! ```text
//! sign-in ─→ Session of type Browser (1 create) ─→ cookie: a sealed ticket that names it
//! next client: ticket ─→ 1 read ─→ the upstream's word, where it is due ─→ policy, consent, answer
//! ```
//! What always holds:
//! - the ticket alone is no sign-in: the stored session is read, so whoever deletes or revokes it has
//!   signed that browser out at once;
//! - how long it was idle is said by the ticket, which is made anew at every use; when it ends for good, by
//!   the stored session; neither costs a write;
//! - only users who can be asked for again have one: what an upstream says no more is not reused.

use std::sync::Arc;

use claviger_seal::{Context, OpenError, Purpose};
use serde::{Deserialize, Serialize};

use crate::authentication::Authentication;
use crate::connector::{Connector, ConnectorData, RecheckError, Refresh};
use crate::cookie::{self, Cookie};
use crate::flow::Flow;
use crate::identity::Identity;
use crate::issuer::Issuer;
use crate::no_verdict::NoVerdict;
use crate::ports::{
    AuditEvent, NewSession, RevocationReason, SessionKind, SessionLabels, SessionState, StoreError,
    StoredSession,
};
use crate::provider::Provider;
use crate::session::{self, UpstreamState};

/// What an issuer says of browser sessions, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrowserSessions {
    /// One that is not used for this long is over.
    pub idle: i64,
    /// One is over after this, used or not.
    pub absolute: i64,
    /// How long a browser remembers what its user consented to.
    pub consent: i64,
}

/// Whether a client takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// A sign-in there begins, and goes on with, the browser's session.
    Shared,
    /// Every sign-in there is one of its own.
    Separate,
}

/// What the cookie says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Name of the stored session.
    #[serde(rename = "n")]
    pub session: String,
    /// When the upstream last vouched for the user.
    #[serde(rename = "t")]
    pub checked_at: i64,
}

/// The sealed part of a stored browser session: its only authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The user, after policy.
    #[serde(rename = "i")]
    pub identity: Identity,
    /// What is needed to ask the upstream again.
    #[serde(rename = "u")]
    pub upstream: UpstreamState,
    /// When and how the user signed in.
    #[serde(rename = "a")]
    pub authentication: Authentication,
    /// When it ends, whatever happens.
    #[serde(rename = "x")]
    pub absolute_expiry: i64,
    /// What signing out at the upstream will take.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub sign_out: Option<ConnectorData>,
}

/// A browser session that stands.
#[derive(Debug, Clone)]
pub struct BrowserSession {
    /// Its name.
    pub name: String,
    /// Its authority.
    pub payload: Payload,
    /// The connector its user signed in with.
    pub connector: Arc<Connector>,
}

/// Name of the cookie.
pub fn cookie_name(issuer: &Issuer) -> String {
    cookie::name_for(issuer, "session")
}

/// What stands in the `sid` of tokens and in a label of client sessions for the browser session of this name.
pub fn hash_of(name: &str) -> String {
    session::object_hash(name)
}

impl Ticket {
    /// The ticket among a browser's cookies, if there is one and its time is not over.
    pub fn of<'c>(
        issuer: &Issuer,
        cookies: impl IntoIterator<Item = (&'c str, &'c str)>,
        now: i64,
    ) -> Option<Self> {
        issuer.browser_sessions?;
        let wanted = cookie_name(issuer);
        let (_, sealed) = cookies.into_iter().find(|(name, _)| *name == wanted)?;
        let plain =
            issuer.sealing.open(Purpose::BrowserTicket, &ticket_context(issuer), now, sealed);
        rmp_serde::from_slice(&plain.ok()?).ok()
    }

    /// The cookie that carries it. It is good for the idle time from now, and gone when the browser closes.
    pub fn cookie(&self, issuer: &Issuer, now: i64) -> Cookie {
        let plain = rmp_serde::to_vec_named(self).unwrap_or_default();
        let idle = issuer.browser_sessions.map_or(0, |policy| policy.idle);
        let context = ticket_context(issuer);
        Cookie {
            name: cookie_name(issuer),
            value: issuer.sealing.seal(Purpose::BrowserTicket, &context, now + idle, &plain),
            seconds: None,
        }
    }
}

impl Payload {
    /// Seals the payload into the session of this name.
    pub fn seal(&self, issuer: &Issuer, name: &str) -> String {
        let plain = rmp_serde::to_vec_named(self).unwrap_or_default();
        let not_after = self.absolute_expiry.saturating_add(crate::SKEW_SECONDS);
        issuer.sealing.seal(Purpose::BrowserPayload, &context(issuer, name), not_after, &plain)
    }

    fn open(issuer: &Issuer, stored: &StoredSession, now: i64) -> Result<Self, OpenError> {
        let context = context(issuer, &stored.name);
        let plain = issuer.sealing.open(Purpose::BrowserPayload, &context, now, &stored.payload)?;
        rmp_serde::from_slice(&plain).map_err(|_| OpenError::Malformed)
    }
}

/// Whether a user of a connector, of whom it kept this, can have browser sessions: only those it can be asked about
/// again, and with something that two sessions can have.
pub fn has_sessions(connector: &Connector, data: Option<&ConnectorData>) -> bool {
    match &connector.refresh {
        Refresh::Memory(recheck) | Refresh::Upstream { recheck, .. } => {
            recheck.can_ask(data) && !recheck.consumes(data)
        }
        Refresh::Unsupported | Refresh::Offline { .. } => false,
    }
}

/// Reads the session a ticket names: one request, none for one that memory knows to be revoked.
///
/// # Errors
/// [`StoreError`] when it cannot be read.
pub async fn read(
    provider: &Provider,
    issuer: &Issuer,
    ticket: &Ticket,
) -> Result<Option<BrowserSession>, StoreError> {
    if provider.revocations.is_revoked(&ticket.session) {
        return Ok(None);
    }
    let Some(stored) = provider.sessions.get(&ticket.session).await? else { return Ok(None) };
    let now = provider.clock.now();
    let Ok(payload) = Payload::open(issuer, &stored, now) else { return Ok(None) };
    let connector = issuer.connector_by_uid(&payload.upstream.connector_uid).cloned();
    let data = payload.upstream.data.as_ref();
    let Some(connector) = connector.filter(|c| has_sessions(c, data)) else { return Ok(None) };
    let stands = stored.state == SessionState::Active && now < payload.absolute_expiry;
    Ok(stands.then(|| BrowserSession { name: stored.name, payload, connector }))
}

/// What comes of asking whether the user of a session is still who they were.
#[derive(Debug)]
pub enum Rechecked {
    /// They are; the ticket to give the browser.
    Good(Box<BrowserSession>, Ticket),
    /// They are not: the session is over.
    Over,
    /// Nobody can say at the moment.
    Unavailable(NoVerdict),
}

/// Asks the upstream about a session's user, where that is due, and stores what changed.
///
/// # Errors
/// [`StoreError`] when that cannot be stored.
pub async fn recheck(
    provider: &Provider,
    issuer: &Issuer,
    mut session: BrowserSession,
    ticket: Ticket,
) -> Result<Rechecked, StoreError> {
    let now = provider.clock.now();
    let (recheck, due) = match &session.connector.refresh {
        Refresh::Memory(recheck) => (Arc::clone(recheck), true),
        Refresh::Upstream { recheck, interval_seconds } => {
            let age = now.saturating_sub(ticket.checked_at);
            (Arc::clone(recheck), age >= *interval_seconds)
        }
        Refresh::Unsupported | Refresh::Offline { .. } => return Ok(Rechecked::Over),
    };
    if !due {
        return Ok(Rechecked::Good(Box::new(session), ticket));
    }
    let known = Identity { groups: Vec::new(), ..session.payload.identity.clone() };
    let data = session.payload.upstream.data.as_ref();
    let answer = match recheck.recheck(&known, data).await {
        Ok(answer) if answer.identity.user_id == known.user_id => answer,
        Ok(_) | Err(RecheckError::Gone(_)) => return end(provider, issuer, &session.name).await,
        Err(RecheckError::Unavailable(why) | RecheckError::Interrupted { why, .. }) => {
            return Ok(Rechecked::Unavailable(why));
        }
    };
    let data = answer.data.clone();
    let identity = match session.connector.policy.admit(answer) {
        Ok(identity) => identity,
        Err(error) if error.is_verdict() => return end(provider, issuer, &session.name).await,
        Err(error) => return Ok(Rechecked::Unavailable(error.to_string().into())),
    };
    if identity != session.payload.identity || data != session.payload.upstream.data {
        session.payload.identity = identity;
        session.payload.upstream.data = data;
        session.payload.upstream.checked_at = now;
        store(provider, issuer, &session).await?;
    }
    let ticket = Ticket { checked_at: now, ..ticket };
    Ok(Rechecked::Good(Box::new(session), ticket))
}

/// Ends a session whose user is no more.
async fn end(provider: &Provider, issuer: &Issuer, name: &str) -> Result<Rechecked, StoreError> {
    revoke_unseen(provider, issuer, name, RevocationReason::UserNoLongerValid).await?;
    Ok(Rechecked::Over)
}

/// Revokes a browser session.
///
/// # Errors
/// [`StoreError`].
pub async fn revoke(
    provider: &Provider,
    name: &str,
    reason: RevocationReason,
) -> Result<(), StoreError> {
    provider.sessions.revoke(name, reason, provider.clock.now()).await?;
    provider.audit.record(&AuditEvent::SessionRevoked { session: name, client: "", reason });
    Ok(())
}

/// Revokes a browser session on the way to something else: ending what its clients have of it, and telling them, is
/// left to the leader, where there is anybody to tell.
pub(crate) async fn revoke_unseen(
    provider: &Provider,
    issuer: &Issuer,
    name: &str,
    reason: RevocationReason,
) -> Result<(), StoreError> {
    if !issuer.tells_clients() {
        return revoke(provider, name, reason).await;
    }
    revoke_and_mark(provider, name, reason).await
}

/// Revokes a browser session and marks it: whoever leads ends what its clients have of it, and tells them, unless
/// that is done and the mark taken off before.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn revoke_and_mark(
    provider: &Provider,
    name: &str,
    reason: RevocationReason,
) -> Result<(), StoreError> {
    provider.sessions.end_and_tell(name, Some(reason), provider.clock.now()).await?;
    provider.audit.record(&AuditEvent::SessionRevoked { session: name, client: "", reason });
    Ok(())
}

/// What a stored browser session of this issuer's says.
pub(crate) fn payload_of(issuer: &Issuer, stored: &StoredSession, now: i64) -> Option<Payload> {
    Payload::open(issuer, stored, now).ok()
}

/// Whether a stored browser session is this issuer's, by its seal.
pub(crate) fn is_of(issuer: &Issuer, stored: &StoredSession, now: i64) -> bool {
    Payload::open(issuer, stored, now).is_ok()
}

async fn store(
    provider: &Provider,
    issuer: &Issuer,
    session: &BrowserSession,
) -> Result<(), StoreError> {
    let sealed = session.payload.seal(issuer, &session.name);
    match provider.sessions.replace_payload(&session.name, &sealed).await {
        // Ended or changed by somebody else meanwhile: this use goes on by what was read, the next reads again.
        Ok(()) | Err(StoreError::PreconditionFailed) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Begins a session for a user who has just signed in, or goes on with that of the same user; that of
/// another user is revoked. Returns its name and the cookie.
///
/// # Errors
/// [`StoreError`].
pub async fn begin(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    (mut payload, before): (Payload, Option<Ticket>),
) -> Result<(String, Cookie), StoreError> {
    let now = provider.clock.now();
    let ticket = |session: &str| Ticket { session: session.to_owned(), checked_at: now };
    if let Some(before) = before
        && let Some(mut session) = read(provider, issuer, &before).await?
    {
        let same = session.payload.upstream.connector_uid == payload.upstream.connector_uid
            && session.payload.identity.user_id == payload.identity.user_id;
        if same {
            payload.absolute_expiry = session.payload.absolute_expiry;
            session.payload = payload;
            store(provider, issuer, &session).await?;
            return Ok((session.name.clone(), ticket(&session.name).cookie(issuer, now)));
        }
        revoke_unseen(provider, issuer, &session.name, RevocationReason::SignedOut).await?;
    }
    let user = (payload.upstream.connector_uid.as_str(), payload.identity.user_id.as_str());
    let name = session::name_for_browser(&issuer.uid, &flow.id, user);
    match provider.sessions.create(&new_session(issuer, &payload, &name, now)).await {
        // A double click: the first one's session is as good.
        Ok(()) | Err(StoreError::AlreadyExists) => {}
        Err(error) => return Err(error),
    }
    Ok((name.clone(), ticket(&name).cookie(issuer, now)))
}

fn new_session(issuer: &Issuer, payload: &Payload, name: &str, now: i64) -> NewSession {
    let connector = issuer.connector_by_uid(&payload.upstream.connector_uid);
    let (uid, user) = (&payload.upstream.connector_uid, &payload.identity.user_id);
    NewSession {
        name: name.to_owned(),
        kind: SessionKind::Browser,
        state: SessionState::Active,
        client_uid: String::new(),
        client_id: String::new(),
        connector: connector.map(|c| c.name.clone()).unwrap_or_default(),
        user: payload.identity.label().to_owned(),
        labels: SessionLabels {
            issuer_hash: session::object_hash(&issuer.uid),
            user_hash: session::user_hash(&issuer.uid, uid, user),
            client_hash: session::object_hash(""),
            browser_hash: None,
        },
        rotated_at: now,
        expires_at: payload.absolute_expiry,
        redemption_id: None,
        payload: payload.seal(issuer, name),
    }
}

fn ticket_context(issuer: &Issuer) -> Context<'_> {
    Context { issuer_uid: &issuer.uid, object_name: None, client_uid: None }
}

fn context<'a>(issuer: &'a Issuer, name: &'a str) -> Context<'a> {
    Context { issuer_uid: &issuer.uid, object_name: Some(name), client_uid: None }
}

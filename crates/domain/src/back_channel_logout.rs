//! What is told to a client whose session is over (OpenID Connect Back-Channel Logout 1.0).
//!
//! ```text
//! sign-out ─→ the client's Session: over, and yet to be told (one patch) ─→ leader: notice ─→ POST ─→ told (one patch)
//! ```
//! What always holds: what is yet to be told is said by the stored session alone, so that it outlives any process; what
//! is told comes from its sealed part and from the configuration of the moment, never from a label; a token is made
//! anew for every try. Telling twice is harmless, since the `jti` is the same.

use std::sync::Arc;

use async_trait::async_trait;
pub use claviger_protocol::logout_token::LOGOUT_TOKEN;
use secrecy::SecretString;
use thiserror::Error;

use crate::browser_session;
use crate::client::Client;
use crate::client_logout::Named;
use crate::issue;
use crate::issuer::{ClientEntry, Issuer};
use crate::logout_token::{Over, logout_token};
use crate::ports::{RevocationReason, SessionState, StoreError, StoredSession};
use crate::provider::Provider;
use crate::session::Payload;
use crate::sign_out::end_clients;
use crate::snapshot::Snapshot;

/// Longest time after the sign-out in which a client is told, in seconds: as long as a tombstone lives.
pub const TELL_SECONDS: i64 = 86_400;

/// What one client is told, where. The token is for it alone.
#[derive(Debug)]
pub struct Notice {
    /// `client_id`, for logs.
    pub client: String,
    /// Where it goes.
    pub uri: String,
    /// The logout token.
    pub token: SecretString,
}

/// What comes of a session that is marked.
#[derive(Debug)]
pub enum Due {
    /// Its client is told.
    Tell(Notice),
    /// It was a browser's: its clients' sessions are marked now, and it needs no mark any more.
    SpreadOut,
    /// There is nobody to tell, and why.
    Nobody(&'static str),
    /// Somebody should be told, but nobody can say who, and why.
    Lost(&'static str),
}

/// Why it cannot be said yet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotNow {
    /// The configuration, the clock or the key is not in order at the moment.
    #[error("{0}")]
    Unready(String),
    /// The session's client is out of service: its own affair, and that of all its sessions.
    #[error("its client is out of service")]
    ClientOut,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a client was not told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TellError {
    /// It answered 400: it will not have this token, now or later (2.8).
    #[error("the client refused the logout token: {0}")]
    Refused(String),
    /// It did not answer, or not as the specification says: try again.
    #[error("{0}")]
    Unavailable(String),
}

/// Brings a logout token to a client.
#[async_trait]
pub trait Receivers: Send + Sync + std::fmt::Debug {
    /// One POST to an address that policy admits, bounded in time and size, no redirect followed. 200 and 204
    /// are success (2.8).
    ///
    /// # Errors
    /// [`TellError`].
    async fn tell(&self, notice: &Notice) -> Result<(), TellError>;
}

/// Decides what comes of a marked session: one that is a client's costs no request, one that is a browser's those
/// of ending its clients' sessions. What it seals is read as it could be when it was marked, at `since`: telling may
/// take longer than the session would have lasted.
///
/// # Errors
/// [`NotNow`]: the mark stays.
pub async fn due(
    provider: &Provider,
    snapshot: &Snapshot,
    session: &StoredSession,
    since: i64,
) -> Result<Due, NotNow> {
    if let Some(doubt) = provider.clock.doubt() {
        return Err(NotNow::Unready(doubt));
    }
    if !snapshot.published {
        return Err(NotNow::Unready("the configuration was not read yet".to_owned()));
    }
    if session.client_uid.is_empty() {
        return spread_out(provider, snapshot, session, since).await;
    }
    match client_of(snapshot, &session.client_uid) {
        Some((issuer, ClientEntry::InService(client))) => {
            notice(provider, (issuer, client), session, since)
        }
        // How it wants to be told is seen when it is back.
        Some((_, ClientEntry::OutOfService(_))) => Err(NotNow::ClientOut),
        None => unless_waiting(snapshot, "its client is gone"),
    }
}

/// Ends the clients' sessions of a browser session that ended without its browser being there: by an
/// administrator's word, or that of an upstream.
async fn spread_out(
    provider: &Provider,
    snapshot: &Snapshot,
    session: &StoredSession,
    since: i64,
) -> Result<Due, NotNow> {
    let found = snapshot.issuers.iter().find(|i| browser_session::is_of(i, session, since));
    let Some(issuer) = found else {
        let why = "its issuer is gone, or it cannot be read";
        return unless_waiting(snapshot, why).map(|_| Due::Lost(why));
    };
    let reason = RevocationReason::SignedOut;
    if session.state != SessionState::Revoked {
        browser_session::revoke(provider, &session.name, reason).await?;
    }
    end_clients(provider, issuer, &browser_session::hash_of(&session.name), reason).await?;
    Ok(Due::SpreadOut)
}

fn notice(
    provider: &Provider,
    (issuer, client): (&Issuer, &Client),
    session: &StoredSession,
    since: i64,
) -> Result<Due, NotNow> {
    let Some(back_channel) = &client.logout.back_channel else {
        return Ok(Due::Nobody("its client has no backChannelLogout any more"));
    };
    let Ok(payload) = Payload::open(issuer, &client.uid, session, since) else {
        return Ok(Due::Lost("it cannot be read"));
    };
    // Whoever may write labels is not to tell clients that a session is over which is not.
    if session.state != SessionState::Revoked && !payload.outlives_browser() {
        return Ok(Due::Nobody("it is not over"));
    }
    let Some(sid) = payload.browser.as_deref() else {
        return Ok(Due::Nobody("it came of no browser session"));
    };
    let connector = issuer.connector_by_uid(&payload.upstream.connector_uid);
    let sub = connector
        .filter(|_| back_channel.names == Named::SessionAndUser)
        .map(|connector| issue::subject(issuer, connector, &payload.identity));
    let over = Over { session: &session.name, sid, sub: sub.as_deref() };
    match logout_token(provider, issuer, client, over) {
        Ok(token) => Ok(Due::Tell(Notice {
            client: client.id.clone(),
            uri: back_channel.uri.clone(),
            token: token.into(),
        })),
        Err(error) => Err(NotNow::Unready(error.to_string())),
    }
}

fn client_of<'s>(snapshot: &'s Snapshot, uid: &str) -> Option<(&'s Arc<Issuer>, &'s ClientEntry)> {
    snapshot.issuers.iter().find_map(|issuer| Some((issuer, issuer.entry_by_uid(uid)?)))
}

/// Nobody, unless an issuer is out of service: whose clients and browsers those are is not known.
fn unless_waiting(snapshot: &Snapshot, why: &'static str) -> Result<Due, NotNow> {
    if !snapshot.unavailable.is_empty() {
        return Err(NotNow::Unready(format!("{why}, or its issuer is out of service")));
    }
    Ok(Due::Nobody(why))
}

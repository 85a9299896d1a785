//! What an upstream tells by itself: that a user has signed out there (OpenID Connect Back-Channel Logout 1.0), and what
//! ends for it, however it was told.
//!
//! ```text
//! logout token, or a message by the browser (`single_logout`)
//!   ↓ the connector: believed? ── no ─→ refused; nobody is asked for anything but the provider's keys
//!   └ sessions of that user at that connector (1 list) ─→ over: the browsers' and, but for `offline_access` where the upstream is asked, the clients'
//! ```
//! What always holds: only what the upstream signed for us costs the session store anything; which sessions are meant is
//! said by their sealed part, never by a label; one that began after the user signed out there stays, so that a token that
//! comes again ends nothing new. Refresh tokens for use while the user is away outlive it (2.7) where the
//! upstream is asked about them; where nobody can be, its word is the last.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::browser_session;
use crate::connector::{Connector, Login, Refresh};
use crate::issuer::Issuer;
use crate::ports::{AuditEvent, RevocationReason, SessionState, StoreError, StoredSession};
use crate::provider::Provider;
use crate::session::{self, Payload};
use crate::trip::RedirectLogin;

/// Why it ends, as Session, log and metrics say it.
const REASON: RevocationReason = RevocationReason::SignedOut;

/// Who has signed out at an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOutThere {
    /// The user, as the connector names them.
    pub user_id: String,
    /// Which sessions of theirs at the upstream; all of them, if it does not say.
    pub sids: Vec<String>,
    /// When it said so, in seconds since the Unix epoch.
    pub at: i64,
}

/// Reads what an upstream tells by itself.
#[async_trait]
pub trait LogoutNotices: Send + Sync + fmt::Debug {
    /// Whom a logout token is about (Back-Channel Logout 1.0 2.6).
    ///
    /// # Errors
    /// [`NoticeError::Refused`] for what is not believed, [`NoticeError::Unavailable`] where the keys cannot be had.
    async fn read(&self, logout_token: &str, now: i64) -> Result<SignedOutThere, NoticeError>;
}

/// Why nothing ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoticeError {
    /// No connector of that name hears such things.
    #[error("no connector of this name hears of sign-outs")]
    NoConnector,
    /// What was told is not believed.
    #[error("{message}")]
    Refused {
        /// One word for audit, such as `WrongAudience`.
        reason: &'static str,
        /// For logs, and for the sender of a logout token, of which it holds nothing.
        message: String,
    },
    /// Keys or sessions cannot be had: the same token may do later.
    #[error("temporarily unavailable: {0}")]
    Unavailable(String),
}

impl From<StoreError> for NoticeError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Ends what the upstream of the connector of this name says is over. Who is not believed is for the caller to [`note`].
///
/// # Errors
/// [`NoticeError`]; what has ended stays so, and the token may be sent again.
pub async fn end(
    provider: &Provider,
    issuer: &Issuer,
    connector: &str,
    logout_token: &str,
) -> Result<(), NoticeError> {
    let connector = issuer.connectors.iter().find(|known| known.name == connector);
    let connector = connector.ok_or(NoticeError::NoConnector)?;
    let Login::Redirect(upstream) = &connector.login else { return Err(NoticeError::NoConnector) };
    let notices = upstream.notices().ok_or(NoticeError::NoConnector)?;
    if let Some(doubt) = provider.clock.doubt() {
        return Err(NoticeError::Unavailable(doubt));
    }
    let now = provider.clock.now();
    let told = notices.read(logout_token, now).await?;
    Ok(end_told(provider, issuer, (connector, upstream.as_ref()), &told).await?)
}

/// Ends what is over by what was told and believed: 1 list, and 1 patch a session.
///
/// # Errors
/// [`StoreError`]; what has ended stays so.
pub(crate) async fn end_told(
    provider: &Provider,
    issuer: &Issuer,
    (connector, upstream): (&Connector, &dyn RedirectLogin),
    told: &SignedOutThere,
) -> Result<(), StoreError> {
    let now = provider.clock.now();
    let notice = Notice { issuer, connector, told, upstream };
    let hash = session::user_hash(&issuer.uid, &connector.uid, &told.user_id);
    let mut failed = None;
    for session in provider.sessions.of_user(&hash).await? {
        // One that cannot be ended keeps no other: the sender may never come again.
        if let Err(error) = notice.end(provider, &session, now).await {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Notes that what came for the connector of this name is not believed.
pub fn note(provider: &Provider, connector: &str, error: &NoticeError) {
    if let NoticeError::Refused { reason, .. } = error {
        provider.audit.record(&AuditEvent::LogoutRefused { connector, reason });
    }
}

/// Whose session is over.
enum Over {
    Browser,
    Client,
}

/// What was told, and what it is held against.
struct Notice<'a> {
    issuer: &'a Issuer,
    connector: &'a Connector,
    told: &'a SignedOutThere,
    upstream: &'a dyn RedirectLogin,
}

impl Notice<'_> {
    async fn end(
        &self,
        provider: &Provider,
        session: &StoredSession,
        now: i64,
    ) -> Result<(), StoreError> {
        match self.ends(session, now) {
            Some(Over::Browser) => {
                browser_session::revoke_unseen(provider, self.issuer, &session.name, REASON).await
            }
            Some(Over::Client) => {
                provider.sessions.revoke(&session.name, REASON, now).await?;
                let client = self.issuer.client_by_uid(&session.client_uid);
                provider.audit.record(&AuditEvent::SessionRevoked {
                    session: &session.name,
                    client: client.map_or("", |client| client.id.as_str()),
                    reason: REASON,
                });
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn ends(&self, stored: &StoredSession, now: i64) -> Option<Over> {
        if stored.state == SessionState::Revoked {
            return None;
        }
        let (upstream, user, began, over) = if stored.client_uid.is_empty() {
            let payload = browser_session::payload_of(self.issuer, stored, now)?;
            let user = payload.identity.user_id;
            (payload.upstream, user, payload.authentication.time, Over::Browser)
        } else {
            let payload = Payload::open(self.issuer, &stored.client_uid, stored, now).ok()?;
            let outlives = stored.state == SessionState::Active && payload.outlives_browser();
            if outlives && self.connector.refresh.asks() {
                return None;
            }
            let user = payload.identity.user_id;
            (payload.upstream, user, payload.authentication.time, Over::Client)
        };
        let is_meant = upstream.connector_uid == self.connector.uid
            && user == self.told.user_id
            && began <= self.told.at.saturating_add(crate::SKEW_SECONDS);
        // What is kept for offline use is not the connector's own: such sessions are not told apart.
        let is_offline = matches!(self.connector.refresh, Refresh::Offline { .. });
        let data = upstream.data.as_ref().filter(|_| !is_offline);
        let of = self.upstream.session_there(data);
        let told = &self.told.sids;
        let is_another = of.is_some_and(|of| !told.is_empty() && !told.contains(&of));
        (is_meant && !is_another).then_some(over)
    }
}

//! What an upstream tells by itself: that a user has signed out there (OpenID Connect Back-Channel Logout 1.0).
//!
//! ```text
//! logout token ─→ the connector: believed? ── no ─→ refused; nobody is asked for anything but the provider's keys
//!   └ sessions of that user at that connector (1 list) ─→ over: the browsers' and, but for `offline_access`, the clients'
//! ```
//! What always holds: only a token that the upstream signed for us costs the session store anything; which sessions are meant is
//! said by their sealed part, never by a label; one that began after the user signed out there stays, so that a token that
//! comes again ends nothing new. Refresh tokens for use while the user is away outlive it (2.7): the upstream is asked about them.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::browser_session;
use crate::connector::{Connector, ConnectorData, Login};
use crate::issuer::Issuer;
use crate::ports::{AuditEvent, RevocationReason, SessionState, StoreError, StoredSession};
use crate::provider::Provider;
use crate::session::{self, Payload};

/// Why it ends, as Session, log and metrics say it.
const REASON: RevocationReason = RevocationReason::SignedOut;

/// Who has signed out at an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOutThere {
    /// The user, as the connector names them.
    pub user_id: String,
    /// Which session of theirs at the upstream; all of them, if it does not say.
    pub sid: Option<String>,
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

    /// The upstream's session that a user's data came of, if that is known.
    fn sid(&self, data: Option<&ConnectorData>) -> Option<String>;
}

/// Why nothing ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoticeError {
    /// No connector of that name hears such things.
    #[error("no connector of this name hears of sign-outs")]
    NoConnector,
    /// The token is not believed.
    #[error("logout_token: {message}")]
    Refused {
        /// One word for audit, such as `WrongAudience`.
        reason: &'static str,
        /// For the sender and for logs; holds nothing of the token.
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
    let notice = Notice { issuer, connector, told: &told, notices };
    let hash = session::user_hash(&issuer.uid, &connector.uid, &told.user_id);
    let mut failed = None;
    for session in provider.sessions.of_user(&hash).await? {
        // One that cannot be ended keeps no other: the sender may never come again.
        if let Err(error) = notice.end(provider, &session, now).await {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
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
    notices: &'a dyn LogoutNotices,
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
            if stored.state == SessionState::Active && payload.outlives_browser() {
                return None;
            }
            let user = payload.identity.user_id;
            (payload.upstream, user, payload.authentication.time, Over::Client)
        };
        let is_meant = upstream.connector_uid == self.connector.uid
            && user == self.told.user_id
            && began <= self.told.at.saturating_add(crate::SKEW_SECONDS);
        let of = self.notices.sid(upstream.data.as_ref());
        let is_another = of.zip(self.told.sid.as_ref()).is_some_and(|(of, told)| of != *told);
        (is_meant && !is_another).then_some(over)
    }
}

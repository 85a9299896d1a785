//! What the sweep for session limits asks of the API server: counts, pages of metadata, revocations.

use std::sync::Arc;

use claviger_api::Session;
use claviger_domain::ports::RevocationReason;
use kube::Api;
use kube::api::Patch;
use serde::de::IgnoredAny;

use crate::collection::{Collection, Page, PageError, within};
use crate::revoked::RevokedSessions;
use crate::session::{params, tombstone};
use crate::tally::Listed;

/// Looks at all sessions, and revokes some.
#[derive(Clone)]
pub struct SessionSweep {
    sessions: Collection,
    api: Api<Session>,
    revoked: Arc<RevokedSessions>,
}

impl SessionSweep {
    /// Sweeps the sessions of a namespace; `client` must not retry by itself. What is revoked is known
    /// in `revoked` at once.
    pub fn new(client: kube::Client, namespace: &str, revoked: Arc<RevokedSessions>) -> Self {
        Self {
            sessions: Collection::of::<Session>(client.clone(), namespace),
            api: Api::namespaced(client, namespace),
            revoked,
        }
    }

    /// How many sessions are stored, live or not: one request, one object.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn count(&self) -> Result<u64, PageError> {
        let page: Page<IgnoredAny> = self.sessions.page("", 1, None).await?;
        let remaining = u64::try_from(page.remaining.unwrap_or_default()).unwrap_or_default();
        Ok(page.items.len() as u64 + remaining)
    }

    /// A page of all sessions.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn page(&self, limit: u32, next: Option<String>) -> Result<Page<Listed>, PageError> {
        self.sessions.page("", limit, next).await
    }

    /// Revokes a session because there are too many, and says of which client it was; `None` if it is
    /// gone.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn revoke(&self, name: &str, now: i64) -> Result<Option<String>, PageError> {
        let patch = Patch::Merge(tombstone(RevocationReason::SessionLimitExceeded, now));
        match within(self.api.patch(name, &params(), &patch)).await {
            Ok(session) => {
                self.revoked.insert(name);
                Ok(Some(session.spec.client_id))
            }
            Err(PageError::Changed) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

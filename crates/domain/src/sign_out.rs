//! What ends when a browser's session ends, and which clients are told.
//!
//! ```text
//! sessions of clients that came of it ─→ plan ─→ a patch each: over, yet to be told, or both
//! ```
//! What always holds:
//! - refresh tokens given for use while the user is away (`offline_access`) outlive the browser's session (Back-Channel
//!   Logout 1.0 2.7); their clients are told all the same;
//! - each client is told once of a browser's session, however many sessions it has of it;
//! - the browser's own session goes first, so that no client gets another of it meanwhile; its mark stays until the
//!   rest is done, so that what failed half-way is done again.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::client::Client;
use crate::issuer::{ClientEntry, Issuer};
use crate::ports::{AuditEvent, RevocationReason, SessionState, StoreError, StoredSession};
use crate::provider::Provider;
use crate::session::Payload;

/// Clients that are told of the end of one browser's session; each is a delivery.
pub const MAX_TOLD: usize = 64;

/// What becomes of one session.
struct Step {
    session: StoredSession,
    /// `None` where the client is gone or out of service.
    client: Option<Arc<Client>>,
    ends: bool,
    tell: bool,
}

/// Ends the sessions of clients that came of a browser session, by its hash, and marks those whose clients are to be
/// told. Returns the clients that had part in it.
///
/// # Errors
/// [`StoreError`]: try again, what was ended stays so.
pub(crate) async fn end_clients(
    provider: &Provider,
    issuer: &Issuer,
    browser_hash: &str,
    reason: RevocationReason,
) -> Result<Vec<Arc<Client>>, StoreError> {
    let now = provider.clock.now();
    let sessions = provider.sessions.of_browser(browser_hash).await?;
    let mut had_part: Vec<Arc<Client>> = Vec::new();
    for Step { session, client, ends, tell } in plan(issuer, sessions, now) {
        let name = &session.name;
        match (ends, tell) {
            (_, true) => {
                provider.sessions.end_and_tell(name, ends.then_some(reason), now).await?;
            }
            (true, false) => provider.sessions.revoke(name, reason, now).await?,
            (false, false) => {}
        }
        if ends {
            let client = client.as_ref().map_or("", |client| client.id.as_str());
            provider.audit.record(&AuditEvent::SessionRevoked { session: name, client, reason });
        }
        if let Some(client) = client.filter(|c| had_part.iter().all(|known| known.uid != c.uid)) {
            had_part.push(client);
        }
    }
    Ok(had_part)
}

/// Those that end come first: telling their clients costs no write of its own.
fn plan(issuer: &Issuer, sessions: Vec<StoredSession>, now: i64) -> Vec<Step> {
    let mut steps: Vec<Step> = sessions
        .into_iter()
        .map(|session| Step {
            client: issuer.client_by_uid(&session.client_uid).cloned(),
            ends: session.state != SessionState::Revoked && !outlives(issuer, &session, now),
            tell: false,
            session,
        })
        .collect();
    steps.sort_by_key(|step| !step.ends);
    let mut told = BTreeSet::new();
    for step in &mut steps {
        let is_told = match issuer.entry_by_uid(&step.session.client_uid) {
            Some(ClientEntry::InService(client)) => client.logout.back_channel.is_some(),
            // How it wants to be told is seen when it is back.
            Some(ClientEntry::OutOfService(_)) => true,
            None => false,
        };
        if is_told && told.len() < MAX_TOLD {
            step.tell = told.insert(step.session.client_uid.clone());
        }
    }
    if told.len() == MAX_TOLD {
        tracing::warn!(MAX_TOLD, "no more clients of one browser are told that it signed out");
    }
    steps
}

/// Whether a session is meant to outlive the browser's. One that waits for its code is not: it gave out no refresh
/// token.
fn outlives(issuer: &Issuer, session: &StoredSession, now: i64) -> bool {
    session.state == SessionState::Active
        && Payload::open(issuer, &session.client_uid, session, now)
            .is_ok_and(|payload| payload.outlives_browser())
}

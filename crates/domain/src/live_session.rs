//! A session that still stands: stored, Active (or Pending, until its time is up), its client's own, and let
//! in by the configuration of this moment. What asks about a session without using it up asks here: one quorum read, none for a
//! session that memory knows to be revoked.

use std::sync::Arc;

use claviger_protocol::scope::ScopeSet;

use crate::client::Client;
use crate::client_policy::{self, Arrival, NotAdmitted};
use crate::connector::Connector;
use crate::issuer::{ClientEntry, Issuer};
use crate::offline;
use crate::ports::{SessionState, StoredSession};
use crate::provider::Provider;
use crate::session::Payload;
use crate::token::TokenError;

/// A session as a quorum read found it.
#[derive(Debug)]
pub struct LiveSession {
    /// What is stored.
    pub stored: StoredSession,
    /// Its sealed part; `absolute_expiry` is never later than the connector lets it be.
    pub payload: Payload,
    /// The connector its user signed in with.
    pub connector: Arc<Connector>,
}

impl LiveSession {
    /// Reads the session of this name; `None` when it does not stand.
    ///
    /// # Errors
    /// [`TokenError::Unavailable`] when the store cannot be read, the connector is out of service, or
    /// the client's condition says nothing.
    pub async fn read(
        provider: &Provider,
        issuer: &Issuer,
        client: &Client,
        name: &str,
    ) -> Result<Option<Self>, TokenError> {
        let Some(stored) = stored(provider, name).await? else { return Ok(None) };
        Self::standing(issuer, client, stored, provider.clock.now())
    }

    /// Reads the session of this name, whosever it is: its client comes with it.
    ///
    /// # Errors
    /// [`TokenError::Unavailable`] when the store cannot be read, or its client or connector is out of service.
    pub async fn of_anybody(
        provider: &Provider,
        issuer: &Issuer,
        name: &str,
    ) -> Result<Option<Self>, TokenError> {
        let Some(stored) = stored(provider, name).await? else { return Ok(None) };
        match issuer.entry_by_uid(&stored.client_uid) {
            Some(ClientEntry::InService(owner)) => {
                Self::standing(issuer, owner, stored, provider.clock.now())
            }
            Some(ClientEntry::OutOfService(_)) => {
                Err(TokenError::unavailable("the session's client is out of service"))
            }
            None => Ok(None),
        }
    }

    fn standing(
        issuer: &Issuer,
        client: &Client,
        stored: StoredSession,
        now: i64,
    ) -> Result<Option<Self>, TokenError> {
        let is_live = match stored.state {
            SessionState::Active => true,
            // Its code waits to be redeemed; the access token that came with it is good meanwhile.
            SessionState::Pending => now < stored.expires_at,
            SessionState::Revoked => false,
        };
        if !is_live || stored.client_uid != client.uid {
            return Ok(None);
        }
        let Ok(mut payload) = Payload::open(issuer, &client.uid, &stored, now) else {
            return Ok(None);
        };
        let uid = &payload.upstream.connector_uid;
        let Some(connector) = issuer.connector_by_uid(uid).cloned() else {
            if issuer.unavailable_connectors.contains(uid) {
                return Err(TokenError::unavailable("the connector is out of service"));
            }
            return Ok(None);
        };
        payload.absolute_expiry =
            offline::end(&connector, payload.authentication.time, payload.absolute_expiry);
        let admitted = client.admits(&connector)
            && client.allows_acr(payload.authentication.acr.as_deref())
            && now < payload.absolute_expiry;
        let Some(scopes) = ScopeSet::parse(&payload.scopes).ok().filter(|_| admitted) else {
            return Ok(None);
        };
        let acr = payload.authentication.acr.as_deref();
        let arrival =
            Arrival { identity: &payload.identity, connector: &connector, acr, scopes: &scopes };
        match client_policy::admit(issuer, client, arrival) {
            Ok(()) => Ok(Some(Self { stored, payload, connector })),
            Err(unknown @ NotAdmitted::Unknown(_)) => Err(unknown.into()),
            Err(NotAdmitted::Groups | NotAdmitted::Condition(_)) => Ok(None),
        }
    }
}

async fn stored(provider: &Provider, name: &str) -> Result<Option<StoredSession>, TokenError> {
    if provider.revocations.is_revoked(name) {
        return Ok(None);
    }
    Ok(provider.sessions.get(name).await?)
}

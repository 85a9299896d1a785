//! `refresh_token` (RFC 6749 6): one atomic request rotates, proves and returns the session.
//!
//! ```text
//! MAC, expiry, connector tag ── bad ─→ refused, no request
//!   │ upstream answers from memory ─→ PATCH (generation n → n+1), then ask memory
//!   │ upstream is remote           ─→ GET, ask upstream if due, PATCH
//!   └ PATCH refused ─→ GET decides: honest retry · reuse (revoked) · over · 503
//! ```
//! Only a verdict about this user revokes; an outage rotates nothing.

use std::sync::Arc;

use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::{RefreshTokenRequest, TokenResponse};
use secrecy::ExposeSecret;

use super::{Proven, refresh_expiry, respond};
use crate::client::Client;
use crate::connector::{Authenticated, Connector, Recheck, RecheckError, Refresh};
use crate::identity::Identity;
use crate::issue::{self, Subject};
use crate::issuer::Issuer;
use crate::ports::{AuditEvent, RevocationReason, Rotation, StoreError, StoredSession};
use crate::provider::Provider;
use crate::refresh_token::{Binding, RefreshToken, connector_tag};
use crate::session::{Payload, Standing, standing};
use crate::token::TokenError;

const INVALID: &str = "the refresh token is invalid, has expired or was revoked";

/// Answers a refresh.
///
/// # Errors
/// [`TokenError`].
pub async fn refresh(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &RefreshTokenRequest,
) -> Result<TokenResponse, TokenError> {
    let now = provider.clock.now();
    let binding = Binding { issuer_uid: &issuer.uid, client_uid: &client.uid };
    let token =
        RefreshToken::decode(request.refresh_token.expose_secret(), &issuer.sealing, binding, now)
            .map_err(|_| invalid())?;
    let connector = connector_of(issuer, &token)?;
    let refreshing = Refreshing { provider, issuer, client, connector, token, now };
    let (session, payload) = match &refreshing.connector.refresh {
        Refresh::Unsupported => return Err(invalid()),
        Refresh::Memory(recheck) => refreshing.rotate_then_ask(recheck.as_ref()).await?,
        Refresh::Upstream { recheck, interval_seconds } => {
            refreshing.ask_then_rotate(recheck.as_ref(), *interval_seconds).await?
        }
    };
    refreshing.respond(&session, &payload, request.scope.as_ref())
}

/// The connector a token's tag names: gone is `invalid_grant`, out of service is 503.
fn connector_of(issuer: &Issuer, token: &RefreshToken) -> Result<Arc<Connector>, TokenError> {
    let tag = &token.connector_tag;
    if let Some(connector) = issuer.connectors.iter().find(|c| connector_tag(&c.uid) == *tag) {
        return Ok(Arc::clone(connector));
    }
    if issuer.unavailable_connectors.iter().any(|uid| connector_tag(uid) == *tag) {
        return Err(TokenError::unavailable("the connector is out of service"));
    }
    Err(invalid())
}

struct Refreshing<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    client: &'a Client,
    connector: Arc<Connector>,
    token: RefreshToken,
    now: i64,
}

impl Refreshing<'_> {
    /// For upstreams that answer from memory: one request in all.
    async fn rotate_then_ask(
        &self,
        recheck: &dyn Recheck,
    ) -> Result<(StoredSession, Payload), TokenError> {
        let expires_at = self.now.saturating_add(self.client.lifetimes.refresh_idle);
        let session = match self.rotate(expires_at, None).await {
            Ok(session) => session,
            Err(StoreError::PreconditionFailed) => self.settle_conflict().await?,
            Err(error) => return Err(error.into()),
        };
        let mut payload = self.open(&session)?;
        if let Some(authenticated) = self.ask(recheck, &payload).await? {
            payload.identity = self.admit(authenticated).await?.0;
        }
        Ok((session, payload))
    }

    /// For remote upstreams: nothing is rotated before the upstream has vouched for the user.
    async fn ask_then_rotate(
        &self,
        recheck: &dyn Recheck,
        interval: i64,
    ) -> Result<(StoredSession, Payload), TokenError> {
        let session = self.read().await?;
        match self.judge(&session) {
            Standing::Current => {}
            _ => return self.retry_or_refuse(session).await,
        }
        let mut payload = self.open(&session)?;
        if self.now.saturating_sub(payload.upstream.checked_at) >= interval
            && let Some(authenticated) = self.ask(recheck, &payload).await?
        {
            let (identity, data) = self.admit(authenticated).await?;
            payload.identity = identity;
            payload.upstream.data = data;
            payload.upstream.checked_at = self.now;
        }
        let expires_at = refresh_expiry(self.client, self.now, payload.absolute_expiry);
        let sealed = payload.seal(self.issuer, &self.token.session);
        match self.rotate(expires_at, Some(sealed)).await {
            Ok(session) => Ok((session, payload)),
            Err(StoreError::PreconditionFailed) => {
                let session = self.settle_conflict().await?;
                let payload = self.open(&session)?;
                Ok((session, payload))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn rotate(
        &self,
        expires_at: i64,
        payload: Option<String>,
    ) -> Result<StoredSession, StoreError> {
        let rotation = Rotation {
            name: self.token.session.clone(),
            client_uid: self.client.uid.clone(),
            from_generation: self.token.generation,
            rotated_at: self.now,
            expires_at,
            payload,
        };
        self.provider.sessions.rotate(&rotation).await
    }

    /// The rotation was refused: one quorum read says why.
    async fn settle_conflict(&self) -> Result<StoredSession, TokenError> {
        let session = self.read().await?;
        if self.judge(&session) == Standing::Current {
            return Err(TokenError::unavailable("the API server refused a current generation"));
        }
        Ok(self.retry_or_refuse(session).await?.0)
    }

    async fn retry_or_refuse(
        &self,
        session: StoredSession,
    ) -> Result<(StoredSession, Payload), TokenError> {
        match self.judge(&session) {
            Standing::HonestRetry => {
                let payload = self.open(&session)?;
                Ok((session, payload))
            }
            Standing::Reused => {
                self.revoke(RevocationReason::RefreshTokenReused).await?;
                Err(invalid())
            }
            Standing::Current | Standing::Refused => Err(invalid()),
        }
    }

    async fn read(&self) -> Result<StoredSession, TokenError> {
        self.provider.sessions.get(&self.token.session).await?.ok_or_else(invalid)
    }

    fn judge(&self, session: &StoredSession) -> Standing {
        let grace = self.client.lifetimes.refresh_grace;
        standing(session, &self.client.uid, self.token.generation, self.now, grace)
    }

    fn open(&self, session: &StoredSession) -> Result<Payload, TokenError> {
        let payload = Payload::open(self.issuer, &session.name, &session.payload, self.now)
            .map_err(|_| invalid())?;
        let ours = payload.client_uid == self.client.uid
            && payload.upstream.connector_uid == self.connector.uid
            && self.now < payload.absolute_expiry;
        if ours { Ok(payload) } else { Err(invalid()) }
    }

    /// Asks the upstream; a verdict against the user ends the session.
    async fn ask(
        &self,
        recheck: &dyn Recheck,
        payload: &Payload,
    ) -> Result<Option<Authenticated>, TokenError> {
        let known = Identity { groups: Vec::new(), ..payload.identity.clone() };
        match recheck.recheck(&known, payload.upstream.data.as_ref()).await {
            Ok(authenticated) if authenticated.identity.user_id == known.user_id => {
                Ok(Some(authenticated))
            }
            Ok(_) | Err(RecheckError::Gone(_)) => {
                self.revoke(RevocationReason::UserNoLongerValid).await?;
                Err(invalid())
            }
            Err(error @ RecheckError::Unavailable(_)) => {
                Err(TokenError::unavailable(error.to_string()))
            }
        }
    }

    /// Policy is applied at refresh as at login; what it no longer admits ends the session.
    async fn admit(
        &self,
        authenticated: Authenticated,
    ) -> Result<(Identity, Option<crate::connector::ConnectorData>), TokenError> {
        match self.connector.policy.admit(authenticated.identity) {
            Ok(identity) if self.client.allows_groups(&identity.groups) => {
                Ok((identity, authenticated.data))
            }
            Ok(_) | Err(_) => {
                self.revoke(RevocationReason::UserNoLongerValid).await?;
                Err(invalid())
            }
        }
    }

    async fn revoke(&self, reason: RevocationReason) -> Result<(), TokenError> {
        self.provider.sessions.revoke(&self.token.session, reason).await?;
        self.provider.audit.record(&AuditEvent::SessionRevoked {
            session: &self.token.session,
            client: &self.client.id,
            reason,
        });
        Ok(())
    }

    fn respond(
        &self,
        session: &StoredSession,
        payload: &Payload,
        requested: Option<&ScopeSet>,
    ) -> Result<TokenResponse, TokenError> {
        let granted = ScopeSet::parse(&payload.scopes).map_err(|_| invalid())?;
        let scopes = narrowed(&granted, requested)?;
        let about = Subject {
            identity: &payload.identity,
            connector: &self.connector,
            client: self.client,
            scopes: &scopes,
        };
        issue::check(self.issuer, about)?;
        let not_after = session.expires_at.min(payload.absolute_expiry);
        let proven = Proven {
            name: &session.name,
            payload,
            connector: &self.connector,
            scopes: &scopes,
            refresh: Some((session.generation, not_after)),
        };
        let response = respond(self.provider, self.issuer, self.client, &proven)?;
        self.provider.audit.record(&AuditEvent::SessionRefreshed {
            session: &session.name,
            client: &self.client.id,
        });
        Ok(response)
    }
}

/// The scopes of this answer: what was asked for, never more than was granted (RFC 6749 6).
fn narrowed(granted: &ScopeSet, requested: Option<&ScopeSet>) -> Result<ScopeSet, TokenError> {
    match requested {
        None => Ok(granted.clone()),
        Some(requested) if requested.is_subset(granted) => Ok(requested.clone()),
        Some(_) => Err(TokenError::refused(
            ErrorCode::InvalidScope,
            "scope must not exceed what was granted at login",
        )),
    }
}

fn invalid() -> TokenError {
    TokenError::invalid_grant(INVALID)
}

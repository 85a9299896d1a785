//! `refresh_token` (RFC 6749 6): one atomic request rotates, proves and returns the session.
//!
//! ```text
//! MAC, expiry, connector tag ── bad ─→ refused, no request
//!   │ upstream's answer is certain ─→ PATCH (generation n → n+1), then ask memory or the session
//!   │ any other                    ─→ GET, ask upstream if due, decide everything, PATCH
//!   └ PATCH refused or its answer lost ─→ GET decides: honest retry · reuse (revoked) · over ·
//!                                          labels removed by hand (PATCH with them) · 503
//! ```
//! Only a verdict about this user revokes; an outage rotates nothing.

mod claim;

use std::sync::Arc;

use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::{RefreshTokenRequest, TokenResponse};
use secrecy::ExposeSecret;

use super::{Proven, narrowed_resources, refresh_expiry, respond};
use crate::client::Client;
use crate::client_policy::{self, Arrival, NotAdmitted};
use crate::connector::{Authenticated, Connector, ConnectorData, Recheck, RecheckError, Refresh};
use crate::identity::Identity;
use crate::issue::{self, Subject};
use crate::issuer::Issuer;
use crate::offline;
use crate::outage::Outage;
use crate::ports::{AuditEvent, RevocationReason, Rotation, StoreError, StoredSession};
use crate::provider::Provider;
use crate::refresh_token::{Binding, RefreshToken, connector_tag};
use crate::scopes;
use crate::session::{self, Payload, Standing, standing};
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
    key: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    let now = provider.clock.now();
    let binding = Binding { issuer_uid: &issuer.uid, client_uid: &client.uid };
    let text = request.refresh_token.expose_secret();
    let token = RefreshToken::decode(text, &issuer.sealing, binding, now).map_err(|_| invalid())?;
    if token.key.is_some() && token.key.as_deref() != key {
        return Err(TokenError::invalid_grant(
            "the refresh token is bound to a key: prove possession of it (DPoP)",
        ));
    }
    if provider.revocations.is_revoked(&token.session) {
        return Err(invalid());
    }
    let connector = connector_of(issuer, &token)?;
    if !client.admits(&connector) {
        return Err(invalid());
    }
    let requested = request.scope.as_ref();
    let requested_resources = &request.resources;
    let refreshing = Refreshing {
        provider,
        issuer,
        client,
        connector,
        requested,
        requested_resources,
        key,
        token,
        now,
    };
    // A condition may say nothing, and a claim or a mapping may fail, which must cost neither token nor session.
    let mapping = &refreshing.connector.policy.mapping;
    let may_fail =
        client.condition.is_some() || issuer.custom_claims.concern(client) || mapping.may_fail();
    let takes_all = requested.is_none() && requested_resources.is_empty() && !may_fail;
    match &refreshing.connector.refresh {
        Refresh::Unsupported => Err(invalid()),
        // A scope or resource that exceeds the grant must not cost the token: look first.
        Refresh::Offline { .. } if takes_all => refreshing.rotate_then_ask(Authority::SignIn).await,
        Refresh::Offline { .. } => refreshing.ask_then_rotate(Authority::SignIn, 0).await,
        Refresh::Memory(recheck) if recheck.is_certain() && takes_all => {
            refreshing.rotate_then_ask(Authority::Upstream(recheck.as_ref())).await
        }
        Refresh::Memory(recheck) => {
            refreshing.ask_then_rotate(Authority::Upstream(recheck.as_ref()), 0).await
        }
        Refresh::Upstream { recheck, interval_seconds } => {
            let upstream = Authority::Upstream(recheck.as_ref());
            refreshing.ask_then_rotate(upstream, *interval_seconds).await
        }
    }
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

/// Whose word about the user counts at a refresh.
#[derive(Clone, Copy)]
enum Authority<'u> {
    /// The upstream's, asked again.
    Upstream(&'u dyn Recheck),
    /// What was said at sign-in: the connector cannot be asked again.
    SignIn,
}

struct Refreshing<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    client: &'a Client,
    connector: Arc<Connector>,
    requested: Option<&'a ScopeSet>,
    requested_resources: &'a [String],
    key: Option<&'a str>,
    token: RefreshToken,
    now: i64,
}

impl Refreshing<'_> {
    /// For upstreams whose answer is certain: one request in all.
    async fn rotate_then_ask(&self, who: Authority<'_>) -> Result<TokenResponse, TokenError> {
        let expires_at = self.now.saturating_add(self.client.lifetimes.refresh_idle);
        let rotation = self.rotation(expires_at, None);
        let session = match self.provider.sessions.rotate(&rotation).await {
            Ok(session) => session,
            Err(error) => self.settle(error, rotation).await?,
        };
        let mut payload = self.open(&session)?;
        let authenticated = self.ask(who, &payload).await?;
        payload.identity = self.admit(who, authenticated).await?.0;
        self.check_user(&payload).await?;
        let scopes = self.scopes(&payload)?;
        self.respond(&session, &payload, &scopes)
    }

    /// For remote upstreams, and wherever a refusal must cost nothing: read, decide, then rotate.
    async fn ask_then_rotate(
        &self,
        who: Authority<'_>,
        interval: i64,
    ) -> Result<TokenResponse, TokenError> {
        let session = self.read().await?;
        if self.judge(&session) != Standing::Current {
            let session = self.retry_or_refuse(session).await?;
            return self.respond_as_stored(&session).await;
        }
        let mut payload = self.open(&session)?;
        if self.now.saturating_sub(payload.upstream.checked_at) >= interval {
            if let Authority::Upstream(recheck) = who
                && recheck.consumes(payload.upstream.data.as_ref())
            {
                return self.claim_then_ask(recheck, &session, payload).await;
            }
            let authenticated = self.ask(who, &payload).await?;
            let (identity, data) = self.admit(who, authenticated).await?;
            payload.identity = identity;
            payload.upstream.data = match who {
                Authority::Upstream(_) => data,
                Authority::SignIn => offline::data_of(&self.connector.policy),
            };
            payload.upstream.checked_at = self.now;
        }
        self.check_user(&payload).await?;
        self.rotate(&payload).await
    }

    fn seal(&self, payload: &Payload) -> String {
        payload.seal(self.issuer, &self.client.uid, &self.token.session)
    }

    async fn rotate(&self, payload: &Payload) -> Result<TokenResponse, TokenError> {
        let scopes = self.scopes(payload)?;
        let expires_at = refresh_expiry(self.client, self.now, payload.absolute_expiry);
        let rotation = self.rotation(expires_at, Some(self.seal(payload)));
        match self.provider.sessions.rotate(&rotation).await {
            Ok(session) => self.respond(&session, payload, &scopes),
            Err(error) => {
                let session = self.settle(error, rotation).await?;
                self.respond_as_stored(&session).await
            }
        }
    }

    /// The answer to a retry: what the session holds, the upstream not asked again.
    async fn respond_as_stored(
        &self,
        session: &StoredSession,
    ) -> Result<TokenResponse, TokenError> {
        let payload = self.open(session)?;
        self.check_user(&payload).await?;
        let scopes = self.scopes(&payload)?;
        self.respond(session, &payload, &scopes)
    }

    fn rotation(&self, expires_at: i64, payload: Option<String>) -> Rotation {
        Rotation {
            name: self.token.session.clone(),
            client_uid: self.client.uid.clone(),
            from_generation: self.token.generation,
            rotated_at: self.now,
            expires_at,
            payload,
            labels: None,
        }
    }

    /// The rotation was refused, or its answer was lost: one quorum read says what holds now.
    async fn settle(
        &self,
        error: StoreError,
        rotation: Rotation,
    ) -> Result<StoredSession, TokenError> {
        if matches!(error, StoreError::Refused { .. }) {
            return Err(error.into());
        }
        let session = match self.provider.sessions.get(&self.token.session).await {
            Ok(Some(session)) => session,
            Ok(None) => return Err(invalid()),
            // Nobody knows; what was said first says how long to wait.
            Err(_) if error != StoreError::PreconditionFailed => return Err(error.into()),
            Err(unread) => return Err(unread.into()),
        };
        match (self.judge(&session), error) {
            (Standing::Current, StoreError::PreconditionFailed) => {
                self.rotate_with_labels(&session, rotation).await
            }
            (Standing::Current, error) => Err(error.into()),
            _ => self.retry_or_refuse(session).await,
        }
    }

    /// Refused although everything holds that a rotation demands: somebody removed the labels by hand.
    async fn rotate_with_labels(
        &self,
        session: &StoredSession,
        rotation: Rotation,
    ) -> Result<StoredSession, TokenError> {
        let payload = self.open(session)?;
        let labels = Some(session::labels(self.issuer, &self.client.uid, &payload));
        let rotation = Rotation { labels, ..rotation };
        match self.provider.sessions.rotate(&rotation).await {
            Err(StoreError::PreconditionFailed) => {
                Err(TokenError::unavailable("the API server refused a current generation"))
            }
            rotated => Ok(rotated?),
        }
    }

    async fn retry_or_refuse(&self, session: StoredSession) -> Result<StoredSession, TokenError> {
        match self.judge(&session) {
            Standing::HonestRetry => Ok(session),
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
        // Time in which nobody could come again is no time (see `outage`).
        let grace_from = Outage::grace_from(self.provider.sessions.outage(), session.rotated_at);
        let grace = self.client.lifetimes.refresh_grace + (grace_from - session.rotated_at);
        standing(session, &self.client.uid, self.token.generation, self.now, grace)
    }

    fn open(&self, session: &StoredSession) -> Result<Payload, TokenError> {
        let mut payload = Payload::open(self.issuer, &self.client.uid, session, self.now)
            .map_err(|_| invalid())?;
        payload.asked = payload.asked.still_granted(self.issuer, self.client);
        payload.nonce = None; // of a session that waited for its code: answered, and over
        payload.absolute_expiry =
            offline::end(&self.connector, payload.authentication.time, payload.absolute_expiry);
        let ours = payload.upstream.connector_uid == self.connector.uid
            && self.client.allows_acr(payload.authentication.acr.as_deref())
            && self.now < payload.absolute_expiry;
        if ours { Ok(payload) } else { Err(invalid()) }
    }

    /// Asks the upstream; a verdict against the user ends the session.
    async fn ask(
        &self,
        who: Authority<'_>,
        payload: &Payload,
    ) -> Result<Authenticated, TokenError> {
        let Authority::Upstream(recheck) = who else { return Ok(offline::as_reported(payload)) };
        match self.question(recheck, payload).await {
            Ok(authenticated) => Ok(authenticated),
            Err(RecheckError::Gone(why)) => Err(self.gone(&why).await),
            Err(RecheckError::Unavailable(why) | RecheckError::Interrupted { why, .. }) => {
                Err(why.into())
            }
        }
    }

    /// The upstream's answer about the session's user, and nobody else.
    async fn question(
        &self,
        recheck: &dyn Recheck,
        payload: &Payload,
    ) -> Result<Authenticated, RecheckError> {
        let known = Identity { groups: Vec::new(), ..payload.identity.clone() };
        let answer = recheck.recheck(&known, payload.upstream.data.as_ref()).await?;
        if answer.identity.user_id == known.user_id {
            Ok(answer)
        } else {
            Err(RecheckError::Gone("the upstream answers about another user".to_owned()))
        }
    }

    /// Policy is applied at refresh as at login; what it no longer admits ends the session.
    async fn admit(
        &self,
        who: Authority<'_>,
        authenticated: Authenticated,
    ) -> Result<(Identity, Option<ConnectorData>), TokenError> {
        let policy = &self.connector.policy;
        let data = authenticated.data.clone();
        let admitted = match who {
            Authority::Upstream(_) => policy.admit(authenticated),
            Authority::SignIn => policy.admit_mapped(authenticated.identity),
        };
        match admitted {
            Ok(identity) => Ok((identity, data)),
            Err(error) if error.is_verdict() => Err(self.user_no_longer_valid().await),
            Err(error) => Err(TokenError::unavailable(error.to_string())),
        }
    }

    /// What the client asks of its users, asked even where the upstream is not.
    async fn check_user(&self, payload: &Payload) -> Result<(), TokenError> {
        let scopes = ScopeSet::parse(&payload.scopes).map_err(|_| invalid())?;
        let arrival = Arrival {
            identity: &payload.identity,
            connector: &self.connector,
            acr: payload.authentication.acr.as_deref(),
            scopes: &scopes,
        };
        match client_policy::admit(self.issuer, self.client, arrival) {
            Ok(()) => Ok(()),
            Err(unknown @ NotAdmitted::Unknown(_)) => Err(unknown.into()),
            Err(NotAdmitted::Groups | NotAdmitted::Condition(_)) => {
                Err(self.user_no_longer_valid().await)
            }
        }
    }

    /// The upstream's verdict, noted in its own words.
    async fn gone(&self, why: &str) -> TokenError {
        self.provider.audit.record(&AuditEvent::UpstreamVerdict {
            client: &self.client.id,
            connector: &self.connector.name,
            session: &self.token.session,
            why,
        });
        self.user_no_longer_valid().await
    }

    /// Ends the session, and says what its client is told.
    async fn user_no_longer_valid(&self) -> TokenError {
        match self.revoke(RevocationReason::UserNoLongerValid).await {
            Ok(()) => invalid(),
            Err(error) => error,
        }
    }

    async fn revoke(&self, reason: RevocationReason) -> Result<(), TokenError> {
        let (sessions, name) = (&self.provider.sessions, &self.token.session);
        // What its client does with its own tokens it knows itself.
        let is_news = reason == RevocationReason::UserNoLongerValid;
        if is_news && self.client.logout.back_channel.is_some() {
            sessions.end_and_tell(name, Some(reason), self.now).await?;
        } else {
            sessions.revoke(name, reason, self.now).await?;
        }
        self.provider.audit.record(&AuditEvent::SessionRevoked {
            session: &self.token.session,
            client: &self.client.id,
            reason,
        });
        Ok(())
    }

    /// The scopes of this answer, by the configuration of this moment.
    fn scopes(&self, payload: &Payload) -> Result<ScopeSet, TokenError> {
        let granted = ScopeSet::parse(&payload.scopes).map_err(|_| invalid())?;
        let granted = scopes::still_granted(self.issuer, self.client, &granted)?;
        let scopes = narrowed(&granted, self.requested)?;
        let about = Subject {
            identity: &payload.identity,
            connector: &self.connector,
            client: self.client,
            scopes: &scopes,
            asked: &payload.asked,
        };
        issue::check(self.issuer, about)?;
        self.resources(payload)?;
        Ok(scopes)
    }

    /// The resources of this answer's access token.
    fn resources(&self, payload: &Payload) -> Result<Vec<String>, TokenError> {
        let requested = self.requested_resources;
        narrowed_resources(self.issuer, self.client, &payload.resources, requested)
    }

    fn respond(
        &self,
        session: &StoredSession,
        payload: &Payload,
        scopes: &ScopeSet,
    ) -> Result<TokenResponse, TokenError> {
        let not_after = session.expires_at.min(payload.absolute_expiry);
        let proven = Proven {
            name: &session.name,
            payload,
            connector: &self.connector,
            scopes,
            nonce: None,
            key: self.key,
            resources: &self.resources(payload)?,
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

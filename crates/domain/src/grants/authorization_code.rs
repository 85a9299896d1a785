//! `authorization_code` (RFC 6749 4.1.3): the checks, in this order, nothing consumed before the last.
//!
//! open · expiry · issuer · (client authentication came before) · client · redirect URI · key · PKCE · not revoked, nor is
//! the browser session it came of · connector · user · claims · resources · **create**. The create is the single use: the
//! session is named by the flow, or by the
//! upstream's answer where that is good once, so a second redemption meets the first one's object.

use std::sync::Arc;

use claviger_protocol::error::ErrorCode;
use claviger_protocol::pkce::{CodeChallenge, CodeVerifier};
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::{AuthorizationCodeRequest, TokenResponse};
use claviger_seal::OpenError;
use secrecy::ExposeSecret;

use super::{Proven, may_refresh, narrowed_resources, refresh_expiry, respond};
use crate::authentication::Authentication;
use crate::claim::RequestedClaims;
use crate::client::Client;
use crate::client_policy::{self, Arrival};
use crate::code::{Code, LoginGrant, digest_of};
use crate::connector::Connector;
use crate::identity::Identity;
use crate::issue::{self, Subject};
use crate::issuer::Issuer;
use crate::offline;
use crate::ports::{
    Activation, AuditEvent, NewSession, RevocationReason, SessionKind, SessionState, StoreError,
    StoredSession,
};
use crate::provider::Provider;
use crate::scopes;
use crate::session::{self, Payload};
use crate::token::TokenError;

const INVALID: &str =
    "the authorization code is invalid, has expired or was issued to another client";

/// Redeems a code for tokens.
///
/// # Errors
/// [`TokenError`]; a code that was redeemed before costs its session if it is a true replay.
pub async fn redeem(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &AuthorizationCodeRequest,
    key: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    let now = provider.clock.now();
    let text = request.code.expose_secret();
    let code = Code::open(issuer, text, now).map_err(|_| invalid())?;
    if code.client_uid != client.uid {
        return Err(invalid());
    }
    if request.redirect_uri.as_deref() != Some(code.redirect_uri.as_str()) {
        return Err(TokenError::invalid_grant(
            "redirect_uri must repeat that of the authorization request",
        ));
    }
    if code.key.is_some() && code.key.as_deref() != key {
        return Err(TokenError::invalid_grant(
            "the code is bound to a key by dpop_jkt: prove possession of it (DPoP)",
        ));
    }
    prove_possession(code.challenge.as_ref(), request.code_verifier.as_ref())?;
    let name = code.session_name(issuer);
    // Replayed before: known from memory, so that whoever goes on replaying costs no request.
    if provider.revocations.is_revoked(&name) {
        return Err(invalid());
    }
    // Its user has signed out meanwhile. A grant too large for its code waits in a session that signing out ends.
    if code.grant.as_ref().is_some_and(|grant| grant.is_over(provider)) {
        return Err(invalid());
    }
    let redemption = Redemption {
        resources: &request.resources,
        key,
        // A code is over long before garbage collection would look at its session; an upstream's answer is not.
        outlives: code.outlives(now),
        ..Redemption::of((provider, issuer, client), (name, text, INVALID), now)
    };
    match &code.grant {
        Some(grant) => redemption.create(grant).await,
        None => redemption.activate().await,
    }
}

/// PKCE (RFC 7636 4.6, RFC 9700 2.1.1): a verifier without a challenge is refused as well as the reverse.
fn prove_possession(
    challenge: Option<&CodeChallenge>,
    verifier: Option<&CodeVerifier>,
) -> Result<(), TokenError> {
    match (challenge, verifier) {
        (None, None) => Ok(()),
        (Some(challenge), Some(verifier)) if challenge.matches(verifier) => Ok(()),
        (Some(_), Some(_)) => {
            Err(TokenError::invalid_grant("code_verifier does not match the code_challenge"))
        }
        (Some(_), None) => Err(TokenError::invalid_grant("code_verifier is missing")),
        (None, Some(_)) => Err(TokenError::invalid_grant(
            "code_verifier was sent, but the authorization request had no code_challenge",
        )),
    }
}

/// The session payload that a grant becomes. It keeps no `nonce`: that is answered and over.
pub(crate) fn payload_of(
    issuer: &Issuer,
    client: &Client,
    connector: &Connector,
    grant: &LoginGrant,
    redeemed: (String, i64),
) -> Payload {
    let (code_digest, now) = redeemed;
    let lifetimes = &client.lifetimes;
    let scopes = ScopeSet::parse(&grant.scopes).unwrap_or_default();
    let mut upstream = grant.upstream.clone();
    let goes_on = may_refresh(issuer, client, (connector, upstream.data.as_ref()), &scopes);
    if !goes_on && connector.sign_out.is_none() {
        upstream.data = None; // perhaps a secret of the user's, that nobody will ask with
    }
    let absolute_expiry = if goes_on {
        let end = now.saturating_add(lifetimes.refresh_absolute);
        offline::end(connector, grant.authentication.time, end)
    } else {
        let life = lifetimes.access_token.max(lifetimes.id_token);
        now.saturating_add(life.max(issuer.remembers(client, grant.browser.as_deref())))
    };
    Payload {
        identity: grant.identity.clone(),
        upstream,
        scopes: grant.scopes.clone(),
        nonce: None,
        authentication: grant.authentication.clone(),
        asked: grant.asked.still_granted(issuer, client),
        resources: grant.resources.clone(),
        browser: grant.sid(),
        absolute_expiry,
        code_digest,
    }
}

/// The session object that a payload is stored in.
pub(crate) fn new_session(
    issuer: &Issuer,
    client: &Client,
    connector: &Connector,
    payload: &Payload,
    name: &str,
) -> NewSession {
    NewSession {
        name: name.to_owned(),
        kind: SessionKind::Client,
        state: SessionState::Active,
        client_uid: client.uid.clone(),
        client_id: client.id.clone(),
        connector: connector.name.clone(),
        user: payload.identity.label().to_owned(),
        labels: session::labels(issuer, &client.uid, payload),
        rotated_at: 0,
        expires_at: payload.absolute_expiry,
        redemption_id: None,
        payload: payload.seal(issuer, &client.uid, name),
    }
}

/// A grant on its way into its session: the single use of an authorization code, and of a device code.
pub(super) struct Redemption<'a> {
    pub(super) provider: &'a Provider,
    pub(super) issuer: &'a Issuer,
    pub(super) client: &'a Client,
    /// Resources to narrow the answer to.
    pub(super) resources: &'a [String],
    /// The key that the request proved to hold.
    pub(super) key: Option<&'a str>,
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) id: String,
    pub(super) now: i64,
    /// What is said of a code that is not good.
    pub(super) invalid: &'static str,
    /// Whoever comes second within this time has lost a race, and is no thief.
    pub(super) race_seconds: i64,
    /// The session is kept at least until then, whatever it gave out: while the code could come back, the
    /// object is what says that it was used.
    pub(super) outlives: i64,
}

impl<'a> Redemption<'a> {
    /// That of a code, by its text, into the session of this name, with no more said than that; and what is said where
    /// the code is not good.
    pub(super) fn of(
        (provider, issuer, client): (&'a Provider, &'a Issuer, &'a Client),
        (name, text, invalid): (String, &str, &'static str),
        now: i64,
    ) -> Self {
        Self {
            provider,
            issuer,
            client,
            resources: &[],
            key: None,
            name,
            digest: digest_of(text),
            id: provider.random_id(),
            now,
            invalid,
            race_seconds: 0,
            outlives: now,
        }
    }
}

impl Redemption<'_> {
    /// The common case: the grant is in the code.
    pub(super) async fn create(&self, grant: &LoginGrant) -> Result<TokenResponse, TokenError> {
        let connector = self.connector(&grant.upstream.connector_uid)?;
        let scopes = self.scopes(&grant.scopes)?;
        self.check_user((&grant.identity, &grant.authentication), &connector, &scopes)?;
        self.check_claims((&grant.identity, &grant.asked), &connector, &scopes)?;
        self.resources(&grant.resources)?;
        let payload = payload_of(
            self.issuer,
            self.client,
            &connector,
            grant,
            (self.digest.clone(), self.now),
        );
        let expires_at = self.expires_at(&connector, &payload, &scopes);
        let session = NewSession {
            rotated_at: self.now,
            expires_at: expires_at.max(self.outlives),
            redemption_id: Some(self.id.clone()),
            ..new_session(self.issuer, self.client, &connector, &payload, &self.name)
        };
        match self.provider.sessions.create(&session).await {
            Ok(()) => {}
            Err(StoreError::AlreadyExists) => self.settle_existing().await?,
            Err(error) => self.settle_lost_answer(error).await?,
        }
        self.respond(&payload, (&connector, &scopes), grant.nonce.as_deref(), expires_at)
    }

    /// A large grant waits in a Pending session: it is read and everything decided, then one patch makes it Active.
    async fn activate(&self) -> Result<TokenResponse, TokenError> {
        let waiting = self.stored().await?.ok_or_else(|| self.invalid())?;
        let payload = self.open(&waiting).map_err(|_| self.invalid())?;
        if waiting.state != SessionState::Pending {
            self.refuse_existing(&waiting).await?;
        }
        if payload.code_digest != self.digest {
            return Err(self.invalid());
        }
        let connector = self.connector(&payload.upstream.connector_uid)?;
        let scopes = self.scopes(&payload.scopes)?;
        self.check_user((&payload.identity, &payload.authentication), &connector, &scopes)?;
        self.check_claims((&payload.identity, &payload.asked), &connector, &scopes)?;
        self.resources(&payload.resources)?;
        let session = self.consume().await?;
        self.respond(&payload, (&connector, &scopes), payload.nonce.as_deref(), session.expires_at)
    }

    /// The single use of a code whose grant waits.
    async fn consume(&self) -> Result<StoredSession, TokenError> {
        let activation = Activation {
            name: self.name.clone(),
            client_uid: self.client.uid.clone(),
            redemption_id: self.id.clone(),
            activated_at: self.now,
            expires_at: self
                .now
                .saturating_add(self.client.lifetimes.refresh_idle)
                .max(self.outlives),
        };
        match self.provider.sessions.activate(&activation).await {
            Ok(session) => return Ok(session),
            Err(StoreError::PreconditionFailed) => self.settle_existing().await?,
            Err(error) => self.settle_lost_answer(error).await?,
        }
        self.stored().await?.ok_or_else(|| self.invalid())
    }

    /// The session exists: our own retried write goes on, a replayed code ends it, a second code of
    /// the same flow (a double click) is refused and nobody is harmed.
    async fn settle_existing(&self) -> Result<(), TokenError> {
        let Some(session) = self.stored().await? else { return Err(self.invalid()) };
        self.refuse_existing(&session).await
    }

    async fn refuse_existing(&self, session: &StoredSession) -> Result<(), TokenError> {
        if session.redemption_id.as_deref() == Some(self.id.as_str()) {
            return Ok(());
        }
        let replayed = self.open(session).is_ok_and(|payload| payload.code_digest == self.digest);
        let raced = session.generation == 0
            && self.now.saturating_sub(session.rotated_at) < self.race_seconds;
        if replayed && !raced && session.state == SessionState::Active {
            let reason = RevocationReason::CodeReplayed;
            self.provider.sessions.revoke(&self.name, reason, self.now).await?;
            self.provider.audit.record(&AuditEvent::SessionRevoked {
                session: &self.name,
                client: &self.client.id,
                reason,
            });
        }
        Err(self.invalid())
    }

    /// The answer to our write was lost: one read says whether it happened.
    async fn settle_lost_answer(&self, error: StoreError) -> Result<(), TokenError> {
        if matches!(error, StoreError::Refused { .. }) {
            return Err(error.into());
        }
        match self.stored().await {
            Ok(Some(session)) if session.redemption_id.as_deref() == Some(self.id.as_str()) => {
                Ok(())
            }
            _ => Err(error.into()),
        }
    }

    fn invalid(&self) -> TokenError {
        TokenError::invalid_grant(self.invalid)
    }

    fn open(&self, session: &StoredSession) -> Result<Payload, OpenError> {
        Payload::open(self.issuer, &self.client.uid, session, self.now)
    }

    async fn stored(&self) -> Result<Option<StoredSession>, TokenError> {
        Ok(self.provider.sessions.get(&self.name).await?)
    }

    fn connector(&self, uid: &str) -> Result<Arc<Connector>, TokenError> {
        match self.issuer.connector_by_uid(uid) {
            Some(connector) if self.client.admits(connector) => {
                return Ok(Arc::clone(connector));
            }
            Some(_) => return Err(self.invalid()),
            None => {}
        }
        if self.issuer.unavailable_connectors.contains(uid) {
            return Err(TokenError::unavailable("the connector is out of service"));
        }
        Err(self.invalid())
    }

    /// The granted scopes, as far as the configuration of this moment still grants them.
    fn scopes(&self, granted: &str) -> Result<ScopeSet, TokenError> {
        let granted = ScopeSet::parse(granted).map_err(|_| {
            TokenError::refused(ErrorCode::InvalidScope, "stored scopes cannot be read")
        })?;
        scopes::still_granted(self.issuer, self.client, &granted)
    }

    fn check_user(
        &self,
        (identity, authentication): (&Identity, &Authentication),
        connector: &Connector,
        scopes: &ScopeSet,
    ) -> Result<(), TokenError> {
        let acr = authentication.acr.as_deref();
        let arrival = Arrival { identity, connector, acr, scopes };
        Ok(client_policy::admit(self.issuer, self.client, arrival)?)
    }

    fn check_claims(
        &self,
        (identity, asked): (&Identity, &RequestedClaims),
        connector: &Connector,
        scopes: &ScopeSet,
    ) -> Result<(), TokenError> {
        let about = Subject { identity, connector, client: self.client, scopes, asked };
        Ok(issue::check(self.issuer, about)?)
    }

    fn resources(&self, granted: &[String]) -> Result<Vec<String>, TokenError> {
        narrowed_resources(self.issuer, self.client, granted, self.resources)
    }

    fn expires_at(&self, connector: &Connector, payload: &Payload, scopes: &ScopeSet) -> i64 {
        let upstream = (connector, payload.upstream.data.as_ref());
        if may_refresh(self.issuer, self.client, upstream, scopes) {
            refresh_expiry(self.client, self.now, payload.absolute_expiry)
        } else {
            payload.absolute_expiry
        }
    }

    fn respond(
        &self,
        payload: &Payload,
        (connector, scopes): (&Connector, &ScopeSet),
        nonce: Option<&str>,
        expires_at: i64,
    ) -> Result<TokenResponse, TokenError> {
        let upstream = (connector, payload.upstream.data.as_ref());
        let refresh = may_refresh(self.issuer, self.client, upstream, scopes)
            .then(|| (0, expires_at.min(payload.absolute_expiry)));
        let resources = self.resources(&payload.resources)?;
        let proven = Proven {
            name: &self.name,
            payload,
            connector,
            scopes,
            resources: &resources,
            nonce,
            key: self.key,
            refresh,
        };
        let response = respond(self.provider, self.issuer, self.client, &proven)?;
        self.provider.audit.record(&AuditEvent::SessionStarted {
            session: &self.name,
            client: &self.client.id,
            connector: &connector.name,
            user: payload.identity.label(),
        });
        Ok(response)
    }
}

fn invalid() -> TokenError {
    TokenError::invalid_grant(INVALID)
}

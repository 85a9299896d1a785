//! Token introspection (RFC 7662): what a token is good for at this moment, told to clients that may ask.
//!
//! ```text
//! client, its `introspection` ── Forbidden ─→ access_denied, whatever the token
//!   │ bytes, expiry, memory of revocations, whose token ── no ─→ {"active":false}, no request
//!   ├ about a workload (client_credentials, jwt-bearer …) ─→ from memory
//!   └ GET session ── gone, revoked, no longer let in ─→ {"active":false}
//! ```
//! A token the caller may not see looks like one that never was.

use claviger_protocol::claims::Confirmation;
use claviger_protocol::client_auth::ClientCredentials;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::introspect::{
    ActiveToken, IntrospectionRequest, IntrospectionResponse, TokenUse,
};
use claviger_protocol::scope::ScopeSet;
use secrecy::ExposeSecret;

use crate::access_token::{AccessToken, UserClaims};
use crate::claim::{RequestedClaims, Reveal};
use crate::client::{Client, Grant, Introspection};
use crate::issue::{self, IssueError, Subject};
use crate::issuer::{ClientEntry, Issuer};
use crate::live_session::LiveSession;
use crate::presented_token::PresentedToken;
use crate::provider::Provider;
use crate::refresh_token::RefreshToken;
use crate::token::{TokenError, authenticate};

/// Explains a token.
///
/// # Errors
/// `invalid_client`; `access_denied` for a client that may not ask; [`TokenError::Unavailable`] when
/// nobody can say at the moment.
pub async fn introspect(
    provider: &Provider,
    issuer: &Issuer,
    credentials: &ClientCredentials,
    request: &IntrospectionRequest,
) -> Result<IntrospectionResponse, TokenError> {
    let client = authenticate(provider, issuer, credentials, "/token/introspect").await?;
    if client.introspection == Introspection::Forbidden || !client.is_confidential() {
        return Err(TokenError::refused(
            ErrorCode::AccessDenied,
            "this client may not introspect tokens: its OAuth2Client must say so in introspection",
        ));
    }
    let now = provider.clock.now();
    let asked = Asked { provider, issuer, client };
    let active = match PresentedToken::read(issuer, client, request.token.expose_secret(), now) {
        Some(PresentedToken::Access(token)) => asked.about_access_token(&token).await?,
        Some(PresentedToken::Refresh(token)) => asked.about_refresh_token(&token, now).await?,
        None => None,
    };
    Ok(active.map_or_else(IntrospectionResponse::inactive, IntrospectionResponse::active))
}

/// Who asks, and where.
struct Asked<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    client: &'a Client,
}

impl Asked<'_> {
    async fn about_access_token(
        &self,
        token: &AccessToken,
    ) -> Result<Option<ActiveToken>, TokenError> {
        let own = token.client_uid == self.client.uid;
        if !own && self.client.introspection != Introspection::AllTokens {
            return Ok(None);
        }
        let owner = match self.issuer.client(&token.client_id) {
            Some(ClientEntry::InService(owner)) if owner.uid == token.client_uid => owner,
            _ => return Ok(None),
        };
        let Some(name) = &token.session else { return Ok(self.about_workload(token, owner)) };
        let session = LiveSession::read(self.provider, self.issuer, owner, name).await?;
        let Some((_, claims)) = self.known(owner, session, &token.scope)? else { return Ok(None) };
        Ok(Some(self.described(token, claims)))
    }

    /// A token about a workload: from memory, for there is no session. It holds while its client may still
    /// have such tokens.
    fn about_workload(&self, token: &AccessToken, owner: &Client) -> Option<ActiveToken> {
        let grant = token.grant.unwrap_or(Grant::ClientCredentials);
        let allowed = self.issuer.grants.contains(&grant) && owner.grants.contains(&grant);
        let claims = UserClaims { sub: token.claims.sub.clone(), ..UserClaims::default() };
        allowed.then(|| self.described(token, claims))
    }

    fn described(&self, token: &AccessToken, claims: UserClaims) -> ActiveToken {
        ActiveToken {
            token_use: TokenUse::AccessToken,
            token_type: Some(if token.key.is_some() { "DPoP" } else { "Bearer" }),
            scope: token.scope.clone(),
            client_id: token.client_id.clone(),
            username: claims.preferred_username.or(claims.email),
            iss: self.issuer.url.as_str().to_owned(),
            sub: claims.sub,
            aud: Some(token.audience.clone()),
            exp: token.expires_at,
            iat: token.issued_at,
            jti: Some(token.id.clone()),
            cnf: token.key.clone().map(|jkt| Confirmation { jkt }),
            auth_time: token.authentication.as_ref().map(|a| a.time),
        }
    }

    async fn about_refresh_token(
        &self,
        token: &RefreshToken,
        now: i64,
    ) -> Result<Option<ActiveToken>, TokenError> {
        let session =
            LiveSession::read(self.provider, self.issuer, self.client, &token.session).await?;
        // Only the current one: one that is good for an honest retry alone is as good as over.
        let session = session.filter(|s| s.stored.generation == token.generation);
        let scope = session.as_ref().map(|s| s.payload.scopes.clone()).unwrap_or_default();
        let Some((session, claims)) = self.known(self.client, session, &scope)? else {
            return Ok(None);
        };
        let exp = token.not_after.min(session.payload.absolute_expiry);
        Ok((now < exp).then(|| ActiveToken {
            token_use: TokenUse::RefreshToken,
            token_type: None,
            scope,
            client_id: self.client.id.clone(),
            username: claims.preferred_username.or(claims.email),
            iss: self.issuer.url.as_str().to_owned(),
            sub: claims.sub,
            aud: None,
            exp,
            iat: session.stored.rotated_at,
            jti: None,
            cnf: token.key.clone().map(|jkt| Confirmation { jkt }),
            auth_time: Some(session.payload.authentication.time),
        }))
    }

    /// What the scopes reveal of a session's user. No token is made for them any more when the mint
    /// refuses; a claim of the issuer's own that cannot be told at the moment is no verdict about theirs: `server_error`.
    fn known(
        &self,
        owner: &Client,
        session: Option<LiveSession>,
        scope: &str,
    ) -> Result<Option<(LiveSession, UserClaims)>, TokenError> {
        let (Some(session), Ok(scopes)) = (session, ScopeSet::parse(scope)) else {
            return Ok(None);
        };
        let about = Subject {
            identity: &session.payload.identity,
            connector: &session.connector,
            client: owner,
            scopes: &scopes,
            asked: &RequestedClaims::default(),
        };
        let reveal = Reveal { issuer: self.issuer, scopes: &scopes, asked: &[] };
        match issue::user_claims(self.issuer, about, reveal) {
            Ok(claims) => Ok(Some((session, claims))),
            Err(error @ IssueError::Claim { .. }) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }
}

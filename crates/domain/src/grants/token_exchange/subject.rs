//! A token of ours about a user that is to be exchanged: whose it is, and how much it says.
//!
//! What always holds: an access token is exchanged by the client it was given to, an ID token by a client it is
//! for or that has it (`aud`, `azp`), and by no other that took the ID of one; each names its session; what comes of it says no more than it does itself.

use claviger_jose::{Algorithm, Claims, VerifyOptions, verify};
use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::{Scope, ScopeSet};
use claviger_protocol::token_exchange::{IssuedTokenType, SubjectTokenType, TokenExchangeRequest};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::SKEW_SECONDS;
use crate::access_token::AccessToken;
use crate::claim::{CLAIMS, RequestedClaims};
use crate::client::Client;
use crate::issue::Detail;
use crate::issuer::Issuer;
use crate::live_session::LiveSession;
use crate::provider::Provider;
use crate::resources;
use crate::token::TokenError;
use crate::token_id::TokenId;

/// Never carried over: no exchange gives a refresh token.
const OFFLINE_ACCESS: &str = "offline_access";

/// A token of this issuer that the client may exchange. Its session may be over.
pub(super) enum SubjectToken {
    Access {
        session: String,
        token: Box<AccessToken>,
    },
    Id {
        session: String,
        expires_at: i64,
        /// Claims about the user that it reveals.
        reveals: Vec<String>,
    },
}

impl SubjectToken {
    /// Reads the subject token of a request, from its bytes and memory alone.
    pub fn read(
        provider: &Provider,
        issuer: &Issuer,
        client: &Client,
        request: &TokenExchangeRequest,
    ) -> Result<Self, TokenError> {
        let text = request.subject_token.expose_secret();
        let now = provider.clock.now();
        let token = match request.subject_token_type {
            SubjectTokenType::AccessToken => access_token(issuer, client, text, now)?,
            SubjectTokenType::IdToken => id_token(issuer, client, text, now)?,
            SubjectTokenType::Jwt => {
                return Err(refused(
                    "subject_token_type jwt is for tokens of other issuers: one of this issuer is an access_token or an id_token",
                ));
            }
        };
        if provider.revocations.is_revoked(token.session()) {
            return Err(token.refusal());
        }
        if matches!(token, Self::Id { .. }) && request.requested == IssuedTokenType::AccessToken {
            return Err(refused(
                "an ID token is exchanged for an ID token: say audience, or exchange the access_token",
            ));
        }
        Ok(token)
    }

    pub fn session(&self) -> &str {
        match self {
            Self::Access { session, .. } | Self::Id { session, .. } => session,
        }
    }

    pub fn expires_at(&self) -> i64 {
        match self {
            Self::Access { token, .. } => token.expires_at,
            Self::Id { expires_at, .. } => *expires_at,
        }
    }

    /// Whether a client may exchange a token of this session: an access token is its own client's. Whose the
    /// session of an ID token is does not matter: it has an audience, and that may bring it.
    pub fn may_be_of(&self, session: &LiveSession, client: &Client) -> bool {
        match self {
            Self::Access { .. } => session.stored.client_uid == client.uid,
            Self::Id { .. } => true,
        }
    }

    /// The one answer to all that is wrong with it.
    pub fn refusal(&self) -> TokenError {
        match self {
            Self::Access { .. } => invalid_access_token(),
            Self::Id { .. } => invalid_id_token(),
        }
    }

    /// The scopes of the new token: what was asked for, never more than this one has.
    pub fn scopes(
        &self,
        issuer: &Issuer,
        requested: Option<&ScopeSet>,
    ) -> Result<ScopeSet, TokenError> {
        let has = match self {
            Self::Access { token, .. } => {
                ScopeSet::parse(&token.scope).map_err(|_| self.refusal())?
            }
            Self::Id { reveals, .. } => {
                let scopes = reveals.iter().filter_map(|claim| issuer.scope_of(claim));
                let scopes = ["openid"].into_iter().chain(scopes).collect::<Vec<_>>().join(" ");
                ScopeSet::parse(&scopes).map_err(|_| self.refusal())?
            }
        };
        let mut scopes = match requested {
            None => has,
            Some(requested) if requested.is_subset(&has) => requested.clone(),
            Some(_) => {
                return Err(TokenError::refused(
                    ErrorCode::InvalidScope,
                    "scope must not exceed that of the subject token",
                ));
            }
        };
        let is_of_user =
            |scope: &Scope| scope.as_str() != OFFLINE_ACCESS && scope.audience().is_none();
        scopes.retain(is_of_user);
        Ok(scopes)
    }

    /// The resources of the new token: what was asked for, never more than this one is for. What a refresh
    /// narrowed is not wide again.
    pub fn resources<'r>(
        &'r self,
        issuer: &Issuer,
        client: &Client,
        requested: &'r [String],
    ) -> Result<&'r [String], TokenError> {
        let refused = |why: String| TokenError::refused(ErrorCode::InvalidTarget, why);
        let has = match self {
            Self::Access { token, .. } => token.audience.as_slice(),
            Self::Id { .. } => &[],
        };
        if let Some(beyond) = requested.iter().find(|resource| !has.contains(resource)) {
            return Err(refused(format!(
                "resource {beyond} is not in the subject token's audience: ask for it at login"
            )));
        }
        let resources = if requested.is_empty() { has } else { requested };
        resources::check(issuer, client, resources).map_err(refused)?;
        Ok(resources)
    }

    /// What the new token reveals with these scopes. An ID token says claim by claim what it revealed: it may be
    /// less than its scopes would.
    pub fn reveal(&self, issuer: &Issuer, scopes: &ScopeSet) -> (Detail, RequestedClaims) {
        match self {
            Self::Access { .. } => (Detail::Full, RequestedClaims::default()),
            Self::Id { reveals, .. } => {
                let still = |claim: &&String| {
                    issuer.scope_of(claim).is_some_and(|scope| scopes.contains(scope))
                };
                let id_token = reveals.iter().filter(still).cloned().collect();
                (Detail::Asked, RequestedClaims { id_token, ..RequestedClaims::default() })
            }
        }
    }
}

/// An access token of this issuer that was given to this very client.
fn access_token(
    issuer: &Issuer,
    client: &Client,
    text: &str,
    now: i64,
) -> Result<SubjectToken, TokenError> {
    let token = AccessToken::open(issuer, text, now).map_err(|_| invalid_access_token())?;
    let Some(session) = token.session.clone() else { return Err(invalid_access_token()) };
    if token.client_uid != client.uid {
        return Err(invalid_access_token());
    }
    if token.key.is_some() {
        // Whoever stole it would get one that needs no key.
        return Err(refused(
            "subject_token is bound to a key (DPoP): what it is exchanged for would not be",
        ));
    }
    Ok(SubjectToken::Access { session, token: Box::new(token) })
}

/// An ID token of this issuer that is for this client, or that it has.
fn id_token(
    issuer: &Issuer,
    client: &Client,
    text: &str,
    now: i64,
) -> Result<SubjectToken, TokenError> {
    let expected = VerifyOptions {
        algorithms: &Algorithm::ALL,
        issuer: issuer.url.as_str(),
        audience: None,
        typ: None,
        leeway_seconds: SKEW_SECONDS,
    };
    let claims =
        verify(&issuer.keys.key_set, text, now, &expected).map_err(|_| invalid_id_token())?;
    let expires_at = claims.get("exp").and_then(Value::as_i64).ok_or_else(invalid_id_token)?;
    if now >= expires_at || !(is_for(&claims, &client.id)) {
        return Err(invalid_id_token());
    }
    let jti = claims.get("jti").and_then(Value::as_str);
    let id = jti.and_then(TokenId::read).ok_or_else(|| {
        refused(
            "subject_token is of no user's session (its jti names none): it was made for a workload, or by an older release; sign the user in again, or exchange what the workload came with",
        )
    })?;
    // Of this very client: one that is gone had the same ID, and its tokens live on.
    if !id.is_for(issuer, &client.uid) {
        return Err(invalid_id_token());
    }
    let own = issuer.custom_claims.names().map(|(claim, _)| claim);
    let about_users = CLAIMS.iter().map(|(claim, _)| *claim).filter(|claim| *claim != "sub");
    let about_users = about_users.chain(own);
    let reveals = about_users.filter(|claim| claims.contains_key(*claim)).map(str::to_owned);
    Ok(SubjectToken::Id { session: id.session.to_owned(), expires_at, reveals: reveals.collect() })
}

/// Whether a client is among those a token is for, or the one that has it.
fn is_for(claims: &Claims, client: &str) -> bool {
    let audience = claims.get("aud").is_some_and(|aud| match aud {
        Value::Array(several) => several.iter().any(|one| one == client),
        one => one == client,
    });
    audience || claims.get("azp").is_some_and(|azp| azp == client)
}

fn refused(why: &str) -> TokenError {
    TokenError::refused(ErrorCode::InvalidRequest, why)
}

fn invalid_access_token() -> TokenError {
    refused(
        "subject_token must be a live access token that was given to this client, of a user the audience admits",
    )
}

fn invalid_id_token() -> TokenError {
    refused(
        "subject_token must be a live ID token with this client in aud or azp, of a session that goes on and a user the audience admits",
    )
}

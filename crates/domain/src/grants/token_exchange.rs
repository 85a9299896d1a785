//! Token exchange (RFC 8693): a client turns its user's access token into another of no wider scope and no longer life.
//!
//! ```text
//! subject token ── forged, expired, another client's, revoked ─→ invalid_request, no request
//!   │ audience ── the target does not list this client ─→ invalid_target, no request
//!   │ scope beyond the subject's ─→ invalid_scope, no request
//!   └ GET session ── over, or not let in at the target ─→ invalid_request
//! ```
//! What always holds: what comes out expires no later than what went in, and has no refresh token; its
//! session is live at this moment; an ID token is for the one audience whose own client allows it, by the
//! target's policy; an access token is for resources, and never has a client for its audience.

use std::sync::Arc;

use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::TokenResponse;
use claviger_protocol::token_exchange::{IssuedTokenType, TokenExchangeRequest};
use secrecy::ExposeSecret;

use crate::access_token::AccessToken;
use crate::claim::RequestedClaims;
use crate::client::Client;
use crate::client_policy::{self, Arrival, NotAdmitted};
use crate::issue::{self, Circumstances, Companions, Detail, Subject};
use crate::issuer::{ClientEntry, Issuer};
use crate::live_session::LiveSession;
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::resources;
use crate::scopes::{self, Judgement};
use crate::token::TokenError;

/// Never carried over: no exchange gives a refresh token.
const OFFLINE_ACCESS: &str = "offline_access";

/// Answers an exchange by a client that has proven who it is.
///
/// # Errors
/// [`TokenError`]; what is wrong with the subject token is `invalid_request` (RFC 8693 2.2.2).
pub async fn exchange(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &TokenExchangeRequest,
) -> Result<TokenResponse, TokenError> {
    if !client.is_confidential() {
        return Err(TokenError::refused(
            ErrorCode::UnauthorizedClient,
            "a public client cannot prove who exchanges",
        ));
    }
    let token = subject_token(provider, issuer, client, request)?;
    let target = Target::of(issuer, client, (request, &token))?;
    let scopes = narrowed(&token, request.scope.as_ref())?;
    let session = match &token.session {
        Some(name) => LiveSession::read(provider, issuer, client, name).await?,
        None => None,
    };
    let session = session.ok_or_else(invalid_subject)?;
    let mut granted = scopes; // as far as the configuration of this moment still grants them
    granted.retain(|scope| scopes::judge(issuer, client, scope) == Judgement::Granted);
    let exchange = Exchange { provider, issuer, client, token: &token, session: &session };
    let response = match target {
        Target::Client(target) => exchange.id_token(&target, granted)?,
        Target::Resources(resources) => exchange.access_token(&granted, resources)?,
    };
    provider.audit.record(&AuditEvent::TokenExchanged {
        session: &session.stored.name,
        client: &client.id,
        audience: request.audience.as_deref().unwrap_or_default(),
    });
    Ok(response)
}

/// The subject token: an access token of this issuer that was given to this very client.
fn subject_token(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &TokenExchangeRequest,
) -> Result<AccessToken, TokenError> {
    let now = provider.clock.now();
    let token = AccessToken::open(issuer, request.subject_token.expose_secret(), now)
        .map_err(|_| invalid_subject())?;
    let Some(session) = &token.session else { return Err(invalid_subject()) };
    if token.client_uid != client.uid || provider.revocations.is_revoked(session) {
        return Err(invalid_subject());
    }
    if token.key.is_some() {
        // Whoever stole it would get one that needs no key.
        return Err(TokenError::refused(
            ErrorCode::InvalidRequest,
            "subject_token is bound to a key (DPoP): what it is exchanged for would not be",
        ));
    }
    Ok(token)
}

/// What the new token is for.
enum Target<'r> {
    /// An ID token for another client.
    Client(Arc<Client>),
    /// An access token for resources.
    Resources(&'r [String]),
}

impl<'r> Target<'r> {
    fn of(
        issuer: &Issuer,
        client: &Client,
        (request, token): (&'r TokenExchangeRequest, &'r AccessToken),
    ) -> Result<Self, TokenError> {
        let refused = |why: &str| TokenError::refused(ErrorCode::InvalidTarget, why);
        match (request.requested, request.audience.as_deref()) {
            (IssuedTokenType::IdToken, Some(id)) if request.resources.is_empty() => {
                match issuer.client(id) {
                    Some(ClientEntry::InService(target))
                        if target.exchange_peers.contains(&client.id) =>
                    {
                        Ok(Self::Client(Arc::clone(target)))
                    }
                    // An invalid one is not told from one that does not list the caller.
                    _ => Err(refused("audience does not accept tokens exchanged by this client")),
                }
            }
            (IssuedTokenType::IdToken, Some(_)) => {
                Err(refused("an ID token has an audience and no resource"))
            }
            (IssuedTokenType::IdToken, None) => {
                Err(refused("an ID token needs an audience: the client ID of who is to take it"))
            }
            (IssuedTokenType::AccessToken, Some(_)) => Err(refused(
                "an access token is for a resource: say resource, or ask for an id_token",
            )),
            (IssuedTokenType::AccessToken, None) => {
                let resources = narrowed_resources(token, &request.resources)?;
                resources::check(issuer, client, resources).map_err(|why| refused(&why))?;
                Ok(Self::Resources(resources))
            }
        }
    }
}

/// The resources of the new token: what was asked for, never more than the subject token is for. What a
/// refresh narrowed is not wide again.
fn narrowed_resources<'r>(
    token: &'r AccessToken,
    requested: &'r [String],
) -> Result<&'r [String], TokenError> {
    let has = token.audience.as_slice();
    match requested.iter().find(|resource| !has.contains(resource)) {
        None => Ok(if requested.is_empty() { has } else { requested }),
        Some(refused) => Err(TokenError::refused(
            ErrorCode::InvalidTarget,
            format!(
                "resource {refused} is not in the subject token's audience: ask for it at login"
            ),
        )),
    }
}

/// The scopes of the new token: what was asked for, never more than the subject token has.
fn narrowed(token: &AccessToken, requested: Option<&ScopeSet>) -> Result<ScopeSet, TokenError> {
    let has = ScopeSet::parse(&token.scope).map_err(|_| invalid_subject())?;
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
    scopes.retain(|scope| scope.as_str() != OFFLINE_ACCESS && scope.audience().is_none());
    Ok(scopes)
}

/// One exchange, all of whose parties are known.
struct Exchange<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    client: &'a Client,
    token: &'a AccessToken,
    session: &'a LiveSession,
}

impl Exchange<'_> {
    /// An ID token for the target, as a sign-in there would have given it: its policy, its scopes, its
    /// lifetime and algorithm. `azp` says who has it.
    fn id_token(&self, target: &Client, mut scopes: ScopeSet) -> Result<TokenResponse, TokenError> {
        let LiveSession { payload, connector, .. } = self.session;
        let admitted =
            target.admits(connector) && target.allows_acr(payload.authentication.acr.as_deref());
        if !admitted {
            return Err(invalid_subject());
        }
        scopes.retain(|scope| target.scopes.contains(scope.as_str()));
        let acr = payload.authentication.acr.as_deref();
        let arrival = Arrival { identity: &payload.identity, connector, acr, scopes: &scopes };
        match client_policy::admit(self.issuer, target, arrival) {
            Ok(()) => {}
            Err(unknown @ NotAdmitted::Unknown(_)) => return Err(unknown.into()),
            Err(NotAdmitted::Groups | NotAdmitted::Condition(_)) => return Err(invalid_subject()),
        }
        let asked = RequestedClaims::default();
        let about = Subject {
            identity: &payload.identity,
            connector,
            client: target,
            scopes: &scopes,
            asked: &asked,
        };
        issue::check(self.issuer, about)?;
        let when = Circumstances { azp: Some(&self.client.id), ..self.when(&[]) };
        let with = (Detail::Full, Companions::default());
        let id_token = issue::id_token(self.provider, self.issuer, about, when, with)?;
        let expires_in = self.expires_in(target.lifetimes.id_token);
        let response = TokenResponse::new(id_token, expires_in, None, None, scopes.to_string());
        Ok(response.exchanged(IssuedTokenType::IdToken))
    }

    /// An access token of the client's own for resources of its own list.
    fn access_token(
        &self,
        scopes: &ScopeSet,
        resources: &[String],
    ) -> Result<TokenResponse, TokenError> {
        let LiveSession { payload, connector, .. } = self.session;
        let about = Subject {
            identity: &payload.identity,
            connector,
            client: self.client,
            scopes,
            asked: &RequestedClaims::default(),
        };
        let when = self.when(resources);
        let access_token = issue::access_token(self.provider, self.issuer, about, when)?;
        let expires_in = self.expires_in(self.client.lifetimes.access_token);
        let response = TokenResponse::new(access_token, expires_in, None, None, scopes.to_string());
        Ok(response.exchanged(IssuedTokenType::AccessToken))
    }

    fn when<'w>(&'w self, resources: &'w [String]) -> Circumstances<'w> {
        Circumstances {
            session: &self.session.stored.name,
            nonce: None,
            authentication: &self.session.payload.authentication,
            resources,
            browser: None, // the audience takes no part in it
            key: None,     // nor is a bound token exchanged
            azp: None,
            not_after: self.token.expires_at,
        }
    }

    fn expires_in(&self, lifetime: i64) -> i64 {
        lifetime.min(self.token.expires_at - self.provider.clock.now())
    }
}

fn invalid_subject() -> TokenError {
    TokenError::refused(
        ErrorCode::InvalidRequest,
        "subject_token must be a live access token that was given to this client, of a user the audience admits",
    )
}

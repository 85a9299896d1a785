//! Token exchange (RFC 8693): a client turns a token about somebody into another of no wider scope and no longer life.
//!
//! ```text
//! subject token ─┬ of ours    ── forged, expired, another client's, revoked ─→ invalid_request, no request
//!                │   │ audience ── the target does not list this client ─→ invalid_target, no request
//!                │   │ scope, resource beyond the subject's ─→ invalid_scope, invalid_target, no request
//!                │   └ GET session ── over, or not let in at the target ─→ invalid_request
//!                ├ of a connector's provider (`connector_id`): no request but for its keys ([`upstream`])
//!                └ of an issuer this client trusts: no request but for its keys ([`foreign`])
//! ```
//! What always holds: what comes out expires no later than what went in, and has no refresh token; the session
//! of a user is live at this moment; an ID token is for the one audience whose own client allows it, by the
//! target's policy; an access token is for resources, and never has a client for its audience.

mod foreign;
mod subject;
mod upstream;

use std::sync::Arc;

use claviger_jose::unverified_claims;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::TokenResponse;
use claviger_protocol::token_exchange::{IssuedTokenType, TokenExchangeRequest};
use secrecy::ExposeSecret;

use self::subject::SubjectToken;
use crate::claim::RequestedClaims;
use crate::client::Client;
use crate::client_policy::{self, Arrival, NotAdmitted};
use crate::issue::{self, Circumstances, Companions, Subject};
use crate::issuer::{ClientEntry, Issuer};
use crate::live_session::LiveSession;
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::scopes::{self, Judgement};
use crate::token::TokenError;

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
    if let Some(connector) = upstream::connector_of(issuer, request) {
        upstream::exchange(provider, issuer, client, request, connector).await
    } else if is_foreign(issuer, client, request) {
        foreign::exchange(provider, issuer, client, request).await
    } else {
        of_user(provider, issuer, client, request).await
    }
}

/// Whether a token says that it is another issuer's. What cannot be read is refused either way: by those who
/// say more of what is wrong with it, where the client trusts any.
fn is_foreign(issuer: &Issuer, client: &Client, request: &TokenExchangeRequest) -> bool {
    let claims = unverified_claims(request.subject_token.expose_secret());
    let iss = claims.as_ref().ok().and_then(|claims| claims.get("iss")?.as_str());
    iss.map_or(!client.workloads.trusted_issuers.is_empty(), |iss| iss != issuer.url.as_str())
}

/// Exchanges a token of ours.
async fn of_user(
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
    let token = SubjectToken::read(provider, issuer, client, request)?;
    let target = Target::of(issuer, client, request, Whose::User)?;
    let resources = match &target {
        Target::Client(_) => &[],
        Target::Resources => token.resources(issuer, client, &request.resources)?,
    };
    let scopes = token.scopes(issuer, request.scope.as_ref())?;
    let session = LiveSession::of_anybody(provider, issuer, token.session()).await?;
    let session = session.filter(|session| token.may_be_of(session, client));
    let session = session.ok_or_else(|| token.refusal())?;
    let mut granted = scopes; // as far as the configuration of this moment still grants them
    granted.retain(|scope| scopes::judge(issuer, client, scope) == Judgement::Granted);
    let exchange = Exchange { provider, issuer, client, token: &token, session: &session };
    let response = match target {
        Target::Client(target) => exchange.id_token(&target, granted)?,
        Target::Resources => exchange.access_token(&granted, resources)?,
    };
    provider.audit.record(&AuditEvent::TokenExchanged {
        session: &session.stored.name,
        client: &client.id,
        audience: request.audience.as_deref().unwrap_or_default(),
    });
    Ok(response)
}

/// What the new token is for.
enum Target {
    /// An ID token for another client.
    Client(Arc<Client>),
    /// An access token for resources.
    Resources,
}

/// Whom the subject token is about: a target takes the one without the other.
#[derive(Debug, Clone, Copy)]
enum Whose {
    User,
    Workload,
}

impl Whose {
    fn is_taken(self, target: &Client, from: &Client) -> bool {
        let listed = match self {
            Self::User => &target.exchange_peers,
            Self::Workload => &target.workloads.brought_by,
        };
        listed.contains(&from.id)
    }
}

impl Target {
    fn of(
        issuer: &Issuer,
        client: &Client,
        request: &TokenExchangeRequest,
        whose: Whose,
    ) -> Result<Self, TokenError> {
        let refused = |why: &str| TokenError::refused(ErrorCode::InvalidTarget, why);
        match (request.requested, request.audience.as_deref()) {
            (IssuedTokenType::IdToken, Some(id)) if request.resources.is_empty() => {
                match issuer.client(id) {
                    Some(ClientEntry::InService(target)) if whose.is_taken(target, client) => {
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
            (IssuedTokenType::AccessToken, None) => Ok(Self::Resources),
        }
    }
}

/// One exchange, all of whose parties are known.
struct Exchange<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    client: &'a Client,
    token: &'a SubjectToken,
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
            return Err(self.token.refusal());
        }
        scopes.retain(|scope| target.scopes.contains(scope.as_str()));
        let acr = payload.authentication.acr.as_deref();
        let arrival = Arrival { identity: &payload.identity, connector, acr, scopes: &scopes };
        match client_policy::admit(self.issuer, target, arrival) {
            Ok(()) => {}
            Err(unknown @ NotAdmitted::Unknown(_)) => return Err(unknown.into()),
            Err(NotAdmitted::Groups | NotAdmitted::Condition(_)) => {
                return Err(self.token.refusal());
            }
        }
        let (detail, asked) = self.token.reveal(self.issuer, &scopes);
        let about = Subject {
            identity: &payload.identity,
            connector,
            client: target,
            scopes: &scopes,
            asked: &asked,
        };
        issue::check_id_token(self.issuer, about, detail)?;
        let when = Circumstances { azp: Some(&self.client.id), ..self.when(&[]) };
        let with = (detail, Companions::default());
        let id_token = issue::id_token(self.provider, self.issuer, about, when, with)?;
        let lives = (target.lifetimes.id_token, self.token.expires_at());
        Ok(answer(self.provider, (id_token, IssuedTokenType::IdToken), &scopes, lives))
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
        let lives = (self.client.lifetimes.access_token, self.token.expires_at());
        Ok(answer(self.provider, (access_token, IssuedTokenType::AccessToken), scopes, lives))
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
            not_after: self.token.expires_at(),
        }
    }
}

/// The answer with a token of so long a life, which ends no later than what it was exchanged for.
fn answer(
    provider: &Provider,
    (token, kind): (String, IssuedTokenType),
    scopes: &ScopeSet,
    (lifetime, not_after): (i64, i64),
) -> TokenResponse {
    let expires_in = lifetime.min(not_after - provider.clock.now());
    TokenResponse::new(token, expires_in, None, None, scopes.to_string()).exchanged(kind)
}

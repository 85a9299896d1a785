//! Exchange of an ID token that a connector's provider made for an application of its own: the user need not sign in again.
//!
//! What always holds: the connector's administrator lists the audiences whose tokens are taken and the clients that bring them,
//! and none by default; its policy (allowed groups, mail domains, claim mapping) holds as at a sign-in; client and target both
//! admit the connector and the user; what comes out is an ID token for a target that lists the client, ends no later than what
//! went in, and is of no session: nothing is stored, and it cannot be exchanged again.

use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::TokenResponse;
use claviger_protocol::token_exchange::{IssuedTokenType, SubjectTokenType, TokenExchangeRequest};
use secrecy::ExposeSecret;

use super::{Target, Whose, answer};
use crate::authentication::Authentication;
use crate::claim::RequestedClaims;
use crate::client::Client;
use crate::client_policy::{self, Arrival, NotAdmitted};
use crate::connector::{Connector, Login};
use crate::identity::Identity;
use crate::issue::{self, Circumstances, Companions, Detail, Subject};
use crate::issuer::Issuer;
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::scopes::{self, Judgement};
use crate::token::TokenError;
use crate::upstream_token::{PresentedError, UpstreamTokens};

/// What is revealed where nothing is asked for.
const USUAL_SCOPES: &str = "openid profile email groups";

/// The connector that a request names, if it takes its provider's tokens.
pub(super) fn connector_of<'i>(
    issuer: &'i Issuer,
    request: &TokenExchangeRequest,
) -> Option<(&'i Connector, &'i dyn UpstreamTokens)> {
    let name = request.connector.as_ref()?;
    let connector = issuer.connectors.iter().find(|known| known.name == *name)?;
    let Login::Redirect(upstream) = &connector.login else { return None };
    Some((connector, upstream.tokens()?))
}

/// Answers an exchange.
pub(super) async fn exchange(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &TokenExchangeRequest,
    (connector, tokens): (&Connector, &dyn UpstreamTokens),
) -> Result<TokenResponse, TokenError> {
    if !client.is_confidential() {
        return Err(TokenError::refused(
            ErrorCode::UnauthorizedClient,
            "a public client cannot prove who exchanges",
        ));
    }
    if request.subject_token_type != SubjectTokenType::IdToken {
        return Err(refused("subject_token_type of a connector's provider must be id_token"));
    }
    let Target::Client(target) = Target::of(issuer, client, request, Whose::User)? else {
        return Err(TokenError::refused(
            ErrorCode::InvalidTarget,
            "the token of a connector's provider is exchanged for an ID token: say audience",
        ));
    };
    let scopes = scopes(issuer, client, &target, request.scope.as_ref())?;
    if !client.admits(connector) || !target.admits(connector) {
        return Err(not_admitted());
    }
    let now = provider.clock.now();
    let believed = tokens.believe(request.subject_token.expose_secret(), &client.id, now).await;
    let presented = believed.map_err(|error| match error {
        PresentedError::Refused(why) => refused(&format!("subject_token: {why}")),
        PresentedError::Unavailable(why) => TokenError::unavailable(why),
    })?;
    let (time, expires_at) = (presented.time.min(now), presented.expires_at);
    if now >= expires_at {
        return Err(refused("subject_token: it has expired (exp)"));
    }
    let (acr, amr) = (connector.acr.clone().filter(|_| presented.reached_acr), presented.amr);
    let identity = connector.policy.admit(presented.authenticated).map_err(|error| {
        if error.is_verdict() {
            return refused(&format!("subject_token: {error}"));
        }
        tracing::warn!(connector = connector.name, %error, "a user cannot be read");
        TokenError::refused(ErrorCode::ServerError, "what the upstream says cannot be read")
    })?;
    for party in [client, &target] {
        admit(issuer, party, (connector, &identity), (acr.as_deref(), &scopes))?;
    }
    let about = Subject {
        identity: &identity,
        connector,
        client: &target,
        scopes: &scopes,
        asked: &RequestedClaims::default(),
    };
    let authentication = Authentication { time, acr, amr };
    let id_token = mint(provider, issuer, about, (client, &authentication, expires_at))?;
    provider.audit.record(&AuditEvent::UpstreamTokenExchanged {
        client: &client.id,
        connector: &connector.name,
        user: identity.label(),
        audience: &target.id,
    });
    let lives = (target.lifetimes.id_token, expires_at);
    Ok(answer(provider, (id_token, IssuedTokenType::IdToken), &scopes, lives))
}

/// The ID token, which `client` has.
fn mint(
    provider: &Provider,
    issuer: &Issuer,
    about: Subject<'_>,
    (client, authentication, not_after): (&Client, &Authentication, i64),
) -> Result<String, TokenError> {
    issue::check_id_token(issuer, about, Detail::Full)?;
    let when = Circumstances {
        session: "", // of none
        nonce: None,
        authentication,
        resources: &[],
        azp: Some(&client.id),
        not_after,
        browser: None,
        key: None,
    };
    let with = (Detail::Full, Companions::default());
    Ok(issue::id_token(provider, issuer, about, when, with)?)
}

/// Whether a client lets this user in, as at a sign-in there.
fn admit(
    issuer: &Issuer,
    client: &Client,
    (connector, identity): (&Connector, &Identity),
    (acr, scopes): (Option<&str>, &ScopeSet),
) -> Result<(), TokenError> {
    if !client.allows_acr(acr) {
        return Err(not_admitted());
    }
    match client_policy::admit(issuer, client, Arrival { identity, connector, acr, scopes }) {
        Ok(()) => Ok(()),
        Err(unknown @ NotAdmitted::Unknown(_)) => Err(unknown.into()),
        Err(NotAdmitted::Groups | NotAdmitted::Condition(_)) => Err(not_admitted()),
    }
}

/// The scopes of the new token: what client and target both may have, of the user.
fn scopes(
    issuer: &Issuer,
    client: &Client,
    target: &Client,
    requested: Option<&ScopeSet>,
) -> Result<ScopeSet, TokenError> {
    let refused = |why: String| TokenError::refused(ErrorCode::InvalidScope, why);
    let mut scopes = match requested {
        Some(requested) => requested.clone(),
        None => ScopeSet::parse(USUAL_SCOPES).map_err(|error| refused(error.to_string()))?,
    };
    let is_granted = |scope: &_| scopes::judge(issuer, client, scope) == Judgement::Granted;
    if requested.is_some_and(|requested| !requested.iter().all(is_granted)) {
        return Err(refused("scope: not all of it may be asked for by this client".to_owned()));
    }
    scopes.retain(|scope| {
        is_granted(scope)
            && target.scopes.contains(scope.as_str())
            && scope.audience().is_none()
            && scope.as_str() != "offline_access"
    });
    Ok(scopes)
}

fn refused(why: &str) -> TokenError {
    TokenError::refused(ErrorCode::InvalidRequest, why)
}

fn not_admitted() -> TokenError {
    refused(
        "subject_token: the client or the audience does not admit this user (allowedConnectors, allowedGroups, requiredACR, condition)",
    )
}

//! `password` (RFC 6749 4.3): a user's name and password, as they were typed into the client. Off unless somebody
//! switched it on in three places, and for clients that prove who they are alone: the client learns the password.
//!
//! scopes · resources · connector · password · the connector's policy · the client's · claims · **create**. All that
//! can be refused without a user is refused before the password is looked at; after that there is one answer, whatever
//! the reason, and the log has the reason. Whoever calls counts it as a failed try, together with those at the login form.

use claviger_protocol::error::ErrorCode;
use claviger_protocol::token::{PasswordRequest, TokenResponse};

use super::authorization_code::Redemption;
use super::narrowed_resources;
use crate::admission::{self, SignedIn};
use crate::claim::RequestedClaims;
use crate::client::Client;
use crate::code::LoginGrant;
use crate::connector::{Connector, Login};
use crate::issue::Subject;
use crate::issuer::Issuer;
use crate::login::{self, StepError};
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::scopes::{self, Judgement};
use crate::session;
use crate::token::TokenError;

/// One message for an unknown user, a wrong password and one whom policy refuses.
const INVALID: &str = "the user's name or password is wrong, or they may not sign in here";

/// Gives tokens for a user whose password is right.
///
/// # Errors
/// [`TokenError`]; `invalid_grant` counts as a failed try.
pub async fn grant(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &PasswordRequest,
    key: Option<&str>,
) -> Result<TokenResponse, TokenError> {
    for scope in request.scope.iter() {
        if scopes::judge(issuer, client, scope) != Judgement::Granted {
            let why = format!("scope {} is not granted to this client", scope.as_str());
            return Err(TokenError::refused(ErrorCode::InvalidScope, why));
        }
    }
    narrowed_resources(issuer, client, &request.resources, &[])?;
    let connector = connector(issuer, client)?;
    let signed_in = sign_in(provider, (issuer, client), connector, request).await?;
    let grant = LoginGrant {
        identity: signed_in.identity,
        upstream: signed_in.upstream,
        scopes: request.scope.to_string(),
        nonce: None,
        authentication: signed_in.authentication,
        asked: RequestedClaims::default(),
        resources: request.resources.clone(),
        browser: None,
        session: None,
    };
    let id = provider.random_id();
    let now = provider.clock.now();
    let redemption = Redemption {
        provider,
        issuer,
        client,
        resources: &[],
        key,
        name: session::name_for_password(&issuer.uid, &id),
        digest: String::new(), // there is no code that could come back
        id,
        now,
        invalid: INVALID,
        race_seconds: 0,
        outlives: now,
    };
    redemption.create(&grant).await
}

/// The one connector whose users may give this client their passwords.
fn connector<'i>(issuer: &'i Issuer, client: &Client) -> Result<&'i Connector, TokenError> {
    let unauthorized = |why: &str| TokenError::refused(ErrorCode::UnauthorizedClient, why);
    let named = client.password_connector.as_deref().filter(|_| client.is_confidential());
    let name = named.ok_or_else(|| unauthorized("this client may not be told passwords"))?;
    let connector = issuer.connectors.iter().find(|connector| connector.name == name);
    let connector =
        connector.ok_or_else(|| TokenError::unavailable("the connector is out of service"))?;
    if !client.admits(connector) {
        let why = "this client's users may not sign in with its passwordGrant.connector";
        return Err(unauthorized(why));
    }
    match connector.login {
        Login::Password(_) => Ok(connector),
        Login::Proxy(_) | Login::Redirect(_) => {
            Err(unauthorized("passwordGrant.connector takes no passwords"))
        }
    }
}

/// The user, as password, connector and client let them through.
async fn sign_in(
    provider: &Provider,
    (issuer, client): (&Issuer, &Client),
    connector: &Connector,
    request: &PasswordRequest,
) -> Result<SignedIn, TokenError> {
    let refused = |reason| {
        let (client, connector) = (client.id.as_str(), connector.name.as_str());
        provider.audit.record(&AuditEvent::LoginRefused { client, connector, reason });
        TokenError::invalid_grant(INVALID)
    };
    let attempt = (request.username.trim(), &request.password);
    let authenticated = match login::check_password(provider, &client.id, connector, attempt).await
    {
        Ok(authenticated) => authenticated,
        Err(StepError::InvalidCredentials | StepError::Unusable) => {
            return Err(TokenError::invalid_grant(INVALID));
        }
        Err(StepError::Busy { reason, retry_after }) => {
            return Err(TokenError::Unavailable { reason, retry_after });
        }
        Err(error) => return Err(TokenError::unavailable(error.to_string())),
    };
    let data = authenticated.data.clone();
    let identity = connector.policy.admit(authenticated).map_err(|error| {
        if !error.is_verdict() {
            tracing::warn!(connector = connector.name, %error, "a user cannot be read");
        }
        refused(error.reason())
    })?;
    let signed_in = SignedIn::now(connector, identity, data, provider.clock.now());
    let asked = RequestedClaims::default();
    let identity = &signed_in.identity;
    let about = Subject { identity, connector, client, scopes: &request.scope, asked: &asked };
    let acr = signed_in.authentication.acr.as_deref();
    match admission::may_have(issuer, about, acr) {
        Ok(Ok(())) => Ok(signed_in),
        Ok(Err(denied)) => Err(refused(denied.reason)),
        Err(error) => Err(TokenError::unavailable(error.to_string())),
    }
}

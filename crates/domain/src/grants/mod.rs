//! One file per grant (RFC 6749 1.3): what it takes, in which order it is checked, what it gives.

use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::TokenResponse;

use crate::client::{Client, Grant};
use crate::connector::{Connector, ConnectorData};
use crate::issue::{self, Circumstances, IssueError, Subject};
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::refresh_token::{Binding, RefreshToken, connector_tag};
use crate::resources;
use crate::session::Payload;
use crate::token::TokenError;

pub mod authorization_code;
pub mod client_credentials;
pub mod device_code;
pub mod jwt_bearer;
pub mod password;
pub mod refresh_token;
pub mod token_exchange;

/// A session a grant has just proven, with its refresh token's place.
struct Proven<'a> {
    name: &'a str,
    payload: &'a Payload,
    connector: &'a Connector,
    /// Granted scopes, perhaps narrowed for this answer.
    scopes: &'a ScopeSet,
    /// Resources the access token is for; none means `/userinfo`.
    resources: &'a [String],
    /// `nonce` of the authorization request, in the answer to its code.
    nonce: Option<&'a str>,
    /// Thumbprint of the key that the request proved to hold.
    key: Option<&'a str>,
    /// Generation and expiry of the refresh token to hand out.
    refresh: Option<(i64, i64)>,
}

/// Whether a session of these scopes gets a refresh token (OIDC Core 11, `offline_access`).
fn may_refresh(
    issuer: &Issuer,
    client: &Client,
    (connector, data): (&Connector, Option<&ConnectorData>),
    scopes: &ScopeSet,
) -> bool {
    scopes.contains("offline_access")
        && issuer.grants.contains(&Grant::RefreshToken)
        && client.grants.contains(&Grant::RefreshToken)
        && connector.refresh.is_possible(data)
}

/// When a refresh token handed out now dies: unused, or with its session.
fn refresh_expiry(client: &Client, now: i64, absolute_expiry: i64) -> i64 {
    now.saturating_add(client.lifetimes.refresh_idle).min(absolute_expiry)
}

/// The resources of one answer: what was asked for, never more than was granted (RFC 8707 2.2) and than the
/// client may still have.
fn narrowed_resources(
    issuer: &Issuer,
    client: &Client,
    granted: &[String],
    requested: &[String],
) -> Result<Vec<String>, TokenError> {
    let chosen = if requested.is_empty() { granted } else { requested };
    resources::check(issuer, client, chosen)
        .map_err(|why| TokenError::refused(ErrorCode::InvalidTarget, why))?;
    let userinfo = issuer.userinfo_endpoint();
    let within = |resource: &String| {
        granted.contains(resource) || (granted.is_empty() && *resource == userinfo)
    };
    match requested.iter().find(|resource| !within(resource)) {
        None => Ok(chosen.to_vec()),
        Some(refused) => Err(TokenError::refused(
            ErrorCode::InvalidTarget,
            format!("resource {refused} was not granted at login"),
        )),
    }
}

fn respond(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    proven: &Proven<'_>,
) -> Result<TokenResponse, IssueError> {
    let Proven { name, payload, connector, scopes, resources, nonce, key, refresh } = proven;
    let identity = &payload.identity;
    let about = Subject { identity, connector, client, scopes, asked: &payload.asked };
    let when = Circumstances {
        session: name,
        nonce: *nonce,
        authentication: &payload.authentication,
        resources,
        azp: None,
        not_after: issue::FOR_EVER,
        browser: payload.browser.as_deref(),
        key: *key,
    };
    let tokens = issue::tokens(provider, issuer, about, when)?;
    let binding = Binding { issuer_uid: &issuer.uid, client_uid: &client.uid };
    let refresh_token = refresh.map(|(generation, not_after)| {
        RefreshToken {
            session: (*name).to_owned(),
            generation,
            not_after,
            connector_tag: connector_tag(&connector.uid),
            // That of a client with a secret is bound by it (RFC 9449 5).
            key: key.filter(|_| !client.is_confidential()).map(str::to_owned),
        }
        .encode(&issuer.sealing, binding)
    });
    let response = TokenResponse::new(
        tokens.access_token,
        tokens.expires_in,
        Some(tokens.id_token),
        refresh_token,
        scopes.to_string(),
    );
    Ok(if key.is_some() { response.bound_to_key() } else { response })
}

//! Which scopes a client may have, by the configuration of this moment: asked at the authorization
//! request, and again whenever tokens are made of what was granted then. Trust withdrawn is withdrawn
//! at the next refresh, not at the end of the session.

use claviger_protocol::scope::{Scope, ScopeSet};

use crate::client::Client;
use crate::issuer::{ClientEntry, Issuer};
use crate::token::TokenError;

/// Scopes every issuer knows; others are `audience:server:client_id:<peer>` and those of its own claims.
pub const KNOWN_SCOPES: [&str; 8] =
    ["openid", "email", "profile", "groups", "offline_access", "address", "phone", "federated:id"];

/// What the configuration says of one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The client may have it.
    Granted,
    /// It may not.
    Refused,
    /// It names a peer that is invalid at the moment: nobody can say.
    Unknown,
}

/// Judges one scope for a client. An audience is the peer's to give.
pub fn judge(issuer: &Issuer, client: &Client, scope: &Scope) -> Judgement {
    let granted = match scope.audience() {
        None => is_known(issuer, scope.as_str()) && client.scopes.contains(scope.as_str()),
        Some(peer) if peer == client.id => true,
        Some(peer) => match issuer.client(peer) {
            Some(ClientEntry::InService(peer)) => peer.trusted_peers.contains(&client.id),
            Some(ClientEntry::OutOfService(_)) => return Judgement::Unknown,
            None => false,
        },
    };
    if granted { Judgement::Granted } else { Judgement::Refused }
}

/// Whether a scope means something at an issuer.
pub fn is_known(issuer: &Issuer, scope: &str) -> bool {
    KNOWN_SCOPES.contains(&scope) || issuer.custom_claims.has_scope(scope)
}

/// What is left of scopes that were granted before.
///
/// # Errors
/// `invalid_grant` when not even `openid` is left; [`TokenError::Unavailable`] when a peer is invalid
/// at the moment.
pub fn still_granted(
    issuer: &Issuer,
    client: &Client,
    granted: &ScopeSet,
) -> Result<ScopeSet, TokenError> {
    let mut left = granted.clone();
    let unknown = left.iter().any(|s| judge(issuer, client, s) == Judgement::Unknown);
    if unknown {
        return Err(TokenError::unavailable("a client named in the scopes is invalid"));
    }
    left.retain(|scope| judge(issuer, client, scope) == Judgement::Granted);
    if left.contains("openid") {
        Ok(left)
    } else {
        Err(TokenError::invalid_grant("the client may no longer sign users in"))
    }
}

//! `/userinfo`: answered from the access token and memory alone (OIDC Core 5.3).

use thiserror::Error;

use crate::access_token::{AccessToken, AccessTokenError, UserClaims};
use crate::client::Client;
use crate::dpop::{self, Proof, ProofError};
use crate::issue;
use crate::issuer::{ClientEntry, Issuer};
use crate::provider::Provider;

/// Why an access token answers nothing. On the wire all are `invalid_token` (RFC 6750 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UserinfoError {
    /// Not one of this issuer's live access tokens.
    #[error("access token is not valid here: {0}")]
    Invalid(#[from] AccessTokenError),
    /// It is for other resources alone.
    #[error(
        "access token is for another resource: ask for this one too, by the resource parameter"
    )]
    OtherResource,
    /// It is bound to a key and came alone, or with a proof though it is bound to none.
    #[error(
        "access token and scheme do not fit: one that is bound to a key is presented as DPoP, any other as Bearer"
    )]
    Scheme,
    /// The proof is another key's.
    #[error("access token is bound to another key")]
    OtherKey,
    /// The proof is not good.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The session it belongs to was revoked.
    #[error("session was revoked")]
    Revoked,
    /// The client it was given to is gone.
    #[error("client no longer exists")]
    ClientGone,
    /// Its client wants the answer signed, and nothing signs here at the moment.
    #[error("nothing signs here at the moment")]
    NoSigner,
}

/// What `/userinfo` answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The claims.
    Plain(UserClaims),
    /// The claims, signed (OIDC Core 5.3.2): a JWS.
    Signed(String),
}

/// The answer for the bearer of this access token, as its client wants it.
///
/// # Errors
/// [`UserinfoError`].
pub fn respond(
    provider: &Provider,
    issuer: &Issuer,
    access_token: &str,
    proof: Option<Proof<'_>>,
) -> Result<Answer, UserinfoError> {
    let (claims, client) = read(provider, issuer, access_token, proof)?;
    match client.userinfo_algorithm {
        None => Ok(Answer::Plain(claims)),
        Some(algorithm) => issue::userinfo(issuer, client, algorithm, claims)
            .map(Answer::Signed)
            .map_err(|_| UserinfoError::NoSigner),
    }
}

/// What the bearer of this access token may know, or the holder of the key it is bound to.
///
/// # Errors
/// [`UserinfoError`].
pub fn answer(
    provider: &Provider,
    issuer: &Issuer,
    access_token: &str,
    proof: Option<Proof<'_>>,
) -> Result<UserClaims, UserinfoError> {
    read(provider, issuer, access_token, proof).map(|(claims, _)| claims)
}

fn read<'i>(
    provider: &Provider,
    issuer: &'i Issuer,
    access_token: &str,
    proof: Option<Proof<'_>>,
) -> Result<(UserClaims, &'i Client), UserinfoError> {
    let token = AccessToken::open(issuer, access_token, provider.clock.now())?;
    check_key(provider, issuer, &token, proof)?;
    if !token.audience.contains(&issuer.userinfo_endpoint()) {
        return Err(UserinfoError::OtherResource);
    }
    if token.session.as_deref().is_some_and(|session| provider.revocations.is_revoked(session)) {
        return Err(UserinfoError::Revoked);
    }
    match issuer.client(&token.client_id) {
        Some(ClientEntry::InService(client)) if is_same(client, &token) => {
            Ok((token.claims, client))
        }
        _ => Err(UserinfoError::ClientGone),
    }
}

/// A token that is bound to a key is its holder's alone (RFC 9449 7.1).
fn check_key(
    provider: &Provider,
    issuer: &Issuer,
    token: &AccessToken,
    proof: Option<Proof<'_>>,
) -> Result<(), UserinfoError> {
    match (&token.key, proof) {
        (None, None) => Ok(()),
        (Some(bound), Some(proof)) => {
            let verified = dpop::verify(provider, issuer, proof)?;
            if verified.key != *bound {
                return Err(UserinfoError::OtherKey);
            }
            verified.claim(provider, &token.client_uid)?;
            Ok(())
        }
        _ => Err(UserinfoError::Scheme),
    }
}

fn is_same(client: &Client, token: &AccessToken) -> bool {
    client.uid == token.client_uid
}

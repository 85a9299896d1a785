//! The only mint: every ID token and access token is made here, under one set of rules.
//!
//! What always holds (DESIGN 7): `iss` is the issuer byte for byte; every ID token has a fresh
//! `jti`, and no `nbf`; no claim that an API server may read as a user or group begins with
//! `system:` unless the issuer allows exactly that value.

use claviger_jose::{SignError, Signer, left_half_hash};
use claviger_protocol::claims::{Audience, FederatedClaims, IdTokenClaims};
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::subject;
use thiserror::Error;

use crate::access_token::{AccessToken, UserClaims};
use crate::client::Client;
use crate::connector::Connector;
use crate::identity::Identity;
use crate::issuer::{Issuer, SubjectFormat};
use crate::provider::Provider;

/// The prefix Kubernetes keeps for itself.
const RESERVED_PREFIX: &str = "system:";

/// What a token is about: one user, at one connector, for one client.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The user, after policy.
    pub identity: &'a Identity,
    /// The connector they signed in with.
    pub connector: &'a Connector,
    /// The client that gets the tokens.
    pub client: &'a Client,
    /// Granted scopes.
    pub scopes: &'a ScopeSet,
}

/// The moment and circumstances of a login that tokens repeat.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Name of the stored session.
    pub session: &'a str,
    /// `nonce` of the authorization request.
    pub nonce: Option<&'a str>,
    /// When the user signed in.
    pub auth_time: i64,
}

/// Freshly made tokens. No `Debug`: they are not for logs.
pub struct Tokens {
    /// Bearer token for `/userinfo`.
    pub access_token: String,
    /// Seconds until the access token dies.
    pub expires_in: i64,
    /// The ID token.
    pub id_token: String,
}

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IssueError {
    /// A claim would carry a value that Kubernetes keeps for itself.
    #[error(
        "claim {claim} would carry {value:?}: values beginning with system: are refused unless the OIDCIssuer's allowedSystemValues lists them"
    )]
    ReservedValue {
        /// Name of the claim.
        claim: &'static str,
        /// The value.
        value: String,
    },
    /// The issuer has no active key of the client's algorithm.
    #[error("no active signing key for the client's ID-token algorithm")]
    NoSigner,
    /// The crypto library failed.
    #[error("failed to sign: {0}")]
    Sign(#[from] SignError),
}

/// The claims about the user that these scopes reveal.
///
/// # Errors
/// [`IssueError::ReservedValue`].
pub fn user_claims(issuer: &Issuer, about: Subject<'_>) -> Result<UserClaims, IssueError> {
    let Subject { identity, connector, scopes, .. } = about;
    let sub = match issuer.subject {
        SubjectFormat::Dex => subject::encode(&identity.user_id, &connector.name),
        SubjectFormat::Plain => format!("{}:{}", connector.name, identity.user_id),
    };
    let email = identity.email.clone().filter(|_| scopes.contains("email"));
    let profile = scopes.contains("profile");
    let claims = UserClaims {
        sub,
        email_verified: email.is_some().then_some(identity.email_verified),
        email,
        groups: if scopes.contains("groups") { identity.groups.clone() } else { Vec::new() },
        name: identity.name.clone().filter(|_| profile),
        preferred_username: identity.preferred_username.clone().filter(|_| profile),
        federated_claims: scopes.contains("federated:id").then(|| FederatedClaims {
            connector_id: connector.name.clone(),
            user_id: identity.user_id.clone(),
        }),
    };
    refuse_reserved(issuer, &claims)?;
    Ok(claims)
}

/// Whether [`tokens`] would make tokens, asked before anything is consumed.
///
/// # Errors
/// [`IssueError`].
pub fn check(issuer: &Issuer, about: Subject<'_>) -> Result<(), IssueError> {
    if !issuer.can_sign_for(about.client) {
        return Err(IssueError::NoSigner);
    }
    user_claims(issuer, about).map(drop)
}

/// Makes an access token and an ID token.
///
/// # Errors
/// [`IssueError`]; nothing was made.
pub fn tokens(
    provider: &Provider,
    issuer: &Issuer,
    about: Subject<'_>,
    when: Circumstances<'_>,
) -> Result<Tokens, IssueError> {
    let access_token = access_token(provider, issuer, about, when)?;
    let id_token = id_token(provider, issuer, about, when, &access_token)?;
    Ok(Tokens { access_token, expires_in: about.client.lifetimes.access_token, id_token })
}

fn access_token(
    provider: &Provider,
    issuer: &Issuer,
    about: Subject<'_>,
    when: Circumstances<'_>,
) -> Result<String, IssueError> {
    let client = about.client;
    let now = provider.clock.now();
    let token = AccessToken {
        id: provider.random_id(),
        session: when.session.to_owned(),
        client_id: client.id.clone(),
        client_uid: client.uid.clone(),
        audience: Audience::One(issuer.userinfo_endpoint()),
        scope: about.scopes.to_string(),
        issued_at: now,
        expires_at: now + client.lifetimes.access_token,
        auth_time: Some(when.auth_time),
        claims: user_claims(issuer, about)?,
    };
    Ok(token.sign(issuer, signer(issuer, client)?)?)
}

fn id_token(
    provider: &Provider,
    issuer: &Issuer,
    about: Subject<'_>,
    when: Circumstances<'_>,
    access_token: &str,
) -> Result<String, IssueError> {
    let client = about.client;
    let now = provider.clock.now();
    let claims = user_claims(issuer, about)?;
    let (audience, azp) = audience(client, about.scopes);
    let signed = signer(issuer, client)?.sign(
        None,
        &IdTokenClaims {
            iss: issuer.url.as_str().to_owned(),
            sub: claims.sub,
            aud: audience,
            azp,
            exp: now + client.lifetimes.id_token,
            iat: now,
            jti: provider.random_id(),
            auth_time: Some(when.auth_time),
            nonce: when.nonce.map(str::to_owned),
            at_hash: Some(left_half_hash(client.id_token_algorithm, access_token.as_bytes())),
            email: claims.email,
            email_verified: claims.email_verified,
            groups: claims.groups,
            name: claims.name,
            preferred_username: claims.preferred_username,
            federated_claims: claims.federated_claims,
        },
    );
    Ok(signed?)
}

fn signer<'i>(issuer: &'i Issuer, client: &Client) -> Result<&'i Signer, IssueError> {
    let signer = issuer.keys.signers.get(&client.id_token_algorithm);
    signer.map(AsRef::as_ref).ok_or(IssueError::NoSigner)
}

/// `aud` and `azp`: the peers the scopes name, then the client itself (OIDC Core 2).
fn audience(client: &Client, scopes: &ScopeSet) -> (Audience, Option<String>) {
    let mut audience: Vec<String> = Vec::new();
    for id in scopes.audiences().chain(std::iter::once(client.id.as_str())) {
        if !audience.iter().any(|known| known == id) {
            audience.push(id.to_owned());
        }
    }
    let azp = (audience.len() > 1).then(|| client.id.clone());
    (Audience::from(audience), azp)
}

fn refuse_reserved(issuer: &Issuer, claims: &UserClaims) -> Result<(), IssueError> {
    let single = [
        ("sub", Some(&claims.sub)),
        ("email", claims.email.as_ref()),
        ("name", claims.name.as_ref()),
        ("preferred_username", claims.preferred_username.as_ref()),
        ("federated_claims.user_id", claims.federated_claims.as_ref().map(|f| &f.user_id)),
    ];
    let singles = single.into_iter().filter_map(|(claim, value)| Some((claim, value?)));
    let groups = claims.groups.iter().map(|group| ("groups", group));
    for (claim, value) in singles.chain(groups) {
        if value.starts_with(RESERVED_PREFIX) && !issuer.allowed_system_values.contains(value) {
            return Err(IssueError::ReservedValue { claim, value: value.clone() });
        }
    }
    Ok(())
}

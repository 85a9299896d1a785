//! The only mint: every ID token and access token is made here, under one set of rules.
//!
//! What always holds (DESIGN 7): `iss` is the issuer byte for byte; every ID token has a fresh
//! `jti`, and no `nbf`; no claim that an API server may read as a user or group begins with
//! `system:` unless the issuer allows exactly that value.

use claviger_jose::{Algorithm, SignError, Signer, left_half_hash};
use claviger_protocol::claims::{Audience, FederatedClaims, IdTokenClaims};
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::subject;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::access_token::{AccessToken, UserClaims};
use crate::authentication::Authentication;
use crate::claim::{self, RequestedClaims, Reveal};
use crate::client::{Client, Grant};
use crate::connector::Connector;
use crate::identity::Identity;
use crate::issuer::{Issuer, SubjectFormat};
use crate::policy::RunError;
use crate::provider::Provider;
use crate::token_id;
use crate::workload::{MAX_SUBJECT, Workload};

/// `typ` of a signed answer of `/userinfo`: not that of any token.
const USERINFO_TYPE: &str = "userinfo+jwt";
/// The prefix Kubernetes keeps for itself.
const RESERVED_PREFIX: &str = "system:";
/// What an ID token has besides the claims about its user, in bytes: the other claims, header and signature.
const REST_OF_ID_TOKEN: usize = 1_536;

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
    /// Claims asked for by name.
    pub asked: &'a RequestedClaims,
}

/// The moment and circumstances of a login that tokens repeat.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Name of the stored session.
    pub session: &'a str,
    /// `nonce` of the authorization request.
    pub nonce: Option<&'a str>,
    /// When and how the user signed in.
    pub authentication: &'a Authentication,
    /// Resources the access token is for; none means `/userinfo`.
    pub resources: &'a [String],
    /// Who has the token, where that is not the client it is for.
    pub azp: Option<&'a str>,
    /// When the token dies at the latest, whatever its lifetime; [`FOR_EVER`] where only that counts.
    pub not_after: i64,
    /// Hash of the browser session it came of.
    pub browser: Option<&'a str>,
    /// Thumbprint of the key the access token is bound to (RFC 9449 6).
    pub key: Option<&'a str>,
}

/// The end of a token that is bounded by its lifetime alone.
pub const FOR_EVER: i64 = i64::MAX;

/// What an ID token comes with, and vouches for by a hash (OIDC Core 3.3.2.11).
#[derive(Debug, Clone, Copy, Default)]
pub struct Companions<'a> {
    /// The code beside it.
    pub code: Option<&'a str>,
    /// The access token beside it.
    pub access_token: Option<&'a str>,
    /// The `state` it travels with, where the browser carries it.
    pub state: Option<&'a str>,
}

/// How much an ID token says of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// All that scopes and request reveal.
    Full,
    /// What the request asked for by name: the rest is had elsewhere, and this one is in the browser's history.
    Asked,
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
        claim: String,
        /// The value.
        value: String,
    },
    /// The ID token would be longer than its client takes.
    #[error(
        "the ID token would have {length} bytes and the client's maxIDTokenBytes is {limit}: raise that, narrow the groups the connector reports, or do without scope groups"
    )]
    TooLarge {
        /// Its length in bytes, about.
        length: usize,
        /// The client's limit.
        limit: usize,
    },
    /// A claim of the issuer's own could not be told.
    #[error("claim {claim} of the OIDCIssuer could not be evaluated for this user: {error}")]
    Claim {
        /// Its name.
        claim: String,
        /// Why not.
        error: RunError,
    },
    /// A workload's `sub` would be longer than OIDC Core 2 allows.
    #[error(
        "sub would have {length} characters, and {MAX_SUBJECT} are allowed: shorten the name at its issuer, or choose subject Plain, which needs fewer"
    )]
    SubjectTooLong {
        /// Its length.
        length: usize,
    },
    /// The issuer has no active key of the client's algorithm.
    #[error("no active signing key for the client's ID-token algorithm")]
    NoSigner,
    /// The crypto library failed.
    #[error("failed to sign: {0}")]
    Sign(#[from] SignError),
}

/// The claims about the user that scopes and request reveal, at `/userinfo` or in an ID token.
///
/// # Errors
/// [`IssueError::ReservedValue`] or [`IssueError::Claim`].
pub fn user_claims(
    issuer: &Issuer,
    about: Subject<'_>,
    reveal: Reveal<'_>,
) -> Result<UserClaims, IssueError> {
    let Subject { identity, connector, .. } = about;
    let email = identity.email.clone().filter(|_| reveal.shows("email"));
    let show = |claim: &str, value: &Option<String>| value.clone().filter(|_| reveal.shows(claim));
    // What else a mapping gave is for the issuer's own claims to say.
    let said = |claim: &str| claim::scope_of(claim).is_some() && reveal.shows(claim);
    let extra = identity.extra.iter().filter(|(claim, _)| said(claim));
    let sub = subject(issuer, connector, identity);
    let own = issuer
        .custom_claims
        .values(about, &sub, |claim| reveal.shows(claim))
        .map_err(|(claim, error)| IssueError::Claim { claim, error })?;
    let extra = extra.map(|(claim, value)| (claim.clone(), value.clone())).chain(own);
    let claims = UserClaims {
        sub,
        email_verified: (identity.email.is_some() && reveal.shows("email_verified"))
            .then_some(identity.email_verified),
        email,
        groups: if reveal.shows("groups") { identity.groups.clone() } else { Vec::new() },
        name: show("name", &identity.name),
        preferred_username: show("preferred_username", &identity.preferred_username),
        federated_claims: reveal.shows("federated_claims").then(|| FederatedClaims {
            connector_id: connector.name.clone(),
            user_id: identity.user_id.clone(),
        }),
        extra: extra.collect(),
    };
    refuse_reserved(issuer, &claims)?;
    Ok(claims)
}

/// `sub`: a user's identifier at this issuer, whoever asks.
pub fn subject(issuer: &Issuer, connector: &Connector, identity: &Identity) -> String {
    subject_of(issuer.subject, &connector.name, &identity.user_id)
}

/// `sub` of a user of a connector, by name and identifier.
pub fn subject_of(format: SubjectFormat, connector: &str, user_id: &str) -> String {
    match format {
        SubjectFormat::Dex => subject::encode(user_id, connector),
        SubjectFormat::Plain => format!("{connector}:{user_id}"),
    }
}

/// Whether tokens could be made, asked before anything is consumed.
///
/// # Errors
/// [`IssueError`].
pub fn check(issuer: &Issuer, about: Subject<'_>) -> Result<(), IssueError> {
    if !issuer.can_sign_for(about.client) {
        return Err(IssueError::NoSigner);
    }
    let Subject { scopes, asked, .. } = about;
    user_claims(issuer, about, Reveal { issuer, scopes, asked: &asked.userinfo })?;
    check_id_token(issuer, about, Detail::Full)
}

/// The same of an ID token alone.
///
/// # Errors
/// [`IssueError`].
pub fn check_id_token(
    issuer: &Issuer,
    about: Subject<'_>,
    detail: Detail,
) -> Result<(), IssueError> {
    signer(issuer, about.client)?;
    check_size(about.client, &id_token_claims(issuer, about, detail)?)
}

/// What an ID token says of its user.
fn id_token_claims(
    issuer: &Issuer,
    about: Subject<'_>,
    detail: Detail,
) -> Result<UserClaims, IssueError> {
    let only_asked = ScopeSet::default();
    let scopes = if detail == Detail::Full { about.scopes } else { &only_asked };
    user_claims(issuer, about, Reveal { issuer, scopes, asked: &about.asked.id_token })
}

/// Whether an ID token of these claims is what its client takes.
fn check_size(client: &Client, claims: &UserClaims) -> Result<(), IssueError> {
    let json = serde_json::to_vec(claims).map_or(0, |json| json.len());
    let (length, limit) = (json.div_ceil(3) * 4 + REST_OF_ID_TOKEN, client.max_id_token);
    if length > limit { Err(IssueError::TooLarge { length, limit }) } else { Ok(()) }
}

/// Makes an access token and an ID token: the answer of the token endpoint.
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
    let with = Companions { access_token: Some(&access_token), ..Companions::default() };
    let id_token = id_token(provider, issuer, about, when, (Detail::Full, with))?;
    Ok(Tokens { access_token, expires_in: about.client.lifetimes.access_token, id_token })
}

/// Makes an access token.
///
/// # Errors
/// [`IssueError`].
pub fn access_token(
    provider: &Provider,
    issuer: &Issuer,
    about: Subject<'_>,
    when: Circumstances<'_>,
) -> Result<String, IssueError> {
    let Subject { client, scopes, asked, .. } = about;
    let now = provider.clock.now();
    let audience = resource_audience(issuer, when.resources);
    let token = AccessToken {
        key: when.key.map(str::to_owned),
        id: provider.random_id(),
        session: Some(when.session.to_owned()),
        grant: None,
        client_id: client.id.clone(),
        client_uid: client.uid.clone(),
        audience,
        scope: scopes.to_string(),
        issued_at: now,
        expires_at: (now + client.lifetimes.access_token).min(when.not_after),
        authentication: Some(when.authentication.clone()),
        claims: user_claims(issuer, about, Reveal { issuer, scopes, asked: &asked.userinfo })?,
    };
    Ok(token.sign(issuer, signer(issuer, client)?)?)
}

/// Makes an ID token.
///
/// # Errors
/// [`IssueError`].
pub fn id_token(
    provider: &Provider,
    issuer: &Issuer,
    about: Subject<'_>,
    when: Circumstances<'_>,
    (detail, with): (Detail, Companions<'_>),
) -> Result<String, IssueError> {
    let Subject { client, scopes, .. } = about;
    let now = provider.clock.now();
    let claims = id_token_claims(issuer, about, detail)?;
    let (audience, azp) = audience(client, scopes);
    let azp = when.azp.map(str::to_owned).or(azp);
    let parties = audience.as_slice().iter().chain(&azp).map(String::as_str);
    let jti = token_id::of_session(provider, issuer, when.session, parties);
    let hash = |text: &str| left_half_hash(client.id_token_algorithm, text.as_bytes());
    let signed = signer(issuer, client)?.sign(
        None,
        &IdTokenClaims {
            iss: issuer.url.as_str().to_owned(),
            sub: claims.sub,
            aud: audience,
            azp,
            exp: (now + client.lifetimes.id_token).min(when.not_after),
            iat: now,
            jti,
            auth_time: Some(when.authentication.time),
            acr: when.authentication.acr.clone(),
            amr: when.authentication.amr.clone(),
            nonce: when.nonce.map(str::to_owned),
            sid: when.browser.map(str::to_owned),
            at_hash: with.access_token.map(hash),
            c_hash: with.code.map(hash),
            s_hash: with.state.map(hash),
            email: claims.email,
            email_verified: claims.email_verified,
            groups: claims.groups,
            name: claims.name,
            preferred_username: claims.preferred_username,
            federated_claims: claims.federated_claims,
            extra: claims.extra,
        },
    )?;
    Ok(signed)
}

/// Makes a signed answer of `/userinfo` (OIDC Core 5.3.2): the claims, with `iss` and `aud`. It has no `exp`, so
/// that no API server takes it for an ID token.
///
/// # Errors
/// [`IssueError`].
pub fn userinfo(
    issuer: &Issuer,
    client: &Client,
    algorithm: Algorithm,
    claims: UserClaims,
) -> Result<String, IssueError> {
    let signer = issuer.keys.signers.get(&algorithm).ok_or(IssueError::NoSigner)?;
    let iss = issuer.url.as_str().to_owned();
    let claims = UserinfoClaims { iss, aud: client.id.clone(), claims };
    Ok(signer.sign(Some(USERINFO_TYPE), &claims)?)
}

#[derive(Serialize)]
struct UserinfoClaims {
    iss: String,
    aud: String,
    #[serde(flatten)]
    claims: UserClaims,
}

/// Makes an access token about a client itself: no user, no session, no time of a sign-in.
/// What a token about a workload says, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Whom it is about.
    pub workload: &'a Workload,
    /// The client that gets it, or, of an exchange, for which it is.
    pub client: &'a Client,
    /// Granted scopes.
    pub scopes: &'a ScopeSet,
    /// The grant it is given by.
    pub grant: Grant,
    /// Who has the token, where that is not the client it is for.
    pub azp: Option<&'a str>,
    /// When the token dies at the latest, whatever its lifetime.
    pub not_after: i64,
}

/// Makes an access token about a workload: no user, no session, no time of a sign-in.
///
/// # Errors
/// [`IssueError`].
pub fn workload_access_token(
    provider: &Provider,
    issuer: &Issuer,
    about: About<'_>,
    resources: &[String],
) -> Result<String, IssueError> {
    let About { client, scopes, grant, not_after, .. } = about;
    let now = provider.clock.now();
    let token = AccessToken {
        key: None,
        id: provider.random_id(),
        session: None,
        grant: Some(grant),
        client_id: client.id.clone(),
        client_uid: client.uid.clone(),
        audience: resource_audience(issuer, resources),
        scope: scopes.to_string(),
        issued_at: now,
        expires_at: (now + client.lifetimes.access_token).min(not_after),
        authentication: None,
        claims: workload_claims(issuer, about)?,
    };
    Ok(token.sign(issuer, signer(issuer, client)?)?)
}

/// Makes an ID token about a workload, perhaps beside an access token.
///
/// # Errors
/// [`IssueError`].
pub fn workload_id_token(
    provider: &Provider,
    issuer: &Issuer,
    about: About<'_>,
    access_token: Option<&str>,
) -> Result<String, IssueError> {
    let About { client, scopes, not_after, .. } = about;
    let now = provider.clock.now();
    let claims = workload_claims(issuer, about)?;
    check_size(client, &claims)?;
    let (aud, azp) = audience(client, scopes);
    let hash = |text: &str| left_half_hash(client.id_token_algorithm, text.as_bytes());
    let claims = IdTokenClaims {
        iss: issuer.url.as_str().to_owned(),
        sub: claims.sub,
        aud,
        azp: about.azp.map(str::to_owned).or(azp),
        exp: (now + client.lifetimes.id_token).min(not_after),
        iat: now,
        jti: provider.random_id(),
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        nonce: None,
        sid: None,
        at_hash: access_token.map(hash),
        c_hash: None,
        s_hash: None,
        email: None,
        email_verified: None,
        groups: claims.groups,
        name: claims.name,
        preferred_username: claims.preferred_username,
        federated_claims: None,
        extra: claims.extra,
    };
    Ok(signer(issuer, client)?.sign(None, &claims)?)
}

/// `aud` of an access token: the resources, or else `/userinfo`.
fn resource_audience(issuer: &Issuer, resources: &[String]) -> Audience {
    match resources {
        [] => Audience::One(issuer.userinfo_endpoint()),
        resources => Audience::from(resources.to_vec()),
    }
}

/// What these scopes reveal of a workload.
fn workload_claims(issuer: &Issuer, about: About<'_>) -> Result<UserClaims, IssueError> {
    let About { workload, scopes, .. } = about;
    let sub = workload.subject(issuer);
    // A client's own ID is its administrator's to choose: some are longer, and were before workloads came.
    if sub.len() > MAX_SUBJECT && about.grant != Grant::ClientCredentials {
        return Err(IssueError::SubjectTooLong { length: sub.len() });
    }
    let username = workload.username.clone().filter(|_| scopes.contains("profile"));
    let claims = UserClaims {
        sub,
        groups: if scopes.contains("groups") { workload.groups.clone() } else { Vec::new() },
        name: username.clone(),
        preferred_username: username,
        extra: workload.claims.clone(),
        ..UserClaims::default()
    };
    refuse_reserved(issuer, &claims)?;
    Ok(claims)
}

pub(crate) fn signer<'i>(issuer: &'i Issuer, client: &Client) -> Result<&'i Signer, IssueError> {
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

pub(crate) fn refuse_reserved(issuer: &Issuer, claims: &UserClaims) -> Result<(), IssueError> {
    let single = [
        ("sub", Some(claims.sub.as_str())),
        ("email", claims.email.as_deref()),
        ("name", claims.name.as_deref()),
        ("preferred_username", claims.preferred_username.as_deref()),
        ("federated_claims.user_id", claims.federated_claims.as_ref().map(|f| f.user_id.as_str())),
    ];
    let singles = single.into_iter().filter_map(|(claim, value)| Some((claim, value?)));
    let groups = claims.groups.iter().map(|group| ("groups", group.as_str()));
    let extra = claims.extra.iter().flat_map(|(claim, value)| {
        texts(value).into_iter().map(move |text| (claim.as_str(), text))
    });
    for (claim, value) in singles.chain(groups).chain(extra) {
        if value.starts_with(RESERVED_PREFIX) && !issuer.allowed_system_values.contains(value) {
            return Err(IssueError::ReservedValue {
                claim: claim.to_owned(),
                value: value.to_owned(),
            });
        }
    }
    Ok(())
}

/// Every text in a value, however deep.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => {
            // The name of a member is as good as its value, to whoever maps claims.
            members
                .iter()
                .flat_map(|(name, value)| texts(value).into_iter().chain([name.as_str()]))
                .collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

//! Tokens of other issuers that a client may bring: an identity provider's, a CI system's (GitHub Actions, GitLab).
//!
//! ```text
//! iss, aud, times, every rule ── not right ─→ refused, and nobody is asked for keys
//!   └ keys: jwksURI, or the issuer's discovery document ── cannot be had ─→ come back later
//!       └ signature, by an allowed algorithm; and all of it once more
//! ```
//! What always holds: a token is believed of an issuer the client lists, made for this one audience and no
//! other, living no longer than was said, and with a value that was listed for every claim that was; whoever
//! runs such an issuer decides who they are there, never who they are anywhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_jose::verify::{audiences, numeric_date};
use claviger_jose::{
    Algorithm, Claims, KeySet, Signed, UnverifiedHeader, VerifyError, unverified_claims,
    unverified_header, verify_signature,
};
use claviger_protocol::token_exchange::SubjectTokenType;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::SKEW_SECONDS;
use crate::key_cache::{KeyCache, Patience};
use crate::ports::{Clock, FetchError, PublishedKeys};
use crate::workload::Workload;

/// As long as a client's own keys: what is withdrawn is believed for five minutes, what is new at once.
const PATIENCE: Patience = Patience { fresh: 300, stale: 3_600, pause: 10 };
/// Longest token read, in bytes: those of CI systems have about 2,000.
const MAX_TOKEN: usize = 16_384;
/// Most groups of one token.
const MAX_GROUPS: usize = 256;
/// Where an issuer says where its keys are (OIDC Discovery 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// One issuer that a client trusts, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// `iss`, byte for byte.
    pub issuer: String,
    /// The only audience its tokens may have.
    pub audience: String,
    /// Where its keys are; its discovery document says if this does not.
    pub jwks_uri: Option<String>,
    /// Algorithms its tokens may be signed by.
    pub algorithms: Vec<Algorithm>,
    /// By claim, the values of which it must have one.
    pub rules: BTreeMap<String, BTreeSet<String>>,
    /// Groups everybody is in whom it vouches for.
    pub groups: Vec<String>,
    /// A claim whose values are groups too.
    pub groups_claim: Option<GroupsClaim>,
    /// Longest its tokens may live, in seconds.
    pub max_life: i64,
}

/// A claim that lists groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsClaim {
    /// Its name.
    pub claim: String,
    /// Put before each value. Never empty.
    pub prefix: String,
}

/// Whoever was vouched for, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vouched {
    pub workload: Workload,
    pub expires_at: i64,
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ForeignTokenError {
    /// It is at fault.
    #[error("{0}")]
    Refused(String),
    /// Its issuer's keys cannot be had.
    #[error("the keys of {issuer} cannot be had: {error}")]
    Unavailable { issuer: String, error: FetchError },
}

/// Whoever believes the tokens of other issuers.
#[derive(Debug)]
pub(crate) struct ForeignTokens {
    publishers: Arc<dyn PublishedKeys>,
    known: KeyCache<KeySet>,
}

impl ForeignTokens {
    /// Nobody is asked before the first token.
    pub fn new(publishers: Arc<dyn PublishedKeys>) -> Self {
        Self { publishers, known: KeyCache::new(PATIENCE) }
    }

    /// Believes a token of one of these issuers. Of several entries for one issuer, the first that fits.
    pub async fn verify(
        &self,
        trusted: &[TrustedIssuer],
        (kind, jwt): (SubjectTokenType, &str),
        clock: &dyn Clock,
    ) -> Result<Vouched, ForeignTokenError> {
        if jwt.len() > MAX_TOKEN {
            return Err(refused(&format!("it is longer than {MAX_TOKEN} bytes")));
        }
        let (unproven, header) = (unverified_claims(jwt)?, unverified_header(jwt)?);
        let entry = entry_for(trusted, &unproven, clock.now())?;
        if !entry.algorithms.contains(&header.algorithm) {
            return Err(VerifyError::Algorithm.into());
        }
        let keys = self.keys(entry, &header, clock).await?;
        let signed = verify_signature(&keys, jwt, &entry.algorithms)?;
        if !is_a(kind, &signed) {
            return Err(VerifyError::Type.into());
        }
        entry.check(&signed.claims, clock.now())
    }

    async fn keys(
        &self,
        entry: &TrustedIssuer,
        header: &UnverifiedHeader,
        clock: &dyn Clock,
    ) -> Result<Arc<KeySet>, ForeignTokenError> {
        let (publishers, at) = (Arc::clone(&self.publishers), entry.jwks_uri.clone());
        let issuer = entry.issuer.clone();
        let ask = async move {
            let uri = match at {
                Some(uri) => uri,
                None => discover(publishers.as_ref(), &issuer).await?,
            };
            let document = publishers.fetch(&uri).await?;
            KeySet::parse(&document).map_err(|error| FetchError::unavailable(error.to_string()))
        };
        // An issuer's URL and that of a key set are never one: the first is asked for a document of its own.
        let place = match &entry.jwks_uri {
            Some(uri) => uri.clone(),
            None => format!("discovery {}", entry.issuer),
        };
        let will_do = |keys: &KeySet| keys.has(header.kid.as_deref(), header.algorithm);
        let asked = self.known.get(&place, clock.elapsed(), will_do, ask).await;
        asked
            .map_err(|error| ForeignTokenError::Unavailable { issuer: entry.issuer.clone(), error })
    }
}

/// Where an issuer says that its keys are.
async fn discover(publishers: &dyn PublishedKeys, issuer: &str) -> Result<String, FetchError> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: String,
    }
    let place = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
    let document = publishers.fetch(&place).await?;
    let found: Discovery = serde_json::from_slice(&document)
        .map_err(|error| FetchError::unavailable(format!("{place}: {error}")))?;
    if found.issuer == issuer {
        Ok(found.jwks_uri)
    } else {
        let found = found.issuer.escape_debug().to_string();
        Err(FetchError::unavailable(format!("{place} is the document of another issuer, {found}")))
    }
}

/// The entry by which a token would be good, if its signature is.
fn entry_for<'t>(
    trusted: &'t [TrustedIssuer],
    claims: &Claims,
    now: i64,
) -> Result<&'t TrustedIssuer, ForeignTokenError> {
    let iss = claims.get("iss").and_then(Value::as_str).ok_or(VerifyError::Claim("iss"))?;
    let mut why = None;
    for entry in trusted.iter().filter(|entry| entry.issuer == iss) {
        match entry.check(claims, now) {
            Ok(_) => return Ok(entry),
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.unwrap_or_else(|| refused("its issuer (iss) is none of this client's trustedIssuers")))
}

/// Whether a token may be of this kind, by what it calls itself: one that was signed for something else is none
/// (RFC 8725 3.11).
fn is_a(kind: SubjectTokenType, signed: &Signed) -> bool {
    let access = kind != SubjectTokenType::IdToken && signed.is_of_type("at+jwt");
    signed.typ.is_none() || signed.is_of_type("JWT") || access
}

impl TrustedIssuer {
    /// Holds the claims of a token against this entry and the clock.
    fn check(&self, claims: &Claims, now: i64) -> Result<Vouched, ForeignTokenError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(VerifyError::Issuer.into());
        }
        // Whoever else it is for could bring it here.
        if audiences(claims)? != [self.audience.as_str()] {
            return Err(refused(&format!("aud must be {} and nothing else", self.audience)));
        }
        if claims.contains_key("cnf") {
            return Err(refused(
                "it is bound to a key (cnf): what it is exchanged for would not be",
            ));
        }
        let expires_at = self.check_times(claims, now)?;
        for (claim, values) in &self.rules {
            if !claims.get(claim).is_some_and(|value| is_one_of(value, values)) {
                return Err(refused(&format!(
                    "claim {claim} has no value that this client's trustedIssuers lists"
                )));
            }
        }
        let sub = claims.get("sub").and_then(Value::as_str).ok_or(VerifyError::Claim("sub"))?;
        if sub.is_empty() || sub.chars().any(char::is_control) {
            return Err(VerifyError::Claim("sub").into());
        }
        let workload = Workload::of_issuer(&self.issuer, sub, self.groups_of(claims)?);
        Ok(Vouched { workload, expires_at })
    }

    fn check_times(&self, claims: &Claims, now: i64) -> Result<i64, ForeignTokenError> {
        let time = |name| numeric_date(claims, name)?.ok_or(VerifyError::Claim(name));
        let (made_at, expires_at) = (time("iat")?, time("exp")?);
        if now >= expires_at {
            return Err(VerifyError::Expired.into());
        }
        let begins = numeric_date(claims, "nbf")?.unwrap_or(made_at).max(made_at);
        if begins > now.saturating_add(SKEW_SECONDS) {
            return Err(VerifyError::NotYetValid.into());
        }
        if expires_at.saturating_sub(made_at) > self.max_life {
            let why =
                format!("it lives for more than {} s (maxTokenLifetimeSeconds)", self.max_life);
            return Err(refused(&why));
        }
        Ok(expires_at)
    }

    fn groups_of(&self, claims: &Claims) -> Result<Vec<String>, ForeignTokenError> {
        let mut groups = self.groups.clone();
        let Some(GroupsClaim { claim, prefix }) = &self.groups_claim else { return Ok(groups) };
        let named: Vec<&str> = match claims.get(claim) {
            None => Vec::new(),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several
                .iter()
                .map(Value::as_str)
                .collect::<Option<_>>()
                .ok_or_else(|| refused(&format!("claim {claim} is no list of texts")))?,
            Some(_) => return Err(refused(&format!("claim {claim} is no list of texts"))),
        };
        if named.len() > MAX_GROUPS {
            return Err(refused(&format!("claim {claim} has more than {MAX_GROUPS} groups")));
        }
        for name in named {
            let group = format!("{prefix}{name}");
            if !name.is_empty() && !groups.contains(&group) {
                groups.push(group);
            }
        }
        Ok(groups)
    }
}

/// Whether a claim has one of these values: a text exactly, a number or a boolean as JSON writes it, and of a
/// list one text.
fn is_one_of(value: &Value, listed: &BTreeSet<String>) -> bool {
    match value {
        Value::String(text) => listed.contains(text),
        Value::Bool(_) | Value::Number(_) => listed.contains(&value.to_string()),
        Value::Array(items) => {
            items.iter().filter_map(Value::as_str).any(|text| listed.contains(text))
        }
        Value::Null | Value::Object(_) => false,
    }
}

fn refused(why: &str) -> ForeignTokenError {
    ForeignTokenError::Refused(why.to_owned())
}

impl From<VerifyError> for ForeignTokenError {
    fn from(error: VerifyError) -> Self {
        Self::Refused(error.to_string())
    }
}

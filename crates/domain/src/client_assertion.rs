//! Clients that prove themselves by signing (`private_key_jwt`: OIDC Core 9, RFC 7521 4.2, RFC 7523 3),
//! or by a token that the cluster signed for their ServiceAccount.
//!
//! What always holds: what an assertion says is held against the client and the clock before any key is
//! looked for; it is good once, for a minute, and here alone; only then is anything remembered of it.

use std::sync::Arc;

use claviger_jose::verify::{audiences, numeric_date};
use claviger_jose::{
    Algorithm, Claims, KeySet, Signed, VerifyError, unverified_claims, unverified_header,
    verify_signature,
};
use claviger_protocol::error::ErrorCode;
use serde_json::Value;

use crate::SKEW_SECONDS;
use crate::client::{Client, ClientKeys, ServiceAccount};
use crate::cluster_token::{ClusterTokenError, ClusterTokens, ProvenAccount};
use crate::issuer::Issuer;
use crate::key_cache::{KeyCache, Patience};
use crate::ports::{Clock, Cluster, FetchError, PublishedKeys};
use crate::replay::{Claimed, Replays};
use crate::token::TokenError;
use crate::trusted_issuer::ForeignTokens;

/// Longest an assertion may still live, in seconds, clocks aside.
const LONGEST_LIFE: i64 = 60;
/// A key that is withdrawn is believed for five minutes; one that is new, at once.
const PATIENCE: Patience = Patience { fresh: 300, stale: 3_600, pause: 10 };
/// Longest `jti` read, in bytes.
const MAX_JTI: usize = 256;
/// Longest a request object may still live, in seconds.
const LONGEST_REQUEST: i64 = 3_600;
/// What a request object may call itself, if it says so (RFC 9101 10.8).
const REQUEST_TYPES: [&str; 2] = ["oauth-authz-req+jwt", "JWT"];
/// What an assertion may call itself, if it says so.
const TYPES: [&str; 2] = ["JWT", "client-authentication+jwt"];
/// The endpoint whose URL every assertion may be made for, wherever it is presented (RFC 9126 2).
const TOKEN_ENDPOINT: &str = "/token";

/// An assertion that was presented.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presented<'a> {
    /// The compact JWS.
    pub jwt: &'a str,
    /// Path of the endpoint below the issuer.
    pub endpoint: &'a str,
    /// Tells the time.
    pub clock: &'a dyn Clock,
}

/// Whoever believes assertions: what was used up, and the keys of those who sign.
#[derive(Debug)]
pub struct Assertions {
    used: Replays,
    proofs: Replays,
    publishers: Arc<dyn PublishedKeys>,
    published: KeyCache<KeySet>,
    cluster: ClusterTokens,
    foreign: ForeignTokens,
}

impl Assertions {
    /// Nothing was used, and nobody is asked for keys yet.
    pub fn new(publishers: Arc<dyn PublishedKeys>, cluster: Arc<dyn Cluster>) -> Self {
        Self {
            used: Replays::default(),
            proofs: Replays::default(),
            foreign: ForeignTokens::new(Arc::clone(&publishers)),
            publishers,
            published: KeyCache::new(PATIENCE),
            cluster: ClusterTokens::new(cluster),
        }
    }

    /// Uses up a proof of possession, remembered apart from assertions: whoever has no secret can make them.
    pub(crate) fn claim_proof(&self, owner: &str, id: &str, until: i64, now: i64) -> Claimed {
        self.proofs.claim(owner, id, until, now)
    }

    /// Who believes the tokens of this cluster's `ServiceAccounts`.
    pub fn cluster(&self) -> &ClusterTokens {
        &self.cluster
    }

    /// Who believes the tokens of other issuers.
    pub(crate) fn foreign(&self) -> &ForeignTokens {
        &self.foreign
    }

    /// Believes an assertion that one of the client's keys signed.
    pub(crate) async fn verify(
        &self,
        issuer: &Issuer,
        client: &Client,
        keys: &ClientKeys,
        presented: Presented<'_>,
    ) -> Result<(), TokenError> {
        let unproven = unverified_claims(presented.jwt).map_err(refused)?;
        check(&unproven, issuer, client, presented)?;
        let signed = self.signed(keys, presented.jwt, presented.clock).await?;
        if !is_for_authentication(&signed) {
            return Err(invalid("typ must be JWT or client-authentication+jwt, or absent"));
        }
        let (jti, expires) = check(&signed.claims, issuer, client, presented)?;
        let now = presented.clock.now();
        match self.used.claim(&client.uid, jti, expires + SKEW_SECONDS, now) {
            Claimed::First => Ok(()),
            Claimed::Again => Err(invalid("jti was used before: sign a new one for each request")),
            Claimed::NoRoom => Err(TokenError::unavailable("too many client assertions at once")),
        }
    }

    /// Believes a request object that one of the client's keys signed (RFC 9101 6): `whose` is the client
    /// ID and this issuer's URL.
    pub(crate) async fn verify_request(
        &self,
        whose: (&str, &str),
        keys: &ClientKeys,
        jwt: &str,
        clock: &dyn Clock,
    ) -> Result<Claims, TokenError> {
        let invalid = |why: String| {
            TokenError::refused(ErrorCode::InvalidRequestObject, format!("request: {why}"))
        };
        let broken = |error: VerifyError| invalid(error.to_string());
        let check = |claims: &Claims| {
            if claims.get("iss").and_then(Value::as_str) != Some(whose.0) {
                return Err(invalid("iss must be the client_id".into()));
            }
            if !audiences(claims).map_err(broken)?.contains(&whose.1) {
                return Err(invalid(format!("aud must be {}", whose.1)));
            }
            let now = clock.now();
            let expires = numeric_date(claims, "exp").map_err(broken)?;
            let expires = expires.ok_or_else(|| invalid("exp is missing".into()))?;
            if now >= expires.saturating_add(SKEW_SECONDS) {
                return Err(invalid("it has expired (exp)".into()));
            }
            if expires > now + LONGEST_REQUEST + SKEW_SECONDS {
                return Err(invalid(format!("exp must be at most {LONGEST_REQUEST} s ahead")));
            }
            let begins = numeric_date(claims, "nbf").map_err(broken)?.unwrap_or(now);
            if begins > now.saturating_add(SKEW_SECONDS) {
                return Err(invalid("nbf is in the future: compare the clocks".into()));
            }
            Ok(())
        };
        check(&unverified_claims(jwt).map_err(broken)?)?;
        let signed = self.signed(keys, jwt, clock).await.map_err(|error| match error {
            TokenError::Refused { description, .. } => invalid(description),
            other @ TokenError::Unavailable { .. } => other,
        })?;
        if signed.typ.is_some() && !REQUEST_TYPES.iter().any(|typ| signed.is_of_type(typ)) {
            return Err(invalid("typ must be oauth-authz-req+jwt or JWT, or absent".into()));
        }
        check(&signed.claims)?;
        Ok(signed.claims)
    }

    /// Believes the token of a `ServiceAccount`. It may be used until it expires.
    pub(crate) async fn verify_service_account(
        &self,
        issuer: &Issuer,
        account: &ServiceAccount,
        presented: Presented<'_>,
    ) -> Result<(), TokenError> {
        let is_wanted = |found: &ProvenAccount| account.is(found);
        let url = issuer.url.as_str();
        let found = self.cluster.verify(presented.jwt, url, presented.clock, is_wanted).await;
        found.map(drop).map_err(|error| match error {
            ClusterTokenError::Refused(why) => invalid(&why),
            ClusterTokenError::Unavailable(_) => TokenError::unavailable(error.to_string()),
        })
    }

    /// What one of the keys signed.
    async fn signed(
        &self,
        keys: &ClientKeys,
        jwt: &str,
        clock: &dyn Clock,
    ) -> Result<Signed, TokenError> {
        let uri = match keys {
            ClientKeys::Inline(keys) => {
                return verify_signature(keys, jwt, &Algorithm::ALL).map_err(refused);
            }
            ClientKeys::At(uri) => uri,
        };
        let header = unverified_header(jwt).map_err(refused)?;
        let will_do = |keys: &KeySet| keys.has(header.kid.as_deref(), header.algorithm);
        let (publishers, place) = (Arc::clone(&self.publishers), uri.clone());
        let ask = async move {
            let document = publishers.fetch(&place).await?;
            KeySet::parse(&document).map_err(|error| FetchError::unavailable(error.to_string()))
        };
        let asked = self.published.get(uri, clock.elapsed(), will_do, ask).await;
        let keys = asked.map_err(|error| {
            TokenError::unavailable(format!("the keys at {uri} cannot be had: {error}"))
        })?;
        verify_signature(&keys, jwt, &Algorithm::ALL).map_err(refused)
    }
}

/// Holds the claims against the client, this issuer and the clock; `jti` and `exp` come back.
fn check<'c>(
    claims: &'c Claims,
    issuer: &Issuer,
    client: &Client,
    presented: Presented<'_>,
) -> Result<(&'c str, i64), TokenError> {
    let text = |name| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(&client.id) || text("sub") != Some(&client.id) {
        return Err(invalid("iss and sub must both be the client_id"));
    }
    let meant = [
        issuer.url.as_str().to_owned(),
        issuer.url.join(presented.endpoint),
        issuer.url.join(TOKEN_ENDPOINT),
    ];
    if !audiences(claims).map_err(refused)?.iter().any(|aud| meant.iter().any(|own| own == aud)) {
        return Err(invalid(&format!("aud must be {}", issuer.url.as_str())));
    }
    let expires =
        numeric_date(claims, "exp").map_err(refused)?.ok_or_else(|| invalid("exp is missing"))?;
    let now = presented.clock.now();
    if now >= expires.saturating_add(SKEW_SECONDS) {
        return Err(invalid("it has expired (exp)"));
    }
    if expires > now + LONGEST_LIFE + SKEW_SECONDS {
        return Err(invalid(&format!("exp must be at most {LONGEST_LIFE} s ahead")));
    }
    for name in ["iat", "nbf"] {
        let begins = numeric_date(claims, name).map_err(refused)?.unwrap_or(now);
        if begins > now.saturating_add(SKEW_SECONDS) {
            return Err(invalid(&format!("{name} is in the future: compare the clocks")));
        }
    }
    match text("jti") {
        Some(jti) if !jti.is_empty() && jti.len() <= MAX_JTI => Ok((jti, expires)),
        _ => Err(invalid(&format!("jti must be a text of 1 to {MAX_JTI} bytes"))),
    }
}

/// Whether a token of this type may authenticate a client: one that was signed for something else may
/// not (RFC 8725 3.11).
fn is_for_authentication(signed: &Signed) -> bool {
    signed.typ.is_none() || TYPES.iter().any(|typ| signed.is_of_type(typ))
}

fn refused(error: VerifyError) -> TokenError {
    invalid(&error.to_string())
}

fn invalid(why: &str) -> TokenError {
    TokenError::refused(ErrorCode::InvalidClient, format!("client_assertion: {why}"))
}

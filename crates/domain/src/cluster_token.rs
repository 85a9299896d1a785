//! Tokens that this cluster's API server made for its `ServiceAccounts` (RFC 7523 2.2 as a client's
//! assertion): whose they are is decided from memory, without asking the API server about each.
//!
//! What always holds: only a token made for this issuer is believed, and only one that lives for an hour
//! at most; what it says is held against that before its signature is looked at, so that nobody makes
//! us ask for keys with a token that could not be good.

use std::sync::Arc;

use claviger_jose::verify::{audiences, numeric_date};
use claviger_jose::{
    Algorithm, Claims, KeySet, VerifyError, unverified_claims, unverified_header, verify_signature,
};
use serde_json::Value;
use thiserror::Error;

use crate::SKEW_SECONDS;
use crate::key_cache::{KeyCache, Patience};
use crate::ports::{Clock, Cluster, FetchError};

/// Longest life of a token, in seconds: it is not asked after whether its account is still there.
const LONGEST_LIFE: i64 = 3_600;
/// What the `sub` of a ServiceAccount begins with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The cluster's keys change with its control plane: seldom, and with the old ones kept.
const PATIENCE: Patience = Patience { fresh: 600, stale: 3_600, pause: 60 };

/// A ServiceAccount, proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenAccount {
    /// `system:serviceaccount:<namespace>:<name>`.
    pub subject: String,
    /// Its `metadata.namespace`.
    pub namespace: String,
    /// Its `metadata.name`.
    pub name: String,
    /// Its `metadata.uid`.
    pub uid: Option<String>,
    /// When its token dies.
    pub expires_at: i64,
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClusterTokenError {
    /// It is at fault.
    #[error("{0}")]
    Refused(String),
    /// The cluster's keys cannot be had.
    #[error("the cluster's token issuer cannot be asked: {0}")]
    Unavailable(FetchError),
}

/// Whoever believes tokens of `ServiceAccounts`.
#[derive(Debug)]
pub struct ClusterTokens {
    cluster: Arc<dyn Cluster>,
    known: KeyCache<Known>,
}

/// The cluster's issuer, as it said it was.
#[derive(Debug)]
struct Known {
    issuer: String,
    keys: KeySet,
}

impl ClusterTokens {
    /// Nothing is asked before the first token.
    pub fn new(cluster: Arc<dyn Cluster>) -> Self {
        Self { cluster, known: KeyCache::new(PATIENCE) }
    }

    /// Believes a token whose audience is this issuer.
    ///
    /// # Errors
    /// [`ClusterTokenError`].
    pub async fn verify(
        &self,
        jwt: &str,
        audience: &str,
        clock: &dyn Clock,
        is_wanted: impl Fn(&ProvenAccount) -> bool,
    ) -> Result<ProvenAccount, ClusterTokenError> {
        let unproven = unverified_claims(jwt)?;
        let check = |claims: &Claims| {
            let account = check(claims, audience, clock.now())?;
            if is_wanted(&account) {
                Ok(account)
            } else {
                Err(refused("it is another ServiceAccount's (sub, or its uid)"))
            }
        };
        check(&unproven)?;
        let header = unverified_header(jwt)?;
        let issuer = unproven.get("iss").and_then(Value::as_str).unwrap_or_default();
        // Of another issuer's token no key is to be found here, however often we asked.
        let will_do = |known: &Known| {
            known.issuer != issuer || known.keys.has(header.kid.as_deref(), header.algorithm)
        };
        let asked = self
            .known
            .get("cluster", clock.elapsed(), will_do, ask(Arc::clone(&self.cluster)))
            .await;
        let known = asked.map_err(ClusterTokenError::Unavailable)?;
        if known.issuer != issuer {
            return Err(refused("iss is not this cluster's token issuer"));
        }
        check(&verify_signature(&known.keys, jwt, &Algorithm::ALL)?.claims)
    }
}

async fn ask(cluster: Arc<dyn Cluster>) -> Result<Known, FetchError> {
    let found = cluster.discover().await?;
    let keys = KeySet::parse(&found.jwks).map_err(|e| FetchError::unavailable(e.to_string()))?;
    Ok(Known { issuer: found.issuer, keys })
}

/// Holds the claims of a token against this issuer and the clock.
fn check(claims: &Claims, audience: &str, now: i64) -> Result<ProvenAccount, ClusterTokenError> {
    if !audiences(claims)?.contains(&audience) {
        return Err(refused(&format!("aud must be {audience}")));
    }
    let time = |name| numeric_date(claims, name)?.ok_or(VerifyError::Claim(name));
    let (made_at, expires) = (time("iat")?, time("exp")?);
    if now >= expires.saturating_add(SKEW_SECONDS) {
        return Err(refused("it has expired (exp)"));
    }
    if made_at > now.saturating_add(SKEW_SECONDS) {
        return Err(refused("iat is in the future: compare the clocks"));
    }
    if expires.saturating_sub(made_at) > LONGEST_LIFE {
        return Err(refused(
            "it lives for more than an hour: ask for expirationSeconds 3600 or less",
        ));
    }
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(VerifyError::Claim("sub"))?;
    let parts = subject.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
    let (namespace, name) =
        parts.ok_or_else(|| refused("it is another ServiceAccount's, or nobody's (sub)"))?;
    let uid =
        claims.get("kubernetes.io").and_then(|k| k.get("serviceaccount")?.get("uid")?.as_str());
    Ok(ProvenAccount {
        subject: subject.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.map(str::to_owned),
        expires_at: expires,
    })
}

fn refused(why: &str) -> ClusterTokenError {
    ClusterTokenError::Refused(why.to_owned())
}

impl From<VerifyError> for ClusterTokenError {
    fn from(error: VerifyError) -> Self {
        Self::Refused(error.to_string())
    }
}

//! Proof of possession (RFC 9449): a token that is bound to a key is worth nothing without it.
//!
//! What always holds: a proof is for one method, one address and one moment, and good once at a replica;
//! at the token endpoint it carries a nonce of ours, so that none was made long before; the key it brings
//! proves itself alone, and what it is worth says the token that is bound to it.

use aws_lc_rs::digest;
use claviger_jose::verify::numeric_date;
use claviger_jose::{Algorithm, Claims, KeySet, PublicKey, unverified_header, verify_signature};
use claviger_seal::{Context, Purpose};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::SKEW_SECONDS;
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::replay::Claimed;

/// Longest proof read, in bytes: an RSA key of 4096 bits makes about 1,600.
pub const MAX_PROOF: usize = 4_096;
/// How long a nonce is good, in seconds.
const NONCE_SECONDS: i64 = 300;
/// How old a proof may be, in seconds, clocks aside.
const PROOF_SECONDS: i64 = 60;
/// Longest `jti` read, in bytes.
const MAX_JTI: usize = 256;
/// `typ` of a proof (RFC 9449 4.2).
const TYPE: &str = "dpop+jwt";
/// Members of a JWK that are not public.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A proof that was presented.
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    /// The compact JWS of the `DPoP` header.
    pub jwt: &'a str,
    /// Method of the request.
    pub method: &'a str,
    /// Path of the endpoint below the issuer.
    pub path: &'a str,
    /// The access token it is presented with; without one the request is for tokens, and needs a nonce.
    pub access_token: Option<&'a str>,
}

/// Why a proof is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError {
    /// It is at fault.
    #[error("DPoP: {0}")]
    Invalid(String),
    /// It has no nonce, or one that is past.
    #[error("DPoP: sign the nonce of the DPoP-Nonce header into the proof and try again")]
    NonceNeeded,
    /// There is no room to remember it.
    #[error("too many proofs at once")]
    TooMany,
}

/// A nonce for the next proof.
pub fn nonce(issuer: &Issuer, now: i64) -> String {
    issuer.sealing.seal(Purpose::DpopNonce, &context(issuer), now + NONCE_SECONDS, b"")
}

/// A proof that is good, and may have been used before.
#[derive(Debug)]
pub struct Verified {
    /// Thumbprint of its key.
    pub key: String,
    id: String,
    until: i64,
}

impl Verified {
    /// Uses the proof up, as `owner`'s, and gives the thumbprint of its key. There is room for so many: it is
    /// done for requests that bring something else that is good, and not for strangers'.
    ///
    /// # Errors
    /// [`ProofError`] for one that was used before, or where there is no room.
    pub fn claim(self, provider: &Provider, owner: &str) -> Result<String, ProofError> {
        let now = provider.clock.now();
        match provider.assertions.claim_proof(owner, &self.id, self.until, now) {
            Claimed::First => Ok(self.key),
            Claimed::Again => {
                Err(invalid("jti was used before: sign a new proof for each request"))
            }
            Claimed::NoRoom => Err(ProofError::TooMany),
        }
    }
}

/// Holds a proof against the request.
///
/// # Errors
/// [`ProofError`].
pub fn verify(
    provider: &Provider,
    issuer: &Issuer,
    proof: Proof<'_>,
) -> Result<Verified, ProofError> {
    if proof.jwt.len() > MAX_PROOF {
        return Err(invalid("the proof is too long"));
    }
    let header = unverified_header(proof.jwt).map_err(|error| invalid(&error.to_string()))?;
    let jwk = header.jwk.as_ref().ok_or_else(|| invalid("jwk is missing in its header"))?;
    let key = public_key(jwk, header.kid.as_deref())?;
    let thumbprint = key.thumbprint();
    let signed = verify_signature(&KeySet::new([key]), proof.jwt, &Algorithm::ALL)
        .map_err(|error| invalid(&error.to_string()))?;
    if !signed.is_of_type(TYPE) {
        return Err(invalid("typ must be dpop+jwt"));
    }
    let now = provider.clock.now();
    let (jti, made_at) = check(&signed.claims, issuer, proof, now)?;
    let until = made_at + PROOF_SECONDS + SKEW_SECONDS;
    Ok(Verified { id: format!("{thumbprint}.{jti}"), key: thumbprint, until })
}

/// The key in a proof's header, public alone (RFC 9449 4.3).
fn public_key(jwk: &Map<String, Value>, kid: Option<&str>) -> Result<PublicKey, ProofError> {
    if PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
        return Err(invalid(
            "jwk holds a private or symmetric key: make another, it is a secret no more",
        ));
    }
    let mut jwk = jwk.clone();
    jwk.remove("kid");
    if let Some(kid) = kid {
        jwk.insert("kid".into(), kid.into());
    }
    PublicKey::from_jwk(&jwk).map_err(|error| invalid(&error.to_string()))
}

/// Holds a proof's claims against the request and the clock; `jti` and `iat` come back.
fn check<'c>(
    claims: &'c Claims,
    issuer: &Issuer,
    proof: Proof<'_>,
    now: i64,
) -> Result<(&'c str, i64), ProofError> {
    let text = |name| claims.get(name).and_then(Value::as_str);
    if text("htm") != Some(proof.method) {
        return Err(invalid(&format!("htm must be {}", proof.method)));
    }
    let wanted = issuer.url.join(proof.path);
    let address = text("htu").and_then(|uri| uri.split(['?', '#']).next());
    if address != Some(wanted.as_str()) {
        return Err(invalid(&format!("htu must be {wanted}")));
    }
    let made_at = numeric_date(claims, "iat").map_err(|error| invalid(&error.to_string()))?;
    let made_at = made_at.ok_or_else(|| invalid("iat is missing"))?;
    if made_at > now.saturating_add(SKEW_SECONDS) || made_at < now - PROOF_SECONDS - SKEW_SECONDS {
        return Err(invalid("iat is not of this moment: compare the clocks"));
    }
    match (text("nonce"), proof.access_token) {
        (Some(nonce), _) if is_nonce(issuer, nonce, now) => {}
        (None, Some(_)) => {}
        _ => return Err(ProofError::NonceNeeded),
    }
    if let Some(token) = proof.access_token {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        if text("ath") != Some(&BASE64URL_NOPAD.encode(hash.as_ref())) {
            return Err(invalid("ath must be the hash of the access token"));
        }
    }
    match text("jti") {
        Some(jti) if !jti.is_empty() && jti.len() <= MAX_JTI => Ok((jti, made_at)),
        _ => Err(invalid(&format!("jti must be a text of 1 to {MAX_JTI} bytes"))),
    }
}

fn is_nonce(issuer: &Issuer, text: &str, now: i64) -> bool {
    issuer.sealing.open(Purpose::DpopNonce, &context(issuer), now, text).is_ok()
}

fn context(issuer: &Issuer) -> Context<'_> {
    Context { issuer_uid: &issuer.uid, object_name: None, client_uid: None }
}

fn invalid(why: &str) -> ProofError {
    ProofError::Invalid(why.to_owned())
}

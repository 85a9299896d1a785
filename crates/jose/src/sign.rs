//! Signing: compact JWS (RFC 7515 7.1) of JSON claims.
//!
//! A [`Signer`] is made once per key and kept: reading a PEM per token costs four times the signature.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use josekit::jwk::KeyPair;
use josekit::jws::{ES256, ES384, ES512, JwsSigner, PS256, PS384, PS512, RS256, RS384, RS512};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::key::{KeyError, Pair, PrivateKey};

/// Signs with one key. May be shared between threads.
pub struct Signer {
    algorithm: Algorithm,
    kid: String,
    /// The header without `typ`, encoded.
    plain_header: String,
    josekit: Box<dyn JwsSigner>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// The claims have no JSON form.
    #[error("claims cannot be written as JSON: {0}")]
    Claims(String),
    /// The crypto library failed.
    #[error("the crypto library failed to sign with key {0}")]
    Crypto(String),
}

impl Signer {
    /// A signer for this key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn new(key: &PrivateKey) -> Result<Self, KeyError> {
        let algorithm = key.algorithm();
        Ok(Self {
            algorithm,
            kid: key.kid().to_owned(),
            plain_header: header(algorithm, key.kid(), None),
            josekit: josekit_signer(key).ok_or(KeyError::Crypto("prepare the key for signing"))?,
        })
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's ID.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A compact JWS of the claims. The header holds `alg` and `kid`, and `typ` where one is given
    /// (ID tokens have none; RFC 9068 access tokens `at+jwt`).
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(
        &self,
        typ: Option<&str>,
        claims: &(impl Serialize + ?Sized),
    ) -> Result<String, SignError> {
        let claims =
            serde_json::to_vec(claims).map_err(|error| SignError::Claims(error.to_string()))?;
        let header = match typ {
            None => self.plain_header.clone(),
            Some(_) => header(self.algorithm, &self.kid, typ),
        };
        self.signed(header, &claims)
    }

    /// Signs claims under a header of these members and `alg`: for those who know the key by another name than its
    /// thumbprint.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign_under(
        &self,
        members: &Value,
        claims: &(impl Serialize + ?Sized),
    ) -> Result<String, SignError> {
        let claims =
            serde_json::to_vec(claims).map_err(|error| SignError::Claims(error.to_string()))?;
        let mut header = members.clone();
        header["alg"] = self.algorithm.as_str().into();
        self.signed(BASE64URL_NOPAD.encode(header.to_string().as_bytes()), &claims)
    }

    /// Signs claims with the public key itself in the header: a proof of possession (RFC 9449 4.2).
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign_showing(
        &self,
        jwk: &Value,
        typ: &str,
        claims: &(impl Serialize + ?Sized),
    ) -> Result<String, SignError> {
        let claims =
            serde_json::to_vec(claims).map_err(|error| SignError::Claims(error.to_string()))?;
        let header = json!({ "typ": typ, "alg": self.algorithm.as_str(), "jwk": jwk });
        self.signed(BASE64URL_NOPAD.encode(header.to_string().as_bytes()), &claims)
    }

    fn signed(&self, header: String, claims: &[u8]) -> Result<String, SignError> {
        let mut token = header;
        token.push('.');
        BASE64URL_NOPAD.encode_append(claims, &mut token);
        let signature =
            self.josekit.sign(token.as_bytes()).map_err(|_| SignError::Crypto(self.kid.clone()))?;
        token.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut token);
        Ok(token)
    }
}

fn header(algorithm: Algorithm, kid: &str, typ: Option<&str>) -> String {
    let mut header = json!({ "alg": algorithm.as_str(), "kid": kid });
    if let Some(typ) = typ {
        header["typ"] = typ.into();
    }
    BASE64URL_NOPAD.encode(header.to_string().as_bytes())
}

fn josekit_signer(key: &PrivateKey) -> Option<Box<dyn JwsSigner>> {
    fn boxed<S: JwsSigner + 'static, E>(made: Result<S, E>) -> Option<Box<dyn JwsSigner>> {
        made.ok().map(|signer| Box::new(signer) as Box<dyn JwsSigner>)
    }
    let der = Zeroizing::new(match key.pair() {
        Pair::Rsa(pair) => pair.to_der_private_key(),
        Pair::Ec(pair) => pair.to_der_private_key(),
    });
    match key.algorithm() {
        Algorithm::RS256 => boxed(RS256.signer_from_der(&*der)),
        Algorithm::RS384 => boxed(RS384.signer_from_der(&*der)),
        Algorithm::RS512 => boxed(RS512.signer_from_der(&*der)),
        Algorithm::PS256 => boxed(PS256.signer_from_der(&*der)),
        Algorithm::PS384 => boxed(PS384.signer_from_der(&*der)),
        Algorithm::PS512 => boxed(PS512.signer_from_der(&*der)),
        Algorithm::ES256 => boxed(ES256.signer_from_der(&*der)),
        Algorithm::ES384 => boxed(ES384.signer_from_der(&*der)),
        Algorithm::ES512 => boxed(ES512.signer_from_der(&*der)),
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn decoded_header(token: &str) -> Value {
        let header = token.split('.').next().unwrap();
        serde_json::from_slice(&BASE64URL_NOPAD.decode(header.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn the_header_names_algorithm_and_key_and_typ_only_where_given() {
        let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
        let signer = Signer::new(&key).unwrap();
        let claims = json!({"sub": "alice"});
        let plain = signer.sign(None, &claims).unwrap();
        assert_eq!(decoded_header(&plain), json!({"alg": "ES256", "kid": key.kid()}));
        let typed = signer.sign(Some("at+jwt"), &claims).unwrap();
        assert_eq!(
            decoded_header(&typed),
            json!({"alg": "ES256", "kid": key.kid(), "typ": "at+jwt"})
        );
    }

    #[test]
    fn signatures_have_the_length_of_their_algorithm() {
        for (algorithm, length) in [
            (Algorithm::ES256, 64),
            (Algorithm::ES384, 96),
            (Algorithm::ES512, 132),
            (Algorithm::RS256, 256),
            (Algorithm::PS512, 256),
        ] {
            let key = PrivateKey::generate(algorithm, 2_048).unwrap();
            let token = Signer::new(&key).unwrap().sign(None, &json!({})).unwrap();
            let signature = token.rsplit('.').next().unwrap();
            assert_eq!(BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap().len(), length);
        }
    }

    #[test]
    fn claims_without_a_json_form_are_refused() {
        let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
        let unwritable = std::collections::BTreeMap::from([(vec![1], 1)]);
        let error = Signer::new(&key).unwrap().sign(None, &unwritable).unwrap_err();
        assert!(matches!(error, SignError::Claims(_)));
    }

    #[test]
    fn one_signer_serves_many_threads() {
        let signer = Signer::new(&PrivateKey::generate(Algorithm::RS256, 2_048).unwrap()).unwrap();
        let tokens: Vec<String> = std::thread::scope(|scope| {
            let work = || signer.sign(None, &json!({"n": 1})).unwrap();
            let handles: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]), "RS256 is deterministic");
    }
}

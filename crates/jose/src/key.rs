//! Keys: made, read from and written to PKCS#8 PEM, and shown as JWK (RFC 7517).

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use josekit::jwk::alg::ec::{EcCurve, EcKeyPair};
use josekit::jwk::alg::rsa::RsaKeyPair;
use josekit::jwk::{Jwk, KeyPair};
use josekit::jws::{ES256, ES384, ES512, JwsVerifier, PS256, PS384, PS512, RS256, RS384, RS512};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, Curve, Family};

/// RSA modulus, in bits: NIST SP 800-131A's floor, and a ceiling because verification cost grows.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2_048..=8_192;
/// Longest `kid` read, in bytes; ours have 43.
const MAX_KID_LENGTH: usize = 256;

/// Why there is no key. Never holds key material.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The RSA modulus is too short or too long.
    #[error("RSA key of {0} bits: use 2048 to 8192")]
    RsaBits(u32),
    /// Not a PKCS#8 PEM private key of the algorithm's kind.
    #[error("not a PKCS#8 PEM private key for {0}")]
    WrongKind(Algorithm),
    /// Not a JWK we can verify with.
    #[error("unusable JWK: {0}")]
    Jwk(&'static str),
    /// The crypto library failed.
    #[error("the crypto library failed to {0}")]
    Crypto(&'static str),
}

/// A private key with the algorithm it signs for.
pub struct PrivateKey {
    algorithm: Algorithm,
    pair: Pair,
    public: PublicKey,
}

pub(crate) enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcKeyPair),
}

/// A public key that verifies.
pub struct PublicKey {
    kid: String,
    algorithm: Option<Algorithm>,
    parameters: Parameters,
    verifiers: Vec<(Algorithm, Box<dyn JwsVerifier>)>,
}

/// The public parameters, base64url as they stand in the JWK (RFC 7518 6).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Parameters {
    Rsa { n: String, e: String },
    Ec { curve: Curve, x: String, y: String },
}

impl PrivateKey {
    /// Makes a key. `rsa_bits` (2048–8192) is ignored for EC algorithms. Takes up to a second of one
    /// core for RSA.
    ///
    /// # Errors
    /// [`KeyError::RsaBits`] or [`KeyError::Crypto`].
    pub fn generate(algorithm: Algorithm, rsa_bits: u32) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Crypto("make a key");
        let pair = match algorithm.family() {
            Family::Rsa if !RSA_BITS.contains(&rsa_bits) => {
                return Err(KeyError::RsaBits(rsa_bits));
            }
            Family::Rsa => Pair::Rsa(RsaKeyPair::generate(rsa_bits).map_err(failed)?),
            Family::Ec(curve) => {
                Pair::Ec(EcKeyPair::generate(josekit_curve(curve)).map_err(failed)?)
            }
        };
        Self::new(algorithm, pair)
    }

    /// Reads a PKCS#8 PEM private key (`-----BEGIN PRIVATE KEY-----`).
    ///
    /// # Errors
    /// [`KeyError::WrongKind`] or [`KeyError::RsaBits`].
    pub fn from_pkcs8_pem(algorithm: Algorithm, pem: &str) -> Result<Self, KeyError> {
        let wrong = |_| KeyError::WrongKind(algorithm);
        let pair = match algorithm.family() {
            Family::Rsa => Pair::Rsa(RsaKeyPair::from_pem(pem).map_err(wrong)?),
            Family::Ec(curve) => {
                Pair::Ec(EcKeyPair::from_pem(pem, Some(josekit_curve(curve))).map_err(wrong)?)
            }
        };
        Self::new(algorithm, pair)
    }

    fn new(algorithm: Algorithm, pair: Pair) -> Result<Self, KeyError> {
        let jwk = match &pair {
            Pair::Rsa(pair) => pair.to_jwk_public_key(),
            Pair::Ec(pair) => pair.to_jwk_public_key(),
        };
        let parameters = Parameters::from_jwk(jwk.as_ref())?;
        let public = PublicKey::new(parameters, Some(algorithm), None)?;
        Ok(Self { algorithm, pair, public })
    }

    /// The key as PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn to_pkcs8_pem(&self) -> Result<SecretString, KeyError> {
        let pem = Zeroizing::new(match &self.pair {
            Pair::Rsa(pair) => pair.to_pem_private_key(),
            Pair::Ec(pair) => pair.to_pem_private_key(),
        });
        let text = std::str::from_utf8(&pem).map_err(|_| KeyError::Crypto("write the key"))?;
        Ok(SecretString::from(text))
    }

    /// What it signs for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's ID: its RFC 7638 thumbprint (SHA-256, base64url, 43 characters).
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The public half as JWK (RFC 7517): `kty use alg kid` and the parameters.
    pub fn public_jwk(&self) -> Value {
        self.public.to_jwk()
    }

    pub(crate) fn pair(&self) -> &Pair {
        &self.pair
    }
}

impl PublicKey {
    fn new(
        parameters: Parameters,
        algorithm: Option<Algorithm>,
        kid: Option<String>,
    ) -> Result<Self, KeyError> {
        let suitable = Algorithm::ALL
            .into_iter()
            .filter(|alg| algorithm.is_none_or(|only| only == *alg) && parameters.suits(*alg));
        let jwk = parameters.to_josekit()?;
        let verifiers = suitable
            .map(|alg| Ok((alg, verifier(alg, &jwk)?)))
            .collect::<Result<Vec<_>, KeyError>>()?;
        if verifiers.is_empty() {
            return Err(KeyError::Jwk("alg does not fit kty and crv"));
        }
        let kid = kid.unwrap_or_else(|| parameters.thumbprint());
        Ok(Self { kid, algorithm, parameters, verifiers })
    }

    /// Reads a JWK (RFC 7517 4). A key without `kid` gets its thumbprint; a key without `alg` verifies
    /// every algorithm of its kind. Private members are not looked at.
    ///
    /// # Errors
    /// [`KeyError::Jwk`]: not RSA or EC, not for signatures, or malformed.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        if text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
            return Err(KeyError::Jwk("use is not sig"));
        }
        if let Some(operations) = jwk.get("key_ops") {
            let verifies = |ops: &Vec<Value>| ops.iter().any(|op| op == "verify");
            if !operations.as_array().is_some_and(verifies) {
                return Err(KeyError::Jwk("key_ops does not list verify"));
            }
        }
        let algorithm = match text(jwk, "alg")? {
            None => None,
            Some(name) => Some(name.parse().map_err(|_| KeyError::Jwk("alg is not one of ours"))?),
        };
        let kid = text(jwk, "kid")?;
        if kid.is_some_and(|kid| kid.len() > MAX_KID_LENGTH) {
            return Err(KeyError::Jwk("kid is longer than 256 bytes"));
        }
        Self::new(Parameters::from_jwk(jwk)?, algorithm, kid.map(str::to_owned))
    }

    /// The key's ID.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it verifies, if it says so.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// The key's RFC 7638 thumbprint (SHA-256, base64url, 43 characters).
    pub fn thumbprint(&self) -> String {
        self.parameters.thumbprint()
    }

    /// The key as JWK (RFC 7517).
    pub fn to_jwk(&self) -> Value {
        let mut jwk = self.parameters.required_members();
        jwk.insert("use".into(), "sig".into());
        if let Some(algorithm) = self.algorithm {
            jwk.insert("alg".into(), algorithm.as_str().into());
        }
        jwk.insert("kid".into(), self.kid.clone().into());
        Value::Object(jwk)
    }

    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.verifiers.iter().any(|(alg, _)| *alg == algorithm)
    }

    /// Whether a signature over a message is this key's. josekit holds ECDSA signatures to the fixed
    /// length of RFC 7518 3.4.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.verifiers
            .iter()
            .find(|(alg, _)| *alg == algorithm)
            .is_some_and(|(_, verifier)| verifier.verify(message, signature).is_ok())
    }
}

impl Parameters {
    fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        match text(jwk, "kty")? {
            Some("RSA") => Self::rsa(required(jwk, "n")?, required(jwk, "e")?),
            Some("EC") => {
                let curve = match text(jwk, "crv")? {
                    Some("P-256") => Curve::P256,
                    Some("P-384") => Curve::P384,
                    Some("P-521") => Curve::P521,
                    _ => return Err(KeyError::Jwk("crv is not P-256, P-384 or P-521")),
                };
                Self::ec(curve, required(jwk, "x")?, required(jwk, "y")?)
            }
            _ => Err(KeyError::Jwk("kty is not RSA or EC")),
        }
    }

    fn rsa(n: &str, e: &str) -> Result<Self, KeyError> {
        let modulus = decode(n)?;
        let exponent = decode(e)?;
        let leading = modulus.first().map_or(0, |byte| byte.leading_zeros());
        let bits = u32::try_from(modulus.len() * 8).unwrap_or(u32::MAX).saturating_sub(leading);
        if leading == 8 || !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaBits(bits));
        }
        // Larger exponents make verification slow at an attacker's choice; even ones are no RSA.
        let odd = exponent.last().is_some_and(|byte| byte % 2 == 1);
        if !odd || exponent.len() > 4 || exponent.first() == Some(&0) || exponent == [1] {
            return Err(KeyError::Jwk("e is not an odd number from 3 to 2^32"));
        }
        Ok(Self::Rsa { n: n.to_owned(), e: e.to_owned() })
    }

    fn ec(curve: Curve, x: &str, y: &str) -> Result<Self, KeyError> {
        let length = curve.coordinate_length();
        if decode(x)?.len() != length || decode(y)?.len() != length {
            return Err(KeyError::Jwk("x or y is not a coordinate of the curve"));
        }
        Ok(Self::Ec { curve, x: x.to_owned(), y: y.to_owned() })
    }

    fn suits(&self, algorithm: Algorithm) -> bool {
        match (self, algorithm.family()) {
            (Self::Rsa { .. }, Family::Rsa) => true,
            (Self::Ec { curve, .. }, Family::Ec(wanted)) => *curve == wanted,
            _ => false,
        }
    }

    /// The members RFC 7638 3.2 hashes, in lexicographic order.
    fn required_members(&self) -> Map<String, Value> {
        let members = match self {
            Self::Rsa { n, e } => json!({"e": e, "kty": "RSA", "n": n}),
            Self::Ec { curve, x, y } => {
                json!({"crv": curve.as_str(), "kty": "EC", "x": x, "y": y})
            }
        };
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    /// RFC 7638 3: SHA-256 over the required members without white space. The values are base64url
    /// and need no escapes.
    fn thumbprint(&self) -> String {
        let canonical = match self {
            Self::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
            Self::Ec { curve, x, y } => {
                let crv = curve.as_str();
                format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
        };
        BASE64URL_NOPAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    }

    fn to_josekit(&self) -> Result<Jwk, KeyError> {
        Jwk::from_map(self.required_members()).map_err(|_| KeyError::Crypto("read the key"))
    }
}

fn verifier(algorithm: Algorithm, jwk: &Jwk) -> Result<Box<dyn JwsVerifier>, KeyError> {
    fn boxed<V: JwsVerifier + 'static, E>(made: Result<V, E>) -> Option<Box<dyn JwsVerifier>> {
        made.ok().map(|verifier| Box::new(verifier) as Box<dyn JwsVerifier>)
    }
    let made = match algorithm {
        Algorithm::RS256 => boxed(RS256.verifier_from_jwk(jwk)),
        Algorithm::RS384 => boxed(RS384.verifier_from_jwk(jwk)),
        Algorithm::RS512 => boxed(RS512.verifier_from_jwk(jwk)),
        Algorithm::PS256 => boxed(PS256.verifier_from_jwk(jwk)),
        Algorithm::PS384 => boxed(PS384.verifier_from_jwk(jwk)),
        Algorithm::PS512 => boxed(PS512.verifier_from_jwk(jwk)),
        Algorithm::ES256 => boxed(ES256.verifier_from_jwk(jwk)),
        Algorithm::ES384 => boxed(ES384.verifier_from_jwk(jwk)),
        Algorithm::ES512 => boxed(ES512.verifier_from_jwk(jwk)),
    };
    made.ok_or(KeyError::Jwk("the parameters are no key"))
}

fn josekit_curve(curve: Curve) -> EcCurve {
    match curve {
        Curve::P256 => EcCurve::P256,
        Curve::P384 => EcCurve::P384,
        Curve::P521 => EcCurve::P521,
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<Option<&'j str>, KeyError> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyError::Jwk("a member that must be a string is not")),
    }
}

fn required<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<&'j str, KeyError> {
    text(jwk, name)?.ok_or(KeyError::Jwk("a required member is missing"))
}

fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|_| KeyError::Jwk("a member is not base64url without padding"))
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Clone for PublicKey {
    fn clone(&self) -> Self {
        Self {
            kid: self.kid.clone(),
            algorithm: self.algorithm,
            parameters: self.parameters.clone(),
            verifiers: self
                .verifiers
                .iter()
                .map(|(algorithm, verifier)| (*algorithm, verifier.box_clone()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn jwk(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    /// RFC 7638 3.1.
    const RSA_JWK: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    /// RFC 7517 A.1.
    const EC_JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig"}"#;

    #[test]
    fn thumbprint_of_rfc_7638() {
        let key = PublicKey::from_jwk(&jwk(RSA_JWK)).unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(key.kid(), "2011-04-29");
        assert_eq!(key.algorithm(), Some(Algorithm::RS256));
    }

    #[test]
    fn a_key_without_kid_is_named_by_its_thumbprint() {
        let key = PublicKey::from_jwk(&jwk(EC_JWK)).unwrap();
        assert_eq!(key.kid(), key.thumbprint());
        assert_eq!(key.kid().len(), 43);
        assert!(key.is_for(Algorithm::ES256));
        assert!(!key.is_for(Algorithm::ES384) && !key.is_for(Algorithm::RS256));
    }

    #[test]
    fn every_algorithms_key_survives_its_pem() {
        for algorithm in Algorithm::ALL {
            let key = PrivateKey::generate(algorithm, 2_048).unwrap();
            let pem = key.to_pkcs8_pem().unwrap();
            assert!(pem.expose_secret().starts_with("-----BEGIN PRIVATE KEY-----"));
            let restored = PrivateKey::from_pkcs8_pem(algorithm, pem.expose_secret()).unwrap();
            assert_eq!(restored.kid(), key.kid());
            assert_eq!(restored.public_jwk(), key.public_jwk());
            assert_eq!(key.kid(), key.public_key().thumbprint());
        }
    }

    #[test]
    fn the_public_jwk_has_exactly_the_public_members() {
        let members = |algorithm| {
            let jwk = PrivateKey::generate(algorithm, 2_048).unwrap().public_jwk();
            assert_eq!((&jwk["use"], &jwk["alg"]), (&json!("sig"), &json!(algorithm.as_str())));
            let mut names: Vec<String> = jwk.as_object().unwrap().keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(members(Algorithm::RS256), ["alg", "e", "kid", "kty", "n", "use"]);
        assert_eq!(members(Algorithm::ES512), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    }

    #[test]
    fn a_pem_of_another_kind_or_strength_is_refused() {
        let pem =
            |algorithm| PrivateKey::generate(algorithm, 2_048).unwrap().to_pkcs8_pem().unwrap();
        let refused =
            |algorithm, pem: &str| PrivateKey::from_pkcs8_pem(algorithm, pem).unwrap_err();
        let p256 = pem(Algorithm::ES256);
        let rsa = pem(Algorithm::RS256);
        assert_eq!(
            refused(Algorithm::ES384, p256.expose_secret()),
            KeyError::WrongKind(Algorithm::ES384)
        );
        assert_eq!(
            refused(Algorithm::RS256, p256.expose_secret()),
            KeyError::WrongKind(Algorithm::RS256)
        );
        assert_eq!(
            refused(Algorithm::ES256, rsa.expose_secret()),
            KeyError::WrongKind(Algorithm::ES256)
        );
        let weak = RsaKeyPair::generate(1_024).unwrap().to_pem_private_key();
        let weak = std::str::from_utf8(&weak).unwrap();
        assert_eq!(refused(Algorithm::RS256, weak), KeyError::RsaBits(1_024));
        assert_eq!(
            PrivateKey::generate(Algorithm::PS256, 1_024).unwrap_err(),
            KeyError::RsaBits(1_024)
        );
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "x"] {
            assert!(PrivateKey::from_pkcs8_pem(Algorithm::RS256, text).is_err(), "{text}");
            assert!(PrivateKey::from_pkcs8_pem(Algorithm::ES256, text).is_err(), "{text}");
        }
    }

    #[test]
    fn unusable_jwks_are_refused() {
        let changed = |base: &str, name: &str, value: Value| {
            let mut jwk = jwk(base);
            jwk.insert(name.into(), value);
            PublicKey::from_jwk(&jwk).map(|key| key.kid().to_owned())
        };
        for (base, name, value) in [
            (RSA_JWK, "use", json!("enc")),
            (RSA_JWK, "key_ops", json!(["sign"])),
            (RSA_JWK, "alg", json!("HS256")),
            (RSA_JWK, "alg", json!("ES256")),
            (RSA_JWK, "kty", json!("oct")),
            (RSA_JWK, "kty", json!(7)),
            (RSA_JWK, "n", json!("AQAB")),
            (RSA_JWK, "n", json!("+/")),
            (RSA_JWK, "e", json!("AQ")),
            (RSA_JWK, "e", json!("AQAA")),
            (RSA_JWK, "e", json!("AQAAAAAB")),
            (RSA_JWK, "e", json!("")),
            (RSA_JWK, "kid", json!("k".repeat(257))),
            (EC_JWK, "alg", json!("ES384")),
            (EC_JWK, "crv", json!("secp256k1")),
            (EC_JWK, "crv", json!("P-384")),
            (EC_JWK, "x", json!("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D0")),
            (EC_JWK, "y", json!("")),
        ] {
            assert!(changed(base, name, value.clone()).is_err(), "{name} {value}");
        }
        assert!(changed(EC_JWK, "key_ops", json!(["verify"])).is_ok());
    }

    #[test]
    fn private_keys_do_not_print() {
        let key = PrivateKey::generate(Algorithm::ES256, 0).unwrap();
        let expected = format!("PrivateKey {{ algorithm: ES256, kid: {:?}, .. }}", key.kid());
        assert_eq!(format!("{key:?}"), expected);
    }

    proptest! {
        #[test]
        fn any_text_as_pem_is_answered(text in "\\PC{0,100}") {
            prop_assert!(PrivateKey::from_pkcs8_pem(Algorithm::RS256, &text).is_err());
            prop_assert!(PrivateKey::from_pkcs8_pem(Algorithm::ES256, &text).is_err());
        }

        #[test]
        fn any_parameters_of_a_jwk_are_answered(
            x in proptest::collection::vec(any::<u8>(), 0..70),
            y in proptest::collection::vec(any::<u8>(), 0..70),
            kty in "RSA|EC", crv in "P-256|P-384|P-521",
        ) {
            let (x, y) = (BASE64URL_NOPAD.encode(&x), BASE64URL_NOPAD.encode(&y));
            let jwk = json!({"kty": kty, "crv": crv, "x": x, "y": y, "n": x, "e": y});
            prop_assert!(PublicKey::from_jwk(jwk.as_object().unwrap()).is_err());
        }
    }
}

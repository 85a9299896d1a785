//! Verifying: a compact JWS against a key set, and the claims against what the caller expects.
//!
//! Strict by construction (RFC 8725): the algorithm must be allowed by the caller *and* be the key's;
//! `none`, HMAC, `crit`, `zip` and JWE are refused; `iss`, `aud`, `exp` and `iat` must be there and right.

use data_encoding::BASE64URL_NOPAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::algorithm::Algorithm;
use crate::keyset::KeySet;

/// Longest token read, in characters.
pub const MAX_TOKEN_LENGTH: usize = 64 * 1024;

/// Verified claims.
pub type Claims = Map<String, Value>;

/// What a token must say besides carrying a good signature.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// Algorithms accepted from this issuer.
    pub algorithms: &'a [Algorithm],
    /// `iss`, compared byte for byte.
    pub issuer: &'a str,
    /// Must be `aud` or in it. `None` takes any: the caller looks at it.
    pub audience: Option<&'a str>,
    /// The `typ` it must have (RFC 8725 3.11), in any case, with `application/` before it or without.
    /// `None` is for tokens whose type is not said, or is `JWT`: one of another type is for somebody else.
    pub typ: Option<&'a str>,
    /// Seconds by which the issuer's clock may differ from ours.
    pub leeway_seconds: i64,
}

/// Why a token is not believed. Holds nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// Longer than [`MAX_TOKEN_LENGTH`].
    #[error("token is longer than 64 KiB")]
    TooLong,
    /// Not three base64url parts with JSON objects for header and claims.
    #[error("not a compact JWS")]
    Malformed,
    /// `typ` is another, or missing.
    #[error("token is of another type")]
    Type,
    /// Encrypted tokens are not read.
    #[error("encrypted tokens (JWE) are not accepted")]
    Encrypted,
    /// Compressed tokens are not read: what is small may be large (RFC 8725 3.6).
    #[error("compressed tokens (zip) are not accepted")]
    Compressed,
    /// `alg` is none, symmetric, unknown or not among those allowed.
    #[error("signature algorithm is not accepted")]
    Algorithm,
    /// `crit` lists extensions (RFC 7515 4.1.11); we know none.
    #[error("critical header extensions are not supported")]
    Critical,
    /// No key of that ID and algorithm in the set.
    #[error("no key of this ID and algorithm is known")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("signature does not match")]
    Signature,
    /// A required claim is missing or of the wrong type.
    #[error("claim {0} is missing or of the wrong type")]
    Claim(&'static str),
    /// `iss` is another.
    #[error("token was issued by another issuer")]
    Issuer,
    /// `aud` does not hold the expected audience.
    #[error("token is for another audience")]
    Audience,
    /// Past `exp`.
    #[error("token has expired")]
    Expired,
    /// Before `nbf`, or `iat` is in the future.
    #[error("token is not valid yet: compare the clocks")]
    NotYetValid,
}

/// A token whose signature is good. Its claims are as its signer made them: whether they are right,
/// and whether a token of this type may be used here, is the caller's to check.
#[derive(Debug, Clone)]
pub struct Signed {
    /// `typ` of the header (RFC 8725 3.11).
    pub typ: Option<String>,
    /// Every claim.
    pub claims: Claims,
}

impl Signed {
    /// Whether its `typ` is this one, in any case, with `application/` before it or without.
    pub fn is_of_type(&self, wanted: &str) -> bool {
        is_type(wanted, self.typ.as_deref())
    }
}

/// What a token says about its own signature. Nothing of it is proven: it only says which keys to try.
#[derive(Debug, Clone)]
pub struct UnverifiedHeader {
    /// `alg`: one of ours.
    pub algorithm: Algorithm,
    /// `kid`.
    pub kid: Option<String>,
    /// `typ`.
    pub typ: Option<String>,
    /// `jwk`: the key the signer says is theirs.
    pub jwk: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    jwk: Option<Map<String, Value>>,
    #[serde(default)]
    crit: Present,
    #[serde(default)]
    enc: Present,
    #[serde(default)]
    zip: Present,
    #[serde(default)]
    b64: Present,
}

/// Whether a parameter stands there, whatever its value, `null` among them: it was meant to be heeded.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(value).map(|_| Self(true))
    }
}

/// The three parts of a compact JWS whose header is one we read.
struct Parts<'t> {
    header: UnverifiedHeader,
    signed: &'t str,
    payload: &'t str,
    signature: Vec<u8>,
}

/// Verifies a token and returns its claims. `now` is seconds since the Unix epoch.
///
/// # Errors
/// [`VerifyError`]; claims are looked at only after the signature was found good.
pub fn verify(
    keys: &KeySet,
    token: &str,
    now: i64,
    options: &VerifyOptions<'_>,
) -> Result<Claims, VerifyError> {
    let signed = verify_signature(keys, token, options.algorithms)?;
    let fits = match (options.typ, &signed.typ) {
        (None, None) => true,
        (wanted, _) => signed.is_of_type(wanted.unwrap_or("JWT")),
    };
    if !fits {
        return Err(VerifyError::Type);
    }
    check_claims(&signed.claims, now, options)?;
    Ok(signed.claims)
}

/// Verifies a token's signature alone. No claim is looked at.
///
/// # Errors
/// [`VerifyError`]: the token cannot be read, or is not signed by one of the keys with an algorithm
/// that is both allowed and the key's.
pub fn verify_signature(
    keys: &KeySet,
    token: &str,
    algorithms: &[Algorithm],
) -> Result<Signed, VerifyError> {
    let Parts { header, signed, payload, signature } = parts(token)?;
    let algorithm = header.algorithm;
    if !algorithms.contains(&algorithm) {
        return Err(VerifyError::Algorithm);
    }
    let candidates = keys.candidates(header.kid.as_deref(), algorithm);
    if candidates.is_empty() {
        return Err(VerifyError::UnknownKey);
    }
    if !candidates.iter().any(|key| key.verifies(algorithm, signed.as_bytes(), &signature)) {
        return Err(VerifyError::Signature);
    }
    Ok(Signed { typ: header.typ, claims: claims(payload)? })
}

/// The header of a token, unproven, held to the same rules as that of [`verify_signature`].
///
/// # Errors
/// [`VerifyError`] for what no key could make good.
pub fn unverified_header(token: &str) -> Result<UnverifiedHeader, VerifyError> {
    parts(token).map(|parts| parts.header)
}

/// The claims of a token, unproven: enough to refuse it early, never to believe it.
///
/// # Errors
/// [`VerifyError`] for what no key could make good.
pub fn unverified_claims(token: &str) -> Result<Claims, VerifyError> {
    claims(parts(token)?.payload)
}

fn parts(token: &str) -> Result<Parts<'_>, VerifyError> {
    if token.len() > MAX_TOKEN_LENGTH {
        return Err(VerifyError::TooLong);
    }
    if token.bytes().filter(|byte| *byte == b'.').count() == 4 {
        return Err(VerifyError::Encrypted);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(VerifyError::Malformed)?;
    // RFC 7515 5.2: UTF-8 as a whole. What serde passes over, it does not look at so closely.
    let header = String::from_utf8(decode(header)?).map_err(|_| VerifyError::Malformed)?;
    let header: Header = serde_json::from_str(&header).map_err(|_| VerifyError::Malformed)?;
    if header.enc.0 {
        return Err(VerifyError::Encrypted);
    }
    if header.zip.0 {
        return Err(VerifyError::Compressed);
    }
    if header.crit.0 || header.b64.0 {
        return Err(VerifyError::Critical);
    }
    let algorithm: Algorithm = header.alg.parse().map_err(|_| VerifyError::Algorithm)?;
    let Header { kid, typ, jwk, .. } = header;
    Ok(Parts {
        header: UnverifiedHeader { algorithm, kid, typ, jwk },
        signed,
        payload,
        signature: decode(signature)?,
    })
}

fn claims(payload: &str) -> Result<Claims, VerifyError> {
    serde_json::from_slice(&decode(payload)?).map_err(|_| VerifyError::Malformed)
}

/// RFC 7515 4.1.9: `application/` may be left out.
fn is_type(wanted: &str, found: Option<&str>) -> bool {
    const PREFIX: &str = "application/";
    found.is_some_and(|found| {
        let bare = match found.get(..PREFIX.len()) {
            Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &found[PREFIX.len()..],
            _ => found,
        };
        bare.eq_ignore_ascii_case(wanted)
    })
}

fn check_claims(claims: &Claims, now: i64, options: &VerifyOptions<'_>) -> Result<(), VerifyError> {
    let issuer = claims.get("iss").and_then(Value::as_str).ok_or(VerifyError::Claim("iss"))?;
    if issuer != options.issuer {
        return Err(VerifyError::Issuer);
    }
    let audiences = audiences(claims)?;
    if !audiences.iter().any(|aud| options.audience.is_none_or(|wanted| wanted == *aud)) {
        return Err(VerifyError::Audience);
    }
    let leeway = options.leeway_seconds.max(0);
    let expires = numeric_date(claims, "exp")?.ok_or(VerifyError::Claim("exp"))?;
    if now >= expires.saturating_add(leeway) {
        return Err(VerifyError::Expired);
    }
    let made_at = numeric_date(claims, "iat")?.ok_or(VerifyError::Claim("iat"))?;
    let begins = numeric_date(claims, "nbf")?.unwrap_or(made_at).max(made_at);
    if begins > now.saturating_add(leeway) {
        return Err(VerifyError::NotYetValid);
    }
    Ok(())
}

/// `aud`: one text or a list of them (RFC 7519 4.1.3).
///
/// # Errors
/// [`VerifyError::Claim`] when it is missing or anything else.
pub fn audiences(claims: &Claims) -> Result<Vec<&str>, VerifyError> {
    let wrong = VerifyError::Claim("aud");
    match claims.get("aud") {
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(several)) => {
            several.iter().map(Value::as_str).collect::<Option<_>>().ok_or(wrong)
        }
        _ => Err(wrong),
    }
}

/// A `NumericDate` (RFC 7519 2): whole seconds, or with a fraction, which is cut off.
///
/// # Errors
/// [`VerifyError::Claim`] when it is there and no time.
pub fn numeric_date(claims: &Claims, name: &'static str) -> Result<Option<i64>, VerifyError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    if let Some(seconds) = value.as_i64() {
        return Ok(Some(seconds));
    }
    match value.as_f64() {
        Some(seconds) if (0.0..=253_402_300_799.0).contains(&seconds) => {
            #[expect(clippy::cast_possible_truncation, reason = "bounded to the year 9999")]
            let whole = seconds.trunc() as i64;
            Ok(Some(whole))
        }
        _ => Err(VerifyError::Claim(name)),
    }
}

fn decode(part: &str) -> Result<Vec<u8>, VerifyError> {
    BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| VerifyError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::key::{PrivateKey, PublicKey};
    use crate::sign::Signer;

    const NOW: i64 = 1_767_225_600;
    const OPTIONS: VerifyOptions<'_> = VerifyOptions {
        algorithms: &Algorithm::ALL,
        issuer: "https://id.example.org",
        audience: Some("web"),
        typ: None,
        leeway_seconds: 0,
    };

    fn key(algorithm: Algorithm) -> (KeySet, Signer) {
        let key = PrivateKey::generate(algorithm, 2_048).unwrap();
        (KeySet::new([key.public_key().clone()]), Signer::new(&key).unwrap())
    }

    fn good() -> Value {
        json!({
            "iss": "https://id.example.org", "aud": "web", "sub": "alice", "iat": NOW, "exp": NOW + 60,
        })
    }

    fn refused(keys: &KeySet, token: &str) -> VerifyError {
        verify(keys, token, NOW, &OPTIONS).unwrap_err()
    }

    /// A token with this header and the signature that `signer` gives it.
    fn forged(header: &Value, signature: &[u8]) -> String {
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        format!("{}.{}.{}", encode(header), encode(&good()), BASE64URL_NOPAD.encode(signature))
    }

    #[test]
    fn every_algorithms_token_is_believed_and_no_tampered_one() {
        for algorithm in Algorithm::ALL {
            let (keys, signer) = key(algorithm);
            let token = signer.sign(None, &good()).unwrap();
            let claims = verify(&keys, &token, NOW, &OPTIONS).unwrap();
            assert_eq!(Value::Object(claims), good(), "{algorithm}");

            let mut evil = good();
            evil["sub"] = json!("mallory");
            let parts: Vec<&str> = token.split('.').collect();
            let evil = BASE64URL_NOPAD.encode(evil.to_string().as_bytes());
            let tampered = format!("{}.{evil}.{}", parts[0], parts[2]);
            assert_eq!(refused(&keys, &tampered), VerifyError::Signature, "{algorithm}");
            let unsigned = format!("{}.{}.", parts[0], parts[1]);
            assert_eq!(refused(&keys, &unsigned), VerifyError::Signature, "{algorithm}");
            let length = BASE64URL_NOPAD.decode(parts[2].as_bytes()).unwrap().len();
            let zeros = BASE64URL_NOPAD.encode(&vec![0; length]);
            let zeros = format!("{}.{}.{zeros}", parts[0], parts[1]);
            assert_eq!(refused(&keys, &zeros), VerifyError::Signature, "{algorithm}");
        }
    }

    #[test]
    fn algorithm_confusion_is_refused() {
        let private = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
        let keys = KeySet::new([private.public_key().clone()]);
        let header = |alg: &str| json!({"alg": alg, "kid": private.kid()});
        for alg in ["none", "None", "HS256", "HS384", "EdDSA", ""] {
            assert_eq!(refused(&keys, &forged(&header(alg), b"")), VerifyError::Algorithm, "{alg}");
        }
        // The public key as an HMAC secret: the classic attack dies at the algorithm's name.
        let public = keys.to_json();
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
        let unsigned = forged(&header("HS256"), b"");
        let mac = aws_lc_rs::hmac::sign(&secret, unsigned.trim_end_matches('.').as_bytes());
        let attack = format!("{unsigned}{}", BASE64URL_NOPAD.encode(mac.as_ref()));
        assert_eq!(refused(&keys, &attack), VerifyError::Algorithm);
        // A key that says RS256 verifies neither RS512 nor PS256.
        for alg in ["RS512", "PS256", "ES256"] {
            assert_eq!(
                refused(&keys, &forged(&header(alg), b"x")),
                VerifyError::UnknownKey,
                "{alg}"
            );
        }
        // The caller's list counts as well.
        let token = Signer::new(&private).unwrap().sign(None, &good()).unwrap();
        let only_ec = VerifyOptions { algorithms: &[Algorithm::ES256], ..OPTIONS };
        assert_eq!(verify(&keys, &token, NOW, &only_ec), Err(VerifyError::Algorithm));
    }

    #[test]
    fn a_key_without_alg_verifies_its_kind_and_one_among_several_needs_a_kid() {
        let (keys, signer) = key(Algorithm::PS384);
        let mut jwk = keys.keys()[0].to_jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        let open = PublicKey::from_jwk(jwk.as_object().unwrap()).unwrap();
        let token = signer.sign(None, &good()).unwrap();
        assert!(verify(&KeySet::new([open.clone()]), &token, NOW, &OPTIONS).is_ok());

        let nameless = json!({"alg": "PS384"});
        let both = KeySet::new([open, key(Algorithm::PS384).0.keys()[0].clone()]);
        assert_eq!(refused(&keys, &forged(&nameless, b"x")), VerifyError::Signature);
        assert_eq!(refused(&both, &forged(&nameless, b"x")), VerifyError::UnknownKey);
    }

    #[test]
    fn a_token_of_another_key_is_refused() {
        let (keys, _) = key(Algorithm::ES256);
        let (_, other) = key(Algorithm::ES256);
        assert_eq!(refused(&keys, &other.sign(None, &good()).unwrap()), VerifyError::UnknownKey);
        let stolen_name = json!({"alg": "ES256", "kid": keys.keys()[0].kid()});
        assert_eq!(refused(&keys, &forged(&stolen_name, &[1; 64])), VerifyError::Signature);
    }

    #[test]
    fn extensions_encrypted_and_misshapen_tokens_are_refused() {
        let (keys, _) = key(Algorithm::ES256);
        let kid = keys.keys()[0].kid();
        let with = |name: &str, value: Value| {
            let mut header = json!({"alg": "ES256", "kid": kid});
            header[name] = value;
            refused(&keys, &forged(&header, &[1; 64]))
        };
        assert_eq!(with("crit", json!(["exp"])), VerifyError::Critical);
        assert_eq!(with("crit", json!([])), VerifyError::Critical);
        assert_eq!(with("crit", json!(null)), VerifyError::Critical);
        assert_eq!(with("enc", json!(null)), VerifyError::Encrypted);
        assert_eq!(with("zip", json!("DEF")), VerifyError::Compressed);
        assert_eq!(with("b64", json!(false)), VerifyError::Critical);
        assert_eq!(with("enc", json!("A256GCM")), VerifyError::Encrypted);
        assert_eq!(with("kid", json!(7)), VerifyError::Malformed);
        assert_eq!(refused(&keys, "a.b.c.d.e"), VerifyError::Encrypted);
        for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "....."] {
            assert_eq!(refused(&keys, text), VerifyError::Malformed, "{text}");
        }
        assert_eq!(refused(&keys, &"a".repeat(MAX_TOKEN_LENGTH + 1)), VerifyError::TooLong);
    }

    #[test]
    fn claims_must_be_there_and_right() {
        let (keys, signer) = key(Algorithm::ES256);
        let with = |name: &str, value: Value| {
            let mut claims = good();
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value,
            }
            let token = signer.sign(None, &claims).unwrap();
            verify(&keys, &token, NOW, &OPTIONS).map(drop)
        };
        for (name, value, expected) in [
            ("iss", json!("https://id.example.org/"), Err(VerifyError::Issuer)),
            ("iss", Value::Null, Err(VerifyError::Claim("iss"))),
            ("aud", json!("other"), Err(VerifyError::Audience)),
            ("aud", json!([]), Err(VerifyError::Audience)),
            ("aud", json!(["other", 7, "web"]), Err(VerifyError::Claim("aud"))),
            ("aud", json!(["other", "web"]), Ok(())),
            ("aud", Value::Null, Err(VerifyError::Claim("aud"))),
            ("exp", json!(NOW), Err(VerifyError::Expired)),
            ("exp", json!(NOW + 1), Ok(())),
            ("exp", json!(1_767_225_600.5), Err(VerifyError::Expired)),
            ("exp", json!("1999999999"), Err(VerifyError::Claim("exp"))),
            ("exp", json!(1e300), Err(VerifyError::Claim("exp"))),
            ("exp", Value::Null, Err(VerifyError::Claim("exp"))),
            ("iat", json!(NOW + 1), Err(VerifyError::NotYetValid)),
            ("iat", Value::Null, Err(VerifyError::Claim("iat"))),
            ("nbf", json!(NOW + 1), Err(VerifyError::NotYetValid)),
            ("nbf", json!(NOW), Ok(())),
            ("nbf", json!(true), Err(VerifyError::Claim("nbf"))),
        ] {
            assert_eq!(with(name, value.clone()), expected, "{name} {value}");
        }
    }

    #[test]
    fn a_token_of_another_type_is_refused() {
        let (keys, signer) = key(Algorithm::ES256);
        let typed = |typ: Option<&str>, wanted: Option<&'static str>| {
            let token = signer.sign(typ, &good()).unwrap();
            verify(&keys, &token, NOW, &VerifyOptions { typ: wanted, ..OPTIONS }).map(drop)
        };
        for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "APPLICATION/at+JWT"] {
            assert_eq!(typed(Some(typ), Some("at+jwt")), Ok(()), "{typ}");
        }
        for typ in
            [None, Some("JWT"), Some("at"), Some("application/"), Some("logout+jwt"), Some("")]
        {
            assert_eq!(typed(typ, Some("at+jwt")), Err(VerifyError::Type), "{typ:?}");
        }
        for typ in [None, Some("JWT"), Some("jwt"), Some("application/jwt")] {
            assert_eq!(typed(typ, None), Ok(()), "{typ:?}");
        }
        assert_eq!(typed(Some("at+jwt"), None), Err(VerifyError::Type));
    }

    #[test]
    fn leeway_moves_both_ends_and_never_overflows() {
        let (keys, signer) = key(Algorithm::ES256);
        let token = signer.sign(None, &good()).unwrap();
        let at = |now, leeway_seconds| {
            verify(&keys, &token, now, &VerifyOptions { leeway_seconds, ..OPTIONS }).map(drop)
        };
        assert_eq!(at(NOW + 119, 60), Ok(()));
        assert_eq!(at(NOW + 120, 60), Err(VerifyError::Expired));
        assert_eq!(at(NOW - 60, 60), Ok(()));
        assert_eq!(at(NOW - 61, 60), Err(VerifyError::NotYetValid));
        assert_eq!(at(NOW + 59, -100), Ok(()), "a negative leeway is none");
        assert_eq!(at(NOW, i64::MAX), Ok(()));
    }

    proptest! {
        #[test]
        fn one_changed_character_is_refused(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
            let (keys, signer) = key(Algorithm::ES256);
            let mut token = signer.sign(None, &good()).unwrap();
            let at = at.index(token.len());
            prop_assume!(token[at..=at] != with);
            token.replace_range(at..=at, &with);
            prop_assert!(verify(&keys, &token, NOW, &OPTIONS).is_err());
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,120}", dotted in "[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}") {
            let keys = KeySet::default();
            prop_assert!(verify(&keys, &text, NOW, &OPTIONS).is_err());
            prop_assert!(verify(&keys, &dotted, NOW, &OPTIONS).is_err());
        }
    }
}

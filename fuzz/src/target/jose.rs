//! Tokens and key sets of others: what was not signed by a key we know never verifies.

use std::sync::OnceLock;

use claviger_jose::{
    Algorithm, KeySet, PrivateKey, Signer, VerifyOptions, unverified_claims, unverified_header,
    verify, verify_signature,
};
use serde_json::json;

use crate::edits::edited;

const ISSUER: &str = "https://id.example.org";
const NOW: i64 = 1_767_225_600;
/// The least that is safe, since keys are made at every start.
const RSA_BITS: u32 = 2_048;

/// Keys nobody else has, and a good token of each.
struct Known {
    keys: KeySet,
    tokens: Vec<String>,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let mut keys = Vec::new();
        let mut tokens = Vec::new();
        for algorithm in [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384] {
            let key = PrivateKey::generate(algorithm, RSA_BITS).expect("a key can be made");
            let claims = json!({
                "iss": ISSUER, "sub": "alice", "aud": ["us", "them"],
                "iat": NOW, "exp": NOW + 600, "jti": "1",
            });
            let signer = Signer::new(&key).expect("a key can sign");
            tokens.push(signer.sign(Some("JWT"), &claims).expect("claims can be signed"));
            keys.push(key.public_key().clone());
        }
        Known { keys: KeySet::new(keys), tokens }
    })
}

fn options<'a>() -> VerifyOptions<'a> {
    VerifyOptions {
        algorithms: &Algorithm::ALL,
        issuer: ISSUER,
        audience: Some("us"),
        typ: None,
        leeway_seconds: 0,
    }
}

/// No text verifies; what is encrypted, compressed or has critical extensions is not even looked at.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(verify(&known().keys, text, NOW, &options()).is_err(), "a forged token verifies");
    assert!(verify_signature(&known().keys, text, &Algorithm::ALL).is_err());
    let _ = unverified_claims(text);
    if let Ok(header) = unverified_header(text) {
        let part = text.split('.').next().unwrap_or_default();
        let json = data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).expect("it was read");
        let raw: serde_json::Value = serde_json::from_slice(&json).expect("it was read");
        for refused in ["enc", "zip", "crit", "b64"] {
            assert!(raw.get(refused).is_none(), "a header with {refused} was read");
        }
        assert_eq!(raw["alg"], header.algorithm.as_str());
    }
}

/// The first byte chooses a good token, the rest are edits: it verifies unchanged, and never otherwise.
pub fn edited_token(bytes: &[u8]) {
    let Some((which, script)) = bytes.split_first() else { return };
    let tokens = &known().tokens;
    let good = &tokens[usize::from(*which) % tokens.len()];
    let changed = edited(good, script);
    let verified = verify(&known().keys, &changed, NOW, &options()).is_ok();
    assert_eq!(verified, changed == *good, "a changed token verifies: {changed}");
}

/// A key set that can be read prints, and reads the same again.
pub fn key_set(bytes: &[u8]) {
    let Ok(read) = KeySet::parse(bytes) else { return };
    let again = KeySet::parse(read.to_json().as_bytes()).expect("what we print can be read");
    assert_eq!(read.keys().len(), again.keys().len());
    for (one, other) in read.keys().iter().zip(again.keys()) {
        assert_eq!((one.kid(), one.thumbprint()), (other.kid(), other.thumbprint()));
    }
    for forged in &known().tokens {
        assert!(
            verify(&read, forged, NOW, &options()).is_err(),
            "another's key verifies our token"
        );
    }
}

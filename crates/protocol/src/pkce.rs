//! Proof Key for Code Exchange (RFC 7636), S256 alone: `plain` protects nothing that TLS does not.

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::error::ErrorResponse;

/// Characters of an S256 challenge: base64url of 32 bytes.
const CHALLENGE_LENGTH: usize = 43;

/// `code_challenge` by S256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeChallenge(String);

/// `code_verifier`: 43 to 128 unreserved characters.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeVerifier(String);

impl CodeChallenge {
    /// Reads `code_challenge` and `code_challenge_method`.
    ///
    /// # Errors
    /// `invalid_request` for any method but S256 (absent means `plain`, RFC 7636 4.3), or a
    /// challenge that is not base64url of 32 bytes.
    pub fn parse(challenge: &str, method: Option<&str>) -> Result<Self, ErrorResponse> {
        if method != Some("S256") {
            return Err(ErrorResponse::invalid_request("code_challenge_method must be S256"));
        }
        let bytes = BASE64URL_NOPAD.decode(challenge.as_bytes()).ok();
        if challenge.len() != CHALLENGE_LENGTH || bytes.is_none() {
            return Err(ErrorResponse::invalid_request(
                "code_challenge must be the base64url SHA-256 of the verifier, 43 characters",
            ));
        }
        Ok(Self(challenge.to_owned()))
    }

    /// Whether a verifier is the one this challenge was made of. In constant time.
    pub fn matches(&self, verifier: &CodeVerifier) -> bool {
        let hash = digest::digest(&digest::SHA256, verifier.0.as_bytes());
        let expected = BASE64URL_NOPAD.encode(hash.as_ref());
        expected.as_bytes().ct_eq(self.0.as_bytes()).into()
    }
}

impl CodeVerifier {
    /// Reads `code_verifier`.
    ///
    /// # Errors
    /// `invalid_request` when it is not 43 to 128 unreserved characters (RFC 7636 4.1).
    pub fn parse(verifier: &str) -> Result<Self, ErrorResponse> {
        let unreserved =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(unreserved) {
            return Err(ErrorResponse::invalid_request(
                "code_verifier must be 43 to 128 unreserved characters",
            ));
        }
        Ok(Self(verifier.to_owned()))
    }
}

impl std::fmt::Debug for CodeVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeVerifier(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636 appendix B.
    #[test]
    fn verifier_of_the_rfc_matches_its_challenge() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let challenge = CodeChallenge::parse(challenge, Some("S256")).unwrap();
        let verifier = CodeVerifier::parse("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
        assert!(challenge.matches(&verifier));
        assert!(!challenge.matches(&CodeVerifier::parse(&"a".repeat(43)).unwrap()));
    }

    #[test]
    fn plain_and_misshapen_values_are_refused() {
        let good = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(CodeChallenge::parse(good, Some("plain")).is_err());
        assert!(CodeChallenge::parse(good, None).is_err());
        assert!(CodeChallenge::parse(&good[1..], Some("S256")).is_err());
        assert!(CodeChallenge::parse(&good.replace('-', "+"), Some("S256")).is_err());
        for bad in ["a".repeat(42), "a".repeat(129), format!("{} ", "a".repeat(43))] {
            assert!(CodeVerifier::parse(&bad).is_err());
        }
    }
}

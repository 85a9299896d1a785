//! Device authorization (RFC 8628): the request of a device without a browser, its answer, the code that a
//! person types in, and the request by which the device asks how it stands.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

use crate::authorize::resources;
use crate::error::{ErrorCode, ErrorResponse};
use crate::form::Params;
use crate::scope::ScopeSet;

/// `grant_type` of the polls (RFC 8628 3.4).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What a device asks for (RFC 8628 3.1). Who it is, is said as at the token endpoint.
#[derive(Debug)]
pub struct DeviceAuthorizationRequest {
    /// Requested scopes; `openid` is among them.
    pub scope: ScopeSet,
    /// Resources the access tokens are for (RFC 8707 2.1).
    pub resources: Vec<String>,
}

impl DeviceAuthorizationRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_scope` or `invalid_target`.
    pub fn parse(params: &Params) -> Result<Self, ErrorResponse> {
        let refused = |why: &str| ErrorResponse::new(ErrorCode::InvalidScope, why);
        let scope = ScopeSet::parse(params.get("scope").unwrap_or_default())
            .map_err(|error| refused(&error.to_string()))?;
        if !scope.contains("openid") {
            return Err(refused("scope must contain openid"));
        }
        Ok(Self { scope, resources: resources(params)? })
    }
}

/// The answer (RFC 8628 3.2).
#[derive(Debug, Serialize)]
pub struct DeviceAuthorizationResponse {
    /// What the device polls with.
    #[serde(serialize_with = "expose")]
    pub device_code: SecretString,
    /// What its user types in.
    #[serde(serialize_with = "print")]
    pub user_code: UserCode,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it, for a QR code.
    pub verification_uri_complete: String,
    /// Seconds until both codes die.
    pub expires_in: i64,
    /// Least seconds between two polls.
    pub interval: i64,
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

fn print<S: Serializer>(code: &UserCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(code)
}

/// A poll (RFC 8628 3.4).
#[derive(Debug)]
pub struct DeviceAccessTokenRequest {
    /// The device code, of any length: one that is not ours is `invalid_grant`.
    pub device_code: SecretString,
    /// Resources to narrow the access token to (RFC 8707 2.2).
    pub resources: Vec<String>,
}

impl DeviceAccessTokenRequest {
    /// Reads a poll.
    ///
    /// # Errors
    /// `invalid_request` or `invalid_target`.
    pub fn parse(params: &Params) -> Result<Self, ErrorResponse> {
        let device_code = SecretString::from(params.required("device_code", usize::MAX)?);
        Ok(Self { device_code, resources: resources(params)? })
    }
}

/// What a person types in: eight letters in two groups, about 34 bits (RFC 8628 6.1).
///
/// No vowels, so no words; no letter that is taken for another. Printed as `BCDF-GHJK`; read in any case and
/// with any separators, or none.
#[derive(Clone, PartialEq, Eq)]
pub struct UserCode([u8; UserCode::LENGTH]);

impl UserCode {
    /// Letters of a code.
    pub const LENGTH: usize = 8;
    /// The letters it is made of.
    const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    /// Longest text looked at.
    const MAX_TEXT: usize = 64;
    /// Bytes up to here are as many of each letter; those beyond would prefer some.
    const FAIR: u8 = 240;

    /// A code from unpredictable bytes, every code equally likely. `None` where too few of them are of use:
    /// of 32 there nearly always are enough, and then other bytes must be taken.
    pub fn from_random(bytes: &[u8]) -> Option<Self> {
        let alphabet = Self::ALPHABET;
        let fair = bytes.iter().filter(|byte| **byte < Self::FAIR);
        let letters: Vec<u8> = fair
            .map(|byte| alphabet[usize::from(*byte) % alphabet.len()])
            .take(Self::LENGTH)
            .collect();
        letters.try_into().ok().map(Self)
    }

    /// What somebody typed. `None` where it can be no code.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > Self::MAX_TEXT {
            return None;
        }
        let typed = text.chars().filter(|c| !c.is_whitespace() && !c.is_ascii_punctuation());
        let letters: Option<Vec<u8>> = typed
            .map(|c| {
                u8::try_from(c.to_ascii_uppercase()).ok().filter(|b| Self::ALPHABET.contains(b))
            })
            .collect();
        letters?.try_into().ok().map(Self)
    }

    /// Its letters.
    pub fn letters(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.iter().map(|letter| char::from(*letter)).collect();
        let (first, second) = text.split_at(Self::LENGTH / 2);
        write!(f, "{first}-{second}")
    }
}

/// Whoever types it in decides for a device: it is in no log.
impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn form(text: &str) -> Params {
        Params::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_user_code_is_read_however_it_is_typed() {
        let code = UserCode::parse("BCDF-GHJK").unwrap();
        for typed in ["bcdfghjk", " bcdf ghjk ", "B-C-D-F-G-H-J-K", "BCDF.GHJK", "bcdf_GHJK"] {
            assert_eq!(UserCode::parse(typed).as_ref(), Some(&code), "{typed}");
        }
        assert_eq!(code.to_string(), "BCDF-GHJK");
    }

    #[test]
    fn what_can_be_no_user_code_is_none() {
        let long = "B".repeat(65);
        for typed in ["", "BCDF-GHJ", "BCDF-GHJKL", "ACDF-GHJK", "BCDF-GH1K", "ßCDFGHJK", &long] {
            assert_eq!(UserCode::parse(typed), None, "{typed}");
        }
    }

    #[test]
    fn every_letter_is_as_likely_as_another_and_unfair_bytes_are_not_used() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        for eight in bytes.chunks(UserCode::LENGTH).take(30) {
            for letter in UserCode::from_random(eight).unwrap().letters() {
                *counts.entry(*letter).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), 20);
        assert!(counts.values().all(|count| *count == 12), "{counts:?}");
        assert_eq!(UserCode::from_random(&[240, 255, 250, 1, 2, 3, 4, 5, 6, 7]), None);
        assert!(UserCode::from_random(&[240, 1, 2, 3, 4, 5, 6, 7, 8]).is_some());
    }

    #[test]
    fn a_user_code_is_not_in_any_log() {
        assert_eq!(format!("{:?}", UserCode::parse("BCDFGHJK")), "Some(UserCode(redacted))");
    }

    #[test]
    fn a_request_must_ask_for_openid() {
        let parse = |text: &str| DeviceAuthorizationRequest::parse(&form(text));
        let request = parse("client_id=tv&scope=openid+email").unwrap();
        assert_eq!(request.scope.to_string(), "openid email");
        for text in ["client_id=tv", "scope=", "scope=email", "scope=openid%22"] {
            assert_eq!(parse(text).unwrap_err().error, ErrorCode::InvalidScope, "{text}");
        }
        let target = parse("scope=openid&resource=nowhere").unwrap_err();
        assert_eq!(target.error, ErrorCode::InvalidTarget);
    }

    #[test]
    fn the_answer_is_what_rfc_8628_has() {
        let answer = DeviceAuthorizationResponse {
            device_code: SecretString::from("d"),
            user_code: UserCode::parse("BCDFGHJK").unwrap(),
            verification_uri: "https://id.example.org/device".into(),
            verification_uri_complete: "https://id.example.org/device?user_code=BCDF-GHJK".into(),
            expires_in: 300,
            interval: 5,
        };
        let json = serde_json::json!({
            "device_code": "d", "user_code": "BCDF-GHJK",
            "verification_uri": "https://id.example.org/device",
            "verification_uri_complete": "https://id.example.org/device?user_code=BCDF-GHJK",
            "expires_in": 300, "interval": 5,
        });
        assert_eq!(serde_json::to_value(&answer).unwrap(), json);
    }

    #[test]
    fn a_poll_without_its_code_is_refused() {
        let parse = |text: &str| DeviceAccessTokenRequest::parse(&form(text));
        assert!(parse("device_code=d").is_ok());
        assert_eq!(parse("").unwrap_err().error, ErrorCode::InvalidRequest);
    }
}

//! Password hashes of local users: which are accepted, how one is made and how one is checked.
//!
//! Accepted are argon2id (PHC string, version 19) and bcrypt (`$2a$`, `$2b$`, `$2y$`), within bounds
//! on both sides: too weak protects nobody, and too costly would let one manifest stall the process.
//! argon2i, argon2d and argon2 version 16 are refused: each has known attacks that argon2id lacks.
//! A hash never prints.

use std::fmt;
use std::ops::RangeInclusive;

use argon2::password_hash::phc::{self, Output};
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

/// Longest password anybody may send, in bytes: hashing must not become a way to burn CPU.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// bcrypt reads no further than this many bytes. A longer password is refused, so that nobody's
/// password is accepted with a different ending.
const BCRYPT_MAX_PASSWORD_BYTES: usize = 72;
/// Below 10 is no longer safe; 16 takes seconds.
const BCRYPT_COST: RangeInclusive<u32> = 10..=16;

/// The OWASP recommendation we hash with: 19,456 KB, two passes, one lane.
const OUR_MEMORY_KIB: u32 = 19_456;
const OUR_PASSES: u32 = 2;
const OUR_LANES: u32 = 1;
/// From the smallest memory OWASP lists (7 MB) to the 64 MB of RFC 9106's second
/// recommendation.
const ARGON2_MEMORY_KIB: RangeInclusive<u32> = 7_168..=65_536;
const ARGON2_PASSES: RangeInclusive<u32> = 1..=10;
const ARGON2_LANES: RangeInclusive<u32> = 1..=4;
/// Memory times passes: the weakest OWASP set, and 64 MB in four passes.
const ARGON2_WORK_KIB: RangeInclusive<u32> = 35_840..=262_144;
const ARGON2_SALT_BYTES: RangeInclusive<usize> = 8..=64;
const ARGON2_OUTPUT_BYTES: RangeInclusive<usize> = 16..=64;
const ARGON2_VERSION: u32 = 19;

/// Salt of the decoy for a table without users. It protects nothing and need not be random.
const DECOY_SALT: [u8; 16] = *b"claviger-decoy-s";

/// Why a hash is refused, or none could be made. The texts never hold a hash or password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PasswordHashError {
    /// Neither argon2id nor bcrypt.
    #[error(
        "the password hash is neither argon2id ($argon2id$v=19$…) nor bcrypt ($2b$…): make one with `claviger hash-password`"
    )]
    UnknownAlgorithm,
    /// The right prefix, but not a hash.
    #[error("the password hash is malformed ({0}): make one with `claviger hash-password`")]
    Malformed(&'static str),
    /// A parameter outside its bounds.
    #[error(
        "the password hash has {parameter} {value}, which is outside {least}..={most}: make one with `claviger hash-password`"
    )]
    OutOfBounds {
        /// Which parameter.
        parameter: &'static str,
        /// What the hash says.
        value: u64,
        /// Least accepted.
        least: u64,
        /// Most accepted.
        most: u64,
    },
    /// An empty password.
    #[error("the password is empty")]
    EmptyPassword,
    /// More than [`MAX_PASSWORD_BYTES`].
    #[error("the password is longer than {MAX_PASSWORD_BYTES} bytes")]
    PasswordTooLong,
    /// The system gave no randomness, or the hash could not be computed.
    #[error("failed to compute the password hash: {0}")]
    Failed(String),
}

/// Makes a hash of the kind recommended for a `LocalUser`: argon2id with a random salt.
///
/// # Errors
/// Empty and overlong passwords; a system without randomness.
pub fn hash_password(password: &SecretString) -> Result<String, PasswordHashError> {
    let password = password.expose_secret().as_bytes();
    if password.is_empty() {
        return Err(PasswordHashError::EmptyPassword);
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordHashError::PasswordTooLong);
    }
    let hash: phc::PasswordHash = our_argon2()?.hash_password(password).map_err(failed)?;
    Ok(hash.to_string())
}

/// Whether a hash may stand in a `LocalUser`'s Secret.
///
/// # Errors
/// [`PasswordHashError`] names what is wrong and how to make a good one.
pub fn validate_hash(hash: &str) -> Result<(), PasswordHashError> {
    PasswordHash::parse(hash).map(drop)
}

/// How costly one check of a hash is. Two hashes of one class take the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CostClass {
    Argon2id { memory_kib: u32, passes: u32, lanes: u32 },
    Bcrypt { cost: u32 },
}

/// A hash within bounds.
#[derive(Clone)]
pub(crate) struct PasswordHash {
    class: CostClass,
    form: Form,
}

#[derive(Clone)]
enum Form {
    Argon2id(Box<phc::PasswordHash>),
    Bcrypt(String),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({:?})", self.class)
    }
}

impl PasswordHash {
    pub(crate) fn parse(text: &str) -> Result<Self, PasswordHashError> {
        if text.starts_with("$argon2id$") {
            parse_argon2id(text)
        } else if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            parse_bcrypt(text)
        } else {
            Err(PasswordHashError::UnknownAlgorithm)
        }
    }

    /// What stands in when a table has no users at all: as costly as the hashes we make.
    pub(crate) fn default_decoy() -> Result<Self, PasswordHashError> {
        let hash =
            our_argon2()?.hash_password_with_salt(b"", &DECOY_SALT).map_err(failed)?.to_string();
        Ok(Self::parse(&hash)?.decoy())
    }

    #[cfg(test)]
    pub(crate) fn class(&self) -> CostClass {
        self.class
    }

    /// A hash that costs exactly as much to check and that no password matches.
    pub(crate) fn decoy(&self) -> Self {
        let form = match &self.form {
            Form::Argon2id(hash) => {
                let mut decoy = hash.clone();
                let length = decoy.hash.as_ref().map_or(32, Output::len);
                decoy.hash = Output::new(&vec![0; length]).ok();
                Form::Argon2id(decoy)
            }
            Form::Bcrypt(text) => {
                let (salted, _) = text.split_at(BCRYPT_SALTED_LENGTH);
                Form::Bcrypt(format!("{salted}{}", ".".repeat(BCRYPT_LENGTH - salted.len())))
            }
        };
        Self { class: self.class, form }
    }

    /// Checks a password: tens of milliseconds of CPU, so never on an async thread.
    pub(crate) fn verify(&self, password: &SecretString) -> bool {
        let password = password.expose_secret().as_bytes();
        match &self.form {
            Form::Argon2id(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
            Form::Bcrypt(text) => {
                // The work is done in any case, so that length says nothing about who exists.
                let matches = bcrypt::verify(password, text).unwrap_or(false);
                matches && password.len() <= BCRYPT_MAX_PASSWORD_BYTES
            }
        }
    }
}

/// `$2b$CC$` and 22 characters of salt.
const BCRYPT_SALTED_LENGTH: usize = 29;
const BCRYPT_LENGTH: usize = 60;

fn our_argon2() -> Result<Argon2<'static>, PasswordHashError> {
    let params = Params::new(OUR_MEMORY_KIB, OUR_PASSES, OUR_LANES, None)
        .map_err(|error| failed(error.into()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn failed(error: argon2::password_hash::Error) -> PasswordHashError {
    PasswordHashError::Failed(error.to_string())
}

fn parse_argon2id(text: &str) -> Result<PasswordHash, PasswordHashError> {
    let hash = phc::PasswordHash::new(text)
        .map_err(|_| PasswordHashError::Malformed("not a PHC string"))?;
    bounded("version", hash.version.unwrap_or(0), &(ARGON2_VERSION..=ARGON2_VERSION))?;
    if hash.params.iter().any(|(name, _)| !["m", "t", "p"].contains(&name.as_str())) {
        return Err(PasswordHashError::Malformed("parameters other than m, t and p"));
    }
    let decimal = |name: &'static str| {
        hash.params.get_decimal(name).ok_or(PasswordHashError::Malformed("m, t or p is missing"))
    };
    let (memory_kib, passes, lanes) = (decimal("m")?, decimal("t")?, decimal("p")?);
    bounded("memory in KiB (m)", memory_kib, &ARGON2_MEMORY_KIB)?;
    bounded("passes (t)", passes, &ARGON2_PASSES)?;
    bounded("lanes (p)", lanes, &ARGON2_LANES)?;
    bounded("memory times passes (m × t)", memory_kib * passes, &ARGON2_WORK_KIB)?;
    let salt = hash.salt.as_ref().ok_or(PasswordHashError::Malformed("no salt"))?.len();
    bounded("salt length", salt, &ARGON2_SALT_BYTES)?;
    let output = hash.hash.as_ref().ok_or(PasswordHashError::Malformed("no digest"))?.len();
    bounded("digest length", output, &ARGON2_OUTPUT_BYTES)?;
    Ok(PasswordHash {
        class: CostClass::Argon2id { memory_kib, passes, lanes },
        form: Form::Argon2id(Box::new(hash)),
    })
}

fn parse_bcrypt(text: &str) -> Result<PasswordHash, PasswordHashError> {
    let parts: bcrypt::HashParts =
        text.parse().map_err(|_| PasswordHashError::Malformed("not 60 characters of bcrypt"))?;
    let cost = parts.get_cost();
    bounded("bcrypt cost", cost, &BCRYPT_COST)?;
    Ok(PasswordHash { class: CostClass::Bcrypt { cost }, form: Form::Bcrypt(text.to_owned()) })
}

fn bounded<N>(
    parameter: &'static str,
    value: N,
    bounds: &RangeInclusive<N>,
) -> Result<(), PasswordHashError>
where
    N: PartialOrd + Copy + TryInto<u64>,
{
    if bounds.contains(&value) {
        return Ok(());
    }
    let number = |n: N| n.try_into().unwrap_or(u64::MAX);
    Err(PasswordHashError::OutOfBounds {
        parameter,
        value: number(value),
        least: number(*bounds.start()),
        most: number(*bounds.end()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    fn bcrypt_hash(password: &str, cost: u32) -> String {
        bcrypt::hash(password, cost).unwrap()
    }

    #[test]
    fn own_hash_is_accepted_and_matches_only_its_password() {
        let text = hash_password(&secret("correct horse")).unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        let hash = PasswordHash::parse(&text).unwrap();
        assert!(hash.verify(&secret("correct horse")));
        assert!(!hash.verify(&secret("correct horse ")));
    }

    #[test]
    fn two_hashes_of_one_password_differ() {
        let password = secret("same");
        assert_ne!(hash_password(&password).unwrap(), hash_password(&password).unwrap());
    }

    #[test]
    fn bcrypt_of_every_usual_prefix_is_accepted() {
        let text = bcrypt_hash("hunter22", 10);
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let hash = PasswordHash::parse(&format!("{prefix}{}", &text[4..])).unwrap();
            assert!(hash.verify(&secret("hunter22")));
            assert!(!hash.verify(&secret("hunter23")));
        }
        assert_eq!(
            validate_hash(&format!("$2x${}", &text[4..])),
            Err(PasswordHashError::UnknownAlgorithm)
        );
    }

    #[test]
    fn bcrypt_password_beyond_72_bytes_is_refused_instead_of_truncated() {
        let longest = "x".repeat(72);
        let hash = PasswordHash::parse(&bcrypt_hash(&longest, 10)).unwrap();
        assert!(hash.verify(&secret(&longest)));
        assert!(!hash.verify(&secret(&format!("{longest}y"))));
    }

    #[test]
    fn weak_costly_and_foreign_hashes_are_refused() {
        let salt_and_digest = "c29tZXNhbHRzb21lc2FsdA$PNpkKrMIsBGXEHGzmVEmVlNMBZAqzKnTVOUA8RhVZWc";
        for (text, fragment) in [
            (format!("$argon2id$v=19$m=1024,t=2,p=1${salt_and_digest}"), "memory in KiB"),
            (format!("$argon2id$v=19$m=1048576,t=1,p=1${salt_and_digest}"), "memory in KiB"),
            (format!("$argon2id$v=19$m=19456,t=1,p=1${salt_and_digest}"), "memory times passes"),
            (format!("$argon2id$v=19$m=65536,t=9,p=1${salt_and_digest}"), "memory times passes"),
            (format!("$argon2id$v=19$m=19456,t=4000000000,p=1${salt_and_digest}"), "passes (t)"),
            (format!("$argon2id$v=19$m=19456,t=2,p=200${salt_and_digest}"), "lanes"),
            (format!("$argon2id$v=16$m=19456,t=2,p=1${salt_and_digest}"), "version 16"),
            (format!("$argon2id$m=19456,t=2,p=1${salt_and_digest}"), "version 0"),
            (format!("$argon2id$v=19$m=19456,t=2,p=1,keyid=YQ${salt_and_digest}"), "other than"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ".to_owned(), "no digest"),
            (format!("$argon2i$v=19$m=19456,t=2,p=1${salt_and_digest}"), "neither argon2id"),
            (format!("$argon2d$v=19$m=19456,t=2,p=1${salt_and_digest}"), "neither argon2id"),
            ("$2b$04$abcdefghijklmnopqrstuuAbFHeKf0BYOEnRnqVfHxFaBGtqGBXGK".to_owned(), "cost 4"),
            ("$2b$31$abcdefghijklmnopqrstuuAbFHeKf0BYOEnRnqVfHxFaBGtqGBXGK".to_owned(), "cost 31"),
            ("$2b$12$short".to_owned(), "malformed"),
            ("plaintext".to_owned(), "neither argon2id"),
            (String::new(), "neither argon2id"),
            ("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(), "neither argon2id"),
        ] {
            let error = validate_hash(&text).unwrap_err().to_string();
            assert!(error.contains(fragment), "{text}: {error}");
            assert!(error.contains("claviger hash-password"), "{error}");
        }
    }

    #[test]
    fn owasp_sets_and_rfc_9106_second_recommendation_are_accepted() {
        let salt_and_digest = "c29tZXNhbHRzb21lc2FsdA$PNpkKrMIsBGXEHGzmVEmVlNMBZAqzKnTVOUA8RhVZWc";
        for params in [
            "m=47104,t=1,p=1",
            "m=19456,t=2,p=1",
            "m=12288,t=3,p=1",
            "m=7168,t=5,p=1",
            "m=65536,t=3,p=4",
        ] {
            validate_hash(&format!("$argon2id$v=19${params}${salt_and_digest}")).unwrap();
        }
    }

    #[test]
    fn decoy_costs_the_same_and_matches_nothing() {
        for text in [hash_password(&secret("pw")).unwrap(), bcrypt_hash("pw", 10)] {
            let hash = PasswordHash::parse(&text).unwrap();
            let decoy = hash.decoy();
            assert_eq!(decoy.class(), hash.class());
            assert!(!decoy.verify(&secret("pw")));
            if let Form::Bcrypt(text) = &decoy.form {
                assert_eq!(
                    bcrypt::verify("pw", text).ok(),
                    Some(false),
                    "checked, not rejected early"
                );
            }
        }
    }

    #[test]
    fn empty_and_overlong_passwords_are_not_hashed() {
        assert_eq!(hash_password(&secret("")), Err(PasswordHashError::EmptyPassword));
        let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
        assert_eq!(hash_password(&secret(&long)), Err(PasswordHashError::PasswordTooLong));
    }

    #[test]
    fn debug_shows_no_hash() {
        let hash = PasswordHash::parse(&bcrypt_hash("pw", 10)).unwrap();
        assert_eq!(format!("{hash:?}"), "PasswordHash(Bcrypt { cost: 10 })");
    }
}

//! A ring of signing keys as its Secret holds it.
//!
//! ```text
//! ring.json    what the keys are and where they stand, readable for people
//! <kid>.pem    each private key, PKCS#8
//! ```
//! What always holds: what cannot be read is overwritten only with the ring a replica last read there.

use std::collections::BTreeMap;

use claviger_jose::Algorithm;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keyring::{MOST_KEYS, Ring, RingKey, Stage};
use crate::secret;

/// Latest time that is read: the end of the year 9999.
const LATEST: i64 = 253_402_300_799;

/// Key of the index.
const INDEX: &str = "ring.json";

/// Why a Secret is no ring.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RingSecretError {
    /// No index, or not ours.
    #[error("{INDEX} is missing or not readable: {0}")]
    Index(String),
    /// An algorithm nobody knows.
    #[error("key {0} has an unknown algorithm")]
    Algorithm(String),
    /// A key that the index names has no PEM.
    #[error("key {0} has no readable {0}.pem")]
    MissingKey(String),
    /// A time nobody can have written.
    #[error("key {0} has a time that is not between 1970 and 9999, or tokens that live longer")]
    Time(String),
    /// More keys than anybody needs.
    #[error("{0} keys, at most {MOST_KEYS}")]
    TooMany(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    rotation_request: i32,
    #[serde(default)]
    lineage: String,
    #[serde(default)]
    revision: u64,
    keys: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kid: String,
    algorithm: String,
    created_at: i64,
    #[serde(flatten)]
    stage: Stage,
}

/// The data of a ring's Secret.
pub fn encode(ring: &Ring) -> BTreeMap<String, ByteString> {
    let entries = ring.keys.iter().map(|key| Entry {
        kid: key.kid.clone(),
        algorithm: key.algorithm.as_str().to_owned(),
        created_at: key.created_at,
        stage: key.stage.clone(),
    });
    let index = Index {
        rotation_request: ring.rotation_request,
        lineage: ring.lineage.clone(),
        revision: ring.revision,
        keys: entries.collect(),
    };
    // Plain numbers and strings always serialise.
    let index = serde_json::to_vec_pretty(&index).unwrap_or_default();
    ring.keys
        .iter()
        .map(|key| (pem_key(&key.kid), ByteString(key.pem.expose_secret().as_bytes().to_vec())))
        .chain([(INDEX.to_owned(), ByteString(index))])
        .collect()
}

/// The ring in a Secret.
///
/// # Errors
/// [`RingSecretError`] says what is wrong with it.
pub fn decode(secret: &Secret) -> Result<Ring, RingSecretError> {
    let index =
        secret::value(secret, INDEX).ok_or_else(|| RingSecretError::Index("no such key".into()))?;
    let index: Index =
        serde_json::from_slice(index).map_err(|error| RingSecretError::Index(error.to_string()))?;
    if index.keys.len() > MOST_KEYS {
        return Err(RingSecretError::TooMany(index.keys.len()));
    }
    let Index { rotation_request, lineage, revision, keys } = index;
    let keys = keys.into_iter().map(|entry| key(secret, entry)).collect::<Result<_, _>>()?;
    Ok(Ring { keys, rotation_request, lineage, revision })
}

fn key(secret: &Secret, entry: Entry) -> Result<RingKey, RingSecretError> {
    let times = match entry.stage {
        Stage::Pending => [0, 0],
        Stage::Published { published_at } => [published_at, 0],
        Stage::Active { activated_at, longest_token_seconds } => {
            [activated_at, longest_token_seconds]
        }
        Stage::Retiring { retired_at, until } => [retired_at, until],
    };
    if times.iter().chain([&entry.created_at]).any(|time| !(0..=LATEST).contains(time)) {
        return Err(RingSecretError::Time(entry.kid));
    }
    let pem = secret::value(secret, &pem_key(&entry.kid))
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or_else(|| RingSecretError::MissingKey(entry.kid.clone()))?;
    let algorithm = entry
        .algorithm
        .parse::<Algorithm>()
        .map_err(|_| RingSecretError::Algorithm(entry.kid.clone()))?;
    Ok(RingKey {
        algorithm,
        created_at: entry.created_at,
        stage: entry.stage,
        pem: SecretString::from(pem.to_owned()),
        kid: entry.kid,
    })
}

fn pem_key(kid: &str) -> String {
    format!("{kid}.pem")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        let stages = [
            Stage::Retiring { retired_at: 3, until: 4 },
            Stage::Active { activated_at: 5, longest_token_seconds: 600 },
            Stage::Published { published_at: 6 },
            Stage::Pending,
        ];
        let keys = stages.into_iter().enumerate().map(|(at, stage)| RingKey {
            kid: format!("kid_{at}"),
            algorithm: Algorithm::ES256,
            created_at: 1,
            stage,
            pem: SecretString::from(format!("pem {at}")),
        });
        let keys = keys.collect();
        Ring { keys, rotation_request: 2, lineage: "kid_0".into(), revision: 7 }
    }

    fn secret(data: BTreeMap<String, ByteString>) -> Secret {
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn a_ring_survives_its_secret() {
        let back = decode(&secret(encode(&ring()))).unwrap();
        assert_eq!((back.rotation_request, back.revision), (2, 7));
        assert_eq!(back.lineage, "kid_0");
        assert_eq!(back.keys.len(), 4);
        for (before, after) in ring().keys.iter().zip(&back.keys) {
            assert_eq!((&before.kid, &before.stage), (&after.kid, &after.stage));
            assert_eq!(before.pem.expose_secret(), after.pem.expose_secret());
        }
    }

    #[test]
    fn a_broken_secret_is_refused_with_what_is_wrong() {
        let mut no_pem = encode(&ring());
        no_pem.remove("kid_1.pem");
        assert_eq!(
            decode(&secret(no_pem)).unwrap_err(),
            RingSecretError::MissingKey("kid_1".into())
        );
        assert!(matches!(decode(&Secret::default()), Err(RingSecretError::Index(_))));
        let mut garbled = encode(&ring());
        garbled.insert(INDEX.into(), ByteString(b"{".to_vec()));
        assert!(matches!(decode(&secret(garbled)), Err(RingSecretError::Index(_))));
    }

    #[test]
    fn a_time_that_nobody_can_have_written_is_refused() {
        let data = encode(&ring());
        let index: serde_json::Value = serde_json::from_slice(&data[INDEX].0).unwrap();
        let mut fields = 0;
        for (at, entry) in index["keys"].as_array().unwrap().iter().enumerate() {
            for (field, _) in entry.as_object().unwrap().iter().filter(|(_, v)| v.is_i64()) {
                for wrong in [-1, LATEST + 1, i64::MIN, i64::MAX] {
                    let (mut index, mut data) = (index.clone(), data.clone());
                    index["keys"][at][field] = wrong.into();
                    data.insert(INDEX.into(), ByteString(index.to_string().into_bytes()));
                    let kid = entry["kid"].as_str().unwrap().to_owned();
                    assert_eq!(decode(&secret(data)).unwrap_err(), RingSecretError::Time(kid));
                }
                fields += 1;
            }
        }
        assert_eq!(fields, 4 + 2 + 2 + 1, "createdAt of each, and what its state says");
    }

    #[test]
    fn no_key_is_in_the_index() {
        let data = encode(&ring());
        let index = String::from_utf8(data[INDEX].0.clone()).unwrap();
        assert!(!index.contains("pem"), "{index}");
    }
}

//! The rings as they stand in their Secret: JSON, wiped from memory after use.
//!
//! The document says its format version. Each one that is read has an arm in [`Rings::from_json`]; a
//! new one gets its arm one release before [`Rings::to_json`] writes it. Version 1 had one ring and
//! did not say so.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize, Zeroizing};

use crate::key::{KeyState, RingKey, Secret, is_key_id};
use crate::rings::{MAX_KEYS, Ring, RingError, Rings};

/// Most bytes read as a document; two full rings are about 14,000 bytes.
const MAX_DOCUMENT_LENGTH: usize = 64 * 1024;
/// Room per key, so that writing never moves secrets to a new allocation.
const BYTES_PER_KEY: usize = 256;
/// The version that is written.
const WRITTEN: u64 = 2;
/// Latest time that is read: the end of the year 9999.
const LATEST: i64 = 253_402_300_799;

/// What every version says.
#[derive(Deserialize)]
struct Version {
    #[serde(default = "first")]
    version: u64,
}

fn first() -> u64 {
    1
}

/// Version 1: the long ring alone.
#[derive(Deserialize)]
struct Document1 {
    keys: Vec<KeyDocument>,
    #[serde(default)]
    revoked: Vec<String>,
}

/// Version 2.
#[derive(Serialize, Deserialize)]
struct Document2 {
    version: u64,
    long: RingDocument,
    short: RingDocument,
    #[serde(default)]
    revoked: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RingDocument {
    keys: Vec<KeyDocument>,
    #[serde(default)]
    rotation_request: i64,
    #[serde(default = "nothing_destroyed")]
    destroyed_until: i64,
}

fn nothing_destroyed() -> i64 {
    -1
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyDocument {
    id: String,
    created_at: i64,
    #[serde(flatten)]
    state: KeyState,
    #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
    secret: Secret,
}

impl Rings {
    /// The rings' JSON document, for their Secret. Holds every key's secret.
    ///
    /// # Errors
    /// [`RingError::Malformed`] if serde fails, which no ring makes it do.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, RingError> {
        let document = Document2 {
            version: WRITTEN,
            long: RingDocument::from(&self.long),
            short: RingDocument::from(&self.short),
            revoked: self.revoked.clone(),
        };
        let room = (self.keys().count() + self.revoked.len() + 2) * BYTES_PER_KEY;
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, &document)
            .map_err(|error| RingError::Malformed(error.to_string()))?;
        Ok(json)
    }

    /// Reads the rings from their Secret. Revoked keys are dropped with their secrets.
    ///
    /// # Errors
    /// [`RingError`]: not such a document, or one that breaks what always holds.
    pub fn from_json(json: &[u8]) -> Result<Self, RingError> {
        if json.len() > MAX_DOCUMENT_LENGTH {
            return Err(RingError::Malformed("longer than 64 KiB".into()));
        }
        let version: Version = parse(json)?;
        let (long, short, revoked) = match version.version {
            1 => {
                let document: Document1 = parse(json)?;
                let long = RingDocument {
                    keys: document.keys,
                    rotation_request: 0,
                    destroyed_until: nothing_destroyed(),
                };
                (Ring::try_from(long)?, Ring::default(), document.revoked)
            }
            2 => {
                let document: Document2 = parse(json)?;
                (document.long.try_into()?, document.short.try_into()?, document.revoked)
            }
            unknown => return Err(RingError::UnknownVersion(unknown)),
        };
        if !revoked.iter().all(|id| is_key_id(id)) {
            return Err(RingError::Malformed("revoked must list key IDs".into()));
        }
        let mut rings = Self { long, short, revoked: Vec::new() };
        rings.check_ids()?;
        rings.revoke(revoked.iter().map(String::as_str));
        Ok(rings)
    }

    fn check_ids(&self) -> Result<(), RingError> {
        let mut ids: Vec<&str> = self.keys().map(RingKey::id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(RingError::Malformed("two keys have one ID".into()));
        }
        Ok(())
    }
}

// serde's messages may quote the input, so only the place is told.
fn parse<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, RingError> {
    serde_json::from_slice(json).map_err(|error| {
        RingError::Malformed(format!("line {} column {}", error.line(), error.column()))
    })
}

impl From<&Ring> for RingDocument {
    fn from(ring: &Ring) -> Self {
        Self {
            keys: ring.keys.iter().map(KeyDocument::from).collect(),
            rotation_request: ring.rotation_request,
            destroyed_until: ring.destroyed_until,
        }
    }
}

impl TryFrom<RingDocument> for Ring {
    type Error = RingError;

    fn try_from(document: RingDocument) -> Result<Self, RingError> {
        let malformed = |why: &str| Err(RingError::Malformed(why.to_owned()));
        if document.keys.len() > MAX_KEYS {
            return malformed("more keys than a ring may hold");
        }
        let keys: Vec<RingKey> =
            document.keys.into_iter().map(RingKey::try_from).collect::<Result<_, _>>()?;
        let times = keys.iter().flat_map(|key| [Some(key.created_at()), key.state().time()]);
        if times.flatten().any(|at| !(0..=LATEST).contains(&at))
            || !(-1..=LATEST).contains(&document.destroyed_until)
        {
            return malformed("a time is not between 1970 and 9999");
        }
        if keys.iter().filter(|key| matches!(key.state(), KeyState::Active { .. })).count() > 1 {
            return malformed("more than one key of a ring is Active");
        }
        let mut ring = Self {
            keys,
            rotation_request: document.rotation_request,
            destroyed_until: document.destroyed_until,
        };
        ring.settle();
        Ok(ring)
    }
}

impl From<&RingKey> for KeyDocument {
    fn from(key: &RingKey) -> Self {
        Self {
            id: key.id().to_owned(),
            created_at: key.created_at(),
            state: key.state(),
            secret: key.secret.clone(),
        }
    }
}

impl TryFrom<KeyDocument> for RingKey {
    type Error = RingError;

    fn try_from(key: KeyDocument) -> Result<Self, RingError> {
        Self::new(key.id, key.secret, key.state, key.created_at)
    }
}

fn write_secret<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&Zeroizing::new(BASE64URL_NOPAD.encode(secret.as_ref())))
}

fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    let wrong = || de::Error::custom("secret must be 32 bytes, base64url without padding");
    let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| wrong())?;
    let secret = <[u8; 32]>::try_from(bytes.as_slice()).map(Secret::new);
    bytes.zeroize();
    secret.map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{Context, KeyRing, OpenError, Purpose, RingKind};

    const CONTEXT: Context<'_> =
        Context { issuer_uid: "issuer", object_name: None, client_uid: None };

    fn document(rings: &Rings) -> Value {
        serde_json::from_slice(&rings.to_json().unwrap()).unwrap()
    }

    fn read(document: &Value) -> Result<Rings, RingError> {
        Rings::from_json(document.to_string().as_bytes())
    }

    fn ring(document: &Value) -> KeyRing {
        KeyRing::new(Arc::new(read(document).unwrap())).unwrap()
    }

    #[test]
    fn rings_read_from_their_secret_are_the_same_and_open_what_they_sealed_before() {
        let rings = Rings::generate(1).unwrap();
        let before = KeyRing::new(Arc::new(rings.clone())).unwrap();
        let restored = read(&document(&rings)).unwrap();
        assert_eq!(restored, rings);
        let restored = KeyRing::new(Arc::new(restored)).unwrap();
        for purpose in Purpose::ALL {
            let text = before.seal(purpose, &CONTEXT, 100, b"grant");
            assert_eq!(restored.open(purpose, &CONTEXT, 5, &text), Ok(b"grant".to_vec()));
        }
    }

    #[test]
    fn the_layout_of_the_secret_is_fixed() {
        let rings = Rings::generate(1).unwrap();
        let mut document = document(&rings);
        for kind in RingKind::ALL {
            for (at, key) in rings.ring(kind).keys().iter().enumerate() {
                let written = document[kind.as_str()]["keys"][at].as_object_mut().unwrap();
                assert_eq!(written.remove("secret").unwrap().as_str().unwrap().len(), 43);
                assert_eq!(written.remove("id").unwrap(), key.id());
            }
        }
        let keys = json!([
            {"createdAt": 1, "state": "Active", "activatedAt": 1},
            {"createdAt": 2, "state": "Published"},
        ]);
        let ring = json!({"keys": keys, "rotationRequest": 0, "destroyedUntil": -1});
        let wanted = json!({"version": 2, "long": ring, "short": ring, "revoked": []});
        assert_eq!(document, wanted);
    }

    /// Key 1 of this document sealed this text with the release that introduced blob format 1, when the
    /// document had format 1 too.
    #[test]
    fn format_version_1_stays_readable() {
        let document = json!({"keys": [{
            "id": "aaaaaaaa", "createdAt": 0, "state": "Retiring", "retiredAt": 0,
            "secret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        }, {
            "id": "bbbbbbbb", "createdAt": 0, "state": "Active", "activatedAt": 0,
            "secret": "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        }]});
        let ring = ring(&document);
        let context =
            Context { issuer_uid: "issuer", object_name: Some("object"), client_uid: None };
        let text = "AWFhYWFhYWFhGk6tsoSEcmSNQka_LXWdmioO-VvvbaF2Ki1_gUAKoU6GwfckZfazjRY";
        assert_eq!(ring.open(Purpose::Code, &context, 0, text), Ok(b"grant".to_vec()));
        let mac = "BX7MzIJ8ccXB748lDRupEfe9-DN4UxK_mc5s747muWc";
        let mac = BASE64URL_NOPAD.decode(mac.as_bytes()).unwrap();
        assert_eq!(ring.verify_mac(Purpose::RefreshMac, "aaaaaaaa", &[b"a", b"b"], &mac), Ok(()));
    }

    #[test]
    fn the_version_that_is_written_is_read_and_a_later_one_is_not_misread() {
        let rings = Rings::generate(1).unwrap();
        let mut document = document(&rings);
        assert_eq!(document["version"], WRITTEN);
        for unknown in [0, WRITTEN + 1, u64::MAX] {
            document["version"] = json!(unknown);
            assert_eq!(read(&document), Err(RingError::UnknownVersion(unknown)));
        }
        document["version"] = json!("two");
        assert!(matches!(read(&document), Err(RingError::Malformed(_))));
    }

    #[test]
    fn a_key_revoked_by_hand_is_dropped_and_the_next_stands_in() {
        let rings = Rings::generate(1).unwrap();
        let before = KeyRing::new(Arc::new(rings.clone())).unwrap();
        let mut document = document(&rings);
        document["revoked"] = json!([rings.long.keys[0].id()]);
        let edited = ring(&document);
        assert_eq!(edited.sealing_key(RingKind::Long).id(), rings.long.keys[1].id());
        let text = before.seal(Purpose::AccessToken, &CONTEXT, 100, b"");
        let opened = edited.open(Purpose::AccessToken, &CONTEXT, 3, &text);
        assert_eq!(opened, Err(OpenError::Revoked));
    }

    #[test]
    fn a_broken_secret_is_refused_with_what_is_wrong_and_nothing_of_its_content() {
        let good = document(&Rings::generate(1).unwrap());
        let secret = good["long"]["keys"][0]["secret"].as_str().unwrap().to_owned();
        let breaks: [&dyn Fn(&mut Value); 11] = [
            &|d| d["long"]["keys"][0]["id"] = json!("AAAAAAAA"),
            &|d| d["long"]["keys"][0]["secret"] = json!(&secret[..42]),
            &|d| d["short"]["keys"][0]["state"] = json!("Done"),
            &|d| d["short"] = Value::Null,
            &|d| d["revoked"] = json!(["x"]),
            &|d| d["long"]["keys"][1] = d["long"]["keys"][0].clone(),
            &|d| d["short"]["keys"][1] = d["long"]["keys"][0].clone(),
            &|d| {
                d["long"]["keys"][1]["state"] = json!("Active");
                d["long"]["keys"][1]["activatedAt"] = json!(1);
            },
            &|d| d["long"]["keys"] = json!(vec![d["long"]["keys"][0].clone(); MAX_KEYS + 1]),
            &|d| d["long"]["keys"][0]["createdAt"] = json!(i64::MAX),
            &|d| d["long"]["destroyedUntil"] = json!(i64::MIN),
        ];
        for (at, change) in breaks.iter().enumerate() {
            let mut document = good.clone();
            change(&mut document);
            let error = read(&document).unwrap_err();
            assert!(matches!(error, RingError::Malformed(_)), "{at}: {error}");
            assert!(!error.to_string().contains(&secret[..20]), "{error}");
        }
        assert!(matches!(Rings::from_json(&vec![b' '; 65_537]), Err(RingError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Rings::from_json(&bytes).is_err());
        }
    }
}

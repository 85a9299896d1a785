//! The ring as it stands in its Secret: JSON, wiped from memory after use.

use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize, Zeroizing};

use crate::ring::{KeyRing, KeyState, RingError, RingKey, Secret, is_key_id};

/// Most bytes read as a ring's document; a full ring is about 4,000 bytes.
const MAX_DOCUMENT_LENGTH: usize = 64 * 1024;
/// Most revoked IDs kept.
const MAX_REVOKED: usize = 256;
/// Room per key, so that writing never moves secrets to a new allocation.
const BYTES_PER_KEY: usize = 256;

#[derive(Serialize, Deserialize)]
struct Document {
    keys: Vec<KeyDocument>,
    #[serde(default)]
    revoked: BTreeSet<String>,
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

impl KeyRing {
    /// The ring's JSON document, for its Secret. Holds every key's secret.
    ///
    /// # Errors
    /// [`RingError::Malformed`] if serde fails, which no ring makes it do.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, RingError> {
        let document = Document {
            keys: self.keys().iter().map(KeyDocument::from).collect(),
            revoked: self.revoked().map(str::to_owned).collect(),
        };
        let room = (document.keys.len() + document.revoked.len() + 1) * BYTES_PER_KEY;
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, &document)
            .map_err(|error| RingError::Malformed(error.to_string()))?;
        Ok(json)
    }

    /// Reads a ring from its Secret.
    ///
    /// # Errors
    /// [`RingError`]: not such a document, or one that breaks what always holds.
    pub fn from_json(json: &[u8]) -> Result<Self, RingError> {
        let malformed = |why: &str| Err(RingError::Malformed(why.to_owned()));
        if json.len() > MAX_DOCUMENT_LENGTH {
            return malformed("longer than 64 KiB");
        }
        // serde's messages may quote the input, so only the place is told.
        let document: Document = serde_json::from_slice(json).map_err(|error| {
            RingError::Malformed(format!("line {} column {}", error.line(), error.column()))
        })?;
        if document.revoked.len() > MAX_REVOKED || !document.revoked.iter().all(|id| is_key_id(id))
        {
            return malformed("revoked must list at most 256 key IDs");
        }
        let keys = document.keys.into_iter().map(RingKey::try_from).collect::<Result<_, _>>()?;
        Self::new(keys, document.revoked)
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
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{Context, MAX_KEYS, Purpose};

    const CONTEXT: Context<'_> = Context { issuer_uid: "issuer", object_name: None };

    fn document(ring: &KeyRing) -> Value {
        serde_json::from_slice(&ring.to_json().unwrap()).unwrap()
    }

    fn read(document: &Value) -> Result<KeyRing, RingError> {
        KeyRing::from_json(document.to_string().as_bytes())
    }

    #[test]
    fn a_ring_read_from_its_secret_opens_what_it_sealed_before() {
        let mut ring = KeyRing::generate(1).unwrap();
        let next = ring.publish(2).unwrap();
        ring.activate(&next, 3).unwrap();
        ring.publish(4).unwrap();
        let text = ring.seal(Purpose::SessionPayload, &CONTEXT, 100, b"session");
        let restored = KeyRing::from_json(&ring.to_json().unwrap()).unwrap();
        assert_eq!(
            restored.open(Purpose::SessionPayload, &CONTEXT, 5, &text),
            Ok(b"session".to_vec())
        );
        assert_eq!(document(&restored), document(&ring));
        assert_eq!(restored.sealing_key().id(), next);
    }

    #[test]
    fn the_layout_of_the_secret_is_fixed() {
        let ring = KeyRing::generate(1).unwrap();
        let mut document = document(&ring);
        let key = document["keys"][0].as_object_mut().unwrap();
        let secret = key.remove("secret").unwrap();
        assert_eq!(secret.as_str().unwrap().len(), 43);
        let id = ring.sealing_key().id();
        assert_eq!(
            document,
            json!({
                "keys": [{"id": id, "createdAt": 1, "state": "Active", "activatedAt": 1}],
                "revoked": [],
            })
        );
    }

    /// Key 1 of this document sealed this text with the release that introduced format version 1.
    #[test]
    fn format_version_1_stays_readable() {
        let document = json!({"keys": [{
            "id": "aaaaaaaa", "createdAt": 0, "state": "Retiring", "retiredAt": 0,
            "secret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        }, {
            "id": "bbbbbbbb", "createdAt": 0, "state": "Active", "activatedAt": 0,
            "secret": "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        }]});
        let ring = read(&document).unwrap();
        let context = Context { issuer_uid: "issuer", object_name: Some("object") };
        let text = "AWFhYWFhYWFhGk6tsoSEcmSNQka_LXWdmioO-VvvbaF2Ki1_gUAKoU6GwfckZfazjRY";
        assert_eq!(ring.open(Purpose::Code, &context, 0, text), Ok(b"grant".to_vec()));
        let mac = "BX7MzIJ8ccXB748lDRupEfe9-DN4UxK_mc5s747muWc";
        let mac = BASE64URL_NOPAD.decode(mac.as_bytes()).unwrap();
        assert_eq!(ring.verify_mac(Purpose::RefreshMac, "aaaaaaaa", &[b"a", b"b"], &mac), Ok(()));
    }

    #[test]
    fn a_key_revoked_by_hand_is_dropped_and_the_next_stands_in() {
        let mut ring = KeyRing::generate(1).unwrap();
        let active = ring.sealing_key().id().to_owned();
        let next = ring.publish(2).unwrap();
        let mut document = document(&ring);
        document["revoked"] = json!([active]);
        let edited = read(&document).unwrap();
        assert_eq!(edited.sealing_key().id(), next);
        let text = ring.seal(Purpose::Code, &CONTEXT, 100, b"");
        assert_eq!(edited.open(Purpose::Code, &CONTEXT, 3, &text), Err(crate::OpenError::Revoked));
    }

    #[test]
    fn a_broken_secret_is_refused_with_what_is_wrong_and_nothing_of_its_content() {
        let good = document(&KeyRing::generate(1).unwrap());
        let secret = good["keys"][0]["secret"].as_str().unwrap().to_owned();
        let broken = |change: &dyn Fn(&mut Value)| {
            let mut document = good.clone();
            change(&mut document);
            let error = read(&document).unwrap_err();
            assert!(!error.to_string().contains(&secret[..20]), "{error}");
            error
        };
        assert_eq!(broken(&|d| d["keys"] = json!([])), RingError::NoSealingKey);
        assert!(matches!(
            broken(&|d| d["keys"][0]["id"] = json!("AAAAAAAA")),
            RingError::Malformed(_)
        ));
        assert!(matches!(
            broken(&|d| d["keys"][0]["secret"] = json!(&secret[..42])),
            RingError::Malformed(_)
        ));
        assert!(matches!(
            broken(&|d| d["keys"][0]["state"] = json!("Done")),
            RingError::Malformed(_)
        ));
        assert!(matches!(broken(&|d| d["revoked"] = json!(["x"])), RingError::Malformed(_)));
        let twice = |d: &mut Value| d["keys"] = json!([d["keys"][0], d["keys"][0]]);
        assert!(matches!(broken(&twice), RingError::Malformed(_)));
        let two_active = |d: &mut Value| {
            let mut other = d["keys"][0].clone();
            other["id"] = json!("aaaaaaaa");
            d["keys"] = json!([d["keys"][0], other]);
        };
        assert_eq!(broken(&two_active), RingError::SeveralActiveKeys);
        let many = |d: &mut Value| d["keys"] = json!(vec![d["keys"][0].clone(); MAX_KEYS + 1]);
        assert_eq!(broken(&many), RingError::Full);
        assert!(matches!(KeyRing::from_json(&vec![b' '; 65_537]), Err(RingError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(KeyRing::from_json(&bytes).is_err());
        }
    }
}

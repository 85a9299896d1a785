//! Shorter forms of what is in every session, in its sealed payload: `#[serde(with = …)]`.
//!
//! What always holds: whatever is written is itself again when it is read.

/// Scopes, separated by spaces: those of our own as one letter each; any other as it is, after `=` where it
/// could be taken for one.
pub mod scopes {
    use serde::{Deserialize, Deserializer, Serializer};

    const LETTERS: [(&str, &str); 8] = [
        ("a", "address"),
        ("e", "email"),
        ("f", "federated:id"),
        ("g", "groups"),
        ("o", "openid"),
        ("p", "profile"),
        ("r", "offline_access"),
        ("t", "phone"),
    ];

    fn shorten(scope: &str) -> String {
        match LETTERS.iter().find(|(_, known)| *known == scope) {
            Some((letter, _)) => (*letter).to_owned(),
            None if scope.len() == 1 || scope.starts_with('=') => format!("={scope}"),
            None => scope.to_owned(),
        }
    }

    fn lengthen(word: &str) -> &str {
        match LETTERS.iter().find(|(letter, _)| *letter == word) {
            Some((_, known)) => known,
            None => word.strip_prefix('=').unwrap_or(word),
        }
    }

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(scopes: &str, to: S) -> Result<S::Ok, S::Error> {
        let words: Vec<_> = scopes.split(' ').map(shorten).collect();
        to.serialize_str(&words.join(" "))
    }

    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        let words = String::deserialize(from)?;
        Ok(words.split(' ').map(lengthen).collect::<Vec<_>>().join(" "))
    }
}

/// Bytes that are mostly a text: in a format for people as that text, or base64url where they are none; in a binary one as
/// they are. A list of numbers, as older releases wrote them, is read too.
pub mod data {
    use std::fmt;

    use data_encoding::BASE64URL_NOPAD;
    use serde::de::{Error, SeqAccess, Unexpected, Visitor};
    use serde::{Deserializer, Serialize, Serializer};

    /// Before a text.
    const TEXT: char = '=';

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text after =, base64url, or bytes")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            if let Some(text) = text.strip_prefix(TEXT) {
                return Ok(text.as_bytes().to_vec());
            }
            let decoded = BASE64URL_NOPAD.decode(text.as_bytes());
            decoded.map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Vec<u8>, A::Error> {
            let mut read = Vec::new();
            while let Some(byte) = bytes.next_element()? {
                read.push(byte);
            }
            Ok(read)
        }
    }

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &Vec<u8>, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return bytes.serialize(to);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => to.serialize_str(&format!("{TEXT}{text}")),
            Err(_) => to.serialize_str(&BASE64URL_NOPAD.encode(bytes)),
        }
    }

    /// # Errors
    /// The deserializer's, or when a text is not base64url.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        if from.is_human_readable() {
            from.deserialize_any(Bytes)
        } else {
            from.deserialize_seq(Bytes)
        }
    }
}

/// A text; if it is a UUID as Kubernetes writes its UIDs (RFC 9562 4, lower case), and the format is a binary
/// one, as its sixteen bytes.
pub mod uid {
    use std::fmt;

    use data_encoding::HEXLOWER;
    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    /// Where a UUID has its hyphens.
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];

    fn bytes_of(text: &str) -> Option<[u8; 16]> {
        let digits = HEXLOWER.decode(text.replace('-', "").as_bytes()).ok()?;
        let bytes = <[u8; 16]>::try_from(digits).ok()?;
        (text_of(bytes) == text).then_some(bytes)
    }

    fn text_of(bytes: [u8; 16]) -> String {
        let mut text = HEXLOWER.encode(&bytes);
        for at in HYPHENS {
            text.insert(at, '-');
        }
        text
    }

    struct Uid;

    impl Visitor<'_> for Uid {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text, or the sixteen bytes of a UUID")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
            <[u8; 16]>::try_from(bytes)
                .map(text_of)
                .map_err(|_| E::invalid_value(Unexpected::Bytes(bytes), &self))
        }
    }

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
        match bytes_of(text).filter(|_| !to.is_human_readable()) {
            Some(bytes) => to.serialize_bytes(&bytes),
            None => to.serialize_str(text),
        }
    }

    /// # Errors
    /// The deserializer's, or when the bytes are not sixteen.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        if from.is_human_readable() { from.deserialize_str(Uid) } else { from.deserialize_any(Uid) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::{data, scopes, uid};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Compact {
        #[serde(with = "scopes")]
        scopes: String,
        #[serde(with = "uid")]
        uid: String,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Data(#[serde(with = "data")] Vec<u8>);

    fn data_written(bytes: &[u8]) -> String {
        let data = Data(bytes.to_vec());
        let binary = rmp_serde::to_vec_named(&data).unwrap();
        assert_eq!(rmp_serde::from_slice::<Data>(&binary).unwrap(), data);
        let before = rmp_serde::to_vec_named(&bytes.to_vec()).unwrap();
        assert_eq!(binary, before, "in sessions it stays as older releases read it");
        let text = serde_json::to_string(&data).unwrap();
        assert_eq!(serde_json::from_str::<Data>(&text).unwrap(), data);
        let numbers = serde_json::to_string(bytes).unwrap();
        assert_eq!(serde_json::from_str::<Data>(&numbers).unwrap(), data, "of an older release");
        text
    }

    #[test]
    fn data_that_is_a_text_is_written_as_one() {
        assert_eq!(data_written(b"r1.AbC_-"), r#""=r1.AbC_-""#);
        assert_eq!(data_written(b"=x"), r#""==x""#);
        assert_eq!(data_written(b""), r#""=""#);
        assert_eq!(data_written(&[0, 127, 128, 255]), r#""AH-A_w""#);
        for bad in [r#""a""#, r#""AH-A_w==""#, "7", "[256]", "{}"] {
            assert!(serde_json::from_str::<Data>(bad).is_err(), "{bad}");
        }
    }

    const UUID: &str = "6c9f8f0e-0000-4000-8000-00000000000f";

    fn written(scopes: &str, uid: &str) -> usize {
        let compact = Compact { scopes: scopes.to_owned(), uid: uid.to_owned() };
        let binary = rmp_serde::to_vec_named(&compact).unwrap();
        assert_eq!(rmp_serde::from_slice::<Compact>(&binary).unwrap(), compact);
        let text = serde_json::to_vec(&compact).unwrap();
        assert_eq!(serde_json::from_slice::<Compact>(&text).unwrap(), compact);
        binary.len()
    }

    #[test]
    fn what_looks_like_a_shorter_form_is_not_taken_for_one() {
        for scope in ["o", "=o", "==", "=", "", "openid", "o openid =o", "audience:x", "z"] {
            written(scope, "");
        }
        for uid in [UUID, &UUID.to_uppercase(), &UUID.replace('-', ""), &UUID[1..], "jane", "\0"] {
            written("", uid);
        }
    }

    #[test]
    fn what_is_in_every_session_is_shorter() {
        assert_eq!(written("openid offline_access", "") - written("", ""), "o r".len());
        assert_eq!(
            written("", UUID) - written("", ""),
            1 + 16,
            "a length of its own, and the bytes"
        );
        assert_eq!(written("", &UUID.to_uppercase()) - written("", ""), 1 + 36);
    }

    #[test]
    fn bytes_that_are_no_uuid_are_refused() {
        let long = serde_json::json!({"scopes": "", "uid": [0, 1]});
        assert!(serde_json::from_value::<Compact>(long).is_err());
        let mut binary =
            rmp_serde::to_vec_named(&Compact { scopes: String::new(), uid: UUID.into() }).unwrap();
        let at = binary.len() - 17;
        assert_eq!(binary[at], 16);
        binary[at] = 15;
        binary.pop();
        assert!(rmp_serde::from_slice::<Compact>(&binary).is_err());
    }

    proptest! {
        #[test]
        fn every_text_comes_back(scopes in "[a-p= ]{0,20}", uid in ".{0,40}", bytes: [u8; 16]) {
            written(&scopes, &uid);
            data_written(&bytes);
            let hex = data_encoding::HEXLOWER.encode(&bytes);
            let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            written(&scopes, &uuid);
        }
    }
}

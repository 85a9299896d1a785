//! Sealing and opening.
//!
//! ```text
//! base64url( version 1 │ key id 8 │ nonce 12 │ AES-256-GCM-SIV( expiry 8 │ plaintext ) │ tag 16 )
//! associated data: "claviger" │ purpose │ version │ issuer UID │ object name │ client UID, where there is one; each length-prefixed
//! ```
//! AES-256-GCM-SIV (RFC 8452): a repeated nonce reveals that two plaintexts are equal and no more.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use data_encoding::BASE64URL_NOPAD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key::{KEY_ID_LENGTH, RingKey, is_key_id};
use crate::purpose::Purpose;
use crate::ring::KeyRing;

/// Longest text that is opened, in characters. Longer ones are refused before they are decoded, so
/// nothing longer must be sealed: about 98,000 bytes of plaintext.
pub const MAX_SEALED_LENGTH: usize = 128 * 1024;

/// Every format that is read; the first byte of a blob says which one it is.
///
/// A new one is added here, and read, one release before it becomes [`Format::WRITTEN`]: replicas of
/// both releases serve side by side during an update, and after a downgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Format {
    /// As drawn above.
    V1 = 1,
}

impl Format {
    /// The format that is written.
    const WRITTEN: Self = Self::V1;

    /// The format of this number, if this release reads it.
    fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            _ => None,
        }
    }
}

const EXPIRY_LENGTH: usize = 8;
const TAG_LENGTH: usize = 16;

/// What a blob belongs to. It opens only for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// `metadata.uid` of the OIDCIssuer.
    pub issuer_uid: &'a str,
    /// Name of the stored object or the flow it stands in, where there is one.
    pub object_name: Option<&'a str>,
    /// `metadata.uid` of the OAuth2Client it is of, where it is one's.
    pub client_uid: Option<&'a str>,
}

/// Why a text does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Not of our form, or too long.
    #[error("malformed")]
    Malformed,
    /// Made with a key this ring does not have.
    #[error("made with an unknown key")]
    UnknownKey,
    /// Made with a key that was revoked.
    #[error("made with a revoked key")]
    Revoked,
    /// Not made by us for this purpose, issuer and object, or changed since.
    #[error("forged")]
    Forged,
    /// Past its time.
    #[error("expired")]
    Expired,
}

impl KeyRing {
    /// Seals a plaintext. It opens while `now < not_after` (seconds since the Unix epoch).
    ///
    /// The text is base64url without padding, 60 characters and 4 for every 3 bytes of plaintext.
    ///
    /// # Panics
    /// When the system has no randomness: nothing safe can be made then.
    pub fn seal(
        &self,
        purpose: Purpose,
        context: &Context<'_>,
        not_after: i64,
        plaintext: &[u8],
    ) -> String {
        let key = self.sealing_key(purpose.ring());
        let mut sealed =
            Zeroizing::new(Vec::with_capacity(EXPIRY_LENGTH + plaintext.len() + TAG_LENGTH));
        sealed.extend_from_slice(&not_after.to_be_bytes());
        sealed.extend_from_slice(plaintext);
        let aad = Aad::from(associated_data(purpose, Format::WRITTEN, context));
        let cipher = &key.subkeys.of(purpose).aead;
        let Ok(nonce) = cipher.seal_in_place_append_tag(aad, &mut *sealed) else {
            panic!("sealing failed: the system has no randomness");
        };
        let mut blob = Vec::with_capacity(1 + KEY_ID_LENGTH + NONCE_LEN + sealed.len());
        blob.push(Format::WRITTEN as u8);
        blob.extend_from_slice(key.id().as_bytes());
        blob.extend_from_slice(nonce.as_ref());
        blob.extend_from_slice(&sealed);
        BASE64URL_NOPAD.encode(&blob)
    }

    /// Opens what [`KeyRing::seal`] made for the same purpose and context.
    ///
    /// # Errors
    /// [`OpenError`]; expiry is only told of an authentic blob.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &Context<'_>,
        now: i64,
        text: &str,
    ) -> Result<Vec<u8>, OpenError> {
        if text.len() > MAX_SEALED_LENGTH {
            return Err(OpenError::Malformed);
        }
        let blob = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| OpenError::Malformed)?;
        let (number, rest) = blob.split_first().ok_or(OpenError::Malformed)?;
        match Format::of(*number).ok_or(OpenError::Malformed)? {
            Format::V1 => self.open_v1(purpose, context, now, rest),
        }
    }

    fn open_v1(
        &self,
        purpose: Purpose,
        context: &Context<'_>,
        now: i64,
        rest: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let (key, rest) = self.named_key(purpose, rest)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError::Malformed)?;
        if ciphertext.len() < EXPIRY_LENGTH + TAG_LENGTH {
            return Err(OpenError::Malformed);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Malformed)?;
        let aad = Aad::from(associated_data(purpose, Format::V1, context));
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let plain = key
            .subkeys
            .of(purpose)
            .aead
            .open_in_place(nonce, aad, &mut opened)
            .map_err(|_| OpenError::Forged)?;
        let (not_after, plaintext) =
            plain.split_first_chunk::<EXPIRY_LENGTH>().ok_or(OpenError::Malformed)?;
        if now >= i64::from_be_bytes(*not_after) {
            return Err(OpenError::Expired);
        }
        Ok(plaintext.to_vec())
    }

    fn named_key<'b>(
        &self,
        purpose: Purpose,
        bytes: &'b [u8],
    ) -> Result<(&RingKey, &'b [u8]), OpenError> {
        let (id, rest) = bytes.split_at_checked(KEY_ID_LENGTH).ok_or(OpenError::Malformed)?;
        let id = std::str::from_utf8(id).map_err(|_| OpenError::Malformed)?;
        if !is_key_id(id) {
            return Err(OpenError::Malformed);
        }
        Ok((self.opening_key(purpose, id)?, rest))
    }
}

/// What a blob is bound to. Every part is length-prefixed, so no two contexts read the same.
fn associated_data(purpose: Purpose, format: Format, context: &Context<'_>) -> Vec<u8> {
    let mut data = Vec::with_capacity(128);
    push(&mut data, b"claviger");
    push(&mut data, purpose.as_str().as_bytes());
    push(&mut data, &[format as u8]);
    push(&mut data, context.issuer_uid.as_bytes());
    match context.object_name {
        None => data.push(0),
        Some(name) => {
            data.push(1);
            push(&mut data, name.as_bytes());
        }
    }
    // Last, so that its absence is told from every presence.
    if let Some(client_uid) = context.client_uid {
        push(&mut data, client_uid.as_bytes());
    }
    data
}

fn push(data: &mut Vec<u8>, part: &[u8]) {
    data.extend_from_slice(&(part.len() as u64).to_be_bytes());
    data.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RingKind;

    const NOW: i64 = 1_767_225_600;
    const CONTEXT: Context<'_> =
        Context { issuer_uid: "issuer", object_name: Some("object"), client_uid: None };

    fn ring() -> KeyRing {
        KeyRing::generate(NOW).unwrap()
    }

    fn seal(ring: &KeyRing, plaintext: &[u8]) -> String {
        ring.seal(Purpose::Code, &CONTEXT, NOW + 60, plaintext)
    }

    fn open(ring: &KeyRing, text: &str) -> Result<Vec<u8>, OpenError> {
        ring.open(Purpose::Code, &CONTEXT, NOW, text)
    }

    #[test]
    fn expiry_is_inside_and_exact() {
        let ring = ring();
        let text = seal(&ring, b"grant");
        let at = |now| ring.open(Purpose::Code, &CONTEXT, now, &text);
        assert_eq!(at(NOW + 59), Ok(b"grant".to_vec()));
        assert_eq!(at(NOW + 60), Err(OpenError::Expired));
        assert_eq!(at(i64::MAX), Err(OpenError::Expired));
    }

    #[test]
    fn a_blob_of_one_purpose_is_refused_at_every_other() {
        let ring = ring();
        for made_for in Purpose::ALL {
            let text = ring.seal(made_for, &CONTEXT, NOW + 60, b"grant");
            for offered_at in Purpose::ALL {
                // A key of the short ring is not even looked for where things live long.
                let expected = match (made_for.ring(), offered_at.ring()) {
                    _ if made_for == offered_at => Ok(b"grant".to_vec()),
                    (RingKind::Short, RingKind::Long) => Err(OpenError::UnknownKey),
                    _ => Err(OpenError::Forged),
                };
                let opened = ring.open(offered_at, &CONTEXT, NOW, &text);
                assert_eq!(opened, expected, "{made_for} at {offered_at}");
            }
        }
    }

    #[test]
    fn a_blob_of_one_context_is_refused_in_every_other() {
        let ring = ring();
        let contexts = [
            ("issuer", Some("object"), None),
            ("issuer", Some("other"), None),
            ("issuer", Some(""), None),
            ("issuer", None, None),
            ("issuerobject", None, None),
            ("issuero", Some("bject"), None),
            ("", Some("object"), None),
            ("issuer", Some("object"), Some("client")),
            ("issuer", Some("object"), Some("")),
            ("issuer", Some("objectclient"), None),
            ("issuer", None, Some("client")),
        ]
        .map(|(issuer_uid, object_name, client_uid)| Context {
            issuer_uid,
            object_name,
            client_uid,
        });
        for made_in in &contexts {
            let text = ring.seal(Purpose::Flow, made_in, NOW + 60, b"");
            for offered_in in &contexts {
                let opened = ring.open(Purpose::Flow, offered_in, NOW, &text);
                assert_eq!(opened.is_ok(), made_in == offered_in, "{made_in:?} in {offered_in:?}");
            }
        }
    }

    #[test]
    fn the_same_plaintext_never_seals_to_the_same_text() {
        let ring = ring();
        assert_ne!(seal(&ring, b"grant"), seal(&ring, b"grant"));
    }

    #[test]
    fn other_versions_foreign_keys_and_overlong_texts_are_refused_before_any_cryptography() {
        let ring = ring();
        let mut blob = BASE64URL_NOPAD.decode(seal(&ring, b"grant").as_bytes()).unwrap();
        assert_eq!(Format::of(blob[0]), Some(Format::WRITTEN), "what is written is read");
        for number in (0..=u8::MAX).filter(|number| Format::of(*number).is_none()) {
            blob[0] = number;
            assert_eq!(open(&ring, &BASE64URL_NOPAD.encode(&blob)), Err(OpenError::Malformed));
        }
        assert_eq!(open(&ring, &seal(&self::ring(), b"grant")), Err(OpenError::UnknownKey));
        let overlong = seal(&ring, &vec![0; MAX_SEALED_LENGTH * 3 / 4]);
        assert_eq!(open(&ring, &overlong), Err(OpenError::Malformed));
        assert_eq!(open(&ring, ""), Err(OpenError::Malformed));
    }

    #[test]
    fn a_large_plaintext_is_not_compressed_and_comes_back() {
        let ring = ring();
        let zeros = vec![0; 90_000];
        let text = seal(&ring, &zeros);
        assert!(text.len() > 120_000);
        assert_eq!(open(&ring, &text), Ok(zeros));
    }

    proptest! {
        #[test]
        fn every_plaintext_comes_back(
            plaintext in proptest::collection::vec(any::<u8>(), 0..600),
            lifetime in 1_i64..1_000_000,
        ) {
            let ring = ring();
            let text = ring.seal(Purpose::Code, &CONTEXT, NOW + lifetime, &plaintext);
            prop_assert_eq!(text.len(), (45 + plaintext.len()) * 4 / 3 + usize::from(plaintext.len() % 3 != 0));
            prop_assert_eq!(open(&ring, &text), Ok(plaintext));
        }

        #[test]
        fn one_flipped_bit_anywhere_is_refused(bit in any::<prop::sample::Index>()) {
            let ring = ring();
            let mut blob = BASE64URL_NOPAD.decode(seal(&ring, b"grant").as_bytes()).unwrap();
            let bit = bit.index(blob.len() * 8);
            blob[bit / 8] ^= 1 << (bit % 8);
            let refused = open(&ring, &BASE64URL_NOPAD.encode(&blob)).unwrap_err();
            prop_assert_ne!(refused, OpenError::Expired);
        }

        #[test]
        fn a_truncated_or_extended_text_is_refused(cut in any::<prop::sample::Index>(), more in "[A-Za-z0-9_-]{1,9}") {
            let ring = ring();
            let text = seal(&ring, b"grant");
            prop_assert!(open(&ring, &text[..cut.index(text.len())]).is_err());
            prop_assert!(open(&ring, &(text + &more)).is_err());
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,200}") {
            prop_assert!(open(&ring(), &text).is_err());
        }
    }
}

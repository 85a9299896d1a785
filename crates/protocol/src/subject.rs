//! dex's `sub`: base64url without padding of protobuf `{1: user ID, 2: connector ID}`.

use data_encoding::BASE64URL_NOPAD;

const USER_ID: u8 = 0x0a; // field 1, length-delimited
const CONNECTOR_ID: u8 = 0x12; // field 2, length-delimited

/// The `sub` of a user at a connector.
pub fn encode(user_id: &str, connector_id: &str) -> String {
    let mut bytes = Vec::with_capacity(user_id.len() + connector_id.len() + 8);
    for (tag, text) in [(USER_ID, user_id), (CONNECTOR_ID, connector_id)] {
        if !text.is_empty() {
            bytes.push(tag);
            put_length(&mut bytes, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    BASE64URL_NOPAD.encode(&bytes)
}

/// User ID and connector ID of a `sub` that [`encode`] made; `None` for anything else.
pub fn decode(sub: &str) -> Option<(String, String)> {
    let bytes = BASE64URL_NOPAD.decode(sub.as_bytes()).ok()?;
    let (user_id, rest) = field(&bytes, USER_ID)?;
    let (connector_id, rest) = field(rest, CONNECTOR_ID)?;
    rest.is_empty().then_some((user_id, connector_id))
}

fn field(bytes: &[u8], tag: u8) -> Option<(String, &[u8])> {
    let Some(rest) = bytes.strip_prefix(&[tag]) else {
        return Some((String::new(), bytes));
    };
    let (length, rest) = take_length(rest)?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

/// A protobuf varint.
fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn take_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0usize;
    for (index, &byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_those_of_dex() {
        assert_eq!(encode("2342749", "github"), "CgcyMzQyNzQ5EgZnaXRodWI");
        assert_eq!(encode("0-385-28089-0", "mock"), "Cg0wLTM4NS0yODA4OS0wEgRtb2Nr");
        let decoded = decode("CgcyMzQyNzQ5EgZnaXRodWI").unwrap();
        assert_eq!(decoded, ("2342749".into(), "github".into()));
        assert_eq!(decode("CgcyMzQy"), None);
    }

    proptest! {
        #[test]
        fn every_subject_comes_back(user in "\\PC{1,300}", connector in "[a-z0-9-]{1,60}") {
            prop_assert_eq!(decode(&encode(&user, &connector)), Some((user, connector)));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,60}") {
            let _ = decode(&text);
        }
    }
}

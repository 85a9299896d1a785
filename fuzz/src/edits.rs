//! Bytes as a list of edits to a genuine text: how a fuzzer that knows nothing of signatures gets close to one.

/// Most edits of one text: a text changed all over is random bytes, which other targets try.
const MAX_EDITS: usize = 8;
/// Bytes an edit takes: what to do, where (two), and with which byte.
const WIDTH: usize = 4;

/// The text with the edits that `script` spells: a byte replaced, inserted, removed, moved to the other case, or the
/// text cut or repeated there. The result is ASCII where the text is.
pub fn edited(text: &str, script: &[u8]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for edit in script.chunks_exact(WIDTH).take(MAX_EDITS) {
        if bytes.is_empty() {
            break;
        }
        let at = usize::from(u16::from_be_bytes([edit[1], edit[2]])) % bytes.len();
        let byte = edit[3] & 0x7f;
        match edit[0] % 8 {
            0 | 1 => bytes[at] = byte,
            2 => bytes.insert(at, byte),
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            5 => bytes.extend_from_within(at..),
            6 => bytes[at] ^= 0x20,
            _ => {
                let other = usize::from(byte) % bytes.len();
                bytes.swap(at, other);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_edit_is_the_text_itself_and_each_kind_changes_it() {
        assert_eq!(edited("abc", b""), "abc");
        assert_eq!(edited("abc", &[0, 0, 1, b'x']), "axc");
        assert_eq!(edited("abc", &[2, 0, 1, b'x']), "axbc");
        assert_eq!(edited("abc", &[3, 0, 1, 0]), "ac");
        assert_eq!(edited("abc", &[4, 0, 1, 0]), "a");
        assert_eq!(edited("abc", &[5, 0, 1, 0]), "abcbc");
        assert_eq!(edited("abc", &[6, 0, 1, 0]), "aBc");
        assert_eq!(edited("abc", &[7, 0, 1, 2]), "acb");
        assert_eq!(edited("", &[0, 0, 0, 0]), "");
    }
}

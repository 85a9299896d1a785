//! Bounds that hold before the parser sees a text: it is recursive, and a stack that overflows ends the process.

use super::{CompileError, MAX_LENGTH};

/// Most operators, dots and brackets in one expression: each may cost the parser a level of its stack.
const MAX_OPERATORS: usize = 160;
/// Deepest nesting of brackets.
pub(super) const MAX_NESTING: u16 = 16;

/// Whether a text is small and flat enough to be parsed.
///
/// # Errors
/// [`CompileError`].
pub(super) fn check(text: &str) -> Result<(), CompileError> {
    if text.len() > MAX_LENGTH {
        return Err(CompileError::TooLong);
    }
    let (mut operators, mut nesting, mut at) = (0_usize, 0_u16, 0_usize);
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = end_of_string(bytes, at)?;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                return Err(CompileError::Unsupported("a comment"));
            }
            b'@' | b'`' | b'\\' => {
                return Err(CompileError::Unsupported("a character outside CEL"));
            }
            b'(' | b'[' | b'{' => {
                nesting += 1;
                operators += 1;
            }
            b')' | b']' | b'}' => nesting = nesting.saturating_sub(1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'.' | b'?' | b'!' | b'<' | b'>' | b'=' | b'&'
            | b'|' => {
                operators += 1;
            }
            _ => {}
        }
        // `a in b in c` nests as well, with no sign but its blanks.
        if byte == b'i' && bytes.get(at + 1) == Some(&b'n') {
            operators += 1;
        }
        if operators > MAX_OPERATORS || nesting > MAX_NESTING {
            return Err(CompileError::TooComplex);
        }
        at += 1;
    }
    Ok(())
}

/// The place behind the string that begins with this quote. What is in a string is no operator, so it matters that
/// the parser sees it end at the same place: forms of strings that are not needed are refused.
fn end_of_string(bytes: &[u8], start: usize) -> Result<usize, CompileError> {
    let quote = bytes[start];
    if bytes[start..].starts_with(&[quote; 3]) {
        return Err(CompileError::Unsupported("a string in triple quotes"));
    }
    let before = |back: usize| start.checked_sub(back).map(|at| bytes[at]);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let raw = match before(1) {
        Some(b'r' | b'R') if before(2).is_none_or(|byte| !is_name(byte)) => true,
        Some(byte) if is_name(byte) => {
            return Err(CompileError::Unsupported("a string directly after a letter or digit"));
        }
        _ => false,
    };
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            None | Some(b'\n' | b'\r') => {
                return Err(CompileError::Syntax("a string does not end".into()));
            }
            Some(b'\\') if !raw => {
                // An escape the lexer does not know would end its string elsewhere.
                let known = |next: &u8| b"abfnrtv?\"'\\".contains(next);
                if !bytes.get(at + 1).is_some_and(known) {
                    return Err(CompileError::Unsupported("this escape in a string"));
                }
                at += 2;
            }
            Some(&byte) if byte == quote => return Ok(at + 1),
            Some(_) => at += 1,
        }
    }
}

//! Regular expressions: compiled when they are read, and as large as their cost says.

use regex::{Regex, RegexBuilder};

use super::CompileError;

/// Most memory one compiled regular expression takes, in bytes.
const MAX_PATTERN: usize = 64 * 1_024;
/// Smallest size that is told apart, in bytes.
const MIN_PATTERN: usize = 512;
/// Most regular expressions in one expression.
pub(super) const MAX_PATTERNS: usize = 8;

/// A pattern compiled, and a bound on its size in bytes. The engine may visit all of it at every byte of a text.
///
/// # Errors
/// [`CompileError::Pattern`].
pub(super) fn compile(pattern: &str) -> Result<(Regex, usize), CompileError> {
    let pattern = ascii_classes(pattern);
    let mut size = MIN_PATTERN;
    loop {
        let built =
            RegexBuilder::new(&pattern).size_limit(size).dfa_size_limit(MAX_PATTERN).build();
        match built {
            Ok(regex) => return Ok((regex, size)),
            Err(regex::Error::CompiledTooBig(_)) if size < MAX_PATTERN => {
                size = (size + size / 2).min(MAX_PATTERN);
            }
            Err(regex::Error::CompiledTooBig(_)) => {
                return Err(CompileError::Pattern("too large: simplify it".into()));
            }
            Err(error) => return Err(CompileError::Pattern(error.to_string())),
        }
    }
}

/// `\w`, `\d` and `\s` are ASCII, as in RE2: those of all Unicode are too large to be asked of every group.
fn ascii_classes(pattern: &str) -> String {
    let mut ascii = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            ascii.push(letter);
            continue;
        }
        match letters.next() {
            Some('w') => ascii.push_str("[[:word:]]"),
            Some('W') => ascii.push_str("[[:^word:]]"),
            Some('d') => ascii.push_str("[[:digit:]]"),
            Some('D') => ascii.push_str("[[:^digit:]]"),
            Some('s') => ascii.push_str("[[:space:]]"),
            Some('S') => ascii.push_str("[[:^space:]]"),
            Some(other) => ascii.extend(['\\', other]),
            None => ascii.push('\\'),
        }
    }
    ascii
}

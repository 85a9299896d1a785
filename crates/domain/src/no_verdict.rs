//! That an upstream said nothing about a user, whatever the reason: no verdict, and nobody's session ends of it.

use std::fmt;
use std::ops::Deref;

use crate::connector::LoginError;
use crate::login::StepError;
use crate::token::{DEFAULT_RETRY_AFTER, LONGEST_RETRY_AFTER, TokenError};

/// Seconds after which to ask an upstream again that is asked too much and does not say when.
const USUAL_PAUSE: u32 = 60;

/// Why an upstream gave no verdict, in words for logs that hold no secret; and whether it is there and wants to be asked less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoVerdict {
    why: String,
    busy: Option<u32>,
}

impl NoVerdict {
    /// The upstream answers, and that it is asked too much (a rate limit): again after so many seconds, if it says so. Mostly it
    /// is one user's limit, and others may go on asking.
    pub fn busy(why: impl Into<String>, retry_after: Option<u32>) -> Self {
        let seconds = retry_after.unwrap_or(USUAL_PAUSE).clamp(1, LONGEST_RETRY_AFTER);
        Self { why: why.into(), busy: Some(seconds) }
    }

    /// Seconds after which to ask again, 1 to [`LONGEST_RETRY_AFTER`], where the upstream is asked too much.
    pub fn retry_after(&self) -> Option<u32> {
        self.busy
    }
}

impl From<String> for NoVerdict {
    fn from(why: String) -> Self {
        Self { why, busy: None }
    }
}

impl From<&str> for NoVerdict {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl fmt::Display for NoVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// It is its words.
impl Deref for NoVerdict {
    type Target = str;

    fn deref(&self) -> &str {
        &self.why
    }
}

/// What a client is told.
impl From<NoVerdict> for TokenError {
    fn from(why: NoVerdict) -> Self {
        let retry_after = why.retry_after().unwrap_or(DEFAULT_RETRY_AFTER);
        Self::Unavailable { reason: format!("upstream unavailable: {why}"), retry_after }
    }
}

/// What a user is told, who need not know more.
impl From<&NoVerdict> for StepError {
    fn from(why: &NoVerdict) -> Self {
        let reason = "the directory behind this sign-in cannot be used".to_owned();
        match why.retry_after() {
            Some(retry_after) => Self::Busy { reason, retry_after },
            None => Self::Unavailable(reason),
        }
    }
}

/// The same, of a sign-in that could not be checked.
impl From<&LoginError> for StepError {
    fn from(error: &LoginError) -> Self {
        match error {
            LoginError::Unavailable(why) => why.into(),
            other => (&NoVerdict::from(other.to_string())).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_too_much_is_asked_again_within_two_minutes() {
        let after = |said| NoVerdict::busy("too much", said).retry_after();
        assert_eq!(after(None), Some(60));
        assert_eq!(after(Some(7)), Some(7));
        assert_eq!((after(Some(0)), after(Some(3_600))), (Some(1), Some(120)));
        assert_eq!(NoVerdict::from("away").retry_after(), None);
    }
}

//! Scopes (RFC 6749 3.3), with dex's `audience:server:client_id:<peer>`.

use std::fmt;

use thiserror::Error;

/// Most scopes of one request.
const MAX_SCOPES: usize = 32;
/// Longest `scope` parameter, in bytes; it must fit a cookie.
const MAX_LENGTH: usize = 512;
const AUDIENCE_PREFIX: &str = "audience:server:client_id:";

/// One scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope(String);

/// Scopes in the order asked for, without repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

/// Why a text is not a list of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScopeError {
    /// A character outside RFC 6749 3.3.
    #[error("scope has a character that RFC 6749 3.3 does not allow")]
    Character,
    /// Too many, or too long.
    #[error("scope must have at most 32 values and 512 bytes")]
    TooLong,
    /// An audience scope that names nobody.
    #[error("audience:server:client_id: must name a client")]
    Audience,
}

impl Scope {
    /// The scope's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The client that an `audience:server:client_id:` scope names.
    pub fn audience(&self) -> Option<&str> {
        self.0.strip_prefix(AUDIENCE_PREFIX)
    }
}

impl ScopeSet {
    /// Reads a `scope` parameter: scopes separated by spaces.
    ///
    /// # Errors
    /// [`ScopeError`]; on the wire all are `invalid_scope`.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > MAX_LENGTH {
            return Err(ScopeError::TooLong);
        }
        let mut scopes: Vec<Scope> = Vec::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if !word.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
                return Err(ScopeError::Character);
            }
            let scope = Scope(word.to_owned());
            if scope.audience() == Some("") {
                return Err(ScopeError::Audience);
            }
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        if scopes.len() > MAX_SCOPES { Err(ScopeError::TooLong) } else { Ok(Self(scopes)) }
    }

    /// Whether a scope is among them.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.iter().any(|known| known.as_str() == scope)
    }

    /// The scopes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// The clients that `audience:server:client_id:` scopes name.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(Scope::audience)
    }

    /// Whether every one of these is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().all(|scope| other.0.contains(scope))
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Scope) -> bool) {
        self.0.retain(keep);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scopes_keep_their_order_and_lose_repetitions() {
        let scopes = ScopeSet::parse("openid  email openid audience:server:client_id:web").unwrap();
        assert_eq!(scopes.to_string(), "openid email audience:server:client_id:web");
        assert_eq!(scopes.audiences().collect::<Vec<_>>(), ["web"]);
        assert!(ScopeSet::parse("email").unwrap().is_subset(&scopes));
        assert!(!ScopeSet::parse("groups").unwrap().is_subset(&scopes));
    }

    #[test]
    fn what_rfc_6749_does_not_allow_is_refused() {
        assert_eq!(ScopeSet::parse("open\"id"), Err(ScopeError::Character));
        assert_eq!(ScopeSet::parse("openid\temail"), Err(ScopeError::Character));
        assert_eq!(ScopeSet::parse("ä"), Err(ScopeError::Character));
        assert_eq!(ScopeSet::parse("audience:server:client_id:"), Err(ScopeError::Audience));
        assert_eq!(ScopeSet::parse(&"a".repeat(513)), Err(ScopeError::TooLong));
        let many: Vec<String> = (0..33).map(|n| format!("s{n}")).collect();
        assert_eq!(ScopeSet::parse(&many.join(" ")), Err(ScopeError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_again_the_same(text in ".{0,80}") {
            if let Ok(scopes) = ScopeSet::parse(&text) {
                prop_assert_eq!(ScopeSet::parse(&scopes.to_string()).unwrap(), scopes);
            }
        }
    }
}

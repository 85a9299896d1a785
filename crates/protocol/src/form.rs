//! Parameters of a query or a form body: no name twice but where a specification says so, nothing but
//! UTF-8, empty means absent (RFC 6749 3.1 and 3.2).

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::percent_decode;

use crate::error::ErrorResponse;

/// Most parameters of one request.
const MAX_PARAMS: usize = 64;
/// What may be sent more than once (RFC 8707 2, RFC 8693 2.1).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// The parameters of one request. Prints their names alone: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, Vec<String>>);

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Params {
    /// Reads `application/x-www-form-urlencoded` bytes, of a query string or a body.
    ///
    /// # Errors
    /// `invalid_request` for a repeated name (`resource` and `audience` aside), bytes that are not UTF-8, or more than 64 parameters.
    pub fn parse(bytes: &[u8]) -> Result<Self, ErrorResponse> {
        let mut params: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (count, pair) in bytes.split(|&b| b == b'&').filter(|p| !p.is_empty()).enumerate() {
            if count >= MAX_PARAMS {
                return Err(ErrorResponse::invalid_request("more than 64 parameters"));
            }
            let at = pair.iter().position(|&b| b == b'=').unwrap_or(pair.len());
            let name = decode(&pair[..at])?;
            let value = decode(pair.get(at + 1..).unwrap_or_default())?;
            let values = params.entry(name.clone()).or_default();
            if !values.is_empty() && !REPEATABLE.contains(&name.as_str()) {
                return Err(ErrorResponse::invalid_request(&format!("{name} is repeated")));
            }
            values.push(value);
        }
        for values in params.values_mut() {
            values.retain(|value| !value.is_empty());
        }
        params.retain(|_, values| !values.is_empty());
        Ok(Self(params))
    }

    /// The value of a parameter, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a parameter that may be repeated, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The same parameters with one set.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), vec![value.to_owned()]);
        self
    }

    /// Every name with one of its values, in the order of names.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(name, values)| {
            values.iter().map(move |value| (name.as_str(), value.as_str()))
        })
    }

    /// The same parameters without these.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|name, _| !names.contains(&name.as_str()));
        self
    }

    /// The same, owned, and refused when longer than `max` bytes.
    pub(crate) fn bounded(&self, name: &str, max: usize) -> Result<Option<String>, ErrorResponse> {
        match self.get(name) {
            Some(value) if value.len() > max => {
                Err(ErrorResponse::invalid_request(&format!("{name} is longer than {max} bytes")))
            }
            value => Ok(value.map(str::to_owned)),
        }
    }

    /// The same, refused when absent too.
    pub(crate) fn required(&self, name: &str, max: usize) -> Result<String, ErrorResponse> {
        self.bounded(name, max)?
            .ok_or_else(|| ErrorResponse::invalid_request(&format!("{name} is missing")))
    }
}

impl FromIterator<(String, String)> for Params {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut params: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            params.entry(name).or_default().push(value);
        }
        Self(params)
    }
}

/// One name or value: `+` is a space, `%XX` a byte.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, ErrorResponse> {
    let spaced: Vec<u8> = bytes.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect();
    percent_decode(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ErrorResponse::invalid_request("parameters must be UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repeated_names_and_foreign_bytes_are_refused_and_empty_is_absent() {
        let params = Params::parse(b"a=1&b=x+y%26z&c=&d").unwrap();
        assert_eq!(params.get("b"), Some("x y&z"));
        assert_eq!((params.get("c"), params.get("d")), (None, None));
        assert!(Params::parse(b"a=1&a=1").is_err());
        assert!(Params::parse(b"a=&a=1").is_err());
        let several = Params::parse(b"resource=a&resource=&resource=b").unwrap();
        assert_eq!(several.all("resource").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(several.all("b").count(), 0);
        assert!(Params::parse(b"a=%ff").is_err());
        assert!(Params::parse("a=1&".repeat(2).as_bytes()).is_err());
        let many: Vec<String> = (0..65).map(|n| format!("p{n}=1")).collect();
        assert!(Params::parse(many.join("&").as_bytes()).is_err());
        let secret = Params::parse(b"client_secret=hunter2").unwrap();
        assert_eq!(format!("{secret:?}"), r#"{"client_secret"}"#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_and_encoded_pairs_come_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            name in "[a-z]{1,8}", value in "\\PC{1,40}",
        ) {
            let _ = Params::parse(&bytes);
            let encoded = url::form_urlencoded::Serializer::new(String::new())
                .append_pair(&name, &value)
                .finish();
            let params = Params::parse(encoded.as_bytes()).unwrap();
            prop_assert_eq!(params.get(&name), Some(value.as_str()));
        }
    }
}

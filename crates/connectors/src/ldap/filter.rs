//! Search filters (RFC 4515) as values: parsed from the administrator, composed by us.
//!
//! A value gets into a filter in one way only, [`Filter::equals`], which escapes it there and then.
//! A [`Filter`] is always well formed, so composing two cannot change what either means.

use std::fmt;
use std::fmt::Write as _;

use thiserror::Error;

/// Longest filter an administrator may write, in bytes.
const MAX_FILTER_BYTES: usize = 4096;
/// Deepest nesting of parentheses; the parser recurses.
const MAX_FILTER_DEPTH: usize = 32;
/// Longest attribute name, in bytes.
const MAX_ATTRIBUTE_BYTES: usize = 256;

/// Why a filter or attribute name of the administrator is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// Not RFC 4515.
    #[error("{0:?} is not an LDAP filter (RFC 4515), such as (objectClass=person)")]
    Malformed(String),
    /// Longer or deeper than anybody needs.
    #[error(
        "the LDAP filter is longer than {MAX_FILTER_BYTES} bytes or nested deeper than {MAX_FILTER_DEPTH} levels"
    )]
    TooLarge,
    /// Not an attribute name.
    #[error("{0:?} is not an LDAP attribute name")]
    Attribute(String),
}

/// An attribute name, possibly with options or, for matching only, a matching rule
/// (`member:1.2.840.113556.1.4.1941:`). Compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute(String);

impl Attribute {
    /// An attribute that may be read or matched.
    ///
    /// # Errors
    /// [`FilterError::Attribute`].
    pub fn parse(name: &str) -> Result<Self, FilterError> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ';' | '_');
        if name.chars().all(known) { Self::checked(name) } else { Err(Self::refused(name)) }
    }

    /// An attribute that is only matched, so a matching rule may follow it.
    ///
    /// # Errors
    /// [`FilterError::Attribute`].
    pub fn parse_matched(name: &str) -> Result<Self, FilterError> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ';' | '_' | ':');
        if name.chars().all(known) { Self::checked(name) } else { Err(Self::refused(name)) }
    }

    fn checked(name: &str) -> Result<Self, FilterError> {
        let fits = !name.is_empty() && name.len() <= MAX_ATTRIBUTE_BYTES;
        if fits && ldap3::parse_filter(format!("({name}=x)")).is_ok() {
            Ok(Self(name.to_owned()))
        } else {
            Err(Self::refused(name))
        }
    }

    fn refused(name: &str) -> FilterError {
        FilterError::Attribute(name.chars().take(MAX_ATTRIBUTE_BYTES).collect())
    }

    /// As the administrator wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the pseudo attribute `DN`: the entry's own name.
    pub fn is_dn(&self) -> bool {
        self.0.eq_ignore_ascii_case("dn")
    }

    /// Whether this is that attribute, whatever the case.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A well-formed filter, in parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// Takes a filter an administrator wrote; the outer parentheses may be missing.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let text = text.trim();
        if text.len() > MAX_FILTER_BYTES || depth(text) > MAX_FILTER_DEPTH {
            return Err(FilterError::TooLarge);
        }
        let whole = if text.starts_with('(') { text.to_owned() } else { format!("({text})") };
        match ldap3::parse_filter(&whole) {
            Ok(_) => Ok(Self(whole)),
            Err(()) => Err(FilterError::Malformed(text.to_owned())),
        }
    }

    /// Matches every entry.
    pub fn anything() -> Self {
        Self("(objectClass=*)".to_owned())
    }

    /// The attribute has exactly this value, whatever bytes it consists of.
    pub fn equals(attribute: &Attribute, value: &[u8]) -> Self {
        Self(format!("({attribute}={})", escape(value)))
    }

    /// The attribute has a value, whatever it is; any matching rule is left out, since with one, `*` would
    /// be a value. A rule for no attribute in particular is no condition.
    pub fn present(attribute: &Attribute) -> Self {
        match attribute.as_str().split(':').next() {
            Some(name) if !name.is_empty() => Self(format!("({name}=*)")),
            _ => Self::anything(),
        }
    }

    /// All of them match. Of none, the filter that matches everything.
    pub fn all(filters: &[Filter]) -> Self {
        match filters {
            [] => Self::anything(),
            [one] => one.clone(),
            many => join('&', many),
        }
    }

    /// At least one matches. `first` makes sure there is one.
    pub fn any(first: Filter, others: &[Filter]) -> Self {
        if others.is_empty() {
            return first;
        }
        let mut filters = vec![first];
        filters.extend_from_slice(others);
        join('|', &filters)
    }

    /// As it goes to the LDAP library.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn join(operator: char, filters: &[Filter]) -> Filter {
    let parts: String = filters.iter().map(Filter::as_str).collect();
    Filter(format!("({operator}{parts})"))
}

fn depth(text: &str) -> usize {
    let mut open = 0_usize;
    let mut deepest = 0;
    for byte in text.bytes() {
        match byte {
            b'(' => open += 1,
            b')' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// RFC 4515 section 3: any octet may be written as `\xx`. Everything but the plainest is.
fn escape(value: &[u8]) -> String {
    let mut escaped = String::with_capacity(value.len());
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b" @.,=_-+:/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\{byte:02x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use ldap3::asn1::{ASNTag, PL};
    use proptest::prelude::*;

    use super::*;

    fn attribute(name: &str) -> Attribute {
        Attribute::parse(name).unwrap()
    }

    /// The assertion value that goes over the wire for an equality filter.
    fn wire_value(filter: &Filter) -> Vec<u8> {
        let tag = ldap3::parse_filter(filter.as_str()).unwrap().into_structure();
        assert_eq!(tag.id, 3, "equalityMatch, RFC 4511 section 4.5.1");
        let PL::C(parts) = tag.payload else { panic!("not constructed") };
        let PL::P(value) = parts[1].payload.clone() else { panic!("not primitive") };
        value
    }

    #[test]
    fn presence_needs_no_matching_rule() {
        let present =
            |name: &str| Filter::present(&Attribute::parse_matched(name).unwrap()).to_string();
        assert_eq!(present("uid"), "(uid=*)");
        assert_eq!(present("uid:caseExactMatch:"), "(uid=*)");
        assert_eq!(present("cn:dn:2.5.13.5:"), "(cn=*)");
        assert_eq!(present(":caseExactMatch:"), "(objectClass=*)");
    }

    #[test]
    fn special_characters_reach_the_server_unchanged() {
        for name in ["a(b)c", "back\\slash", "*", "nul\0", "Jürgen", "x)(uid=*", "\\2a"] {
            let filter = Filter::equals(&attribute("uid"), name.as_bytes());
            assert_eq!(wire_value(&filter), name.as_bytes(), "{filter}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_reach_the_server_unchanged(value in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(wire_value(&Filter::equals(&attribute("uid"), &value)), value);
        }

        #[test]
        fn no_text_of_the_administrator_panics(text in ".{0,200}") {
            let _ = Filter::parse(&text);
            let _ = Attribute::parse(&text);
            let _ = Attribute::parse_matched(&text);
        }
    }

    #[test]
    fn filters_of_the_administrator_are_taken_with_or_without_parentheses() {
        assert_eq!(Filter::parse("objectClass=person").unwrap().as_str(), "(objectClass=person)");
        assert_eq!(Filter::parse(" (a=b) ").unwrap().as_str(), "(a=b)");
        let nested = "(&(objectClass=user)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))";
        assert_eq!(Filter::parse(nested).unwrap().as_str(), nested);
    }

    #[test]
    fn filters_that_would_break_out_of_a_composition_are_refused() {
        for text in ["(a=b))(c=d", "(a=b)(c=d)", "(a=b", "a=b)", "", "()", "(a=b)x", "a"] {
            assert!(Filter::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn monstrous_filters_are_refused_before_they_are_parsed() {
        let deep = format!("{}(a=b){}", "(!".repeat(400), ")".repeat(400));
        assert_eq!(Filter::parse(&deep), Err(FilterError::TooLarge));
        assert_eq!(Filter::parse(&"a".repeat(5000)), Err(FilterError::TooLarge));
    }

    #[test]
    fn composition_keeps_the_parts() {
        let person = Filter::parse("(objectClass=person)").unwrap();
        let by = |name| Filter::equals(&attribute(name), b"ada");
        let either = Filter::any(by("uid"), &[by("mail")]);
        let both = Filter::all(&[person.clone(), either]);
        assert_eq!(both.as_str(), "(&(objectClass=person)(|(uid=ada)(mail=ada)))");
        assert_eq!(Filter::all(&[]), Filter::anything());
        assert_eq!(Filter::all(std::slice::from_ref(&person)), person);
    }

    #[test]
    fn attribute_names_are_checked() {
        for good in ["uid", "sAMAccountName", "2.5.4.3", "cn;lang-de", "userCertificate;binary"] {
            assert!(Attribute::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a=b", "a)(b", "a b", "*", "member:1.2.840.113556.1.4.1941:", "ü"] {
            assert!(Attribute::parse(bad).is_err(), "{bad}");
        }
        let in_chain = Attribute::parse_matched("member:1.2.840.113556.1.4.1941:").unwrap();
        assert_eq!(
            Filter::equals(&in_chain, b"cn=a,dc=b").as_str(),
            "(member:1.2.840.113556.1.4.1941:=cn=a,dc=b)"
        );
        assert!(attribute("DN").is_dn() && attribute("dn").is_dn());
    }
}

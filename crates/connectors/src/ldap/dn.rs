//! Distinguished names (RFC 4514), read as far as we must: to take a group's name from the DN in
//! `memberOf`, and to see whether an entry still lies below the search base.
//!
//! Two DNs compare equal here when their types and values do, without case and with runs of spaces
//! folded. A false "different" costs one search more, never an identity.

/// One `type=value` of a relative distinguished name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Assertion {
    /// Attribute type, lower case.
    kind: String,
    value: String,
}

/// A parsed distinguished name, the leaf first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dn(Vec<Vec<Assertion>>);

impl Dn {
    /// Reads a DN; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self(Vec::new()));
        }
        let mut reader = Reader { rest: text };
        let mut rdns = Vec::new();
        loop {
            let (rdn, more) = reader.rdn()?;
            rdns.push(rdn);
            if !more {
                return Some(Self(rdns));
            }
        }
    }

    /// The value of an attribute in the leaf's name, as written there.
    pub fn leaf(&self, attribute: &str) -> Option<&str> {
        let leaf = self.0.first()?;
        let found = leaf.iter().find(|part| part.kind.eq_ignore_ascii_case(attribute))?;
        Some(&found.value)
    }

    /// The first value in the leaf's name, whatever its attribute.
    pub fn first_value(&self) -> Option<&str> {
        let value = self.0.first()?.first()?.value.trim();
        (!value.is_empty()).then_some(value)
    }

    /// How many levels this lies below `base`; `None` when it does not, 0 when it is the base.
    pub fn levels_below(&self, base: &Dn) -> Option<usize> {
        let levels = self.0.len().checked_sub(base.0.len())?;
        let same = self.0[levels..].iter().zip(&base.0).all(|(a, b)| folded(a) == folded(b));
        same.then_some(levels)
    }

    /// The DNS name that its `dc` parts make, such as `ad.example.com`; empty where there is none.
    pub fn domain(&self) -> String {
        let parts = self.0.iter().flatten().filter(|part| part.kind == "dc");
        parts.map(|part| part.value.as_str()).collect::<Vec<_>>().join(".")
    }

    /// One text for all spellings of the same DN.
    pub fn key(&self) -> String {
        let rdn = |parts: &Vec<Assertion>| {
            let parts: Vec<String> =
                folded(parts).iter().map(|p| format!("{:?}={:?}", p.kind, p.value)).collect();
            parts.join("+")
        };
        self.0.iter().map(rdn).collect::<Vec<_>>().join(",")
    }
}

fn folded(rdn: &[Assertion]) -> Vec<Assertion> {
    let fold = |part: &Assertion| Assertion {
        kind: part.kind.clone(),
        value: part.value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase(),
    };
    let mut parts: Vec<_> = rdn.iter().map(fold).collect();
    parts.sort();
    parts
}

struct Reader<'a> {
    rest: &'a str,
}

/// What ended a value.
enum End {
    SameRdn,
    NextRdn,
    Dn,
}

impl Reader<'_> {
    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// One RDN, and whether another follows.
    fn rdn(&mut self) -> Option<(Vec<Assertion>, bool)> {
        let mut parts = Vec::new();
        loop {
            let (kind, rest) = self.rest.split_once('=')?;
            let kind = kind.trim().to_ascii_lowercase();
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            if kind.is_empty() || !kind.chars().all(legal) {
                return None;
            }
            self.rest = rest.trim_start_matches(' ');
            let (value, end) = self.value()?;
            parts.push(Assertion { kind, value });
            match end {
                End::SameRdn => {}
                End::NextRdn => return Some((parts, true)),
                End::Dn => return Some((parts, false)),
            }
        }
    }

    fn value(&mut self) -> Option<(String, End)> {
        let mut bytes = Vec::new();
        // Spaces before the end are padding unless they were escaped or quoted.
        let mut keep = 0;
        let mut quoted = false;
        let end = loop {
            match self.take() {
                None if quoted => return None,
                None => break End::Dn,
                Some('"') => {
                    quoted = !quoted;
                    keep = bytes.len();
                }
                Some('\\') => {
                    self.escaped(&mut bytes)?;
                    keep = bytes.len();
                }
                Some(',' | ';') if !quoted => break End::NextRdn,
                Some('+') if !quoted => break End::SameRdn,
                Some(c) => {
                    bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
                    if c != ' ' || quoted {
                        keep = bytes.len();
                    }
                }
            }
        };
        bytes.truncate(keep);
        Some((String::from_utf8(bytes).ok()?, end))
    }

    /// RFC 4514 section 2.4: a backslash before two hexadecimal digits, or before the character.
    fn escaped(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let first = self.take()?;
        if let Some(high) = first.to_digit(16) {
            let low = self.take()?.to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.extend(first.encode_utf8(&mut [0; 4]).bytes());
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dn(text: &str) -> Dn {
        Dn::parse(text).unwrap_or_else(|| panic!("{text:?} is a DN"))
    }

    #[test]
    fn leaf_value_is_read_with_its_escapes() {
        for (text, value) in [
            ("cn=admins,ou=groups,dc=example", "admins"),
            ("CN=Domain Admins,DC=example", "Domain Admins"),
            ("cn=Smith\\, John,dc=example", "Smith, John"),
            ("cn=Smith\\2C John,dc=example", "Smith, John"),
            ("cn=\"Smith, John\",dc=example", "Smith, John"),
            ("cn=J\\C3\\BCrgen,dc=example", "Jürgen"),
            ("cn=  padded  ,dc=example", "padded"),
            ("cn=kept\\20,dc=example", "kept "),
            ("cn=back\\\\slash", "back\\slash"),
            ("ou=x+cn=a\\+b,dc=example", "a+b"),
        ] {
            assert_eq!(dn(text).leaf("cn"), Some(value), "{text}");
        }
        assert_eq!(dn("ou=groups,cn=upper,dc=example").leaf("cn"), None);
    }

    #[test]
    fn what_is_no_dn_is_not_read() {
        for text in
            ["cn", "=a", "cn=a,", "cn=a,b", "c n=a", "cn=a\\", "cn=\\f", "cn=\"open", "cn=\\ff"]
        {
            assert_eq!(Dn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn levels_below_a_base_are_counted_without_case_and_spaces() {
        let base = dn("ou=People,dc=example,dc=org");
        for (text, levels) in [
            ("uid=ada,ou=people, dc=Example , dc=ORG", Some(1)),
            ("uid=ada,ou=x,OU=People,dc=example,dc=org", Some(2)),
            ("ou=people,dc=example,dc=org", Some(0)),
            ("uid=ada,ou=machines,dc=example,dc=org", None),
            ("dc=org", None),
        ] {
            assert_eq!(dn(text).levels_below(&base), levels, "{text}");
        }
        assert_eq!(dn("dc=org").levels_below(&dn("")), Some(1));
    }

    #[test]
    fn an_escaped_comma_does_not_make_a_level() {
        let base = dn("dc=example");
        assert_eq!(dn("cn=x\\,dc=example").levels_below(&base), None);
    }

    #[test]
    fn key_is_one_for_all_spellings_and_differs_otherwise() {
        assert_eq!(dn("CN=A  b,dc=X").key(), dn("cn=a B, DC=x").key());
        assert_eq!(dn("cn=a+sn=b").key(), dn("sn=b+cn=a").key());
        assert_ne!(dn("cn=a\\,dc=x").key(), dn("cn=a,dc=x").key());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,120}") {
            if let Some(dn) = Dn::parse(&text) {
                prop_assert_eq!(dn.levels_below(&dn), Some(0));
            }
        }
    }
}

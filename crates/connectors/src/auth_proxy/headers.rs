//! From header fields to a user: exact names, single values, nothing guessed.
//!
//! What always holds: of every configured header a request carries at most one field, in no other
//! spelling that some server on the way could take for it (`X_Remote_User`, `X.Remote.User`); an empty or
//! unprintable value is refused, not skipped; errors name headers and never hold values.

use std::collections::BTreeMap;

use claviger_api::connector::auth_proxy::AuthProxyHeaders;
use claviger_domain::identity::Identity;
use claviger_domain::proxy::ProxyError;
use icu_properties::props::DefaultIgnorableCodePoint;
use icu_properties::{CodePointSetData, CodePointSetDataBorrowed};

use super::AuthProxyError;

/// Longest value that is one name or address, in bytes: what other connectors take too.
const MAX_VALUE: usize = 512;
/// Longest list of groups, in bytes: half of what the head of a request may be.
const MAX_GROUPS_VALUE: usize = 8 * 1024;
/// Most groups in a list.
const MAX_GROUPS: usize = 1_024;

/// One field of a request: its name and its value.
type Field<'a> = (&'a str, &'a [u8]);

/// Which headers say what.
#[derive(Debug)]
pub(super) struct Headers {
    names: AuthProxyHeaders,
}

impl Headers {
    /// Takes the names, each once.
    pub(super) fn new(names: &AuthProxyHeaders) -> Result<Self, AuthProxyError> {
        let optional = [
            &names.user_id,
            &names.email,
            &names.email_verified,
            &names.preferred_username,
            &names.name,
            &names.groups,
        ];
        let all: Vec<&String> = optional.into_iter().flatten().chain([&names.user]).collect();
        for (index, name) in all.iter().enumerate() {
            if all[..index].iter().any(|other| is_alike(other, name)) {
                return Err(AuthProxyError::SharedHeader((*name).clone()));
            }
        }
        Ok(Self { names: names.clone() })
    }

    /// The user these fields name, before any policy.
    pub(super) fn identity(&self, fields: &[Field<'_>]) -> Result<Identity, ProxyError> {
        let names = &self.names;
        let user = required(&names.user, fields)?;
        let user_id = names.user_id.as_ref().map(|name| required(name, fields)).transpose()?;
        let preferred = optional(names.preferred_username.as_ref(), fields)?;
        let email = optional(names.email.as_ref(), fields)?;
        Ok(Identity {
            user_id: user_id.unwrap_or(user).to_owned(),
            email_verified: email.is_some() && self.email_verified(fields)?,
            email: email.map(str::to_owned),
            name: optional(names.name.as_ref(), fields)?.map(str::to_owned),
            preferred_username: Some(preferred.unwrap_or(user).to_owned()),
            groups: self.groups(fields)?,
            extra: BTreeMap::new(),
        })
    }

    fn email_verified(&self, fields: &[Field<'_>]) -> Result<bool, ProxyError> {
        let Some(name) = &self.names.email_verified else { return Ok(true) };
        match required(name, fields)? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(invalid(name, "must be true or false")),
        }
    }

    fn groups(&self, fields: &[Field<'_>]) -> Result<Vec<String>, ProxyError> {
        let Some(name) = &self.names.groups else { return Ok(Vec::new()) };
        let Some(list) = single(name, fields)? else { return Ok(Vec::new()) };
        let list = text(name, list, MAX_GROUPS_VALUE)?;
        let mut groups: Vec<String> = Vec::new();
        for group in list.split(&self.names.groups_separator).map(str::trim) {
            if group.is_empty() || groups.iter().any(|known| known == group) {
                continue;
            }
            if group.len() > MAX_VALUE {
                return Err(invalid(name, "holds a group of more than 512 bytes"));
            }
            if groups.len() == MAX_GROUPS {
                return Err(invalid(name, "holds more than 1024 groups"));
            }
            groups.push(group.to_owned());
        }
        Ok(groups)
    }
}

fn required<'a>(name: &str, fields: &[Field<'a>]) -> Result<&'a str, ProxyError> {
    let value = single(name, fields)?.ok_or_else(|| ProxyError::HeaderMissing(name.to_owned()))?;
    text(name, value, MAX_VALUE)
}

fn optional<'a>(
    name: Option<&String>,
    fields: &[Field<'a>],
) -> Result<Option<&'a str>, ProxyError> {
    let Some(name) = name else { return Ok(None) };
    single(name, fields)?.map(|value| text(name, value, MAX_VALUE)).transpose()
}

/// The one field of this name, if there is one and nothing like it beside.
fn single<'a>(name: &str, fields: &[Field<'a>]) -> Result<Option<&'a [u8]>, ProxyError> {
    let mut alike = fields.iter().filter(|(other, _)| is_alike(name, other));
    match (alike.next(), alike.next()) {
        (None, _) => Ok(None),
        // HTTP does not tell letters by case (RFC 9110 5.1).
        (Some((spelt, value)), None) if spelt.eq_ignore_ascii_case(name) => Ok(Some(value)),
        _ => Err(ProxyError::HeaderAmbiguous(name.to_owned())),
    }
}

/// Whether some server could take one name for the other: CGI and its heirs turn whatever is no letter
/// or digit into an underscore (RFC 3875 4.1.18).
fn is_alike(one: &str, other: &str) -> bool {
    let fold =
        |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' };
    one.len() == other.len() && one.bytes().map(fold).eq(other.bytes().map(fold))
}

/// A value as text that a person could read out.
fn text<'a>(name: &str, value: &'a [u8], longest: usize) -> Result<&'a str, ProxyError> {
    if value.len() > longest {
        return Err(invalid(name, "is too long"));
    }
    let text = std::str::from_utf8(value).map_err(|_| invalid(name, "is not UTF-8 text"))?;
    if text.trim().is_empty() {
        return Err(invalid(name, "is empty: leave it out, or set it to something"));
    }
    if text.trim() != text {
        return Err(invalid(name, "begins or ends with white space"));
    }
    if text.chars().any(is_invisible) {
        return Err(invalid(name, "holds characters that cannot be seen"));
    }
    Ok(text)
}

/// Controls, and the marks that make two different names look the same.
fn is_invisible(character: char) -> bool {
    const IGNORABLE: CodePointSetDataBorrowed<'static> =
        CodePointSetData::new::<DefaultIgnorableCodePoint>();
    character.is_control()
        || IGNORABLE.contains(character)
        // Line and paragraph separators, interlinear annotation, a blank that is no space.
        || matches!(character, '\u{2028}'..='\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{2800}')
}

fn invalid(header: &str, cause: &'static str) -> ProxyError {
    ProxyError::HeaderInvalid { header: header.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn everything() -> Headers {
        let header = |name: &str| Some(name.to_owned());
        let names = AuthProxyHeaders {
            user: "X-Remote-User".into(),
            user_id: header("X-Remote-User-Id"),
            email: header("X-Remote-User-Email"),
            email_verified: header("X-Remote-Verified"),
            preferred_username: header("X-Remote-Login"),
            name: header("X-Remote-User-Name"),
            groups: header("X-Remote-Group"),
            groups_separator: ",".into(),
        };
        Headers::new(&names).unwrap()
    }

    fn defaults() -> Headers {
        Headers::new(&AuthProxyHeaders::default()).unwrap()
    }

    const ALICE: [(&str, &[u8]); 7] = [
        ("x-remote-user", b"alice"),
        ("x-remote-user-id", b"42"),
        ("x-remote-user-email", b"alice@example.com"),
        ("x-remote-verified", b"false"),
        ("x-remote-login", b"al"),
        ("x-remote-user-name", "Alice Liddéll".as_bytes()),
        ("x-remote-group", b"staff , admins,,staff"),
    ];

    fn reason(headers: &Headers, fields: &[Field<'_>]) -> &'static str {
        headers.identity(fields).unwrap_err().reason()
    }

    #[test]
    fn every_header_lands_in_its_claim() {
        let identity = everything().identity(&ALICE).unwrap();
        assert_eq!(identity.user_id, "42");
        assert_eq!(identity.email.as_deref(), Some("alice@example.com"));
        assert!(!identity.email_verified);
        assert_eq!(identity.preferred_username.as_deref(), Some("al"));
        assert_eq!(identity.name.as_deref(), Some("Alice Liddéll"));
        assert_eq!(identity.groups, ["staff", "admins"]);
    }

    #[test]
    fn only_the_user_is_read_unless_more_is_named() {
        let identity = defaults().identity(&ALICE).unwrap();
        assert_eq!(identity.user_id, "alice");
        assert_eq!(identity.preferred_username.as_deref(), Some("alice"));
        assert_eq!((identity.email, identity.name, identity.groups.len()), (None, None, 0));
        assert!(!identity.email_verified, "there is no address to verify");
    }

    #[test]
    fn an_address_counts_as_verified_unless_a_header_is_to_say_so() {
        let names = AuthProxyHeaders { email: Some("E".into()), ..AuthProxyHeaders::default() };
        let fields: [Field<'_>; 2] = [("x-remote-user", b"alice"), ("e", b"alice@example.com")];
        assert!(Headers::new(&names).unwrap().identity(&fields).unwrap().email_verified);
        let names = AuthProxyHeaders { email_verified: Some("V".into()), ..names };
        let headers = Headers::new(&names).unwrap();
        assert_eq!(reason(&headers, &fields), "HeaderMissing");
        for (said, wanted) in [("true", Ok(true)), ("false", Ok(false)), ("TRUE", Err(()))] {
            let fields = [&fields[..], &[("v", said.as_bytes())]].concat();
            let identity = headers.identity(&fields);
            assert_eq!(identity.map(|i| i.email_verified).map_err(drop), wanted, "{said}");
        }
    }

    #[test]
    fn a_named_header_that_identifies_must_be_there() {
        for missing in ["x-remote-user", "x-remote-user-id", "x-remote-verified"] {
            let fields: Vec<_> = ALICE.into_iter().filter(|(name, _)| *name != missing).collect();
            assert_eq!(reason(&everything(), &fields), "HeaderMissing", "{missing}");
        }
        for free in ["x-remote-user-email", "x-remote-user-name", "x-remote-group"] {
            let fields: Vec<_> = ALICE.into_iter().filter(|(name, _)| *name != free).collect();
            assert!(everything().identity(&fields).is_ok(), "{free}");
        }
    }

    #[test]
    fn a_second_field_of_any_named_header_is_refused_in_every_spelling() {
        for (name, value) in ALICE {
            for twin in [name.to_owned(), name.to_uppercase(), name.replace('-', "_")] {
                for fields in [
                    [&ALICE[..], &[(twin.as_str(), value)]].concat(),
                    [&[(twin.as_str(), b"other".as_slice())], &ALICE[..]].concat(),
                ] {
                    assert_eq!(reason(&everything(), &fields), "HeaderAmbiguous", "{twin}");
                }
            }
        }
    }

    #[test]
    fn another_spelling_alone_is_refused_too() {
        for name in ["x_remote_user", "X-Remote_User", "x.remote.user", "x~remote~user"] {
            assert_eq!(reason(&defaults(), &[(name, b"alice")]), "HeaderAmbiguous", "{name}");
        }
    }

    #[test]
    fn unusable_values_are_refused_and_never_repeated() {
        let long = vec![b'a'; MAX_VALUE + 1];
        let values: [&[u8]; 12] = [
            b"",
            b" ",
            b"\t",
            b"alice ",
            b" alice",
            b"al\x00ice",
            b"al\x7fice",
            b"al\tice",
            b"\xff\xfe",
            "al\u{200b}ice".as_bytes(),
            "\u{202e}ecila".as_bytes(),
            &long,
        ];
        let unseen = "\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200f}\u{2028}\u{2060}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fffa}\u{e0041}\u{e0100}";
        let unseen: Vec<_> = unseen.chars().map(|unseen| format!("al{unseen}ice")).collect();
        for value in values.into_iter().chain(unseen.iter().map(String::as_bytes)) {
            let error = defaults().identity(&[("x-remote-user", value)]).unwrap_err();
            assert_eq!(error.reason(), "HeaderInvalid", "{value:?}");
            assert!(!error.to_string().contains("ice"), "{error}");
        }
        let longest = &long[..MAX_VALUE];
        assert!(defaults().identity(&[("x-remote-user", longest)]).is_ok());
    }

    #[test]
    fn groups_are_bounded_in_number_and_length() {
        let with = |groups: &str| {
            let mut fields = ALICE;
            fields[6].1 = groups.as_bytes();
            everything().identity(&fields).map(|identity| identity.groups.len())
        };
        let list = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(with(&list(MAX_GROUPS)), Ok(MAX_GROUPS));
        assert!(with(&list(MAX_GROUPS + 1)).is_err());
        assert_eq!(with(&"g".repeat(MAX_VALUE)), Ok(1));
        assert!(with(&"g".repeat(MAX_VALUE + 1)).is_err());
        assert!(with(&"a,".repeat(MAX_GROUPS_VALUE)).is_err());
    }

    #[test]
    fn one_header_cannot_say_two_things() {
        for name in ["X-Remote-User", "x-remote-user"] {
            let names =
                AuthProxyHeaders { email: Some(name.into()), ..AuthProxyHeaders::default() };
            let error = Headers::new(&names).unwrap_err();
            assert!(matches!(error, AuthProxyError::SharedHeader(_)), "{error}");
        }
    }

    /// Some other way to write a name that a server might take for it.
    fn respelt(name: &'static str) -> impl Strategy<Value = String> {
        let letter = |byte: char| {
            if byte.is_ascii_alphanumeric() {
                prop_oneof![Just(byte.to_ascii_lowercase()), Just(byte.to_ascii_uppercase())]
                    .boxed()
            } else {
                prop::sample::select(vec!['-', '_', '.', '~', '!', '+', '|']).boxed()
            }
        };
        name.chars().map(letter).collect::<Vec<_>>().prop_map(|letters| letters.iter().collect())
    }

    proptest! {
        #[test]
        fn no_respelling_beside_the_header_is_ever_believed(
            twin in respelt("X-Remote-User"), first in any::<bool>(), value in "[a-z]{1,8}",
        ) {
            let mut fields: Vec<Field<'_>> = vec![("x-remote-user", b"alice")];
            fields.insert(usize::from(!first), (&twin, value.as_bytes()));
            prop_assert_eq!(reason(&defaults(), &fields), "HeaderAmbiguous");
        }

        #[test]
        fn a_respelling_alone_counts_only_if_case_is_all_that_differs(twin in respelt("X-Remote-User")) {
            let believed = defaults().identity(&[(&twin, b"alice")]).is_ok();
            prop_assert_eq!(believed, twin.eq_ignore_ascii_case("X-Remote-User"));
        }

        #[test]
        fn whatever_is_sent_is_judged_without_panic(
            fields in prop::collection::vec(("[!-~]{0,16}", prop::collection::vec(any::<u8>(), 0..32)), 0..8),
        ) {
            let fields: Vec<Field<'_>> =
                fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            if let Ok(identity) = defaults().identity(&fields) {
                prop_assert!(!identity.user_id.is_empty());
            }
        }
    }
}

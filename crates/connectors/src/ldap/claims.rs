//! From attributes of a user's entry to the further claims of OIDC Core 5.1.
//!
//! Always holds: nothing is read that was not named; what an entry says badly is left out and logged, without the value,
//! and never keeps a user from signing in; what names a page or a picture is an http or https URL.

use std::collections::BTreeMap;

use claviger_api::connector::ldap_claims as spec;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use serde_json::{Map, Value};
use url::Url;

use super::entry::Entry;
use super::filter::Attribute;
use crate::BuildError;

/// Longest value that becomes a claim, in characters: as long as a LocalUser's.
const MAX_CHARACTERS: usize = 256;
/// Longest language tag (RFC 5646 4.4.1), in bytes.
const MAX_LANGUAGE: usize = 35;
/// What no claim may begin with: the whole sign-in would be refused.
const RESERVED: &str = "system:";
const PHONE_NUMBER: &str = "phone_number";

/// Attributes of common schemas that hold bytes, and no text.
const BYTES: [&str; 11] = [
    "audio",
    "cACertificate",
    "jpegPhoto",
    "objectGUID",
    "objectSid",
    "photo",
    "thumbnailLogo",
    "thumbnailPhoto",
    "userCertificate",
    "userPKCS12",
    "userSMIMECertificate",
];

/// Attributes of common schemas that hold what opens an account.
const SECRETS: [&str; 15] = [
    "authPassword",
    "ipaNTHash",
    "krbExtraData",
    "krbPrincipalKey",
    "ms-Mcs-AdmPwd",
    "msDS-ManagedPassword",
    "msLAPS-EncryptedPassword",
    "msLAPS-Password",
    "pwdHistory",
    "sambaLMPassword",
    "sambaNTPassword",
    "sambaPasswordHistory",
    "supplementalCredentials",
    "unicodePwd",
    "userPassword",
];

/// What form a claim has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Page,
    Language,
    Date,
    Time,
    Lines,
}

/// One claim, or one member of the address.
#[derive(Debug)]
struct Claim {
    name: &'static str,
    form: Form,
    attribute: Attribute,
}

/// Which attributes become which claims.
#[derive(Debug, Default)]
pub struct Claims {
    of_user: Vec<Claim>,
    of_address: Vec<Claim>,
    phone_numbers_verified: bool,
}

impl Claims {
    /// Checks the names.
    ///
    /// # Errors
    /// [`BuildError`]: not a name, or one of an attribute that is nothing to tell.
    pub fn new(spec: &spec::LdapClaimAttributes) -> Result<Self, BuildError> {
        let claims = [
            ("given_name", Form::Text, &spec.given_name),
            ("family_name", Form::Text, &spec.family_name),
            ("middle_name", Form::Text, &spec.middle_name),
            ("nickname", Form::Text, &spec.nickname),
            ("profile", Form::Page, &spec.profile),
            ("picture", Form::Page, &spec.picture),
            ("website", Form::Page, &spec.website),
            ("gender", Form::Text, &spec.gender),
            ("birthdate", Form::Date, &spec.birthdate),
            ("zoneinfo", Form::Text, &spec.zoneinfo),
            ("locale", Form::Language, &spec.locale),
            ("updated_at", Form::Time, &spec.updated_at),
            (PHONE_NUMBER, Form::Text, &spec.phone_number),
        ];
        let address = spec.address.iter().flat_map(|address| {
            [
                ("formatted", Form::Lines, &address.formatted),
                ("street_address", Form::Text, &address.street_address),
                ("locality", Form::Text, &address.locality),
                ("region", Form::Text, &address.region),
                ("postal_code", Form::Text, &address.postal_code),
                ("country", Form::Text, &address.country),
            ]
        });
        Ok(Self {
            of_user: claims.into_iter().filter_map(claim).collect::<Result<_, _>>()?,
            of_address: address.filter_map(claim).collect::<Result<_, _>>()?,
            phone_numbers_verified: spec.phone_number_verification
                == spec::LdapPhoneNumberVerification::Verified,
        })
    }

    /// What must be asked for.
    pub fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.of_user.iter().chain(&self.of_address).map(|claim| &claim.attribute)
    }

    /// What an entry says.
    pub fn of(&self, entry: &Entry) -> BTreeMap<String, Value> {
        let mut said: BTreeMap<String, Value> = read(&self.of_user, entry).collect();
        let address: Map<String, Value> = read(&self.of_address, entry).collect();
        if !address.is_empty() {
            said.insert("address".to_owned(), address.into());
        }
        if self.phone_numbers_verified && said.contains_key(PHONE_NUMBER) {
            said.insert("phone_number_verified".to_owned(), true.into());
        }
        said
    }
}

fn claim(
    (name, form, attribute): (&'static str, Form, &Option<String>),
) -> Option<Result<Claim, BuildError>> {
    attribute.as_deref().map(|text| {
        let attribute = Attribute::parse(text)
            .map_err(|cause| BuildError::Filter { field: "userSearch.claimAttributes", cause })?;
        match nothing_to_tell(&attribute) {
            None => Ok(Claim { name, form, attribute }),
            Some(what) => {
                Err(BuildError::ClaimAttribute { claim: name, attribute: text.to_owned(), what })
            }
        }
    })
}

/// What an attribute holds that is no text for a token. That names are known here is a help; which attributes the
/// service account may read is the guard.
pub fn nothing_to_tell(attribute: &Attribute) -> Option<&'static str> {
    let mut parts = attribute.as_str().split(';');
    let base = parts.next().unwrap_or_default();
    let is_among = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(base));
    if base.starts_with(|first: char| first.is_ascii_digit()) {
        Some("what its number does not say")
    } else if is_among(&SECRETS) {
        Some("a secret")
    } else if is_among(&BYTES) || parts.any(|option| option.eq_ignore_ascii_case("binary")) {
        Some("bytes")
    } else {
        None
    }
}

fn read<'a>(claims: &'a [Claim], entry: &'a Entry) -> impl Iterator<Item = (String, Value)> + 'a {
    claims.iter().filter_map(|claim| {
        let mut why = None;
        for value in entry.values(&claim.attribute) {
            match claim.form.read(value) {
                Ok(value) => return Some((claim.name.to_owned(), value)),
                Err(reason) => why = why.or(Some(reason)),
            }
        }
        if let Some(why) = why {
            let (dn, attribute) = (entry.dn.as_str(), claim.attribute.as_str());
            tracing::warn!(
                dn,
                attribute,
                claim = claim.name,
                why,
                "a claim about a user is left out"
            );
        }
        None
    })
}

impl Form {
    /// The claim that an attribute's value is.
    fn read(self, value: &[u8]) -> Result<Value, &'static str> {
        let text = std::str::from_utf8(value).map_err(|_| "the value is not text")?.trim();
        if text.is_empty() {
            return Err("the value is blank");
        }
        if text.chars().count() > MAX_CHARACTERS {
            return Err("the value has more than 256 characters");
        }
        if text.contains(char::is_control) && self != Self::Lines {
            return Err("the value holds control characters");
        }
        if text.starts_with(RESERVED) {
            return Err("the value begins with system:, which is Kubernetes' own");
        }
        match self {
            Self::Text => Ok(text.into()),
            Self::Page => page(text).map(Value::from),
            Self::Language => language(text).map(Value::from),
            Self::Date => date(text).map(Value::from),
            Self::Time => time(text).map(Value::from),
            Self::Lines => lines(text).map(Value::from),
        }
    }
}

/// Nothing but http and https: whoever shows a user's page makes it a link. RFC 2079: a label may follow.
fn page(text: &str) -> Result<&str, &'static str> {
    let address = text.split_whitespace().next().unwrap_or_default();
    match Url::parse(address) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(address),
        _ => Err("the value is not an http or https URL"),
    }
}

/// RFC 2798 2.7: several may be there, as in the header Accept-Language.
fn language(text: &str) -> Result<&str, &'static str> {
    let first = text.split([',', ';']).next().unwrap_or_default().trim();
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !first.is_empty() && first.len() <= MAX_LANGUAGE && first.chars().all(known) {
        Ok(first)
    } else {
        Err("the value is not a language, such as de-DE")
    }
}

fn date(text: &str) -> Result<String, &'static str> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let date = match text.len() {
        4 if digits(text) => return Ok(text.to_owned()),
        8 if digits(text) => Date::strptime("%Y%m%d", text),
        10 => Date::strptime("%Y-%m-%d", text),
        _ => return Err("the value is not a date, such as 1815-12-10"),
    };
    date.map(|date| date.to_string()).map_err(|_| "the value is not a date, such as 1815-12-10")
}

/// `GeneralizedTime` in UTC, with or without fractions of a second, as seconds since the Unix epoch.
fn time(text: &str) -> Result<i64, &'static str> {
    let wrong = "the value is not a time in UTC, such as 20260131235959Z";
    let whole = text.strip_suffix('Z').ok_or(wrong)?;
    let (seconds, fraction) = whole.split_once(['.', ',']).unwrap_or((whole, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.len() != 14 || !digits(seconds) || !digits(fraction) {
        return Err(wrong);
    }
    let time = DateTime::strptime("%Y%m%d%H%M%S", seconds).map_err(|_| wrong)?;
    Ok(Offset::UTC.to_timestamp(time).map_err(|_| wrong)?.as_second())
}

/// RFC 4517 3.3.28: `$` ends a line; itself it is written as `\24`, and a backslash as `\5C`.
fn lines(text: &str) -> Result<String, &'static str> {
    let line =
        |line: &str| line.trim().replace(r"\24", "$").replace(r"\5C", r"\").replace(r"\5c", r"\");
    let lines: Vec<String> =
        text.split(['$', '\n']).map(line).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return Err("the value is blank");
    }
    if lines.iter().any(|line| line.contains(char::is_control)) {
        return Err("the value holds control characters");
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(spec: Value) -> Result<Claims, BuildError> {
        Claims::new(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn values_become_what_openid_connect_says_or_nothing() {
        for (form, value, expected) in [
            (Form::Text, " Ada ", Some(json!("Ada"))),
            (Form::Text, "A\u{7}da", None),
            (Form::Text, "  ", None),
            (Form::Text, "system:masters", None),
            (
                Form::Page,
                "https://ada.example.org/ My page",
                Some(json!("https://ada.example.org/")),
            ),
            (Form::Page, "javascript:alert(1)", None),
            (Form::Page, "data:text/html,x", None),
            (Form::Page, "ada.example.org", None),
            (Form::Language, "de-DE, en;q=0.5", Some(json!("de-DE"))),
            (Form::Language, "German, I think?", Some(json!("German"))),
            (Form::Language, "*", None),
            (Form::Date, "1815-12-10", Some(json!("1815-12-10"))),
            (Form::Date, "18151210", Some(json!("1815-12-10"))),
            (Form::Date, "1815", Some(json!("1815"))),
            (Form::Date, "1815-13-10", None),
            (Form::Date, "10.12.1815", None),
            (Form::Time, "20260101000000Z", Some(json!(1_767_225_600))),
            (Form::Time, "20260101000000.0Z", Some(json!(1_767_225_600))),
            (Form::Time, "20260101000000", None),
            (Form::Time, "20261301000000Z", None),
            (Form::Time, "1767225600", None),
            (Form::Lines, r"1 Main St. $ Suite \24\5C5C$", Some(json!("1 Main St.\nSuite $\\5C"))),
            (Form::Lines, "$ $", None),
            (Form::Lines, "1\tMain\u{7} St.", None),
        ] {
            assert_eq!(form.read(value.as_bytes()).ok(), expected, "{form:?} {value:?}");
        }
        let long = "ü".repeat(MAX_CHARACTERS);
        assert_eq!(Form::Text.read(long.as_bytes()), Ok(json!(long)));
        assert!(Form::Text.read(format!("{long}x").as_bytes()).is_err());
        assert_eq!(Form::Text.read(&[0xff, 0xd8]), Err("the value is not text"));
    }

    #[test]
    fn attributes_of_bytes_and_secrets_are_refused_by_name() {
        for (name, what) in [
            ("jpegPhoto", "bytes"),
            ("USERCERTIFICATE", "bytes"),
            ("description;binary", "bytes"),
            ("userPassword", "a secret"),
            ("userpassword;x-old", "a secret"),
            ("MS-MCS-AdmPwd", "a secret"),
            ("2.5.4.35", "what its number does not say"),
        ] {
            let error = claims(json!({"address": {"region": name}})).unwrap_err().to_string();
            let expected = format!(
                "userSearch.claimAttributes: region: {name} holds {what}, and no text to tell clients: name another attribute"
            );
            assert_eq!(error, expected);
        }
        let error = claims(json!({"nickname": "member:1.2:"})).unwrap_err().to_string();
        assert!(error.starts_with("userSearch.claimAttributes: "), "{error}");
    }

    #[test]
    fn nothing_is_asked_for_that_was_not_named() {
        assert_eq!(Claims::default().attributes().count(), 0);
        let some = claims(json!({"givenName": "givenName", "address": {"locality": "l"}})).unwrap();
        let names: Vec<_> = some.attributes().map(Attribute::as_str).collect();
        assert_eq!(names, ["givenName", "l"]);
    }
}

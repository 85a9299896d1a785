//! One entry as the directory sent it: attribute values are bytes, names are without case.
//!
//! Read by hand from the decoded message, because the library's own reader panics on a DN that is
//! not UTF-8 and sorts values into text and binary by what they happen to look like.

use std::collections::HashMap;
use std::fmt::Write as _;

use ldap3::ResultEntry;
use ldap3::asn1::StructureTag;
use serde_json::{Map, Value};

use super::filter::Attribute;

/// `SearchResultEntry`, RFC 4511 section 4.5.2.
const SEARCH_RESULT_ENTRY: u64 = 4;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its distinguished name.
    pub dn: String,
    attributes: HashMap<String, Vec<Vec<u8>>>,
    /// Of attributes that were sent in part, how many values.
    partial: HashMap<String, usize>,
}

impl Entry {
    /// Reads an entry; `None` when the message is not one.
    pub fn read(message: ResultEntry) -> Option<Self> {
        let tag = message.0.match_id(SEARCH_RESULT_ENTRY)?;
        let mut parts = tag.expect_constructed()?.into_iter();
        let dn = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
        let mut attributes: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        let mut partial = HashMap::new();
        for attribute in parts.next()?.expect_constructed()? {
            let Sent { name, values, next } = read_attribute(attribute)?;
            if let Some(next) = next {
                partial.insert(name.clone(), next);
            }
            attributes.entry(name).or_default().extend(values);
        }
        Some(Self { dn, attributes, partial })
    }

    /// All values, in the server's order. `DN` is the entry's own name.
    pub fn values(&self, attribute: &Attribute) -> Vec<&[u8]> {
        if attribute.is_dn() {
            return vec![self.dn.as_bytes()];
        }
        self.named(attribute.as_str())
    }

    /// The first value, if it is a number.
    pub fn number(&self, attribute: &str) -> Option<i64> {
        let first = *self.named(attribute).first()?;
        std::str::from_utf8(first).ok()?.trim().parse().ok()
    }

    /// Whether this is among the values.
    pub fn says(&self, attribute: &str, value: &str) -> bool {
        self.named(attribute).contains(&value.as_bytes())
    }

    fn named(&self, attribute: &str) -> Vec<&[u8]> {
        let values = self.attributes.get(&attribute.to_ascii_lowercase());
        values.into_iter().flatten().map(Vec::as_slice).collect()
    }

    /// From which value on the directory has more than it sent, if it has: `memberOf;range=0-1499` is the beginning
    /// of a longer list ([MS-ADTS] 3.1.1.3.1.3.3).
    pub fn continues_at(&self, attribute: &Attribute) -> Option<usize> {
        self.partial.get(&attribute.as_str().to_ascii_lowercase()).copied()
    }

    /// The first value that is text and not blank.
    pub fn text(&self, attribute: &Attribute) -> Option<String> {
        self.texts(attribute).into_iter().next()
    }

    /// Every value that is text and not blank.
    pub fn texts(&self, attribute: &Attribute) -> Vec<String> {
        let texts = self.values(attribute).into_iter().filter_map(|v| std::str::from_utf8(v).ok());
        texts.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    /// These attributes as JSON, named as they are asked for: a list of texts each. What is not text is left out.
    pub fn raw(&self, wanted: &[String]) -> Map<String, Value> {
        let mut raw = Map::from_iter([("dn".to_owned(), Value::from(self.dn.as_str()))]);
        for name in wanted {
            let texts = self.named(name).into_iter().filter_map(|v| std::str::from_utf8(v).ok());
            let texts: Vec<Value> = texts.map(Value::from).collect();
            if !texts.is_empty() {
                raw.insert(name.clone(), Value::Array(texts));
            }
        }
        raw
    }

    /// Why the directory calls this account disabled, if it does. Attributes that a directory does
    /// not have are never sent, so asking for all of them costs nothing.
    pub fn disabled(&self) -> Option<&'static str> {
        let first = |name| self.named(name).first().and_then(|v| std::str::from_utf8(v).ok());
        let flags = first(USER_ACCOUNT_CONTROL).and_then(|text| text.trim().parse::<i64>().ok());
        if flags.is_some_and(|flags| flags & ACCOUNT_DISABLE != 0) {
            Some("userAccountControl says the account is disabled")
        } else if first(NS_ACCOUNT_LOCK).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            Some("nsAccountLock is TRUE")
        } else if first(PWD_ACCOUNT_LOCKED_TIME) == Some(LOCKED_BY_ADMINISTRATOR) {
            Some("pwdAccountLockedTime says the account is locked for good")
        } else {
            None
        }
    }
}

/// Active Directory and Samba; bit 1 is `ACCOUNTDISABLE`.
const USER_ACCOUNT_CONTROL: &str = "userAccountControl";
const ACCOUNT_DISABLE: i64 = 2;
/// 389 Directory Server and `FreeIPA`.
const NS_ACCOUNT_LOCK: &str = "nsAccountLock";
/// The ppolicy overlay of `OpenLDAP`. Other times mean too many wrong passwords, which anybody can cause,
/// so they must not end sessions.
const PWD_ACCOUNT_LOCKED_TIME: &str = "pwdAccountLockedTime";
const LOCKED_BY_ADMINISTRATOR: &str = "000001010000Z";

/// What to ask for beside the configured attributes, so that [`Entry::disabled`] can tell.
pub const ACCOUNT_STATE: [&str; 3] =
    [USER_ACCOUNT_CONTROL, NS_ACCOUNT_LOCK, PWD_ACCOUNT_LOCKED_TIME];

/// One attribute as it was sent.
struct Sent {
    /// Lower case, without range.
    name: String,
    values: Vec<Vec<u8>>,
    /// The first value that was not sent, if any was not.
    next: Option<usize>,
}

fn read_attribute(attribute: StructureTag) -> Option<Sent> {
    let mut parts = attribute.expect_constructed()?.into_iter();
    let mut name = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
    name.make_ascii_lowercase();
    let mut next = None;
    if let Some((whole, range)) = name.split_once(";range=") {
        let (_, last) = range.split_once('-')?;
        next = match last {
            "*" => None,
            last => Some(last.parse::<usize>().ok()?.checked_add(1)?),
        };
        name = whole.to_owned();
    }
    let values = parts.next()?.expect_constructed()?;
    let values = values.into_iter().map(StructureTag::expect_primitive).collect::<Option<_>>()?;
    Some(Sent { name, values, next })
}

/// How an identifier is written: `objectGUID` and `objectSid` as Microsoft writes them, text as it
/// is, other bytes in hexadecimal.
pub fn identifier(attribute: &Attribute, value: &[u8]) -> String {
    let known = if attribute.is("objectGUID") {
        guid(value)
    } else if attribute.is("objectSid") {
        sid(value)
    } else {
        None
    };
    known.or_else(|| String::from_utf8(value.to_vec()).ok()).unwrap_or_else(|| hexadecimal(value))
}

/// The bytes an identifier was written from, to search for it.
pub fn identifier_bytes(attribute: &Attribute, identifier: &str) -> Vec<u8> {
    let known = if attribute.is("objectGUID") {
        guid_bytes(identifier)
    } else if attribute.is("objectSid") {
        sid_bytes(identifier)
    } else {
        None
    };
    known.unwrap_or_else(|| identifier.as_bytes().to_vec())
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Microsoft stores the first three fields of a GUID with the lowest byte first.
const GUID_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

fn guid(value: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = value.try_into().ok()?;
    let hex = hexadecimal(&GUID_ORDER.map(|index| bytes[index]));
    let fields = [0..8, 8..12, 12..16, 16..20, 20..32].map(|field| &hex[field]);
    Some(fields.join("-"))
}

fn guid_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    if digits.len() != 32 {
        return None;
    }
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]))
        .collect::<Result<_, _>>()
        .ok()?;
    Some(GUID_ORDER.iter().map(|index| bytes[*index]).collect())
}

/// [MS-DTYP] 2.4.2: revision, count, 48-bit authority (big-endian), 32-bit parts (little-endian).
fn sid(value: &[u8]) -> Option<String> {
    let (&[revision, count, ref authority @ ..], parts) = value.split_first_chunk::<8>()?;
    if parts.len() != usize::from(count) * 4 {
        return None;
    }
    let authority = authority.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let mut text = format!("S-{revision}-{authority}");
    for part in parts.chunks_exact(4) {
        let part = u32::from_le_bytes(part.try_into().ok()?);
        // Writing to a String cannot fail.
        let _ = write!(text, "-{part}");
    }
    Some(text)
}

fn sid_bytes(text: &str) -> Option<Vec<u8>> {
    let mut fields = text.strip_prefix("S-")?.split('-');
    let revision: u8 = fields.next()?.parse().ok()?;
    let authority: u64 = fields.next()?.parse().ok()?;
    let parts: Vec<u32> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let mut bytes = vec![revision, u8::try_from(parts.len()).ok()?];
    bytes.extend_from_slice(&authority.to_be_bytes()[2..]);
    bytes.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use ldap3::asn1::{PL, TagClass};

    use super::*;

    fn primitive(bytes: &[u8]) -> StructureTag {
        StructureTag { class: TagClass::Universal, id: 4, payload: PL::P(bytes.to_vec()) }
    }

    fn constructed(id: u64, parts: Vec<StructureTag>) -> StructureTag {
        StructureTag { class: TagClass::Universal, id, payload: PL::C(parts) }
    }

    fn message(dn: &[u8], attributes: &[(&str, &[&[u8]])]) -> ResultEntry {
        let attributes = attributes.iter().map(|(name, values)| {
            let values = values.iter().map(|value| primitive(value)).collect();
            constructed(16, vec![primitive(name.as_bytes()), constructed(17, values)])
        });
        let list = constructed(16, attributes.collect());
        ResultEntry::new(constructed(SEARCH_RESULT_ENTRY, vec![primitive(dn), list]))
    }

    fn entry(attributes: &[(&str, &[&[u8]])]) -> Entry {
        Entry::read(message(b"cn=x", attributes)).unwrap()
    }

    fn attribute(name: &str) -> Attribute {
        Attribute::parse(name).unwrap()
    }

    #[test]
    fn attributes_are_found_in_any_case_and_blank_values_skipped() {
        let entry = entry(&[("Mail", &[b" ", b"a@b", b"c@d"]), ("jpegPhoto", &[&[0xff, 0xd8]])]);
        assert_eq!(entry.text(&attribute("mail")).as_deref(), Some("a@b"));
        assert_eq!(entry.texts(&attribute("MAIL")), ["a@b", "c@d"]);
        assert_eq!(entry.text(&attribute("jpegphoto")), None);
        assert_eq!(entry.values(&attribute("jpegphoto")), [&[0xff, 0xd8]]);
        assert_eq!(entry.values(&attribute("DN")), [b"cn=x"]);
        assert_eq!(entry.text(&attribute("missing")), None);
    }

    #[test]
    fn attribute_with_another_option_is_another_attribute() {
        let entry = entry(&[("cn;lang-de", &[b"Jurist"]), ("cn", &[b"Lawyer"])]);
        assert_eq!(entry.texts(&attribute("cn")), ["Lawyer"]);
    }

    #[test]
    fn ranged_values_count_for_their_attribute_and_say_where_it_goes_on() {
        let first = entry(&[("memberOf;range=0-1499", &[b"cn=a"])]);
        assert_eq!(first.texts(&attribute("memberOf")), ["cn=a"]);
        assert_eq!(first.continues_at(&attribute("MEMBEROF")), Some(1500));
        let last = entry(&[("memberOf;range=1500-*", &[b"cn=b"]), ("cn", &[b"x"])]);
        assert_eq!(last.texts(&attribute("memberOf")), ["cn=b"]);
        assert_eq!(last.continues_at(&attribute("memberOf")), None);
        for nonsense in
            ["memberOf;range=0", "memberOf;range=0-x", "memberOf;range=0-99999999999999999999"]
        {
            assert_eq!(
                Entry::read(message(b"cn=x", &[(nonsense, &[b"cn=a"])])),
                None,
                "{nonsense}"
            );
        }
    }

    #[test]
    fn malformed_messages_are_no_entries() {
        assert_eq!(Entry::read(message(&[0xff, 0xfe], &[])), None);
        assert_eq!(Entry::read(ResultEntry::new(constructed(19, vec![]))), None);
        assert_eq!(Entry::read(ResultEntry::new(constructed(4, vec![primitive(b"cn=x")]))), None);
        let bad = constructed(4, vec![primitive(b"cn=x"), constructed(16, vec![primitive(b"?")])]);
        assert_eq!(Entry::read(ResultEntry::new(bad)), None);
    }

    #[test]
    fn disabled_accounts_are_known_by_what_each_directory_says() {
        for (name, value, disabled) in [
            ("userAccountControl", "514", true),
            ("userAccountControl", "512", false),
            ("nsAccountLock", "TRUE", true),
            ("nsAccountLock", "false", false),
            ("pwdAccountLockedTime", "000001010000Z", true),
            ("pwdAccountLockedTime", "20260101000000Z", false),
            ("description", "514", false),
        ] {
            let entry = entry(&[(name, &[value.as_bytes()])]);
            assert_eq!(entry.disabled().is_some(), disabled, "{name}={value}");
        }
    }

    #[test]
    fn guid_is_written_as_microsoft_does_and_back() {
        let guid = attribute("objectGUID");
        let bytes: Vec<u8> = (0..16).collect();
        let text = identifier(&guid, &bytes);
        assert_eq!(text, "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(identifier_bytes(&guid, &text), bytes);
        // Sixteen bytes that happen to be text are still a GUID.
        assert_eq!(identifier(&guid, b"abcdefghijklmnop"), "64636261-6665-6867-696a-6b6c6d6e6f70");
    }

    #[test]
    fn sid_is_written_as_microsoft_does_and_back() {
        let sid = attribute("objectsid");
        let bytes = [
            1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0x50, 4, 0, 0,
        ];
        let text = identifier(&sid, &bytes);
        assert_eq!(text, "S-1-5-21-1-2-3-1104");
        assert_eq!(identifier_bytes(&sid, &text), bytes);
        assert_eq!(identifier(&sid, &[1, 5, 0]), "\u{1}\u{5}\0", "too short to be one");
    }

    #[test]
    fn other_identifiers_are_text_or_hexadecimal() {
        let uid = attribute("uid");
        assert_eq!(identifier(&uid, b"ada"), "ada");
        assert_eq!(identifier(&uid, &[0xff, 0x00]), "ff00");
        assert_eq!(identifier_bytes(&uid, "ada"), b"ada");
    }

    #[test]
    fn what_is_text_of_an_entry_is_there_for_a_claim_mapping_by_the_names_asked_for() {
        let values = vec![b"a@example.com".to_vec(), b"b@example.com".to_vec()];
        let attributes = HashMap::from([
            ("mail".to_owned(), values),
            ("jpegphoto".to_owned(), vec![vec![0xff, 0xd8]]),
            ("unasked".to_owned(), vec![b"x".to_vec()]),
        ]);
        let partial = HashMap::default();
        let entry = Entry { dn: "uid=ada".into(), attributes, partial };
        let wanted = ["Mail".to_owned(), "jpegPhoto".to_owned(), "cn".to_owned()];
        let raw = Value::Object(entry.raw(&wanted));
        assert_eq!(
            raw,
            serde_json::json!({"dn": "uid=ada", "Mail": ["a@example.com", "b@example.com"]})
        );
    }
}

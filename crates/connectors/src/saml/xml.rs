//! XML as SAML needs it: elements, attributes and text, and nothing else.
//!
//! What always holds: whatever two readers could read differently is refused before a signature is looked at (a document
//! type, entities, processing instructions, comments, CDATA, another encoding, names of other letters); an ID stands
//! once; a tree is as small and as flat as an honest one.

use std::collections::HashSet;

use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::{NsReader, XmlVersion};
use thiserror::Error;

/// Longest document, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Deepest nesting: honest answers have seven levels, and their signatures eight.
const MAX_DEPTH: usize = 24;
/// Most elements: one for each of ten thousand groups, and room.
const MAX_ELEMENTS: usize = 16_384;
/// Most attributes of one element, its namespaces among them.
const MAX_ATTRIBUTES: usize = 32;
/// What documents have been seen to name their identifiers.
const ID_NAMES: [&str; 3] = ["ID", "Id", "id"];

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum XmlError {
    /// Too long.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLarge,
    /// Other bytes than UTF-8, or another encoding declared.
    #[error("it is not in UTF-8")]
    NotUtf8,
    /// `<!DOCTYPE`.
    #[error("it has a document type")]
    DocumentType,
    /// An entity that XML itself does not have.
    #[error("it refers to an entity")]
    Entity,
    /// `<?…?>`.
    #[error("it has a processing instruction")]
    ProcessingInstruction,
    /// `<!-- … -->`: it makes two texts of one.
    #[error("it has a comment")]
    Comment,
    /// `<![CDATA[ … ]]>`.
    #[error("it has a CDATA section")]
    CharacterData,
    /// Nested too deeply.
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Too many elements, or too many attributes of one.
    #[error(
        "it has more than {MAX_ELEMENTS} elements, or one with more than {MAX_ATTRIBUTES} attributes"
    )]
    TooMany,
    /// Text around the one element.
    #[error("there is more than one element, or text around it")]
    Trailing,
    /// An identifier that stands twice.
    #[error("an ID stands twice")]
    DuplicateId,
    /// Not well-formed, or of letters that no SAML is made of.
    #[error("it is not well-formed XML")]
    Malformed,
}

/// One element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its namespace; empty if none.
    pub namespace: String,
    /// Its local name.
    pub name: String,
    attributes: Vec<Attribute>,
    children: Vec<Element>,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attribute {
    namespace: String,
    name: String,
    value: String,
}

impl Element {
    /// Reads a document.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn parse(document: &[u8]) -> Result<Self, XmlError> {
        Self::read(document, Reading::default())
    }

    /// Reads a document that describes somebody, and that nobody signs a part of: its comments are passed over.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn parse_commented(document: &[u8]) -> Result<Self, XmlError> {
        Self::read(document, Reading { takes_comments: true, ..Reading::default() })
    }

    fn read(document: &[u8], reading: Reading) -> Result<Self, XmlError> {
        if document.len() > MAX_BYTES {
            return Err(XmlError::TooLarge);
        }
        let text = std::str::from_utf8(document).map_err(|_| XmlError::NotUtf8)?;
        if !text.chars().all(is_character) || text.contains("]]>") && !text.contains("<![CDATA[") {
            return Err(XmlError::Malformed);
        }
        reading.read(text)
    }

    /// Whether it has this name in this namespace.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace == namespace
    }

    /// Its attribute of this name, in no namespace.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut own = self.attributes.iter().filter(|attribute| attribute.namespace.is_empty());
        own.find(|attribute| attribute.name == name).map(|attribute| attribute.value.as_str())
    }

    /// Whether it has no attributes but some of these, in no namespace.
    pub fn has_no_attributes_but(&self, names: &[&str]) -> bool {
        let mut own = self.attributes.iter();
        own.all(|own| own.namespace.is_empty() && names.contains(&own.name.as_str()))
    }

    /// Whether there is text in it that is more than white space, beside its elements.
    pub fn has_text(&self) -> bool {
        !self.text.chars().all(is_space)
    }

    /// The elements directly below it.
    pub fn children(&self) -> &[Element] {
        &self.children
    }

    /// Those of this name.
    pub fn all<'e>(
        &'e self,
        namespace: &'e str,
        name: &'e str,
    ) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.is(namespace, name))
    }

    /// The one of this name; `None` too where there are two.
    pub fn only(&self, namespace: &str, name: &str) -> Option<&Element> {
        let mut found = self.children.iter().filter(|child| child.is(namespace, name));
        found.next().filter(|_| found.next().is_none())
    }

    /// Itself and all below it.
    pub fn walk(&self) -> Box<dyn Iterator<Item = &Element> + '_> {
        Box::new(std::iter::once(self).chain(self.children.iter().flat_map(Element::walk)))
    }

    /// Its text without white space around it, where it holds nothing else.
    pub fn text(&self) -> Option<&str> {
        self.exact_text().map(|text| text.trim_matches(is_space))
    }

    /// Its text as it stands there, where it holds nothing else: what somebody is known by, for `admin` and `admin ` may be
    /// two.
    pub fn exact_text(&self) -> Option<&str> {
        self.children.is_empty().then_some(self.text.as_str())
    }
}

/// A document under way.
#[derive(Default)]
struct Reading {
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
    ids: HashSet<String>,
    takes_comments: bool,
}

impl Reading {
    fn read(mut self, text: &str) -> Result<Element, XmlError> {
        let mut reader = NsReader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        let mut first = true;
        loop {
            let (namespace, event) =
                reader.read_resolved_event().map_err(|_| XmlError::Malformed)?;
            match event {
                Event::Start(start) => {
                    let namespace = bound(&namespace)?;
                    let element = self.element(&reader, namespace, &start)?;
                    self.open.push(element);
                }
                Event::End(_) => self.close()?,
                Event::Text(text) => {
                    let text = text.xml10_content().map_err(|_| XmlError::Malformed)?;
                    self.say(&text)?;
                }
                Event::GeneralRef(reference) => {
                    let character = resolved(&reference)?;
                    self.say(character.encode_utf8(&mut [0; 4]))?;
                }
                Event::Decl(declaration) if first => check_encoding(&declaration)?,
                Event::Decl(_) | Event::PI(_) => return Err(XmlError::ProcessingInstruction),
                Event::DocType(_) => return Err(XmlError::DocumentType),
                Event::Comment(_) if self.takes_comments => {}
                Event::Comment(_) => return Err(XmlError::Comment),
                Event::CData(_) => return Err(XmlError::CharacterData),
                Event::Empty(_) => return Err(XmlError::Malformed), // they were expanded
                Event::Eof => break,
            }
            first = false;
        }
        if !self.open.is_empty() {
            return Err(XmlError::Malformed);
        }
        self.root.ok_or(XmlError::Malformed)
    }

    fn element(
        &mut self,
        reader: &NsReader<&[u8]>,
        namespace: String,
        start: &BytesStart<'_>,
    ) -> Result<Element, XmlError> {
        if self.open.is_empty() && self.root.is_some() {
            return Err(XmlError::Trailing);
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(XmlError::TooDeep);
        }
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(XmlError::TooMany);
        }
        let name = name(start.local_name().as_ref())?;
        let mut element = Element { namespace, name, ..Element::default() };
        for (count, attribute) in start.attributes().enumerate() {
            if count >= MAX_ATTRIBUTES {
                return Err(XmlError::TooMany);
            }
            let attribute = attribute.map_err(|_| XmlError::Malformed)?;
            if attribute.value.contains(&b'<') {
                return Err(XmlError::Malformed);
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|_| XmlError::Entity)?.into_owned();
            if attribute.key.as_namespace_binding().is_some() {
                continue; // resolved already
            }
            let (space, local) = reader.resolver().resolve_attribute(attribute.key);
            let attribute =
                Attribute { namespace: bound(&space)?, name: self::name(local.as_ref())?, value };
            self.take(&mut element, attribute)?;
        }
        Ok(element)
    }

    fn take(&mut self, element: &mut Element, attribute: Attribute) -> Result<(), XmlError> {
        let same = |known: &Attribute| {
            known.name == attribute.name && known.namespace == attribute.namespace
        };
        if element.attributes.iter().any(same) {
            return Err(XmlError::Malformed);
        }
        let is_id = ID_NAMES.contains(&attribute.name.as_str());
        // Other readers take an attribute by its local name alone, and then it is another than ours.
        if is_id && !attribute.namespace.is_empty() {
            return Err(XmlError::Malformed);
        }
        if is_id && !self.ids.insert(attribute.value.clone()) {
            return Err(XmlError::DuplicateId);
        }
        element.attributes.push(attribute);
        Ok(())
    }

    fn close(&mut self) -> Result<(), XmlError> {
        let done = self.open.pop().ok_or(XmlError::Malformed)?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(done),
            None => self.root = Some(done),
        }
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), XmlError> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.chars().all(is_space) => {}
            None => return Err(XmlError::Trailing),
        }
        Ok(())
    }
}

fn bound(namespace: &ResolveResult<'_>) -> Result<String, XmlError> {
    match namespace {
        ResolveResult::Bound(namespace) => {
            let namespace = std::str::from_utf8(namespace.as_ref());
            Ok(namespace.map_err(|_| XmlError::Malformed)?.to_owned())
        }
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(_) => Err(XmlError::Malformed),
    }
}

/// Names of SAML are of these letters; others could be read as something else elsewhere.
fn name(name: &[u8]) -> Result<String, XmlError> {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_empty() && name.iter().all(is_letter) => Ok(text.to_owned()),
        _ => Err(XmlError::Malformed),
    }
}

fn resolved(reference: &BytesRef<'_>) -> Result<char, XmlError> {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return Some(character).filter(|c| is_character(*c)).ok_or(XmlError::Malformed);
    }
    match reference.as_ref() {
        b"lt" => Ok('<'),
        b"gt" => Ok('>'),
        b"amp" => Ok('&'),
        b"apos" => Ok('\''),
        b"quot" => Ok('"'),
        _ => Err(XmlError::Entity),
    }
}

fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), XmlError> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(encoding)) if encoding.eq_ignore_ascii_case(b"utf-8") => Ok(()),
        Some(_) => Err(XmlError::NotUtf8),
    }
}

/// `Char` of XML 1.0.
fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// `S` of XML 1.0.
/// White space of XML, and none of Unicode's other.
pub fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(document: &str) -> XmlError {
        Element::parse(document.as_bytes()).expect_err(document)
    }

    #[test]
    fn elements_attributes_and_text_are_read_as_they_are_written() {
        let document = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<a:one xmlns:a=\"urn:a\" ID='1' a:x=\"&lt;y&#10;\">\
                        <two xmlns='urn:b'> a&amp;b &#x263A; </two><a:two/></a:one>\n";
        let one = Element::parse(document.as_bytes()).unwrap();
        assert!(one.is("urn:a", "one"));
        assert_eq!((one.attribute("ID"), one.attribute("x")), (Some("1"), None));
        assert_eq!(one.text(), None, "it has children");
        assert_eq!(one.only("urn:b", "two").unwrap().text(), Some("a&b \u{263a}"));
        assert_eq!(one.only("urn:a", "two").unwrap().text(), Some(""));
        assert_eq!(one.walk().count(), 3);
    }

    #[test]
    fn a_description_may_have_comments() {
        let document = b"<!-- one --><a>b<!-- two -->c</a>";
        assert_eq!(Element::parse_commented(document).unwrap().text(), Some("bc"));
        assert_eq!(Element::parse(document).unwrap_err(), XmlError::Comment);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (document, why) in [
            ("<!DOCTYPE a><a/>", XmlError::DocumentType),
            ("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", XmlError::DocumentType),
            ("<a>&b;</a>", XmlError::Entity),
            ("<a x='&b;'/>", XmlError::Entity),
            ("<?xml version='1.0'?><?php echo?><a/>", XmlError::ProcessingInstruction),
            ("<a><?b?></a>", XmlError::ProcessingInstruction),
            ("<a>b<!-- c -->d</a>", XmlError::Comment),
            ("<a><![CDATA[b]]></a>", XmlError::CharacterData),
            ("<?xml version='1.0' encoding='UTF-16'?><a/>", XmlError::NotUtf8),
            ("<a/><a/>", XmlError::Trailing),
            ("<a/>b", XmlError::Trailing),
            ("b<a/>", XmlError::Trailing),
            ("<a ID='1'><b Id='1'/></a>", XmlError::DuplicateId),
            ("<a x='1' x='2'/>", XmlError::Malformed),
            ("<a xmlns:b='u' xmlns:c='u' b:x='1' c:x='2'/>", XmlError::Malformed),
            ("<b:a/>", XmlError::Malformed),
            ("<a x='<'/>", XmlError::Malformed),
            ("<a>]]></a>", XmlError::Malformed),
            ("<a>\u{1}</a>", XmlError::Malformed),
            ("<a>&#1;</a>", XmlError::Malformed),
            ("<\u{e4}/>", XmlError::Malformed),
            ("<a>", XmlError::Malformed),
            ("<a></b>", XmlError::Malformed),
            ("", XmlError::Malformed),
        ] {
            assert_eq!(refused(document), why, "{document}");
        }
        assert_eq!(Element::parse(b"<a>\xff</a>").unwrap_err(), XmlError::NotUtf8);
    }

    #[test]
    fn a_document_is_as_small_and_as_flat_as_an_honest_one() {
        let nested = |depth| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(Element::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(refused(&nested(MAX_DEPTH + 1)), XmlError::TooDeep);
        let wide = |count| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(Element::parse(wide(MAX_ELEMENTS - 1).as_bytes()).is_ok());
        assert_eq!(refused(&wide(MAX_ELEMENTS)), XmlError::TooMany);
        let attributes: Vec<_> = (0..=MAX_ATTRIBUTES).map(|n| format!(" x{n}='1'")).collect();
        assert_eq!(refused(&format!("<a{}/>", attributes.concat())), XmlError::TooMany);
        let long = |length: usize| format!("<a>{}</a>", "x".repeat(length - 7));
        assert!(Element::parse(long(MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(refused(&long(MAX_BYTES + 1)), XmlError::TooLarge);
    }
}

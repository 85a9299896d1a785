//! The exact form of a signature: which elements it is made of, and which attributes each has.
//!
//! What always holds: the library below reads attributes by their local name, whatever their namespace, and follows what a
//! signature refers to before it knows whose it is. So nothing reaches it that is not on this list, attributes of a
//! namespace above all: it would read `x:URI` where we read `URI`.

use super::response::SIGNATURE;
use super::xml::Element;

const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

/// An element: its namespace and name, the attributes it may have, and the elements it may hold.
struct Part {
    name: &'static str,
    attributes: &'static [&'static str],
    children: &'static [&'static str],
    holds_text: bool,
}

const fn node(
    name: &'static str,
    attributes: &'static [&'static str],
    children: &'static [&'static str],
) -> Part {
    Part { name, attributes, children, holds_text: false }
}

const fn leaf(name: &'static str, attributes: &'static [&'static str]) -> Part {
    Part { name, attributes, children: &[], holds_text: true }
}

/// The name stands in the namespace of signatures, but for the one that exclusive canonicalization has.
const INCLUSIVE: &str = "InclusiveNamespaces";
const PARTS: [Part; 24] = [
    node("Signature", &["Id"], &["SignedInfo", "SignatureValue", "KeyInfo"]),
    node("SignedInfo", &["Id"], &["CanonicalizationMethod", "SignatureMethod", "Reference"]),
    node("CanonicalizationMethod", &["Algorithm"], &[INCLUSIVE]),
    node("SignatureMethod", &["Algorithm"], &[]),
    node("Reference", &["Id", "URI"], &["Transforms", "DigestMethod", "DigestValue"]),
    node("Transforms", &[], &["Transform"]),
    node("Transform", &["Algorithm"], &[INCLUSIVE]),
    node(INCLUSIVE, &["PrefixList"], &[]),
    node("DigestMethod", &["Algorithm"], &[]),
    leaf("DigestValue", &[]),
    leaf("SignatureValue", &["Id"]),
    node("KeyInfo", &["Id"], &["KeyName", "KeyValue", "X509Data"]),
    leaf("KeyName", &[]),
    node("KeyValue", &[], &["RSAKeyValue"]),
    node("RSAKeyValue", &[], &["Modulus", "Exponent"]),
    leaf("Modulus", &[]),
    leaf("Exponent", &[]),
    node("X509Data", &[], &["X509Certificate", "X509SubjectName", "X509IssuerSerial", "X509SKI"]),
    leaf("X509Certificate", &[]),
    leaf("X509SubjectName", &[]),
    node("X509IssuerSerial", &[], &["X509IssuerName", "X509SerialNumber"]),
    leaf("X509IssuerName", &[]),
    leaf("X509SerialNumber", &[]),
    leaf("X509SKI", &[]),
];

/// Whether a signature is made of what is on the list, and of nothing else.
///
/// # Errors
/// What is wrong with it.
pub fn check(signature: &Element) -> Result<(), &'static str> {
    for element in signature.walk() {
        let part = PARTS.iter().find(|part| part.name == element.name);
        let part = part.ok_or("it holds an element that no signature needs")?;
        let namespace = if part.name == INCLUSIVE { EXCLUSIVE } else { SIGNATURE };
        if element.namespace != namespace {
            return Err("it holds an element that no signature needs");
        }
        if !element.has_no_attributes_but(part.attributes) {
            return Err("an element of it has an attribute that it needs not");
        }
        if !element.children().iter().all(|child| part.children.contains(&child.name.as_str())) {
            return Err("an element of it holds what it needs not");
        }
        if !part.holds_text && element.has_text() {
            return Err("there is text between its elements");
        }
    }
    Ok(())
}

//! The form of an answer: where its one assertion and its signatures stand, before any of them is believed.
//!
//! What always holds: a signature stands directly in the Response or in the Assertion, covers the element it stands in and
//! nothing else, by algorithms that are listed here. What is then read is not this tree, but what the signature covers.

use claviger_api::connector::saml::SamlSignatures;

use super::refusal::{Part, Refusal};
use super::signature_form;
use super::xml::Element;

/// SAML 2.0 messages.
pub const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
/// SAML 2.0 assertions.
pub const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// XML Signature.
pub const SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
/// That all went well.
pub const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
/// Longest word of the identity provider's that goes into a log.
const MAX_SAID: usize = 200;
/// What signatures are accepted by; the library is given the same.
const SIGNED_BY: [&str; 6] = [
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512",
];
const DIGESTED_BY: [&str; 3] = [
    "http://www.w3.org/2001/04/xmlenc#sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512",
];

/// What of an answer is signed, if its signatures hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The Response.
    pub response: bool,
    /// The Assertion.
    pub assertion: bool,
}

/// Whether an answer has the one form that is looked at, and what of it is signed.
///
/// # Errors
/// [`Refusal`].
pub fn check_form(response: &Element, wanted: SamlSignatures) -> Result<Signed, Refusal> {
    if !response.is(PROTOCOL, "Response") || response.attribute("Version") != Some("2.0") {
        return Err(Refusal::NotAResponse);
    }
    check_status(response)?;
    if response.walk().any(|element| element.name.starts_with("Encrypted")) {
        return Err(Refusal::Encrypted);
    }
    // Wherever it stands and of whatever namespace: somebody may want it to be taken for one.
    let assertions = response.walk().filter(|element| element.name == "Assertion").count();
    let assertion = response.only(ASSERTION, "Assertion").filter(|_| assertions == 1);
    let assertion = assertion.ok_or(Refusal::NotOneAssertion)?;
    let signed = Signed { response: is_signed(response)?, assertion: is_signed(assertion)? };
    let places = usize::from(signed.response) + usize::from(signed.assertion);
    if response.walk().filter(|element| element.name == "Signature").count() != places {
        return Err(Refusal::MisplacedSignature);
    }
    check_wanted(signed, wanted)?;
    Ok(signed)
}

/// Whether a message says that all went well.
///
/// # Errors
/// [`Refusal::Status`], or that it does not say.
pub fn check_status(response: &Element) -> Result<(), Refusal> {
    let code = |above: &Element| above.only(PROTOCOL, "StatusCode").cloned();
    let status = response.only(PROTOCOL, "Status").and_then(code);
    let status = status.ok_or(Refusal::Missing(Part::Status))?;
    let said = |code: &Element| code.attribute("Value").unwrap_or_default().to_owned();
    let first = said(&status);
    if first == SUCCESS {
        return Ok(());
    }
    let second = code(&status).map(|second| format!(", {}", said(&second))).unwrap_or_default();
    Err(Refusal::Status(shortened(&(first + &second))))
}

fn check_wanted(signed: Signed, wanted: SamlSignatures) -> Result<(), Refusal> {
    let missing = match wanted {
        SamlSignatures::Any if !signed.response && !signed.assertion => {
            "neither Response nor Assertion is signed"
        }
        SamlSignatures::Response | SamlSignatures::Both if !signed.response => {
            "the Response is not signed"
        }
        SamlSignatures::Assertion | SamlSignatures::Both if !signed.assertion => {
            "the Assertion is not signed"
        }
        _ => return Ok(()),
    };
    Err(Refusal::Unsigned(missing))
}

/// Whether an element has a signature of its own, of the one form that SAML has for it (SAML Core 5.4).
fn is_signed(element: &Element) -> Result<bool, Refusal> {
    let mut signatures = element.all(SIGNATURE, "Signature");
    let Some(signature) = signatures.next() else { return Ok(false) };
    if signatures.next().is_some() {
        return Err(Refusal::MisplacedSignature);
    }
    signature_form::check(signature).map_err(Refusal::SignatureForm)?;
    let info = signature.only(SIGNATURE, "SignedInfo");
    let info = info.ok_or(Refusal::SignatureForm("one SignedInfo is wanted"))?;
    check_signed_info(info, element.attribute("ID").unwrap_or_default())?;
    Ok(true)
}

fn check_signed_info(info: &Element, id: &str) -> Result<(), Refusal> {
    let method = |name| {
        let found = info.only(SIGNATURE, name).and_then(|method| method.attribute("Algorithm"));
        found.ok_or(Refusal::SignatureForm("it does not say its methods"))
    };
    if method("CanonicalizationMethod")? != EXCLUSIVE {
        return Err(Refusal::SignatureForm("exclusive canonicalization is wanted"));
    }
    let signed_by = method("SignatureMethod")?;
    if !SIGNED_BY.contains(&signed_by) {
        return Err(Refusal::Algorithm(shortened(signed_by)));
    }
    let reference = info.only(SIGNATURE, "Reference");
    let reference = reference.ok_or(Refusal::SignatureForm("one Reference is wanted"))?;
    let digest = reference.only(SIGNATURE, "DigestMethod");
    let digest = digest.and_then(|method| method.attribute("Algorithm")).unwrap_or_default();
    if !DIGESTED_BY.contains(&digest) {
        return Err(Refusal::Algorithm(shortened(digest)));
    }
    let transforms = reference.only(SIGNATURE, "Transforms");
    let transforms = transforms.ok_or(Refusal::SignatureForm("it has no transforms"))?;
    let names: Vec<_> = transforms
        .children()
        .iter()
        .map(|transform| transform.attribute("Algorithm").unwrap_or_default())
        .collect();
    if names != [ENVELOPED, EXCLUSIVE] {
        return Err(Refusal::SignatureForm("enveloped and exclusive are the only transforms"));
    }
    let covers = reference.attribute("URI").and_then(|uri| uri.strip_prefix('#'));
    if id.is_empty() || covers != Some(id) {
        return Err(Refusal::WrongReference);
    }
    Ok(())
}

/// So much of what was said as a log takes.
pub fn shortened(said: &str) -> String {
    said[..said.floor_char_boundary(MAX_SAID)].to_owned()
}

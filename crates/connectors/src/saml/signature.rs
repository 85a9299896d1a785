//! XML signatures: the only place that hands bytes to libxml2 and xmlsec1.
//!
//! What always holds: only a document that [`super::xml`] has read and [`super::response`] has found in form comes here, with
//! at least one certificate; every signature in it must verify; what is given back is what was digested, byte by byte. The
//! library leaves xmlsec1's callbacks for files and URLs in place, and only unsafe code could take them away: nothing asks
//! them, for [`super::signature_form`] lets no element pass that names a place, and a Reference but to the ID of its own element.

use samael::crypto::{
    AllowedSignatureAlgorithm, CertificateDer, Crypto, CryptoProvider, ReduceMode,
};

use super::refusal::Refusal;

/// As [`super::response`] lists them; without such a list the library takes whatever xmlsec1 knows.
const ALLOWED: [AllowedSignatureAlgorithm; 6] = [
    AllowedSignatureAlgorithm::RsaSha256,
    AllowedSignatureAlgorithm::RsaSha384,
    AllowedSignatureAlgorithm::RsaSha512,
    AllowedSignatureAlgorithm::EcdsaSha256,
    AllowedSignatureAlgorithm::EcdsaSha384,
    AllowedSignatureAlgorithm::EcdsaSha512,
];

/// What the signatures of a document cover: the Response where that is signed, else the Assertion.
///
/// # Errors
/// [`Refusal::BadSignature`].
pub fn covered(document: &str, certificates: &[Vec<u8>]) -> Result<String, Refusal> {
    // Without one the library would take what nobody signed.
    if certificates.is_empty() {
        return Err(Refusal::BadSignature);
    }
    let certificates: Vec<_> = certificates.iter().cloned().map(CertificateDer::from).collect();
    // The library gives up at a certificate whose key is of another kind than the signature's: alone, the right one is
    // not behind it.
    let several = if certificates.len() > 1 { &certificates[..] } else { &[] };
    let alone = several.iter().map(std::slice::from_ref);
    let mut tries = std::iter::once(&certificates[..]).chain(alone);
    tries.find_map(|certificates| reduced(document, certificates)).ok_or(Refusal::BadSignature)
}

fn reduced(document: &str, certificates: &[CertificateDer]) -> Option<String> {
    let (mode, allowed) = (ReduceMode::PreDigest, Some(&ALLOWED[..]));
    Crypto::reduce_xml_to_signed_with_allowed_algorithms(document, certificates, mode, allowed).ok()
}

/// What a message of ours has in it for [`sign`] to fill in: RSA with SHA-256, over the element of this ID. The library's
/// own template digests by SHA-1.
pub fn template(id: &str) -> String {
    format!(
        "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo>\
         <ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>\
         <ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\"/>\
         <ds:Reference URI=\"#{id}\"><ds:Transforms>\
         <ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>\
         <ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>\
         </ds:Transforms><ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/>\
         <ds:DigestValue></ds:DigestValue></ds:Reference></ds:SignedInfo>\
         <ds:SignatureValue></ds:SignatureValue></ds:Signature>"
    )
}

/// Fills a message's signature in, by a private key in DER.
///
/// # Errors
/// What the library says.
pub fn sign(message: &str, key: &[u8]) -> Result<String, String> {
    Crypto::sign_xml(message, key).map_err(|error| format!("failed to sign the request: {error}"))
}

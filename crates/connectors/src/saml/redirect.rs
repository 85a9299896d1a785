//! The HTTP-Redirect binding (SAML Bindings 3.4): a message in a query, deflated, and signed over the query's text.
//!
//! What always holds: what is verified is the text as it came, of the three parameters in the order of the specification, whatever
//! stands around them; a message is inflated only once it is verified, and only so far.

use std::io::{Read, Write};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_FIXED,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use data_encoding::BASE64;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::refusal::Refusal;
use super::request::{RELAY_STATE, SigningKey};
use super::response::shortened;
use super::xml::XmlError;

const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
const REQUEST: &str = "SAMLRequest";
const RESPONSE: &str = "SAMLResponse";
const ALGORITHM: &str = "SigAlg";
const SIGNATURE: &str = "Signature";
/// Longest query that is read, in bytes: honest ones have two thousand.
const MAX_QUERY: usize = 32 * 1024;
/// Longest message about signing out, inflated, in bytes: honest ones have one thousand.
const MAX_MESSAGE: u64 = 64 * 1024;
/// Longest `RelayState` that is given back, in bytes: SAML Bindings 3.4.3 has 80, and providers more.
const MAX_RELAY_STATE: usize = 1_024;

/// Which of the two a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `SAMLRequest`.
    Request,
    /// `SAMLResponse`.
    Response,
}

impl Kind {
    fn parameter(self) -> &'static str {
        match self {
            Self::Request => REQUEST,
            Self::Response => RESPONSE,
        }
    }
}

/// Where a browser brings a message.
///
/// # Errors
/// It could not be signed.
pub fn location(
    to: &Url,
    (kind, message): (Kind, &str),
    relay_state: Option<&str>,
    key: Option<&SigningKey>,
) -> Result<String, String> {
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
    let written = deflated.write_all(message.as_bytes()).and_then(|()| deflated.finish());
    let message = BASE64.encode(&written.map_err(|error| error.to_string())?);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(kind.parameter(), &message);
    if let Some(relay_state) = relay_state {
        query.append_pair(RELAY_STATE, relay_state);
    }
    if key.is_some() {
        query.append_pair(ALGORITHM, RSA_SHA256);
    }
    let mut query = query.finish();
    if let Some(key) = key {
        // SAML Bindings 3.4.4.1: over the very text of the parameters.
        let signature = key.sign(&query)?;
        let more = form_urlencoded::Serializer::new(String::new())
            .append_pair(SIGNATURE, &signature)
            .finish();
        query = format!("{query}&{more}");
    }
    let mut url = to.clone();
    let query = url.query().map_or_else(|| query.clone(), |own| format!("{own}&{query}"));
    url.set_query(Some(&query));
    Ok(url.into())
}

/// A message as a browser brought it. Nothing of it is believed before [`verify`](Self::verify).
#[derive(Debug)]
pub struct Received<'q> {
    /// Which it says it is.
    pub kind: Kind,
    message: &'q str,
    relay_state: Option<&'q str>,
    algorithm: &'q str,
    signature: Vec<u8>,
}

impl<'q> Received<'q> {
    /// Takes a query apart, as it came.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn of(query: &'q str) -> Result<Self, Refusal> {
        if query.len() > MAX_QUERY {
            return Err(XmlError::TooLarge.into());
        }
        let one = |name: &str| {
            let mut values = query.split('&').filter_map(|pair| {
                pair.split_once('=').filter(|(known, _)| *known == name).map(|(_, value)| value)
            });
            let first = values.next();
            if values.next().is_some() { Err(Refusal::DuplicateParameter) } else { Ok(first) }
        };
        let (kind, message) = match (one(REQUEST)?, one(RESPONSE)?) {
            (Some(message), None) => (Kind::Request, message),
            (None, Some(message)) => (Kind::Response, message),
            (None, None) => return Err(Refusal::NoMessage),
            (Some(_), Some(_)) => return Err(Refusal::TwoMessages),
        };
        let unsigned = || Refusal::Unsigned("the query is not signed");
        let (algorithm, signature) = (one(ALGORITHM)?, one(SIGNATURE)?);
        let (algorithm, signature) = algorithm.zip(signature).ok_or_else(unsigned)?;
        let signature = decoded(signature)?;
        if signature.is_empty() {
            return Err(unsigned());
        }
        Ok(Self { kind, message, relay_state: one(RELAY_STATE)?, algorithm, signature })
    }

    /// Whether a key of one of these certificates signed it.
    ///
    /// # Errors
    /// [`Refusal::Algorithm`], [`Refusal::BadSignature`].
    pub fn verify(&self, certificates: &[Vec<u8>]) -> Result<(), Refusal> {
        let algorithms = algorithms(&text(self.algorithm)?)?;
        let relay_state = self.relay_state.map(|said| format!("&{RELAY_STATE}={said}"));
        let signed = format!(
            "{}={}{}&{ALGORITHM}={}",
            self.kind.parameter(),
            self.message,
            relay_state.unwrap_or_default(),
            self.algorithm
        );
        let is_by = |certificate: &Vec<u8>| {
            let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
            let key = &certificate.tbs_certificate.subject_pki.subject_public_key.data;
            algorithms.iter().any(|algorithm| {
                let key = UnparsedPublicKey::new(*algorithm, key);
                key.verify(signed.as_bytes(), &self.signature).is_ok()
            })
        };
        let is_good = certificates.iter().any(is_by);
        is_good.then_some(()).ok_or(Refusal::BadSignature)
    }

    /// What to give back with an answer, unchanged.
    ///
    /// # Errors
    /// [`Refusal`]: it is too long, or no text.
    pub fn relay_state(&self) -> Result<Option<String>, Refusal> {
        let said = self.relay_state.map(text).transpose()?.filter(|said| !said.is_empty());
        if said.as_ref().is_some_and(|said| said.len() > MAX_RELAY_STATE) {
            return Err(XmlError::TooLarge.into());
        }
        Ok(said)
    }

    /// The document, of a message that is verified.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn document(&self) -> Result<Vec<u8>, Refusal> {
        let deflated = decoded(self.message)?;
        let mut document = Vec::new();
        let mut inflating = DeflateDecoder::new(&deflated[..]).take(MAX_MESSAGE + 1);
        inflating.read_to_end(&mut document).map_err(|_| Refusal::NotDeflated)?;
        if document.len() as u64 > MAX_MESSAGE {
            return Err(XmlError::TooLarge.into());
        }
        Ok(document)
    }
}

/// By what a signature of this name is verified. ECDSA's are of either form: XML's, two numbers, or that of most libraries.
fn algorithms(named: &str) -> Result<Vec<&'static dyn VerificationAlgorithm>, Refusal> {
    let name = named.strip_prefix("http://www.w3.org/2001/04/xmldsig-more#").unwrap_or_default();
    Ok(match name {
        "rsa-sha256" => vec![&RSA_PKCS1_2048_8192_SHA256],
        "rsa-sha384" => vec![&RSA_PKCS1_2048_8192_SHA384],
        "rsa-sha512" => vec![&RSA_PKCS1_2048_8192_SHA512],
        "ecdsa-sha256" => vec![&ECDSA_P256_SHA256_FIXED, &ECDSA_P256_SHA256_ASN1],
        "ecdsa-sha384" => vec![&ECDSA_P384_SHA384_FIXED, &ECDSA_P384_SHA384_ASN1],
        "ecdsa-sha512" => vec![&ECDSA_P521_SHA512_FIXED, &ECDSA_P521_SHA512_ASN1],
        _ => return Err(Refusal::Algorithm(shortened(named))),
    })
}

/// A value as text: `+` is a space, `%XX` a byte.
fn text(value: &str) -> Result<String, Refusal> {
    let spaced = value.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| XmlError::NotUtf8)?;
    Ok(decoded.into_owned())
}

/// A value that is base64. Some put line breaks into it.
fn decoded(value: &str) -> Result<Vec<u8>, Refusal> {
    // What is base64 has no spaces: whoever did not escape its plus signs meant them.
    let plain = percent_decode_str(value).decode_utf8().map_err(|_| Refusal::NotBase64)?;
    let plain: String = plain.split_ascii_whitespace().collect();
    BASE64.decode(plain.as_bytes()).map_err(|_| Refusal::NotBase64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(length: usize) -> Result<Vec<u8>, Refusal> {
        let place = Url::parse("https://idp.example.com/slo").unwrap();
        let message = " ".repeat(length);
        let brought = location(&place, (Kind::Request, &message), None, None).unwrap();
        let (_, query) = brought.split_once('?').unwrap();
        Received::of(&format!("{query}&SigAlg=x&Signature=AAAA"))?.document()
    }

    #[test]
    fn a_message_is_inflated_to_64_kib_and_no_further() {
        assert_eq!(document(65_536).unwrap().len(), 65_536);
        for length in [65_537, 10_000_000] {
            assert!(matches!(document(length), Err(Refusal::Xml(XmlError::TooLarge))), "{length}");
        }
    }
}

//! What an identity provider says of sign-outs: an honest request whose every part a test can change before it is signed.

use std::io::Write;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding,
};
use data_encoding::BASE64;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use url::form_urlencoded::byte_serialize;

use crate::answers::{IDP, time};
use crate::fixture::NOW;
use crate::signer::{RSA_SHA256, Signer};

/// A message. Parts are XML, or values of attributes.
#[derive(Debug, Clone)]
pub struct Notice {
    pub name: &'static str,
    pub attributes: String,
    pub issued: i64,
    pub destination: String,
    pub issuer: String,
    pub body: String,
}

/// The user, as sign-ins name them.
pub const ALICE: &str = "<saml:NameID Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\">alice@corp</saml:NameID>";

impl Notice {
    /// An honest request.
    pub fn request(callback: &str) -> Self {
        Self {
            name: "LogoutRequest",
            attributes: format!(" NotOnOrAfter=\"{}\"", time(NOW + 60)),
            issued: NOW,
            destination: format!("{callback}/logout"),
            issuer: IDP.into(),
            body: format!("{ALICE}<samlp:SessionIndex>s1</samlp:SessionIndex>"),
        }
    }

    /// An honest answer of this status.
    pub fn response(callback: &str, status: &str) -> Self {
        Self {
            name: "LogoutResponse",
            attributes: " InResponseTo=\"_ours\"".into(),
            body: format!("<samlp:Status>{status}</samlp:Status>"),
            ..Self::request(callback)
        }
    }

    pub fn xml(&self) -> String {
        let Self { name, attributes, destination, issuer, body, .. } = self;
        format!(
            "<samlp:{name} xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
             xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_theirs\" Version=\"2.0\" IssueInstant=\"{}\" \
             Destination=\"{destination}\"{attributes}><saml:Issuer>{issuer}</saml:Issuer>{body}</samlp:{name}>",
            time(self.issued),
        )
    }

    fn parameter(&self) -> &'static str {
        if self.name == "LogoutRequest" { "SAMLRequest" } else { "SAMLResponse" }
    }

    /// Its query, signed by the provider.
    pub fn query(&self) -> String {
        self.signed_by(&|text| rsa(Signer::honest(), text))
    }

    pub fn signed_by(&self, sign: &dyn Fn(&str) -> Vec<u8>) -> String {
        signed(&parameters(self.parameter(), self.xml().as_bytes(), Some("as it was &=")), sign)
    }
}

/// What is signed of a query: the message, deflated, and the rest.
pub fn parameters(parameter: &str, document: &[u8], relay_state: Option<&str>) -> String {
    named(parameter, &deflated(document), relay_state, RSA_SHA256)
}

pub fn named(
    parameter: &str,
    message: &[u8],
    relay_state: Option<&str>,
    algorithm: &str,
) -> String {
    let state = relay_state.map(|state| format!("&RelayState={}", escaped(state.as_bytes())));
    let message = escaped(BASE64.encode(message).as_bytes());
    let algorithm = escaped(algorithm.as_bytes());
    format!("{parameter}={message}{}&SigAlg={algorithm}", state.unwrap_or_default())
}

/// A query of these parameters, and the signature over their text.
pub fn signed(parameters: &str, sign: &dyn Fn(&str) -> Vec<u8>) -> String {
    let signature = BASE64.encode(&sign(parameters));
    format!("{parameters}&Signature={}", escaped(signature.as_bytes()))
}

pub fn deflated(document: &[u8]) -> Vec<u8> {
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::best());
    deflated.write_all(document).unwrap();
    deflated.finish().unwrap()
}

fn escaped(value: &[u8]) -> String {
    byte_serialize(value).collect()
}

pub fn rsa(signer: &Signer, text: &str) -> Vec<u8> {
    rsa_by(signer, text, &RSA_PKCS1_SHA256)
}

pub fn rsa_512(signer: &Signer, text: &str) -> Vec<u8> {
    rsa_by(signer, text, &RSA_PKCS1_SHA512)
}

fn rsa_by(signer: &Signer, text: &str, how: &'static dyn RsaEncoding) -> Vec<u8> {
    let pair = KeyPair::from_pkcs8(&der(signer)).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(how, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    signature
}

/// By an elliptic curve, in XML's form or that of most libraries.
pub fn ecdsa(signer: &Signer, text: &str, fixed: bool) -> Vec<u8> {
    let how: &'static EcdsaSigningAlgorithm =
        if fixed { &ECDSA_P256_SHA256_FIXED_SIGNING } else { &ECDSA_P256_SHA256_ASN1_SIGNING };
    let pair = EcdsaKeyPair::from_pkcs8(how, &der(signer)).unwrap();
    pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
}

fn der(signer: &Signer) -> Vec<u8> {
    let body: String = signer.key_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(body.as_bytes()).unwrap()
}

//! A key and its certificate, as identity providers have them, and what they sign.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use data_encoding::BASE64;
use samael::crypto::{Crypto, CryptoProvider};

/// RSA with SHA-256.
pub const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
/// SHA-256.
pub const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";

/// What signs.
#[derive(Debug)]
pub struct Signer {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl Signer {
    /// Makes one of this kind of key, as `openssl req` names it.
    pub fn create(kind: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("openssl")
            .current_dir(folder.path())
            .args(["req", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=idp"])
            .args(["-keyout", "key.pem", "-out", "certificate.pem"])
            .args(kind)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read = |name: &str| std::fs::read_to_string(Path::new(folder.path()).join(name));
        Self {
            certificate_pem: read("certificate.pem").unwrap(),
            key_pem: read("key.pem").unwrap(),
        }
    }

    /// The identity provider's.
    pub fn honest() -> &'static Self {
        static MADE: OnceLock<Signer> = OnceLock::new();
        MADE.get_or_init(|| Self::create(&["-newkey", "rsa:2048"]))
    }

    /// Somebody else's.
    pub fn foreign() -> &'static Self {
        static MADE: OnceLock<Signer> = OnceLock::new();
        MADE.get_or_init(|| Self::create(&["-newkey", "rsa:2048"]))
    }

    /// Fills the first empty signature of a document in.
    pub fn sign(&self, document: &str) -> String {
        let body: String = self.key_pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let key = BASE64.decode(body.as_bytes()).unwrap();
        let signed = Crypto::sign_xml(document, &key).unwrap();
        signed.trim_start_matches("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").trim().to_owned()
    }
}

/// An empty signature over the element of this ID.
pub fn template(id: &str, signed_by: &str, digested_by: &str) -> String {
    format!(
        "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo>\
         <ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>\
         <ds:SignatureMethod Algorithm=\"{signed_by}\"/>\
         <ds:Reference URI=\"#{id}\"><ds:Transforms>\
         <ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>\
         <ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"{digested_by}\"/><ds:DigestValue></ds:DigestValue>\
         </ds:Reference></ds:SignedInfo><ds:SignatureValue></ds:SignatureValue></ds:Signature>"
    )
}

//! What makes a connector, and what does not.

use claviger_api::Reason;
use serde_json::{Value, json};

use crate::answers::{self, IDP};
use crate::fixture::upstream;
use crate::signer::Signer;

type Change = fn(String) -> String;

fn refused(change: &Value) -> String {
    let error = upstream(change).map(drop).unwrap_err();
    assert!(matches!(error.reason(), Reason::InvalidSpec | Reason::SecretInvalid), "{error}");
    error.to_string()
}

fn metadata(change: impl FnOnce(String) -> String) -> Value {
    json!({"identityProvider": null, "metadata": change(answers::metadata(Signer::honest()))})
}

#[test]
fn a_provider_without_a_certificate_is_none() {
    let by_hand = |certificates: &str| {
        json!({"identityProvider": {
            "entityID": IDP, "ssoURL": "https://idp.example.com/sso", "certificates": certificates,
        }})
    };
    let said = refused(&by_hand("-----BEGIN NOTHING-----"));
    assert!(said.contains("no certificate in PEM form"), "{said}");
    let without = metadata(|document| document.replace("use=\"signing\"", "use=\"encryption\""));
    let said = refused(&without);
    assert!(said.contains("without one no answer can be believed"), "{said}");
    let nine = Signer::honest().certificate_pem.repeat(9);
    assert!(refused(&by_hand(&nine)).contains("more than 8"), "each may be tried");
}

#[test]
fn metadata_that_describes_no_provider_is_refused_in_words() {
    assert!(upstream(&metadata(|document| document)).is_ok());
    let cases: [(Change, &str); 7] = [
        (|d| d.replace("EntityDescriptor", "EntitiesDescriptor"), "no EntityDescriptor"),
        (|d| d.replace("IDPSSODescriptor", "SPSSODescriptor"), "no identity provider"),
        (|d| d.replace("SAML:2.0:protocol", "SAML:1.1:protocol"), "no identity provider"),
        (|d| d.replace("https://idp", "http://idp"), "is not https"),
        (|d| d.replace("HTTP-POST", "SOAP"), "no single sign-on service"),
        (|d| format!("<!DOCTYPE x>{d}"), "document type"),
        (
            |d| d.replace("<md:IDPSSODescriptor ", "<md:IDPSSODescriptor validUntil=\"soon\" "),
            "no time",
        ),
    ];
    for (change, said) in cases {
        let why = refused(&metadata(change));
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn keys_are_what_they_are_for() {
    let signing = |key: &str| json!({"signing": {"keySecretRef": {"name": "corp", "key": key}}});
    assert!(upstream(&signing("tls.key")).is_ok());
    for wrong in ["tls.crt", "nothing"] {
        let said = refused(&signing(wrong));
        assert!(said.contains("the key that signs requests"), "{said}");
    }
    let certificates = |key: &str| {
        json!({"identityProvider": {
            "entityID": IDP, "ssoURL": "https://idp.example.com/sso",
            "certificatesSecretRef": {"name": "corp", "key": key},
        }})
    };
    assert!(upstream(&certificates("idp.crt")).is_ok());
    assert!(refused(&certificates("nothing")).contains("identityProvider"));
}

//! Our requests, and what we say of ourselves.

use std::io::Read;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use claviger_domain::trip::callback_of;
use claviger_protocol::response_type::Delivery;
use data_encoding::BASE64;
use flate2::read::DeflateDecoder;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use samael::crypto::{Crypto, CryptoProvider, ReduceMode};
use serde_json::{Value, json};

use crate::answers::{IDP, time};
use crate::fixture::{NOW, Service};
use crate::signer::Signer;

fn signing() -> Value {
    let at = |key: &str| json!({"name": "corp", "key": key});
    json!({"keySecretRef": at("tls.key"), "certificateSecretRef": at("tls.crt")})
}

async fn location(service: &Service) -> url::Url {
    match service.login().depart(&service.trip()).await.unwrap() {
        Delivery::Redirect(location) => location.parse().unwrap(),
        other @ Delivery::Post { .. } => panic!("{other:?}"),
    }
}

fn parameter(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn inflated(url: &url::Url) -> String {
    let deflated = BASE64.decode(parameter(url, "SAMLRequest").unwrap().as_bytes()).unwrap();
    let mut message = String::new();
    DeflateDecoder::new(&deflated[..]).read_to_string(&mut message).unwrap();
    message
}

#[tokio::test]
async fn a_request_says_what_its_answer_must_say_again() {
    let mut service = Service::of(&json!({}));
    let url = location(&service).await;
    assert!(url.as_str().starts_with("https://idp.example.com/sso?SAMLRequest="), "{url}");
    let (id, callback) = (service.trip().request_id(), service.trip().callback);
    assert!(id.len() >= 44, "256 bits: {id}");
    assert_eq!(parameter(&url, "RelayState").as_deref(), Some(service.trip().state));
    assert_eq!(parameter(&url, "Signature"), None);
    let message = inflated(&url);
    for part in [
        format!("ID=\"{id}\" Version=\"2.0\" IssueInstant=\"{}\"", time(NOW)),
        format!("AssertionConsumerServiceURL=\"{callback}\""),
        format!("<saml:Issuer>{callback}</saml:Issuer>"),
        "Destination=\"https://idp.example.com/sso\"".into(),
        "Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\"".into(),
    ] {
        assert!(message.contains(&part), "no {part} in {message}");
    }
    assert!(!message.contains("ForceAuthn") && !message.contains("RequestedAuthnContext"));
    service.change_flow(|flow| flow.must_authenticate = true);
    assert!(inflated(&location(&service).await).contains("ForceAuthn=\"true\""));
}

#[tokio::test]
async fn what_the_administrator_says_is_asked_for_and_nothing_of_it_is_markup() {
    let service = Service::of(&json!({
        "entityID": "urn:x:\"<&>", "nameIDFormat": "Transient", "attributes": {"userID": "uid"},
        "requestedAuthnContexts": ["urn:example:mfa", "urn:example:<card>"],
    }));
    let message = inflated(&location(&service).await);
    for part in [
        "<saml:Issuer>urn:x:&quot;&lt;&amp;&gt;</saml:Issuer>",
        "nameid-format:transient",
        "Comparison=\"exact\"><saml:AuthnContextClassRef>urn:example:mfa</saml:AuthnContextClassRef>",
        "<saml:AuthnContextClassRef>urn:example:&lt;card&gt;</saml:AuthnContextClassRef>",
    ] {
        assert!(message.contains(part), "no {part} in {message}");
    }
}

#[tokio::test]
async fn a_redirect_is_signed_over_the_text_of_its_query() {
    let service = Service::of(&json!({"signing": signing()}));
    let url = location(&service).await;
    let query = url.query().unwrap();
    let (message, signature) = query.split_once("&Signature=").unwrap();
    assert!(message.contains("&RelayState=") && message.contains("&SigAlg="), "{message}");
    assert!(!signature.contains('&'));
    let signature = BASE64.decode(parameter(&url, "Signature").unwrap().as_bytes()).unwrap();
    let key = aws_lc_rs::rsa::KeyPair::from_pkcs8(&der(&Signer::foreign().key_pem)).unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&key);
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    public.verify(message.as_bytes(), &signature).unwrap();
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(body.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_form_is_signed_in_its_xml() {
    let service = Service::of(&json!({"signing": signing(), "requestBinding": "Post"}));
    let Delivery::Post { action, fields } = service.login().depart(&service.trip()).await.unwrap()
    else {
        panic!("no form")
    };
    assert_eq!(action, "https://idp.example.com/sso");
    let field = |name: &str| &fields.iter().find(|(field, _)| *field == name).unwrap().1;
    assert_eq!(field("RelayState"), service.trip().state);
    let message = BASE64.decode(field("SAMLRequest").as_bytes()).unwrap();
    let message = String::from_utf8(message).unwrap();
    let certificate =
        CertificateDer::from_pem_slice(Signer::foreign().certificate_pem.as_bytes()).unwrap();
    let certificates = [certificate.to_vec().into()];
    let covered =
        Crypto::reduce_xml_to_signed(&message, &certificates, ReduceMode::PreDigest).unwrap();
    assert!(covered.contains(&service.trip().request_id()), "{covered}");
    assert!(message.contains("xmlenc#sha256") && !message.contains("xmldsig#sha1"), "{message}");
}

#[tokio::test]
async fn our_metadata_says_where_answers_go_and_by_which_key_requests_are_signed() {
    let service = Service::of(&json!({"signing": signing(), "signatures": "Both"}));
    let callback = service.trip().callback;
    assert!(callback.ends_with("/callback/local"), "{callback}");
    let description = service.login().description(&callback).unwrap();
    assert_eq!(description.media_type, "application/samlmetadata+xml");
    for part in [
        format!("entityID=\"{callback}\""),
        format!("bindings:HTTP-POST\" Location=\"{callback}\""),
        "AuthnRequestsSigned=\"true\" WantAssertionsSigned=\"true\"".into(),
        BASE64.encode(&der(&Signer::foreign().certificate_pem)),
    ] {
        assert!(description.body.contains(&part), "no {part} in {}", description.body);
    }
    let world = claviger_domain::fakes::World::new();
    let plain = Service::of(&json!({"entityID": "urn:example:us"}));
    let body = plain.login().description(&callback_of(&world.issuer, "corp")).unwrap().body;
    assert!(body.contains("entityID=\"urn:example:us\"") && !body.contains("KeyDescriptor"));
    assert!(!body.contains(IDP));
}

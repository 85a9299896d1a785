//! Our messages about signing out: what they say, what is kept for them, and where there are none.

use std::collections::BTreeMap;
use std::io::Read;

use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use claviger_domain::connector::{ConnectorData, Leaving};
use data_encoding::BASE64;
use flate2::read::DeflateDecoder;
use serde_json::{Value, json};
use url::Url;

use crate::answers::{Answer, IDP, metadata, time};
use crate::fixture::{NOW, Service};
use crate::logout_notice::{asked, here, service};
use crate::notice::Notice;
use crate::signer::Signer;

async fn location(service: &Service, data: Option<&ConnectorData>) -> Option<Url> {
    let leaving = Leaving {
        return_to: "https://id.example.org/logout?client_id=web",
        callback: service.trip().callback,
        data,
        id: "drawn".into(),
        now: NOW,
    };
    let found = service.built.sign_out.as_ref()?.location(&leaving).await?;
    Some(found.parse().unwrap())
}

/// What a query says, once its signature by our key is good.
fn said(url: &Url, parameter: &str) -> (String, BTreeMap<String, String>) {
    let query = url.query().unwrap();
    let from = query.find(parameter).unwrap();
    let (signed, _) = query[from..].split_once("&Signature=").unwrap();
    let parameters: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    let signature = BASE64.decode(parameters["Signature"].as_bytes()).unwrap();
    let key: String =
        Signer::foreign().key_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = BASE64.decode(key.as_bytes()).unwrap();
    let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(&key).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key());
    public.verify(signed.as_bytes(), &signature).unwrap();
    let deflated = BASE64.decode(parameters[parameter].as_bytes()).unwrap();
    let mut message = String::new();
    DeflateDecoder::new(&deflated[..]).read_to_string(&mut message).unwrap();
    (message, parameters)
}

#[tokio::test]
async fn a_user_signs_out_there_by_the_name_and_the_session_that_the_sign_in_had() {
    let service = service(&json!({}));
    let callback = service.trip().callback;
    let name_id = format!(
        "<saml:NameID Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\" \
         NameQualifier=\"{IDP}\" SPNameQualifier=\"{callback}\">a&lt;b&amp;</saml:NameID>"
    );
    let answer = Answer { name_id: name_id.clone(), ..service.answer() };
    let arrival = service.arrive(&answer.signed()).await.unwrap();
    let url = location(&service, arrival.sign_out.as_ref()).await.unwrap();
    assert!(url.as_str().starts_with("https://idp.example.com/slo?tenant=7&SAMLRequest="), "{url}");
    let (message, parameters) = said(&url, "SAMLRequest");
    assert!(!parameters.contains_key("RelayState"), "the browser's ticket has the way back");
    for part in [
        "ID=\"_drawn\" Version=\"2.0\"".to_owned(),
        format!("IssueInstant=\"{}\"", time(NOW)),
        format!("NotOnOrAfter=\"{}\"", time(NOW + 300)),
        "Destination=\"https://idp.example.com/slo?tenant=7\"".into(),
        format!("<saml:Issuer>{callback}</saml:Issuer>{name_id}"),
        "<samlp:SessionIndex>s1</samlp:SessionIndex>".into(),
    ] {
        assert!(message.contains(&part), "no {part} in {message}");
    }
    let known = arrival.authenticated.data.as_ref();
    assert_eq!(service.login().session_there(known).as_deref(), Some("s1"));
    assert_eq!(service.login().session_there(None), None);
    assert_eq!(location(&service, None).await, None, "nobody is signed out by an ID token alone");
    let forged = ConnectorData(b"{}".to_vec());
    assert_eq!(location(&service, Some(&forged)).await, None);
}

#[tokio::test]
async fn an_answer_to_the_provider_says_what_was_done_and_gives_back_what_came() {
    let service = service(&json!({"entityID": "urn:example:us"}));
    let request = asked(&service, &Notice::request(&service.trip().callback).query()).await;
    for (done, status) in [(true, "Success"), (false, "Responder")] {
        let login = service.login();
        let answer = login.single_logout().unwrap().answer(&request, done, &here(&service)).await;
        let url: Url = answer.unwrap().parse().unwrap();
        let (message, parameters) = said(&url, "SAMLResponse");
        assert_eq!(parameters["RelayState"], "as it was &=");
        for part in [
            "InResponseTo=\"_theirs\"",
            "Destination=\"https://idp.example.com/slo?tenant=7\"",
            "<saml:Issuer>urn:example:us</saml:Issuer>",
            &format!("<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:{status}\"/>"),
        ] {
            assert!(message.contains(part), "no {part} in {message}");
        }
    }
}

#[tokio::test]
async fn what_is_too_long_to_carry_is_not_kept_and_a_user_signs_in_all_the_same() {
    let service = service(&json!({}));
    let long = |length: usize| {
        let name_id = service.answer().name_id.replace("alice@corp", &"x".repeat(length));
        Answer { name_id, ..service.answer() }.signed()
    };
    assert!(service.arrive(&long(500)).await.unwrap().sign_out.is_some());
    assert_eq!(service.arrive(&long(800)).await.unwrap().sign_out, None);
    let statement = service.answer().statement.replace("s1", &"s".repeat(257));
    let answer = Answer { statement, ..service.answer() };
    assert_eq!(service.arrive(&answer.signed()).await.unwrap().authenticated.data, None);
}

fn with_metadata(services: &str) -> Value {
    let document = metadata(Signer::honest())
        .replace("<md:SingleSignOnService", &format!("{services}<md:SingleSignOnService"));
    json!({"identityProvider": null, "metadata": document})
}

#[tokio::test]
async fn signing_out_there_needs_an_address_by_redirect_and_our_key() {
    let by = |binding: &str, rest: &str| {
        format!(
            "<md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:{binding}\" {rest}/>"
        )
    };
    let place = "Location=\"https://idp.example.com/out\"";
    let two = "Location=\"https://idp.example.com/out\" ResponseLocation=\"https://idp.example.com/back\"";
    let good = service(&with_metadata(&by("HTTP-Redirect", two)));
    let request = asked(&good, &Notice::request(&good.trip().callback).query()).await;
    let login = good.login();
    let answer = login.single_logout().unwrap().answer(&request, true, &here(&good)).await.unwrap();
    assert!(answer.starts_with("https://idp.example.com/back?SAMLResponse="), "{answer}");
    let kept = good.arrive(&good.answer().signed()).await.unwrap().sign_out;
    let there = location(&good, kept.as_ref()).await.unwrap();
    assert!(there.as_str().starts_with("https://idp.example.com/out?SAMLRequest="), "{there}");
    for (what, without) in [
        ("an address by POST", with_metadata(&by("HTTP-POST", place))),
        ("an address by SOAP", with_metadata(&by("SOAP", place))),
        (
            "an address without TLS",
            with_metadata(&by("HTTP-Redirect", &place.replace("https", "http"))),
        ),
        ("no address", with_metadata("")),
        ("no key", json!({"signing": null})),
    ] {
        let service = service(&without);
        assert!(service.built.sign_out.is_none(), "{what}");
        let arrival = service.arrive(&service.answer().signed()).await.unwrap();
        assert_eq!((arrival.sign_out, arrival.authenticated.data), (None, None), "{what}");
        let description = service.login().description("https://id.example.org/callback/corp");
        assert!(!description.unwrap().body.contains("SingleLogoutService"), "{what}");
    }
    let ours = good.login().description("https://id.example.org/callback/corp").unwrap().body;
    let part = "<md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
                Location=\"https://id.example.org/callback/corp/logout\"/><md:NameIDFormat>";
    assert!(ours.contains(part), "{ours}");
}

#[tokio::test]
async fn the_provider_sends_no_sign_outs_of_users_who_are_known_by_an_attribute() {
    let callback = "https://id.example.org/callback/corp";
    let described = |service: &Service| service.login().description(callback).unwrap().body;
    assert!(described(&service(&json!({}))).contains("SingleLogoutService"), "by their NameID");
    let by_attribute = service(&json!({"attributes": {"userID": "uid"}}));
    let document = described(&by_attribute);
    assert!(!document.contains("SingleLogoutService"), "{document}");
    assert!(by_attribute.built.sign_out.is_some(), "they sign out there all the same");
}

#[tokio::test]
async fn who_signed_in_at_one_provider_is_named_to_no_other() {
    let ours = service(&json!({}));
    let arrival = ours.arrive(&ours.answer().signed()).await.unwrap();
    assert!(location(&ours, arrival.sign_out.as_ref()).await.is_some());
    let another = service(&json!({"identityProvider": {
        "entityID": format!("{IDP}/other"), "ssoURL": "https://idp.example.com/sso",
        "sloURL": "https://idp.example.com/slo?tenant=7",
        "certificates": Signer::honest().certificate_pem,
    }}));
    assert!(another.built.sign_out.is_some());
    assert_eq!(location(&another, arrival.sign_out.as_ref()).await, None);
}

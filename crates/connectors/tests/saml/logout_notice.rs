//! Messages about signing out that a browser brings from the provider: each hostile one is refused, by name. The table stands in
//! `docs/saml.md` as this test prints it.

use std::fmt::Write as _;

use claviger_domain::single_logout::{Asked, Here, Message};
use claviger_domain::upstream_logout::{NoticeError, SignedOutThere};
use serde_json::{Value, json};

use crate::answers::{IDP, time};
use crate::fixture::{NOW, Service};
use crate::notice::{ALICE, Notice, deflated, ecdsa, named, parameters, rsa, rsa_512, signed};
use crate::signer::{RSA_SHA256, Signer};

const SUCCESS: &str = "<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/>";
const ID: &str = "drawn-by-the-domain";
/// Why nothing ends of a request that is the provider's, and good: it is told so, and goes on with its user's other sign-outs.
const ANSWERED: [&str; 5] =
    ["NoNameID", "Encrypted", "ForeignNameID", "NameIDFormat", "SessionIndex"];

/// A service provider at a provider with single logout.
pub fn service(change: &Value) -> Service {
    let mut all = json!({
        "identityProvider": {
            "entityID": IDP, "ssoURL": "https://idp.example.com/sso",
            "sloURL": "https://idp.example.com/slo?tenant=7",
            "certificates": Signer::honest().certificate_pem,
        },
        "signing": {"keySecretRef": {"name": "corp", "key": "tls.key"}},
    });
    all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    Service::of(&all)
}

pub fn here(service: &Service) -> Here {
    Here { callback: service.trip().callback, id: ID.into(), now: service.now }
}

async fn ends(service: &Service, query: &str) -> SignedOutThere {
    asked(service, query).await.told.unwrap()
}

async fn read(service: &Service, query: &str) -> Result<Message, NoticeError> {
    service.login().single_logout().unwrap().read(query, &here(service)).await
}

pub async fn asked(service: &Service, query: &str) -> Asked {
    match read(service, query).await.unwrap() {
        Message::Request(asked) => asked,
        other @ Message::Response { .. } => panic!("{other:?}"),
    }
}

/// Why nothing ends, and whether the provider is told so.
async fn refusal(service: &Service, query: &str) -> (&'static str, bool) {
    match read(service, query).await {
        Err(NoticeError::Refused { reason, .. }) => (reason, false),
        Ok(Message::Request(Asked { told: Err(NoticeError::Refused { reason, .. }), .. })) => {
            (reason, true)
        }
        other => panic!("{other:?}"),
    }
}

async fn refused(service: &Service, query: &str) -> &'static str {
    refusal(service, query).await.0
}

fn request(service: &Service) -> Notice {
    Notice::request(&service.trip().callback)
}

fn honest(text: &str) -> Vec<u8> {
    rsa(Signer::honest(), text)
}

type Row = (&'static str, &'static str, String);

/// Requests that were changed before the provider signed them.
fn signed_ones(service: &Service) -> Vec<Row> {
    let with = |change: &dyn Fn(&mut Notice)| {
        let mut notice = request(service);
        change(&mut notice);
        notice.query()
    };
    let body = |body: &str| {
        let body = body.to_owned();
        with(&|notice| notice.body.clone_from(&body))
    };
    let qualified = ALICE.replace(" Format", " SPNameQualifier=\"urn:example:other\" Format");
    let mail = ALICE.replace("2.0:nameid-format:persistent", "1.1:nameid-format:emailAddress");
    vec![
        ("by another issuer", "WrongIssuer", with(&|n| n.issuer = format!("{IDP}/other"))),
        ("for another address", "WrongDestination", with(&|n| n.destination.push('x'))),
        ("for no address", "WrongDestination", with(&|n| n.destination.clear())),
        (
            "of eleven minutes ago, good for a day",
            "IssueInstant",
            with(&|n| {
                n.issued = NOW - 661;
                n.attributes = format!(" NotOnOrAfter=\"{}\"", time(NOW + 86_400));
            }),
        ),
        ("of tomorrow", "IssueInstant", with(&|n| n.issued = NOW + 86_400)),
        (
            "good no more (NotOnOrAfter)",
            "Expired",
            with(&|n| {
                n.attributes = format!(" NotOnOrAfter=\"{}\"", time(NOW - 60));
            }),
        ),
        (
            "a time that is none",
            "Expired",
            with(&|n| n.attributes = " NotOnOrAfter=\"later\"".into()),
        ),
        ("no NameID", "NoNameID", body("<samlp:SessionIndex>s1</samlp:SessionIndex>")),
        ("two NameIDs", "NoNameID", body(&format!("{ALICE}{ALICE}"))),
        ("an empty NameID", "NoNameID", body(&ALICE.replace("alice@corp", " "))),
        ("an encrypted NameID", "Encrypted", body("<saml:EncryptedID>AAAA</saml:EncryptedID>")),
        ("a NameID for another service", "ForeignNameID", body(&qualified)),
        ("a NameID of another format", "NameIDFormat", body(&mail)),
        ("an empty SessionIndex", "SessionIndex", body(&format!("{ALICE}<samlp:SessionIndex/>"))),
        (
            "a hundred sessions",
            "SessionIndex",
            body(&format!("{ALICE}{}", "<samlp:SessionIndex>s</samlp:SessionIndex>".repeat(100))),
        ),
    ]
}

/// Documents that are no request, signed all the same.
fn documents(service: &Service) -> Vec<Row> {
    let xml = request(service).xml();
    let of =
        |document: &str| signed(&parameters("SAMLRequest", document.as_bytes(), None), &honest);
    let raw = |message: &[u8]| signed(&named("SAMLRequest", message, None, RSA_SHA256), &honest);
    let whole = deflated(xml.as_bytes());
    let answer = Notice::response(&service.trip().callback, SUCCESS).xml();
    vec![
        ("a LogoutResponse in SAMLRequest", "NotALogoutMessage", of(&answer)),
        ("a document type", "DocumentType", of(&format!("<!DOCTYPE x>{xml}"))),
        ("an entity that nobody declared", "Entity", of(&xml.replace("alice@corp", "&admin;"))),
        ("a comment in the NameID", "Comment", of(&xml.replace("@corp", "<!-- -->@corp"))),
        ("20 MB, deflated to 20 kB", "TooLarge", of(&format!("{xml}{}", " ".repeat(20_000_000)))),
        ("half of it", "NotDeflated", raw(&whole[..whole.len() / 2])),
        ("not deflated", "NotDeflated", raw(xml.as_bytes())),
    ]
}

/// Queries that somebody changed, or signed who may not.
fn queries(service: &Service) -> Vec<Row> {
    let honest_query = request(service).query();
    let changed = |from: &str, to: &str| {
        let changed = honest_query.replacen(from, to, 1);
        assert_ne!(changed, honest_query, "{from}: nothing was changed");
        changed
    };
    let (before, signature) = honest_query.split_once("&Signature=").unwrap();
    let (message, rest) = before.split_once("&RelayState=").unwrap();
    let other_order = format!("RelayState={rest}&{message}");
    let old = before.replace("xmldsig-more%23rsa-sha256", "xmldsig%23rsa-sha1");
    let secret = before.replace("rsa-sha256", "hmac-sha256");
    let bare = parameters("SAMLRequest", request(service).xml().as_bytes(), None);
    let foreign = |text: &str| rsa(Signer::foreign(), text);
    vec![
        ("not signed", "Unsigned", before.to_owned()),
        ("an empty signature", "Unsigned", format!("{before}&Signature=")),
        ("signed by somebody else's key", "BadSignature", request(service).signed_by(&foreign)),
        ("RSA with SHA-1", "Algorithm", signed(&old, &honest)),
        ("HMAC, whose key the certificate would be", "Algorithm", signed(&secret, &honest)),
        ("another RelayState under the signature", "BadSignature", changed("=as+it", "=as+It")),
        (
            "a RelayState that was not signed",
            "BadSignature",
            signed(&bare, &honest).replace("&SigAlg", "&RelayState=x&SigAlg"),
        ),
        (
            "the RelayState taken off",
            "BadSignature",
            format!(
                "{message}&SigAlg={}&Signature={signature}",
                rest.split_once("&SigAlg=").unwrap().1
            ),
        ),
        ("the same, escaped otherwise", "BadSignature", changed("=as+it", "=as%20it")),
        ("signed in another order", "BadSignature", signed(&other_order, &honest)),
        ("a request twice", "DuplicateParameter", format!("{honest_query}&SAMLRequest=AAAA")),
        (
            "a signature twice",
            "DuplicateParameter",
            format!("{honest_query}&Signature={signature}"),
        ),
        ("a request and an answer", "TwoMessages", format!("{honest_query}&SAMLResponse=AAAA")),
        ("neither", "NoMessage", "RelayState=x".to_owned()),
        ("a signature that is not base64", "NotBase64", format!("{before}&Signature=%25%25")),
        ("a query of 40 kB", "TooLarge", format!("{honest_query}&x={}", "x".repeat(40_000))),
        (
            "a RelayState of 2 kB",
            "TooLarge",
            signed(
                &parameters(
                    "SAMLRequest",
                    request(service).xml().as_bytes(),
                    Some(&"x".repeat(2_048)),
                ),
                &honest,
            ),
        ),
    ]
}

#[tokio::test]
async fn every_hostile_sign_out_is_refused_by_name() {
    let service = service(&json!({}));
    let honest_one = ("the honest request", "", request(&service).query());
    let rows = [vec![honest_one], queries(&service), signed_ones(&service), documents(&service)];
    let mut printed = String::from("| a sign-out | outcome | reason |\n|---|---|---|\n");
    let mut wrong = Vec::new();
    for (input, reason, query) in rows.iter().flatten() {
        let (outcome, said) = match read(&service, query).await {
            Ok(Message::Request(asked)) => match asked.told {
                Ok(told) => (format!("{} is signed out", told.user_id), ""),
                Err(NoticeError::Refused { reason, .. }) => ("answered: nothing".into(), reason),
                Err(error) => (error.to_string(), ""),
            },
            Ok(Message::Response { .. }) => ("an answer".to_owned(), ""),
            Err(NoticeError::Refused { reason, .. }) => ("refused".to_owned(), reason),
            Err(error) => (error.to_string(), ""),
        };
        writeln!(printed, "| {input} | {outcome} | {said} |").unwrap();
        let is_told = ANSWERED.contains(reason);
        let wanted = match *reason {
            "" => "alice@corp is signed out",
            _ if is_told => "answered: nothing",
            _ => "refused",
        };
        if (outcome.as_str(), said) != (wanted, *reason) {
            wrong.push((*input, *reason, outcome, said));
        }
    }
    println!("{printed}");
    assert_eq!(wrong, [], "(input, wanted reason, outcome, reason)");
    let page = include_str!("../../../../docs/saml.md");
    assert!(
        page.contains(&printed),
        "docs/saml.md has another table; it should be as printed above"
    );
}

#[tokio::test]
async fn a_request_says_who_has_signed_out_when_and_from_which_sessions() {
    let service = service(&json!({}));
    let Asked { told, id, relay_state } = asked(&service, &request(&service).query()).await;
    let told = told.unwrap();
    assert_eq!((told.user_id.as_str(), told.at), ("alice@corp", NOW));
    assert_eq!((told.sids, id.as_str()), (vec!["s1".to_owned()], "_theirs"));
    assert_eq!(relay_state.as_deref(), Some("as it was &="));
    let two =
        "<samlp:SessionIndex>s1</samlp:SessionIndex><samlp:SessionIndex>s2</samlp:SessionIndex>";
    let two = Notice { body: format!("{ALICE}{two}"), ..request(&service) };
    assert_eq!(ends(&service, &two.query()).await.sids, ["s1", "s2"]);
    // An index with spaces around it, or within, may be another session's.
    let spaced = format!("{ALICE}<samlp:SessionIndex> s1  a\n</samlp:SessionIndex>");
    let spaced = Notice { body: spaced, ..request(&service) };
    assert_eq!(ends(&service, &spaced.query()).await.sids, [" s1  a\n"]);
    let all = Notice { body: ALICE.into(), attributes: String::new(), ..request(&service) };
    assert_eq!(ends(&service, &all.query()).await.sids, Vec::<String>::new());
    let plain =
        ALICE.replace(" Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\"", "");
    let plain = Notice { body: plain, ..request(&service) };
    assert_eq!(ends(&service, &plain.query()).await.user_id, "alice@corp");
    let old = Notice { issued: NOW - 659, ..request(&service) };
    assert_eq!(ends(&service, &old.query()).await.at, NOW - 659, "ten minutes and the skew");
}

#[tokio::test]
async fn a_signature_is_by_any_key_of_the_providers_and_over_the_text_wherever_it_stands() {
    let curve = Signer::create(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let both = format!("{}{}", curve.certificate_pem, Signer::honest().certificate_pem);
    let service = service(&json!({"identityProvider": {
        "entityID": IDP, "ssoURL": "https://idp.example.com/sso",
        "sloURL": "https://idp.example.com/slo", "certificates": both,
    }}));
    let message = deflated(request(&service).xml().as_bytes());
    let of = |algorithm: &str| {
        let name = format!("http://www.w3.org/2001/04/xmldsig-more#{algorithm}");
        named("SAMLRequest", &message, None, &name)
    };
    let (curved, long) = (of("ecdsa-sha256"), of("rsa-sha512"));
    let moved = signed(&of("rsa-sha256"), &honest);
    let (message, rest) = moved.split_once('&').unwrap();
    for query in [
        signed(&curved, &|text| ecdsa(&curve, text, true)),
        signed(&curved, &|text| ecdsa(&curve, text, false)),
        signed(&long, &|text| rsa_512(Signer::honest(), text)),
        format!("x=y&{rest}&{message}&z"),
    ] {
        assert_eq!(ends(&service, &query).await.user_id, "alice@corp", "{query}");
    }
    let mixed = signed(&curved, &honest);
    assert_eq!(refused(&service, &mixed).await, "BadSignature");
}

#[tokio::test]
async fn an_answer_says_whether_all_went_well_and_is_signed_like_any_message() {
    let service = service(&json!({}));
    let of = |status: &str| Notice::response(&service.trip().callback, status);
    let code = |value: &str, inside: &str| {
        let value = format!("urn:oasis:names:tc:SAML:2.0:status:{value}");
        format!("<samlp:StatusCode Value=\"{value}\">{inside}</samlp:StatusCode>")
    };
    let partial = code("PartialLogout", "");
    for (status, done) in [
        (SUCCESS.to_owned(), true),
        (code("Success", &partial), false),
        (code("Responder", &partial), false),
        (code("Requester", ""), false),
    ] {
        let read = read(&service, &of(&status).query()).await;
        let to = Some("ours".to_owned());
        assert_eq!(read, Ok(Message::Response { to, done }), "{status}");
    }
    let unsigned = of(SUCCESS).query();
    let unsigned = unsigned.split_once("&SigAlg").unwrap().0;
    assert_eq!(refused(&service, unsigned).await, "Unsigned");
    let foreign = of(SUCCESS).signed_by(&|text| rsa(Signer::foreign(), text));
    assert_eq!(refused(&service, &foreign).await, "BadSignature");
    assert_eq!(refused(&service, &of("").query()).await, "NoStatus");
    let elsewhere = Notice { destination: "https://evil.example/".into(), ..of(SUCCESS) };
    assert_eq!(refused(&service, &elsewhere.query()).await, "WrongDestination");
}

#[tokio::test]
async fn users_known_by_an_attribute_are_not_looked_for_and_without_a_key_nothing_is_heard() {
    let by_attribute = service(&json!({"attributes": {"userID": "uid"}}));
    let query = request(&by_attribute).query();
    assert_eq!(refusal(&by_attribute, &query).await, ("UnknownUser", true), "and it is told");
    let keyless = service(&json!({"signing": null}));
    assert_eq!(refused(&keyless, &request(&keyless).query()).await, "NoSingleLogout");
}

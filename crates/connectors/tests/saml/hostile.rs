//! Hostile answers: each is refused, by name. The table stands in `docs/saml.md` as this test prints it.

use std::fmt::Write as _;

use claviger_domain::connector::LoginError;
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::answers::{Answer, IDP, Signs, bearer, conditions, time};
use crate::fixture::{NOW, Service};
use crate::signer::{Signer, template};

/// Where another service provider takes its answers.
const ELSEWHERE: &str = "https://elsewhere.example.com/acs";

/// Hostile answers, and the connector that is shown them.
struct Table {
    service: Service,
    rows: Vec<(&'static str, &'static str, String)>,
}

impl Table {
    /// An answer that was changed before the identity provider signed it.
    fn signed(
        &mut self,
        input: &'static str,
        reason: &'static str,
        change: impl FnOnce(&mut Answer),
    ) {
        let mut answer = self.service.answer();
        change(&mut answer);
        self.rows.push((input, reason, answer.signed()));
    }

    /// An honest answer that somebody changed after.
    fn changed(
        &mut self,
        input: &'static str,
        reason: &'static str,
        change: impl FnOnce(&str) -> String,
    ) {
        let honest = self.service.answer().signed();
        let changed = change(&honest);
        assert_ne!(changed, honest, "{input}: nothing was changed");
        self.rows.push((input, reason, changed));
    }

    /// An answer of which the assertion was signed, and laid out by somebody else.
    fn wrapped(&mut self, input: &'static str, reason: &'static str, layout: fn(&Parts) -> String) {
        let answer = self.service.answer();
        let signed = Signer::honest().sign(&answer.assertion());
        let parts = Parts::of(answer, signed);
        self.rows.push((input, reason, layout(&parts)));
    }
}

/// A signed assertion, taken apart.
struct Parts {
    answer: Answer,
    /// As it was signed.
    whole: String,
    /// Its signature.
    signature: String,
    /// Without it: what the signature covers.
    bare: String,
    /// The attacker's: another user and another ID, not signed.
    evil: String,
}

impl Parts {
    fn of(answer: Answer, whole: String) -> Self {
        let start = whole.find("<ds:Signature").unwrap();
        let end = whole.find("</ds:Signature>").unwrap() + "</ds:Signature>".len();
        let signature = whole[start..end].to_owned();
        let bare = whole.replace(&signature, "");
        let evil = bare.replace("alice@corp", "admin@corp").replace("assertion-1", "evil-1");
        Self { answer, whole, signature, bare, evil }
    }

    /// The attacker's assertion with something more in it.
    fn evil_with(&self, more: &str) -> String {
        self.evil.replace("</saml:Assertion>", &format!("{more}</saml:Assertion>"))
    }

    /// The attacker's assertion with a signature where its own would be.
    fn evil_signed(&self, signature: &str) -> String {
        self.evil.replacen("</saml:Issuer>", &format!("</saml:Issuer>{signature}"), 1)
    }

    /// The signature with something more in it.
    fn signature_with(&self, more: &str) -> String {
        self.signature.replace("</ds:Signature>", &format!("{more}</ds:Signature>"))
    }

    fn response(&self, inside: &str) -> String {
        let unsigned = Answer { signs: Signs::Nothing, ..self.answer.clone() };
        unsigned.around(inside)
    }
}

/// The eight shapes of "On Breaking SAML" (Somorovsky et al., 2012), as SAML Raider numbers them.
fn wrapping(table: &mut Table) {
    let response = |answer: &Answer| {
        let signed = Answer { signs: Signs::Response, ..answer.clone() }.signed();
        let parts = Parts::of(answer.clone(), signed);
        let evil = parts.evil.replace("response-1", "evil-2");
        (parts, evil)
    };
    let (parts, evil) = response(&table.service.answer());
    let inside = parts.signature_with(&parts.bare);
    let first = evil.replacen("<samlp:Status>", &format!("{inside}<samlp:Status>"), 1);
    table.rows.push((
        "XSW1: the signed Response inside the signature of another",
        "NotOneAssertion",
        first,
    ));
    let beside = format!("{}{}<samlp:Status>", parts.bare, parts.signature);
    let second = evil.replacen("<samlp:Status>", &beside, 1);
    table.rows.push((
        "XSW2: the signed Response before its signature in another",
        "NotOneAssertion",
        second,
    ));
    table.wrapped("XSW3: another Assertion before the signed one", "NotOneAssertion", |parts| {
        parts.response(&format!("{}{}", parts.evil, parts.whole))
    });
    table.wrapped("XSW4: another Assertion around the signed one", "NotOneAssertion", |parts| {
        parts.response(&parts.evil_with(&parts.whole))
    });
    table.wrapped(
        "XSW5: another Assertion with the signature, the signed one at the end",
        "NotOneAssertion",
        |parts| parts.response(&format!("{}{}", parts.evil_signed(&parts.signature), parts.bare)),
    );
    table.wrapped(
        "XSW6: another Assertion with the signature, the signed one in it",
        "NotOneAssertion",
        |parts| parts.response(&parts.evil_signed(&parts.signature_with(&parts.bare))),
    );
    table.wrapped("XSW7: another Assertion in Extensions", "NotOneAssertion", |parts| {
        let extensions = format!("<samlp:Extensions>{}</samlp:Extensions>", parts.evil);
        parts.response(&format!("{extensions}{}", parts.whole))
    });
    table.wrapped(
        "XSW8: the signed Assertion in an Object of the signature",
        "NotOneAssertion",
        |parts| {
            let object = format!("<ds:Object>{}</ds:Object>", parts.bare);
            parts.response(&parts.evil_signed(&parts.signature_with(&object)))
        },
    );
}

/// More of the kind.
fn other_layouts(table: &mut Table) {
    table.wrapped(
        "an Assertion of another namespace beside the signed one",
        "NotOneAssertion",
        |parts| {
            let evil =
                parts.evil.replace("urn:oasis:names:tc:SAML:2.0:assertion", "urn:example:evil");
            parts.response(&format!("{evil}{}", parts.whole))
        },
    );
    table.wrapped("another Assertion with the ID of the signed one", "DuplicateID", |parts| {
        let evil = parts.evil.replace("evil-1", "assertion-1");
        parts.response(&format!("{evil}{}", parts.whole))
    });
    table.wrapped(
        "another Assertion with the signature of the signed one",
        "WrongReference",
        |parts| parts.response(&parts.evil_signed(&parts.signature)),
    );
    table.wrapped("the signature beside the Assertion", "WrongReference", |parts| {
        parts.response(&format!("{}{}", parts.signature, parts.bare))
    });
    table.wrapped(
        "the signature below something else in the Assertion",
        "MisplacedSignature",
        |parts| {
            let moved = format!("<saml:Advice>{}</saml:Advice>", parts.signature);
            parts.response(&parts.bare.replace("<saml:Subject>", &format!("{moved}<saml:Subject>")))
        },
    );
    table.wrapped("an Object in the signature", "SignatureForm", |parts| {
        let with = parts.signature_with("<ds:Object/>");
        parts.response(&parts.whole.replace(&parts.signature, &with))
    });
}

fn signatures(table: &mut Table) {
    table.signed("nothing is signed", "Unsigned", |answer| answer.signs = Signs::Nothing);
    let foreign = table.service.answer().signed_with(Signer::foreign());
    table.rows.push(("signed by somebody else's key", "BadSignature", foreign));
    table.changed("the signature was taken off", "Unsigned", |honest| {
        let start = honest.find("<ds:Signature").unwrap();
        let end = honest.find("</ds:Signature>").unwrap() + "</ds:Signature>".len();
        honest.replace(&honest[start..end], "")
    });
    table.changed("another name in the signed Assertion", "BadSignature", |honest| {
        honest.replace("alice@corp", "admin@corp")
    });
    table.changed("another group in the signed Assertion", "BadSignature", |honest| {
        honest.replace(">ops<", ">admins<")
    });
    table.signed("RSA with SHA-1", "Algorithm", |answer| {
        answer.signed_by = "http://www.w3.org/2000/09/xmldsig#rsa-sha1".into();
    });
    table.signed("a digest by SHA-1", "Algorithm", |answer| {
        answer.digested_by = "http://www.w3.org/2000/09/xmldsig#sha1".into();
    });
    table.changed("HMAC, whose key the certificate would be", "Algorithm", |honest| {
        honest.replace("xmldsig-more#rsa-sha256", "xmldsig-more#hmac-sha256")
    });
    let answer = table.service.answer();
    let with = |change: fn(&str) -> String| {
        let empty = template(&answer.assertion_id, &answer.signed_by, &answer.digested_by);
        let assertion = answer.assertion().replace(&empty, &change(&empty));
        Answer { signs: Signs::Nothing, ..answer.clone() }.around(&assertion)
    };
    let whole = with(|empty| empty.replace("URI=\"#assertion-1\"", "URI=\"\""));
    table.rows.push(("a signature over the whole document", "WrongReference", whole));
    let two = with(|empty| {
        let start = empty.find("<ds:Reference").unwrap();
        let end = empty.find("</ds:Reference>").unwrap() + "</ds:Reference>".len();
        let reference = &empty[start..end];
        empty.replace(reference, &format!("{reference}{reference}"))
    });
    table.rows.push(("a signature over two things", "SignatureForm", two));
    let stylesheet = with(|empty| {
        empty.replace(
            "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
            "http://www.w3.org/TR/1999/REC-xslt-19991116",
        )
    });
    table.rows.push(("a stylesheet among the transforms", "SignatureForm", stylesheet));
    let inclusive = with(|empty| {
        let method =
            "<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#";
        empty.replace(method, "<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/TR/2001/REC-xml-c14n-20010315")
    });
    table.rows.push(("inclusive canonicalization", "SignatureForm", inclusive));
}

/// What xmlsec1 would follow or run before it knows whose a signature is.
fn instructions(table: &mut Table) {
    let answer = table.service.answer();
    let with = |change: &dyn Fn(&str) -> String| {
        let empty = template(&answer.assertion_id, &answer.signed_by, &answer.digested_by);
        let changed = change(&empty);
        assert_ne!(changed, empty);
        let assertion = answer.assertion().replace(&empty, &changed);
        Answer { signs: Signs::Nothing, ..answer.clone() }.around(&assertion)
    };
    // xmlsec1 takes an attribute by its local name, the first that stands there.
    let foreign = "xmlns:x=\"urn:x\" x:";
    let before = |named: &str, value: &str| {
        with(&|empty| empty.replacen(named, &format!("{foreign}{named}{value}\" {named}"), 1))
    };
    let elsewhere = before("URI=\"", "http://127.0.0.1:1/");
    table.rows.push(("another URI in a namespace, before the URI", "SignatureForm", elsewhere));
    let file = before("URI=\"", "file:///etc/hostname");
    table.rows.push(("a file in a namespace, before the URI", "SignatureForm", file));
    let method = with(&|empty| {
        empty.replace("<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>", "<ds:Transform xmlns:x=\"urn:x\" x:Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\" Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>")
    });
    table.rows.push(("a stylesheet in a namespace, before the transform", "SignatureForm", method));
    let within = with(&|empty| {
        empty.replace("#enveloped-signature\"/>", "#enveloped-signature\"><x:stylesheet xmlns:x=\"http://www.w3.org/1999/XSL/Transform\"/></ds:Transform>")
    });
    table.rows.push(("a stylesheet within a transform", "SignatureForm", within));
    let retrieved = with(&|empty| {
        empty.replace("</ds:Signature>", "<ds:KeyInfo><ds:RetrievalMethod URI=\"http://127.0.0.1:1/\"/></ds:KeyInfo></ds:Signature>")
    });
    table.rows.push(("a key to be fetched", "SignatureForm", retrieved));
    table.changed("another ID in a namespace, before the ID", "Malformed", |honest| {
        honest.replace("<saml:Assertion ", "<saml:Assertion xmlns:x=\"urn:x\" x:ID=\"other\" ")
    });
}

fn documents(table: &mut Table) {
    table.changed("a document type", "DocumentType", |honest| {
        format!("<!DOCTYPE Response>{honest}")
    });
    table.changed("an external entity", "DocumentType", |honest| {
        let typed = "<!DOCTYPE Response [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>";
        format!("{typed}{}", honest.replace("alice@corp", "&x;"))
    });
    table.changed("an entity bomb", "DocumentType", |honest| {
        let mut entities = String::from("<!ENTITY a0 \"ha\">");
        for n in 1..=30 {
            let before = n - 1;
            write!(entities, "<!ENTITY a{n} \"&a{before};&a{before};\">").unwrap();
        }
        let typed = format!("<!DOCTYPE Response [{entities}]>");
        format!("{typed}{}", honest.replace("alice@corp", "&a30;"))
    });
    table.changed("an entity that nobody declared", "Entity", |honest| {
        honest.replace("alice@corp", "&admin;")
    });
    table.changed("a comment in the NameID", "Comment", |honest| {
        honest.replace("alice@corp", "alice<!-- -->@corp")
    });
    table.changed("CDATA in the NameID", "CharacterData", |honest| {
        honest.replace("alice@corp", "<![CDATA[alice@corp]]>")
    });
    table.changed("a processing instruction", "ProcessingInstruction", |honest| {
        honest.replace("<samlp:Status>", "<?x y?><samlp:Status>")
    });
    table.changed("text after the end", "Trailing", |honest| format!("{honest}<x/>"));
    table.changed("another encoding", "NotUtf8", |honest| {
        format!("<?xml version=\"1.0\" encoding=\"UTF-7\"?>{honest}")
    });
    table.changed("twenty thousand levels", "TooDeep", |honest| {
        let deep = format!("{}{}", "<x>".repeat(20_000), "</x>".repeat(20_000));
        honest.replace("<samlp:Status>", &format!("{deep}<samlp:Status>"))
    });
    table.changed("twenty thousand elements", "TooMany", |honest| {
        honest.replace("<samlp:Status>", &format!("{}<samlp:Status>", "<x/>".repeat(20_000)))
    });
    table.changed("20 MB", "TooLarge", |honest| format!("{honest}{}", " ".repeat(20_000_000)));
    table.changed("half of it", "Malformed", |honest| honest[..honest.len() / 2].to_owned());
    table.changed("a request", "NotAResponse", |honest| {
        honest.replace("samlp:Response", "samlp:LogoutRequest")
    });
    table.signed("two assertions", "NotOneAssertion", |_| {});
    let (_, _, honest) = table.rows.pop().unwrap();
    let start = honest.find("<saml:Assertion").unwrap();
    let again = honest[start..honest.len() - "</samlp:Response>".len()].replace("assertion-1", "b");
    let two = honest.replace("</samlp:Response>", &format!("{again}</samlp:Response>"));
    table.rows.push(("two assertions", "NotOneAssertion", two));
    let none = Answer { signs: Signs::Response, ..table.service.answer() };
    table.rows.push(("no assertion", "NotOneAssertion", Signer::honest().sign(&none.around(""))));
    table.changed("an encrypted assertion", "Encrypted", |honest| {
        let start = honest.find("<saml:Assertion").unwrap();
        let encrypted =
            "<saml:EncryptedAssertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"/>";
        format!("{}{encrypted}</samlp:Response>", &honest[..start])
    });
}

fn addressees(table: &mut Table) {
    table.signed("an answer that nobody asked for", "Unsolicited", |answer| {
        answer.in_response_to.clear();
        answer.confirmations = answer.confirmations.replace(" InResponseTo", " x");
    });
    table.signed("an Assertion that nobody asked for", "Unsolicited", |answer| {
        answer.confirmations = bearer(&answer.destination, "", NOW + 300);
    });
    table.signed("a Response to another request", "WrongInResponseTo", |answer| {
        answer.in_response_to = "_another".into();
    });
    table.signed("an Assertion to another request", "WrongInResponseTo", |answer| {
        answer.confirmations = bearer(&answer.destination, "_another", NOW + 300);
    });
    table.signed("for another audience", "WrongAudience", |answer| {
        answer.conditions = conditions(ELSEWHERE, (NOW, NOW + 300));
    });
    table.signed("for us and, in a second restriction, for others alone", "WrongAudience", |answer| {
        let second = format!(
            "<saml:AudienceRestriction><saml:Audience>{ELSEWHERE}</saml:Audience></saml:AudienceRestriction></saml:Conditions>"
        );
        answer.conditions = answer.conditions.replace("</saml:Conditions>", &second);
    });
    table.signed("for another recipient", "WrongRecipient", |answer| {
        answer.confirmations = bearer(ELSEWHERE, &answer.in_response_to, NOW + 300);
    });
    table.signed("for no recipient", "WrongRecipient", |answer| {
        answer.confirmations = bearer("", &answer.in_response_to, NOW + 300);
    });
    table.signed("for another destination", "WrongDestination", |answer| {
        answer.destination = ELSEWHERE.into();
    });
    table.signed("a signed Response without destination", "WrongDestination", |answer| {
        answer.signs = Signs::Response;
        answer.destination.clear();
    });
    table.signed("by another issuer", "WrongIssuer", |answer| answer.issuer = ELSEWHERE.into());
    table.signed("not confirmed for whoever brings it", "NoBearer", |answer| {
        answer.confirmations = answer.confirmations.replace("cm:bearer", "cm:holder-of-key");
    });
    table.signed("not confirmed at all", "NoBearer", |answer| answer.confirmations.clear());
    table.signed("no conditions", "NoConditions", |answer| answer.conditions.clear());
    table.signed("conditions without audience", "NoAudience", |answer| {
        answer.conditions = format!("<saml:Conditions NotOnOrAfter=\"{}\"/>", time(NOW + 300));
    });
    table.signed("a condition that is not known", "UnknownCondition", |answer| {
        answer.conditions =
            answer.conditions.replace("</saml:Conditions>", "<saml:Condition/></saml:Conditions>");
    });
    table.signed("no NameID", "NoNameID", |answer| answer.name_id.clear());
    table.signed("two NameIDs", "NoNameID", |answer| {
        answer.name_id = format!("{}{}", answer.name_id, answer.name_id.replace("alice", "admin"));
    });
    table.signed("no statement that anybody signed in", "NoAuthnStatement", |answer| {
        answer.statement.clear();
    });
    table.signed("a refusal beside a good Assertion", "StatusNotSuccess", |answer| {
        answer.status = answer.status.replace("Success", "Responder");
    });
    table.signed("no status", "NoStatus", |answer| answer.status.clear());
}

fn times(table: &mut Table) {
    table.signed("expired (Conditions)", "Expired", |answer| {
        answer.conditions = conditions(&answer.destination, (NOW - 400, NOW - 60));
    });
    table.signed("expired (SubjectConfirmationData)", "Expired", |answer| {
        answer.confirmations = bearer(&answer.destination, &answer.in_response_to, NOW - 60);
    });
    table.signed("confirmed for ever", "NoNotOnOrAfter", |answer| {
        let until = format!(" NotOnOrAfter=\"{}\"", time(NOW + 300));
        answer.confirmations = answer.confirmations.replace(&until, "");
    });
    table.signed("a session that is over", "Expired", |answer| {
        let over = format!("<saml:AuthnStatement SessionNotOnOrAfter=\"{}\"", time(NOW - 61));
        answer.statement = answer.statement.replace("<saml:AuthnStatement", &over);
    });
    table.signed("not valid yet", "NotYetValid", |answer| {
        answer.conditions = conditions(&answer.destination, (NOW + 61, NOW + 300));
    });
    table.signed("an Assertion of eleven minutes ago, valid for a day", "IssueInstant", |answer| {
        answer.assertion_issued = NOW - 660;
        answer.conditions = conditions(&answer.destination, (NOW - 660, NOW + 86_400));
    });
    table.signed("a Response of eleven minutes ago", "IssueInstant", |answer| {
        answer.issued = NOW - 660;
    });
    table.signed("an Assertion of tomorrow", "IssueInstant", |answer| {
        answer.assertion_issued = NOW + 86_400;
    });
    table.signed("a time that is none", "Expired", |answer| {
        answer.conditions = answer.conditions.replace(&time(NOW + 300), "2999-13-41T25:61:61Z");
    });
}

async fn outcome(service: &Service, document: &str) -> (String, String) {
    match service.arrive_encoded(&BASE64.encode(document.as_bytes())).await {
        Ok(arrival) => {
            (format!("signed in as {}", arrival.authenticated.identity.user_id), String::new())
        }
        Err(LoginError::Unverified { reason, .. }) => ("refused".into(), reason.into()),
        Err(LoginError::Refused(_)) => ("refused".into(), "StatusNotSuccess".into()),
        Err(LoginError::Unusable(why)) if why.contains("encrypted") => {
            ("refused".into(), "Encrypted".into())
        }
        Err(other) => (format!("{other:?}"), String::new()),
    }
}

#[tokio::test]
async fn every_hostile_answer_is_refused_by_name() {
    let mut table = Table { service: Service::of(&json!({})), rows: Vec::new() };
    table.rows.push(("the honest answer", "", table.service.answer().signed()));
    wrapping(&mut table);
    other_layouts(&mut table);
    signatures(&mut table);
    instructions(&mut table);
    documents(&mut table);
    addressees(&mut table);
    times(&mut table);
    let mut printed = String::from("| input | outcome | reason |\n|---|---|---|\n");
    let mut wrong = Vec::new();
    for (input, reason, document) in &table.rows {
        let (outcome, said) = outcome(&table.service, document).await;
        writeln!(printed, "| {input} | {outcome} | {said} |").unwrap();
        let wanted = if reason.is_empty() { "signed in as alice@corp" } else { "refused" };
        if (outcome.as_str(), said.as_str()) != (wanted, *reason) {
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
async fn policy_may_want_more_signed_than_an_answer_has() {
    for (wanted, signs, good) in [
        ("Assertion", Signs::Response, false),
        ("Response", Signs::Assertion, false),
        ("Both", Signs::Assertion, false),
        ("Both", Signs::Response, false),
        ("Both", Signs::Both, true),
        ("Assertion", Signs::Both, true),
        ("Response", Signs::Response, true),
    ] {
        let service = Service::of(&json!({"signatures": wanted}));
        let answer = Answer { signs, ..service.answer() };
        let (outcome, reason) = outcome(&service, &answer.signed()).await;
        let wanted_outcome = if good { "signed in as alice@corp" } else { "refused" };
        assert_eq!(outcome, wanted_outcome, "{wanted} {signs:?}: {reason}");
        assert_eq!(reason, if good { "" } else { "Unsigned" });
    }
}

#[tokio::test]
async fn another_way_to_sign_in_than_was_asked_for_is_refused() {
    let service = Service::of(&json!({"requestedAuthnContexts": ["urn:example:mfa"]}));
    let password = service.answer();
    assert_eq!(outcome(&service, &password.signed()).await.1, "WrongAuthnContext");
    let class = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport";
    let statement = password.statement.replace(class, "urn:example:mfa");
    let stronger = Answer { statement, ..password };
    assert_eq!(outcome(&service, &stronger.signed()).await.0, "signed in as alice@corp");
}

#[tokio::test]
async fn an_answer_is_for_the_entity_that_the_administrator_chose() {
    let service = Service::of(&json!({"entityID": "urn:example:claviger"}));
    assert_eq!(outcome(&service, &service.answer().signed()).await.1, "WrongAudience");
    let conditions = conditions("urn:example:claviger", (NOW, NOW + 300));
    let answer = Answer { conditions, ..service.answer() };
    assert_eq!(outcome(&service, &answer.signed()).await.0, "signed in as alice@corp");
}

#[tokio::test]
async fn another_flow_s_answer_is_refused_and_so_is_another_connector_s() {
    let (service, other) = (Service::of(&json!({})), Service::of(&json!({})));
    let answer = other.answer().signed();
    assert_eq!(outcome(&service, &answer).await.1, "WrongInResponseTo");
    assert_eq!(outcome(&other, &answer).await.0, "signed in as alice@corp");
}

#[tokio::test]
async fn what_is_not_a_document_at_all_is_refused() {
    let service = Service::of(&json!({}));
    for (encoded, reason) in [("", "NoResponse"), ("%%%", "NotBase64"), ("AAAA", "Malformed")] {
        let refused = service.arrive_encoded(encoded).await.unwrap_err();
        let LoginError::Unverified { reason: said, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(*said, reason);
    }
}

#[tokio::test]
async fn the_provider_is_the_one_of_the_connector() {
    let other = json!({"identityProvider": {
        "entityID": format!("{IDP}/other"), "ssoURL": "https://idp.example.com/sso",
        "certificates": Signer::honest().certificate_pem,
    }});
    let service = Service::of(&other);
    assert_eq!(outcome(&service, &service.answer().signed()).await.1, "WrongIssuer");
    let service = Service::of(&Value::Object(serde_json::Map::new()));
    assert_eq!(outcome(&service, &service.answer().signed()).await.0, "signed in as alice@corp");
}

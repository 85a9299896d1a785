//! Honest answers: who signs in by them, and what is kept of them.

use claviger_connectors::Resolved;
use claviger_domain::connector::{LoginError, Refresh};
use serde_json::{Value, json};

use crate::answers::{Answer, IDP, Signs, bearer, time, values};
use crate::fixture::{NOW, Service};
use crate::signer::{RSA_SHA256, SHA256, Signer};

/// The user of an answer that this change makes of an honest one.
async fn user(change: impl FnOnce(&mut Answer)) -> Result<String, LoginError> {
    let service = Service::of(&json!({}));
    let mut answer = service.answer();
    change(&mut answer);
    service.arrive(&answer.signed()).await.map(|arrival| arrival.authenticated.identity.user_id)
}

#[tokio::test]
async fn a_signed_assertion_signs_its_user_in() {
    let service = Service::of(&json!({}));
    let arrival = service.arrive(&service.answer().signed()).await.unwrap();
    let identity = &arrival.authenticated.identity;
    assert_eq!(identity.user_id, "alice@corp");
    assert_eq!(identity.email.as_deref(), Some("alice@example.com"));
    assert!(identity.email_verified);
    assert_eq!(identity.groups, ["dev", "ops"]);
    assert_eq!(arrival.time, Some(NOW - 30));
    assert_eq!(arrival.once.as_deref(), Some(format!("{IDP}\nassertion-1").as_str()));
    let raw = Value::Object(arrival.authenticated.raw);
    let wanted = json!({
        "mail": ["alice@example.com"], "groups": ["dev", "ops"], "NameID": "alice@corp",
        "NameIDFormat": "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        "AuthnContextClassRef": "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport",
    });
    assert_eq!(raw, wanted);
    assert!(matches!(service.built.refresh, Refresh::Unsupported), "nobody can be asked again");
    assert!(service.built.probe.is_none(), "there is nobody to ask");
}

#[tokio::test]
async fn signatures_on_the_response_or_on_both_do_as_well_and_by_better_hashes_too() {
    for signs in [Signs::Assertion, Signs::Response, Signs::Both] {
        for (signed_by, digested_by) in [
            (RSA_SHA256, SHA256),
            (
                "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
                "http://www.w3.org/2001/04/xmldsig-more#sha384",
            ),
            (
                "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
                "http://www.w3.org/2001/04/xmlenc#sha512",
            ),
        ] {
            let change = |answer: &mut Answer| {
                answer.signs = signs;
                answer.signed_by = signed_by.into();
                answer.digested_by = digested_by.into();
            };
            assert_eq!(user(change).await.as_deref(), Ok("alice@corp"), "{signs:?} {signed_by}");
        }
    }
}

#[tokio::test]
async fn a_provider_may_have_several_keys_and_one_on_an_elliptic_curve() {
    let curve = Signer::create(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let pem = format!("{}{}", Signer::foreign().certificate_pem, curve.certificate_pem);
    let service = Service::of(&json!({"identityProvider": {
        "entityID": IDP, "ssoURL": "https://idp.example.com/sso", "certificates": pem,
    }}));
    let ecdsa = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256".to_owned();
    let answer = Answer { signed_by: ecdsa, signs: Signs::Both, ..service.answer() };
    let arrival = service.arrive(&answer.signed_with(&curve)).await.unwrap();
    assert_eq!(arrival.authenticated.identity.user_id, "alice@corp");
}

#[tokio::test]
async fn clocks_may_differ_by_a_minute_and_one_good_confirmation_is_enough() {
    let slow = |answer: &mut Answer| {
        answer.issued = NOW + 59;
        answer.assertion_issued = NOW + 59;
        answer.conditions = answer.conditions.replace(&time(NOW - 10), &time(NOW + 59));
    };
    assert_eq!(user(slow).await.as_deref(), Ok("alice@corp"));
    let fast = |answer: &mut Answer| {
        let late = time(NOW - 59);
        answer.conditions = answer.conditions.replace(&time(NOW + 300), &late);
        answer.confirmations = answer.confirmations.replace(&time(NOW + 300), &late);
    };
    assert_eq!(user(fast).await.as_deref(), Ok("alice@corp"));
    let two = |answer: &mut Answer| {
        let other = bearer("https://elsewhere.example.com", "x", NOW + 300);
        answer.confirmations = format!("{other}{}", answer.confirmations);
    };
    assert_eq!(user(two).await.as_deref(), Ok("alice@corp"));
    let no_destination = |answer: &mut Answer| answer.destination.clear();
    assert_eq!(user(no_destination).await.as_deref(), Ok("alice@corp"), "it is not signed there");
}

#[tokio::test]
async fn base64_may_be_broken_into_lines() {
    let service = Service::of(&json!({}));
    let encoded = data_encoding::BASE64_MIME.encode(service.answer().signed().as_bytes());
    assert!(encoded.contains("\r\n"));
    assert!(service.arrive_encoded(&encoded).await.is_ok());
}

#[tokio::test]
async fn attributes_say_what_the_administrator_chose() {
    let attributes = [
        values("urn:oid:uid", &["4711"]),
        values("urn:oid:cn", &["Alice &amp; Bob"]),
        values("uid", &[" alice "]),
        values("memberOf", &["dev, ops", "ops, , admins"]),
    ];
    let friendly =
        attributes.concat().replace("\"urn:oid:cn\"", "\"urn:oid:cn\" FriendlyName=\"cn\"");
    let service = Service::of(&json!({"attributes": {
        "userID": "urn:oid:uid", "name": "cn", "username": "uid", "groups": "memberOf",
        "groupsDelimiter": ", ",
    }, "emailVerification": "Never"}));
    let answer = Answer { attributes: friendly, ..service.answer() };
    let arrival = service.arrive(&answer.signed()).await.unwrap();
    let identity = arrival.authenticated.identity;
    assert_eq!(identity.user_id, "4711");
    assert_eq!(identity.name.as_deref(), Some("Alice & Bob"));
    assert_eq!(identity.preferred_username.as_deref(), Some(" alice "));
    assert_eq!(identity.groups, ["dev", "ops", "admins"]);
    assert_eq!((identity.email, identity.email_verified), (None, false));
}

/// A provider may let somebody register `admin` with a space behind it, of whatever kind.
#[tokio::test]
async fn who_is_called_nearly_like_somebody_else_is_somebody_else() {
    for space in [" ", "\n", "\u{a0}", "\u{2003}", "\u{3000}"] {
        let service = Service::of(&json!({"attributes": {
            "email": "mail", "username": "uid", "groups": "groups",
        }}));
        let nearly = format!("admin{space}");
        let honest = service.answer();
        let attributes = [
            values("mail", &[&format!("{space}admin@example.com")]),
            values("uid", &[&nearly]),
            values("groups", &[&nearly, &format!("{space}admin"), space]),
        ];
        let name_id = honest.name_id.replace("alice@corp", &nearly);
        let answer = Answer { name_id, attributes: attributes.concat(), ..honest };
        let arrival = service.arrive(&answer.signed()).await.unwrap();
        let identity = arrival.authenticated.identity;
        assert_eq!(identity.user_id, nearly);
        assert_eq!(identity.preferred_username, Some(nearly.clone()));
        assert_ne!(identity.email.as_deref(), Some("admin@example.com"));
        assert!(!identity.groups.iter().any(|group| group == "admin"), "{:?}", identity.groups);
        assert_eq!(arrival.authenticated.raw["NameID"], nearly);
    }
    let nobody = |answer: &mut Answer| {
        answer.name_id = answer.name_id.replace("alice@corp", "\n ");
    };
    let refused = user(nobody).await;
    assert!(
        matches!(refused, Err(LoginError::Unverified { reason: "NoNameID", .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_attribute_that_is_there_and_empty_is_not_looked_for_by_the_name_for_people() {
    let nicknamed = values("urn:user:note", &["admins"])
        .replace("\"urn:user:note\"", "\"urn:user:note\" FriendlyName=\"groups\"");
    for there in [values("groups", &[]), values("groups", &[""])] {
        let service = Service::of(&json!({}));
        let attributes = format!("{there}{nicknamed}");
        let answer = Answer { attributes, ..service.answer() };
        let arrival = service.arrive(&answer.signed()).await.unwrap();
        assert!(arrival.authenticated.identity.groups.is_empty());
    }
    let service = Service::of(&json!({}));
    let answer = Answer { attributes: nicknamed, ..service.answer() };
    let arrival = service.arrive(&answer.signed()).await.unwrap();
    assert_eq!(arrival.authenticated.identity.groups, ["admins"], "where none has it as its name");
}

#[tokio::test]
async fn a_user_whose_name_is_another_next_time_is_no_user() {
    let named = |format: &str| {
        format!("<saml:NameID Format=\"urn:oasis:names:tc:SAML:{format}\">x1</saml:NameID>")
    };
    let transient = |answer: &mut Answer| answer.name_id = named("2.0:nameid-format:transient");
    let refused = user(transient).await.unwrap_err().to_string();
    assert!(refused.contains("attributes.userID"), "{refused}");
    let email = |answer: &mut Answer| answer.name_id = named("1.1:nameid-format:emailAddress");
    let refused = user(email).await.unwrap_err().to_string();
    assert!(refused.contains("nameIDFormat"), "another was asked for: {refused}");
    for (format, said) in [("EmailAddress", "1.1:nameid-format:emailAddress"), ("Unspecified", "x")]
    {
        let service = Service::of(&json!({"nameIDFormat": format}));
        let answer = Answer { name_id: named(said), ..service.answer() };
        let arrival = service.arrive(&answer.signed()).await.unwrap();
        assert_eq!(arrival.authenticated.identity.user_id, "x1");
    }
    let service = Service::of(&json!({"attributes": {"userID": "employee"}}));
    let refused = service.arrive(&service.answer().signed()).await.unwrap_err().to_string();
    assert!(refused.contains("no attribute employee"), "{refused}");
}

#[tokio::test]
async fn ten_thousand_groups_do_not_fit_and_four_thousand_do() {
    let groups = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("g{n}")).collect();
        values("groups", &names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let service = Service::of(&json!({}));
    let answer = Answer { attributes: groups(4_000), ..service.answer() };
    let arrival = service.arrive(&answer.signed()).await.unwrap();
    assert_eq!(arrival.authenticated.identity.groups.len(), 4_000);
    let answer = Answer { attributes: groups(10_000), ..service.answer() };
    let refused = service.arrive(&answer.signed()).await.unwrap_err();
    assert!(matches!(refused, LoginError::Unverified { reason: "TooLarge", .. }), "{refused:?}");
}

#[tokio::test]
async fn an_offline_period_is_the_administrator_s_word() {
    let mut spec = crate::fixture::spec(&json!({}));
    spec.offline_session_seconds = 3_600;
    let built = claviger_connectors::build("corp", &spec, &Resolved::default()).unwrap();
    assert!(matches!(built.refresh, Refresh::Offline { seconds: 3_600 }), "{built:?}");
}

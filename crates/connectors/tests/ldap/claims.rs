//! Further claims from attributes: what was named, as it is now, and nothing else.

use claviger_connectors::build;
use claviger_testkit::Slapd;
use serde_json::{Value, json};

use crate::fixture::*;

const PRIVATE: &str = "givenName: Ada\ntelephoneNumber: +44 20 7946 0000\nmobile: +44 7700 900000\n\
                       postalAddress: 1 St James Sq.$London$\\241 only\nstreet: 1 St James Sq.\n\
                       l: London\npostalCode: SW1Y 4LB\nlabeledURI: https://ada.example.org/ My page\n\
                       preferredLanguage: en-GB, de;q=0.5\ndisplayName: javascript:alert(1)\n";

/// A connector's spec, by the attributes that become claims.
fn telling(slapd: &Slapd, claims: &Value) -> Value {
    let mut spec = plain_connector(slapd);
    ldap(&mut spec)["userSearch"]["claimAttributes"] = claims.clone();
    spec
}

async fn extra(slapd: &Slapd, claims: &Value) -> Value {
    let service = Service::of(&telling(slapd, claims), slapd);
    serde_json::to_value(service.identity("ada").await.extra).unwrap()
}

#[tokio::test]
async fn named_attributes_become_claims_and_others_are_not_even_asked_for() {
    let slapd = directory().await;
    slapd.add(&person("ada", PRIVATE)).unwrap();
    let service = Service::of(&plain_connector(&slapd), &slapd);
    let watch = Watch::on(&slapd);
    assert!(service.identity("ada").await.extra.is_empty());
    let asked = watch.text().to_lowercase();
    assert!(asked.contains("srch attr=") && !asked.contains("telephonenumber"), "{asked}");

    let claims = json!({
        "givenName": "givenname", "familyName": "sn", "middleName": "initials",
        "website": "labeledURI", "locale": "preferredLanguage", "phoneNumber": "telephoneNumber",
        "address": {
            "formatted": "postalAddress", "streetAddress": "street", "locality": "l",
            "region": "st", "postalCode": "postalCode",
        },
    });
    let expected = json!({
        "given_name": "Ada", "family_name": "ada", "website": "https://ada.example.org/",
        "locale": "en-GB", "phone_number": "+44 20 7946 0000",
        "address": {
            "formatted": "1 St James Sq.\nLondon\n$1 only", "street_address": "1 St James Sq.",
            "locality": "London", "postal_code": "SW1Y 4LB",
        },
    });
    assert_eq!(extra(&slapd, &claims).await, expected);
}

#[tokio::test]
async fn what_is_said_badly_is_left_out_and_keeps_nobody_from_signing_in() {
    let slapd = directory().await;
    slapd.add(&person("ada", PRIVATE)).unwrap();
    let claims = json!({
        "picture": "displayName", "birthdate": "givenName", "updatedAt": "sn", "nickname": "givenName",
    });
    assert_eq!(extra(&slapd, &claims).await, json!({"nickname": "Ada"}));
    let several = format!("{PRIVATE}labeledURI: ftp://elsewhere.example.org/\n");
    slapd.add(&person("eve", &several)).unwrap();
    let service = Service::of(&telling(&slapd, &json!({"profile": "labeledURI"})), &slapd);
    let profile = service.identity("eve").await.extra["profile"].clone();
    assert_eq!(profile, "https://ada.example.org/", "the first good one of several");
}

#[tokio::test]
async fn a_number_is_verified_only_where_the_connector_says_so_and_there_is_one() {
    let slapd = directory().await;
    slapd.add(&person("ada", PRIVATE)).unwrap();
    let number = json!({"phoneNumber": "mobile"});
    assert_eq!(extra(&slapd, &number).await, json!({"phone_number": "+44 7700 900000"}));
    let verified = json!({"phoneNumber": "mobile", "phoneNumberVerification": "Verified"});
    let expected = json!({"phone_number": "+44 7700 900000", "phone_number_verified": true});
    assert_eq!(extra(&slapd, &verified).await, expected);
    let none = json!({"phoneNumber": "pager", "phoneNumberVerification": "Verified"});
    assert_eq!(extra(&slapd, &none).await, json!({}));
}

#[tokio::test]
async fn a_refresh_reads_claims_anew() {
    let slapd = directory().await;
    slapd.add(&person("ada", PRIVATE)).unwrap();
    let claims = json!({
        "givenName": "givenName", "phoneNumber": "mobile", "updatedAt": "modifyTimestamp",
    });
    let service = Service::of(&telling(&slapd, &claims), &slapd);
    let known = service.login("ada", PASSWORD).await.unwrap();
    let before = known.identity.extra["updated_at"].as_i64().unwrap();
    assert!(before > 1_767_225_600, "{before}");
    slapd
        .modify(&format!(
            "dn: {}\nchangetype: modify\nreplace: givenName\ngivenName: Augusta\n-\ndelete: mobile\n",
            person_dn("ada")
        ))
        .unwrap();
    let watch = Watch::on(&slapd);
    let fresh = service.recheck(&known).await.unwrap().identity.extra;
    assert_eq!(fresh["given_name"], "Augusta");
    assert!(!fresh.contains_key("phone_number"), "{fresh:?}");
    assert!(fresh["updated_at"].as_i64().unwrap() >= before);
    assert_eq!(watch.searches(), 1, "{}", watch.text());
}

#[tokio::test]
async fn attributes_that_are_nothing_to_tell_are_refused_before_anybody_signs_in() {
    let slapd = directory().await;
    for (claims, what) in [
        (json!({"picture": "jpegPhoto"}), "picture: jpegPhoto holds bytes"),
        (json!({"nickname": "userPassword"}), "nickname: userPassword holds a secret"),
        (json!({"address": {"region": "c;binary"}}), "region: c;binary holds bytes"),
    ] {
        let spec = serde_json::from_value(telling(&slapd, &claims)).unwrap();
        let error = build("directory", &spec, &resolved(&slapd)).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.reason().as_str(), "InvalidSpec");
    }
}

//! ID tokens that the provider made for others: which are taken to be exchanged.

use claviger_domain::connector::Login;
use claviger_domain::upstream_token::{Presented, PresentedError};
use claviger_jose::{Algorithm, PrivateKey, Signer};
use claviger_testkit::openid_provider::CLIENT_ID;
use serde_json::{Value, json};

use crate::fixture::{Service, now};

/// `portal` may bring tokens of both applications, `app` those of `mobile` alone.
async fn service(change: Value) -> Service {
    let mut all = json!({"tokenExchange": {"audiences": [
        {"name": "mobile", "clients": ["portal", "app"]},
        {"name": "ci", "clients": ["portal"]},
    ]}});
    all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    Service::start(all).await
}

fn claims(service: &Service, change: &Value) -> Value {
    let mut claims = json!({
        "iss": service.provider.url(), "aud": "mobile", "sub": "7", "iat": now(), "exp": now() + 300,
        "email": "ada@example.com", "email_verified": true, "groups": ["engineers"], "nonce": "n",
    });
    let members = claims.as_object_mut().unwrap();
    members.extend(change.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    claims
}

async fn brought_by(
    client: &str,
    service: &Service,
    token: &str,
) -> Result<Presented, PresentedError> {
    let Login::Redirect(login) = &service.built.login else { panic!() };
    login.tokens().unwrap().believe(token, client, now()).await
}

async fn presented(service: &Service, token: &str) -> Result<Presented, PresentedError> {
    brought_by("portal", service, token).await
}

fn signed(service: &Service, typ: Option<&str>, change: &Value) -> String {
    let signer = Signer::new(&service.provider.conduct().key).unwrap();
    signer.sign(typ, &claims(service, change)).unwrap()
}

async fn believed(
    service: &Service,
    typ: Option<&str>,
    change: Value,
) -> Result<Presented, PresentedError> {
    presented(service, &signed(service, typ, &change)).await
}

#[tokio::test]
async fn a_token_for_a_listed_audience_says_who_its_user_is() {
    let service = service(json!({})).await;
    let auth = json!({"auth_time": now() - 90, "amr": ["otp"]});
    let found = believed(&service, None, auth).await.unwrap();
    assert_eq!(found.authenticated.identity.user_id, "7");
    assert_eq!(found.authenticated.identity.groups, ["engineers"]);
    assert!(found.authenticated.identity.email_verified && found.authenticated.data.is_none());
    assert_eq!(found.authenticated.raw["nonce"], "n");
    assert!((now() - 90 - found.time).abs() < 60 && found.amr == ["otp"]);
    assert!((found.expires_at - now() - 300).abs() < 60);
    for good in [
        json!({"aud": ["mobile", "ci"], "azp": "ci"}),
        json!({"azp": "mobile"}),
        json!({"typ": "ID"}),
        json!({"token_use": "id"}),
        json!({"iat": now() + 30, "nbf": now() + 30}), // by another clock
        json!({"acr": "gold"}),
    ] {
        let said = believed(&service, Some("JWT"), good).await.unwrap();
        assert!(!said.reached_acr, "nobody said here which is wanted");
    }
    let silent = believed(&service, None, json!({"amr": "otp", "iat": now() - 30})).await.unwrap();
    assert!((now() - 30 - silent.time).abs() < 20 && silent.amr.is_empty(), "{silent:?}");
}

#[tokio::test]
async fn a_token_for_anybody_else_or_of_another_kind_is_refused() {
    let service = service(json!({})).await;
    for (typ, change) in [
        (None, json!({"aud": "another"})),
        (None, json!({"aud": CLIENT_ID})),
        (None, json!({"aud": ["mobile", "another"]})),
        (None, json!({"aud": ["another", "mobile"]})),
        (None, json!({"aud": []})),
        (None, json!({"aud": 7})),
        (None, json!({"aud": "mobile ci"})),
        (None, json!({"aud": null})),
        (None, json!({"azp": "another"})),
        (None, json!({"azp": 7})),
        (None, json!({"aud": [], "azp": "mobile"})),
        (None, json!({"extra": "x".repeat(16 * 1024)})),
        (None, json!({"iss": "https://idp.example.com"})),
        (None, json!({"exp": now() - 1})),
        (None, json!({"exp": null})),
        (None, json!({"exp": f64::from(i32::MAX) + 0.5})),
        (None, json!({"iat": now() + 120})),
        (None, json!({"iat": null})),
        (None, json!({"iat": "yesterday"})),
        (None, json!({"iat": 1_764_000_000.5})),
        (None, json!({"nbf": now() + 120})),
        (None, json!({"sub": null})),
        (None, json!({"cnf": {"jkt": "x"}})),
        (None, json!({"typ": "Bearer"})),
        (None, json!({"events": {}})),
        (None, json!({"scope": "openid"})),
        (None, json!({"scp": ["openid"]})),
        (None, json!({"client_id": "mobile"})),
        (None, json!({"token_use": "access"})),
        (Some("at+jwt"), json!({})),
        (Some("logout+jwt"), json!({})),
    ] {
        let said = believed(&service, typ, change.clone()).await;
        assert!(matches!(said, Err(PresentedError::Refused(_))), "{typ:?} {change}: {said:?}");
    }
    let other = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    let forged = Signer::new(&other).unwrap().sign(None, &claims(&service, &json!({}))).unwrap();
    let forged = presented(&service, &forged).await;
    assert!(matches!(forged, Err(PresentedError::Refused(_))), "{forged:?}");
    let encode = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    let body = encode(&claims(&service, &json!({})).to_string());
    let unsigned = format!("{}.{body}.", encode(r#"{"alg":"none"}"#));
    for bad in [unsigned.as_str(), "", "x", &"x".repeat(17 * 1024)] {
        assert!(matches!(presented(&service, bad).await, Err(PresentedError::Refused(_))));
    }
}

#[tokio::test]
async fn a_client_brings_tokens_of_those_applications_alone_that_list_it() {
    let service = service(json!({})).await;
    let both = json!({"aud": ["mobile", "ci"], "azp": "mobile"});
    for (client, change, may) in [
        ("portal", json!({}), true),
        ("portal", json!({"aud": "ci"}), true),
        ("portal", both.clone(), true),
        ("app", json!({}), true),
        ("app", json!({"azp": "mobile"}), true),
        ("app", json!({"aud": "ci"}), false),
        ("app", json!({"azp": "ci"}), false),
        ("app", json!({"aud": "ci", "azp": "mobile"}), false),
        ("app", both.clone(), false),
        ("another", json!({}), false),
        ("mobile", json!({}), false), // what it is called there says nothing here
        ("", json!({}), false),
        ("Portal", json!({}), false),
    ] {
        let said = brought_by(client, &service, &signed(&service, None, &change)).await;
        let why = "its aud and azp must all be in the connector's tokenExchange.audiences, each with this client";
        match said {
            Ok(_) => assert!(may, "{client}: {change}"),
            Err(error) => {
                assert!(!may, "{client}: {change}: {error}");
                assert_eq!(error, PresentedError::Refused(why.into()), "{client}: {change}");
            }
        }
    }
}

#[tokio::test]
async fn the_strength_that_a_sign_in_must_have_a_token_must_have_too() {
    let service = service(json!({"acrValues": ["gold"]})).await;
    let gold = believed(&service, None, json!({"acr": "gold"})).await.unwrap();
    assert!(gold.reached_acr);
    for acr in [json!({"acr": "silver"}), json!({})] {
        believed(&service, None, acr).await.unwrap_err();
    }
}

#[tokio::test]
async fn by_default_none_is_taken_and_a_provider_that_is_away_is_no_verdict() {
    let none = Service::start(json!({})).await;
    let Login::Redirect(login) = &none.built.login else { panic!() };
    assert!(login.tokens().is_none());
    let away = service(json!({})).await;
    let broken = (503, "sorry".to_owned());
    away.provider.conduct().answers.insert("/keys".to_owned(), broken);
    let said = believed(&away, None, json!({})).await;
    assert!(matches!(said, Err(PresentedError::Unavailable(_))), "{said:?}");
}

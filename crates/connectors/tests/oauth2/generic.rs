//! Any other vendor.

use claviger_domain::connector::{LoginError, RecheckError};
use claviger_testkit::vendor::{Scripted, Style};
use serde_json::{Value, json};

use crate::fixture::Service;

const USERINFO: &str = "/userinfo";

async fn vendor(change: Value) -> Service {
    Service::start(Style::Generic, change).await
}

#[tokio::test]
async fn a_user_is_who_the_members_named_by_the_connector_say() {
    let service = vendor(json!({})).await;
    let identity = service.sign_in().await.unwrap().identity;
    assert_eq!(identity.user_id, "1815");
    assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
    assert!(identity.email_verified && identity.groups.is_empty());
    assert_eq!(service.take_log(), ["/token", "/userinfo"]);
    let service = vendor(json!({"scopes": ["read", "teams"], "claims": {
        "userID": "login", "email": "data.mail", "emailVerified": "data.confirmed", "groups": "teams",
    }}))
    .await;
    // Some say what they grant by other names.
    service.vendor.conduct().granted = Some("https://vendor.example/read".into());
    let known = service.sign_in().await.unwrap();
    assert_eq!(known.identity.user_id, "ada");
    assert_eq!(known.identity.groups, ["acme"]);
    assert!(known.identity.email_verified);
    assert_eq!(known.raw["login"], "ada", "for a claim mapping");
    assert!(service.depart().await.contains("scope=read+teams"));
}

#[tokio::test]
async fn an_address_is_verified_where_the_vendor_says_so_and_only_then() {
    let service = vendor(json!({})).await;
    for said in [json!(false), json!(null), json!(1), json!("yes")] {
        let userinfo = json!({"id": 7, "email": "boss@example.com", "email_verified": said});
        service.say(USERINFO, userinfo);
        assert!(!service.sign_in().await.unwrap().identity.email_verified, "{said}");
    }
    let always = vendor(json!({"emailVerification": "Always"})).await;
    always.say(USERINFO, json!({"id": 7, "email": "boss@example.com"}));
    assert!(always.sign_in().await.unwrap().identity.email_verified);
    always.say(USERINFO, json!({"id": 7}));
    assert!(!always.sign_in().await.unwrap().identity.email_verified, "no address is none");
}

#[tokio::test]
async fn a_vendor_is_asked_again_by_its_refresh_token_or_by_a_token_that_lasts() {
    let service = vendor(json!({"claims": {"groups": "teams"}})).await;
    let known = service.sign_in().await.unwrap();
    service.say(USERINFO, json!({"id": 1815, "teams": ["retired"]}));
    let known = service.again(&known).await.unwrap();
    assert_eq!(known.identity.groups, ["retired"]);
    service.vendor.conduct().revoke_all();
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
    // Without a refresh token nobody can be asked, unless tokens last.
    service.vendor.conduct().expires = false;
    assert!(service.sign_in().await.unwrap().data.is_none());
    let lasting = vendor(json!({"accessTokens": "Lasting"})).await;
    lasting.vendor.conduct().expires = false;
    let known = lasting.sign_in().await.unwrap();
    assert_eq!(lasting.again(&known).await.unwrap().data, known.data);
    lasting.vendor.conduct().answers.insert(USERINFO.into(), Scripted::new(503, "{}"));
    assert!(matches!(lasting.again(&known).await.unwrap_err(), RecheckError::Unavailable(_)));
    lasting.vendor.conduct().answers.clear();
    lasting.vendor.conduct().revoke_all();
    assert!(matches!(lasting.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
}

#[tokio::test]
async fn only_a_token_of_which_no_end_is_said_lasts_and_zero_seconds_are_an_end() {
    for (style, path, change) in [
        (Style::Generic, "/token", json!({"accessTokens": "Lasting"})),
        (Style::Github, "/login/oauth/access_token", json!({})),
    ] {
        let service = Service::start(style, change).await;
        service.vendor.conduct().access_tokens.insert("given".into());
        for (said, lasts) in [
            (json!({}), true),
            (json!({"expires_in": null}), true),
            (json!({"expires_in": 0}), false),
            (json!({"expires_in": 3600}), false),
        ] {
            let mut answer = json!({"access_token": "given", "token_type": "bearer"});
            answer.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
            let answer = Scripted::new(200, answer.to_string());
            service.vendor.conduct().answers.insert(path.into(), answer);
            let data = service.sign_in().await.unwrap().data;
            assert_eq!(data.is_some(), lasts, "{style:?} {said}");
            assert_eq!(service.recheck().can_ask(data.as_ref()), lasts, "no refresh token: {said}");
        }
    }
}

#[tokio::test]
async fn a_public_client_has_no_secret_and_the_secret_goes_the_way_the_administrator_says() {
    for (way, in_form) in [("ClientSecretBasic", false), ("ClientSecretPost", true)] {
        let service = vendor(json!({"clientAuthentication": way})).await;
        service.sign_in().await.unwrap();
        let form = service.vendor.conduct().forms.remove(0);
        assert_eq!(form.contains_key("client_secret"), in_form, "{way}");
    }
    let service = vendor(json!({"clientSecretRef": null})).await;
    assert!(service.sign_in().await.is_err(), "this vendor wants one");
    let form = service.vendor.conduct().forms.remove(0);
    assert!(!form.contains_key("client_secret") && form.contains_key("code_verifier"));
}

#[tokio::test]
async fn somebody_without_an_identifier_is_nobody() {
    let service = vendor(json!({})).await;
    for said in [json!({}), json!({"id": ""}), json!({"id": null}), json!({"id": 1.5})] {
        service.say(USERINFO, said.clone());
        let error = service.sign_in().await.unwrap_err();
        let is_told = matches!(&error, LoginError::Unusable(why) if why.contains("claims.userID"));
        assert!(is_told, "{said}: {error:?}");
    }
}

//! Who may sign in, and as whom.

use claviger_domain::connector::LoginError;
use claviger_testkit::keystone::{Keystone, PASSWORD};
use serde_json::json;

use crate::fixture::{Service, sign_in};

const TOKENS: &str = "POST /v3/auth/tokens";

#[tokio::test]
async fn a_user_is_their_id_with_the_groups_of_their_own_domain() {
    let service = Service::start("login", json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    service.domain.group("acme", &[&ada]).await.unwrap();
    service.domain.group("empty", &[]).await.unwrap();
    let other = Keystone::shared().await.unwrap().domain("login-other").await.unwrap();
    other.group("admins", &[&ada]).await.unwrap();

    let known = service.sign_in("ada").await.unwrap();
    let identity = &known.identity;
    assert_eq!(identity.user_id, ada);
    assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
    assert_eq!(identity.email.as_deref(), Some("ada@example.com"));
    assert!(!identity.email_verified, "Keystone says nothing of it");
    assert_eq!(identity.name, None);
    assert_eq!(identity.groups, ["acme"]);
    assert_eq!(known.raw["user"]["domain_id"], json!(service.domain.id), "for a claim mapping");
    assert_eq!(known.raw["groups"][0]["name"], "acme");
    assert!(known.data.is_none());
    let groups = "GET /v3/users/ID/groups";
    assert_eq!(service.take_log(&ada), [TOKENS, TOKENS, "GET /v3/users/ID", groups]);
    service.sign_in("ada").await.unwrap();
    let asked = service.take_log(&ada);
    assert_eq!(asked, [TOKENS, "GET /v3/users/ID", groups], "our own token is kept");

    let always = service.rebuilt(&json!({"emailVerification": "Always"}), crate::account::OURS);
    assert!(sign_in(&always, "ada", PASSWORD).await.unwrap().identity.email_verified);

    // An account of the system is told the groups of every domain.
    let watcher = service.domain.user("watcher", PASSWORD).await.unwrap();
    service.domain.grant_reader_of_system(&watcher).await.unwrap();
    let system = service.rebuilt(
        &json!({"serviceAccount": {
            "name": "watcher", "scope": "System",
            "passwordSecretRef": {"name": "keystone", "key": "password"},
        }}),
        PASSWORD,
    );
    let known = sign_in(&system, "ada", PASSWORD).await.unwrap();
    assert_eq!(known.raw["groups"].as_array().unwrap().len(), 2, "{:?}", known.raw);
    assert_eq!(known.identity.groups, ["acme"], "a group of another domain may have any name");
}

#[tokio::test]
async fn whoever_is_refused_is_refused_alike_and_the_log_knows_why() {
    let service = Service::start("refused", json!({})).await;
    let other = Keystone::shared().await.unwrap().domain("refused-other").await.unwrap();
    other.user("eve", PASSWORD).await.unwrap();
    service.domain.user("ada", PASSWORD).await.unwrap();
    let bob = service.domain.user("bob", PASSWORD).await.unwrap();
    service.domain.change_user(&bob, json!({"enabled": false})).await.unwrap();
    for (name, password) in [
        ("ada", "wrong"),
        ("nobody", PASSWORD),
        ("eve", PASSWORD),
        ("bob", PASSWORD),
        ("Ada\0", PASSWORD),
        ("ada", "a\0b"),
    ] {
        let error = sign_in(&service.built, name, password).await.unwrap_err();
        assert!(matches!(&error, LoginError::InvalidCredentials(_)), "{name:?}: {error:?}");
    }
    service.front.take_log();
    let long = "x".repeat(1025);
    for (name, password) in [("", PASSWORD), ("ada", ""), ("ada", &long), (&long, PASSWORD)] {
        let error = sign_in(&service.built, name, password).await.unwrap_err();
        assert!(matches!(error, LoginError::InvalidCredentials(_)), "{error:?}");
    }
    assert!(service.front.take_log().is_empty(), "Keystone need not see these");
}

#[tokio::test]
async fn what_keystone_lets_on_of_a_refusal_is_in_the_log_alone() {
    let service = Service::start("words", json!({})).await;
    let expired = r#"{"error":{"code":401,"message":"The password is expired and needs to be changed for user: 1."}}"#;
    for (answer, words) in [
        (claviger_testkit::vendor::Scripted::new(401, expired), "the password has expired"),
        (
            claviger_testkit::vendor::Scripted::new(401, r#"{"receipt":{}}"#)
                .header("openstack-auth-receipt", "gAAAA"),
            "a second factor",
        ),
    ] {
        service.front.script(TOKENS, answer);
        let error = service.sign_in("ada").await.unwrap_err();
        let LoginError::InvalidCredentials(why) = error else { panic!("{error:?}") };
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn a_domain_may_be_said_by_its_name() {
    let service = Service::start("by-name", json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    let name = service.domain.name.clone();
    let named = service.rebuilt(&json!({"domain": {"name": name}}), crate::account::OURS);
    let known = sign_in(&named, "ada", PASSWORD).await.unwrap();
    assert_eq!(known.identity.user_id, ada);
    crate::fixture::again(&named, &known).await.unwrap();
    named.probe.unwrap().probe().await.unwrap();
}

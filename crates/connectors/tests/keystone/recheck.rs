//! What Keystone says of a user later.

use claviger_domain::connector::RecheckError;
use claviger_testkit::keystone::PASSWORD;
use claviger_testkit::vendor::Scripted;
use serde_json::json;

use crate::account::OURS;
use crate::fixture::{Service, again};

#[tokio::test]
async fn groups_follow_and_each_question_is_counted() {
    let service = Service::start("follow", json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    let acme = service.domain.group("acme", &[&ada]).await.unwrap();
    let known = service.sign_in("ada").await.unwrap();
    service.domain.group("on-call", &[&ada]).await.unwrap();
    service.domain.leave(&acme, &ada).await.unwrap();
    service.domain.change_user(&ada, json!({"name": "countess"})).await.unwrap();
    service.take_log(&ada);
    let now = service.again(&known).await.unwrap();
    assert_eq!(now.identity.groups, ["on-call"]);
    assert_eq!(now.identity.user_id, ada, "a renamed user is the same");
    assert_eq!(now.identity.preferred_username.as_deref(), Some("countess"));
    let asked = ["GET /v3/users/ID", "GET /v3/domains/DOMAIN", "GET /v3/users/ID/groups"];
    assert_eq!(service.take_log(&ada), asked);
}

#[tokio::test]
async fn who_is_disabled_or_deleted_or_of_a_disabled_domain_is_gone() {
    let service = Service::start("gone", json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    let known = service.sign_in("ada").await.unwrap();
    let gone = async || match service.again(&known).await.unwrap_err() {
        RecheckError::Gone(why) => why,
        error => panic!("{error:?}"),
    };
    service.domain.change_user(&ada, json!({"enabled": false})).await.unwrap();
    assert_eq!(gone().await, "the account is disabled");
    service.domain.change_user(&ada, json!({"enabled": true})).await.unwrap();
    service.again(&known).await.unwrap();
    service.domain.delete_user(&ada).await.unwrap();
    assert_eq!(gone().await, "the account is gone");
    // A new one of that name is somebody else.
    service.domain.user("ada", PASSWORD).await.unwrap();
    assert_eq!(gone().await, "the account is gone");
}

#[tokio::test]
async fn a_disabled_domain_ends_the_sessions_of_its_users() {
    let service = Service::start("off", json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    let reader = Service::start("reader", json!({})).await;
    let accounts = reader.domain.user("watcher", OURS).await.unwrap();
    reader.domain.grant_reader_of_system(&accounts).await.unwrap();
    let change = json!({"serviceAccount": {
        "name": "watcher", "domain": {"name": reader.domain.name}, "scope": "System",
        "passwordSecretRef": {"name": "keystone", "key": "password"},
    }});
    let built = service.rebuilt(&change, OURS);
    let known = crate::fixture::sign_in(&built, "ada", PASSWORD).await.unwrap();
    assert_eq!(known.identity.user_id, ada);
    built.probe.as_ref().unwrap().probe().await.unwrap();
    service.sign_in("ada").await.unwrap();
    service.domain.enable(false).await.unwrap();
    let error = again(&built, &known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Gone(why) if why.contains("domain is disabled")),
        "{error:?}"
    );
    let said = built.probe.as_ref().unwrap().probe().await.unwrap_err();
    assert!(said.message.contains("the domain is disabled"), "{said}");
    // Its own service account is of that domain: no verdict then.
    let error = again(&service.built, &known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Unavailable(why) if why.contains("service account's own domain")),
        "{error:?}"
    );
    service.domain.enable(true).await.unwrap();
    again(&built, &known).await.unwrap();
}

#[tokio::test]
async fn a_password_that_expired_ends_a_session_unless_it_is_ignored() {
    let service = Service::start("expired", json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    let known = service.sign_in("ada").await.unwrap();
    let mut user = known.raw["user"].clone();
    user["password_expires_at"] = json!("2020-01-01T00:00:00.000000");
    let said = Scripted::new(200, json!({"user": user}).to_string());
    service.front.script(&format!("GET /v3/users/{ada}"), said);
    let error = service.again(&known).await.unwrap_err();
    assert_eq!(error, RecheckError::Gone("the password has expired".into()));
    let lenient = service.rebuilt(&json!({"expiredPassword": "Ignore"}), OURS);
    again(&lenient, &known).await.unwrap();
}

#[tokio::test]
async fn users_of_a_domain_that_is_no_longer_the_connectors_are_gone() {
    let service = Service::start("before", json!({})).await;
    let later = Service::start("after", json!({})).await;
    service.domain.user("ada", PASSWORD).await.unwrap();
    let known = service.sign_in("ada").await.unwrap();
    let watcher = later.domain.user("watcher", OURS).await.unwrap();
    later.domain.grant_reader_of_system(&watcher).await.unwrap();
    let change = json!({"serviceAccount": {
        "name": "watcher", "scope": "System",
        "passwordSecretRef": {"name": "keystone", "key": "password"},
    }});
    let moved = later.rebuilt(&change, OURS);
    let error = again(&moved, &known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Gone(why) if why.contains("another domain")),
        "{error:?}"
    );
}

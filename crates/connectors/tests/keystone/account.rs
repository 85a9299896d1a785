//! Claviger's own account there.

use claviger_api::Reason;
use claviger_connectors::ProbeError;
use claviger_domain::connector::{LoginError, RecheckError};
use claviger_testkit::keystone::{PASSWORD, SERVICE_PASSWORD};
use claviger_testkit::{CertificateAuthority, eventually};
use serde_json::json;

use crate::fixture::{Service, again, sign_in};

/// Its password.
pub const OURS: &str = SERVICE_PASSWORD;

async fn refused(built: &claviger_connectors::Upstream) -> ProbeError {
    built.probe.as_ref().unwrap().probe().await.unwrap_err()
}

#[tokio::test]
async fn its_refusal_is_nobodys_fault_and_is_not_repeated_at_once() {
    let service = Service::start("refusal", json!({})).await;
    service.domain.user("ada", PASSWORD).await.unwrap();
    let known = service.sign_in("ada").await.unwrap();
    let wrong = service.rebuilt(&json!({}), "the old password");
    service.front.take_log();
    for _ in 0..3 {
        let error = again(&wrong, &known).await.unwrap_err();
        let RecheckError::Unavailable(why) = error else { panic!("{error:?}") };
        assert!(why.contains("passwordSecretRef") && !why.contains("old password"), "{why}");
    }
    let error = sign_in(&wrong, "ada", PASSWORD).await.unwrap_err();
    assert!(matches!(error, LoginError::Unavailable(_)), "{error:?}");
    let asked = service.front.take_log();
    let once = ["POST /v3/auth/tokens"; 2];
    assert_eq!(asked, once, "ours once in 30 s, lest it be locked out; and the user's own");
    assert_eq!(refused(&wrong).await.reason, Reason::UpstreamRefusedCredentials.as_str());
    // The Secret was corrected: the connector is built anew.
    service.rebuilt(&json!({}), OURS).probe.unwrap().probe().await.unwrap();
}

#[tokio::test]
async fn without_its_role_it_reads_nothing_and_the_fix_is_said() {
    let service = Service::start("no-role", json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    let known = service.sign_in("ada").await.unwrap();
    service.domain.user("powerless", OURS).await.unwrap();
    let account =
        json!({"name": "powerless", "passwordSecretRef": {"name": "keystone", "key": "password"}});
    let powerless = service.rebuilt(&json!({"serviceAccount": account}), OURS);
    let said = refused(&powerless).await;
    assert_eq!(said.reason, Reason::UpstreamRefusedCredentials.as_str(), "{said}");
    assert!(said.message.contains("the role reader"), "{said}");
    let error = again(&powerless, &known).await.unwrap_err();
    assert!(matches!(error, RecheckError::Unavailable(_)), "{error:?}");
    // One that has a token and may not read.
    let forbidden_body = r#"{"error":{"code":403,"message":"You are not authorized"}}"#;
    let forbidden = claviger_testkit::vendor::Scripted::new(403, forbidden_body);
    service.front.script(&format!("GET /v3/users/{ada}"), forbidden);
    let error = service.again(&known).await.unwrap_err();
    assert!(
        matches!(error, RecheckError::Gone(_)),
        "may read its users, and not this one: {error:?}"
    );
    let forbidden = claviger_testkit::vendor::Scripted::new(403, forbidden_body);
    service.front.script("GET /v3/users", forbidden);
    let error = service.again(&known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Unavailable(why) if why.contains("the role reader")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_token_that_keystone_takes_back_is_asked_for_anew() {
    let service = Service::start("token", json!({})).await;
    let ada = service.domain.user("ada", PASSWORD).await.unwrap();
    let known = service.sign_in("ada").await.unwrap();
    let account = service.domain.user("ours", OURS).await.unwrap();
    service.domain.grant_reader(&account).await.unwrap();
    let named =
        json!({"name": "ours", "passwordSecretRef": {"name": "keystone", "key": "password"}});
    let built = service.rebuilt(&json!({"serviceAccount": named}), OURS);
    again(&built, &known).await.unwrap();
    // A new password takes back all tokens of the old; here it is the same again.
    service.domain.change_user(&account, json!({"password": OURS})).await.unwrap();
    service.take_log(&ada);
    // What Keystone takes back it takes back by the second: a new token of the same second goes with it.
    let patience = std::time::Duration::from_secs(10);
    eventually(patience, async || Ok(again(&built, &known).await?)).await.unwrap();
    let asked = service.take_log(&ada);
    let anew = ["GET /v3/users/ID", "POST /v3/auth/tokens", "GET /v3/users/ID"];
    assert_eq!(asked[..3], anew, "{asked:?}");
    let last = ["GET /v3/users/ID", "GET /v3/domains/DOMAIN", "GET /v3/users/ID/groups"];
    assert_eq!(asked[asked.len() - 3..], last, "{asked:?}");
}

#[tokio::test]
async fn ready_says_who_is_away_who_is_not_trusted_and_which_domain_is_none() {
    let service = Service::start("ready", json!({})).await;
    service.built.probe.as_ref().unwrap().probe().await.unwrap();
    let stranger = CertificateAuthority::create("somebody's").unwrap();
    let said = refused(&service.trusting(stranger.certificate_pem())).await;
    assert_eq!(said.reason, Reason::UpstreamUntrusted.as_str(), "{said}");
    let nowhere = json!({"domain": {"name": "nowhere"}});
    let said = refused(&service.rebuilt(&nowhere, OURS)).await;
    assert_eq!(said.reason, Reason::UpstreamRefusedCredentials.as_str(), "{said}");
    let url = json!({"url": format!("{}/identity/v3", service.front.url())});
    let said = refused(&service.rebuilt(&url, OURS)).await;
    assert!(said.message.contains("compare the url"), "{said}");
    let away = service.rebuilt(&json!({"url": "https://localhost:1/v3"}), OURS);
    assert_eq!(refused(&away).await.reason, Reason::UpstreamUnreachable.as_str());
}

#[tokio::test]
async fn an_account_of_the_system_finds_the_domain_by_name_and_says_where_there_is_none() {
    let service = Service::start("system", json!({})).await;
    let watcher = service.domain.user("watcher", OURS).await.unwrap();
    service.domain.grant_reader_of_system(&watcher).await.unwrap();
    let of = |name: &str| {
        json!({"domain": {"name": name}, "serviceAccount": {
            "name": "watcher", "domain": {"id": service.domain.id}, "scope": "System",
            "passwordSecretRef": {"name": "keystone", "key": "password"},
        }})
    };
    let there = service.rebuilt(&of(&service.domain.name), OURS);
    there.probe.unwrap().probe().await.unwrap();
    let said = refused(&service.rebuilt(&of("nowhere"), OURS)).await;
    assert_eq!(said.reason, Reason::UpstreamUnusable.as_str(), "{said}");
    assert!(said.message.contains("correct domain.name"), "{said}");
}

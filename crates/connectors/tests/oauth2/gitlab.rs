//! What GitLab alone does.

use claviger_domain::connector::{LoginError, RecheckError};
use claviger_testkit::vendor::{Scripted, Style};
use serde_json::{Value, json};

use crate::fixture::Service;

const USERINFO: &str = "/oauth/userinfo";

async fn gitlab(change: Value) -> Service {
    Service::start(Style::Gitlab, change).await
}

#[tokio::test]
async fn a_user_comes_back_as_gitlab_says() {
    let service = gitlab(json!({})).await;
    let known = service.sign_in().await.unwrap();
    let identity = &known.identity;
    assert_eq!(identity.user_id, "1815");
    assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
    assert_eq!(identity.email.as_deref(), Some("ada@example.com"));
    assert!(identity.email_verified);
    assert_eq!(identity.groups, ["acme", "acme/platform"]);
    assert_eq!(known.raw["nickname"], "ada", "for a claim mapping");
    assert_eq!(service.take_log(), ["/oauth/token", "/oauth/userinfo"]);
    service.say(USERINFO, json!({"sub": "1815", "email": "ada@example.com", "groups": ["acme"]}));
    let again = service.again(&known).await.unwrap();
    assert!(!again.identity.email_verified, "confirmed is what GitLab says is");
    assert_eq!(again.identity.groups, ["acme"]);
    assert_ne!(again.data, known.data, "its refresh tokens are good once");
}

#[tokio::test]
async fn roles_and_shared_groups_are_taken_where_the_connector_says_so() {
    let service = gitlab(json!({"roles": "Suffix"})).await;
    let groups = service.sign_in().await.unwrap().identity.groups;
    assert_eq!(groups, ["acme", "acme/platform", "acme/platform:owner", "acme:developer"]);
    assert!(!service.depart().await.contains("read_api"));
    let service = gitlab(json!({"groups": "Accessible"})).await;
    service.vendor.conduct().page_size = 2;
    let groups = service.sign_in().await.unwrap().identity.groups;
    assert_eq!(groups, ["acme", "acme/platform", "partner/shared"]);
    assert!(service.depart().await.contains("read_api"));
    let pages = service.take_log().into_iter().filter(|path| path.contains("/groups"));
    assert_eq!(pages.count(), 2);
}

#[tokio::test]
async fn a_blocked_account_is_out_and_a_fault_is_not() {
    let service = gitlab(json!({})).await;
    let mut known = service.sign_in().await.unwrap();
    let said = |status, body: &str| {
        service.vendor.conduct().answers.insert(USERINFO.into(), Scripted::new(status, body));
    };
    for (status, body) in [(401, "{}"), (502, "{}"), (403, r#"{"error":"insufficient_scope"}"#)] {
        said(status, body);
        let RecheckError::Interrupted { data, .. } = service.again(&known).await.unwrap_err()
        else {
            panic!("{status}")
        };
        known.data = Some(data);
    }
    said(403, r#"{"message":"403 Forbidden - Your account has been blocked."}"#);
    let error = service.again(&known).await.unwrap_err();
    assert!(matches!(&error, RecheckError::Gone(why) if why.contains("blocked")), "{error:?}");
    let error = service.sign_in().await.unwrap_err();
    assert!(matches!(&error, LoginError::Refused(why) if why.contains("blocked")), "{error:?}");
    service.vendor.conduct().answers.clear();
    known = service.sign_in().await.unwrap();
    service.vendor.conduct().revoke_all();
    assert!(matches!(service.again(&known).await.unwrap_err(), RecheckError::Gone(_)));
}

#[tokio::test]
async fn a_list_that_is_none_is_not_taken_for_no_groups() {
    let service = gitlab(json!({})).await;
    service.say(USERINFO, json!({"sub": "1815", "groups": "acme"}));
    assert!(matches!(service.sign_in().await.unwrap_err(), LoginError::Unusable(_)));
    service.say(USERINFO, json!({"groups": []}));
    let error = service.sign_in().await.unwrap_err();
    assert!(matches!(&error, LoginError::Unusable(why) if why.contains("openid")), "{error:?}");
}

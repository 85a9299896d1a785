//! Accounts that may not be used: each said in its own words, at sign-in and at refresh.

use claviger_testkit::samba::{Samba, user_dn};
use serde_json::json;

use crate::fixture::*;

/// As in `accountExpires`: long ago.
const PAST: &str = "131900000000000000";
const NEVER: &str = "9223372036854775807";

fn set(samba: &Samba, attribute: &str, value: &str) {
    samba.replace(&user_dn("ada"), attribute, value).unwrap();
}

#[tokio::test]
async fn disabled_account_neither_signs_in_nor_refreshes() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    set(&samba, "userAccountControl", "514");
    assert_eq!(service.refusal("ada", PASSWORD).await, "the account is disabled (data 533)");
    assert_eq!(service.gone(&known).await, "the account is disabled");
    set(&samba, "userAccountControl", "512");
    service.recheck(&known).await.unwrap();
}

#[tokio::test]
async fn expired_account_neither_signs_in_nor_refreshes() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    set(&samba, "accountExpires", PAST);
    assert_eq!(service.refusal("ada", PASSWORD).await, "the account has expired (data 701)");
    assert_eq!(service.gone(&known).await, "the account has expired");
    set(&samba, "accountExpires", NEVER);
    service.recheck(&known).await.unwrap();
}

#[tokio::test]
async fn locked_account_does_not_sign_in_and_ends_sessions_unless_told_otherwise() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    for _ in 0..3 {
        service.refusal("ada", "wrong").await;
    }
    assert_eq!(service.refusal("ada", PASSWORD).await, "the account is locked (data 775)");
    assert_eq!(service.gone(&known).await, "the account is locked out");
    let patient = Service::with(&samba, &json!({ "sessionEnd": { "lockedOut": "Ignore" } }));
    patient.recheck(&known).await.unwrap();
    assert_eq!(patient.refusal("ada", PASSWORD).await, "the account is locked (data 775)");
    set(&samba, "lockoutTime", "0");
    service.recheck(&known).await.unwrap();
}

#[tokio::test]
async fn user_who_must_change_the_password_neither_signs_in_nor_refreshes() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    set(&samba, "pwdLastSet", "0");
    let why = service.refusal("ada", PASSWORD).await;
    assert_eq!(why, "the user must change the password first (data 773)");
    assert_eq!(service.gone(&known).await, "the user must change the password first");
}

#[tokio::test]
async fn expired_password_neither_signs_in_nor_refreshes() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    samba.age_password("ada").unwrap();
    assert_eq!(service.refusal("ada", PASSWORD).await, "the password has expired (data 532)");
    assert_eq!(service.gone(&known).await, "the password has expired");
}

#[tokio::test]
async fn changed_password_ends_older_sessions_unless_told_otherwise() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let older = service.signed_in("ada").await;
    let kept = service.recheck(&older).await.unwrap();
    samba.reset_password("ada", "battery staple").unwrap();
    for session in [&older, &kept] {
        assert_eq!(service.gone(session).await, "the password was changed after the sign-in");
    }
    let newer = service.login("ada", "battery staple").await.unwrap();
    service.recheck(&newer).await.unwrap();
    let lenient = Service::with(&samba, &json!({ "sessionEnd": { "passwordChanged": "Ignore" } }));
    let fresh = lenient.recheck(&older).await.unwrap();
    assert_eq!(service.gone(&fresh).await, "the password was changed after the sign-in");
}

#[tokio::test]
async fn account_whose_state_is_hidden_is_not_let_in_and_no_verdict() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    samba.deny_reading("ada", "claviger", "userAccountControl").unwrap();
    let refused = service.login("ada", PASSWORD).await.unwrap_err().to_string();
    assert!(
        refused.contains("shows no userAccountControl: let the service account read it"),
        "{refused}"
    );
    let unavailable = service.recheck(&known).await.unwrap_err().to_string();
    assert!(unavailable.starts_with("upstream unavailable"), "{unavailable}");
}

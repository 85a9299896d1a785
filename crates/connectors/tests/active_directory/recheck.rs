//! What a refresh learns of a user who moved, left, or was replaced.

use claviger_domain::connector::RecheckError;
use claviger_testkit::samba::{BASE_DN, user_dn};
use serde_json::json;

use crate::fixture::*;

#[tokio::test]
async fn renamed_and_moved_user_is_the_same_user() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    samba.add(&format!("dn: OU=Staff,{BASE_DN}\nobjectClass: organizationalUnit\n")).unwrap();
    samba
        .modify(&format!(
            "dn: {}\nchangetype: modrdn\nnewrdn: CN=Ada King\ndeleteoldrdn: 1\nnewsuperior: OU=Staff,{BASE_DN}\n",
            user_dn("ada")
        ))
        .unwrap();
    samba.replace(&format!("CN=Ada King,OU=Staff,{BASE_DN}"), "sAMAccountName", "aking").unwrap();
    let fresh = service.recheck(&known).await.unwrap();
    assert_eq!(fresh.identity.user_id, known.identity.user_id);
    assert_eq!(fresh.identity.preferred_username.as_deref(), Some("aking"));
    assert_ne!(fresh.data, known.data, "the new DN is kept");
    // What another version kept, or nobody can read, finds the user as well.
    for data in [b"not JSON".as_slice(), br#"{"dn":"CN=nobody"}"#] {
        service.recheck_with(&known.identity, data).await.unwrap();
    }
}

#[tokio::test]
async fn deleted_user_is_gone_and_a_new_one_of_that_name_inherits_nothing() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    samba.modify(&format!("dn: {}\nchangetype: delete\n", user_dn("ada"))).unwrap();
    assert_eq!(service.gone(&known).await, "the entry is gone");
    samba.add_user("ada", PASSWORD, "").unwrap();
    assert_eq!(service.gone(&known).await, "the entry is gone");
    assert_ne!(service.identity("ada").await.user_id, known.identity.user_id);
}

#[tokio::test]
async fn user_whom_the_filter_finds_no_more_is_gone() {
    let samba = domain().await;
    let service =
        Service::with(&samba, &json!({ "userSearch": { "filter": "(displayName=Ada*)" } }));
    let known = service.signed_in("ada").await;
    samba.replace(&user_dn("ada"), "displayName", "Countess").unwrap();
    let why = service.gone(&known).await;
    assert_eq!(why, "the entry is there, but the search finds it no more");
}

#[tokio::test]
async fn service_account_that_lost_its_rights_is_no_verdict() {
    let samba = domain().await;
    let service = Service::with(&samba, &json!({}));
    let known = service.signed_in("ada").await;
    samba.replace(&user_dn("claviger"), "userAccountControl", "514").unwrap();
    // A connection that is bound stays so; a new one is refused.
    let again = Service::with(&samba, &json!({}));
    let error = again.recheck(&known).await.unwrap_err();
    assert!(
        matches!(&error, RecheckError::Unavailable(why) if why.contains("the account is disabled (data 533)")),
        "{error:?}"
    );
}

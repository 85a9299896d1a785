//! What a refresh learns: only a verdict about this user is one.

use claviger_domain::connector::{Authenticated, ConnectorData, RecheckError};
use claviger_testkit::Slapd;
use serde_json::json;

use crate::fixture::*;

async fn signed_in(service: &Service) -> Authenticated {
    service.login("ada", PASSWORD).await.unwrap()
}

fn gone(result: Result<Authenticated, RecheckError>) -> String {
    match result {
        Err(RecheckError::Gone(why)) => why,
        other => panic!("expected Gone, got {other:?}"),
    }
}

fn unavailable(result: Result<Authenticated, RecheckError>) -> String {
    match result {
        Err(RecheckError::Unavailable(why)) => why,
        other => panic!("expected Unavailable, got {other:?}"),
    }
}

fn replace(slapd: &Slapd, dn: &str, attribute: &str, value: &str) {
    slapd
        .modify(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n"
        ))
        .unwrap();
}

fn move_ada(slapd: &Slapd) {
    slapd
        .modify(&format!(
            "dn: {}\nchangetype: modrdn\nnewrdn: uid=ada-king\ndeleteoldrdn: 1\n",
            person_dn("ada")
        ))
        .unwrap();
}

#[tokio::test]
async fn recheck_costs_one_search_and_gives_what_the_directory_says_now() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    slapd.add(&group("staff", &[person_dn("ada")])).unwrap();
    let mut spec = plain_connector(&slapd);
    ldap(&mut spec)["groupsFromAttribute"] = json!({});
    let service = Service::of(&spec, &slapd);
    let known = signed_in(&service).await;
    assert_eq!(known.identity.groups, ["staff"]);
    replace(&slapd, &person_dn("ada"), "mail", "countess@example.org");
    slapd.add(&group("poets", &[person_dn("ada")])).unwrap();
    slapd.modify(&format!("dn: {}\nchangetype: delete\n", group_dn("staff"))).unwrap();
    let watch = Watch::on(&slapd);
    let fresh = service.recheck(&known).await.unwrap();
    assert_eq!(fresh.identity.user_id, known.identity.user_id);
    assert_eq!(fresh.identity.email.as_deref(), Some("countess@example.org"));
    assert_eq!(fresh.identity.groups, ["poets"]);
    assert_eq!(fresh.data, known.data);
    assert_eq!((watch.searches(), watch.binds()), (1, 0), "{}", watch.text());
}

#[tokio::test]
async fn removed_user_is_gone() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&connector(&slapd), &slapd);
    let known = signed_in(&service).await;
    slapd.modify(&format!("dn: {}\nchangetype: delete\n", person_dn("ada"))).unwrap();
    gone(service.recheck(&known).await);
}

#[tokio::test]
async fn user_whom_the_filter_finds_no_more_is_gone() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&connector(&slapd), &slapd);
    let known = signed_in(&service).await;
    replace(&slapd, &person_dn("ada"), "employeeType", "former");
    gone(service.recheck(&known).await);
}

#[tokio::test]
async fn user_below_another_base_than_now_is_gone() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut spec = connector(&slapd);
    let known = signed_in(&Service::of(&spec, &slapd)).await;
    ldap(&mut spec)["userSearch"]["baseDN"] = json!("ou=groups,dc=example,dc=org");
    gone(Service::of(&spec, &slapd).recheck(&known).await);
}

#[tokio::test]
async fn renamed_user_is_found_by_the_identifier() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&connector(&slapd), &slapd);
    let known = signed_in(&service).await;
    move_ada(&slapd);
    let fresh = service.recheck(&known).await.unwrap();
    assert_eq!(fresh.identity.user_id, known.identity.user_id);
    assert_eq!(fresh.identity.preferred_username.as_deref(), Some("ada-king"));
    assert_ne!(fresh.data, known.data, "the new DN is kept");
    // A session from before the DN was kept, or with something unreadable, is found as well.
    let unreadable = ConnectorData(b"not JSON".to_vec());
    for data in [None, Some(&unreadable)] {
        service.recheck_with(&known.identity, data).await.unwrap();
    }
}

#[tokio::test]
async fn renamed_user_is_found_even_if_somebody_else_has_the_old_name() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&connector(&slapd), &slapd);
    let known = signed_in(&service).await;
    move_ada(&slapd);
    slapd.add(&person("ada", "")).unwrap();
    let fresh = service.recheck(&known).await.unwrap();
    assert_eq!(fresh.identity.user_id, known.identity.user_id);
    assert_eq!(fresh.identity.preferred_username.as_deref(), Some("ada-king"));
}

#[tokio::test]
async fn user_whose_identifier_changed_is_gone() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut spec = connector(&slapd);
    for id_attribute in ["uid", "DN"] {
        ldap(&mut spec)["userSearch"]["idAttribute"] = json!(id_attribute);
        let service = Service::of(&spec, &slapd);
        let known = signed_in(&service).await;
        move_ada(&slapd);
        gone(service.recheck(&known).await);
        gone(service.recheck_with(&known.identity, None).await);
        slapd
            .modify(
                "dn: uid=ada-king,ou=people,dc=example,dc=org\nchangetype: modrdn\n\
                 newrdn: uid=ada\ndeleteoldrdn: 1\n",
            )
            .unwrap();
        service.recheck(&known).await.unwrap();
    }
}

#[tokio::test]
async fn somebody_else_under_the_same_name_inherits_nothing() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&connector(&slapd), &slapd);
    let known = signed_in(&service).await;
    slapd.modify(&format!("dn: {}\nchangetype: delete\n", person_dn("ada"))).unwrap();
    slapd.add(&person("ada", "")).unwrap();
    gone(service.recheck(&known).await);
}

#[tokio::test]
async fn fault_of_the_connector_or_the_directory_is_no_verdict() {
    let mut slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let spec = connector(&slapd);
    let service = Service::of(&spec, &slapd);
    let known = signed_in(&service).await;

    let mut wrong_password = resolved(&slapd);
    wrong_password.insert("directory", "password", b"wrong".to_vec());
    let why = unavailable(Service::new(&spec, &wrong_password).recheck(&known).await);
    assert!(why.contains("check bindDN and the password"), "{why}");

    let mut nowhere = spec.clone();
    ldap(&mut nowhere)["userSearch"]["baseDN"] = json!("ou=nowhere,dc=example,dc=org");
    let why = unavailable(Service::of(&nowhere, &slapd).recheck(&known).await);
    assert!(why.contains("check baseDN"), "{why}");

    let mut no_identifier = spec.clone();
    ldap(&mut no_identifier)["userSearch"]["idAttribute"] = json!("employeeNumber");
    let why = unavailable(Service::of(&no_identifier, &slapd).recheck(&known).await);
    assert!(why.contains("no employeeNumber"), "{why}");

    slapd.stop();
    unavailable(service.recheck(&known).await);
    slapd.start_again().await.unwrap();
    service.recheck(&known).await.unwrap();
}

//! What a refresh learns: only a verdict about this user is one, and an empty answer is one only if
//! the directory shows other users.

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
        Err(RecheckError::Unavailable(why)) => why.to_string(),
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

fn delete(slapd: &Slapd, dn: &str) {
    slapd.modify(&format!("dn: {dn}\nchangetype: delete\n")).unwrap();
}

/// A connector's spec, by what identifies its users.
fn identified_by(slapd: &Slapd, attribute: &str) -> serde_json::Value {
    let mut spec = plain_connector(slapd);
    ldap(&mut spec)["userSearch"]["idAttribute"] = json!(attribute);
    spec
}

const IDENTIFIERS: [&str; 3] = ["entryUUID", "uid", "DN"];

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
    delete(&slapd, &group_dn("staff"));
    let watch = Watch::on(&slapd);
    let fresh = service.recheck(&known).await.unwrap();
    assert_eq!(fresh.identity.user_id, known.identity.user_id);
    assert_eq!(fresh.identity.email.as_deref(), Some("countess@example.org"));
    assert_eq!(fresh.identity.groups, ["poets"]);
    assert_eq!(fresh.data, known.data);
    assert_eq!((watch.searches(), watch.binds()), (1, 0), "{}", watch.text());
}

#[tokio::test]
async fn removed_user_is_gone_while_others_remain() {
    let slapd = directory().await;
    slapd.add(&person("grace", "")).unwrap();
    for attribute in IDENTIFIERS {
        slapd.add(&person("ada", "")).unwrap();
        let service = Service::of(&identified_by(&slapd, attribute), &slapd);
        let known = signed_in(&service).await;
        delete(&slapd, &person_dn("ada"));
        let watch = Watch::on(&slapd);
        for data in [known.data.as_ref(), None] {
            let why = gone(service.recheck_with(&known.identity, data).await);
            assert_eq!(why, "the entry is gone", "{attribute}");
        }
        assert_eq!(watch.connections(), 0, "one server answers all: {}", watch.text());
    }
}

#[tokio::test]
async fn directory_without_any_user_is_no_verdict() {
    let slapd = directory().await;
    for attribute in IDENTIFIERS {
        slapd.add(&person("ada", "")).unwrap();
        slapd.add(&person("grace", "")).unwrap();
        let service = Service::of(&identified_by(&slapd, attribute), &slapd);
        let known = signed_in(&service).await;
        delete(&slapd, &person_dn("ada"));
        // What is left is nobody whom the search would ever find.
        replace(&slapd, &person_dn("grace"), "employeeType", "former");
        for data in [known.data.as_ref(), None] {
            let why = unavailable(service.recheck_with(&known.identity, data).await);
            assert!(why.contains("no user at all below \"ou=people,dc=example,dc=org\""), "{why}");
            assert!(why.contains("let the service account read"), "{why}");
        }
        // The users come back: it was no verdict.
        replace(&slapd, &person_dn("grace"), "employeeType", "staff");
        gone(service.recheck(&known).await);
        delete(&slapd, &person_dn("grace"));
    }
}

#[tokio::test]
async fn entries_without_names_are_not_users() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut spec = connector(&slapd);
    // Matches the search base, too.
    ldap(&mut spec)["userSearch"]["filter"] = json!("(objectClass=*)");
    let service = Service::of(&spec, &slapd);
    let known = signed_in(&service).await;
    delete(&slapd, &person_dn("ada"));
    let why = unavailable(service.recheck(&known).await);
    assert!(why.contains("no user at all"), "{why}");
}

#[tokio::test]
async fn hidden_or_renamed_search_base_is_no_verdict() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    slapd.add(&person("grace", "")).unwrap();
    for attribute in IDENTIFIERS {
        let spec = identified_by(&slapd, attribute);
        let service = Service::of(&spec, &slapd);
        let known = signed_in(&service).await;

        // This directory hides everything from whoever has no name.
        let mut without_rights = spec.clone();
        ldap(&mut without_rights).as_object_mut().unwrap().remove("bind");
        let without_rights = Service::of(&without_rights, &slapd);
        for data in [known.data.as_ref(), None] {
            let why = unavailable(without_rights.recheck_with(&known.identity, data).await);
            assert!(why.contains("that the service account may read it"), "{attribute}: {why}");
        }

        let rename = |from: &str, to: &str| {
            slapd
                .modify(&format!(
                    "dn: ou={from},dc=example,dc=org\nchangetype: modrdn\n\
                     newrdn: ou={to}\ndeleteoldrdn: 1\n"
                ))
                .unwrap();
        };
        rename("people", "humans");
        let why = unavailable(service.recheck(&known).await);
        assert!(why.contains("check baseDN"), "{attribute}: {why}");
        rename("humans", "people");
        service.recheck(&known).await.unwrap();
    }
}

#[tokio::test]
async fn user_whom_the_filter_finds_no_more_is_gone() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    for attribute in IDENTIFIERS {
        let service = Service::of(&identified_by(&slapd, attribute), &slapd);
        let known = signed_in(&service).await;
        replace(&slapd, &person_dn("ada"), "employeeType", "former");
        // The entry itself is the evidence: nobody else is needed.
        for data in [known.data.as_ref(), None] {
            let why = gone(service.recheck_with(&known.identity, data).await);
            assert!(why.contains("the search finds it no more"), "{attribute}: {why}");
        }
        replace(&slapd, &person_dn("ada"), "employeeType", "staff");
    }
}

#[tokio::test]
async fn user_below_another_base_than_now_is_gone() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    slapd.add(&person("grace", "").replacen("ou=people", "ou=groups", 1)).unwrap();
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
    delete(&slapd, &person_dn("ada"));
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
    assert!(why.contains("check the account in bind and its password"), "{why}");

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

//! Who is let in, as whom, and who is not.

use claviger_domain::connector::LoginError;
use serde_json::json;

use crate::fixture::*;

#[tokio::test]
async fn user_signs_in_by_any_of_the_attributes() {
    let slapd = directory().await;
    slapd.add(&person("ada", "mail: second@example.org")).unwrap();
    let service = Service::of(&connector(&slapd), &slapd);
    for name in ["ada", "ADA", "ada@example.org", "second@example.org"] {
        let identity = service.identity(name).await;
        assert_eq!(identity.user_id.len(), 36, "entryUUID: {}", identity.user_id);
        assert_eq!(identity.email.as_deref(), Some("ada@example.org"));
        assert!(identity.email_verified);
        assert_eq!(identity.name.as_deref(), Some("Name of ada"));
        assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
        assert!(identity.groups.is_empty());
    }
    assert_eq!(service.username_label(), "Username");
}

#[tokio::test]
async fn wrong_password_and_unknown_user_are_the_users_fault_and_look_alike_to_the_directory() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&plain_connector(&slapd), &slapd);
    service.identity("ada").await;
    let wrong = Watch::on(&slapd);
    assert!(service.refusal("ada", "wrong").await.contains("invalidCredentials"));
    let counts = (wrong.connections(), wrong.binds(), wrong.searches());
    assert_eq!(counts, (1, 1, 1), "{}", wrong.text());
    let unknown = Watch::on(&slapd);
    assert!(service.refusal("nobody", PASSWORD).await.contains("no entry"));
    let counts = (unknown.connections(), unknown.binds(), unknown.searches());
    assert_eq!(counts, (1, 1, 1), "{}", unknown.text());
}

#[tokio::test]
async fn empty_or_overlong_input_never_reaches_the_directory() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&plain_connector(&slapd), &slapd);
    let watch = Watch::on(&slapd);
    let long = "x".repeat(2000);
    for (name, password) in [("ada", ""), ("", PASSWORD), ("ada", &*long), (&*long, PASSWORD)] {
        service.refusal(name, password).await;
    }
    assert_eq!((watch.connections(), watch.binds()), (0, 0), "{}", watch.text());
}

#[tokio::test]
async fn special_characters_in_names_are_characters_and_not_filters() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let odd_names =
        ["we(ir)d", "st*r", r"back\slash", r"\2a", "Jürgen Müller", "a&b|c!d", "x)(uid=*"];
    for (number, odd) in odd_names.iter().enumerate() {
        slapd.add(&person(&format!("odd{number}"), &format!("uid: {odd}"))).unwrap();
    }
    let mut spec = connector(&slapd);
    ldap(&mut spec)["userSearch"]["preferredUsernameAttribute"] = json!("sn");
    let service = Service::of(&spec, &slapd);
    for (number, odd) in odd_names.iter().enumerate() {
        let identity = service.identity(odd).await;
        assert_eq!(identity.preferred_username, Some(format!("odd{number}")), "{odd}");
    }
    for name in ["*", "a*", "ad?", "*)(uid=ada", "ada)(|(uid=*", "ada\0", "nobody)(employeeType=*)"]
    {
        assert!(service.refusal(name, PASSWORD).await.contains("no entry"), "{name:?}");
    }
}

#[tokio::test]
async fn name_with_special_characters_in_its_dn_signs_in_and_has_groups() {
    let slapd = directory().await;
    let dn = r"cn=Smith\2C \28Jo\29 \5C \2A,ou=people,dc=example,dc=org";
    slapd
        .add(&format!(
            "dn: {dn}\nobjectClass: inetOrgPerson\nsn: Smith\nuid: jo\nemployeeType: staff\n\
             userPassword: {PASSWORD}\n"
        ))
        .unwrap();
    slapd.add(&group("staff", &[dn.to_owned()])).unwrap();
    let mut spec = connector(&slapd);
    ldap(&mut spec)["groupSearch"] = json!({
        "baseDN": "ou=groups,dc=example,dc=org",
        "userMatchers": [{ "userAttribute": "DN", "groupAttribute": "member" }],
        "nestedDepth": 0,
    });
    let service = Service::of(&spec, &slapd);
    let identity = service.identity("jo").await;
    assert_eq!(identity.name.as_deref(), Some(r"Smith, (Jo) \ *"));
    assert_eq!(identity.groups, ["staff"]);
}

#[tokio::test]
async fn name_that_two_entries_answer_to_signs_in_neither() {
    let slapd = directory().await;
    for uid in ["castor", "pollux", "third"] {
        slapd.add(&person(uid, "mail: twins@example.org")).unwrap();
    }
    let service = Service::of(&plain_connector(&slapd), &slapd);
    let watch = Watch::on(&slapd);
    let error = service.login("twins@example.org", PASSWORD).await.unwrap_err();
    let LoginError::Unusable(why) = error else { panic!("{error:?}") };
    assert!(why.contains("more than one entry") && why.contains("narrow"), "{why}");
    let nobody = "cn=claviger-no-such-user,ou=people,dc=example,dc=org";
    assert_eq!(watch.binds_as(nobody), 1, "as for an unknown user: {}", watch.text());
    assert_eq!(watch.binds(), watch.binds_as(READER_DN) + 1, "no user's bind: {}", watch.text());
    service.identity("castor").await;
}

#[tokio::test]
async fn only_entries_that_match_filter_base_and_scope_are_users() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    slapd.add(&person("bot", "").replace("employeeType: staff", "employeeType: bot")).unwrap();
    slapd
        .add("dn: ou=deep,ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: deep\n")
        .unwrap();
    slapd.add(&person("below", "").replace(",ou=people", ",ou=deep,ou=people")).unwrap();
    let mut spec = connector(&slapd);
    let service = Service::of(&spec, &slapd);
    service.identity("below").await;
    service.refusal("bot", PASSWORD).await;
    service.refusal("reader", READER_PASSWORD).await;
    ldap(&mut spec)["userSearch"]["scope"] = json!("OneLevel");
    let service = Service::of(&spec, &slapd);
    service.identity("ada").await;
    service.refusal("below", PASSWORD).await;
}

#[tokio::test]
async fn identifier_may_be_any_attribute_or_the_dn() {
    let slapd = directory().await;
    slapd.add(&person("ada", "employeeNumber: 42")).unwrap();
    slapd.add(&person("numberless", "")).unwrap();
    slapd.add(&person("numerous", "uid: also-numerous")).unwrap();
    let mut spec = connector(&slapd);
    for (attribute, id) in [("DN", person_dn("ada")), ("employeeNumber", "42".to_owned())] {
        ldap(&mut spec)["userSearch"]["idAttribute"] = json!(attribute);
        assert_eq!(Service::of(&spec, &slapd).identity("ada").await.user_id, id);
    }
    let error = Service::of(&spec, &slapd).login("numberless", PASSWORD).await.unwrap_err();
    let LoginError::Unusable(why) = error else { panic!("{error:?}") };
    assert!(why.contains("no employeeNumber: choose another idAttribute"), "{why}");
    ldap(&mut spec)["userSearch"]["idAttribute"] = json!("uid");
    let service = Service::of(&spec, &slapd);
    assert_eq!(service.identity("also-numerous").await.user_id, "numerous", "the one in the DN");
}

#[tokio::test]
async fn mail_address_may_be_made_of_identifier_and_suffix() {
    let slapd = directory().await;
    slapd.add(&person("ada", "employeeNumber: x@other.org")).unwrap();
    let mut spec = connector(&slapd);
    ldap(&mut spec)["userSearch"]["idAttribute"] = json!("uid");
    ldap(&mut spec)["userSearch"]["emailSuffix"] = json!("corp.example");
    let identity = Service::of(&spec, &slapd).identity("ada").await;
    assert_eq!(identity.email.as_deref(), Some("ada@corp.example"));
    ldap(&mut spec)["userSearch"]["idAttribute"] = json!("employeeNumber");
    let identity = Service::of(&spec, &slapd).identity("ada").await;
    assert_eq!((identity.email, identity.email_verified), (None, false));
}

#[tokio::test]
async fn without_mail_no_address_is_vouched_for() {
    let slapd = directory().await;
    slapd.add(&person("ada", "").replace("mail: ada@example.org\n", "")).unwrap();
    let identity = Service::of(&connector(&slapd), &slapd).identity("ada").await;
    assert_eq!((identity.email, identity.email_verified), (None, false));
}

#[tokio::test]
async fn connections_are_reused_and_never_belong_to_a_user() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&plain_connector(&slapd), &slapd);
    let watch = Watch::on(&slapd);
    for _ in 0..5 {
        service.identity("ada").await;
        service.refusal("ada", "wrong").await;
    }
    assert_eq!(watch.binds_as(READER_DN), 1, "one connection serves all: {}", watch.text());
    assert_eq!(watch.binds_as(&person_dn("ada")), 10 * 2 - 10, "{}", watch.text());
    for (connection, names) in watch.names_by_connection() {
        assert_eq!(names.len(), 1, "{connection} was bound as {names:?}");
    }
}

#[tokio::test]
async fn many_logins_at_once_share_a_small_pool() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut spec = plain_connector(&slapd);
    ldap(&mut spec)["poolSize"] = json!(2);
    ldap(&mut spec)["timeouts"] = json!({ "connectSeconds": 20, "operationSeconds": 20 });
    let service = Service::of(&spec, &slapd);
    let watch = Watch::on(&slapd);
    let logins = (0..24).map(|n| {
        let service = service.clone();
        let password = if n % 3 == 0 { "wrong" } else { PASSWORD };
        tokio::spawn(async move { service.login("ada", password).await.is_ok() })
    });
    let answers = futures::future::join_all(logins).await;
    assert_eq!(answers.into_iter().filter(|ok| *ok.as_ref().unwrap()).count(), 16);
    assert!((1..=2).contains(&watch.binds_as(READER_DN)), "{}", watch.text());
}

#[tokio::test]
async fn anonymous_search_works_where_the_directory_allows_it_and_is_no_verdict_where_not() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut spec = connector(&slapd);
    ldap(&mut spec).as_object_mut().unwrap().remove("bind");
    let service = Service::of(&spec, &slapd);
    // This directory hides everything from nobody: the base itself cannot be found.
    let why = service.outage("ada").await;
    assert!(why.contains("noSuchObject") && why.contains("may read it"), "{why}");
    assert_eq!(service.probe().await.unwrap_err().0, "UpstreamUnusable");
}

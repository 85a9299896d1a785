//! Which groups a user is in, by every way of asking.

use claviger_domain::connector::LoginError;
use claviger_testkit::Slapd;
use serde_json::{Value, json};

use crate::fixture::*;

/// ada is in staff and engineers; engineers ⊂ level1 ⊂ level2 ⊂ level3 ⊂ engineers, a loop.
async fn nested() -> Slapd {
    let slapd = directory().await;
    let ada = person_dn("ada");
    // The overlay notes memberOf only on entries that are there already: members come first.
    let entries = [
        person("ada", ""),
        person("grace", ""),
        group("staff", std::slice::from_ref(&ada)),
        group("engineers", &[ada]),
        group("level1", &[group_dn("engineers")]),
        group("level2", &[group_dn("level1")]),
        group("level3", &[group_dn("level2")]),
        group("others", &[person_dn("grace")]),
    ];
    slapd.add(&entries.join("\n")).unwrap();
    let (engineers, level3) = (group_dn("engineers"), group_dn("level3"));
    slapd
        .modify(&format!("dn: {engineers}\nchangetype: modify\nadd: member\nmember: {level3}\n"))
        .unwrap();
    slapd
}

fn by_search(slapd: &Slapd, depth: i32) -> Value {
    let mut spec = connector(slapd);
    let mut matcher = json!({ "userAttribute": "DN", "groupAttribute": "member" });
    if depth > 0 {
        matcher["recursionGroupAttribute"] = json!("member");
    }
    ldap(&mut spec)["groupSearch"] = json!({
        "baseDN": "ou=groups,dc=example,dc=org",
        "filter": "(objectClass=groupOfNames)",
        "userMatchers": [matcher],
        "nestedDepth": depth,
    });
    spec
}

fn by_attribute(slapd: &Slapd, depth: i32) -> Value {
    let mut spec = connector(slapd);
    ldap(&mut spec)["groupsFromAttribute"] = json!({ "nestedDepth": depth });
    spec
}

async fn groups_of_ada(spec: &Value, slapd: &Slapd) -> Vec<String> {
    let mut groups = Service::of(spec, slapd).identity("ada").await.groups;
    groups.sort();
    groups
}

#[tokio::test]
async fn groups_are_found_by_search_nested_as_deep_as_said_and_loops_end() {
    let slapd = nested().await;
    assert_eq!(groups_of_ada(&by_search(&slapd, 0), &slapd).await, ["engineers", "staff"]);
    let one = groups_of_ada(&by_search(&slapd, 1), &slapd).await;
    assert_eq!(one, ["engineers", "level1", "staff"]);
    let three = groups_of_ada(&by_search(&slapd, 3), &slapd).await;
    assert_eq!(three, ["engineers", "level1", "level2", "level3", "staff"]);
    let mut deep = by_search(&slapd, 16);
    ldap(&mut deep)["urls"] = json!([slapd.ldap_url()]);
    ldap(&mut deep)["tls"] = json!({ "mode": "Plaintext" });
    let watch = Watch::on(&slapd);
    assert_eq!(groups_of_ada(&deep, &slapd).await, three);
    assert_eq!(watch.searches(), 6, "the loop ends: {}", watch.text());
}

#[tokio::test]
async fn groups_are_read_from_member_of_nested_as_deep_as_said_and_loops_end() {
    let slapd = nested().await;
    assert_eq!(groups_of_ada(&by_attribute(&slapd, 0), &slapd).await, ["engineers", "staff"]);
    let one = groups_of_ada(&by_attribute(&slapd, 1), &slapd).await;
    assert_eq!(one, ["engineers", "level1", "staff"]);
    let three = groups_of_ada(&by_attribute(&slapd, 3), &slapd).await;
    assert_eq!(three, ["engineers", "level1", "level2", "level3", "staff"]);
    let mut deep = by_attribute(&slapd, 16);
    ldap(&mut deep)["urls"] = json!([slapd.ldap_url()]);
    ldap(&mut deep)["tls"] = json!({ "mode": "Plaintext" });
    let watch = Watch::on(&slapd);
    assert_eq!(groups_of_ada(&deep, &slapd).await, three);
    assert_eq!(watch.searches(), 6, "the loop ends: {}", watch.text());
}

#[tokio::test]
async fn attribute_value_may_be_the_name_itself() {
    let slapd = directory().await;
    slapd.add(&person("ada", "businessCategory: chess, and go\nbusinessCategory: math")).unwrap();
    let mut spec = connector(&slapd);
    ldap(&mut spec)["groupsFromAttribute"] =
        json!({ "attribute": "businessCategory", "nameFormat": "Value" });
    assert_eq!(groups_of_ada(&spec, &slapd).await, ["chess, and go", "math"]);
}

#[tokio::test]
async fn all_matchers_and_the_attribute_are_joined_without_duplicates() {
    let slapd = nested().await;
    slapd
        .add(&format!(
            "dn: {}\nobjectClass: posixGroup\ncn: unix\ngidNumber: 100\nmemberUid: ada\n",
            group_dn("unix")
        ))
        .unwrap();
    let mut spec = by_attribute(&slapd, 0);
    ldap(&mut spec)["groupSearch"] = json!({
        "baseDN": "ou=groups,dc=example,dc=org",
        "userMatchers": [
            { "userAttribute": "DN", "groupAttribute": "member" },
            { "userAttribute": "uid", "groupAttribute": "memberUid" },
        ],
        "nestedDepth": 0,
    });
    assert_eq!(groups_of_ada(&spec, &slapd).await, ["engineers", "staff", "unix"]);
}

#[tokio::test]
async fn name_of_a_group_with_several_names_is_the_one_in_its_dn() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let several = format!("{}cn: admins\ncn: zebras\n", group("staff", &[person_dn("ada")]));
    slapd.add(&several).unwrap();
    assert_eq!(groups_of_ada(&by_search(&slapd, 0), &slapd).await, ["staff"]);
    let mut by_dn = by_search(&slapd, 0);
    ldap(&mut by_dn)["groupSearch"]["nameAttribute"] = json!("DN");
    assert_eq!(groups_of_ada(&by_dn, &slapd).await, [group_dn("staff")]);
}

#[tokio::test]
async fn more_groups_than_a_page_are_all_found() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let many: Vec<String> =
        (0..1200).map(|n| group(&format!("group{n:04}"), &[person_dn("ada")])).collect();
    slapd.add(&many.join("\n")).unwrap();
    // slapd lets nobody but the admin page past 500 entries.
    let mut spec = by_search(&slapd, 0);
    ldap(&mut spec)["bind"]["dn"] = json!(claviger_testkit::slapd::ADMIN_DN);
    let mut resolved = resolved(&slapd);
    let password = claviger_testkit::slapd::ADMIN_PASSWORD;
    resolved.insert("directory", "password", password.as_bytes().to_vec());
    let groups = Service::new(&spec, &resolved).identity("ada").await.groups;
    assert_eq!(groups.len(), 1200);
    // The reader is told so, and is not left with a part of the groups.
    let why = Service::of(&by_search(&slapd, 0), &slapd).outage("ada").await;
    assert!(why.contains("sizeLimitExceeded") && why.contains("narrow the filter"), "{why}");
}

#[tokio::test]
async fn missing_group_base_is_a_fault_of_the_connector() {
    let slapd = nested().await;
    let mut spec = by_search(&slapd, 0);
    ldap(&mut spec)["groupSearch"]["baseDN"] = json!("ou=nowhere,dc=example,dc=org");
    let service = Service::of(&spec, &slapd);
    let error = service.login("ada", PASSWORD).await.unwrap_err();
    let LoginError::Unavailable(why) = error else { panic!("{error:?}") };
    assert!(why.contains("ou=nowhere") && why.contains("check baseDN"), "{why}");
    let (reason, message) = service.probe().await.unwrap_err();
    assert_eq!(reason, "UpstreamUnusable");
    assert!(message.contains("ou=nowhere") && message.contains("check baseDN"), "{message}");
}

use super::*;
use claviger_connectors::certificates::Certificate;

use crate::probe::{ProbeResult, Probed};
use claviger_api::condition::Reason;

fn ldap(more: Value) -> Value {
    merged(
        json!({
            "displayName": "Directory",
            "upstream": {"ldap": {
                "urls": ["ldaps://ldap.example.com"],
                "tls": {},
                "bind": {
                    "dn": "cn=claviger,dc=example,dc=com",
                    "passwordSecretRef": {"name": "bind", "key": "password"},
                },
                "userSearch": {
                    "baseDN": "ou=people,dc=example,dc=com",
                    "usernameAttributes": ["uid"],
                },
            }},
        }),
        more,
    )
}

fn with_ldap() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.connector("ldap", ldap(json!({})));
    fixture.issuer("main", json!({"connectors": [{"name": "ldap"}]}));
    fixture
}

fn word(fixture: &mut Fixture, condition: &str) -> String {
    fixture.assess().word("Connector", (HOME, "ldap"), condition)
}

#[test]
fn a_missing_secret_takes_a_connector_out_of_service_until_it_appears() {
    let mut fixture = with_ldap();
    let missing = fixture.assess();
    let (status, reason, message) = missing.said("Connector", (HOME, "ldap"), "ResolvedRefs");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "SecretNotFound"));
    assert!(message.contains("claviger.dev/secret=connector"), "{message}");
    let issuer = missing.issuer("main").unwrap();
    assert!(issuer.connectors.is_empty());
    assert_eq!(issuer.unavailable_connectors.len(), 1, "its users wait");
    fixture.secret((HOME, "bind"), "connector", &[("password", "hunter22")]);
    let healed = fixture.assess();
    assert_eq!(healed.word("Connector", (HOME, "ldap"), "ResolvedRefs"), "True/ResolvedRefs");
    let issuer = healed.issuer("main").unwrap();
    assert_eq!((issuer.connectors.len(), issuer.unavailable_connectors.len()), (1, 0));
}

#[test]
fn a_connector_reads_only_secrets_labelled_for_connectors() {
    let labels = ["client", "user", "tls", "signing-key", "sealing-ring", "", "Connector"];
    for label in labels {
        let mut fixture = with_ldap();
        fixture.secret((HOME, "bind"), label, &[("password", "hunter22")]);
        assert_eq!(word(&mut fixture, "ResolvedRefs"), "False/SecretNotLabelled", "{label}");
    }
}

#[test]
fn a_connector_cannot_be_pointed_at_the_signing_keys() {
    let mut fixture = with_ldap();
    let kid = fixture.ring("main", &["ES256"]).remove(0);
    let spec = ldap(json!({}));
    let mut spec = spec;
    spec["upstream"]["ldap"]["bind"]["passwordSecretRef"] =
        json!({"name": secret_name("main"), "key": format!("{kid}.pem")});
    fixture.connector("ldap", spec);
    assert_eq!(word(&mut fixture, "ResolvedRefs"), "False/SecretNotLabelled");
}

#[test]
fn an_upstream_that_does_not_answer_is_unready_and_stays_offered() {
    let mut fixture = with_ldap();
    fixture.secret((HOME, "bind"), "connector", &[("password", "hunter22")]);
    let unasked = fixture.assess();
    assert_eq!(unasked.word("Connector", (HOME, "ldap"), "Ready"), "Unknown/NotProbed");
    let key = unasked.probes[0].key.clone();
    let failed = ProbeResult::Failed {
        reason: Reason::UpstreamUnreachable,
        message: "no route to host".into(),
    };
    fixture.world.probes.insert(key.clone(), probed(failed));
    let down = fixture.assess();
    let (_, reason, message) = down.said("Connector", (HOME, "ldap"), "Ready");
    assert_eq!((reason.as_str(), message.as_str()), ("UpstreamUnreachable", "no route to host"));
    assert_eq!(down.issuer("main").unwrap().connectors.len(), 1);
    assert_eq!(down.word("OIDCIssuer", (HOME, "main"), "Ready"), "True/Ready");
    fixture.world.probes.insert(key, probed(ProbeResult::Reachable));
    assert_eq!(word(&mut fixture, "Ready"), "True/Ready");
}

fn probed(result: ProbeResult) -> Probed {
    Probed { result, certificate: None }
}

#[test]
fn a_certificate_that_is_about_to_end_is_warned_of_while_all_is_well() {
    let mut fixture = with_ldap();
    fixture.secret((HOME, "bind"), "connector", &[("password", "hunter22")]);
    let key = fixture.assess().probes[0].key.clone();
    let day = 24 * 3_600;
    let mut word = |days_left: i64| {
        let not_after = fixture.now + days_left * day;
        let (server, not_before) = ("ldap.example.com".to_owned(), not_after - 365 * day);
        let certificate = Some(Certificate { server, not_before, not_after });
        let probed = Probed { result: ProbeResult::Reachable, certificate };
        fixture.world.probes.insert(key.clone(), probed);
        let assessment = fixture.assess();
        assert_eq!(assessment.word("Connector", (HOME, "ldap"), "Ready"), "True/Ready");
        assessment.said("Connector", (HOME, "ldap"), "UpstreamCertificateFresh")
    };
    let (status, reason, _) = word(15);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "CertificateFresh"));
    let (status, reason, message) = word(14);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "UpstreamCertificateExpiring"));
    assert!(
        message.starts_with("the certificate that ldap.example.com shows ends at "),
        "{message}"
    );
}

#[test]
fn an_upstream_survives_every_change_but_its_own() {
    let mut fixture = with_ldap();
    fixture.secret((HOME, "bind"), "connector", &[("password", "hunter22")]);
    let build = |fixture: &mut Fixture| {
        let assessment = fixture.assess();
        let target = assessment.probes[0].clone();
        (target.key, Arc::as_ptr(&target.probe).cast::<()>())
    };
    let first = build(&mut fixture);
    fixture.client(HOME, "app", json!({}));
    fixture.local_user("jane", json!({}));
    fixture.secret((HOME, "other"), "connector", &[("password", "x")]);
    assert_eq!(build(&mut fixture), first);
    fixture.secret((HOME, "bind"), "connector", &[("password", "changed")]);
    let second = build(&mut fixture);
    assert_ne!(second.0, first.0);
    fixture.connector("ldap", ldap(json!({"displayName": "Other"})));
    assert_ne!(build(&mut fixture).0, second.0);
}

#[test]
fn what_a_new_leader_has_not_asked_yet_keeps_what_the_last_one_said() {
    let mut fixture = with_ldap();
    fixture.secret((HOME, "bind"), "connector", &[("password", "hunter22")]);
    let key = fixture.assess().probes[0].key.clone();
    fixture.world.probes.insert(key, probed(ProbeResult::Reachable));
    let updates = fixture.assess().updates;
    let update = updates.iter().find(|u| u.resource.kind == "Connector" && u.key.name == "ldap");
    let mut json =
        serde_json::to_value(&*fixture.world.connectors[&ObjectKey::new(HOME, "ldap")]).unwrap();
    json["status"] = update.unwrap().tree().unwrap();
    let said = serde_json::from_value(json).unwrap();
    insert(&mut fixture.world.connectors, (HOME, "ldap"), said);
    fixture.world.probes.clear();
    let updates = fixture.assess().updates;
    assert!(updates.iter().all(|u| u.key.name != "ldap"), "{updates:?}");
}

#[test]
fn connectors_that_share_an_issuer_are_told_to_be_distinct() {
    let table = [
        (json!({}), "True/ImpersonationPossible"),
        (json!({"emailDomains": ["example.com"]}), "True/Accepted"),
        (json!({"groupPrefix": "corp:"}), "True/Accepted"),
        (json!({"allowedGroups": ["staff"]}), "True/Accepted"),
    ];
    for (spec, wanted) in table {
        let mut fixture = with_ldap();
        fixture.connector("ldap", ldap(spec));
        assert_eq!(word(&mut fixture, "Accepted"), "True/Accepted", "alone at its issuer");
        fixture.issuer("main", json!({"connectors": [{"name": "ldap"}, {"name": "local"}]}));
        assert_eq!(word(&mut fixture, "Accepted"), wanted);
    }
}

#[test]
fn a_user_is_in_the_table_of_the_local_connector_only_when_in_service() {
    let mut fixture = Fixture::new();
    fixture.local_user("jane", json!({}));
    let jane = (HOME, "jane");
    assert_eq!(fixture.assess().word("LocalUser", jane, "ResolvedRefs"), "False/SecretNotFound");
    let before = local_user::assess(&fixture.world);
    assert!(before[0].row.is_none());
    fixture.secret((HOME, "hashes"), "user", &[("jane", "not a hash")]);
    assert_eq!(fixture.assess().word("LocalUser", jane, "ResolvedRefs"), "False/SecretInvalid");
    fixture.secret((HOME, "hashes"), "user", &[("jane", &format!("{HASH}\n"))]);
    assert_eq!(fixture.assess().word("LocalUser", jane, "Ready"), "True/Ready");
    let after = local_user::assess(&fixture.world);
    let row = after[0].row.as_ref().unwrap();
    assert_eq!(Some(row.user_id.as_str()), after[0].object.metadata.uid.as_deref());
    assert!(row.active);
}

#[test]
fn a_disabled_user_is_known_and_unready() {
    let mut fixture = Fixture::new();
    fixture.secret((HOME, "hashes"), "user", &[("jane", HASH)]);
    fixture.local_user("jane", json!({"state": "Disabled"}));
    assert_eq!(fixture.assess().word("LocalUser", (HOME, "jane"), "Ready"), "False/Disabled");
    let users = local_user::assess(&fixture.world);
    assert!(users[0].row.as_ref().is_some_and(|row| !row.active));
}

#[test]
fn of_two_users_with_one_address_or_id_the_oldest_has_it() {
    for spec in [json!({"email": "JANE@example.com"}), json!({"userID": "42"})] {
        let mut fixture = Fixture::new();
        fixture.secret((HOME, "hashes"), "user", &[("jane", HASH), ("late", HASH)]);
        fixture.local_user("jane", json!({"userID": "42"}));
        fixture.local_user("late", spec);
        let assessment = fixture.assess();
        assert_eq!(assessment.word("LocalUser", (HOME, "jane"), "Ready"), "True/Ready");
        assert_eq!(assessment.word("LocalUser", (HOME, "late"), "Accepted"), "False/UserConflict");
        let rows = local_user::assess(&fixture.world);
        assert_eq!(rows.iter().filter(|user| user.row.is_some()).count(), 1);
    }
}

fn with_proxy() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.takes_proxies = true;
    fixture.connector(
        "proxy",
        json!({
            "displayName": "Proxy",
            "allowedGroups": ["staff"],
            "upstream": {"authProxy": {
                "clientCASecretRef": {"name": "proxy", "key": "ca.crt"},
                "allowedClientNames": ["proxy.example.com"],
            }},
        }),
    );
    fixture.issuer("main", json!({"connectors": [{"name": "proxy"}]}));
    fixture
}

/// A certificate authority of nobody's.
const CA: &str = include_str!("../../../../../examples/auth-proxy/connector.yaml");

fn example_ca() -> String {
    let (_, rest) = CA.split_once("ca.crt: |\n").unwrap();
    rest.replace("    ", "")
}

#[test]
fn a_proxys_authority_must_be_there_and_hold_certificates() {
    let mut fixture = with_proxy();
    let said =
        |fixture: &mut Fixture| fixture.assess().said("Connector", (HOME, "proxy"), "ResolvedRefs");
    let (status, reason, message) = said(&mut fixture);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "SecretNotFound"));
    assert!(message.contains("claviger.dev/secret=connector"), "{message}");
    fixture.secret((HOME, "proxy"), "connector", &[("ca.crt", "no certificate")]);
    let (status, reason, message) = said(&mut fixture);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "SecretInvalid"));
    assert!(message.contains("authorities of the proxy's client certificate"), "{message}");
    assert!(fixture.assess().issuer("main").unwrap().connectors.is_empty());

    fixture.secret((HOME, "proxy"), "connector", &[("ca.crt", &example_ca())]);
    let healed = fixture.assess();
    assert_eq!(healed.word("Connector", (HOME, "proxy"), "Ready"), "True/Ready");
    let policy = healed.issuer("main").unwrap().connectors[0].policy.clone();
    assert!(policy.only_allowed_groups, "no other group gets through");
}

#[test]
fn a_proxy_without_a_listener_is_unready_and_told_the_flag() {
    let mut fixture = with_proxy();
    fixture.secret((HOME, "proxy"), "connector", &[("ca.crt", &example_ca())]);
    fixture.world.takes_proxies = false;
    let assessment = fixture.assess();
    let (status, reason, message) = assessment.said("Connector", (HOME, "proxy"), "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ListenerDisabled"));
    assert!(message.contains("--auth-proxy-listen"), "{message}");
    assert_eq!(assessment.word("Connector", (HOME, "local"), "Ready"), "True/Ready");
}

#[test]
fn a_proxy_that_may_speak_for_every_group_is_rejected_even_if_the_schema_let_it_by() {
    let mut fixture = with_proxy();
    fixture.secret((HOME, "proxy"), "connector", &[("ca.crt", &example_ca())]);
    fixture.connector(
        "proxy",
        json!({
            "displayName": "Proxy",
            "upstream": {"authProxy": {
                "clientCASecretRef": {"name": "proxy", "key": "ca.crt"},
                "allowedClientNames": ["proxy.example.com"],
            }},
        }),
    );
    let assessment = fixture.assess();
    let (status, reason, message) = assessment.said("Connector", (HOME, "proxy"), "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidSpec"));
    assert!(message.contains("allowedGroups"), "{message}");
}

use super::*;
use crate::assess::unreadable::UnreadableUser;
use claviger_domain::connector::{RecheckError, Refresh};
use claviger_domain::issuer::IssuerUrl;

#[test]
fn an_unreadable_client_is_out_of_service_and_not_gone() {
    let main = json!({"name": "main", "namespace": HOME});
    let table = [
        (HOME, json!({"issuerRef": main}), "app"),
        (HOME, json!({"issuerRef": {"name": "main"}, "clientID": "other"}), "other"),
        (HOME, json!({"clientID": 7}), "app"),
        (TENANT, json!({"issuerRef": main, "clientID": "app"}), "team-a/app"),
        (TENANT, json!({}), "team-a/app"),
    ];
    for (namespace, spec, id) in table {
        let mut fixture = Fixture::new();
        fixture.unreadable(Source::Clients, (namespace, "app"), spec.clone());
        let assessment = fixture.assess();
        assert!(matches!(assessment.entry(id), Some(ClientEntry::OutOfService(_))), "{spec}");
    }
}

#[test]
fn an_unreadable_client_of_another_issuer_is_nobodys_business_and_takes_no_id() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "app", json!({}));
    fixture.unreadable(Source::Clients, (HOME, "late"), json!({"clientID": "app"}));
    fixture.unreadable(Source::Clients, (TENANT, "a"), json!({"issuerRef": {"name": "main"}}));
    fixture.unreadable(Source::Clients, (HOME, "b"), json!({"issuerRef": {"name": "other"}}));
    let assessment = fixture.assess();
    assert!(assessment.served("app").is_some());
    assert!(assessment.entry("team-a/a").is_none() && assessment.entry("b").is_none());
}

#[test]
fn an_unreadable_connector_is_unavailable_and_not_gone() {
    let mut fixture = Fixture::new();
    fixture.unreadable(Source::Connectors, (HOME, "ldap"), json!({}));
    let uid = format!("uid-{}", fixture.made);
    fixture.issuer("main", json!({"connectors": [{"name": "local"}, {"name": "ldap"}]}));
    let assessment = fixture.assess();
    let issuer = assessment.issuer("main").unwrap();
    assert!(issuer.unavailable_connectors.contains(&uid));
    assert_eq!(assessment.word("OIDCIssuer", (HOME, "main"), "Ready"), "False/ConnectorNotReady");
}

#[test]
fn an_unreadable_issuer_is_unavailable_and_not_unknown() {
    let mut fixture = Fixture::new();
    let url = "https://id.example.com/second";
    fixture.unreadable(Source::Issuers, (HOME, "second"), json!({"url": url}));
    fixture.unreadable(Source::Issuers, (HOME, "third"), json!({"url": 3}));
    let assessment = fixture.assess();
    let urls: Vec<&str> = assessment.snapshot.unavailable.iter().map(IssuerUrl::as_str).collect();
    assert_eq!(urls, [url]);
    assert!(assessment.issuer("main").is_some());
}

#[test]
fn an_unreadable_user_is_known_by_id_and_suspended() {
    let mut fixture = Fixture::new();
    fixture.unreadable(Source::LocalUsers, (HOME, "jane"), json!({"userID": "42", "email": 1}));
    fixture.unreadable(Source::LocalUsers, (HOME, "joe"), json!({"userID": {}}));
    let made = fixture.made;
    let wanted = [("42".to_owned(), made - 1), (format!("uid-{made}"), made)];
    let wanted = wanted
        .map(|(user_id, made)| UnreadableUser { user_id, version: format!("uid-{made}@{made}") });
    assert_eq!(Unreadable::of(&fixture.world).users, wanted);
}

#[tokio::test]
async fn a_session_of_an_unreadable_user_waits_and_does_not_end() {
    let mut fixture = Fixture::new();
    let recheck = async |fixture: &mut Fixture| {
        let assessment = fixture.assess();
        let local = &assessment.issuer("main").unwrap().connectors[0];
        let Refresh::Memory(users) = &local.refresh else { panic!("local users are in memory") };
        let jane = serde_json::from_value(json!({"i": "42"})).unwrap();
        users.recheck(&jane, None).await.unwrap_err()
    };
    assert!(matches!(recheck(&mut fixture).await, RecheckError::Gone(_)));
    fixture.unreadable(Source::LocalUsers, (HOME, "jane"), json!({"userID": "42", "email": 1}));
    assert!(matches!(recheck(&mut fixture).await, RecheckError::Unavailable(_)));
    fixture.world.unreadable.clear();
    assert!(matches!(recheck(&mut fixture).await, RecheckError::Gone(_)));
}

//! Clients that are told passwords, by grant `password`.

use claviger_domain::client::Grant;

use super::*;

/// A client with a secret of its own, at an issuer that offers `password`.
fn told_passwords(namespace: &str, spec: Value, tenants: Value) -> Assessment {
    let mut fixture = Fixture::new();
    let grants = json!(["authorization_code", "refresh_token", "password"]);
    fixture.issuer("main", json!({"grants": grants, "tenants": tenants}));
    fixture.secret((namespace, "mine"), "client", &[("secret", "0123456789abcdef")]);
    let base = json!({
        "type": "Confidential",
        "authentication": {"secretRef": {"name": "mine", "key": "secret"}},
        "grants": ["password"],
        "passwordGrant": {"connector": "local"},
    });
    let mut spec = merged(base, spec);
    spec["redirectURIs"] = Value::Null;
    fixture.client(namespace, "app", spec);
    fixture.assess()
}

#[test]
fn one_connector_checks_the_passwords_that_a_client_is_told() {
    let client = told_passwords(HOME, json!({}), json!({}));
    let client = client.served("app").unwrap();
    assert_eq!(client.grants.iter().copied().collect::<Vec<_>>(), [Grant::Password]);
    assert_eq!(client.password_connector.as_deref(), Some("local"));
    let without = json!({"grants": ["authorization_code"], "passwordGrant": null});
    let without = merged(without, json!({"redirectURIs": ["https://app.example.com/"]}));
    let mut fixture = Fixture::new();
    fixture.client(HOME, "app", without);
    assert_eq!(fixture.assess().served("app").unwrap().password_connector, None);
}

#[test]
fn a_connector_whose_users_may_not_sign_in_there_is_refused() {
    for spec in [
        json!({"passwordGrant": {"connector": "nowhere"}}),
        json!({"passwordGrant": null}),
        json!({"allowedConnectors": ["other"]}),
        json!({"type": "Public", "authentication": null}),
    ] {
        let word =
            told_passwords(HOME, spec.clone(), json!({})).client_word(HOME, "app", "Accepted");
        assert_eq!(word, "False/InvalidSpec", "{spec}");
    }
}

#[test]
fn a_tenant_is_told_passwords_only_where_grant_and_connector_are_granted_and_nobody_must_be_asked()
{
    let good = json!({
        "allowedGrants": ["password"], "allowedConnectors": ["local"], "consent": "ClientChoice",
    });
    let assessment = told_passwords(TENANT, json!({}), good);
    let client = assessment.served("team-a/app").unwrap();
    assert_eq!(client.password_connector.as_deref(), Some("local"));
    for tenants in [
        json!({"allowedConnectors": ["local"]}),
        json!({"allowedGrants": ["password"]}),
        json!({"allowedGrants": ["password"], "allowedConnectors": ["other"]}),
        json!({"allowedGrants": ["password"], "allowedConnectors": ["local"], "consent": "Required"}),
    ] {
        let tenants = merged(json!({"consent": "ClientChoice"}), tenants);
        let assessment = told_passwords(TENANT, json!({}), tenants.clone());
        assert!(assessment.served("team-a/app").is_none(), "{tenants}");
    }
}

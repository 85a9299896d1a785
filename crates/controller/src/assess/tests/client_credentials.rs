//! Clients of their own account, by grant `client_credentials`.

use claviger_domain::client::{ClientSubject, Grant};

use super::*;

/// A client with a secret of its own, at an issuer that offers `client_credentials`.
fn own_account(namespace: &str, spec: Value, tenants: Value) -> Assessment {
    let mut fixture = Fixture::new();
    let grants = json!(["authorization_code", "refresh_token", "client_credentials"]);
    fixture.issuer("main", json!({"grants": grants, "tenants": tenants}));
    fixture.secret((namespace, "mine"), "client", &[("secret", "0123456789abcdef")]);
    let base = json!({
        "type": "Confidential",
        "authentication": {"secretRef": {"name": "mine", "key": "secret"}},
    });
    let base = merged(base, json!({"grants": ["client_credentials"]}));
    let mut spec = merged(base, spec);
    spec["redirectURIs"] = Value::Null; // not even the fixture's
    fixture.client(namespace, "app", spec);
    fixture.assess()
}

#[test]
fn a_client_of_its_own_account_needs_no_redirect_uri_and_says_what_it_states() {
    let spec = json!({"clientCredentials": {"groups": ["robots"], "username": "deployer"}});
    let assessment = own_account(HOME, spec, json!({}));
    let client = assessment.served("app").unwrap();
    assert_eq!(client.grants.iter().copied().collect::<Vec<_>>(), [Grant::ClientCredentials]);
    assert_eq!(client.as_subject.groups, ["robots"]);
    assert_eq!(client.as_subject.username.as_deref(), Some("deployer"));
    let roles = json!({"clientCredentials": {"claims": [{"name": "role", "value": "deployer"}]}});
    let roles = own_account(HOME, roles, json!({}));
    assert_eq!(roles.served("app").unwrap().as_subject.claims["role"], "deployer");
    for reserved in ["sub", "aud", "email", "groups", "name", "clv", "cnf", "picture"] {
        let claims = json!([{"name": reserved, "value": "x"}]);
        let spec = json!({"clientCredentials": {"claims": claims}});
        let word = own_account(HOME, spec, json!({})).client_word(HOME, "app", "Accepted");
        assert_eq!(word, "False/InvalidSpec", "{reserved}");
    }
    let silent = own_account(HOME, json!({}), json!({}));
    assert_eq!(silent.served("app").unwrap().as_subject, ClientSubject::default());
    let both = json!({"grants": ["authorization_code", "client_credentials"]});
    let both = own_account(HOME, both, json!({}));
    assert_eq!(both.client_word(HOME, "app", "Accepted"), "False/InvalidSpec", "no redirect URI");
}

#[test]
fn a_tenants_own_account_is_granted_explicitly_and_stays_in_its_namespace() {
    let granted = json!({"allowedGrants": ["client_credentials"]});
    let good = json!({"clientCredentials": {"groups": ["team-a:robots"]}});
    let assessment = own_account(TENANT, good.clone(), granted.clone());
    let client = assessment.served("team-a/app").unwrap();
    assert_eq!(client.as_subject.groups, ["team-a:robots"]);
    let denied = own_account(TENANT, good, json!({"allowedGrants": ["authorization_code"]}));
    assert_eq!(denied.client_word(TENANT, "app", "Accepted"), "False/TenantPolicyViolation");
    for claims in [
        json!({"groups": ["admins"]}),
        json!({"groups": ["team-a:robots", "team-b:robots"]}),
        json!({"groups": ["team-a:"]}),
        json!({"groups": ["team-a"]}),
        json!({"groups": ["team-ab:robots"]}),
        json!({"groups": ["Team-a:robots"]}),
        json!({"username": "admin"}),
        json!({"username": "team-a:admin"}),
        json!({"claims": [{"name": "role", "value": "admin"}]}),
    ] {
        let spec = json!({"clientCredentials": claims});
        let assessment = own_account(TENANT, spec, granted.clone());
        let word = assessment.client_word(TENANT, "app", "Accepted");
        assert_eq!(word, "False/TenantPolicyViolation", "{claims}");
        assert!(assessment.served("team-a/app").is_none(), "{claims}");
    }
}

#[test]
fn a_public_client_has_no_account_of_its_own() {
    let public = json!({"type": "Public", "authentication": Value::Null});
    let assessment = own_account(HOME, public, json!({}));
    assert_eq!(assessment.client_word(HOME, "app", "Accepted"), "False/InvalidSpec");
}

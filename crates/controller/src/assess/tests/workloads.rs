//! Workloads: whom a client trusts, and how little of that a tenant may.

use claviger_domain::client::Grant;

use super::*;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const GITHUB: &str = "https://token.actions.githubusercontent.com";

/// A Public client without redirect URIs, at an issuer that offers both grants.
fn with_workloads(namespace: &str, spec: Value, tenants: Value) -> Assessment {
    let mut fixture = Fixture::new();
    let grants = json!(["authorization_code", "refresh_token", EXCHANGE, BEARER]);
    fixture.issuer("main", json!({"grants": grants, "tenants": tenants}));
    let mut spec = merged(json!({"grants": [EXCHANGE, BEARER]}), spec);
    spec["redirectURIs"] = Value::Null;
    fixture.client(namespace, "ci", spec);
    fixture.assess()
}

fn trusted(change: Value) -> Value {
    let entry = json!({
        "name": "github", "issuer": GITHUB,
        "claims": [{"claim": "repository", "values": ["my-org/my-repo"]}],
    });
    json!({"trustedIssuers": [merged(entry, change)]})
}

#[test]
fn a_client_trusts_what_its_object_says_and_needs_neither_a_secret_nor_a_redirect_uri() {
    let all = json!({
        "audience": "claviger", "jwksURI": "https://ci.example.com/keys", "algorithms": ["ES256"],
        "groups": ["ci"], "groupsFrom": {"claim": "teams", "prefix": "ci:"},
        "maxTokenLifetimeSeconds": 600,
    });
    let assessment = with_workloads(HOME, trusted(all), json!({}));
    let client = assessment.served("ci").unwrap();
    assert!(client.grants.contains(&Grant::TokenExchange) && !client.is_confidential());
    let entry = &client.workloads.trusted_issuers[0];
    assert_eq!((entry.issuer.as_str(), entry.audience.as_str()), (GITHUB, "claviger"));
    assert_eq!(entry.jwks_uri.as_deref(), Some("https://ci.example.com/keys"));
    assert_eq!(entry.algorithms, [claviger_jose::Algorithm::ES256]);
    assert!(entry.rules["repository"].contains("my-org/my-repo"));
    assert_eq!((entry.groups.as_slice(), entry.max_life), (&["ci".to_owned()][..], 600));
    assert_eq!(entry.groups_claim.as_ref().unwrap().prefix, "ci:");
    let plain = with_workloads(HOME, trusted(json!({})), json!({}));
    let entry = &plain.served("ci").unwrap().workloads.trusted_issuers[0];
    assert_eq!(entry.audience, "https://id.example.com", "the issuer's URL, if nothing is said");
    assert_eq!((&entry.jwks_uri, entry.max_life), (&None, 3_600));
    let itself = trusted(json!({"issuer": "https://id.example.com"}));
    let word = with_workloads(HOME, itself, json!({})).client_word(HOME, "ci", "Accepted");
    assert_eq!(word, "False/InvalidSpec");
}

#[test]
fn an_exchange_alone_is_a_beginning_only_for_a_client_that_trusts_somebody() {
    let alone = json!({"grants": [EXCHANGE]});
    let nobody = with_workloads(HOME, alone.clone(), json!({}));
    assert_eq!(nobody.client_word(HOME, "ci", "Accepted"), "False/InvalidSpec");
    let somebody = with_workloads(HOME, merged(trusted(json!({})), alone), json!({}));
    assert!(somebody.served("ci").is_some());
}

#[test]
fn service_accounts_are_those_that_are_named_in_ones_own_namespace_if_nothing_is_said() {
    let bearer = json!({"jwtBearer": {
        "serviceAccounts": [{"name": "app"}, {"name": "app", "namespace": "other", "uid": "u"}],
        "groups": ["robots"],
    }});
    let assessment = with_workloads(HOME, bearer, json!({}));
    let workloads = &assessment.served("ci").unwrap().workloads;
    let accounts: Vec<_> = workloads
        .service_accounts
        .iter()
        .map(|one| (one.subject.as_str(), one.uid.as_deref()))
        .collect();
    let own = ("system:serviceaccount:claviger:app", None);
    assert_eq!(accounts, [own, ("system:serviceaccount:other:app", Some("u"))]);
    assert_eq!(workloads.service_account_groups, ["robots"]);
}

#[test]
fn a_tenant_trusts_only_whom_the_issuer_lists_and_names_groups_of_its_own_alone() {
    let granted = json!({
        "allowedGrants": [EXCHANGE, BEARER], "allowedTrustedIssuers": [GITHUB],
        "allowedConnectors": ["local"],
    });
    let good = json!({
        "groups": ["team-a:ci"], "groupsFrom": {"claim": "teams", "prefix": "team-a:ci:"},
    });
    let bearer = |account: Value, groups: Value| json!({"jwtBearer": {"serviceAccounts": [account], "groups": groups}});
    for good in [
        trusted(good),
        trusted(json!({"groupsFrom": {"claim": "teams", "prefix": "team-a:"}})),
        bearer(json!({"name": "app"}), json!(["team-a:robots"])),
        bearer(json!({"name": "app", "namespace": TENANT}), json!([])),
    ] {
        let assessment = with_workloads(TENANT, good.clone(), granted.clone());
        assert!(assessment.served("team-a/ci").is_some(), "{good}");
    }
    for bad in [
        trusted(json!({"issuer": "https://gitlab.example.com"})),
        trusted(json!({"issuer": format!("{GITHUB}/")})),
        trusted(json!({"jwksURI": "https://ci.example.com/keys"})),
        trusted(json!({"audience": "vault"})),
        trusted(json!({"groups": ["admins"]})),
        trusted(json!({"groups": ["team-a:"]})),
        trusted(json!({"groups": ["team-ab:ci"]})),
        trusted(json!({"groupsFrom": {"claim": "teams", "prefix": "team-a"}})),
        trusted(json!({"groupsFrom": {"claim": "teams", "prefix": "x"}})),
        bearer(json!({"name": "app", "namespace": "kube-system"}), json!([])),
        bearer(json!({"name": "app", "namespace": HOME}), json!([])),
        bearer(json!({"name": "app"}), json!(["robots"])),
    ] {
        let assessment = with_workloads(TENANT, bad.clone(), granted.clone());
        let word = assessment.client_word(TENANT, "ci", "Accepted");
        assert_eq!(word, "False/TenantPolicyViolation", "{bad}");
        assert!(assessment.served("team-a/ci").is_none(), "{bad}");
    }
    let silent = json!({"allowedGrants": [EXCHANGE, BEARER]});
    let denied = with_workloads(TENANT, trusted(json!({})), silent);
    let word = denied.client_word(TENANT, "ci", "Accepted");
    assert_eq!(word, "False/TenantPolicyViolation", "nobody is listed by default");
}

#[test]
fn whose_workloads_a_client_takes_is_nothing_that_its_other_peers_say() {
    let peers = json!({"exchangePeers": ["a"], "trustedPeers": ["b"], "trustedIssuers": []});
    let served = |spec| with_workloads(HOME, merged(peers.clone(), spec), json!({}));
    let bearer = json!({"jwtBearer": {"serviceAccounts": [{"name": "app"}], "groups": ["x"]}});
    let none = served(bearer.clone());
    assert!(none.served("ci").unwrap().workloads.brought_by.is_empty());
    let one = served(merged(bearer, json!({"exchangeWorkloadsFrom": ["c"]})));
    assert_eq!(one.served("ci").unwrap().workloads.brought_by, ["c".to_owned()].into());
    let without_any = json!({"exchangeWorkloadsFrom": ["c"], "grants": [BEARER]});
    let without_any = served(without_any);
    assert_eq!(without_any.served("ci").unwrap().workloads.brought_by, ["c".to_owned()].into());
}

//! Conditions of clients, and the examples they are tried on.

use super::*;

fn assessed(namespace: &str, condition: Value) -> Assessment {
    let mut fixture = Fixture::new();
    fixture.issuer("main", json!({"tenants": bounds(json!({"conditions": "Allowed"}))}));
    fixture.client(namespace, "app", json!({"condition": condition}));
    fixture.assess()
}

fn bounds(more: Value) -> Value {
    let bounds =
        json!({"allowedConnectors": ["local"], "allowedRedirectURIHosts": ["app.example.com"]});
    merged(bounds, more)
}

#[test]
fn a_tenant_has_a_condition_only_where_the_issuer_lets_it_read_everything() {
    for (stated, word) in [
        (json!({}), "False/TenantPolicyViolation"),
        (json!({"conditions": "Forbidden"}), "False/TenantPolicyViolation"),
        (json!({"conditions": "Allowed"}), "True/Accepted"),
    ] {
        let mut fixture = Fixture::new();
        fixture.issuer("main", json!({"tenants": bounds(stated)}));
        for namespace in [HOME, TENANT] {
            let secret = "('hr:secret' in user.groups) ? true : 1 / 0 == 1";
            fixture.client(namespace, "app", json!({"condition": {"expression": secret}}));
        }
        let assessment = fixture.assess();
        let (status, reason, message) =
            assessment.said("OAuth2Client", (TENANT, "app"), "Accepted");
        assert_eq!(format!("{status}/{reason}"), word);
        assert_eq!(message.contains("tenants.conditions"), status == "False", "{message}");
        assert_eq!(assessment.served("team-a/app").is_some(), status == "True");
        assert!(assessment.served("app").unwrap().condition.is_some(), "home may always");
    }
}

#[test]
fn examples_together_take_no_longer_than_one_user_may() {
    let list = vec!["''"; 120].join(",");
    let costly = format!("[{list}].all(x, [{list}].all(y, x == y))");
    for (count, status) in [(1, "True"), (16, "False")] {
        let examples: Vec<_> =
            (0..count).map(|n| example(&n.to_string(), Value::Null, "Allow")).collect();
        let condition = json!({"expression": costly, "examples": examples});
        let (said, _, message) =
            assessed(HOME, condition).said("OAuth2Client", (HOME, "app"), "Accepted");
        assert_eq!(said, status, "{count}: {message}");
        assert_eq!(
            message.contains("too costly for so many examples"),
            said == "False",
            "{message}"
        );
    }
}

fn example(name: &str, email: Value, expect: &str) -> Value {
    json!({"name": name, "expect": expect, "user": {"email": email, "groups": ["team-a:dev"]}})
}

const EXAMPLE_COM: &str = "has(user.email) && user.email.endsWith('@example.com')";

#[test]
fn a_condition_whose_examples_come_out_as_they_say_is_served() {
    let examples = [
        example("one of us", json!("jane@example.com"), "Allow"),
        example("a stranger", json!("eve@evil.example"), "Deny"),
        example("no address", Value::Null, "Deny"),
    ];
    let condition = json!({"expression": EXAMPLE_COM, "examples": examples});
    for namespace in [HOME, TENANT] {
        let assessment = assessed(namespace, condition.clone());
        assert_eq!(assessment.client_word(namespace, "app", "Accepted"), "True/Accepted");
        let id = if namespace == HOME { "app" } else { "team-a/app" };
        assert!(assessment.served(id).unwrap().condition.is_some(), "{namespace}");
    }
}

#[test]
fn an_example_that_comes_out_otherwise_takes_the_client_out_of_service_by_name() {
    let examples = [
        example("one of us", json!("jane@example.org"), "Allow"),
        example("a stranger", json!("eve@example.com"), "Deny"),
        example("fine", json!("jane@example.com"), "Allow"),
    ];
    let condition = json!({"expression": EXAMPLE_COM, "examples": examples});
    let assessment = assessed(HOME, condition);
    let (status, reason, message) = assessment.said("OAuth2Client", (HOME, "app"), "Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidSpec"));
    assert_eq!(
        message,
        "condition: example \"one of us\": expected Allow, came out: Deny; condition: example \"a stranger\": expected Deny, came out: Allow"
    );
    assert!(assessment.served("app").is_none());
}

#[test]
fn an_error_is_no_denial_and_no_cel_is_no_condition() {
    let failing = json!({
        "expression": "user.email.endsWith('@example.com')",
        "examples": [example("no address", Value::Null, "Deny")],
    });
    let message = assessed(HOME, failing).said("OAuth2Client", (HOME, "app"), "Accepted").2;
    assert_eq!(
        message,
        "condition: example \"no address\": expected Deny, came out: no such key: email; ask for it by has() first"
    );
    for (expression, said) in [
        ("user.emial == ''", "user has no field emial"),
        ("user.email ==", "not CEL: "),
        ("user.groups.all(a, user.groups.all(b, a == b))", "too costly"),
    ] {
        for namespace in [HOME, TENANT] {
            let assessment = assessed(namespace, json!({"expression": expression}));
            let (status, _, message) =
                assessment.said("OAuth2Client", (namespace, "app"), "Accepted");
            assert_eq!(status, "False", "{expression}");
            assert!(message.contains(said), "{message}");
        }
    }
    let no_bool =
        json!({"expression": "user.groups", "examples": [example("x", Value::Null, "Deny")]});
    let message = assessed(HOME, no_bool).said("OAuth2Client", (HOME, "app"), "Accepted").2;
    assert!(message.ends_with("came out: came out as list"), "{message}");
}

#[test]
fn a_condition_is_read_once_a_generation() {
    let mut fixture = Fixture::new();
    fixture.client(HOME, "app", json!({"condition": {"expression": "true"}}));
    let condition =
        |assessment: &Assessment| assessment.served("app").unwrap().condition.clone().unwrap();
    let (first, second) = (condition(&fixture.assess()), condition(&fixture.assess()));
    assert!(Arc::ptr_eq(&first, &second), "read again although nothing changed");
    fixture.assess();
    assert!(Arc::ptr_eq(&first, &condition(&fixture.assess())), "forgotten");
}

//! Claims of an issuer's own, the examples they are tried on, and who may have their scopes.

use super::*;

fn issuer_with(claims: Value, tenants: Value) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.issuer("main", json!({"claims": claims, "tenants": tenants}));
    fixture
}

fn teams(expect: &str) -> Value {
    json!([{
        "name": "teams",
        "scope": "teams",
        "expression": "user.groups.filter(g, g.startsWith('team-')).map(g, g.split('-')[1])",
        "examples": [
            {"name": "two teams", "user": {"groups": ["team-a", "x", "team-b"]}, "expectJSON": expect},
            {"name": "none", "user": {}, "expectJSON": "[]"},
        ],
    }])
}

fn issuer_said(assessment: &Assessment) -> Said {
    assessment.said("OIDCIssuer", (HOME, "main"), "Accepted")
}

#[test]
fn claims_whose_examples_come_out_are_served_and_clients_name_their_scopes() {
    let mut fixture = issuer_with(teams(r#"["a", "b"]"#), json!({}));
    fixture.client(HOME, "app", json!({"customScopes": ["teams"]}));
    fixture.client(HOME, "other", json!({}));
    fixture.client(HOME, "misspelt", json!({"customScopes": ["taems"]}));
    fixture.client(HOME, "known", json!({"customScopes": ["federated:id"]}));
    let assessment = fixture.assess();
    let names: Vec<_> = assessment.issuer("main").unwrap().custom_claims.names().collect();
    assert_eq!(names, [("teams", "teams")]);
    assert!(assessment.served("app").unwrap().scopes.contains("teams"));
    assert!(!assessment.served("other").unwrap().scopes.contains("teams"), "none by default");
    assert!(!assessment.served("misspelt").unwrap().scopes.contains("taems"));
    let (_, _, message) = assessment.said("OAuth2Client", (HOME, "misspelt"), "Accepted");
    assert!(message.contains("scope taems reveals none of the issuer's claims"), "{message}");
    assert_eq!(assessment.client_word(HOME, "known", "Accepted"), "False/InvalidSpec");
}

#[test]
fn a_tenant_has_the_scopes_that_are_granted_by_name() {
    for (granted, word) in [
        (json!({}), "False/TenantPolicyViolation"),
        (json!({"allowedCustomScopes": ["other"]}), "False/TenantPolicyViolation"),
        (json!({"allowedCustomScopes": ["teams"]}), "True/Accepted"),
    ] {
        let bounds = merged(
            json!({"allowedConnectors": ["local"], "allowedRedirectURIHosts": ["app.example.com"]}),
            granted,
        );
        let mut fixture = issuer_with(teams(r#"["a", "b"]"#), bounds);
        fixture.client(TENANT, "app", json!({"customScopes": ["teams"]}));
        let assessment = fixture.assess();
        assert_eq!(assessment.client_word(TENANT, "app", "Accepted"), word);
        let has = assessment.served("team-a/app").is_some_and(|c| c.scopes.contains("teams"));
        assert_eq!(has, word == "True/Accepted");
    }
}

#[test]
fn an_example_that_comes_out_otherwise_takes_the_issuer_out_of_service_by_name() {
    let assessment = issuer_with(teams(r#"["a"]"#), json!({})).assess();
    let (status, reason, message) = issuer_said(&assessment);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidSpec"));
    assert_eq!(
        message,
        r#"claims: teams: example "two teams": expected ["a"], came out: ["a","b"]"#
    );
    assert!(assessment.issuer("main").is_none());
}

#[test]
fn no_claim_takes_a_name_or_scope_with_a_meaning_and_none_is_taken_that_is_no_cel() {
    let claim = |name: &str, scope: &str, expression: &str| {
        let claims = json!([{"name": name, "scope": scope, "expression": expression}]);
        issuer_said(&issuer_with(claims, json!({})).assess())
    };
    for reserved in ["sub", "aud", "exp", "groups", "email", "preferred_username", "acr", "cnf"] {
        let (status, _, message) = claim(reserved, "profile", "'x'");
        assert_eq!(status, "False", "{reserved}");
        assert!(message.ends_with("it has a meaning of its own: choose another name"), "{message}");
    }
    for scope in ["offline_access", "audience:server:client_id:kubernetes"] {
        assert_eq!(claim("x", scope, "'x'").0, "False", "{scope}");
    }
    for (expression, said) in [
        (
            "usr.email",
            "claims: x: expression: unknown variable usr: there are user, client, scopes",
        ),
        ("acr", "claims: x: expression: unknown variable acr"),
        ("user.groups.map(a, user.groups)", "claims: x: expression: too costly"),
    ] {
        let (status, _, message) = claim("x", "profile", expression);
        assert_eq!(status, "False");
        assert!(message.starts_with(said), "{message}");
    }
    let (status, ..) = claim("x", "profile", "user.email");
    assert_eq!(status, "True", "what fails for some fails when they come");
}

//! A connector's claim mapping, the examples it is tried on, and its filters of groups.

use claviger_domain::claim_mapping::MappingError;
use claviger_domain::connector::{Authenticated, PolicyError};
use claviger_domain::identity::Identity;

use super::*;

fn with(spec: Value) -> Fixture {
    let mut fixture = Fixture::new();
    let local = json!({"displayName": "Local", "upstream": {"local": {}}});
    fixture.connector("local", merged(local, spec));
    fixture
}

fn said(spec: Value) -> Said {
    with(spec).assess().said("Connector", (HOME, "local"), "Accepted")
}

/// Why the connector is out of service.
fn refusal(spec: Value) -> String {
    let (status, reason, message) = said(spec);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidSpec"), "{message}");
    message
}

fn mapping(change: Value) -> Value {
    let mapping = json!({
        "deny": [{"expression": "upstream.kind == 'robot'", "message": "People only."}],
        "username": "upstream.login.lowerAscii()",
        "groups": "user.groups + upstream.teams.map(t, 'team-' + t.name)",
        "claims": [{"name": "department", "expression": "upstream.department"}],
        "examples": [
            {"name": "a person", "user": {"groups": ["staff"]},
             "upstreamJSON": r#"{"kind": "person", "login": "Ada", "teams": [{"name": "a"}], "department": "x"}"#,
             "expectJSON": r#"{"preferredUsername": "ada", "groups": ["staff", "team-a"], "claims": {"department": "x"}, "email": null}"#},
            {"name": "a robot", "upstreamJSON": r#"{"kind": "robot"}"#, "expect": "Deny"},
        ],
    });
    json!({"claimMapping": merged(mapping, change)})
}

#[test]
fn a_mapping_whose_examples_come_out_reads_the_upstreams_answers() {
    let spec = merged(
        mapping(json!({})),
        json!({"excludeGroups": ["team-(a|b)"], "groupPrefix": "corp:"}),
    );
    let assessment = with(spec).assess();
    assert_eq!(assessment.word("Connector", (HOME, "local"), "Accepted"), "True/Accepted");
    let policy = &assessment.issuer("main").unwrap().connectors[0].policy;
    let answer = |raw: &Value| Authenticated {
        identity: identity(),
        raw: raw.as_object().unwrap().clone(),
        data: None,
    };
    let person = json!({"kind": "person", "login": "ADA", "teams": [{"name": "a"}, {"name": "ab"}], "department": 7});
    let user = policy.admit(answer(&person)).unwrap();
    assert_eq!(user.preferred_username.as_deref(), Some("ada"));
    assert_eq!(user.groups, ["corp:staff", "corp:team-ab"], "a pattern is for the whole name");
    assert_eq!(user.extra["department"], json!(7));
    let denied = policy.admit(answer(&json!({"kind": "robot"}))).unwrap_err();
    assert_eq!(denied, PolicyError::Mapping(MappingError::Denied("People only.".into())));
    assert!(denied.is_verdict());
    let failed = policy.admit(answer(&json!({}))).unwrap_err();
    assert!(!failed.is_verdict(), "{failed}");
}

fn identity() -> Identity {
    let mut known = claviger_domain::fakes::alice();
    known.groups = vec!["staff".into()];
    known
}

#[test]
fn an_example_that_comes_out_otherwise_takes_the_connector_out_and_is_named() {
    for (change, expected) in [
        (
            json!({"deny": null}),
            r#"claimMapping.examples: "a robot": expected Deny, came out: claimMapping.username could not be evaluated: no such key: login; ask for it by has() first"#,
        ),
        (
            json!({"deny": [{"expression": "true", "message": "Closed."}]}),
            r#"claimMapping.examples: "a person": expected Allow, came out: Deny (Closed.)"#,
        ),
        (
            json!({"username": "upstream.login"}),
            r#"claimMapping.examples: "a person": preferredUsername: expected "ada", came out: "Ada""#,
        ),
        (
            json!({"claims": null}),
            r#"claimMapping.examples: "a person": claims: expected {"department":"x"}, came out: {}"#,
        ),
    ] {
        assert_eq!(refusal(mapping(change)), expected);
    }
    let assessment = with(mapping(json!({"username": "upstream.login"}))).assess();
    assert!(assessment.issuer("main").is_none_or(|issuer| issuer.connectors.is_empty()));
}

#[test]
fn what_cannot_be_read_is_said_by_its_place() {
    for (change, expected) in [
        (json!({"email": "upstream."}), "claimMapping.email: not CEL"),
        (
            json!({"name": "client.id"}),
            "claimMapping.name: unknown variable client: there are user, upstream",
        ),
        (
            json!({"deny": [{"expression": "user.sub == 'x'", "message": "x"}]}),
            "claimMapping.deny[0].expression: user has no field sub: it has userID",
        ),
        (
            json!({"claims": [{"name": "groups", "expression": "[]"}]}),
            "claimMapping.claims: groups: it has a field or a meaning of its own: choose another name",
        ),
        (
            json!({"groups": "upstream.a.map(x, upstream.a.map(y, y == x ? 'a' : 'b')[0])"}),
            "claimMapping.groups: too costly",
        ),
        (
            json!({"examples": [{"name": "e", "upstreamJSON": "[]"}]}),
            r#"claimMapping.examples: "e": upstreamJSON must be a JSON object"#,
        ),
        (
            json!({"examples": [{"name": "e", "upstreamJSON": "{}{"}]}),
            r#"claimMapping.examples: "e": upstreamJSON is no JSON"#,
        ),
        (
            json!({"examples": [{"name": "e", "upstreamJSON": json!({"a": vec![0; 256]}).to_string()}]}),
            r#"claimMapping.examples: "e": upstreamJSON holds more than 256 values"#,
        ),
        (
            json!({"deny": null, "username": null, "groups": null, "claims": null,
                   "examples": [{"name": "e", "expectJSON": r#"{"mail": 1}"#}]}),
            r#"claimMapping.examples: "e": expectJSON: unknown field mail: there are preferredUsername"#,
        ),
    ] {
        let message = refusal(mapping(change));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn filters_are_patterns_and_let_every_allowed_group_through() {
    for (spec, expected) in [
        (json!({"includeGroups": ["team-("]}), "includeGroups: regex parse error"),
        (json!({"includeGroups": [")|(.*"]}), "includeGroups: regex parse error"),
        (
            json!({"excludeGroups": ["(a{1000}){1000}"]}),
            "excludeGroups: Compiled regex exceeds size limit",
        ),
        (
            json!({"allowedGroups": ["staff"], "includeGroups": ["team-.*"]}),
            r#"allowedGroups: "staff" is not let through by includeGroups and excludeGroups"#,
        ),
        (
            json!({"allowedGroups": ["staff"], "excludeGroups": ["st.*"]}),
            r#"allowedGroups: "staff" is not let through by includeGroups and excludeGroups"#,
        ),
    ] {
        let message = refusal(spec);
        assert!(message.contains(expected), "{message}");
    }
    let (status, ..) = said(json!({"allowedGroups": ["staff"], "includeGroups": ["st.*"]}));
    assert_eq!(status, "True");
}

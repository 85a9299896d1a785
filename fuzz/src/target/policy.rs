//! CEL that an administrator or a tenant writes, evaluated for the largest user there is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use claviger_domain::identity::Identity;
use claviger_domain::policy::{Condition, Expression, Facts, MAX_LENGTH};
use serde_json::json;

/// As long as one evaluation may take, on a busy machine and with coverage compiled in: the bound on its cost is a tenth of a
/// second of a release build.
const PATIENCE: Duration = Duration::from_secs(8);
/// What values of the user begin with: no error may name one.
const VALUE: &str = "Zq9x";

/// Whatever is taken ends soon, says the same twice, and names no value of the user where it fails.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let users = [usual(), largest()];
    let condition = Expression::compile(text, &Facts::OF_CONDITIONS);
    let read = Condition::compile(text, None);
    assert_eq!(read.is_ok(), condition.is_ok(), "a condition is an expression: {text}");
    if let Ok(expression) = &condition {
        assert!(text.len() <= MAX_LENGTH, "{} bytes", text.len());
        for user in &users {
            let holds = timed(|| expression.holds(&facts(user)), text);
            assert_eq!(holds, expression.holds(&facts(user)), "another answer: {text}");
            if let Err(error) = holds {
                keeps_quiet(text, &error.to_string());
            }
        }
    }
    if let Ok(expression) = Expression::compile(text, &Facts::OF_CLAIMS) {
        assert!(condition.is_ok(), "claims may say less than conditions: {text}");
        for user in &users {
            match timed(|| expression.claim(&facts(user)), text) {
                Ok(value) => {
                    let printed = value.unwrap_or_default().to_string();
                    assert!(printed.len() <= 64 * 1_024, "a claim of {}", printed.len());
                }
                Err(error) => keeps_quiet(text, &error.to_string()),
            }
        }
    }
}

/// What came of it, where it came soon.
fn timed<T>(evaluate: impl Fn() -> T, text: &str) -> T {
    let began = Instant::now();
    let found = evaluate();
    let took = began.elapsed();
    assert!(took < PATIENCE, "{took:?}: {text}");
    found
}

/// Errors are logged.
fn keeps_quiet(text: &str, error: &str) {
    assert!(text.contains(VALUE) || !error.contains(VALUE), "{text}: {error}");
}

fn facts(identity: &Identity) -> Facts<'_> {
    Facts {
        subject: "Zq9x-sub",
        identity,
        connector: "ldap",
        client_id: "grafana",
        scopes: &["openid", "groups"],
        acr: "urn:mfa",
    }
}

fn usual() -> Identity {
    Identity {
        user_id: "Zq9x-42".into(),
        email: Some("Zq9x-jane@example.com".into()),
        email_verified: true,
        name: None,
        preferred_username: Some("Zq9x-jane".into()),
        groups: vec!["Zq9x-team-a:dev".into(), "Zq9x-team-b:ops".into()],
        extra: BTreeMap::from([("locale".to_owned(), json!("Zq9x-de"))]),
    }
}

/// As much of a user as policies look at.
fn largest() -> Identity {
    Identity {
        groups: (0..1_024).map(|n| format!("Zq9x{n:0>59}")).collect(),
        email: Some("a".repeat(1_000)),
        extra: BTreeMap::from([("list".to_owned(), json!(vec!["Zq9x"; 200]))]),
        ..usual()
    }
}

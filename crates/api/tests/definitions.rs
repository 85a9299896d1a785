//! What must hold for every definition, read off the definitions themselves; and that the tables of
//! cases leave out no rule. That the cases are judged as they say is shown on a real API server (e2e).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use cases::{changed, reread, tables};
use claviger_api::crds;
use kube_core::cel::Validator;
use serde_json::{Value, json};

/// Every schema node below each kind's `spec` and `status`, by a path such as
/// `OIDCIssuer.spec.connectors[].name`.
fn nodes() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for crd in crds() {
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        walk(&crd.spec.names.kind, &schema, &mut found);
    }
    found
}

fn walk(path: &str, schema: &Value, found: &mut BTreeMap<String, Value>) {
    found.insert(path.to_owned(), schema.clone());
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, found);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], found);
    }
}

/// Paths of the nodes that are not as they should be.
fn offenders(is_right: impl Fn(&str, &Value) -> bool) -> Vec<String> {
    nodes().into_iter().filter(|(path, node)| !is_right(path, node)).map(|(path, _)| path).collect()
}

/// Kind and words of every rule. Two may say the same where they are the same: the API server names the field.
fn rules() -> BTreeSet<(String, String)> {
    let mut found = BTreeMap::new();
    for (path, node) in nodes() {
        let kind = path.split('.').next().unwrap();
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().expect("every rule has words");
            let words = (kind.to_owned(), message.to_owned());
            let other = found.insert(words, rule["rule"].clone());
            let is_other = other.is_some_and(|other| other != rule["rule"]);
            assert!(!is_other, "{kind}: two rules say {message:?}");
        }
    }
    found.into_keys().collect()
}

#[test]
fn every_rule_has_a_case_that_breaks_it() {
    let mut broken = BTreeSet::new();
    for table in tables() {
        let words = table.bad.iter().map(|case| case.says);
        let words = words.chain(table.bad_updates.iter().map(|case| case.says));
        broken.extend(words.map(|says| (table.kind.to_owned(), says.to_owned())));
    }
    let untested: Vec<_> = rules().difference(&broken).cloned().collect();
    assert!(untested.is_empty(), "rules without a case: {untested:#?}");
}

/// What the rules of a kind say to a spec, as the client-side evaluator judges; the API server's own
/// judgment of the same cases is in e2e.
fn said_by_rules(kind: &str, spec: &Value, before: Option<&Value>) -> Vec<String> {
    let schema = &nodes()[kind];
    let object = |spec: &Value| json!({"spec": spec});
    let before = before.map(object);
    match Validator::new().validate(schema, &object(spec), before.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}

#[test]
fn the_rules_judge_the_cases_as_the_tables_say() {
    let rules = rules();
    for table in tables() {
        for case in &table.good {
            let spec = changed(&table.base, &case.change);
            let said = said_by_rules(table.kind, &spec, None);
            assert!(said.is_empty(), "{} {}: {said:?}", table.kind, case.what);
        }
        let is_rule = |says: &str| rules.contains(&(table.kind.to_owned(), says.to_owned()));
        for case in table.bad.iter().filter(|case| is_rule(case.says)) {
            let spec = changed(&table.base, &case.change);
            let said = said_by_rules(table.kind, &spec, None);
            assert!(said.contains(&case.says.to_owned()), "{} {}: {said:?}", table.kind, case.what);
        }
        for case in &table.bad_updates {
            let before = changed(&table.base, &case.before);
            assert_eq!(said_by_rules(table.kind, &before, None), [""; 0], "{}", case.what);
            let after = changed(&before, &case.change);
            let said = said_by_rules(table.kind, &after, Some(&before));
            assert_eq!(said, [case.says], "{} {}", table.kind, case.what);
        }
    }
}

#[test]
fn every_case_changes_something_else() {
    for table in tables() {
        let mut bad: Vec<Value> = Vec::new();
        for case in &table.bad {
            let spec = changed(&table.base, &case.change);
            assert_ne!(spec, table.base, "{} {}", table.kind, case.what);
            assert!(!bad.contains(&spec), "{} {} is there twice", table.kind, case.what);
            bad.push(spec);
        }
        for case in &table.bad_updates {
            let before = changed(&table.base, &case.before);
            assert_ne!(changed(&before, &case.change), before, "{} {}", table.kind, case.what);
        }
    }
}

#[test]
fn every_field_is_explained() {
    // Items are explained by their list, the parts of a list of objects by themselves.
    let silent = offenders(|path, node| {
        path.ends_with("[]") || node["description"].as_str().is_some_and(|text| text.len() > 3)
    });
    assert!(silent.is_empty(), "without description: {silent:#?}");
}

#[test]
fn every_text_and_list_and_number_has_bounds() {
    let unbounded = offenders(|path, node| match node["type"].as_str() {
        Some("string") => {
            node["maxLength"].is_number()
                || node["enum"].is_array()
                || node["format"] == "date-time"
        }
        Some("array") => node["maxItems"].is_number(),
        Some("integer") if node["format"] == "int64" => {
            node["minimum"].is_number() || path.ends_with(".status.observedGeneration")
        }
        Some("integer") => node["minimum"].is_number() && node["maximum"].is_number(),
        Some("object") if node["additionalProperties"].is_object() => {
            node["maxProperties"].is_number()
        }
        Some("object" | "boolean") => true,
        other => panic!("{path} is of type {other:?}"),
    });
    assert!(unbounded.is_empty(), "without bounds: {unbounded:#?}");
}

#[test]
fn every_list_says_how_it_merges() {
    let vague = offenders(|_, node| {
        let merge = node["x-kubernetes-list-type"].as_str();
        match (node["type"].as_str(), node["items"]["type"].as_str()) {
            (Some("array"), Some("object")) => matches!(merge, Some("map" | "atomic")),
            (Some("array"), _) => matches!(merge, Some("set" | "atomic")),
            _ => true,
        }
    });
    assert!(vague.is_empty(), "lists without merge strategy: {vague:#?}");
}

#[test]
fn nothing_may_be_null_or_unknown() {
    let loose = offenders(|_, node| {
        node["nullable"].is_null()
            && node["x-kubernetes-preserve-unknown-fields"].is_null()
            && node["oneOf"].is_null()
            && node["anyOf"].is_null()
    });
    assert!(loose.is_empty(), "loose schemas: {loose:#?}");
}

#[test]
fn names_are_namespaced_unique_and_in_the_category() {
    let mut names = BTreeSet::new();
    for crd in crds() {
        assert_eq!(crd.spec.scope, "Namespaced");
        assert_eq!(crd.spec.group, claviger_api::GROUP);
        assert_eq!(crd.spec.versions[0].name, claviger_api::VERSION);
        let is = crd.spec.names;
        assert_eq!(is.categories.as_deref(), Some(&["claviger".to_owned()][..]), "{}", is.kind);
        assert!(is.short_names.as_ref().is_some_and(|short| !short.is_empty()), "{}", is.kind);
        let all = is.short_names.into_iter().flatten().chain([is.plural]).chain(is.singular);
        for name in all {
            assert!(names.insert(name.clone()), "{name} is taken");
        }
    }
}

#[test]
fn only_the_machine_written_kind_has_no_status() {
    for crd in crds() {
        let has_status =
            crd.spec.versions[0].subresources.as_ref().is_some_and(|s| s.status.is_some());
        let written_by_claviger = ["Session", "DeviceAuthorization"];
        let kind = crd.spec.names.kind.as_str();
        assert_eq!(has_status, !written_by_claviger.contains(&kind), "{kind}");
    }
}

#[test]
fn the_rule_about_upstreams_names_every_variant() {
    let nodes = nodes();
    let variants: Vec<&String> =
        nodes["Connector.spec.upstream"]["properties"].as_object().unwrap().keys().collect();
    let rules = nodes["Connector.spec"]["x-kubernetes-validations"].as_array().unwrap();
    let rule = rules
        .iter()
        .find(|rule| rule["message"].as_str().unwrap().starts_with("upstream must be exactly one"))
        .unwrap();
    let in_rule: BTreeSet<&str> = rule["rule"]
        .as_str()
        .unwrap()
        .split("has(self.upstream.")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap())
        .collect();
    let in_words: BTreeSet<&str> =
        rule["message"].as_str().unwrap().split(": ").nth(1).unwrap().split(", ").collect();
    let variants: BTreeSet<&str> = variants.into_iter().map(String::as_str).collect();
    assert_eq!(in_rule, variants);
    assert_eq!(in_words, variants);
}

/// `value` with the schema's defaults filled in, as the API server does.
fn defaulted(schema: &Value, mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if !fields.contains_key(name) && !property["default"].is_null() {
                fields.insert(name.clone(), property["default"].clone());
            }
            if let Some(field) = fields.get_mut(name) {
                *field = defaulted(property, field.take());
            }
        }
    }
    for item in value.as_array_mut().into_iter().flatten() {
        *item = defaulted(&schema["items"], item.take());
    }
    value
}

#[test]
fn rust_and_the_schema_have_the_same_fields_and_defaults() {
    let nodes = nodes();
    for table in tables() {
        let schema = &nodes[&format!("{}.spec", table.kind)];
        for case in table.good {
            let spec = changed(&table.base, &case.change);
            let written = reread(table.kind, spec.clone());
            let written = written.unwrap_or_else(|e| panic!("{} {}: {e}", table.kind, case.what));
            assert_eq!(written, defaulted(schema, spec), "{} {}", table.kind, case.what);
        }
    }
}

#[test]
fn a_merge_patch_adds_changes_and_removes() {
    let base = json!({"a": 1, "b": {"c": 2, "d": 3}});
    let change = json!({"a": null, "b": {"c": 4}, "e": {"f": 5}});
    assert_eq!(changed(&base, &change), json!({"b": {"c": 4, "d": 3}, "e": {"f": 5}}));
}

fn crdgen(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crdgen")).args(arguments).output().unwrap()
}

#[test]
fn the_committed_definitions_are_the_generated_ones() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let output = crdgen(&[Path::new("--check"), &committed]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn stale_missing_and_left_over_definitions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(crdgen(&[folder.path()]).status.success());
    assert!(crdgen(&[Path::new("--check"), folder.path()]).status.success());

    let file = |name: &str| folder.path().join(format!("claviger.dev_{name}.yaml"));
    std::fs::remove_file(file("sessions")).unwrap();
    std::fs::write(file("connectors"), "kind: CustomResourceDefinition\n").unwrap();
    std::fs::write(file("passwords"), "").unwrap();
    let output = crdgen(&[Path::new("--check"), folder.path()]);
    assert_eq!(output.status.code(), Some(1));
    let named = String::from_utf8(output.stderr).unwrap();
    for stale in ["sessions", "connectors", "passwords"] {
        assert!(named.contains(&format!("claviger.dev_{stale}.yaml")), "{named}");
    }
    assert!(!named.contains("signingkeys"), "{named}");

    assert!(crdgen(&[folder.path()]).status.success());
    assert!(!file("passwords").exists());
    assert_eq!(crdgen(&[]).status.code(), Some(2));
}

//! Label selectors, as the API server reads them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether the labels match. An empty selector matches everything; an expression that is no
/// expression matches nothing.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    equal.clone().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.clone().all(|expression| holds(expression, labels))
}

fn holds(expression: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&expression.key);
    let listed = |value: &String| expression.values.iter().flatten().any(|one| one == value);
    match expression.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "team".into(),
                operator: operator.into(),
                values: Some(values.iter().map(ToString::to_string).collect()),
            }]),
        }
    }

    #[test]
    fn selectors_match_as_the_api_server_does() {
        let blue = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
        let none = BTreeMap::new();
        let table = [
            (LabelSelector::default(), true, true),
            (expression("In", &["blue", "red"]), true, false),
            (expression("NotIn", &["blue"]), false, true),
            (expression("Exists", &[]), true, false),
            (expression("DoesNotExist", &[]), false, true),
            (expression("Sounds", &["blue"]), false, false),
            (
                LabelSelector { match_labels: Some(blue.clone()), match_expressions: None },
                true,
                false,
            ),
        ];
        for (selector, with_blue, with_none) in table {
            assert_eq!(matches(&selector, &blue), with_blue, "{selector:?}");
            assert_eq!(matches(&selector, &none), with_none, "{selector:?}");
        }
    }
}

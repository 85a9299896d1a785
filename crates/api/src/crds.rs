//! The definitions of all kinds, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube_core::CustomResourceExt;
use serde_json::Value;

use crate::{
    Connector, DeviceAuthorization, LocalUser, OAuth2Client, OIDCIssuer, Session, SigningKey,
};

/// Every CustomResourceDefinition of the group: the derived ones, made fit for people.
///
/// - An optional field may be left out but not be `null` (the derives say `nullable`), so that
///   `has(self.x)` in a rule means "x was given".
/// - No `oneOf`: for a missing or misspelt variant the API server reports the first variant as
///   "Required value" and, because of that, skips the rules, so the rule that says it in words
///   would never be heard. That rule is as strict.
/// - Defaults have their keys in one order, whatever else is in the build.
/// - Descriptions are paragraphs: `kubectl explain` would keep the line breaks of the source.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        OIDCIssuer::crd(),
        OAuth2Client::crd(),
        Connector::crd(),
        SigningKey::crd(),
        LocalUser::crd(),
        Session::crd(),
        DeviceAuthorization::crd(),
    ];
    for crd in &mut crds {
        let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
        schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()).for_each(for_people);
    }
    crds
}

fn for_people(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.one_of = None;
    if let Some(default) = &mut schema.default {
        sort_keys(&mut default.0);
    }
    if let Some(description) = &mut schema.description {
        *description = paragraphs(description);
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        for_people(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => for_people(items),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter_mut().for_each(for_people),
        None => {}
    }
}

/// JSON keys in one order: `serde_json` keeps another where josekit's `preserve_order` is in the build.
fn sort_keys(value: &mut Value) {
    if let Value::Object(map) = value {
        let mut pairs: Vec<_> = std::mem::take(map).into_iter().collect();
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (_, value) in &mut pairs {
            sort_keys(value);
        }
        *map = pairs.into_iter().collect();
    }
}

fn paragraphs(description: &str) -> String {
    let joined = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    description.split("\n\n").map(joined).collect::<Vec<_>>().join("\n\n")
}

//! A connector's claim mapping and filters of groups → how its answers are read, tried on its own examples first.
//!
//! What always holds: a mapping that is not CEL, or comes out otherwise than one of its examples says, takes the
//! connector out of service, since a rule that is not there lets in whom it was to keep out; it is read once a generation.

use claviger_api::ConditionVerdict;
use claviger_api::condition::Reason;
use claviger_api::connector::ClaimMapping as Spec;
use claviger_api::connector::claim_mapping::MappingExample;
use claviger_api::{Connector, ConnectorSpec};
use claviger_domain::claim_mapping::{ClaimMapping, Denial, MappingError, Rules, may_give};
use claviger_domain::connector::GroupFilter;
use claviger_domain::identity::Identity;
use claviger_domain::policy::{Answer, Expression, MAX_EXAMPLE_NODES};
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use crate::assess::condition::identity_of;
use crate::assess::findings::Findings;
use crate::assess::read_before::ReadBefore;

/// Mappings and filters that were read before, of a connector's generation.
pub type MappingMemo = ReadBefore<Option<i64>, Result<(ClaimMapping, GroupFilter), Vec<String>>>;

/// How a connector's answers are read, and which groups of them are let through.
pub fn claim_mapping(
    connector: &Connector,
    memo: &mut MappingMemo,
    findings: &mut Findings,
) -> (ClaimMapping, GroupFilter) {
    let of = connector.metadata.generation;
    let read = memo.get(connector.uid(), of, || read(&connector.spec));
    read.unwrap_or_else(|faults| {
        for fault in faults {
            findings.reject(Reason::InvalidSpec, fault);
        }
        Default::default()
    })
}

fn read(spec: &ConnectorSpec) -> Result<(ClaimMapping, GroupFilter), Vec<String>> {
    let mapping = spec.claim_mapping.as_ref().map(read_mapping).transpose();
    let filter = filter(spec);
    match (mapping, filter) {
        (Ok(mapping), Ok(filter)) => Ok((mapping.unwrap_or_default(), filter)),
        (mapping, filter) => {
            let faults = mapping.err().unwrap_or_default().into_iter();
            let faults = faults.map(|fault| format!("claimMapping.{fault}"));
            Err(faults.chain(filter.err()).collect())
        }
    }
}

fn filter(spec: &ConnectorSpec) -> Result<GroupFilter, String> {
    let groups = GroupFilter::new(&spec.include_groups, &spec.exclude_groups)?;
    match spec.allowed_groups.iter().find(|group| !groups.lets_through(group)) {
        None => Ok(groups),
        Some(group) => Err(format!(
            "allowedGroups: {group:?} is not let through by includeGroups and excludeGroups, so nobody comes in by it: remove it, or change them"
        )),
    }
}

fn read_mapping(spec: &Spec) -> Result<ClaimMapping, Vec<String>> {
    let mut reader = Reader { examples: spec.examples.len(), faults: Vec::new() };
    let mut rules = Rules {
        username: reader.optional("username", spec.username.as_ref()),
        name: reader.optional("name", spec.name.as_ref()),
        email: reader.optional("email", spec.email.as_ref()),
        email_verified: reader.optional("emailVerified", spec.email_verified.as_ref()),
        groups: reader.optional("groups", spec.groups.as_ref()),
        ..Rules::default()
    };
    for (at, denial) in spec.deny.iter().enumerate() {
        let expression = reader.expression(&format!("deny[{at}].expression"), &denial.expression);
        let message = denial.message.clone();
        rules.deny.extend(expression.map(|expression| Denial { expression, message }));
    }
    for claim in &spec.claims {
        let place = format!("claims: {}", claim.name);
        if !may_give(&claim.name) {
            let why = "it has a field or a meaning of its own: choose another name";
            reader.faults.push(format!("{place}: {why}"));
        }
        let expression = reader.expression(&place, &claim.expression);
        rules.claims.extend(expression.map(|expression| (claim.name.clone(), expression)));
    }
    let mapping = ClaimMapping::from(rules);
    if reader.faults.is_empty() {
        for example in &spec.examples {
            if let Err(fault) = try_on(&mapping, example) {
                reader.faults.push(format!("examples: {:?}: {fault}", example.name));
            }
        }
    }
    if reader.faults.is_empty() { Ok(mapping) } else { Err(reader.faults) }
}

struct Reader {
    examples: usize,
    faults: Vec<String>,
}

impl Reader {
    fn optional(&mut self, place: &str, text: Option<&String>) -> Option<Expression> {
        text.and_then(|text| self.expression(place, text))
    }

    fn expression(&mut self, place: &str, text: &str) -> Option<Expression> {
        let read = Expression::compile(text, &Answer::VARIABLES)
            .and_then(|expression| expression.affords(self.examples).map(|()| expression));
        read.map_err(|error| self.faults.push(format!("{place}: {error}"))).ok()
    }
}

fn try_on(mapping: &ClaimMapping, example: &MappingExample) -> Result<(), String> {
    let raw = object("upstreamJSON", &example.upstream_json)?;
    if values_in(&Value::Object(raw.clone())) > MAX_EXAMPLE_NODES {
        return Err(format!("upstreamJSON holds more than {MAX_EXAMPLE_NODES} values: shorten it"));
    }
    let expected = example.expect_json.as_deref().unwrap_or("{}");
    let expected = object("expectJSON", expected)?;
    match (mapping.apply(identity_of(&example.user), &raw), example.expect) {
        (Ok(user), ConditionVerdict::Allow) => compare(&user, &expected),
        (Err(MappingError::Denied(_)), ConditionVerdict::Deny) => Ok(()),
        (Ok(_), ConditionVerdict::Deny) => Err("expected Deny, came out: Allow".into()),
        (Err(MappingError::Denied(message)), ConditionVerdict::Allow) => {
            Err(format!("expected Allow, came out: Deny ({message})"))
        }
        (Err(error), expect) => Err(format!("expected {expect:?}, came out: {error}")),
    }
}

fn object(field: &str, text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(format!(
            "{field} must be a JSON object, such as {{\"email\": \"jane@example.com\"}}"
        )),
        Err(error) => Err(format!("{field} is no JSON: {error}")),
    }
}

fn values_in(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values_in).sum(),
        Value::Object(members) => members.values().map(values_in).sum(),
        _ => 0,
    }
}

/// Whether a user is as an example says, member by member.
fn compare(user: &Identity, expected: &Map<String, Value>) -> Result<(), String> {
    let Identity { user_id: _, email, email_verified, name, preferred_username, groups, extra } =
        user;
    let mut found = json!({
        "preferredUsername": preferred_username, "name": name, "email": email,
        "emailVerified": email_verified, "groups": groups, "claims": extra,
    });
    for (field, expected) in expected {
        let Some(found) = found.get_mut(field).map(Value::take) else {
            return Err(format!(
                "expectJSON: unknown field {field}: there are preferredUsername, name, email, emailVerified, groups, claims"
            ));
        };
        if found != *expected {
            return Err(format!("{field}: expected {expected}, came out: {found}"));
        }
    }
    Ok(())
}

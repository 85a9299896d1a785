//! From what a provider says about a user to who they are here.

use std::collections::BTreeSet;

use claviger_api::connector::oidc::{OidcClaims, OidcEmailVerification};
use claviger_domain::identity::Identity;
use serde_json::{Map, Value};

/// Claims that go into tokens as the provider says them (OIDC Core 5.1).
const STANDARD: [&str; 15] = [
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
    "phone_number_verified",
    "updated_at",
    "address",
];
/// The claim that `email_verified` is about (OIDC Core 5.1).
const EMAIL: &str = "email";
/// Longest further claim, in bytes of JSON.
const MAX_EXTRA: usize = 1_024;
/// Most groups that are taken.
const MAX_GROUPS: usize = 20_000;

/// Who the claims are about.
///
/// # Errors
/// Which claim is not usable, and what to change.
pub fn identity(
    claims: &Map<String, Value>,
    names: &OidcClaims,
    verification: OidcEmailVerification,
) -> Result<Identity, String> {
    let text = |name: &str| find(claims, name).and_then(text_of).filter(|text| !text.is_empty());
    let user_id = text(&names.user_id).ok_or_else(|| {
        format!(
            "the provider says no {} about the user: ask for the scope that brings it, or name another claim in claims.userID",
            names.user_id
        )
    })?;
    let email = text(&names.email);
    let email_verified = email.is_some()
        && match verification {
            OidcEmailVerification::Always => true,
            // It speaks of `email` and of no other claim.
            OidcEmailVerification::Claim => {
                names.email == EMAIL && claims.get("email_verified").is_some_and(is_true)
            }
        };
    let groups = match &names.groups {
        None => Vec::new(),
        Some(name) => {
            find(claims, name).map_or_else(|| Ok(Vec::new()), |found| groups(name, found))?
        }
    };
    Ok(Identity {
        user_id,
        email,
        email_verified,
        name: text(&names.name),
        preferred_username: text(&names.username),
        groups,
        extra: STANDARD
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), claims.get(*name)?.clone())))
            .filter(|(_, value)| !value.is_null() && !value.is_array())
            .filter(|(_, value)| value.to_string().len() <= MAX_EXTRA)
            .collect(),
    })
}

/// A claim of this name, or what its dots lead to.
pub fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let mut path = name.split('.');
    let first = claims.get(path.next()?)?;
    path.try_fold(first, |value, member| value.as_object()?.get(member))
}

/// Text, or a whole number as text: some providers number their users.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// Some providers say `"true"`.
pub fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

/// Names, objects with a `name`, or one name; in the provider's order, each once.
fn groups(claim: &str, found: &Value) -> Result<Vec<String>, String> {
    let items = match found {
        Value::Array(items) => items.as_slice(),
        Value::Null => &[],
        one => std::slice::from_ref(one),
    };
    if items.len() > MAX_GROUPS {
        return Err(format!(
            "claim {claim} lists more than {MAX_GROUPS} groups: let the provider filter them"
        ));
    }
    let mut seen = BTreeSet::new();
    let mut groups = Vec::new();
    for item in items {
        let name = match item {
            Value::Object(members) => members.get("name").and_then(text_of),
            other => text_of(other),
        };
        let name = name.ok_or_else(|| {
            format!("claim {claim} holds what is neither a name nor an object with a name: name another claim in claims.groups")
        })?;
        if !name.is_empty() && seen.insert(name.clone()) {
            groups.push(name);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn about(claims: Value, groups: Option<&str>) -> Result<Identity, String> {
        let Value::Object(claims) = claims else { panic!("not an object") };
        let names = OidcClaims { groups: groups.map(str::to_owned), ..OidcClaims::default() };
        identity(&claims, &names, OidcEmailVerification::Claim)
    }

    fn groups_of(value: &Value) -> Vec<String> {
        about(json!({"sub": "7", "groups": value}), Some("groups")).unwrap().groups
    }

    #[test]
    fn standard_claims_are_taken_and_others_are_not() {
        let said = json!({
            "sub": "7", "email": "a@example.com", "email_verified": true, "name": "Ada", "given_name": "A",
            "preferred_username": "ada", "iss": "https://idp", "aud": "us", "groups": ["admins"], "secret": "x",
        });
        let identity = about(said, None).unwrap();
        assert_eq!(identity.user_id, "7");
        assert_eq!(identity.email.as_deref(), Some("a@example.com"));
        assert!(identity.email_verified);
        assert_eq!(identity.name.as_deref(), Some("Ada"));
        assert_eq!(identity.preferred_username.as_deref(), Some("ada"));
        assert!(identity.groups.is_empty(), "nobody named the claim");
        assert_eq!(identity.extra.keys().collect::<Vec<_>>(), ["given_name"]);
    }

    #[test]
    fn an_address_is_verified_where_the_provider_says_so_and_only_then() {
        let verified = |said: Value| {
            about(json!({"sub": "7", "email": "a@example.com", "email_verified": said}), None)
                .unwrap()
                .email_verified
        };
        assert!(verified(json!(true)) && verified(json!("true")));
        assert!(!verified(json!(false)) && !verified(json!(1)) && !verified(Value::Null));
        assert!(!about(json!({"sub": "7", "email_verified": true}), None).unwrap().email_verified);
        let claims = json!({"sub": "7", "email": "a@example.com"});
        let names = OidcClaims::default();
        let elsewhere = OidcClaims { email: "upn".into(), ..OidcClaims::default() };
        let said = json!({"sub": "7", "upn": "boss@example.com", "email_verified": true});
        let said = said.as_object().unwrap();
        let other = identity(said, &elsewhere, OidcEmailVerification::Claim).unwrap();
        assert!(!other.email_verified, "it speaks of email alone");
        let always =
            identity(claims.as_object().unwrap(), &names, OidcEmailVerification::Always).unwrap();
        assert!(always.email_verified);
    }

    #[test]
    fn groups_are_names_or_objects_with_one_each_once() {
        assert_eq!(groups_of(&json!(["b", "a", "b"])), ["b", "a"]);
        assert_eq!(groups_of(&json!([{"name": "ops", "id": 7}, "dev"])), ["ops", "dev"]);
        assert_eq!(groups_of(&json!("one")), ["one"]);
        assert_eq!(groups_of(&Value::Null), Vec::<String>::new());
        for bad in [json!([["nested"]]), json!([{"id": 7}]), json!([true])] {
            let said = about(json!({"sub": "7", "groups": bad}), Some("groups")).unwrap_err();
            assert!(said.contains("claims.groups"), "{said}");
        }
        let many: Vec<String> = (0..=MAX_GROUPS).map(|n| n.to_string()).collect();
        assert!(about(json!({"sub": "7", "groups": many}), Some("groups")).is_err());
    }

    #[test]
    fn a_name_with_dots_is_a_name_first_and_then_a_path() {
        let roles = json!({"sub": "7", "realm_access": {"roles": ["admin"]}});
        assert_eq!(about(roles, Some("realm_access.roles")).unwrap().groups, ["admin"]);
        let url = json!({"sub": "7", "https://example.com/groups": ["ops"]});
        assert_eq!(about(url, Some("https://example.com/groups")).unwrap().groups, ["ops"]);
        assert!(about(json!({"sub": "7"}), Some("realm_access.roles")).unwrap().groups.is_empty());
    }

    #[test]
    fn somebody_without_an_identifier_is_nobody() {
        for sub in [json!(""), Value::Null, json!(1.5), json!({})] {
            let said = about(json!({"sub": sub}), None).unwrap_err();
            assert!(said.contains("claims.userID"), "{said}");
        }
        assert_eq!(about(json!({"sub": 7}), None).unwrap().user_id, "7");
    }
}

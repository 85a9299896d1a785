//! From an assertion to who its user is here.
//!
//! What always holds: identifiers, names and groups are what the provider says, to the last space: who may call themselves
//! `admin ` there is not `admin` here.

use std::collections::BTreeSet;

use claviger_api::connector::saml::{SamlEmailVerification, SamlNameIdFormat, SamlUpstream};
use claviger_domain::identity::Identity;
use serde_json::{Map, Value};

use super::assertion::{Attribute, Believed};
use super::xml::is_space;

const TRANSIENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";
/// What a `NameID` without a format is of.
pub const UNSPECIFIED: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
/// Longest identifier, in bytes: SAML Core 8.3.7 has 256 characters.
const MAX_USER_ID: usize = 1_024;
/// Most groups that are taken.
const MAX_GROUPS: usize = 20_000;

/// The URI of a format.
pub fn format_uri(format: SamlNameIdFormat) -> &'static str {
    match format {
        SamlNameIdFormat::Persistent => "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        SamlNameIdFormat::EmailAddress => "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
        SamlNameIdFormat::Transient => TRANSIENT,
        SamlNameIdFormat::Unspecified => UNSPECIFIED,
    }
}

/// Who the assertion is about.
///
/// # Errors
/// What is not usable, and what to change.
pub fn identity(believed: &Believed, spec: &SamlUpstream) -> Result<Identity, String> {
    let names = &spec.attributes;
    let text = |name: &Option<String>| {
        let mut values = name.as_deref().into_iter().flat_map(|name| values(believed, name));
        values.find(|value| is_said(value)).map(str::to_owned)
    };
    let user_id = match &names.user_id {
        None => by_name_id(believed, spec.name_id_format)?,
        Some(name) => only(believed, name)?.ok_or_else(|| {
            format!(
                "the assertion has no attribute {name}: let the identity provider send it, or name another in attributes.userID"
            )
        })?,
    };
    if user_id.len() > MAX_USER_ID {
        return Err(format!("the user's identifier is longer than {MAX_USER_ID} bytes"));
    }
    let email = names.email.as_deref().map(|name| only(believed, name)).transpose()?.flatten();
    Ok(Identity {
        user_id,
        email_verified: email.is_some() && spec.email_verification == SamlEmailVerification::Always,
        email,
        name: text(&names.name),
        preferred_username: text(&names.username),
        groups: groups(believed, spec)?,
        extra: std::collections::BTreeMap::new(),
    })
}

/// Everything the assertion says of its user, for a claim mapping: each attribute's list of texts by its name, and `NameID`,
/// `NameIDFormat` and `AuthnContextClassRef`.
pub fn raw(believed: &Believed) -> Map<String, Value> {
    let mut raw = Map::new();
    for attribute in &believed.attributes {
        let list = raw.entry(attribute.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.extend(attribute.values.iter().cloned().map(Value::from));
        }
    }
    raw.insert("NameID".into(), believed.name_id.clone().into());
    raw.insert("NameIDFormat".into(), believed.name_id_format.clone().into());
    if let Some(context) = &believed.context {
        raw.insert("AuthnContextClassRef".into(), context.clone().into());
    }
    raw
}

/// The user by the name that the assertion has for them.
fn by_name_id(believed: &Believed, wanted: SamlNameIdFormat) -> Result<String, String> {
    let said = match believed.name_id_format.as_str() {
        "" => UNSPECIFIED,
        format => format,
    };
    if said == TRANSIENT {
        return Err(
            "the identity provider names its users by transient identifiers, which are others at each sign-in: let it \
             send persistent ones, or name an attribute in attributes.userID"
                .into(),
        );
    }
    if wanted != SamlNameIdFormat::Unspecified && said != format_uri(wanted) {
        return Err(format!(
            "the identity provider names its users by {said:?} and not by what nameIDFormat asks for: change it here or there, \
             and think of who may get another's name"
        ));
    }
    if believed.is_foreign_name {
        return Err(
            "the NameID is qualified for another provider or service (NameQualifier, SPNameQualifier), where it may be              somebody else's: let the identity provider name its users for this one, or name an attribute in attributes.userID"
                .into(),
        );
    }
    Ok(believed.name_id.clone())
}

/// Whether a value says anything.
fn is_said(value: &str) -> bool {
    !value.chars().all(is_space)
}

/// The values of an attribute: by its name, or where none has it, by the name for people. One that is there and empty says
/// that there is nothing: what is called by its name for people may be the user's own to fill.
fn values<'b>(believed: &'b Believed, name: &str) -> Vec<&'b str> {
    let of = |by: fn(&Attribute) -> &str| -> Vec<&'b Attribute> {
        believed.attributes.iter().filter(|attribute| by(attribute) == name).collect()
    };
    let by_name = of(|attribute| &attribute.name);
    let found = if by_name.is_empty() { of(|attribute| &attribute.friendly_name) } else { by_name };
    found.into_iter().flat_map(|attribute| &attribute.values).map(String::as_str).collect()
}

/// The one value of an attribute by which somebody is known: of several nobody knows which comes first.
fn only(believed: &Believed, name: &str) -> Result<Option<String>, String> {
    let mut values = values(believed, name).into_iter().filter(|value| is_said(value));
    let first = values.next();
    if values.any(|value| Some(value) != first) {
        return Err(format!(
            "the assertion has several values of {name}: let the identity provider send one"
        ));
    }
    Ok(first.map(str::to_owned))
}

/// In the assertion's order, each once.
fn groups(believed: &Believed, spec: &SamlUpstream) -> Result<Vec<String>, String> {
    let Some(name) = &spec.attributes.groups else { return Ok(Vec::new()) };
    let values = values(believed, name);
    let listed: Vec<&str> = match spec.attributes.groups_delimiter.as_deref() {
        None => values,
        Some(delimiter) => values.into_iter().flat_map(|value| value.split(delimiter)).collect(),
    };
    let mut seen = BTreeSet::new();
    let named = listed.into_iter().filter(|group| is_said(group));
    let groups: Vec<String> =
        named.filter(|group| seen.insert(*group)).map(str::to_owned).collect();
    if groups.len() > MAX_GROUPS {
        return Err(format!("the user is in more than {MAX_GROUPS} groups"));
    }
    Ok(groups)
}

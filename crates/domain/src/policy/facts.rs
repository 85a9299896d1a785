//! What an expression may look at: one user at one client's door.

use std::collections::HashMap;

use cel::Value;
use cel::objects::Key;
use serde_json::Value as Json;

use super::RunError;
use super::check::{Variable, Variables};
use crate::identity::Identity;

/// Most groups that are looked at.
pub(super) const MAX_GROUPS: usize = 1_024;
/// Longest text that is looked at, in bytes.
pub(super) const MAX_TEXT: usize = 1_024;
/// Longest name of a group that is looked at, in bytes: what `allowedGroups` takes.
pub(super) const MAX_GROUP: usize = 512;
/// Most parts that `split` makes of a text.
pub(super) const MAX_PARTS: usize = 32;
/// Most bytes of groups, and of further claims, that are looked at: what a session can hold.
pub(super) const MAX_BYTES: usize = 64 * 1_024;
/// Most values in further claims.
pub(super) const MAX_NODES: usize = 256;
/// Most scopes of a request, as `protocol` has it.
pub(super) const MAX_SCOPES: usize = 32;

const USER: Variable = Variable {
    name: "user",
    fields: &[
        "sub",
        "userID",
        "connector",
        "name",
        "preferredUsername",
        "email",
        "emailVerified",
        "groups",
        "claims",
    ],
};
const CLIENT: Variable = Variable { name: "client", fields: &["id"] };
const SCOPES: Variable = Variable { name: "scopes", fields: &[] };
const ACR: Variable = Variable { name: "acr", fields: &[] };

/// One user at one client's door.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// `user.sub`: their identifier at the issuer.
    pub subject: &'a str,
    /// `user`, but for `sub` and `connector`.
    pub identity: &'a Identity,
    /// `user.connector`: name of the connector they signed in with.
    pub connector: &'a str,
    /// `client.id`.
    pub client_id: &'a str,
    /// `scopes`: those granted.
    pub scopes: &'a [&'a str],
    /// `acr`: how they signed in; empty where that has no class.
    pub acr: &'a str,
}

impl Facts<'_> {
    /// What a condition may look at.
    pub const OF_CONDITIONS: Variables = Variables(&[USER, CLIENT, SCOPES, ACR]);
    /// What a claim may look at.
    pub const OF_CLAIMS: Variables = Variables(&[USER, CLIENT, SCOPES]);

    /// The variables, unless there is more of the user than is looked at. What a user does not have is not there:
    /// an expression that asks for it fails, so that nobody passes for lack of an address.
    pub(super) fn variables(&self) -> Result<[(&'static str, Value); 4], RunError> {
        let Identity { user_id, email, email_verified, name, preferred_username, groups, extra } =
            self.identity;
        let mut room = Room::default();
        let mut user: HashMap<Key, Value> = HashMap::new();
        let optional =
            [("name", name), ("preferredUsername", preferred_username), ("email", email)];
        let optional =
            optional.into_iter().filter_map(|(field, text)| Some((field, text.as_deref()?)));
        let known = [("sub", self.subject), ("userID", user_id), ("connector", self.connector)];
        for (field, text) in known.into_iter().chain(optional) {
            user.insert(field.into(), room.text(text)?);
        }
        user.insert("emailVerified".into(), Value::Bool(*email_verified));
        if groups.len() > MAX_GROUPS || groups.iter().any(|group| group.len() > MAX_GROUP) {
            return Err(RunError::TooLarge);
        }
        let groups = groups.iter().map(|group| room.text(group)).collect::<Result<Vec<_>, _>>()?;
        user.insert("groups".into(), Value::from(groups));
        let mut room = Room::default();
        let mut claims: HashMap<Key, Value> = HashMap::new();
        for (claim, value) in extra {
            room.text(claim)?;
            claims.insert(claim.as_str().into(), room.value(value)?);
        }
        user.insert("claims".into(), Value::from(claims));
        let mut room = Room::default();
        let client = HashMap::from([(Key::from("id"), room.text(self.client_id)?)]);
        let scopes =
            self.scopes.iter().map(|scope| room.text(scope)).collect::<Result<Vec<_>, _>>()?;
        let acr = room.text(self.acr)?;
        Ok([
            ("user", Value::from(user)),
            ("client", Value::from(client)),
            ("scopes", Value::from(scopes)),
            ("acr", acr),
        ])
    }
}

/// How much was taken already.
#[derive(Default)]
struct Room {
    bytes: usize,
    nodes: usize,
}

impl Room {
    fn text(&mut self, text: &str) -> Result<Value, RunError> {
        self.bytes += text.len();
        if text.len() > MAX_TEXT || self.bytes > MAX_BYTES {
            return Err(RunError::TooLarge);
        }
        Ok(Value::from(text))
    }

    fn value(&mut self, value: &Json) -> Result<Value, RunError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(RunError::TooLarge);
        }
        Ok(match value {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => self.text(text)?,
            Json::Array(items) => {
                let items = items.iter().map(|item| self.value(item));
                Value::from(items.collect::<Result<Vec<_>, _>>()?)
            }
            Json::Object(members) => {
                let mut map: HashMap<Key, Value> = HashMap::new();
                for (name, member) in members {
                    self.text(name)?;
                    map.insert(name.as_str().into(), self.value(member)?);
                }
                Value::from(map)
            }
        })
    }
}

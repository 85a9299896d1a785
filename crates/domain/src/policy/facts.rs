//! What an expression may look at: one user at one client's door, or one upstream's answer about a user.

use std::collections::HashMap;

use cel::Value;
use cel::objects::Key;
use serde_json::{Map, Value as Json};

use super::RunError;
use super::check::{Fields, Variable, Variables};
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
/// Most values in an upstream's answer: a thousand groups with a name and an ID each.
pub(super) const MAX_ANSWER_NODES: usize = 4 * 1_024;

const USER: Variable = Variable {
    name: "user",
    fields: Fields::Named(&[
        "sub",
        "userID",
        "connector",
        "name",
        "preferredUsername",
        "email",
        "emailVerified",
        "groups",
        "claims",
    ]),
};
const CLIENT: Variable = Variable { name: "client", fields: Fields::Named(&["id"]) };
const SCOPES: Variable = Variable { name: "scopes", fields: Fields::None };
const ACR: Variable = Variable { name: "acr", fields: Fields::None };
/// A user whom no client has asked for yet.
const ARRIVING: Variable = Variable {
    name: "user",
    fields: Fields::Named(&[
        "userID",
        "name",
        "preferredUsername",
        "email",
        "emailVerified",
        "groups",
        "claims",
    ]),
};
const UPSTREAM: Variable = Variable { name: "upstream", fields: Fields::Any };

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

    /// The variables, unless there is more of the user than is looked at.
    ///
    /// # Errors
    /// [`RunError::TooLarge`].
    pub fn scope(&self) -> Result<Scope, RunError> {
        let about = [("sub", self.subject), ("connector", self.connector)];
        let user = user(self.identity, &about)?;
        let mut room = Room::new(MAX_NODES);
        let client = HashMap::from([(Key::from("id"), room.text(self.client_id)?)]);
        let scopes =
            self.scopes.iter().map(|scope| room.text(scope)).collect::<Result<Vec<_>, _>>()?;
        let acr = room.text(self.acr)?;
        Ok(Scope(vec![
            (USER.name, user),
            (CLIENT.name, Value::from(client)),
            (SCOPES.name, Value::from(scopes)),
            (ACR.name, acr),
        ]))
    }
}

/// One upstream's answer about a user.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// `user`: as the connector reads the answer.
    pub identity: &'a Identity,
    /// `upstream`: the answer.
    pub raw: &'a Map<String, Json>,
}

impl Answer<'_> {
    /// What a claim mapping may look at.
    pub const VARIABLES: Variables = Variables(&[ARRIVING, UPSTREAM]);

    /// The variables, unless there is more of the answer than is looked at.
    ///
    /// # Errors
    /// [`RunError::TooLarge`].
    pub fn scope(&self) -> Result<Scope, RunError> {
        let user = user(self.identity, &[])?;
        let mut room = Room::new(MAX_ANSWER_NODES);
        Ok(Scope(vec![(ARRIVING.name, user), (UPSTREAM.name, room.map(self.raw)?)]))
    }
}

/// Variables and their values.
#[derive(Debug, Clone)]
pub struct Scope(pub(super) Vec<(&'static str, Value)>);

/// `user`. What a user does not have is not there: an expression that asks for it fails, so that nobody passes for lack
/// of an address.
fn user(identity: &Identity, about: &[(&'static str, &str)]) -> Result<Value, RunError> {
    let Identity { user_id, email, email_verified, name, preferred_username, groups, extra } =
        identity;
    let mut room = Room::new(MAX_NODES);
    let mut user: HashMap<Key, Value> = HashMap::new();
    let optional = [("name", name), ("preferredUsername", preferred_username), ("email", email)];
    let optional = optional.into_iter().filter_map(|(field, text)| Some((field, text.as_deref()?)));
    let known = about.iter().copied().chain([("userID", user_id.as_str())]);
    for (field, text) in known.chain(optional) {
        user.insert(field.into(), room.text(text)?);
    }
    user.insert("emailVerified".into(), Value::Bool(*email_verified));
    if groups.len() > MAX_GROUPS || groups.iter().any(|group| group.len() > MAX_GROUP) {
        return Err(RunError::TooLarge);
    }
    let groups = groups.iter().map(|group| room.text(group)).collect::<Result<Vec<_>, _>>()?;
    user.insert("groups".into(), Value::from(groups));
    let claims = Room::new(MAX_NODES).map(extra)?;
    user.insert("claims".into(), claims);
    Ok(Value::from(user))
}

/// How much was taken already.
struct Room {
    bytes: usize,
    nodes: usize,
    max_nodes: usize,
}

impl Room {
    fn new(max_nodes: usize) -> Self {
        Self { bytes: 0, nodes: 0, max_nodes }
    }

    fn map<'v>(
        &mut self,
        members: impl IntoIterator<Item = (&'v String, &'v Json)>,
    ) -> Result<Value, RunError> {
        let mut map: HashMap<Key, Value> = HashMap::new();
        for (name, member) in members {
            self.text(name)?;
            map.insert(name.as_str().into(), self.value(member)?);
        }
        Ok(Value::from(map))
    }

    fn text(&mut self, text: &str) -> Result<Value, RunError> {
        self.bytes += text.len();
        if text.len() > MAX_TEXT || self.bytes > MAX_BYTES {
            return Err(RunError::TooLarge);
        }
        Ok(Value::from(text))
    }

    fn value(&mut self, value: &Json) -> Result<Value, RunError> {
        self.nodes += 1;
        if self.nodes > self.max_nodes {
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
            Json::Object(members) => self.map(members)?,
        })
    }
}

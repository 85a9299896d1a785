//! An upstream with a fixed table of users.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use super::lock;
use crate::connector::{
    Authenticated, ConnectorData, LoginError, PasswordLogin, Recheck, RecheckError,
};
use crate::identity::Identity;
use serde_json::Map;

/// An upstream with a fixed table of users, whose availability a test controls.
#[derive(Debug, Default)]
pub struct TableUpstream {
    users: Mutex<HashMap<String, (String, Identity)>>,
    away: Mutex<bool>,
    unusable: Mutex<bool>,
}

impl TableUpstream {
    /// Adds or replaces a user who signs in by this name and password.
    pub fn put(&self, username: &str, password: &str, identity: Identity) {
        lock(&self.users).insert(username.to_owned(), (password.to_owned(), identity));
    }

    /// Removes a user.
    pub fn remove(&self, username: &str) {
        lock(&self.users).remove(username);
    }

    /// Makes what it says of its users useless, or no more.
    pub fn set_unusable(&self, unusable: bool) {
        *lock(&self.unusable) = unusable;
    }

    /// Takes the upstream away, or brings it back.
    pub fn set_away(&self, away: bool) {
        *lock(&self.away) = away;
    }
}

#[async_trait]
impl PasswordLogin for TableUpstream {
    fn username_label(&self) -> &'static str {
        "Email address"
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError> {
        if *lock(&self.away) {
            return Err(LoginError::Unavailable("away".into()));
        }
        if *lock(&self.unusable) {
            return Err(LoginError::Unusable("more than one entry matches".into()));
        }
        match lock(&self.users).get(username) {
            Some((known, identity)) if known == password.expose_secret() => {
                Ok(Authenticated { identity: identity.clone(), raw: Map::new(), data: None })
            }
            _ => Err(LoginError::InvalidCredentials("no such user or password".into())),
        }
    }
}

#[async_trait]
impl Recheck for TableUpstream {
    fn is_certain(&self) -> bool {
        !*lock(&self.away)
    }

    async fn recheck(
        &self,
        known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        if *lock(&self.away) {
            return Err(RecheckError::Unavailable("away".into()));
        }
        lock(&self.users)
            .values()
            .find(|(_, identity)| identity.user_id == known.user_id)
            .map(|(_, identity)| Authenticated {
                identity: identity.clone(),
                raw: Map::new(),
                data: data.cloned(),
            })
            .ok_or_else(|| RecheckError::Gone("removed".into()))
    }
}

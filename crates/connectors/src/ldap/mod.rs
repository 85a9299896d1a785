//! An LDAP directory as upstream.
//!
//! ```text
//! mod (login, re-check, probe) → people → pool → connection → the ldap3 crate
//!   ├ again: what no answer means                        ├ tls, error
//!   ├ user, groups: what is asked and what it means      └ entry, dn, filter: the wire's words
//!   └ config: the administrator's word, checked
//! ```
//! Always holds: an empty password reaches no server; a user's bind happens on a connection of its
//! own; only an answer about this user is a verdict about this user; everything else, a wrong service
//! password above all, is `Unavailable`; everything ends by a deadline.

pub(crate) mod again;
mod claims;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod dn;
pub(crate) mod entry;
mod error;
pub(crate) mod filter;
pub(crate) mod groups;
pub(crate) mod people;
pub(crate) mod pool;
mod transport;
pub(crate) mod user;

use std::fmt;

use async_trait::async_trait;
use claviger_api::connector::ldap::LdapUpstream;
use claviger_domain::connector::{
    Authenticated, ConnectorData, LoginError, PasswordLogin, Recheck, RecheckError,
};
use claviger_domain::identity::Identity;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use self::again::Again;
use self::config::{Config, Groups, GroupsFromAttribute};
use self::entry::Entry;
use self::people::{Failure, People, require_usable};
use self::pool::{Lease, Pool};
use crate::{BuildError, Probe, ProbeError, Resolved};

pub use self::config::secret_refs;
pub use self::filter::FilterError;

/// One directory.
pub struct Directory {
    name: String,
    username_label: String,
    people: People,
    groups: Option<Groups>,
    groups_from_attribute: Option<GroupsFromAttribute>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({:?})", self.name)
    }
}

/// What we keep to find a user again.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    dn: String,
}

impl Directory {
    /// Takes the settings and Secrets; contacts nobody. `name` is for logs.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(name: &str, spec: &LdapUpstream, resolved: &Resolved) -> Result<Self, BuildError> {
        let config = Config::new(spec, resolved)?;
        let wanted = user::wanted_attributes(
            &config.users,
            config.groups.as_ref(),
            config.groups_from_attribute.as_ref(),
        );
        let timeouts = config.timeouts;
        let pool = Pool::new(config.endpoints, config.account, timeouts, config.pool_size);
        Ok(Self {
            name: name.to_owned(),
            username_label: config.username_label,
            people: People::new(config.users, wanted, pool, timeouts),
            groups: config.groups,
            groups_from_attribute: config.groups_from_attribute,
        })
    }

    async fn authenticated(
        &self,
        user: &Entry,
        lease: &mut Lease<'_>,
    ) -> Result<Authenticated, Failure> {
        let mut identity = self.people.users.identity(user).map_err(Failure::Unusable)?;
        let from_attribute = self.groups_from_attribute.as_ref();
        identity.groups = groups::of(user, self.groups.as_ref(), from_attribute, lease).await?;
        let known = Known { dn: user.dn.clone() };
        let data = serde_json::to_vec(&known)
            .map_err(|error| Failure::Unusable(format!("failed to note the DN: {error}")))?;
        Ok(Authenticated {
            identity,
            raw: user.raw(&self.people.wanted),
            data: Some(ConnectorData(data)),
        })
    }
}

#[async_trait]
impl PasswordLogin for Directory {
    fn username_label(&self) -> &str {
        &self.username_label
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError> {
        require_usable(username, password)?;
        let named = self.people.users.named(username);
        let (user, mut lease) = self.people.proven(&named, password).await?;
        if let Some(why) = user.disabled() {
            lease.give_back();
            return Err(LoginError::InvalidCredentials(why.to_owned()));
        }
        let authenticated = self.authenticated(&user, &mut lease).await?;
        lease.give_back();
        Ok(authenticated)
    }
}

#[async_trait]
impl Recheck for Directory {
    async fn recheck(
        &self,
        known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        let gone = |why: &str| Err(RecheckError::Gone(why.to_owned()));
        let people = &self.people;
        let stored: Option<Known> = data.and_then(|data| serde_json::from_slice(&data.0).ok());
        let dn = match &stored {
            Some(stored) => Some(stored.dn.as_str()),
            None if people.users.id.is_dn() => Some(known.user_id.as_str()),
            None => None,
        };
        let mut lease = people.pool.lease(people.deadline()).await.map_err(Failure::from)?;
        let entry = match people.find_again(known, dn, &mut lease).await? {
            Again::There(entry) => entry,
            Again::Gone(why) => {
                lease.give_back();
                return gone(why);
            }
        };
        if let Some(why) = entry.disabled() {
            lease.give_back();
            return gone(why);
        }
        let authenticated = self.authenticated(&entry, &mut lease).await?;
        lease.give_back();
        if authenticated.identity.user_id != known.user_id {
            return gone("the entry belongs to somebody else now");
        }
        Ok(authenticated)
    }
}

#[async_trait]
impl Probe for Directory {
    async fn probe(&self) -> Result<(), ProbeError> {
        let people = &self.people;
        let mut lease = people.pool.fresh(people.probe_deadline()).await.map_err(Failure::from)?;
        people.read_base(&people.users.place.base, &mut lease).await?;
        if let Some(groups) = &self.groups {
            people.read_base(&groups.place.base, &mut lease).await?;
        }
        lease.give_back();
        Ok(())
    }
}

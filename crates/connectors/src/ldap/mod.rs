//! An LDAP directory as upstream.
//!
//! ```text
//! mod (login, re-check, probe) → pool → connection → the ldap3 crate
//!   ├ again: what no answer means                        ├ tls, error
//!   ├ user, groups: what is asked and what it means      └ entry, dn, filter: the wire's words
//!   └ config: the administrator's word, checked
//! ```
//! Always holds: an empty password reaches no server; a user's bind happens on a connection of its
//! own; only an answer about this user is a verdict about this user; everything else, a wrong service
//! password above all, is `Unavailable`; everything ends by a deadline.

mod again;
mod claims;
mod config;
mod connection;
mod dn;
mod entry;
mod error;
mod filter;
mod groups;
mod pool;
mod user;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use claviger_api::Reason;
use claviger_api::connector::ldap::LdapUpstream;
use claviger_domain::connector::{
    Authenticated, ConnectorData, LoginError, PasswordLogin, Recheck, RecheckError,
};
use claviger_domain::identity::Identity;
use ldap3::Scope;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::again::Again;
use self::config::{Config, Groups, GroupsFromAttribute, Timeouts, Users};
use self::connection::{Query, Verdict};
use self::entry::Entry;
use self::error::Error;
use self::filter::Filter;
use self::pool::{Lease, Pool};
use crate::{BuildError, MAX_PASSWORD_BYTES, Probe, ProbeError, Resolved};

pub use self::config::secret_refs;
pub use self::filter::FilterError;

/// Longest name anybody may sign in with, in bytes.
const MAX_USERNAME_BYTES: usize = 512;
/// A probe ends by itself before whoever asks gives up on it: then there is a reason to report.
const LONGEST_PROBE: Duration = Duration::from_secs(12);

/// One directory.
pub struct Directory {
    name: String,
    username_label: String,
    users: Users,
    groups: Option<Groups>,
    groups_from_attribute: Option<GroupsFromAttribute>,
    /// What is asked for in a user's entry.
    wanted: Vec<String>,
    timeouts: Timeouts,
    pool: Pool,
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

/// Why a question about a user has no answer. No verdict about the user.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// The directory failed.
    Directory(Error),
    /// The directory answered what cannot be used, in words.
    Unusable(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Directory(error)
    }
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Directory(error) => Self::Unavailable(error.to_string()),
            Failure::Unusable(why) => Self::Unusable(why),
        }
    }
}

impl From<Failure> for RecheckError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Directory(error) => Self::Unavailable(error.to_string()),
            Failure::Unusable(why) => Self::Unavailable(why),
        }
    }
}

impl From<Failure> for ProbeError {
    fn from(failure: Failure) -> Self {
        let (reason, message) = match failure {
            Failure::Directory(error) => (error.reason(), error.to_string()),
            Failure::Unusable(why) => (Reason::UpstreamUnusable, why),
        };
        Self { reason: reason.as_str(), message }
    }
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
        Ok(Self {
            name: name.to_owned(),
            username_label: config.username_label,
            users: config.users,
            groups: config.groups,
            groups_from_attribute: config.groups_from_attribute,
            wanted,
            timeouts: config.timeouts,
            pool: Pool::new(config.endpoints, config.account, config.timeouts, config.pool_size),
        })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeouts.whole
    }

    /// Users below the search base; two at most, since two are one too many.
    fn below_base<'a>(&'a self, filter: &'a Filter) -> Query<'a> {
        let place = &self.users.place;
        let (base, scope) = (place.base.as_str(), place.scope);
        Query { base, scope, filter, attributes: &self.wanted, limit: 2, page: None }
    }

    async fn sign_in(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError> {
        let until = self.deadline();
        let filter = self.users.named(username);
        let mut lease = self.pool.lease(until).await.map_err(Failure::from)?;
        let found = lease.search(self.below_base(&filter)).await.map_err(Failure::from)?;
        let user = match found.entries.as_slice() {
            [] => {
                self.decoy(lease, password).await;
                let why = "no entry matches the user name".to_owned();
                return Err(LoginError::InvalidCredentials(why));
            }
            [one] if !found.more => one,
            _ => {
                self.decoy(lease, password).await;
                return Err(Failure::Unusable(
                    "more than one entry matches the user name: \
                     narrow userSearch.filter or usernameAttributes"
                        .to_owned(),
                )
                .into());
            }
        };
        let verdict = lease.check_password(&user.dn, password).await.map_err(Failure::from)?;
        let refusal = match verdict {
            Verdict::Accepted => user.disabled().map(str::to_owned),
            Verdict::Refused(why) => Some(why),
            Verdict::Undecided(why) => {
                lease.give_back();
                return Err(LoginError::Unavailable(format!("the user's bind failed: {why}")));
            }
        };
        if let Some(why) = refusal {
            lease.give_back();
            return Err(LoginError::InvalidCredentials(why));
        }
        let authenticated = self.authenticated(user, &mut lease).await?;
        lease.give_back();
        Ok(authenticated)
    }

    /// A name that is nobody's, or more than one's, costs a connection and a bind like a known one, with a name that is nobody's
    /// and a password that is nobody's.
    async fn decoy(&self, lease: Lease<'_>, password: &SecretString) {
        let nobody = format!("cn=claviger-no-such-user,{}", self.users.place.base);
        let decoy = SecretString::from("x".repeat(password.expose_secret().len()));
        // Whatever it answers, it answers nothing about a user.
        let _ = lease.check_password(&nobody, &decoy).await;
        lease.give_back();
    }

    async fn authenticated(
        &self,
        user: &Entry,
        lease: &mut Lease<'_>,
    ) -> Result<Authenticated, Failure> {
        let mut identity = self.users.identity(user).map_err(Failure::Unusable)?;
        let from_attribute = self.groups_from_attribute.as_ref();
        identity.groups = groups::of(user, self.groups.as_ref(), from_attribute, lease).await?;
        let known = Known { dn: user.dn.clone() };
        let data = serde_json::to_vec(&known)
            .map_err(|error| Failure::Unusable(format!("failed to note the DN: {error}")))?;
        Ok(Authenticated { identity, raw: user.raw(&self.wanted), data: Some(ConnectorData(data)) })
    }

    async fn read_base(&self, base: &str, lease: &mut Lease<'_>) -> Result<(), Failure> {
        let query = Query {
            base,
            scope: Scope::Base,
            filter: &Filter::anything(),
            attributes: &[groups::NO_ATTRIBUTES.to_owned()],
            limit: 1,
            page: None,
        };
        if lease.search(query).await?.entries.is_empty() {
            return Err(Failure::Unusable(format!(
                "the search base {base:?} is not visible: \
                 check baseDN, and that the service account may read it"
            )));
        }
        Ok(())
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
        let refused = |why: &str| Err(LoginError::InvalidCredentials(why.to_owned()));
        let length = password.expose_secret().len();
        // To many servers a name without a password is nobody, and nobody is let in: RFC 4513
        // section 5.1.2.
        if length == 0 || username.is_empty() {
            return refused("empty user name or password");
        }
        if length > MAX_PASSWORD_BYTES || username.len() > MAX_USERNAME_BYTES {
            return refused("user name or password too long");
        }
        self.sign_in(username, password).await
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
        let stored: Option<Known> = data.and_then(|data| serde_json::from_slice(&data.0).ok());
        let dn = match &stored {
            Some(stored) => Some(stored.dn.as_str()),
            None if self.users.id.is_dn() => Some(known.user_id.as_str()),
            None => None,
        };
        let mut lease = self.pool.lease(self.deadline()).await.map_err(Failure::from)?;
        let entry = match self.find_again(known, dn, &mut lease).await? {
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
        let until = self.deadline().min(Instant::now() + LONGEST_PROBE);
        let mut lease = self.pool.fresh(until).await.map_err(Failure::from)?;
        self.read_base(&self.users.place.base, &mut lease).await?;
        if let Some(groups) = &self.groups {
            self.read_base(&groups.place.base, &mut lease).await?;
        }
        lease.give_back();
        Ok(())
    }
}

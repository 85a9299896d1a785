//! A domain of Active Directory as upstream.
//!
//! ```text
//! mod (login, re-check, probe) → ldap::people → ldap::pool → the domain controllers
//!   ├ login_name: whom a name may mean      └ all that is LDAP alone, and decided there
//!   ├ account: whether it may be used
//!   └ config: the administrator's word
//! ```
//! Always holds, beside what `ldap` holds: a password leaves us under TLS alone; an account is let in, and a session goes on,
//! only after its state was read; users and groups are told apart by identifiers that are never given twice.

mod account;
mod config;
mod login_name;

use std::fmt;

use async_trait::async_trait;
use chrono::Utc;
use claviger_api::connector::ActiveDirectoryUpstream;
use claviger_domain::connector::{
    Authenticated, ConnectorData, LoginError, PasswordLogin, Recheck, RecheckError,
};
use claviger_domain::identity::Identity;
use ldap3::Scope;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use self::account::Account;
use self::config::{Domain, Groups, TOKEN_GROUPS};
use crate::ldap::again::Again;
use crate::ldap::config::Groups as GroupSearch;
use crate::ldap::connection::Query;
use crate::ldap::entry::{self, Entry};
use crate::ldap::filter::{Attribute, Filter};
use crate::ldap::groups;
use crate::ldap::people::{Failure, People, require_usable};
use crate::ldap::pool::{Lease, Pool};
use crate::{BuildError, Probe, ProbeError, Resolved};

pub use self::config::secret_refs;

/// What Active Directory says it is (`LDAP_CAP_ACTIVE_DIRECTORY_OID`), in `supportedCapabilities` of its root entry.
const IS_ACTIVE_DIRECTORY: &str = "1.2.840.113556.1.4.800";
const SUPPORTED_CAPABILITIES: &str = "supportedCapabilities";

/// One domain.
pub struct ActiveDirectory {
    name: String,
    username_label: String,
    people: People,
    group_search: Option<GroupSearch>,
    domain: Domain,
}

impl fmt::Debug for ActiveDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActiveDirectory({:?})", self.name)
    }
}

/// What we keep to find a user again, and to see that the password is still the one they signed in with.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    dn: String,
    #[serde(default, rename = "pwdLastSet", skip_serializing_if = "Option::is_none")]
    password_set: Option<i64>,
}

impl ActiveDirectory {
    /// Takes the settings and Secrets; contacts nobody. `name` is for logs.
    ///
    /// # Errors
    /// [`BuildError`] names the field and the fix.
    pub fn new(
        name: &str,
        spec: &ActiveDirectoryUpstream,
        resolved: &Resolved,
    ) -> Result<Self, BuildError> {
        let (config, domain, wanted) = config::read(spec, resolved)?;
        let timeouts = config.timeouts;
        let pool = Pool::new(config.endpoints, config.account, timeouts, config.pool_size);
        Ok(Self {
            name: name.to_owned(),
            username_label: config.username_label,
            people: People::new(config.users, wanted, pool, timeouts),
            group_search: config.groups,
            domain,
        })
    }

    /// Who an entry is. `password_set` is what the session began with.
    async fn authenticated(
        &self,
        user: &Entry,
        password_set: i64,
        lease: &mut Lease<'_>,
    ) -> Result<Authenticated, Failure> {
        let mut identity = self.people.users.identity(user).map_err(Failure::Unusable)?;
        identity.email_verified &= self.domain.email_verified;
        identity.groups = self.groups(user, lease).await?;
        let known = Known { dn: user.dn.clone(), password_set: Some(password_set) };
        let data = serde_json::to_vec(&known)
            .map_err(|error| Failure::Unusable(format!("failed to note the DN: {error}")))?;
        let raw = user.raw(&self.people.wanted);
        Ok(Authenticated { identity, raw, data: Some(ConnectorData(data)) })
    }

    async fn groups(&self, user: &Entry, lease: &mut Lease<'_>) -> Result<Vec<String>, Failure> {
        let search = self.group_search.as_ref();
        match self.domain.groups {
            Groups::None => Ok(Vec::new()),
            Groups::OfMember => groups::of(user, search, None, lease).await,
            Groups::OfToken => {
                let token = self.read_token(user, lease).await?;
                groups::of(&token, search, None, lease).await
            }
            Groups::Identifiers => {
                let token = self.read_token(user, lease).await?;
                let sids = token.values(&self.domain.token_groups);
                groups::limit(sids.len())?;
                let object_sid = Attribute::parse("objectSid")
                    .map_err(|error| Failure::Unusable(error.to_string()))?;
                Ok(sids.into_iter().map(|sid| entry::identifier(&object_sid, sid)).collect())
            }
        }
    }

    /// What stands in the user's token. Never empty, since everybody has a primary group; and never in parts, as
    /// memberOf is.
    async fn read_token(&self, user: &Entry, lease: &mut Lease<'_>) -> Result<Entry, Failure> {
        let read = self.read(&user.dn, TOKEN_GROUPS, lease).await?;
        read.filter(|token| !token.values(&self.domain.token_groups).is_empty()).ok_or_else(|| {
            Failure::Unusable(format!(
                "entry {:?} shows no tokenGroups: put the service account into the group Windows Authorization \
                 Access Group, or set groupSearch.source to InChain",
                user.dn
            ))
        })
    }

    /// One attribute of one entry.
    async fn read(
        &self,
        base: &str,
        attribute: &str,
        lease: &mut Lease<'_>,
    ) -> Result<Option<Entry>, Failure> {
        let query = Query {
            base,
            scope: Scope::Base,
            filter: &Filter::anything(),
            attributes: &[attribute.to_owned()],
            limit: 1,
            page: None,
        };
        Ok(lease.search(query).await?.entries.pop())
    }

    /// That whoever answers is a domain controller.
    async fn require_active_directory(&self, lease: &mut Lease<'_>) -> Result<(), Failure> {
        let root = self.read("", SUPPORTED_CAPABILITIES, lease).await?;
        let said = root.is_some_and(|root| root.says(SUPPORTED_CAPABILITIES, IS_ACTIVE_DIRECTORY));
        if said {
            return Ok(());
        }
        Err(Failure::Unusable(
            "the server is no domain controller of Active Directory (its root entry lists no supportedCapabilities \
             1.2.840.113556.1.4.800): use upstream.ldap for other directories"
                .to_owned(),
        ))
    }
}

#[async_trait]
impl PasswordLogin for ActiveDirectory {
    fn username_label(&self) -> &str {
        &self.username_label
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError> {
        require_usable(username, password)?;
        let meant = self.domain.login_names.meant(username);
        let (user, mut lease) = self.people.proven(&meant, password).await?;
        let account = Account::of(&user).map_err(Failure::Unusable)?;
        if let Some(why) = account.barred(Utc::now().timestamp()) {
            lease.give_back();
            return Err(LoginError::InvalidCredentials(why.to_string()));
        }
        let authenticated = self.authenticated(&user, account.password_set, &mut lease).await?;
        lease.give_back();
        Ok(authenticated)
    }
}

#[async_trait]
impl Recheck for ActiveDirectory {
    async fn recheck(
        &self,
        known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        let people = &self.people;
        let stored: Option<Known> = data.and_then(|data| serde_json::from_slice(&data.0).ok());
        let dn = stored.as_ref().map(|stored| stored.dn.as_str());
        let mut lease = people.pool.lease(people.deadline()).await.map_err(Failure::from)?;
        let user = match people.find_again(known, dn, &mut lease).await? {
            Again::There(user) => user,
            Again::Gone(why) => {
                lease.give_back();
                return Err(RecheckError::Gone(why.to_owned()));
            }
        };
        let account = Account::of(&user).map_err(Failure::Unusable)?;
        let signed_in_with = stored.and_then(|stored| stored.password_set);
        let now = Utc::now().timestamp();
        if let Some(why) = account.ends(now, signed_in_with, self.domain.ends) {
            lease.give_back();
            return Err(RecheckError::Gone(why.to_string()));
        }
        let password_set = signed_in_with.unwrap_or(account.password_set);
        let authenticated = self.authenticated(&user, password_set, &mut lease).await?;
        lease.give_back();
        Ok(authenticated)
    }
}

#[async_trait]
impl Probe for ActiveDirectory {
    async fn probe(&self) -> Result<(), ProbeError> {
        let people = &self.people;
        let mut lease = people.pool.fresh(people.probe_deadline()).await.map_err(Failure::from)?;
        self.require_active_directory(&mut lease).await?;
        people.read_base(&people.users.place.base, &mut lease).await?;
        if let Some(groups) = &self.group_search {
            people.read_base(&groups.place.base, &mut lease).await?;
        }
        lease.give_back();
        Ok(())
    }
}

//! The users of a directory: found by the name they typed, proven by their password, read again later. What more an
//! entry says (account state, groups) is the business of whoever asks.
//!
//! Always holds: an empty password reaches no server; a name that is nobody's costs as much as one that is somebody's;
//! only an answer about this user is a verdict about this user.

use std::time::Duration;

use claviger_api::Reason;
use claviger_domain::connector::{LoginError, RecheckError};
use ldap3::Scope;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::config::{Timeouts, Users};
use super::connection::{Query, Verdict};
use super::entry::Entry;
use super::error::Error;
use super::filter::Filter;
use super::groups;
use super::pool::{Lease, Pool};
use crate::{MAX_PASSWORD_BYTES, ProbeError};

/// Longest name anybody may sign in with, in bytes.
const MAX_USERNAME_BYTES: usize = 512;
/// A probe ends by itself before whoever asks gives up on it: then there is a reason to report.
const LONGEST_PROBE: Duration = Duration::from_secs(12);

/// See the module's documentation.
pub struct People {
    /// How an entry is found and read.
    pub users: Users,
    /// What is asked for in a user's entry.
    pub wanted: Vec<String>,
    /// The way to the servers.
    pub pool: Pool,
    timeouts: Timeouts,
}

/// Why a question about a user has no answer. No verdict about the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
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
            Failure::Directory(error) => Self::Unavailable(error.to_string().into()),
            Failure::Unusable(why) => Self::Unusable(why),
        }
    }
}

impl From<Failure> for RecheckError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Directory(error) => Self::Unavailable(error.to_string().into()),
            Failure::Unusable(why) => Self::Unavailable(why.into()),
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

/// Refuses what no directory need see.
///
/// # Errors
/// [`LoginError::InvalidCredentials`].
pub fn require_usable(username: &str, password: &SecretString) -> Result<(), LoginError> {
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
    Ok(())
}

impl People {
    /// Users of whom `wanted` is asked for.
    pub fn new(users: Users, wanted: Vec<String>, pool: Pool, timeouts: Timeouts) -> Self {
        Self { users, wanted, pool, timeouts }
    }

    /// Until when a login or a re-check that begins now may last.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeouts.whole
    }

    /// Until when a probe that begins now may last.
    pub fn probe_deadline(&self) -> Instant {
        self.deadline().min(Instant::now() + LONGEST_PROBE)
    }

    /// Users below the search base; two at most, since two are one too many.
    pub fn below_base<'a>(&'a self, filter: &'a Filter) -> Query<'a> {
        let place = &self.users.place;
        let (base, scope) = (place.base.as_str(), place.scope);
        Query { base, scope, filter, attributes: &self.wanted, limit: 2, page: None }
    }

    /// The one user whom `named` finds, if that password is theirs, and the connection that showed them.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn proven(
        &self,
        named: &Filter,
        password: &SecretString,
    ) -> Result<(Entry, Lease<'_>), LoginError> {
        let until = self.deadline();
        let mut lease = self.pool.lease(until).await.map_err(Failure::from)?;
        let found = lease.search(self.below_base(named)).await.map_err(Failure::from)?;
        let mut entries = found.entries.into_iter();
        let user = match (entries.next(), entries.next()) {
            (None, _) => {
                self.decoy(lease, password).await;
                let why = "no entry matches the user name".to_owned();
                return Err(LoginError::InvalidCredentials(why));
            }
            (Some(one), None) if !found.more => one,
            _ => {
                self.decoy(lease, password).await;
                return Err(Failure::Unusable(
                    "more than one entry matches the user name: \
                     narrow userSearch.filter, or the names users sign in by"
                        .to_owned(),
                )
                .into());
            }
        };
        match lease.check_password(&user.dn, password).await.map_err(Failure::from)? {
            Verdict::Accepted => Ok((user, lease)),
            Verdict::Refused(why) => {
                lease.give_back();
                Err(LoginError::InvalidCredentials(why))
            }
            Verdict::Undecided(why) => {
                lease.give_back();
                Err(LoginError::Unavailable(format!("the user's bind failed: {why}").into()))
            }
        }
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

    /// Reads a search base, to see that it is there and may be read.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn read_base(&self, base: &str, lease: &mut Lease<'_>) -> Result<(), Failure> {
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

//! Finding a user again whom we know, and what it means that nobody is found.
//!
//! An empty answer is not yet a verdict: to a service account that has lost its rights, and on a replica
//! that is still empty, everybody is missing. Always holds:
//!
//! - "Gone" is said only after the same connection has shown the search base and some user below it, or
//!   this user's entry, which `userSearch.filter` excludes by now.
//! - So one departure is not noticed: that of the directory's last user, who is `Unavailable` instead. They get
//!   no tokens either, but their session stays until it expires.

use claviger_domain::identity::Identity;
use ldap3::Scope;

use super::connection::Query;
use super::entry::Entry;
use super::filter::Filter;
use super::groups;
use super::people::{Failure, People};
use super::pool::Lease;

/// What looking for a user came to.
pub enum Again {
    /// Their entry.
    There(Entry),
    /// A verdict, in words.
    Gone(&'static str),
}

impl People {
    /// The entry of a user we know: where it was, or, if it is not there any more, wherever its
    /// identifier is now.
    ///
    /// # Errors
    /// [`Failure`]: no verdict about the user.
    pub async fn find_again(
        &self,
        known: &Identity,
        dn: Option<&str>,
        lease: &mut Lease<'_>,
    ) -> Result<Again, Failure> {
        let filter = &self.users.place.filter;
        if let Some(entry) = self.read_user(dn, filter, lease).await? {
            // Without an identifier there is no saying who this is, and so no verdict.
            let identity = self.users.identity(&entry).map_err(Failure::Unusable)?;
            if identity.user_id == known.user_id {
                return Ok(Again::There(entry));
            }
        }
        if !self.users.id.is_dn() {
            let filter = self.users.identified(&known.user_id);
            if let Some(entry) = self.find_one(&filter, lease).await? {
                return Ok(Again::There(entry));
            }
        }
        if self.is_there_at_all(known, lease).await? {
            return Ok(Again::Gone("the entry is there, but the search finds it no more"));
        }
        self.require_some_user(lease).await?;
        Ok(Again::Gone("the entry is gone"))
    }

    /// What is at `dn`, if that is below the search base and matches.
    async fn read_user(
        &self,
        dn: Option<&str>,
        filter: &Filter,
        lease: &mut Lease<'_>,
    ) -> Result<Option<Entry>, Failure> {
        let Some(dn) = dn.filter(|dn| self.users.place.holds(dn)) else {
            return Ok(None);
        };
        let query = Query {
            base: dn,
            scope: Scope::Base,
            filter,
            attributes: &self.wanted,
            limit: 1,
            page: None,
        };
        match lease.search(query).await {
            Ok(mut found) => Ok(found.entries.pop()),
            Err(error) if error.is_no_such_object() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn find_one(
        &self,
        filter: &Filter,
        lease: &mut Lease<'_>,
    ) -> Result<Option<Entry>, Failure> {
        let found = lease.search(self.below_base(filter)).await?;
        let mut entries = found.entries.into_iter();
        match (entries.next(), entries.next()) {
            (one, None) if !found.more => Ok(one),
            _ => Err(Failure::Unusable(format!(
                "more than one entry has the same {}: choose another idAttribute",
                self.users.id
            ))),
        }
    }

    /// Whether the user's entry is visible, whatever `userSearch.filter` says.
    async fn is_there_at_all(
        &self,
        known: &Identity,
        lease: &mut Lease<'_>,
    ) -> Result<bool, Failure> {
        if self.users.id.is_dn() {
            let dn = Some(known.user_id.as_str());
            return Ok(self.read_user(dn, &Filter::anything(), lease).await?.is_some());
        }
        self.is_anything_below_base(&self.users.has_identifier(&known.user_id), lease).await
    }

    /// That the service account sees users here at all, so that one who is missing is missing.
    async fn require_some_user(&self, lease: &mut Lease<'_>) -> Result<(), Failure> {
        let base = &self.users.place.base;
        self.read_base(base, lease).await?;
        if self.is_anything_below_base(&self.users.anybody(), lease).await? {
            return Ok(());
        }
        Err(Failure::Unusable(format!(
            "the directory shows no user at all below {base:?}: let the service account read the \
             users' entries, names and identifiers, or fill this replica if it is empty"
        )))
    }

    async fn is_anything_below_base(
        &self,
        filter: &Filter,
        lease: &mut Lease<'_>,
    ) -> Result<bool, Failure> {
        let attributes = [groups::NO_ATTRIBUTES.to_owned()];
        let query = Query { attributes: &attributes, limit: 1, ..self.below_base(filter) };
        Ok(!lease.search(query).await?.entries.is_empty())
    }
}

//! From a user's entry to an identity.

use claviger_domain::identity::Identity;

use super::config::{Groups, GroupsFromAttribute, Place, Users};
use super::dn::Dn;
use super::entry::{self, ACCOUNT_STATE, Entry};
use super::filter::{Attribute, Filter};
use ldap3::Scope;

impl Users {
    /// Which entries a name that somebody typed may mean.
    pub fn named(&self, username: &str) -> Filter {
        let equals = |attribute: &Attribute| Filter::equals(attribute, username.as_bytes());
        let others: Vec<Filter> = self.other_usernames.iter().map(equals).collect();
        Filter::all(&[self.place.filter.clone(), Filter::any(equals(&self.username), &others)])
    }

    /// Which user has this identifier.
    pub fn identified(&self, user_id: &str) -> Filter {
        Filter::all(&[self.place.filter.clone(), self.has_identifier(user_id)])
    }

    /// Which entry has this identifier, user or not.
    pub fn has_identifier(&self, user_id: &str) -> Filter {
        Filter::equals(&self.id, &entry::identifier_bytes(&self.id, user_id))
    }

    /// Which entries are users at all: those that some name and some identifier would find, as far as
    /// the service account may see both.
    pub fn anybody(&self) -> Filter {
        let others: Vec<Filter> = self.other_usernames.iter().map(Filter::present).collect();
        let named = Filter::any(Filter::present(&self.username), &others);
        let identified = (!self.id.is_dn()).then(|| Filter::present(&self.id));
        let filters: Vec<Filter> =
            [self.place.filter.clone(), named].into_iter().chain(identified).collect();
        Filter::all(&filters)
    }

    /// Who an entry is, without groups.
    ///
    /// # Errors
    /// In words: the entry has no identifier, or several.
    pub fn identity(&self, entry: &Entry) -> Result<Identity, String> {
        let user_id = self.user_id(entry)?;
        let email = match &self.email_suffix {
            None => entry.text(&self.email),
            // An identifier that is an address itself does not make another one.
            Some(_) if user_id.contains(|c: char| c == '@' || c.is_whitespace()) => None,
            Some(domain) => Some(format!("{user_id}@{domain}")),
        };
        let text = |attribute: &Option<Attribute>| attribute.as_ref().and_then(|a| entry.text(a));
        Ok(Identity {
            user_id,
            email_verified: email.is_some(),
            email,
            name: text(&self.name),
            preferred_username: text(&self.preferred_username),
            groups: Vec::new(),
            extra: self.claims.of(entry),
        })
    }

    fn user_id(&self, entry: &Entry) -> Result<String, String> {
        let (dn, id) = (&entry.dn, &self.id);
        let values = entry.values(id);
        let user_id = match values.as_slice() {
            [] => {
                return Err(format!("entry {dn:?} has no {id}: choose another idAttribute"));
            }
            [one] => entry::identifier(id, one),
            // The order of several values means nothing, so only the one in the name will do.
            several => Dn::parse(dn)
                .and_then(|parsed| parsed.leaf(id.as_str()).map(str::to_owned))
                .filter(|leaf| several.contains(&leaf.as_bytes()))
                .ok_or_else(|| {
                    format!("entry {dn:?} has several values of {id}: choose another idAttribute")
                })?,
        };
        if user_id.trim().is_empty() {
            return Err(format!("entry {dn:?} has an empty {id}: choose another idAttribute"));
        }
        Ok(user_id)
    }
}

impl Place {
    /// Whether an entry of that name would be found here.
    pub fn holds(&self, dn: &str) -> bool {
        let levels = Dn::parse(dn).and_then(|dn| dn.levels_below(&self.base_dn));
        match self.scope {
            Scope::OneLevel => levels == Some(1),
            Scope::Subtree | Scope::Base => levels.is_some(),
        }
    }
}

/// What to ask for in a user's entry: everything that identity, groups and account state need.
pub fn wanted_attributes(
    users: &Users,
    groups: Option<&Groups>,
    from_attribute: Option<&GroupsFromAttribute>,
) -> Vec<String> {
    let mut wanted = vec![&users.id];
    if users.email_suffix.is_none() {
        wanted.push(&users.email);
    }
    wanted.extend(&users.name);
    wanted.extend(&users.preferred_username);
    wanted.extend(users.claims.attributes());
    wanted.extend(groups.iter().flat_map(|g| &g.matchers).map(|matcher| &matcher.user));
    wanted.extend(from_attribute.map(|from| &from.attribute));
    let real = wanted.into_iter().filter(|attribute| !attribute.is_dn());
    let mut names: Vec<String> =
        real.map(Attribute::as_str).chain(ACCOUNT_STATE).map(str::to_owned).collect();
    names.sort_by_key(|name| name.to_ascii_lowercase());
    names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    names
}

//! The groups of a user: by searching for groups that name the user, and by an attribute of the
//! user's entry. Both may follow groups within groups, level by level; a group seen once is not
//! followed again, so loops end.

use std::collections::HashSet;

use ldap3::Scope;

use super::config::{Groups, GroupsFromAttribute, Matcher};
use super::connection::Query;
use super::dn::Dn;
use super::entry::{self, Entry};
use super::filter::{Attribute, Filter};
use super::people::Failure;
use super::pool::Lease;

/// Most groups one user may have, nested ones included. Beyond that a login fails: to leave some out
/// would be a quiet loss of rights, and no token could carry them anyway.
const MAX_GROUPS: usize = 2_000;
/// Values in one search's filter.
const VALUES_PER_SEARCH: usize = 50;
/// Entries in one page of results; directories refuse more than 1,000.
const PAGE: i32 = 500;

/// Names in the order found, each once.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    seen: HashSet<String>,
}

impl Names {
    fn add(&mut self, name: String) {
        if self.seen.insert(name.clone()) {
            self.names.push(name);
        }
    }
}

/// All groups of a user's entry.
///
/// # Errors
/// The directory failed, or the user is in more groups than anybody can use.
pub async fn of(
    user: &Entry,
    search: Option<&Groups>,
    from_attribute: Option<&GroupsFromAttribute>,
    lease: &mut Lease<'_>,
) -> Result<Vec<String>, Failure> {
    let mut names = Names::default();
    if let Some(from) = from_attribute {
        from.collect(user, lease, &mut names).await?;
    }
    if let Some(groups) = search {
        for matcher in &groups.matchers {
            groups.collect(user, matcher, lease, &mut names).await?;
        }
    }
    Ok(names.names)
}

impl Groups {
    async fn collect(
        &self,
        user: &Entry,
        matcher: &Matcher,
        lease: &mut Lease<'_>,
        names: &mut Names,
    ) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let of_user: Vec<Vec<u8>> =
            user.values(&matcher.user).into_iter().map(<[u8]>::to_vec).collect();
        let mut level = self.new_groups(&matcher.group, &of_user, lease, &mut seen).await?;
        for depth in 0.. {
            for name in level.iter().filter_map(|group| self.name_of(group)) {
                names.add(name);
            }
            let Some(recursion) = &matcher.recursion else {
                break;
            };
            if depth == self.nested_depth || level.is_empty() {
                break;
            }
            let within: Vec<Vec<u8>> = level.iter().map(|g| g.dn.clone().into_bytes()).collect();
            level = self.new_groups(recursion, &within, lease, &mut seen).await?;
        }
        Ok(())
    }

    /// Groups of which the attribute has one of the values, except those already seen.
    async fn new_groups(
        &self,
        attribute: &Attribute,
        values: &[Vec<u8>],
        lease: &mut Lease<'_>,
        seen: &mut HashSet<String>,
    ) -> Result<Vec<Entry>, Failure> {
        limit(values.len())?;
        let wanted = if self.name.is_dn() { NO_ATTRIBUTES } else { self.name.as_str() };
        let wanted = [wanted.to_owned()];
        let mut groups = Vec::new();
        for values in values.chunks(VALUES_PER_SEARCH) {
            let mut equals = values.iter().map(|value| Filter::equals(attribute, value));
            let Some(first) = equals.next() else { break };
            let others: Vec<Filter> = equals.collect();
            let filter = Filter::all(&[self.place.filter.clone(), Filter::any(first, &others)]);
            let query = Query {
                base: &self.place.base,
                scope: self.place.scope,
                filter: &filter,
                attributes: &wanted,
                limit: MAX_GROUPS,
                page: Some(PAGE),
            };
            let found = lease.search(query).await?;
            if found.more {
                return Err(too_many());
            }
            groups.extend(found.entries.into_iter().filter(|group| seen.insert(key(&group.dn))));
            limit(seen.len())?;
        }
        Ok(groups)
    }

    /// A group's name. Of several values, whose order means nothing, the one in its DN.
    fn name_of(&self, group: &Entry) -> Option<String> {
        if self.name.is("objectSid") {
            return group.values(&self.name).first().map(|sid| entry::identifier(&self.name, sid));
        }
        let mut values = group.texts(&self.name);
        let leaf =
            Dn::parse(&group.dn).and_then(|dn| dn.leaf(self.name.as_str()).map(str::to_owned));
        if let Some(leaf) = leaf.filter(|leaf| values.contains(leaf)) {
            return Some(leaf);
        }
        values.sort_unstable();
        let name = values.into_iter().next();
        if name.is_none() {
            tracing::warn!(group = group.dn, attribute = %self.name, "group without a name left out");
        }
        name
    }
}

impl GroupsFromAttribute {
    async fn collect(
        &self,
        user: &Entry,
        lease: &mut Lease<'_>,
        names: &mut Names,
    ) -> Result<(), Failure> {
        let mut level = self.whole(user, lease).await?;
        let mut seen: HashSet<String> = level.iter().map(|value| key(value)).collect();
        for depth in 0.. {
            limit(seen.len())?;
            for name in level.iter().filter_map(|value| self.name_of(value)) {
                names.add(name);
            }
            if !self.first_rdn || depth == self.nested_depth || level.is_empty() {
                break;
            }
            let mut next = Vec::new();
            for group in &level {
                let values = self.read(group, lease).await?;
                next.extend(values.into_iter().filter(|value| seen.insert(key(value))));
                limit(seen.len())?;
            }
            level = next;
        }
        Ok(())
    }

    /// The same attribute of a group's own entry.
    async fn read(&self, dn: &str, lease: &mut Lease<'_>) -> Result<Vec<String>, Failure> {
        let wanted = [self.attribute.as_str().to_owned()];
        let query = Query {
            base: dn,
            scope: Scope::Base,
            filter: &Filter::anything(),
            attributes: &wanted,
            limit: 1,
            page: None,
        };
        match lease.search(query).await {
            Ok(found) => match found.entries.first() {
                Some(group) => self.whole(group, lease).await,
                None => Ok(Vec::new()),
            },
            // A name that leads nowhere leads to no further group.
            Err(error) if error.is_no_such_object() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// All values that an entry has, also of a list that Active Directory sends in parts.
    async fn whole(&self, entry: &Entry, lease: &mut Lease<'_>) -> Result<Vec<String>, Failure> {
        let mut values = entry.texts(&self.attribute);
        let mut next = entry.continues_at(&self.attribute);
        while let Some(from) = next {
            limit(from.max(values.len()))?;
            let wanted = [format!("{};range={from}-*", self.attribute)];
            let query = Query {
                base: &entry.dn,
                scope: Scope::Base,
                filter: &Filter::anything(),
                attributes: &wanted,
                limit: 1,
                page: None,
            };
            let part = lease.search(query).await?.entries.pop();
            let part = part.filter(|part| !part.values(&self.attribute).is_empty());
            let part = part.ok_or_else(|| {
                let (dn, attribute) = (&entry.dn, &self.attribute);
                Failure::Unusable(format!(
                    "the directory sent only a part of {attribute} of {dn:?}"
                ))
            })?;
            values.extend(part.texts(&self.attribute));
            // One that begins again would never end.
            next = part.continues_at(&self.attribute).filter(|further| *further > from);
        }
        Ok(values)
    }

    fn name_of(&self, value: &str) -> Option<String> {
        if !self.first_rdn {
            return Some(value.to_owned());
        }
        let name = Dn::parse(value).and_then(|dn| dn.first_value().map(str::to_owned));
        if name.is_none() {
            tracing::warn!(value, attribute = %self.attribute, "value is no distinguished name");
        }
        name
    }
}

/// RFC 4511 section 4.5.1.8: no attributes at all.
pub const NO_ATTRIBUTES: &str = "1.1";

/// One text for all spellings of a DN.
fn key(dn: &str) -> String {
    Dn::parse(dn).map_or_else(|| dn.to_owned(), |dn| dn.key())
}

/// Refuses more groups than anybody can use.
///
/// # Errors
/// [`Failure::Unusable`].
pub fn limit(count: usize) -> Result<(), Failure> {
    if count > MAX_GROUPS { Err(too_many()) } else { Ok(()) }
}

fn too_many() -> Failure {
    Failure::Unusable(format!(
        "the user is in more than {MAX_GROUPS} groups: narrow groupSearch.filter or lower nestedDepth"
    ))
}

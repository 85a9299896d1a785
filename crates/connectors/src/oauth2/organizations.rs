//! Organizations and their teams, as several vendors have them, and which of them a connector takes for groups.

use std::collections::BTreeSet;

/// An organization that the user is in.
#[derive(Debug, Clone)]
pub struct Organization {
    /// Its number.
    pub id: i64,
    /// Its name, as the vendor spells it.
    pub name: String,
    /// The user's teams there.
    pub teams: Vec<Team>,
}

/// A team that the user is in.
#[derive(Debug, Clone)]
pub struct Team {
    /// By what a connector lists it.
    pub key: String,
    /// What its groups are called.
    pub names: Vec<String>,
}

/// An organization that a connector lists.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'s> {
    /// Its name, in whatever letters.
    pub name: &'s str,
    /// Its number, if somebody who took the name over is not to be believed.
    pub id: Option<i64>,
    /// Teams of which the user must be in one; empty: the whole organization.
    pub teams: &'s [String],
}

impl Wanted<'_> {
    fn is(&self, organization: &Organization) -> bool {
        self.has_name(organization) && self.id.is_none_or(|id| id == organization.id)
    }

    fn has_name(&self, organization: &Organization) -> bool {
        self.name.eq_ignore_ascii_case(&organization.name)
    }

    fn has(&self, team: &Team) -> bool {
        self.teams.is_empty() || self.teams.iter().any(|key| key.eq_ignore_ascii_case(&team.key))
    }
}

/// The user's groups, `organization` and `organization:team`: those of the listed organizations, or of all. None where
/// organizations are listed and the user is in none of them.
pub fn groups(
    wanted: &[Wanted<'_>],
    takes_all: bool,
    member_of: &[Organization],
) -> Option<Vec<String>> {
    let listed = |one: &Organization| wanted.iter().find(|wanted| wanted.is(one));
    let admits = |one: &Organization| {
        let by = listed(one);
        by.is_some_and(|by| by.teams.is_empty() || one.teams.iter().any(|team| by.has(team)))
    };
    if !wanted.is_empty() && !member_of.iter().any(admits) {
        return None;
    }
    let mut groups = Vec::new();
    for organization in member_of {
        let by = listed(organization);
        // Of a name that is pinned to a number, another organization's groups are not taken, whatever else is.
        let is_taken_over = by.is_none() && wanted.iter().any(|one| one.has_name(organization));
        if is_taken_over || (!takes_all && by.is_none()) {
            continue;
        }
        groups.push(organization.name.clone());
        let teams = organization.teams.iter();
        let taken = teams.filter(|team| takes_all || by.is_some_and(|by| by.has(team)));
        let names = taken.flat_map(|team| &team.names);
        groups.extend(names.map(|name| format!("{}:{name}", organization.name)));
    }
    let mut seen = BTreeSet::new();
    groups.retain(|group| seen.insert(group.clone()));
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member_of() -> Vec<Organization> {
        let team = |key: &str, names: &[&str]| Team {
            key: key.into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        vec![
            Organization {
                id: 1,
                name: "Acme".into(),
                teams: vec![team("site-admins", &["site-admins", "Site Admins"])],
            },
            Organization { id: 2, name: "other".into(), teams: vec![team("dev", &["dev"])] },
        ]
    }

    fn of(name: &str, id: Option<i64>, teams: &[&str]) -> Option<Vec<String>> {
        let teams: Vec<String> = teams.iter().map(|team| (*team).to_owned()).collect();
        groups(&[Wanted { name, id, teams: &teams }], false, &member_of())
    }

    #[test]
    fn groups_are_those_of_the_listed_organizations_and_no_other() {
        let acme = ["Acme", "Acme:site-admins", "Acme:Site Admins"];
        assert_eq!(of("acme", None, &[]).unwrap(), acme);
        assert_eq!(of("acme2", None, &[]), None, "not a member");
        assert_eq!(groups(&[], false, &member_of()).unwrap(), [""; 0]);
        let pinned = [("acme", Some(999)), ("other", None)];
        let pinned = pinned.map(|(name, id)| Wanted { name, id, teams: &[] });
        assert_eq!(groups(&pinned, true, &member_of()).unwrap(), ["other", "other:dev"]);
        let all = groups(&[], true, &member_of()).unwrap();
        assert_eq!(all[3..], ["other", "other:dev"]);
        let nobody = Wanted { name: "nobody", id: None, teams: &[] };
        assert_eq!(groups(&[nobody], true, &member_of()), None, "membership is asked for still");
    }

    #[test]
    fn a_team_of_the_list_is_a_condition_and_a_bound() {
        assert!(of("acme", None, &["site-admins"]).is_some());
        assert_eq!(of("acme", None, &["dev"]), None, "a team of that name elsewhere");
        assert_eq!(of("acme", None, &["Site Admins"]), None, "what people call it is no key");
    }

    #[test]
    fn who_took_over_a_name_is_not_believed() {
        assert!(of("acme", Some(1), &[]).is_some());
        assert_eq!(of("acme", Some(7), &[]), None);
    }
}

//! Which sessions are too many, from their metadata alone: pure.
//!
//! Two passes over all sessions. The first counts, by user, client and issuer: sixteen bytes a user.
//! The second, only where a bound is exceeded, holds on to as many names as must go, the oldest.
//! Bounds are looked at one after another, since a session revoked for one may satisfy the next.
//!
//! A session counts while it is live by its labels; oldest is who signed in longest ago. What is stored
//! beside those, tombstones most of all, counts toward the issuer's total for a warning only: it must stay.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use claviger_api::{labels, time};
use claviger_domain::issuer::SessionLimits;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

/// Bounds by the hash that sessions of an issuer are labelled with.
pub type Limits = BTreeMap<String, SessionLimits>;

/// Names held at once; the next pass takes the rest.
const MOST: u32 = 1_000;
/// No session lives longer than this from any moment on: two years, which is the longest absolute and
/// the longest idle lifetime together.
const LONGEST_HOURS: i64 = 2 * 366 * 24;

/// A bound on the number of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Of one user at one issuer.
    PerUser,
    /// Of one client.
    PerClient,
    /// Of one issuer.
    Total,
}

impl Bound {
    const ALL: [Self; 3] = [Self::PerUser, Self::PerClient, Self::Total];

    /// The field of `sessionLimits`.
    pub fn field(self) -> &'static str {
        match self {
            Self::PerUser => "perUser",
            Self::PerClient => "perClient",
            Self::Total => "total",
        }
    }

    /// What an issuer says.
    pub fn of(self, limits: &SessionLimits) -> u32 {
        match self {
            Self::PerUser => limits.per_user,
            Self::PerClient => limits.per_client,
            Self::Total => limits.total,
        }
    }
}

/// What is known of a session from its metadata.
#[derive(Debug, Deserialize)]
pub struct Listed {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    creation_timestamp: Option<Time>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Listed {
    fn label(&self, label: &str) -> Option<&str> {
        self.metadata.labels.get(label).map(String::as_str)
    }

    /// The hour it expires in; `None` where nobody of ours can have written that.
    fn expiry_hour(&self, now: i64) -> Option<i64> {
        let hour = self.label(labels::EXPIRY_HOUR)?.parse().ok()?;
        (hour <= now / 3_600 + LONGEST_HOURS).then_some(hour)
    }

    /// What it counts toward, by whose limits: nothing if it is over or has no known issuer.
    fn counted<'a>(&'a self, limits: &'a Limits, now: i64) -> Option<Counted<'a>> {
        let over = self.label(labels::STATE) == Some(labels::STATE_REVOKED)
            || self.expiry_hour(now)? < now / 3_600;
        let (issuer, limits) = limits.get_key_value(self.label(labels::ISSUER_HASH)?)?;
        let (user, client) = (self.label(labels::USER_HASH)?, self.label(labels::CLIENT_HASH)?);
        (!over).then_some(Counted { issuer, user, client, limits })
    }
}

struct Counted<'a> {
    issuer: &'a str,
    user: &'a str,
    client: &'a str,
    limits: &'a SessionLimits,
}

impl Counted<'_> {
    /// Stands for whoever a bound is about. Labels are hashes already, and nobody's to choose.
    fn key(&self, bound: Bound) -> u64 {
        let mut hasher = DefaultHasher::new();
        let whose = match bound {
            Bound::PerUser => self.user,
            Bound::PerClient => self.client,
            Bound::Total => "",
        };
        (self.issuer, whose).hash(&mut hasher);
        hasher.finish()
    }
}

/// The first pass.
#[derive(Debug)]
pub struct Tally<'a> {
    limits: &'a Limits,
    now: i64,
    counts: [HashMap<u64, Count>; 3],
    stored: BTreeMap<&'a str, Stored>,
    strays: Vec<String>,
}

/// What there is of one issuer, live or not.
#[derive(Debug, Clone, Copy)]
struct Stored {
    objects: u64,
    total: u32,
}

/// An issuer that has more stored than its total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowded {
    /// Hash of the issuer.
    pub issuer: String,
    /// Sessions and tombstones.
    pub stored: u64,
    /// Its `sessionLimits.total`.
    pub total: u32,
}

impl Crowded {
    /// How many too many.
    pub fn beyond(&self) -> u64 {
        self.stored.saturating_sub(self.total.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct Count {
    sessions: u32,
    limit: u32,
}

impl<'a> Tally<'a> {
    /// Nothing counted yet.
    pub fn new(limits: &'a Limits, now: i64) -> Self {
        let stored = |limits: &SessionLimits| Stored { objects: 0, total: limits.total };
        let stored = limits.iter().map(|(issuer, limits)| (issuer.as_str(), stored(limits)));
        Self {
            limits,
            now,
            counts: Default::default(),
            stored: stored.collect(),
            strays: Vec::new(),
        }
    }

    /// Counts a session.
    pub fn count(&mut self, session: &Listed) {
        if session.expiry_hour(self.now).is_none() && self.strays.len() < MOST as usize {
            self.strays.push(session.metadata.name.clone());
        }
        let issuer = session.label(labels::ISSUER_HASH);
        if let Some(stored) = issuer.and_then(|issuer| self.stored.get_mut(issuer)) {
            stored.objects += 1;
        }
        let Some(counted) = session.counted(self.limits, self.now) else { return };
        for (bound, counts) in Bound::ALL.into_iter().zip(&mut self.counts) {
            let limit = bound.of(counted.limits);
            counts.entry(counted.key(bound)).or_insert(Count { sessions: 0, limit }).sessions += 1;
        }
    }

    /// Sessions whose expiry hour cannot be ours.
    pub fn strays(&self) -> &[String] {
        &self.strays
    }

    /// Issuers that have more stored than their total, tombstones included.
    pub fn crowded(&self) -> Vec<Crowded> {
        let beyond = self.stored.iter().filter(|(_, of)| of.objects > u64::from(of.total));
        beyond
            .map(|(issuer, of)| Crowded {
                issuer: (*issuer).to_owned(),
                stored: of.objects,
                total: of.total,
            })
            .collect()
    }

    /// How many sessions may be made before any bound can be exceeded that is not yet.
    pub fn headroom(&self) -> u32 {
        let unseen = self.limits.values().flat_map(|limits| Bound::ALL.map(|b| b.of(limits)));
        let seen = self.counts.iter().flat_map(HashMap::values);
        seen.map(|count| count.limit.saturating_sub(count.sessions))
            .chain(unseen)
            .chain(
                self.stored
                    .values()
                    .filter_map(|of| u64::from(of.total).checked_sub(of.objects)?.try_into().ok()),
            )
            .min()
            .unwrap_or(u32::MAX)
    }

    /// The first bound that is exceeded, and by whom.
    pub fn excess(self) -> Option<Excess<'a>> {
        let mut places = MOST;
        for (bound, counts) in Bound::ALL.into_iter().zip(self.counts) {
            let mut groups = HashMap::new();
            for (key, count) in counts {
                let most = count.sessions.saturating_sub(count.limit).min(places);
                if most > 0 {
                    places -= most;
                    groups.insert(key, Group { limit: count.limit, most, ..Group::default() });
                }
            }
            if !groups.is_empty() {
                return Some(Excess { limits: self.limits, now: self.now, bound, groups });
            }
        }
        None
    }
}

/// The second pass.
#[derive(Debug)]
pub struct Excess<'a> {
    limits: &'a Limits,
    now: i64,
    bound: Bound,
    groups: HashMap<u64, Group>,
}

/// Whoever has too many.
#[derive(Debug, Default)]
struct Group {
    limit: u32,
    most: u32,
    seen: u32,
    issuer: String,
    oldest: BinaryHeap<(i64, String)>,
}

/// A session that must go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superfluous {
    /// Its name.
    pub name: String,
    /// Hash of its issuer.
    pub issuer: String,
}

impl Excess<'_> {
    /// The bound that is exceeded.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Looks at a session.
    pub fn look(&mut self, session: &Listed) {
        let Some(counted) = session.counted(self.limits, self.now) else { return };
        let Some(group) = self.groups.get_mut(&counted.key(self.bound)) else { return };
        group.seen += 1;
        if group.issuer.is_empty() {
            counted.issuer.clone_into(&mut group.issuer);
        }
        let created = session.metadata.creation_timestamp.as_ref().map_or(0, time::to_seconds);
        group.oldest.push((created, session.metadata.name.clone()));
        if group.oldest.len() > group.most as usize {
            group.oldest.pop(); // the youngest of them
        }
    }

    /// The sessions that must go, now that all were looked at: none where some went by themselves.
    pub fn superfluous(self) -> Vec<Superfluous> {
        let mut superfluous = Vec::new();
        for group in self.groups.into_values() {
            let excess = group.seen.saturating_sub(group.limit) as usize;
            let oldest = group.oldest.into_sorted_vec().into_iter().take(excess);
            superfluous
                .extend(oldest.map(|(_, name)| Superfluous { name, issuer: group.issuer.clone() }));
        }
        superfluous
    }
}

/// What the last full look found: tells when the next can find anything new.
#[derive(Debug)]
pub struct Watermark {
    /// The bounds it was made with.
    pub limits: Limits,
    /// Objects there were, and how many this process had ever deleted.
    pub objects: (u64, u64),
    /// [`Tally::headroom`].
    pub headroom: u32,
    /// Whether anything was [`Tally::crowded`].
    pub crowded: bool,
    /// When.
    pub at: i64,
}

impl Watermark {
    /// A full look is made this often, whatever was counted: sessions deleted by hand are not seen.
    const LONGEST_SECONDS: i64 = 86_400;
    /// And this often while there is more than there should be: tombstones go by the hour.
    const CROWDED_SECONDS: i64 = 3_600;

    /// Whether a bound may be exceeded by now: bounds changed, or enough sessions were made.
    pub fn is_passed(&self, limits: &Limits, (objects, deleted): (u64, u64), now: i64) -> bool {
        let (objects_then, deleted_then) = self.objects;
        let made = (objects + deleted).saturating_sub(objects_then + deleted_then);
        let longest = if self.crowded { Self::CROWDED_SECONDS } else { Self::LONGEST_SECONDS };
        made > u64::from(self.headroom) || *limits != self.limits || now - self.at >= longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_764_000_000;

    fn limits(per_user: u32, per_client: u32, total: u32) -> Limits {
        Limits::from([("issuer".into(), SessionLimits { per_user, per_client, total })])
    }

    /// A live session; `age` seconds old.
    fn listed(name: &str, user: &str, client: &str, age: i64) -> Listed {
        with(
            name,
            age,
            &json!({
                labels::ISSUER_HASH: "issuer", labels::USER_HASH: user, labels::CLIENT_HASH: client,
                labels::EXPIRY_HOUR: (NOW / 3_600 + 1).to_string(),
            }),
        )
    }

    fn with(name: &str, age: i64, labels: &serde_json::Value) -> Listed {
        serde_json::from_value(json!({"metadata": {
            "name": name, "creationTimestamp": time::from_seconds(NOW - age), "labels": labels,
        }}))
        .unwrap()
    }

    /// The bound that is exceeded, and who must go.
    fn judge(limits: &Limits, sessions: &[Listed]) -> Option<(&'static str, Vec<String>)> {
        let mut tally = Tally::new(limits, NOW);
        for session in sessions {
            tally.count(session);
        }
        let mut excess = tally.excess()?;
        for session in sessions {
            excess.look(session);
        }
        let field = excess.bound().field();
        let mut names: Vec<_> = excess.superfluous().into_iter().map(|s| s.name).collect();
        names.sort();
        Some((field, names))
    }

    #[test]
    fn the_oldest_of_a_user_with_too_many_go_and_nobody_elses() {
        let sessions = [
            listed("new", "ann", "a", 1),
            listed("oldest", "ann", "b", 9),
            listed("middle", "ann", "a", 5),
            listed("bobs", "bob", "a", 99),
        ];
        assert_eq!(judge(&limits(3, 99, 99), &sessions), None);
        let gone = |limit| judge(&limits(limit, 99, 99), &sessions);
        assert_eq!(gone(2), Some(("perUser", vec!["oldest".into()])));
        assert_eq!(gone(1), Some(("perUser", vec!["middle".into(), "oldest".into()])));
    }

    #[test]
    fn users_come_first_then_clients_then_the_issuer() {
        let sessions =
            [listed("1", "ann", "a", 3), listed("2", "ann", "a", 2), listed("3", "bob", "a", 1)];
        assert_eq!(judge(&limits(1, 1, 1), &sessions), Some(("perUser", vec!["1".into()])));
        let two = &sessions[1..];
        assert_eq!(judge(&limits(1, 1, 1), two), Some(("perClient", vec!["2".into()])));
        assert_eq!(judge(&limits(9, 9, 1), two), Some(("total", vec!["2".into()])));
    }

    #[test]
    fn what_is_over_revoked_or_without_a_known_issuer_does_not_count() {
        let hour = |hour: i64| (NOW / 3_600 + hour).to_string();
        let labelled = |issuer: &str, state: &str, expiry: String| {
            with(
                "x",
                9,
                &json!({
                    labels::ISSUER_HASH: issuer, labels::USER_HASH: "ann", labels::CLIENT_HASH: "a",
                    labels::EXPIRY_HOUR: expiry, labels::STATE: state,
                }),
            )
        };
        for idle in [
            labelled("issuer", "Revoked", hour(1)),
            labelled("issuer", "", hour(-1)),
            labelled("other", "", hour(1)),
            labelled("issuer", "", "soon".into()),
        ] {
            let sessions = [idle, listed("1", "ann", "a", 1)];
            assert_eq!(judge(&limits(1, 1, 1), &sessions), None, "{:?}", sessions[0]);
        }
        let sessions = [labelled("issuer", "", hour(0)), listed("1", "ann", "a", 1)];
        assert_eq!(judge(&limits(1, 9, 9), &sessions), Some(("perUser", vec!["x".into()])));
    }

    #[test]
    fn an_expiry_hour_that_cannot_be_ours_is_a_stray() {
        let limits = limits(9, 9, 9);
        let mut tally = Tally::new(&limits, NOW);
        let far = (NOW / 3_600 + LONGEST_HOURS + 1).to_string();
        for (name, expiry) in [
            ("none", json!({})),
            ("word", json!({labels::EXPIRY_HOUR: "soon"})),
            ("far", json!({labels::EXPIRY_HOUR: far})),
        ] {
            tally.count(&with(name, 1, &expiry));
        }
        tally.count(&listed("good", "ann", "a", 1));
        assert_eq!(tally.strays(), ["none", "word", "far"]);
    }

    #[test]
    fn sessions_that_went_by_themselves_between_the_passes_spare_others() {
        let limits = limits(1, 9, 9);
        let sessions = [listed("1", "ann", "a", 3), listed("2", "ann", "a", 2)];
        let mut tally = Tally::new(&limits, NOW);
        for session in &sessions {
            tally.count(session);
        }
        let mut excess = tally.excess().unwrap();
        excess.look(&sessions[1]); // the other is gone
        assert_eq!(excess.superfluous(), []);
    }

    #[test]
    fn no_more_names_are_held_than_there_are_places() {
        let sessions: Vec<_> =
            (0..3_000).map(|n| listed(&n.to_string(), "ann", "a", 9_000 - n)).collect();
        let (_, gone) = judge(&limits(1, 9_999, 9_999), &sessions).unwrap();
        assert_eq!(gone.len(), MOST as usize);
        assert!(gone.iter().all(|name| name.parse::<u32>().unwrap() < MOST), "not the oldest");
    }

    #[test]
    fn the_next_look_is_due_when_enough_sessions_were_made_to_exceed_a_bound() {
        let bounds = limits(3, 9, 9);
        let mut tally = Tally::new(&bounds, NOW);
        assert_eq!(tally.headroom(), 3, "a user who has none yet");
        tally.count(&listed("1", "ann", "a", 1));
        assert_eq!(tally.headroom(), 2);
        let mark = Watermark {
            limits: bounds.clone(),
            objects: (10, 5),
            headroom: 2,
            crowded: false,
            at: NOW,
        };
        let passed = |objects, deleted| mark.is_passed(&bounds, (objects, deleted), NOW);
        assert!(!passed(12, 5), "the bound is reached, not exceeded");
        assert!(passed(13, 5));
        assert!(passed(10, 8), "three were made, three deleted");
        assert!(!passed(2, 5), "deleted by hand");
        assert!(mark.is_passed(&limits(2, 9, 9), (10, 5), NOW), "bounds changed");
        assert!(mark.is_passed(&bounds, (10, 5), NOW + 86_400));
        assert!(!mark.is_passed(&bounds, (10, 5), NOW + 86_399));
        let crowded = Watermark { crowded: true, ..mark };
        assert!(crowded.is_passed(&bounds, (10, 5), NOW + 3_600), "looked at again by the hour");
        assert!(!crowded.is_passed(&bounds, (10, 5), NOW + 3_599));
    }

    #[test]
    fn tombstones_count_toward_the_total_for_a_warning_and_cost_nobody_a_session() {
        let limits = limits(9, 9, 3);
        let tombstone = |name: &str| {
            with(
                name,
                9,
                &json!({
                    labels::ISSUER_HASH: "issuer", labels::USER_HASH: "ann", labels::CLIENT_HASH: "a",
                    labels::EXPIRY_HOUR: (NOW / 3_600 + 1).to_string(),
                    labels::STATE: labels::STATE_REVOKED,
                }),
            )
        };
        let mut tally = Tally::new(&limits, NOW);
        for session in [tombstone("1"), tombstone("2"), listed("3", "ann", "a", 1)] {
            tally.count(&session);
        }
        assert_eq!(tally.crowded(), []);
        assert_eq!(tally.headroom(), 0, "one more is too many");
        tally.count(&listed("4", "ann", "a", 1));
        let crowded = tally.crowded();
        assert_eq!(crowded, [Crowded { issuer: "issuer".into(), stored: 4, total: 3 }]);
        assert_eq!(crowded[0].beyond(), 1);
        assert_eq!(tally.headroom(), 1, "live sessions alone");
        assert!(tally.excess().is_none());
    }
}

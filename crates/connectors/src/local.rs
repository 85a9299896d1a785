//! Users that are declared as `LocalUser` objects: the upstream that needs no upstream.
//!
//! Always holds: exactly one password hash is computed for every attempt that is not refused for its
//! form, whether the name is known, unknown, ambiguous or disabled, and of a cost that users of this
//! table have. A name that two users answer to signs in neither.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use claviger_domain::connector::{
    Authenticated, ConnectorData, LoginError, PasswordLogin, Recheck, RecheckError,
};
use claviger_domain::identity::Identity;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::password_hash::{MAX_PASSWORD_BYTES, PasswordHash, PasswordHashError};

/// Longest name anybody may sign in with, in bytes: the longest mail address (RFC 5321 4.5.3.1).
const MAX_USERNAME_BYTES: usize = 320;

const DEFAULT_USERNAME_LABEL: &str = "Email address";

/// Attempts that may wait for a CPU, in the whole process. Beyond that they are sent away at once:
/// a queue that only grows helps nobody.
const MAX_WAITING: usize = 256;

/// One hash per CPU at a time, in the whole process, so that logins cannot starve everything else.
static HASHING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cpus))
});
static WAITING: Semaphore = Semaphore::const_new(MAX_WAITING);

/// One declared user.
#[derive(Debug, Clone)]
pub struct LocalUser {
    /// Stable identifier, unique at the connector.
    pub user_id: String,
    /// Mail address; users may sign in with it, in any case.
    pub email: Option<String>,
    /// Whether the administrator vouches for the mail address.
    pub email_verified: bool,
    /// Full name.
    pub name: Option<String>,
    /// Short name; users may sign in with it, in any case.
    pub preferred_username: Option<String>,
    /// Groups, as declared.
    pub groups: Vec<String>,
    /// Further claims of OIDC Core 5.1.
    pub extra: BTreeMap<String, Value>,
    /// argon2id or bcrypt; see [`crate::validate_hash`].
    pub password_hash: SecretString,
    /// Disabled users cannot sign in or refresh.
    pub active: bool,
}

struct User {
    identity: Identity,
    active: bool,
    /// `None` when the Secret holds something [`crate::validate_hash`] refuses.
    hash: Option<Arc<PasswordHash>>,
}

/// Who answers to a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    One(usize),
    Several,
}

/// All local users offered at one connector.
pub struct Local {
    username_label: String,
    users: Vec<User>,
    by_name: HashMap<String, Answer>,
    by_id: HashMap<String, Answer>,
    /// IDs of users who exist but are invalid at the moment.
    suspended: BTreeSet<String>,
    /// What is checked when there is nothing to check: one per user, so that unknown names cost what
    /// known ones do, in the same proportions. Never empty.
    decoys: Vec<Arc<PasswordHash>>,
    /// Keyed per process: which decoy a name gets cannot be told from outside, and stays the same.
    spread: RandomState,
    hashes_computed: AtomicU64,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({} users)", self.users.len())
    }
}

/// What one attempt is checked against, and what follows if the password is right.
struct Attempt<'a> {
    hash: Arc<PasswordHash>,
    outcome: Result<&'a User, &'static str>,
}

impl Local {
    /// Builds the table. `username_label` is `Email address` if absent. A user whose hash is refused, or who shares an identifier or name with
    /// another, cannot sign in; nobody else notices.
    ///
    /// # Errors
    /// Only when the stand-in hash of an empty table cannot be computed.
    pub fn new(
        username_label: Option<&str>,
        declared: &[LocalUser],
    ) -> Result<Self, PasswordHashError> {
        let users: Vec<User> = declared.iter().map(User::new).collect();
        let mut by_name = HashMap::new();
        let mut by_id = HashMap::new();
        for (index, user) in users.iter().enumerate() {
            let identity = &user.identity;
            record(&mut by_id, identity.user_id.clone(), index);
            let names = [&identity.email, &identity.preferred_username].into_iter().flatten();
            for name in names.filter(|name| !name.is_empty()) {
                record(&mut by_name, fold(name), index);
            }
        }
        let mut decoys: Vec<_> = users
            .iter()
            .filter_map(|user| user.hash.as_ref())
            .map(|h| Arc::new(h.decoy()))
            .collect();
        if decoys.is_empty() {
            decoys.push(Arc::new(PasswordHash::default_decoy()?));
        }
        Ok(Self {
            username_label: username_label.unwrap_or(DEFAULT_USERNAME_LABEL).to_owned(),
            users,
            by_name,
            by_id,
            suspended: BTreeSet::new(),
            decoys,
            spread: RandomState::new(),
            hashes_computed: AtomicU64::new(0),
        })
    }

    /// The same table, knowing users (by ID) who exist but cannot be vouched for at the moment, such
    /// as one whose Secret is missing: that is no verdict about them.
    #[must_use]
    pub fn with_suspended(mut self, ids: BTreeSet<String>) -> Self {
        self.suspended = ids;
        self
    }

    /// Password hashes computed so far.
    pub fn hashes_computed(&self) -> u64 {
        self.hashes_computed.load(Ordering::Relaxed)
    }

    fn attempt(&self, username: &str) -> Attempt<'_> {
        let name = fold(username);
        let (user, outcome) = match self.by_name.get(&name) {
            None => (None, Err("no local user answers to that name")),
            Some(Answer::Several) => (None, Err("several local users answer to that name")),
            Some(Answer::One(index)) => {
                let user = &self.users[*index];
                (Some(user), self.admissible(user))
            }
        };
        let hash = user.and_then(|user| user.hash.clone()).unwrap_or_else(|| self.decoy(&name));
        Attempt { hash, outcome }
    }

    fn admissible<'a>(&self, user: &'a User) -> Result<&'a User, &'static str> {
        if self.by_id.get(&user.identity.user_id) == Some(&Answer::Several) {
            Err("several local users have that identifier")
        } else if !user.active {
            Err("the local user is disabled")
        } else if user.hash.is_none() {
            Err("the local user's password hash is not usable")
        } else {
            Ok(user)
        }
    }

    fn decoy(&self, name: &str) -> Arc<PasswordHash> {
        let count = u64::try_from(self.decoys.len()).unwrap_or(1);
        let index = usize::try_from(self.spread.hash_one(name) % count).unwrap_or(0);
        Arc::clone(&self.decoys[index])
    }

    async fn verify(
        &self,
        hash: Arc<PasswordHash>,
        password: &SecretString,
    ) -> Result<bool, LoginError> {
        let busy = || LoginError::Unavailable("too many password checks are waiting".into());
        let stopping = || LoginError::Unavailable("the process is shutting down".into());
        let waiting = WAITING.try_acquire().map_err(|_| busy())?;
        let permit = Arc::clone(&HASHING).acquire_owned().await.map_err(|_| stopping())?;
        drop(waiting);
        self.hashes_computed.fetch_add(1, Ordering::Relaxed);
        let password = password.clone();
        // The permit goes along: a caller that gives up must not free the CPU it still uses.
        let check = tokio::task::spawn_blocking(move || {
            let matches = hash.verify(&password);
            drop(permit);
            matches
        });
        check.await.map_err(|_| stopping())
    }
}

impl User {
    fn new(declared: &LocalUser) -> Self {
        let hash = match PasswordHash::parse(declared.password_hash.expose_secret()) {
            Ok(hash) => Some(Arc::new(hash)),
            Err(error) => {
                tracing::warn!(user_id = declared.user_id, %error, "local user cannot sign in");
                None
            }
        };
        let mut groups: Vec<String> = Vec::with_capacity(declared.groups.len());
        for group in &declared.groups {
            if !groups.contains(group) {
                groups.push(group.clone());
            }
        }
        let identity = Identity {
            user_id: declared.user_id.clone(),
            email: declared.email.clone(),
            email_verified: declared.email_verified && declared.email.is_some(),
            name: declared.name.clone(),
            preferred_username: declared.preferred_username.clone(),
            groups,
            extra: declared.extra.clone(),
        };
        Self { identity, active: declared.active, hash }
    }

    fn authenticated(&self) -> Authenticated {
        Authenticated { identity: self.identity.clone(), raw: Map::new(), data: None }
    }
}

fn record(answers: &mut HashMap<String, Answer>, key: String, index: usize) {
    match answers.entry(key) {
        Entry::Vacant(free) => {
            free.insert(Answer::One(index));
        }
        Entry::Occupied(mut taken) => {
            if *taken.get() != Answer::One(index) {
                taken.insert(Answer::Several);
            }
        }
    }
}

fn fold(name: &str) -> String {
    name.to_lowercase()
}

#[async_trait]
impl PasswordLogin for Local {
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
        if length == 0 {
            return refused("empty password");
        }
        if length > MAX_PASSWORD_BYTES || username.len() > MAX_USERNAME_BYTES {
            return refused("user name or password too long");
        }
        let attempt = self.attempt(username);
        let matches = self.verify(attempt.hash, password).await?;
        match attempt.outcome {
            Err(why) => refused(why),
            Ok(_) if !matches => refused("wrong password"),
            Ok(user) => Ok(user.authenticated()),
        }
    }
}

#[async_trait]
impl Recheck for Local {
    fn is_certain(&self) -> bool {
        let ambiguous = |answer: &Answer| matches!(answer, Answer::Several);
        self.suspended.is_empty() && !self.by_id.values().any(ambiguous)
    }

    async fn recheck(
        &self,
        known: &Identity,
        _data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        let gone = |why: &str| Err(RecheckError::Gone(why.to_owned()));
        match self.by_id.get(&known.user_id) {
            None if self.suspended.contains(&known.user_id) => Err(RecheckError::Unavailable(
                "the LocalUser is invalid at the moment: see its conditions".into(),
            )),
            None => gone("the local user was removed"),
            Some(Answer::Several) => {
                Err(RecheckError::Unavailable("several local users have that identifier".into()))
            }
            Some(Answer::One(index)) => {
                let user = &self.users[*index];
                if user.active {
                    Ok(user.authenticated())
                } else {
                    gone("the local user is disabled")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_password;
    use crate::password_hash::CostClass;

    /// One hash for all tests of this file: making one costs tens of milliseconds.
    static HASH: LazyLock<String> =
        LazyLock::new(|| hash_password(&SecretString::from("correct horse")).unwrap());

    fn user(id: &str) -> LocalUser {
        LocalUser {
            user_id: id.to_owned(),
            email: Some(format!("{id}@example.org")),
            email_verified: true,
            name: Some(format!("Name of {id}")),
            preferred_username: Some(id.to_owned()),
            groups: vec!["staff".to_owned(), "staff".to_owned(), "ops".to_owned()],
            extra: BTreeMap::new(),
            password_hash: SecretString::from(HASH.as_str()),
            active: true,
        }
    }

    fn table(users: &[LocalUser]) -> Local {
        Local::new(None, users).unwrap()
    }

    /// How costly the check of an attempt by this name would be.
    fn cost_of(table: &Local, username: &str) -> CostClass {
        table.attempt(username).hash.class()
    }

    async fn login(table: &Local, name: &str, password: &str) -> Result<Authenticated, LoginError> {
        table.authenticate(name, &SecretString::from(password)).await
    }

    fn why(result: Result<Authenticated, LoginError>) -> String {
        match result {
            Err(LoginError::InvalidCredentials(why)) => why,
            other => panic!("expected refusal, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn user_signs_in_by_mail_address_or_user_name_in_any_case() {
        let table = table(&[user("ada"), user("grace")]);
        for name in ["ada@example.org", "ADA@Example.ORG", "ada", "Ada"] {
            let identity = login(&table, name, "correct horse").await.unwrap().identity;
            assert_eq!(identity.user_id, "ada");
            assert_eq!(identity.email.as_deref(), Some("ada@example.org"));
            assert!(identity.email_verified);
            assert_eq!(identity.groups, ["staff", "ops"]);
        }
    }

    #[tokio::test]
    async fn every_well_formed_attempt_computes_exactly_one_hash() {
        let mut disabled = user("dora");
        disabled.active = false;
        let mut broken = user("bert");
        broken.password_hash = SecretString::from("not a hash");
        let mut twin = user("twin-1");
        twin.preferred_username = Some("twin".to_owned());
        let mut other_twin = user("twin-2");
        other_twin.preferred_username = Some("Twin".to_owned());
        let table = table(&[user("ada"), disabled, broken, twin, other_twin]);
        let mut expected = 0;
        for (name, password, reason) in [
            ("ada", "wrong", "wrong password"),
            ("nobody", "correct horse", "no local user"),
            ("dora", "correct horse", "disabled"),
            ("dora", "wrong", "disabled"),
            ("bert", "correct horse", "not usable"),
            ("twin", "correct horse", "several local users"),
            ("", "correct horse", "no local user"),
        ] {
            let error = why(login(&table, name, password).await);
            assert!(error.contains(reason), "{name}: {error}");
            expected += 1;
            assert_eq!(table.hashes_computed(), expected, "{name}");
        }
        login(&table, "ada", "correct horse").await.unwrap();
        assert_eq!(table.hashes_computed(), expected + 1);
    }

    #[tokio::test]
    async fn empty_and_overlong_input_computes_no_hash_for_anybody() {
        let table = table(&[user("ada")]);
        let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
        let long_name = "x".repeat(MAX_USERNAME_BYTES + 1);
        for (name, password) in
            [("ada", ""), ("nobody", ""), ("ada", &*long), ("nobody", &*long), (&*long_name, "pw")]
        {
            why(login(&table, name, password).await);
        }
        assert_eq!(table.hashes_computed(), 0);
    }

    #[test]
    fn unknown_names_cost_what_users_of_the_table_cost() {
        let argon2 = user("ada");
        let mut imported = user("imported");
        imported.password_hash = SecretString::from(bcrypt::hash("pw", 10).unwrap());
        let only_bcrypt = table(std::slice::from_ref(&imported));
        let mixed = table(&[argon2, imported]);
        let names: Vec<String> = (0..64).map(|n| format!("nobody-{n}")).collect();
        let bcrypt = CostClass::Bcrypt { cost: 10 };
        assert!(names.iter().all(|name| cost_of(&only_bcrypt, name) == bcrypt));
        let seen = names.iter().filter(|name| cost_of(&mixed, name) == bcrypt).count();
        assert!((1..names.len()).contains(&seen), "{seen} of {} look like bcrypt", names.len());
        assert_eq!(cost_of(&mixed, "NOBODY-1"), cost_of(&mixed, "nobody-1"), "stable for one name");
        assert_eq!(
            cost_of(&table(&[]), "nobody"),
            CostClass::Argon2id { memory_kib: 19_456, passes: 2, lanes: 1 }
        );
    }

    #[tokio::test]
    async fn a_name_two_users_answer_to_signs_in_neither_but_their_own_names_do() {
        let mut squatter = user("squatter");
        squatter.preferred_username = Some("ada@example.org".to_owned());
        let table = table(&[user("ada"), squatter]);
        assert!(why(login(&table, "ada@example.org", "correct horse").await).contains("several"));
        assert!(login(&table, "ada", "correct horse").await.is_ok());
        assert!(login(&table, "squatter@example.org", "correct horse").await.is_ok());
    }

    #[tokio::test]
    async fn shared_identifier_signs_in_neither() {
        let mut twin = user("ada");
        twin.email = Some("twin@example.org".to_owned());
        twin.preferred_username = Some("twin".to_owned());
        let table = table(&[user("ada"), twin]);
        assert!(why(login(&table, "twin", "correct horse").await).contains("identifier"));
    }

    #[tokio::test]
    async fn recheck_gives_the_declared_user_or_says_gone() {
        let before = table(&[user("ada")]);
        let known = login(&before, "ada", "correct horse").await.unwrap().identity;
        let mut changed = user("ada");
        changed.groups = vec!["new".to_owned()];
        let fresh = table(&[changed.clone()]).recheck(&known, None).await.unwrap();
        assert_eq!(fresh.identity.groups, ["new"]);
        changed.active = false;
        let disabled = table(&[changed]).recheck(&known, None).await.unwrap_err();
        assert_eq!(disabled, RecheckError::Gone("the local user is disabled".to_owned()));
        let removed = table(&[user("grace")]).recheck(&known, None).await.unwrap_err();
        assert_eq!(removed, RecheckError::Gone("the local user was removed".to_owned()));
    }

    #[tokio::test]
    async fn an_invalid_user_is_no_verdict() {
        let known = login(&table(&[user("ada")]), "ada", "correct horse").await.unwrap().identity;
        let broken = table(&[]).with_suspended([known.user_id.clone()].into());
        let waits = broken.recheck(&known, None).await.unwrap_err();
        assert!(matches!(waits, RecheckError::Unavailable(_)), "{waits:?}");
        let twice = table(&[user("ada"), user("ada")]).recheck(&known, None).await.unwrap_err();
        assert!(matches!(twice, RecheckError::Unavailable(_)), "{twice:?}");
    }

    #[tokio::test]
    async fn many_attempts_at_once_all_get_their_answer() {
        let table = Arc::new(table(&[user("ada")]));
        let attempts = (0..16).map(|n| {
            let table = Arc::clone(&table);
            let password = if n % 2 == 0 { "correct horse" } else { "wrong" };
            async move { login(&table, "ada", password).await.is_ok() }
        });
        let answers = futures::future::join_all(attempts).await;
        assert_eq!(answers.iter().filter(|ok| **ok).count(), 8);
        assert_eq!(table.hashes_computed(), 16);
    }

    #[test]
    fn unverifiable_mail_is_never_verified_without_an_address() {
        let mut nameless = user("ada");
        nameless.email = None;
        assert!(!User::new(&nameless).identity.email_verified);
    }
}

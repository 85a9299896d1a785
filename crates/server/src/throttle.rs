//! Slows password guessing: who keeps failing for one account at one connector must wait. Only
//! failures count, so a busy account that succeeds is never slowed; but the tries of one account
//! that are under way at once are bounded, or a burst would all be checked before any is counted.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use claviger_domain::issuer::Issuer;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Failures in a row that cost nothing.
const BURST: u32 = 10;
/// After them, one more try per this time.
const PERIOD: Duration = Duration::from_secs(3);
/// Tries of one account under way at once, where nobody says otherwise.
const AT_ONCE: usize = 16;
/// Accounts remembered one by one; beyond, failures of further accounts share one budget.
const MAX_ACCOUNTS: usize = 10_000;
/// The account of all that are beyond.
const OTHERS: &str = "";

/// Failed sign-ins, by account.
pub struct Throttle {
    failures: DefaultKeyedRateLimiter<String>,
    period: Duration,
    at_once: usize,
    accounts: Mutex<Accounts>,
}

#[derive(Default)]
struct Accounts {
    waiting: HashMap<String, Instant>,
    under_way: HashMap<String, usize>,
    tidied: Option<Instant>,
}

/// One try that is under way. Dropping it ends it.
#[derive(Debug)]
pub struct Attempt<'t> {
    throttle: &'t Throttle,
    account: String,
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Throttle")
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(BURST, PERIOD)
    }
}

impl Throttle {
    /// So many failures in a row cost nothing; after them, one more try per this time.
    pub fn new(burst: u32, period: Duration) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let failures = RateLimiter::keyed(quota.allow_burst(burst));
        Self { failures, period, at_once: AT_ONCE, accounts: Mutex::default() }
    }

    /// The same, with so many tries of one account under way at once.
    #[must_use]
    pub fn at_once(self, at_once: usize) -> Self {
        Self { at_once, ..self }
    }

    /// Begins a try for an account.
    ///
    /// # Errors
    /// How long to wait before the next one.
    pub fn begin(&self, account: String) -> Result<Attempt<'_>, Duration> {
        let mut accounts = self.lock();
        let now = Instant::now();
        if let Some(until) = accounts.waiting.get(&account) {
            match until.checked_duration_since(now) {
                Some(wait) => return Err(wait),
                None => {
                    accounts.waiting.remove(&account);
                }
            }
        }
        let under_way = accounts.under_way.entry(account.clone()).or_default();
        if *under_way >= self.at_once {
            return Err(self.period);
        }
        *under_way += 1;
        drop(accounts);
        Ok(Attempt { throttle: self, account })
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets, at most once a period, what no longer makes anybody wait.
    fn tidy(&self, accounts: &mut Accounts, now: Instant) {
        if accounts.tidied.is_none_or(|at| now.duration_since(at) >= self.period) {
            accounts.tidied = Some(now);
            accounts.waiting.retain(|_, until| *until > now);
            self.failures.retain_recent();
        }
    }
}

impl Attempt<'_> {
    /// Notes that it failed.
    pub fn failed(self) {
        let mut accounts = self.throttle.lock();
        let now = Instant::now();
        let failures = &self.throttle.failures;
        if failures.len() >= MAX_ACCOUNTS {
            self.throttle.tidy(&mut accounts, now);
        }
        let full = failures.len() >= MAX_ACCOUNTS && !accounts.waiting.contains_key(&self.account);
        let account = if full { OTHERS } else { self.account.as_str() };
        if let Err(not_until) = failures.check_key(&account.to_owned())
            && accounts.waiting.len() < MAX_ACCOUNTS
        {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            accounts.waiting.insert(self.account.clone(), now + wait);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut accounts = self.throttle.lock();
        if let Some(under_way) = accounts.under_way.get_mut(&self.account) {
            *under_way -= 1;
            if *under_way == 0 {
                accounts.under_way.remove(&self.account);
            }
        }
    }
}

/// The account that a try is about: at whatever issuer, and however its name is spelled.
pub fn account(issuer: &Issuer, connector: &str, username: &str) -> String {
    let connectors = issuer.connectors.iter();
    let uid = connectors.clone().find(|c| c.name == connector).map(|c| c.uid.as_str());
    format!("{}/{}", uid.unwrap_or(&issuer.uid), folded(username))
}

/// A name as loosely as directories compare names (RFC 4518 2; Active Directory more so): case, width, accents and
/// spaces say nothing, nor what cannot be seen. Two users of one spelling share a count; one of many does not have many.
fn folded(username: &str) -> String {
    let nothing = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let category = CodePointMapData::<GeneralCategory>::new();
    let says_nothing = |c: char| {
        nothing.contains(c)
            || matches!(category.get(c), GeneralCategory::NonspacingMark | GeneralCategory::Control)
    };
    let plain: String = DecomposingNormalizerBorrowed::new_nfkd()
        .normalize(&username.to_lowercase())
        .chars()
        .filter(|c| !says_nothing(*c))
        .collect();
    plain.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use claviger_domain::fakes::World;

    use super::*;

    fn fail(throttle: &Throttle, account: &str) {
        throttle.begin(account.into()).unwrap().failed();
    }

    #[test]
    fn only_a_burst_of_failures_makes_one_account_wait() {
        let throttle = Throttle::default();
        for _ in 0..=BURST {
            fail(&throttle, "alice");
        }
        assert!(throttle.begin("alice".into()).is_err_and(|wait| wait <= PERIOD));
        assert!(throttle.begin("bob".into()).is_ok());
    }

    #[test]
    fn spellings_that_directories_take_for_one_name_are_one_account() {
        for spelling in [
            "alice",
            "ALICE",
            "\u{ff41}lice",
            "\u{1d41a}lice",
            "a\u{301}lice",
            "\u{e1}lice",
            "al\u{200b}ice",
            " alice ",
            "a\u{ad}lice",
            "\u{24d0}lice",
        ] {
            assert_eq!(folded(spelling), "alice", "{spelling:?}");
        }
        assert_eq!(folded("Ada  Lovelace"), folded("ada\u{a0}lovelace"));
        assert_ne!(folded("alice"), folded("alicia"));
        assert_ne!(folded("\u{430}\u{43d}\u{43d}\u{430}"), "", "other scripts are names too");
    }

    #[test]
    fn one_directory_is_one_count_at_whatever_issuer() {
        let mut issuer = World::new().issuer;
        let here = account(&issuer, &issuer.connectors[0].name.clone(), "alice");
        "another".clone_into(&mut issuer.uid);
        assert_eq!(account(&issuer, &issuer.connectors[0].name.clone(), "Alice"), here);
        assert_ne!(account(&issuer, &issuer.connectors[1].name.clone(), "alice"), here);
    }

    #[test]
    fn tries_at_once_are_bounded_and_end_with_their_handle() {
        let throttle = Throttle::default();
        let under_way: Vec<_> = (0..AT_ONCE).map(|_| throttle.begin("alice".into())).collect();
        assert!(under_way.iter().all(Result::is_ok));
        assert!(throttle.begin("alice".into()).is_err());
        drop(under_way);
        assert!(throttle.begin("alice".into()).is_ok());
    }

    #[test]
    fn memory_is_bounded_whatever_names_are_guessed() {
        let throttle = Throttle::default();
        for n in 0..MAX_ACCOUNTS + 100 {
            fail(&throttle, &format!("user-{n}"));
        }
        assert!(throttle.failures.len() <= MAX_ACCOUNTS + 1);
        assert!(throttle.lock().waiting.len() <= MAX_ACCOUNTS);
        assert!(throttle.lock().under_way.is_empty());
    }
}

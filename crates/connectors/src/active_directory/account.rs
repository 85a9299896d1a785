//! The state of an account, by what the domain controller says of it: asked at sign-in, though the bind has told most of
//! it, and at every refresh, when nobody binds.
//!
//! Always holds: what the service account may not read is no good news. Without these attributes there is no verdict,
//! and nobody signs in.

use thiserror::Error;

use crate::ldap::entry::Entry;

const USER_ACCOUNT_CONTROL: &str = "userAccountControl";
/// The bits that a domain controller computes: a lockout ends and a password expires by the clock.
const COMPUTED: &str = "msDS-User-Account-Control-Computed";
const ACCOUNT_EXPIRES: &str = "accountExpires";
const PASSWORD_LAST_SET: &str = "pwdLastSet";

/// What must be asked for.
pub const ATTRIBUTES: [&str; 4] =
    [USER_ACCOUNT_CONTROL, COMPUTED, ACCOUNT_EXPIRES, PASSWORD_LAST_SET];

/// [MS-ADTS] 2.2.16, `userAccountControl` bits.
mod bit {
    pub const ACCOUNT_DISABLE: i64 = 0x2;
    pub const LOCKOUT: i64 = 0x10;
    pub const DONT_EXPIRE_PASSWORD: i64 = 0x1_0000;
    pub const PASSWORD_EXPIRED: i64 = 0x80_0000;
}

/// Seconds from 1601 to 1970.
const EPOCH: i64 = 11_644_473_600;
/// FILETIME counts 100 nanoseconds.
const TICKS: i64 = 10_000_000;

/// Why an account may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Barred {
    /// `ACCOUNTDISABLE`.
    #[error("the account is disabled")]
    Disabled,
    /// `accountExpires` is past.
    #[error("the account has expired")]
    Expired,
    /// Too many wrong passwords.
    #[error("the account is locked out")]
    LockedOut,
    /// `pwdLastSet` is 0.
    #[error("the user must change the password first")]
    MustChangePassword,
    /// It is too old.
    #[error("the password has expired")]
    PasswordExpired,
    /// Since the sign-in.
    #[error("the password was changed after the sign-in")]
    PasswordChanged,
}

/// Which changes end sessions, besides those that always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The password was changed.
    pub password_changed: bool,
    /// The account is locked out.
    pub locked_out: bool,
}

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    control: i64,
    computed: i64,
    expires: i64,
    /// When the password was set, in the domain's own count; 0 is never.
    pub password_set: i64,
}

impl Account {
    /// What an entry says of its account.
    ///
    /// # Errors
    /// In words: it does not say enough.
    pub fn of(entry: &Entry) -> Result<Self, String> {
        let number = |name: &str| {
            entry.number(name).ok_or_else(|| {
                format!(
                    "entry {:?} shows no {name}: let the service account read it, at a domain controller and no \
                     global catalog",
                    entry.dn
                )
            })
        };
        Ok(Self {
            control: number(USER_ACCOUNT_CONTROL)?,
            computed: number(COMPUTED)?,
            expires: number(ACCOUNT_EXPIRES)?,
            password_set: number(PASSWORD_LAST_SET)?,
        })
    }

    /// Why nobody may sign in by this account, at `now` in seconds since the Unix epoch.
    pub fn barred(&self, now: i64) -> Option<Barred> {
        let never_expires = self.control & bit::DONT_EXPIRE_PASSWORD != 0;
        if self.control & bit::ACCOUNT_DISABLE != 0 {
            Some(Barred::Disabled)
        } else if self.has_expired(now) {
            Some(Barred::Expired)
        } else if self.computed & bit::LOCKOUT != 0 {
            Some(Barred::LockedOut)
        } else if self.password_set == 0 && !never_expires {
            Some(Barred::MustChangePassword)
        } else if self.computed & bit::PASSWORD_EXPIRED != 0 {
            Some(Barred::PasswordExpired)
        } else {
            None
        }
    }

    /// Why a session ends that began when the password was as old as `signed_in_with`.
    pub fn ends(&self, now: i64, signed_in_with: Option<i64>, ends: Ends) -> Option<Barred> {
        let unlocked = Self { computed: self.computed & !bit::LOCKOUT, ..*self };
        let seen = if ends.locked_out { *self } else { unlocked };
        // A replica that has not heard yet shows an older password, and that is no change.
        let changed = signed_in_with.is_some_and(|then| self.password_set > then);
        seen.barred(now)
            .or_else(|| (ends.password_changed && changed).then_some(Barred::PasswordChanged))
    }

    /// 0 and the largest number are "never".
    fn has_expired(&self, now: i64) -> bool {
        self.expires != 0 && self.expires != i64::MAX && self.expires / TICKS - EPOCH <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-26T14:00:00Z.
    const NOW: i64 = 1_795_701_600;
    const ALL: Ends = Ends { password_changed: true, locked_out: true };
    const NONE: Ends = Ends { password_changed: false, locked_out: false };

    fn at(seconds: i64) -> i64 {
        (seconds + EPOCH) * TICKS
    }

    fn account() -> Account {
        Account { control: 0x200, computed: 0, expires: i64::MAX, password_set: at(NOW - 1000) }
    }

    #[test]
    fn each_state_of_an_account_has_its_own_words() {
        let bars = [
            (Account { control: 0x202, ..account() }, Barred::Disabled),
            (Account { expires: at(NOW), ..account() }, Barred::Expired),
            (Account { computed: 0x10, ..account() }, Barred::LockedOut),
            (
                Account { password_set: 0, computed: 0x80_0000, ..account() },
                Barred::MustChangePassword,
            ),
            (Account { computed: 0x80_0000, ..account() }, Barred::PasswordExpired),
        ];
        for (account, barred) in bars {
            assert_eq!(account.barred(NOW), Some(barred));
            assert_eq!(account.ends(NOW, Some(account.password_set), ALL), Some(barred));
        }
        assert_eq!(account().barred(NOW), None);
    }

    #[test]
    fn accounts_that_never_expire_do_not() {
        for expires in [0, i64::MAX, at(NOW + 1)] {
            assert_eq!(Account { expires, ..account() }.barred(NOW), None, "{expires}");
        }
        // Whose password never expires need not change it either.
        assert_eq!(Account { control: 0x1_0200, password_set: 0, ..account() }.barred(NOW), None);
    }

    #[test]
    fn only_a_newer_password_is_a_changed_one() {
        let set = account().password_set;
        let changed = Some(Barred::PasswordChanged);
        assert_eq!(account().ends(NOW, Some(set - 1), ALL), changed);
        assert_eq!(account().ends(NOW, Some(set), ALL), None);
        assert_eq!(account().ends(NOW, Some(set + 1), ALL), None, "a replica that lags behind");
        assert_eq!(account().ends(NOW, None, ALL), None, "a session from before that was kept");
        assert_eq!(account().ends(NOW, Some(set - 1), NONE), None);
    }

    #[test]
    fn lockout_that_is_ignored_hides_nothing_else() {
        let locked = Account { computed: 0x10, ..account() };
        assert_eq!(locked.ends(NOW, None, NONE), None);
        let expired = Account { computed: 0x80_0010, ..account() };
        assert_eq!(expired.ends(NOW, None, NONE), Some(Barred::PasswordExpired));
        assert_eq!(locked.barred(NOW), Some(Barred::LockedOut), "nobody signs in all the same");
    }
}

//! One connection to one directory server: dialled, bound, asked, each step within a deadline.
//!
//! A connection that failed in any way but by an LDAP result is never used again. What drives it is
//! aborted with it, so nothing outlives its owner.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use ldap3::controls::{Control, ControlParser as _, ControlType, PagedResults};
use ldap3::result::Result as LdapCall;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapResult, Scope, SearchOptions, StdStream};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::config::Endpoint;
use super::entry::Entry;
use super::error::{Error, Step, code, search_fix, service_bind_fix};
use super::filter::Filter;
use super::transport::{self, NOT_LDAP};
use crate::tls;

/// How long the driver may take to say why it ended, once it has closed its channels.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What a directory said to a user's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is right, and the account may be used.
    Accepted,
    /// Wrong password, or a locked, disabled or expired account. In words, for logs.
    Refused(String),
    /// The server cannot say now.
    Undecided(String),
}

/// One search.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Where.
    pub base: &'a str,
    /// How deep.
    pub scope: Scope,
    /// What.
    pub filter: &'a Filter,
    /// Which attributes to send.
    pub attributes: &'a [String],
    /// Most entries to take.
    pub limit: usize,
    /// Entries per page for searches that may find many; `None` lets the server stop at `limit`.
    pub page: Option<i32>,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Entries, `limit` at most.
    pub entries: Vec<Entry>,
    /// There were more.
    pub more: bool,
}

/// One connection.
pub struct Connection {
    ldap: Ldap,
    driver: JoinHandle<LdapCall<()>>,
    relay: JoinHandle<io::Result<()>>,
    url: String,
    endpoint: usize,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.url)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
        self.relay.abort();
    }
}

impl Connection {
    /// Dials and, where asked for, starts TLS.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Tls`], [`Error::Timeout`].
    pub async fn dial(endpoint: &Endpoint, index: usize, until: Instant) -> Result<Self, Error> {
        let url = endpoint.url.to_string();
        let Ok(opened) = timeout_at(until, transport::open(endpoint)).await else {
            return Err(Error::Timeout { url, step: Step::Connect });
        };
        let (socket, relay) = opened?;
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(socket));
        // Nobody is looked for there: the socket is given.
        match LdapConnAsync::with_settings(settings, "ldapi://relay").await {
            Ok((driver, ldap)) => {
                let driver = tokio::spawn(driver.drive());
                Ok(Self { ldap, driver, relay, url, endpoint: index })
            }
            Err(error) => Err(Error::Connect { url, cause: error.to_string() }),
        }
    }

    /// Which of the connector's servers this is.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Whether the server has ended it. `false` does not promise that it still works.
    pub fn is_closed(&mut self) -> bool {
        self.driver.is_finished() || self.ldap.is_closed()
    }

    /// Binds as the service account; anonymously when `dn` is empty.
    ///
    /// # Errors
    /// [`Error::ServiceBind`] and those of the connection.
    pub async fn bind_service(
        &mut self,
        dn: &str,
        password: &SecretString,
        until: Instant,
    ) -> Result<(), Error> {
        let result = self.bind(Step::ServiceBind, dn, password, until).await?;
        if result.rc == code::SUCCESS {
            return Ok(());
        }
        Err(Error::ServiceBind {
            url: self.url.clone(),
            dn: dn.to_owned(),
            code: result.rc,
            result: match active_directory_reason(&result.text) {
                Some(reason) => format!("{}: {reason}", describe(&result)),
                None => describe(&result),
            },
            fix: service_bind_fix(result.rc),
        })
    }

    /// Binds as a user, to have a password checked. The connection belongs to that user afterwards
    /// and must not be used for anything else.
    ///
    /// # Errors
    /// Those of the connection; what the server answers is a [`Verdict`].
    pub async fn bind_user(
        &mut self,
        dn: &str,
        password: &SecretString,
        until: Instant,
    ) -> Result<Verdict, Error> {
        let result = self.bind(Step::UserBind, dn, password, until).await?;
        Ok(verdict(&result))
    }

    async fn bind(
        &mut self,
        step: Step,
        dn: &str,
        password: &SecretString,
        until: Instant,
    ) -> Result<LdapResult, Error> {
        let answer = {
            let call = self.ldap.simple_bind(dn, password.expose_secret());
            timeout_at(until, caught(call)).await
        };
        self.settle(step, answer).await
    }

    /// Searches, page by page where asked for. Referrals are ignored.
    ///
    /// # Errors
    /// [`Error::Search`] and those of the connection.
    pub async fn search(&mut self, query: Query<'_>, until: Instant) -> Result<Found, Error> {
        let mut found = Found { entries: Vec::new(), more: false };
        let mut cookie = Vec::new();
        loop {
            let result = self.search_page(query, cookie, &mut found, until).await?;
            match result.rc {
                code::SUCCESS => {}
                // The server stopped where we told it to.
                code::SIZE_LIMIT_EXCEEDED if found.entries.len() >= query.limit => {
                    found.more = true;
                }
                _ => return Err(self.search_error(query.base, &result)),
            }
            cookie = match self.next_page(&result.ctrls)? {
                Some(cookie) if query.page.is_some() && !found.more => cookie,
                _ => return Ok(found),
            };
        }
    }

    async fn search_page(
        &mut self,
        query: Query<'_>,
        cookie: Vec<u8>,
        found: &mut Found,
        until: Instant,
    ) -> Result<LdapResult, Error> {
        let seconds = until.saturating_duration_since(Instant::now()).as_secs().saturating_add(1);
        let mut options =
            SearchOptions::new().timelimit(i32::try_from(seconds).unwrap_or(i32::MAX));
        match query.page {
            Some(size) => {
                self.ldap.with_controls(PagedResults { size, cookie });
            }
            None => options = options.sizelimit(i32::try_from(query.limit).unwrap_or(i32::MAX)),
        }
        self.ldap.with_search_options(options);
        let answer = {
            let (base, filter) = (query.base, query.filter.as_str());
            let call = self.ldap.streaming_search(base, query.scope, filter, query.attributes);
            timeout_at(until, caught(call)).await
        };
        let mut stream = self.settle(Step::Search, answer).await?;
        loop {
            let answer = timeout_at(until, caught(stream.next())).await;
            let Some(message) = self.settle(Step::Search, answer).await? else {
                break;
            };
            if message.is_ref() || message.is_intermediate() {
                continue;
            }
            if found.entries.len() == query.limit {
                found.more = true;
                continue;
            }
            let entry = Entry::read(message).ok_or_else(|| self.lost(Step::Search, NOT_LDAP))?;
            found.entries.push(entry);
        }
        Ok(stream.finish().await)
    }

    fn next_page(&self, controls: &[Control]) -> Result<Option<Vec<u8>>, Error> {
        let paged = controls.iter().find_map(|control| match control {
            Control(Some(ControlType::PagedResults), raw) => raw.val.as_deref(),
            _ => None,
        });
        let Some(value) = paged else { return Ok(None) };
        // The library's reader panics on a value that is not a paged-results control.
        let read = std::panic::catch_unwind(|| PagedResults::parse(value));
        let page = read.map_err(|_| self.lost(Step::Search, NOT_LDAP))?;
        Ok(Some(page.cookie).filter(|cookie| !cookie.is_empty()))
    }

    fn search_error(&self, base: &str, result: &LdapResult) -> Error {
        Error::Search {
            url: self.url.clone(),
            base: base.to_owned(),
            code: result.rc,
            result: describe(result),
            fix: search_fix(result.rc),
        }
    }

    fn lost(&self, step: Step, cause: &str) -> Error {
        Error::Lost { url: self.url.clone(), step, cause: cause.to_owned() }
    }

    /// Turns the library's answer into ours; where the connection broke, with the driver's reason.
    async fn settle<T>(&mut self, step: Step, answer: Answer<T>) -> Result<T, Error> {
        match answer {
            Ok(Some(Ok(value))) => Ok(value),
            Err(_) => Err(Error::Timeout { url: self.url.clone(), step }),
            Ok(None) => Err(self.lost(step, NOT_LDAP)),
            Ok(Some(Err(error))) => {
                let cause = self.last_words().await.unwrap_or_else(|| error.to_string());
                Err(self.lost(step, &cause))
            }
        }
    }

    /// Why the connection ended, if it has: the relay knows first. The handles must not be polled after this.
    async fn last_words(&mut self) -> Option<String> {
        let driver = timeout(LAST_WORDS, &mut self.driver).await.ok()?;
        if let Ok(Ok(Err(error))) = timeout(LAST_WORDS, &mut self.relay).await {
            return Some(tls::explain_io(&error).unwrap_or_else(|| error.to_string()));
        }
        match driver {
            Ok(Ok(())) => Some("the server closed it".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(NOT_LDAP.to_owned()),
        }
    }
}

/// In time or not, without a panic or not, with a result or not.
type Answer<T> = Result<Option<LdapCall<T>>, tokio::time::error::Elapsed>;

/// The library panics on some malformed messages: that must end a connection, not a request.
async fn caught<T>(call: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(call).catch_unwind().await.ok()
}

fn describe(result: &LdapResult) -> String {
    // "rc=49 (invalidCredentials), dn: "", text: "…"", by the library.
    result.to_string()
}

/// 389 Directory Server binds users with an expired password, and says so in this control.
const PASSWORD_EXPIRED: &str = "2.16.840.1.113730.3.4.4";

fn verdict(result: &LdapResult) -> Verdict {
    match result.rc {
        code::SUCCESS => {
            let expired = |Control(_, raw): &Control| raw.ctype == PASSWORD_EXPIRED;
            if result.ctrls.iter().any(expired) {
                Verdict::Refused("the password has expired".to_owned())
            } else {
                Verdict::Accepted
            }
        }
        code::INVALID_CREDENTIALS => match active_directory_reason(&result.text) {
            Some(reason) => Verdict::Refused(reason),
            None => Verdict::Refused(describe(result)),
        },
        // Locked or inactivated accounts, entries without a password, entries deleted meanwhile.
        code::CONSTRAINT_VIOLATION
        | code::UNWILLING_TO_PERFORM
        | code::INAPPROPRIATE_AUTHENTICATION
        | code::NO_SUCH_OBJECT => Verdict::Refused(describe(result)),
        _ => Verdict::Undecided(describe(result)),
    }
}

/// Active Directory puts a Windows error code into the text: `… AcceptSecurityContext error, data
/// 52e, v3839`.
fn active_directory_reason(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("data ")?;
    let data = rest.split([',', ' ']).next()?;
    let reason = match data {
        "525" => "no such user",
        "52e" => "wrong password",
        "530" => "not permitted to sign in at this time",
        "531" => "not permitted to sign in at this workstation",
        "532" => "the password has expired",
        "533" => "the account is disabled",
        "701" => "the account has expired",
        "773" => "the user must change the password first",
        "775" => "the account is locked",
        _ => return None,
    };
    Some(format!("{reason} (data {data})"))
}

#[cfg(test)]
mod tests {
    use ldap3::controls::RawControl;

    use super::*;

    fn result(rc: u32, text: &str) -> LdapResult {
        let text = text.to_owned();
        LdapResult { rc, matched: String::new(), text, refs: vec![], ctrls: vec![] }
    }

    #[test]
    fn only_answers_about_the_user_refuse_the_user() {
        assert_eq!(verdict(&result(0, "")), Verdict::Accepted);
        for code in [49, 19, 53, 48, 32] {
            assert!(matches!(verdict(&result(code, "")), Verdict::Refused(_)), "{code}");
        }
        for code in [1, 2, 3, 7, 8, 10, 11, 13, 14, 34, 50, 51, 52, 80] {
            assert!(matches!(verdict(&result(code, "")), Verdict::Undecided(_)), "{code}");
        }
    }

    #[test]
    fn active_directory_codes_are_put_into_words() {
        let text = "80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data 775, v4563";
        assert_eq!(
            verdict(&result(49, text)),
            Verdict::Refused("the account is locked (data 775)".to_owned())
        );
    }

    #[test]
    fn bind_with_an_expired_password_is_refused() {
        let mut accepted = result(0, "");
        let raw = RawControl { ctype: PASSWORD_EXPIRED.to_owned(), crit: false, val: None };
        accepted.ctrls.push(Control(None, raw));
        assert_eq!(verdict(&accepted), Verdict::Refused("the password has expired".to_owned()));
    }
}

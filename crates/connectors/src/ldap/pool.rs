//! The service account's connections: a few are kept, all are counted, none is trusted.
//!
//! - At most `poolSize` leases exist at once; whoever comes later waits until the deadline.
//! - A lease goes back only by [`Lease::give_back`]. One that is dropped, because its request failed
//!   or was cancelled, takes its connection along: nobody gets a connection in mid-conversation.
//! - A user's password is checked on a connection of its own that is never kept.
//! - Servers are tried in the administrator's order; one that just failed is tried last for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_api::Reason;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::config::{Endpoint, ServiceAccount, Timeouts};
use super::connection::{Connection, Found, Query, Verdict};
use super::error::Error;

/// Idle connections older than this are closed: shorter than the idle timeouts of directories and
/// of the firewalls in between, which drop connections without a word.
const MAX_IDLE: Duration = Duration::from_mins(1);
/// Connections older than this are closed, so that load spreads again after a failover.
const MAX_AGE: Duration = Duration::from_mins(10);
/// How long a server that failed is tried after the others.
const COOL_DOWN: Duration = Duration::from_secs(30);

struct Idle {
    connection: Connection,
    opened: Instant,
    since: Instant,
}

/// See the module's documentation.
pub struct Pool {
    endpoints: Vec<Endpoint>,
    account: ServiceAccount,
    timeouts: Timeouts,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// When each server failed last.
    failed: Mutex<Vec<Option<Instant>>>,
}

/// A connection of the service account, for one request.
pub struct Lease<'a> {
    pool: &'a Pool,
    connection: Connection,
    opened: Instant,
    /// Kept from an earlier request, and has not answered this one yet.
    reused: bool,
    until: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// Searches within one operation's time. A kept connection that turns out to be dead is replaced
    /// once, and before its first answer only: all answers that a lease gives are one server's.
    ///
    /// # Errors
    /// [`Error`]: no server, no connection in time, or the search was refused.
    pub async fn search(&mut self, query: Query<'_>) -> Result<Found, Error> {
        let found = self.search_once(query).await;
        let reused = std::mem::replace(&mut self.reused, false);
        if !reused || !found.as_ref().is_err_and(Error::is_of_this_connection) {
            return found;
        }
        // Its siblings are as old. If the server is gone, the new connection says so.
        self.pool.idle().clear();
        self.connection = self.pool.open(self.until).await?;
        self.opened = Instant::now();
        self.search_once(query).await
    }

    async fn search_once(&mut self, query: Query<'_>) -> Result<Found, Error> {
        let until = self.pool.by(self.until);
        let found = self.connection.search(query, until).await;
        if found.as_ref().is_err_and(Error::is_of_this_connection) {
            self.pool.note_failure(self.connection.endpoint());
        }
        found
    }

    /// Checks a user's password at the server that answered the searches, or else at another.
    ///
    /// # Errors
    /// [`Error`] when no server could be asked.
    pub async fn check_password(
        &self,
        dn: &str,
        password: &SecretString,
    ) -> Result<Verdict, Error> {
        self.pool.check_password(self.connection.endpoint(), dn, password, self.until).await
    }

    /// Returns the connection for the next request.
    pub fn give_back(self) {
        let now = Instant::now();
        self.pool.idle().push(Idle {
            connection: self.connection,
            opened: self.opened,
            since: now,
        });
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(
        endpoints: Vec<Endpoint>,
        account: ServiceAccount,
        timeouts: Timeouts,
        size: usize,
    ) -> Self {
        let failed = Mutex::new(vec![None; endpoints.len()]);
        Self {
            endpoints,
            account,
            timeouts,
            permits: Semaphore::new(size),
            idle: Mutex::new(Vec::new()),
            failed,
        }
    }

    /// A new connection, whatever is kept, for a probe.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fresh(&self, until: Instant) -> Result<Lease<'_>, Error> {
        let permit = self.permit(until).await?;
        self.open_lease(permit, until).await
    }

    /// A kept connection or a new one.
    ///
    /// # Errors
    /// [`Error`]: no server, or no connection in time.
    pub async fn lease(&self, until: Instant) -> Result<Lease<'_>, Error> {
        let permit = self.permit(until).await?;
        let kept = self.take_kept();
        match kept {
            Some(Idle { connection, opened, .. }) => {
                Ok(Lease { pool: self, connection, opened, reused: true, until, _permit: permit })
            }
            None => self.open_lease(permit, until).await,
        }
    }

    async fn permit(&self, until: Instant) -> Result<SemaphorePermit<'_>, Error> {
        match timeout_at(until, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::Busy),
        }
    }

    fn take_kept(&self) -> Option<Idle> {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain_mut(|kept| {
            now - kept.since < MAX_IDLE
                && now - kept.opened < MAX_AGE
                && !kept.connection.is_closed()
        });
        idle.pop()
    }

    async fn open_lease<'a>(
        &'a self,
        permit: SemaphorePermit<'a>,
        until: Instant,
    ) -> Result<Lease<'a>, Error> {
        let connection = self.open(until).await?;
        let opened = Instant::now();
        Ok(Lease { pool: self, connection, opened, reused: false, until, _permit: permit })
    }

    /// Dials and binds as the service account at the first server that is there.
    async fn open(&self, until: Instant) -> Result<Connection, Error> {
        let mut failures = Vec::new();
        for index in self.order(None) {
            match self.open_at(index, until).await {
                Ok(connection) => {
                    self.note_success(index);
                    return Ok(connection);
                }
                Err(error) if error.is_of_this_connection() => {
                    tracing::warn!(%error, "a directory server failed");
                    self.note_failure(index);
                    failures.push(error);
                }
                // Another server would say the same, and count one more wrong password.
                Err(error) => return Err(error),
            }
        }
        Err(everywhere(failures))
    }

    async fn open_at(&self, index: usize, until: Instant) -> Result<Connection, Error> {
        let mut connection = self.dial(index, until).await?;
        let account = &self.account;
        connection.bind_service(&account.dn, &account.password, self.by(until)).await?;
        Ok(connection)
    }

    async fn dial(&self, index: usize, until: Instant) -> Result<Connection, Error> {
        let soon = Instant::now() + self.timeouts.connect;
        Connection::dial(&self.endpoints[index], index, soon.min(until)).await
    }

    async fn check_password(
        &self,
        first: usize,
        dn: &str,
        password: &SecretString,
        until: Instant,
    ) -> Result<Verdict, Error> {
        let mut failures = Vec::new();
        for index in self.order(Some(first)) {
            let verdict = match self.dial(index, until).await {
                Ok(mut connection) => connection.bind_user(dn, password, self.by(until)).await,
                Err(error) => Err(error),
            };
            match verdict {
                Err(error) if error.is_of_this_connection() => {
                    self.note_failure(index);
                    failures.push(error);
                }
                decided => return decided,
            }
        }
        Err(everywhere(failures))
    }

    /// Until when one operation may last that begins now.
    fn by(&self, until: Instant) -> Instant {
        (Instant::now() + self.timeouts.operation).min(until)
    }

    /// All servers: `first` if given, then those in order that have not failed lately, then the rest.
    fn order(&self, first: Option<usize>) -> Vec<usize> {
        let now = Instant::now();
        let failed = self.failed();
        let mut order: Vec<usize> = (0..self.endpoints.len()).collect();
        let lately = |index: usize| failed[index].is_some_and(|when| now - when < COOL_DOWN);
        order.sort_by_key(|&index| (first != Some(index), lately(index), index));
        order
    }

    fn note_failure(&self, index: usize) {
        self.failed()[index] = Some(Instant::now());
    }

    fn note_success(&self, index: usize) {
        self.failed()[index] = None;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn everywhere(failures: Vec<Error>) -> Error {
    let causes: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let mut failures = failures.into_iter();
    match (failures.next(), failures.next()) {
        (Some(only), None) => only,
        (first, _) => {
            let reason = first.map_or(Reason::UpstreamUnreachable, |error| error.reason());
            Error::Everywhere { causes: causes.join("; "), reason }
        }
    }
}

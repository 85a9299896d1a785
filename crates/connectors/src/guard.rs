//! What stands before every upstream: each question is counted, and an upstream that only costs time is left alone for
//! a while.
//!
//! ```text
//! closed ── 3 slow failures in a row ─→ open ── 5 s ─→ half open: one question at a time ── an answer ─→ closed
//!                                        ↑────────────── a slow failure ──────────┘
//! ```
//! What always holds:
//! - what opens the circuit is waiting in vain: a failure that took longer than a second. An upstream that refuses
//!   connections at once costs nobody anything and is asked each time, so that it is back the moment it is back;
//! - any answer of the upstream closes it, a refusal too, and that it is asked too much (a rate limit): that is the word of one
//!   that is there, mostly about one user, and others are not to wait for it. What may have been said without it says nothing;
//! - an open circuit is an outage and no verdict about a user.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use claviger_domain::connector::{
    Authenticated, ConnectorData, Login, LoginError, PasswordLogin, Recheck, RecheckError, Refresh,
};
use claviger_domain::identity::Identity;
use claviger_domain::no_verdict::NoVerdict;
use claviger_domain::single_logout::SingleLogout;
use claviger_domain::trip::{Arrival, Description, RedirectLogin, Trip};
use claviger_domain::upstream_logout::LogoutNotices;
use claviger_domain::upstream_token::UpstreamTokens;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use failsafe::backoff::{self, Constant};
use failsafe::failure_policy::{self, ConsecutiveFailures};
use failsafe::{Instrument, StateMachine};
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Probe, ProbeError, Upstream};

/// A failure that took longer was waited for.
const SLOW: Duration = Duration::from_secs(1);
/// Times as long somebody must have waited whose going away says that there is no answer: strangers go away as they like.
const PATIENCE: u32 = 10;
/// Slow failures in a row that open the circuit.
const FAILURES: u32 = 3;
/// How long an open circuit stays open before one question is let through.
const PAUSE: Duration = Duration::from_secs(5);

/// What an upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Whether a name and a password belong together.
    Password,
    /// Where a browser goes.
    Depart,
    /// What a browser that came back is worth.
    Arrive,
    /// Whether a user is still there.
    Recheck,
    /// Whether it would serve a login now.
    Probe,
}

impl Operation {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Password, Self::Depart, Self::Arrive, Self::Recheck, Self::Probe];

    /// For labels of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Depart => "depart",
            Self::Arrive => "arrive",
            Self::Recheck => "recheck",
            Self::Probe => "probe",
        }
    }
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The user, or the upstream, is well.
    Ok,
    /// A verdict: wrong password, no access, gone; or what the browser brought is not the upstream's.
    Refused,
    /// An answer that cannot be used: the administrator must see to it.
    Unusable,
    /// It answers that it is asked too much (a rate limit).
    Busy,
    /// No answer.
    Unavailable,
    /// The circuit is open: it was not asked.
    NotAsked,
    /// Whoever wanted to know went away before there was an answer.
    Abandoned,
}

impl Outcome {
    /// For labels of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unusable => "unusable",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::NotAsked => "not_asked",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Who is told of every question.
pub trait Observer: Send + Sync + fmt::Debug {
    /// A question to this connector's upstream has ended.
    fn asked(&self, connector: &str, operation: Operation, outcome: Outcome, took: Duration);

    /// The circuit of this connector's upstream was opened, or closed again: the two take turns.
    fn circuit(&self, connector: &str, open: bool);
}

/// Nobody.
impl Observer for () {
    fn asked(&self, _: &str, _: Operation, _: Outcome, _: Duration) {}

    fn circuit(&self, _: &str, _: bool) {}
}

/// The circuit before one upstream.
pub(crate) struct Guard {
    connector: String,
    slow: Duration,
    circuit: StateMachine<ConsecutiveFailures<Constant>, Switch>,
    switch: Switch,
    trial: Arc<Semaphore>,
    turning: Mutex<()>,
    observer: Arc<dyn Observer>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({:?}, {:?})", self.connector, self.circuit)
    }
}

/// An upstream that is taken away is nobody's outage.
impl Drop for Guard {
    fn drop(&mut self) {
        self.switch.turn(false);
    }
}

/// Says what the circuit does, and remembers whether it is open.
#[derive(Clone)]
struct Switch {
    connector: String,
    open: Arc<AtomicBool>,
    observer: Arc<dyn Observer>,
}

impl Switch {
    fn turn(&self, open: bool) {
        if self.open.swap(open, Ordering::Relaxed) != open {
            self.observer.circuit(&self.connector, open);
        }
    }
}

impl Instrument for Switch {
    fn on_call_rejected(&self) {}

    fn on_open(&self) {
        let connector = &self.connector;
        tracing::warn!(connector, "the upstream does not answer: it is left alone for a while");
        self.turn(true);
    }

    fn on_half_open(&self) {}

    fn on_closed(&self) {
        self.turn(false);
    }
}

/// A question under way.
struct Question<'g> {
    guard: &'g Guard,
    operation: Operation,
    since: Instant,
    ended: bool,
    _trial: Option<OwnedSemaphorePermit>,
}

impl Guard {
    fn new(connector: &str, observer: &Arc<dyn Observer>, slow: Duration, pause: Duration) -> Self {
        let switch = Switch {
            connector: connector.to_owned(),
            open: Arc::default(),
            observer: Arc::clone(observer),
        };
        let policy = failure_policy::consecutive_failures(FAILURES, backoff::constant(pause));
        Self {
            connector: connector.to_owned(),
            slow,
            circuit: StateMachine::new(policy, switch.clone()),
            switch,
            trial: Arc::new(Semaphore::new(1)),
            turning: Mutex::new(()),
            observer: Arc::clone(observer),
        }
    }

    /// Leave to ask, or in words why not.
    fn ask(&self, operation: Operation) -> Result<Question<'_>, NoVerdict> {
        // What there mostly is no question for at all finds nothing out.
        let is_open = operation != Operation::Depart && self.switch.open.load(Ordering::Relaxed);
        let trial = if !is_open {
            Some(None)
        } else if self.circuit.is_call_permitted() {
            Arc::clone(&self.trial).try_acquire_owned().ok().map(Some)
        } else {
            None
        };
        let Some(trial) = trial else {
            self.observer.asked(&self.connector, operation, Outcome::NotAsked, Duration::ZERO);
            let why = format!(
                "it did not answer in time {FAILURES} times in a row and is left alone for a few seconds"
            );
            return Err(why.into());
        };
        Ok(Question { guard: self, operation, since: Instant::now(), ended: false, _trial: trial })
    }
}

impl Question<'_> {
    fn end(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        self.ended = true;
        let (guard, took) = (self.guard, self.since.elapsed());
        guard.observer.asked(&guard.connector, self.operation, outcome, took);
        // failsafe tells the switch after it has let go of its state: one change at a time.
        let _turn = guard.turning.lock().unwrap_or_else(PoisonError::into_inner);
        match (outcome, self.operation) {
            // The browser's word or doing, or what was known before: the upstream may not have been asked.
            (Outcome::Refused | Outcome::Busy, Operation::Arrive)
            | (Outcome::Ok | Outcome::Busy, Operation::Depart) => {}
            (Outcome::Ok | Outcome::Refused | Outcome::Unusable | Outcome::Busy, _) => {
                guard.circuit.on_success();
            }
            (Outcome::Unavailable, _) if took > guard.slow => guard.circuit.on_error(),
            (Outcome::Abandoned, _) if took > guard.slow * PATIENCE => guard.circuit.on_error(),
            (Outcome::Unavailable | Outcome::Abandoned | Outcome::NotAsked, _) => {}
        }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Outcome::Abandoned);
        }
    }
}

fn login_outcome<T>(answer: &Result<T, LoginError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Ok,
        Err(
            LoginError::InvalidCredentials(_)
            | LoginError::Refused(_)
            | LoginError::Unverified { .. },
        ) => Outcome::Refused,
        Err(LoginError::Unusable(_)) => Outcome::Unusable,
        Err(LoginError::Unavailable(why)) => silence_outcome(why),
    }
}

fn silence_outcome(why: &NoVerdict) -> Outcome {
    if why.retry_after().is_some() { Outcome::Busy } else { Outcome::Unavailable }
}

/// Something that an upstream does, behind its guard.
#[derive(Debug)]
struct Guarded<T: ?Sized> {
    guard: Arc<Guard>,
    inner: Arc<T>,
}

#[async_trait]
impl PasswordLogin for Guarded<dyn PasswordLogin> {
    fn username_label(&self) -> &str {
        self.inner.username_label()
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &SecretString,
    ) -> Result<Authenticated, LoginError> {
        let question = self.guard.ask(Operation::Password).map_err(LoginError::Unavailable)?;
        let answer = self.inner.authenticate(username, password).await;
        question.end(login_outcome(&answer));
        answer
    }
}

#[async_trait]
impl RedirectLogin for Guarded<dyn RedirectLogin> {
    async fn depart(&self, trip: &Trip<'_>) -> Result<Delivery, LoginError> {
        let question = self.guard.ask(Operation::Depart).map_err(LoginError::Unavailable)?;
        let answer = self.inner.depart(trip).await;
        question.end(login_outcome(&answer));
        answer
    }

    fn form_field(&self) -> Option<&'static str> {
        self.inner.form_field()
    }

    fn description(&self, callback: &str) -> Option<Description> {
        self.inner.description(callback)
    }

    // Whoever sends these is not the upstream until its signature is good: what they say is no word about its health.
    fn notices(&self) -> Option<&dyn LogoutNotices> {
        self.inner.notices()
    }

    fn single_logout(&self) -> Option<&dyn SingleLogout> {
        self.inner.single_logout()
    }

    fn session_there(&self, data: Option<&ConnectorData>) -> Option<String> {
        self.inner.session_there(data)
    }

    fn tokens(&self) -> Option<&dyn UpstreamTokens> {
        self.inner.tokens()
    }

    async fn arrive(&self, trip: &Trip<'_>, answer: &Params) -> Result<Arrival, LoginError> {
        let question = self.guard.ask(Operation::Arrive).map_err(LoginError::Unavailable)?;
        let answer = self.inner.arrive(trip, answer).await;
        question.end(login_outcome(&answer));
        answer
    }
}

#[async_trait]
impl Recheck for Guarded<dyn Recheck> {
    fn is_certain(&self) -> bool {
        self.inner.is_certain()
    }

    fn consumes(&self, data: Option<&ConnectorData>) -> bool {
        self.inner.consumes(data)
    }

    fn can_ask(&self, data: Option<&ConnectorData>) -> bool {
        self.inner.can_ask(data)
    }

    async fn recheck(
        &self,
        known: &Identity,
        data: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        let question = self.guard.ask(Operation::Recheck).map_err(RecheckError::Unavailable)?;
        let answer = self.inner.recheck(known, data).await;
        question.end(match &answer {
            Ok(_) => Outcome::Ok,
            Err(RecheckError::Gone(_)) => Outcome::Refused,
            Err(RecheckError::Unavailable(why) | RecheckError::Interrupted { why, .. }) => {
                silence_outcome(why)
            }
        });
        answer
    }
}

/// Asks whatever the circuit says: somebody must find out. That it works closes the circuit.
#[async_trait]
impl Probe for Guarded<dyn Probe> {
    async fn probe(&self) -> Result<(), ProbeError> {
        let since = Instant::now();
        let answer = self.inner.probe().await;
        let outcome = if answer.is_ok() { Outcome::Ok } else { Outcome::Unavailable };
        if answer.is_ok() {
            let _turn = self.guard.turning.lock().unwrap_or_else(PoisonError::into_inner);
            self.guard.circuit.reset();
        }
        let (guard, took) = (&self.guard, since.elapsed());
        guard.observer.asked(&guard.connector, Operation::Probe, outcome, took);
        answer
    }
}

impl Upstream {
    /// The same upstream, with every question of it counted, and left alone where it only costs time.
    #[must_use]
    pub fn guarded(self, connector: &str, observer: &Arc<dyn Observer>) -> Self {
        let guard = Arc::new(Guard::new(connector, observer, SLOW, PAUSE));
        self.behind(&guard)
    }

    fn behind(self, guard: &Arc<Guard>) -> Self {
        let login = match self.login {
            // With a memory there is nobody to wait for.
            Login::Password(inner) if matches!(self.refresh, Refresh::Memory(_)) => {
                Login::Password(inner)
            }
            Login::Password(inner) => Login::Password(behind(guard, inner)),
            Login::Redirect(inner) => Login::Redirect(behind(guard, inner)),
            proxy @ Login::Proxy(_) => proxy, // reads headers, and asks nobody
        };
        let refresh = match self.refresh {
            Refresh::Upstream { recheck, interval_seconds } => {
                Refresh::Upstream { recheck: behind(guard, recheck), interval_seconds }
            }
            // There is nobody to ask.
            nobody @ (Refresh::Unsupported | Refresh::Offline { .. } | Refresh::Memory(_)) => {
                nobody
            }
        };
        let probe = self.probe.map(|probe| behind(guard, probe) as Arc<dyn Probe>);
        Self { login, refresh, probe, ..self }
    }
}

fn behind<T: ?Sized>(guard: &Arc<Guard>, inner: Arc<T>) -> Arc<Guarded<T>> {
    Arc::new(Guarded { guard: Arc::clone(guard), inner })
}

#[cfg(test)]
mod tests;

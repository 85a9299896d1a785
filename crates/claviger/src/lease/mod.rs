//! Leader election: one replica writes status, keys and clean-up. Requests never ask who leads.
//!
//! ```text
//! kube-lease-manager ─ "I hold it" ─┐
//! our client: a renewal succeeded ──┼─→ leads, or not ─→ everything only a leader does
//! the clock is not in doubt ────────┘
//! ```
//! The library keeps the Lease; what it leaves open is closed here:
//! - it says "I hold it" for as long as the API server is away: here a replica whose last successful
//!   renewal is older than the lease's duration does not lead;
//! - it compares the Lease's times with the local clock and takes what seems to have run out: here a
//!   replica whose clock is in doubt gives the Lease up and does not contend;
//! - it never makes a deleted Lease again: here it is missed and made;
//! - its task may die: here that ends the process.
//!
//! None of it fences a write that is under way. Every leader-only write is harmless when two lead:
//! `docs/adr/0005-leader.md`.

mod leadership;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use claviger_domain::ports::Clock;
use claviger_store::ApiTime;
use claviger_store::client::{Listener, short_requests_client};
use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub use self::leadership::Leadership;

/// Name of the Lease in the home namespace.
pub const LEASE: &str = "claviger-leader";
/// For giving the Lease up; the API server may be away.
const RELEASE: Duration = Duration::from_secs(5);
/// For those who ask whether this replica leads to end before it stops.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Who does not renew the Lease reads it this often: 120 reads an hour. That the answer carries the
/// API server's time is as useful.
const LOOK: Duration = Duration::from_secs(30);
/// First and longest pause after the Lease could not be read or made.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long the Lease is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Seconds after which a holder that does not renew loses it.
    pub duration: u64,
    /// It is renewed this many seconds before that. Two clocks may differ by what is left after a
    /// renewal is due.
    pub grace: u64,
}

impl Term {
    /// # Errors
    /// When the one does not fit into the other.
    pub fn new(duration: u64, grace: u64) -> anyhow::Result<Self> {
        if grace == 0 || grace >= duration {
            bail!(
                "--lease-grace-seconds must be between 1 and {}, less than --lease-duration-seconds",
                duration.saturating_sub(1)
            );
        }
        Ok(Self { duration, grace })
    }

    fn duration(self) -> Duration {
        Duration::from_secs(self.duration)
    }
}

/// One replica among those that may lead.
pub struct Contender {
    client: kube::Client,
    home: String,
    identity: String,
    term: Term,
    clock: Arc<dyn Clock>,
    renewed: watch::Receiver<Option<Instant>>,
    gone: Notify,
}

/// Why a hold on the Lease ended.
enum End {
    /// The process is told to end.
    Shutdown,
    /// The clock is in doubt.
    Doubt(String),
    /// Somebody deleted the Lease.
    Gone,
    /// The library's task ended.
    Died(String),
}

type Ended = Result<Result<LeaseManager, LeaseManagerError>, tokio::task::JoinError>;

impl Contender {
    /// A contender that does not contend yet.
    ///
    /// # Errors
    /// When the configuration's certificates or keys cannot be used.
    pub fn new(
        config: &kube::Config,
        time: &Arc<ApiTime>,
        clock: Arc<dyn Clock>,
        (home, identity, term): (&str, &str, Term),
    ) -> anyhow::Result<Self> {
        let (sender, renewed) = watch::channel(None);
        // Every PATCH this client makes is one of the Lease.
        let listener: Listener = Arc::new(move |answer| {
            if answer.method == Method::PATCH && answer.status.is_success() {
                sender.send_replace(Some(answer.sent));
            }
        });
        let client = short_requests_client(config, time, Some(listener))
            .context("failed to make a Kubernetes client")?;
        let (home, identity) = (home.to_owned(), identity.to_owned());
        Ok(Self { client, home, identity, term, clock, renewed, gone: Notify::new() })
    }

    /// Contends until `shutdown`, then gives the Lease up, after those who ask have ended.
    ///
    /// # Errors
    /// When the library's task dies.
    pub async fn run(
        self,
        leadership: Leadership,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        tokio::select! {
            ended = self.contend(&leadership, &shutdown) => ended,
            () = self.look() => Err(anyhow!("nobody looks at the Lease any more")),
        }
    }

    async fn contend(
        &self,
        leadership: &Leadership,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let manager = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                manager = self.manager() => manager,
            };
            let (held, mut task) = manager.watch().await;
            let end = self.hold(held.clone(), &mut task, leadership, shutdown).await;
            leadership.set(false);
            let dead = matches!(end, End::Died(_));
            match end {
                End::Died(why) => bail!("the task that holds the Lease ended: {why}"),
                End::Doubt(doubt) => tracing::warn!(doubt, "giving the Lease up"),
                End::Gone => tracing::warn!(LEASE, "the Lease was deleted; making it again"),
                End::Shutdown => drop(timeout(LAST_WORDS, leadership.unheard()).await),
            }
            drop(held); // the library releases the Lease when nobody listens any more
            if !dead {
                release(task).await;
            }
            if shutdown.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// The library, ready to contend: not before the clock is trusted.
    async fn manager(&self) -> LeaseManager {
        let mut pause = PAUSES.0;
        loop {
            // The library compares the Lease's times with this clock.
            while self.clock.doubt().is_some() {
                sleep(TICK).await;
            }
            let built = LeaseManagerBuilder::new(self.client.clone(), LEASE)
                .with_namespace(self.home.as_str())
                .with_identity(self.identity.as_str())
                .with_duration(self.term.duration)
                .with_grace(self.term.grace)
                .build()
                .await;
            match built {
                Ok(manager) => return manager,
                // An API server that has just started denies what it allows a second later.
                Err(LeaseManagerError::KubeError(kube::Error::Api(status)))
                    if status.is_forbidden() =>
                {
                    tracing::error!(
                        denied = status.message,
                        "not allowed to get, create and patch the Lease {}/{LEASE}, so this replica \
                         cannot lead: apply the chart's Role; trying again",
                        self.home,
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, LEASE, "failed to read or make the Lease; trying again");
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Says who leads until something ends the hold.
    async fn hold(
        &self,
        mut held: watch::Receiver<bool>,
        task: &mut JoinHandle<Result<LeaseManager, LeaseManagerError>>,
        leadership: &Leadership,
        shutdown: &CancellationToken,
    ) -> End {
        let mut renewed = self.renewed.clone();
        loop {
            if let Some(doubt) = self.clock.doubt() {
                return End::Doubt(doubt);
            }
            let lapses = renewed.borrow_and_update().map(|at| at + self.term.duration());
            let current = lapses.is_some_and(|at| Instant::now() < at);
            let holds = *held.borrow_and_update();
            if leadership.set(holds && current) && holds && !current {
                tracing::warn!("the Lease was not renewed in time; this replica leads no more");
            }
            // Without a renewal in its time there is nothing to wait for but the next one.
            let lapse =
                lapses.filter(|_| holds && current).unwrap_or_else(|| Instant::now() + LOOK);
            tokio::select! {
                () = shutdown.cancelled() => return End::Shutdown,
                () = self.gone.notified() => return End::Gone,
                ended = &mut *task => return End::Died(words(ended)),
                changed = held.changed() => if changed.is_err() {
                    return End::Died(words(task.await));
                },
                _ = renewed.changed() => {}
                () = sleep_until(lapse.into()) => {}
                () = sleep(TICK) => {}
            }
        }
    }

    /// Reads the Lease whenever no renewal did for a while.
    async fn look(&self) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.home);
        let every = LOOK.min(self.term.duration());
        let mut known = false;
        let mut renewed_when_missed = None;
        loop {
            let renewed = *self.renewed.borrow();
            // It was there when it was renewed, however long ago that was.
            known |= renewed != renewed_when_missed;
            if renewed.is_none_or(|at| at.elapsed() >= every) {
                match leases.get_opt(LEASE).await {
                    Ok(Some(_)) => known = true,
                    Ok(None) if known => {
                        (known, renewed_when_missed) = (false, renewed);
                        self.gone.notify_one();
                    }
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "failed to read the Lease"),
                }
            }
            sleep(every).await;
        }
    }
}

/// Waits until the Lease is given up, but not for long.
async fn release(task: JoinHandle<Result<LeaseManager, LeaseManagerError>>) {
    let abort = task.abort_handle();
    match timeout(RELEASE, task).await {
        Ok(Ok(Ok(_))) => {}
        Ok(ended) => {
            let why = words(ended);
            tracing::warn!(why, "the Lease was not released; it runs out by itself");
        }
        Err(_) => {
            abort.abort();
            tracing::warn!("the Lease was not released in time; it runs out by itself");
        }
    }
}

fn words(ended: Ended) -> String {
    match ended {
        Ok(Ok(_)) => "it returned".into(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

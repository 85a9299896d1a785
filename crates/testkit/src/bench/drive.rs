//! A number of clients that each do the same thing again and again for a while, and what that cost.
//!
//! Closed loop: a client asks again when it has its answer, so rate and latency say the same thing twice. The
//! driver is one thread: it never takes more than one core, and what it takes is in the table.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::processes::Observed;

/// Something a client can do again and again.
pub trait Client {
    /// Does it once.
    async fn once(&mut self) -> Result<()>;
}

/// How long a phase takes.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Not measured: connections open, caches fill, Go's heap grows.
    pub warm_up: Duration,
    /// Measured.
    pub measured: Duration,
}

/// What a phase brought.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Length of the measured part.
    pub seconds: f64,
    /// Operations done in the measured part.
    pub done: usize,
    /// Operations done in all, warm-up included: what request counters are divided by.
    pub done_in_all: usize,
    /// Microseconds each operation of the measured part took, ascending.
    pub latencies: Vec<u32>,
    /// CPU seconds of the measured part, by process.
    pub cpu: BTreeMap<&'static str, f64>,
}

impl Measured {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { ratio(self.done, 1) / self.seconds } else { 0.0 }
    }

    /// The latency that this share of operations did not exceed, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1).min(last);
        f64::from(self.latencies.get(at).copied().unwrap_or_default()) / 1_000.0
    }

    /// CPU milliseconds a process spent for one operation.
    pub fn cpu_milliseconds(&self, process: &str) -> f64 {
        let seconds = self.cpu.get(process).copied().unwrap_or_default();
        if self.done == 0 { 0.0 } else { seconds * 1_000.0 / ratio(self.done, 1) }
    }
}

/// A quotient of counts.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
pub fn ratio(dividend: usize, divisor: usize) -> f64 {
    dividend as f64 / divisor as f64
}

/// Runs all clients through warm-up and measured part, and gives them back.
///
/// # Errors
/// The first failure of a client: a benchmark that fails in part measures something else.
pub async fn drive<C: Client>(
    clients: Vec<C>,
    window: Window,
    observed: &[Observed],
) -> Result<(Measured, Vec<C>)> {
    ensure!(!clients.is_empty(), "no client to run");
    let start = Instant::now() + window.warm_up;
    let end = start + window.measured;
    let workers = clients.into_iter().map(|client| work(client, start, end));
    let (workers, cpu) = tokio::join!(join_all(workers), sample(observed, start, end));
    let mut measured = Measured { cpu: cpu?, ..Measured::default() };
    measured.seconds = window.measured.as_secs_f64();
    let mut clients = Vec::with_capacity(workers.len());
    for worker in workers {
        let worker = worker?;
        measured.latencies.extend(worker.latencies);
        measured.done_in_all += worker.done_in_all;
        clients.push(worker.client);
    }
    measured.done = measured.latencies.len();
    measured.latencies.sort_unstable();
    Ok((measured, clients))
}

struct Worker<C> {
    client: C,
    latencies: Vec<u32>,
    done_in_all: usize,
}

async fn work<C: Client>(mut client: C, start: Instant, end: Instant) -> Result<Worker<C>> {
    let mut latencies = Vec::new();
    let mut done_in_all = 0;
    loop {
        let began = Instant::now();
        if began >= end {
            return Ok(Worker { client, latencies, done_in_all });
        }
        client.once().await.with_context(|| format!("operation {} failed", done_in_all + 1))?;
        done_in_all += 1;
        let ended = Instant::now();
        if ended >= start && ended < end {
            let took = ended.duration_since(began).as_micros();
            latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
    }
}

async fn sample(
    observed: &[Observed],
    start: Instant,
    end: Instant,
) -> Result<BTreeMap<&'static str, f64>> {
    let now = || -> Result<Vec<f64>> { observed.iter().map(Observed::cpu_seconds).collect() };
    sleep_until(start).await;
    let before = now()?;
    sleep_until(end).await;
    let after = now()?;
    let spent = before.iter().zip(after).map(|(before, after)| after - before);
    Ok(observed.iter().map(|process| process.name).zip(spent).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Scripted {
        left: u32,
    }

    impl Client for Scripted {
        async fn once(&mut self) -> Result<()> {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.left = self.left.checked_sub(1).context("used up")?;
            ensure!(self.left > 0, "the last one fails");
            Ok(())
        }
    }

    /// Short: what is asserted holds however slow the machine is.
    const WINDOW: Window =
        Window { warm_up: Duration::from_millis(50), measured: Duration::from_millis(200) };

    #[tokio::test]
    async fn only_the_measured_part_counts_but_every_operation_is_known() {
        let clients = vec![Scripted { left: 1_000 }, Scripted { left: 1_000 }];
        let (measured, clients) = drive(clients, WINDOW, &[]).await.unwrap();
        let used: u32 = clients.iter().map(|client| 1_000 - client.left).sum();
        assert_eq!(u32::try_from(measured.done_in_all).unwrap(), used);
        assert_eq!(measured.done, measured.latencies.len());
        assert!(measured.done < measured.done_in_all, "the warm-up is not measured");
        assert!(measured.latencies.is_sorted());
    }

    #[tokio::test]
    async fn a_failed_operation_fails_the_phase() {
        let error = drive(vec![Scripted { left: 1 }], WINDOW, &[]).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "operation 1 failed: the last one fails");
    }

    #[test]
    fn percentiles_are_of_what_is_there() {
        let latencies: Vec<u32> = (1..=100).map(|ms| ms * 1_000).collect();
        let measured = Measured { latencies, ..Measured::default() };
        assert!((measured.percentile(50) - 50.0).abs() < f64::EPSILON);
        assert!((measured.percentile(99) - 99.0).abs() < f64::EPSILON);
        assert!((measured.percentile(100) - 100.0).abs() < f64::EPSILON);
        assert!(Measured::default().percentile(99).abs() < f64::EPSILON);
    }
}

//! The real clock and the real randomness behind the domain's ports.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::rand;
use claviger_domain::ports::{Clock, Entropy};
use claviger_store::ApiTime;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Registry};

/// The system's wall clock, held against the API server's.
#[derive(Debug)]
pub struct SystemClock {
    api_time: Arc<ApiTime>,
    started: Instant,
}

impl SystemClock {
    /// A clock that is trusted while it agrees with what the API server tells.
    pub fn new(api_time: Arc<ApiTime>) -> Self {
        Self { api_time, started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        now_millis().div_euclid(1_000)
    }

    fn doubt(&self) -> Option<String> {
        self.api_time.doubt(now_millis(), Instant::now()).map(|doubt| doubt.to_string())
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the port meets the clock")]
fn now_millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The clock's offset as a metric, measured when it is asked for.
struct Offset {
    gauge: Gauge,
    api_time: Arc<ApiTime>,
}

/// Registers `claviger_clock_offset_seconds`.
///
/// # Errors
/// When a metric of that name is registered already.
pub fn register_offset(registry: &Registry, api_time: &Arc<ApiTime>) -> prometheus::Result<()> {
    let gauge = Gauge::new(
        "claviger_clock_offset_seconds",
        "Seconds by which this machine's clock is certainly ahead of the API server's; negative is behind.",
    )?;
    registry.register(Box::new(Offset { gauge, api_time: Arc::clone(api_time) }))
}

impl Collector for Offset {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match self.api_time.offset_seconds(now_millis(), Instant::now()) {
            None => Vec::new(),
            Some(offset) => {
                self.gauge.set(offset);
                self.gauge.collect()
            }
        }
    }
}

/// The system's randomness.
#[derive(Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        if rand::fill(buffer).is_err() {
            // Predictable identifiers would be worse than none.
            tracing::error!("the system has no randomness");
            std::process::abort();
        }
    }
}

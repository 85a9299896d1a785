//! What is counted of the questions to upstreams. Labels are the names of Connectors and our own words: bounded,
//! whatever users and upstreams send.

use std::time::Duration;

use claviger_connectors::guard::{Observer, Operation, Outcome};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Counters and timers of the upstreams, by connector.
#[derive(Debug)]
pub struct UpstreamMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    open: IntGaugeVec,
}

impl UpstreamMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When metrics of these names are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "claviger_upstream_requests_total",
                "Questions to upstreams, by connector, operation and outcome.",
            ),
            &["connector", "operation", "outcome"],
        )?;
        let buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "claviger_upstream_request_seconds",
                "Time until an upstream that was asked had answered or failed, by connector and operation.",
            )
            .buckets(buckets),
            &["connector", "operation"],
        )?;
        let open = IntGaugeVec::new(
            Opts::new(
                "claviger_upstream_circuit_open",
                "1 while an upstream that does not answer is left alone.",
            ),
            &["connector"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(open.clone()))?;
        Ok(Self { requests, seconds, open })
    }
}

impl Observer for UpstreamMetrics {
    fn asked(&self, connector: &str, operation: Operation, outcome: Outcome, took: Duration) {
        let operation = operation.as_str();
        self.requests.with_label_values(&[connector, operation, outcome.as_str()]).inc();
        self.open.with_label_values(&[connector]); // so that it says 0 from the first question on
        if outcome != Outcome::NotAsked {
            self.seconds.with_label_values(&[connector, operation]).observe(took.as_secs_f64());
        }
    }

    fn circuit(&self, connector: &str, open: bool) {
        // A changed connector has a circuit of its own before the one it had is gone: they are counted.
        let gauge = self.open.with_label_values(&[connector]);
        if open {
            gauge.inc();
        } else {
            gauge.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn each_question_is_counted_and_what_was_not_asked_took_no_time() {
        let registry = Registry::new();
        let metrics = UpstreamMetrics::new(&registry).unwrap();
        let took = Duration::from_millis(20);
        metrics.asked("corp", Operation::Recheck, Outcome::Ok, took);
        metrics.asked("corp", Operation::Recheck, Outcome::NotAsked, took);
        metrics.circuit("corp", true);
        metrics.circuit("old", true);
        metrics.circuit("old", false);
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for row in [
            "claviger_upstream_requests_total{connector=\"corp\",operation=\"recheck\",outcome=\"ok\"} 1",
            "claviger_upstream_requests_total{connector=\"corp\",operation=\"recheck\",outcome=\"not_asked\"} 1",
            "claviger_upstream_request_seconds_count{connector=\"corp\",operation=\"recheck\"} 1",
            "claviger_upstream_request_seconds_bucket{connector=\"corp\",operation=\"recheck\",le=\"0.01\"} 0",
            "claviger_upstream_circuit_open{connector=\"corp\"} 1",
            "claviger_upstream_circuit_open{connector=\"old\"} 0",
        ] {
            assert!(text.lines().any(|line| line == row), "{row} in\n{text}");
        }
    }
}

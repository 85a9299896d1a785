//! What the endpoints count. Labels are routes, methods and codes: bounded, whatever clients send.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Counters and timers of the HTTP endpoints.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When metrics of these names are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "claviger_http_requests_total",
                "Requests answered, by route, method and code.",
            ),
            &["endpoint", "method", "code"],
        )?;
        let buckets =
            vec![0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
        let seconds = HistogramVec::new(
            HistogramOpts::new("claviger_http_request_seconds", "Time to answer, by route.")
                .buckets(buckets),
            &["endpoint"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { requests, seconds })
    }

    pub(crate) fn observe(&self, endpoint: &str, method: &str, code: StatusCode, took: Duration) {
        self.requests.with_label_values(&[endpoint, method, code.as_str()]).inc();
        self.seconds.with_label_values(&[endpoint]).observe(took.as_secs_f64());
    }
}

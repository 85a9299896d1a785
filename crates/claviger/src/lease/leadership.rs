//! Whether this replica leads, as everything only a leader does is told, and as metrics.

use prometheus::{IntCounter, IntGauge, Registry};
use tokio::sync::watch;

/// The telling end.
#[derive(Debug)]
pub struct Leadership {
    leads: watch::Sender<bool>,
    gauge: IntGauge,
    transitions: IntCounter,
}

impl Leadership {
    /// Nobody leads yet; registers its metrics.
    ///
    /// # Errors
    /// When metrics of these names are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = IntGauge::new("claviger_leader", "1 while this replica leads, else 0.")?;
        let transitions = IntCounter::new(
            "claviger_leader_transitions_total",
            "How often this replica began or ceased to lead.",
        )?;
        registry.register(Box::new(gauge.clone()))?;
        registry.register(Box::new(transitions.clone()))?;
        Ok(Self { leads: watch::Sender::new(false), gauge, transitions })
    }

    /// For those who ask.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Says it; whether that is news.
    pub fn set(&self, leads: bool) -> bool {
        let news = self.leads.send_if_modified(|now| std::mem::replace(now, leads) != leads);
        if news {
            tracing::info!(leads, "leadership changed");
            self.gauge.set(i64::from(leads));
            self.transitions.inc();
        }
        news
    }

    /// Resolves when nobody asks any more.
    pub async fn unheard(&self) {
        self.leads.closed().await;
    }
}

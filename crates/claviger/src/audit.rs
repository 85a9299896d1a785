//! Audit events become log lines (target `audit`) and counters.

use claviger_domain::ports::{Audit, AuditEvent};
use prometheus::{IntCounterVec, Opts, Registry};

/// Writes audit events to the log and counts them by kind and reason.
#[derive(Debug)]
pub struct LogAudit {
    events: IntCounterVec,
}

impl LogAudit {
    /// Registers its counter.
    ///
    /// # Errors
    /// When a metric of that name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let events = IntCounterVec::new(
            Opts::new(
                "claviger_audit_events_total",
                "Sign-ins, refreshes, refusals and revocations.",
            ),
            &["event", "reason"],
        )?;
        registry.register(Box::new(events.clone()))?;
        Ok(Self { events })
    }
}

impl Audit for LogAudit {
    fn record(&self, event: &AuditEvent<'_>) {
        let (name, reason) = match event {
            AuditEvent::SessionStarted { session, client, connector, user } => {
                tracing::info!(target: "audit", session, client, connector, user, "session started");
                ("SessionStarted", "")
            }
            AuditEvent::SessionRefreshed { session, client } => {
                tracing::info!(target: "audit", session, client, "session refreshed");
                ("SessionRefreshed", "")
            }
            AuditEvent::SessionRevoked { session, client, reason } => {
                let reason = reason.as_str();
                tracing::warn!(target: "audit", session, client, reason, "session revoked");
                ("SessionRevoked", reason)
            }
            AuditEvent::LoginRefused { client, connector, reason } => {
                tracing::info!(target: "audit", client, connector, reason, "login refused");
                ("LoginRefused", *reason)
            }
        };
        self.events.with_label_values(&[name, reason]).inc();
    }
}

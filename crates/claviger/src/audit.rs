//! Audit events become log lines (target `audit`) and counters; a revocation becomes a Kubernetes Event
//! about its session too, published aside so that no answer waits for it.

use claviger_controller::deadline::within;
use claviger_domain::ports::{Audit, AuditEvent, RevocationReason};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::mpsc;

/// Events waiting to be published; beyond, the log and the counter tell alone.
const QUEUE: usize = 256;

/// Writes audit events to the log and counts them by kind and reason.
#[derive(Debug)]
pub struct LogAudit {
    events: IntCounterVec,
    events_to_publish: mpsc::Sender<AboutSession>,
}

/// What is published about a session.
#[derive(Debug)]
pub struct AboutSession {
    session: String,
    reason: &'static str,
    action: &'static str,
    note: String,
}

impl LogAudit {
    /// Registers its counter; the receiver is for [`publish_revocations`].
    ///
    /// # Errors
    /// When a metric of that name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<(Self, mpsc::Receiver<AboutSession>)> {
        let events = IntCounterVec::new(
            Opts::new(
                "claviger_audit_events_total",
                "Sign-ins, refreshes, refusals and revocations.",
            ),
            &["event", "reason"],
        )?;
        registry.register(Box::new(events.clone()))?;
        let (events_to_publish, receiver) = mpsc::channel(QUEUE);
        Ok((Self { events, events_to_publish }, receiver))
    }
}

impl LogAudit {
    /// Leaves an Event to whoever publishes them; where there are too many the log tells alone.
    fn publish(&self, session: &str, (reason, action): (&'static str, &'static str), note: String) {
        let about = AboutSession { session: session.to_owned(), reason, action, note };
        drop(self.events_to_publish.try_send(about));
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
            AuditEvent::TokensIssued { client, grant } => {
                tracing::info!(target: "audit", client, grant, "tokens issued without a session");
                ("TokensIssued", *grant)
            }
            AuditEvent::WorkloadAdmitted { client, grant, workload, audience } => {
                tracing::info!(target: "audit", client, grant, workload, audience, "workload admitted");
                ("WorkloadAdmitted", *grant)
            }
            AuditEvent::LogoutRefused { connector, reason } => {
                tracing::info!(target: "audit", connector, reason, "upstream's sign-out refused");
                ("LogoutRefused", *reason)
            }
            AuditEvent::UpstreamTokenExchanged { client, connector, user, audience } => {
                tracing::info!(target: "audit", client, connector, user, audience, "upstream's token exchanged");
                ("UpstreamTokenExchanged", "")
            }
            AuditEvent::TokenExchanged { session, client, audience } => {
                tracing::info!(target: "audit", session, client, audience, "token exchanged");
                ("TokenExchanged", "")
            }
            AuditEvent::ClientRegistration { client, change } => {
                tracing::info!(target: "audit", client, change, "client registration");
                ("ClientRegistration", *change)
            }
            AuditEvent::SessionRevoked { session, client, reason: why } => {
                let (why, reason) = (*why, why.as_str());
                tracing::warn!(target: "audit", session, client, reason, "session revoked");
                if is_an_event_of_its_own(why) {
                    let note = format!("the session of a user at client {client} was revoked");
                    self.publish(session, (reason, "Revoke"), note);
                }
                ("SessionRevoked", reason)
            }
            AuditEvent::ClientNotTold { session, reason } => {
                tracing::warn!(target: "audit", session, reason, "client not told of a session's end");
                let note = "the client of this session was not told that it is over: see the log, and its \
                            OAuth2Client's backChannelLogout";
                self.publish(session, (*reason, "Tell"), note.to_owned());
                ("ClientNotTold", *reason)
            }
            AuditEvent::DeviceDecided { device, client, connector, user, approved } => {
                tracing::info!(target: "audit", device, client, connector, user, approved, "device decided about");
                ("DeviceDecided", if *approved { "Approved" } else { "Denied" })
            }
            AuditEvent::UpstreamVerdict { client, connector, session, why } => {
                tracing::info!(target: "audit", client, connector, session, why, "upstream's verdict");
                ("UpstreamVerdict", "")
            }
            AuditEvent::LoginRefused { client, connector, reason } => {
                tracing::info!(target: "audit", client, connector, reason, "login refused");
                ("LoginRefused", *reason)
            }
        };
        self.events.with_label_values(&[name, reason]).inc();
    }
}

/// Whether somebody should look at it: not when a client ends what is its own, or a user signs out, which cost
/// their requests and no more, nor when there may be a thousand of them: whoever sweeps tells of all in one Event.
fn is_an_event_of_its_own(reason: RevocationReason) -> bool {
    !matches!(
        reason,
        RevocationReason::SessionLimitExceeded
            | RevocationReason::TokenRevoked
            | RevocationReason::SignedOut
    )
}

/// Publishes an Event for every revocation until no [`LogAudit`] is left. A failure is logged.
pub async fn publish_revocations(
    client: kube::Client,
    namespace: String,
    instance: String,
    mut about: mpsc::Receiver<AboutSession>,
) {
    let reporter =
        Reporter { controller: "claviger.dev/server".to_owned(), instance: Some(instance) };
    let recorder = Recorder::new(client, reporter);
    while let Some(AboutSession { session, reason, action, note }) = about.recv().await {
        let regarding = ObjectReference {
            api_version: Some("claviger.dev/v1alpha1".to_owned()),
            kind: Some("Session".to_owned()),
            name: Some(session),
            namespace: Some(namespace.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = within(recorder.publish(&event, &regarding)).await {
            tracing::warn!(%error, reason, "failed to publish an Event");
        }
    }
}

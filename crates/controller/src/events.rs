//! Kubernetes Events on condition flips: leader only, best effort.
//!
//! kube's `Recorder` merges repeats of one reason and keeps the first note; the condition's message
//! is where the newest details stand.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::deadline::within;

/// `reportingController` of every Event.
pub const REPORTER: &str = "claviger.dev/controller";
/// The API server refuses longer notes.
const NOTE_LIMIT: usize = 1024;

/// A condition that changed sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flip {
    /// Condition type.
    pub condition: String,
    /// Whether this is for the better.
    pub good: bool,
    /// Reason of the condition as it is now.
    pub reason: String,
    /// Message of the condition as it is now.
    pub message: String,
}

/// Publishes flips.
#[derive(Clone)]
pub struct Publisher {
    recorder: Recorder,
}

impl Publisher {
    /// A publisher that reports as this instance (the pod's name).
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: REPORTER.into(), instance };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// One Event a flip. A failure is logged: an Event must never hold up a condition.
    pub async fn publish(&self, regarding: &ObjectReference, flips: &[Flip]) {
        for flip in flips {
            let event = Event {
                type_: if flip.good { EventType::Normal } else { EventType::Warning },
                reason: flip.reason.clone(),
                note: Some(note(flip)),
                action: "Assess".into(),
                secondary: None,
            };
            if let Err(error) = within(self.recorder.publish(&event, regarding)).await {
                tracing::warn!(%error, reason = flip.reason, "failed to publish an Event");
            }
        }
    }
}

fn note(flip: &Flip) -> String {
    let side = if flip.good { "True" } else { "False" };
    let note = format!("{}={side}: {}", flip.condition, flip.message);
    match note
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= NOTE_LIMIT)
        .last()
    {
        Some(end) => note[..end].to_owned(),
        None => note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let flip = Flip {
            condition: "Ready".into(),
            good: false,
            reason: "Invalid".into(),
            message: "é".repeat(1000),
        };
        let note = note(&flip);
        assert!(note.len() <= NOTE_LIMIT && note.len() > NOTE_LIMIT - 4);
        assert!(note.starts_with("Ready=False: é"));
    }
}

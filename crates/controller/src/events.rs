//! Kubernetes Events on condition flips: leader only, best effort.
//!
//! kube's `Recorder` merges repeats of one reason and keeps the first note; the condition's message
//! is where the newest details stand. To do so it keeps every Event of the last minutes, and its table never
//! shrinks: it is begun anew after a bounded number of them.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::deadline::within;

/// `reportingController` of every Event.
pub const REPORTER: &str = "claviger.dev/controller";
/// The API server refuses longer notes.
const NOTE_LIMIT: usize = 1024;
/// Events that one `Recorder` publishes, and remembers: each costs 3 KB or more. A repeat that comes after its first
/// was forgotten is an Event of its own.
const RECORDER_LIMIT: usize = 128;

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
    client: Client,
    reporter: Reporter,
    current: Arc<Mutex<Current>>,
}

/// The Recorder in use, and how many Events it was asked for.
struct Current {
    recorder: Recorder,
    asked: usize,
}

impl Publisher {
    /// A publisher that reports as this instance (the pod's name).
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: REPORTER.into(), instance };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        let current = Arc::new(Mutex::new(Current { recorder, asked: 0 }));
        Self { client, reporter, current }
    }

    /// The Recorder for one more Event.
    fn recorder(&self) -> Recorder {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.asked == RECORDER_LIMIT {
            let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
            *current = Current { recorder, asked: 0 };
        }
        current.asked += 1;
        current.recorder.clone()
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
            if let Err(error) = within(self.recorder().publish(&event, regarding)).await {
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
    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// A publisher to an API server that takes everything, and the methods it was asked by.
    fn publisher() -> (Publisher, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            remembered.lock().unwrap().push(request.method().to_string());
            let response = Response::new(Body::from(br#"{"metadata": {}}"#.to_vec()));
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        (Publisher::new(Client::new(service, "home"), None), asked)
    }

    fn object(name: &str) -> ObjectReference {
        ObjectReference { name: Some(name.to_owned()), ..ObjectReference::default() }
    }

    #[tokio::test]
    async fn repeats_are_merged_and_no_more_events_than_the_limit_are_remembered() {
        let (publisher, asked) = publisher();
        let flip = Flip {
            condition: "Ready".into(),
            good: true,
            reason: "Valid".into(),
            message: "ready".into(),
        };
        let publish = async |name: &str| {
            publisher.publish(&object(name), std::slice::from_ref(&flip)).await;
        };
        publish("first").await;
        publish("first").await;
        assert_eq!(*asked.lock().unwrap(), ["POST", "PATCH"]);

        for n in 2..RECORDER_LIMIT {
            publish(&format!("{n}")).await;
        }
        publish("first").await;
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), RECORDER_LIMIT + 1);
        assert_eq!(asked.last().unwrap(), "POST", "the first is forgotten");
        assert_eq!(asked.iter().filter(|method| *method == "PATCH").count(), 1);
    }

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

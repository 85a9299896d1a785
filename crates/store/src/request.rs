//! One request with a deadline, and how it can fail: a refusal is told from an answer that was lost.

use std::time::Duration;

use claviger_domain::ports::StoreError;

use crate::client::DEADLINE;

/// How a request failed.
pub enum Failure {
    /// The API server said no.
    Answered(Box<kube::core::Status>),
    /// An object that is no session of ours, such as one with a time beyond the year 9999.
    Unreadable(String),
    /// No answer, or none of an API server: it may have happened.
    Unanswered(String),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unanswered(message) | Failure::Unreadable(message) => {
                Self::Unavailable { message, retry_after: None }
            }
            Failure::Answered(status) => {
                let asked = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
                let retry_after = (asked > 0).then_some(asked);
                let message = format!("API server answered {}: {}", status.code, status.message);
                // A 4xx, that of API priority and fairness (429) among them, is said before anything
                // happens. A 5xx may be a write that was done and whose answer came too late.
                if (400..500).contains(&status.code) {
                    Self::Refused { message, retry_after }
                } else {
                    Self::Unavailable { message, retry_after }
                }
            }
        }
    }
}

/// One request with a deadline on the whole of it.
pub async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    /// A little more than the client's own timeouts, which say more about what hung.
    const MARGIN: Duration = Duration::from_millis(500);
    match tokio::time::timeout(DEADLINE + MARGIN, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(Failure::Answered(status)),
        // Whole and well-formed, but not what was asked for; cut or garbled ones are no answers.
        Ok(Err(kube::Error::SerdeError(error))) if error.is_data() => {
            Err(Failure::Unreadable(error.to_string()))
        }
        Ok(Err(error)) => Err(Failure::Unanswered(error.to_string())),
        Err(_) => Err(Failure::Unanswered("no answer within the deadline".into())),
    }
}

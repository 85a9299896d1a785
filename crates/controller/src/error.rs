//! Why the control plane ended.

use thiserror::Error;
use tokio::task::JoinError;

/// Why [`crate::Controller::run`] ended although nobody asked it to.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// A task that must run for ever ended or panicked; the process must not go on without it.
    #[error("task {task} ended: {message}; the process must be restarted")]
    TaskEnded {
        /// Which.
        task: String,
        /// How.
        message: String,
    },
}

impl ControllerError {
    /// A task could not be joined.
    pub(crate) fn task(task: &str, error: &JoinError) -> Self {
        Self::TaskEnded { task: task.to_owned(), message: error.to_string() }
    }
}

//! The Kubernetes client of the request path.
//!
//! kube's default client retries 429, 503 and 504 up to 15 times, POST included: a create that had
//! succeeded would be repeated, and a struggling API server would meet a storm. Here nothing is
//! retried and everything has a deadline; the caller decides.

use std::time::Duration;

use kube::{Client, Config};

/// Longest time one request may take before its user is told to come back.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// A client for the request path, from the configuration of the ordinary one.
///
/// # Errors
/// When the configuration's certificates or keys cannot be used.
pub fn request_path_client(config: &Config) -> kube::Result<Client> {
    let mut config = config.clone();
    config.default_retry = false;
    config.connect_timeout = Some(DEADLINE);
    config.read_timeout = Some(DEADLINE);
    config.write_timeout = Some(DEADLINE);
    Client::try_from(config)
}

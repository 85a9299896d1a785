//! The domain's ports over the Kubernetes API.
//!
//! What always holds: one method, one atomic request, no retry below it, a deadline on each; a
//! refused precondition is told from an answer that was lost.

pub mod client;
pub mod revoked;
pub mod session;

pub use client::request_path_client;
pub use revoked::RevokedSessions;
pub use session::KubeSessions;

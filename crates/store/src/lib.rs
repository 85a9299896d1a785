//! The domain's ports over the Kubernetes API.
//!
//! What always holds: one method, one atomic request, no retry below it, a deadline on each; a
//! refused precondition is told from an answer that was lost. Beside the ports stands what the leader
//! alone does: [`garbage`] removes what is over, a page at a time; [`sweep`] and [`tally`] find sessions
//! beyond an issuer's limits; [`pending_logout`] those whose clients are yet to be told that they are over.

pub mod api_time;
pub mod client;
pub mod cluster;
pub mod collection;
pub mod device;
pub mod garbage;
pub mod pace;
pub mod pending_logout;
pub mod registry;
mod request;
pub mod retry_after;
pub mod revoked;
pub mod session;
pub mod sweep;
pub mod tally;
pub mod write_gate;

pub use api_time::ApiTime;
pub use client::{request_path_client, watching_client};
pub use cluster::KubeCluster;
pub use collection::PageError;
pub use device::{DeviceGarbage, KubeDevices};
pub use garbage::GarbageCollector;
pub use pace::Pace;
pub use pending_logout::PendingLogouts;
pub use registry::KubeRegistry;
pub use revoked::RevokedSessions;
pub use session::KubeSessions;
pub use sweep::SessionSweep;
pub use write_gate::{Share, WriteGate, WriteLimits};

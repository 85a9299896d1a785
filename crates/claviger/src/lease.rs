//! Leader election: one replica writes status, keys and clean-up. Requests never ask who leads.

use anyhow::Context;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Name of the Lease in the home namespace.
pub const LEASE: &str = "claviger-leader";
/// A holder that does not renew for this many seconds loses the lease.
const DURATION_SECONDS: u64 = 60;
/// Renewal happens this many seconds before the end; also the clock skew tolerated.
const GRACE_SECONDS: u64 = 35;

/// The task that holds on to the lease; it ends only with an error or when every receiver is gone.
pub type LeaseTask = JoinHandle<kube_lease_manager::Result<LeaseManager>>;

/// Starts contending for the lease. The receiver says whether this replica leads.
///
/// # Errors
/// When the Lease can neither be read nor created.
pub async fn contend(
    client: kube::Client,
    namespace: &str,
    identity: &str,
) -> anyhow::Result<(watch::Receiver<bool>, LeaseTask)> {
    let manager = LeaseManagerBuilder::new(client, LEASE)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(DURATION_SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await
        .with_context(|| format!("failed to prepare the Lease {namespace}/{LEASE}"))?;
    Ok(manager.watch().await)
}

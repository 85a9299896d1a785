//! The Secret of a deleted `SigningKey`: marked when first seen, deleted when nobody missed it.
//!
//! What always holds: the mark is the leader's clock, written once; what is deleted is exactly the version
//! that was looked at, so that a restore in the same moment wins.

use claviger_api::time;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{Done, ReconcileError, Reconciler};
use crate::assess::orphan::{GRACE, Orphan};
use crate::secret::ORPHANED_AT;

/// What is to be done with an orphan.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Mark,
    Wait,
    Delete,
}

fn next(orphaned_at: Option<i64>, now: i64) -> Next {
    match orphaned_at {
        None => Next::Mark,
        Some(since) if now - since >= GRACE => Next::Delete,
        Some(_) => Next::Wait,
    }
}

/// Sees to one orphan.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(
    reconciler: &mut Reconciler,
    orphan: &Orphan,
) -> Result<Done, ReconcileError> {
    let now = reconciler.clock.now();
    match next(orphan.orphaned_at, now) {
        Next::Wait => Ok(Done::Settled),
        Next::Mark => {
            let marked = marked(&orphan.secret, now);
            tracing::warn!(
                secret = %orphan.key,
                days = GRACE / 86_400,
                "keys without a SigningKey are deleted after a grace period; create the SigningKey to keep them"
            );
            reconciler.write(&orphan.key, Some(orphan.secret.as_ref()), &marked).await
        }
        Next::Delete => reconciler.delete(&orphan.key, &orphan.secret).await,
    }
}

fn marked(secret: &Secret, now: i64) -> Secret {
    let mut marked = secret.clone();
    marked.metadata.managed_fields = None;
    let since = time::from_seconds(now).0.to_string();
    marked.annotations_mut().insert(ORPHANED_AT.to_owned(), since);
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_marked_waits_and_goes() {
        assert_eq!(next(None, 100), Next::Mark);
        assert_eq!(next(Some(100), 100 + GRACE - 1), Next::Wait);
        assert_eq!(next(Some(100), 100 + GRACE), Next::Delete);
    }
}

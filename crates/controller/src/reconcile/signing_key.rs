//! `SigningKey` → its Secret: makes keys, moves them through their life, restores what was deleted.
//!
//! What always holds: the Secret has no ownerReference, so a restored `SigningKey` finds its keys; it
//! is changed by compare-and-swap alone; a key counts as published only when it was seen there.

use claviger_api::labels;
use claviger_jose::{Algorithm, PrivateKey};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{Done, ReconcileError, Reconciler, secret_for};
use crate::assess::signing_key::SigningKeyPlan;
use crate::keyring::{Ring, RingKey};
use crate::ring_secret;
use crate::secret::{ORPHANED_AT, SIGNING_KEY_UID, Use};

/// A ring asks for an active and a next key at most.
const MOST_NEW_KEYS: usize = 2;

/// Brings one ring and its Secret to what is asked.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(
    reconciler: &mut Reconciler,
    plan: &SigningKeyPlan,
) -> Result<Done, ReconcileError> {
    let now = reconciler.clock.now();
    let mut ring = plan.ring.clone();
    if plan.intact {
        ring.confirm(now);
    }
    let mut outcome = ring.step(now, &plan.policy);
    let observed = plan.observed.as_deref();
    if !outcome.needs_key && is_settled(plan, &ring) {
        return Ok(Done::Settled);
    }
    if reconciler.written.is_pending(&plan.secret, observed) {
        return Ok(Done::Again);
    }
    if observed.is_none() && reconciler.is_taken(&plan.secret).await? {
        return Ok(Done::Again);
    }
    for _ in 0..MOST_NEW_KEYS {
        if !outcome.needs_key {
            break;
        }
        ring.keys.push(generate(plan.policy.algorithm, plan.rsa_bits, now).await?);
        outcome = ring.step(now, &plan.policy);
    }
    ring.revision = ring.revision.saturating_add(1);
    if ring.lineage.is_empty() {
        ring.lineage = ring.keys.first().map(|key| key.kid.clone()).unwrap_or_default();
    }
    let mut secret =
        secret_for(&plan.secret, observed, Use::SigningKey, ring_secret::encode(&ring));
    secret.labels_mut().insert(labels::SIGNING_KEY.to_owned(), plan.name.clone());
    secret.annotations_mut().insert(SIGNING_KEY_UID.to_owned(), plan.uid.clone());
    secret.annotations_mut().remove(ORPHANED_AT);
    secret.metadata.owner_references = None;
    reconciler.write(&plan.secret, observed, &secret).await
}

/// Whether the Secret holds this ring and is marked as this `SigningKey`'s.
fn is_settled(plan: &SigningKeyPlan, ring: &Ring) -> bool {
    let Some(observed) = plan.observed.as_deref() else {
        return false;
    };
    plan.intact && plan.ring.says_the_same_as(ring) && is_adopted(observed, plan)
}

fn is_adopted(observed: &Secret, plan: &SigningKeyPlan) -> bool {
    observed.annotations().get(SIGNING_KEY_UID) == Some(&plan.uid)
        && !observed.annotations().contains_key(ORPHANED_AT)
        && observed.labels().get(labels::SIGNING_KEY) == Some(&plan.name)
        && observed.metadata.owner_references.as_deref().unwrap_or_default().is_empty()
}

/// RSA keys take a tenth of a second and more: not on the runtime's own threads.
async fn generate(
    algorithm: Algorithm,
    rsa_bits: u32,
    now: i64,
) -> Result<RingKey, ReconcileError> {
    let made = tokio::task::spawn_blocking(move || PrivateKey::generate(algorithm, rsa_bits));
    let key = made
        .await
        .map_err(|error| ReconcileError::Key(error.to_string()))?
        .map_err(|error| ReconcileError::Key(error.to_string()))?;
    let pem = key.to_pkcs8_pem().map_err(|error| ReconcileError::Key(error.to_string()))?;
    Ok(RingKey::pending(key.kid().to_owned(), algorithm, pem, now))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;
    use crate::keyring::Policy;
    use crate::world::ObjectKey;

    const NOW: i64 = 1_000;

    /// A SigningKey whose Secret is as it must be.
    fn settled() -> SigningKeyPlan {
        let policy = Policy {
            algorithm: Algorithm::ES256,
            rotation_period: 86_400,
            rotation_request: 0,
            longest_token_seconds: 600,
            overlap: 0,
            lead: 270,
            revoked: BTreeSet::new(),
        };
        let mut ring = Ring::default();
        for kid in ["a", "b"] {
            ring.keys.push(RingKey::pending(kid.into(), Algorithm::ES256, "pem".into(), NOW));
        }
        assert!(!ring.step(NOW, &policy).needs_key);
        ring.confirm(NOW);
        let key = ObjectKey::new("home", "claviger-signing-key-main");
        let mut secret = secret_for(&key, None, Use::SigningKey, ring_secret::encode(&ring));
        secret.labels_mut().insert(labels::SIGNING_KEY.into(), "main".into());
        secret.annotations_mut().insert(SIGNING_KEY_UID.into(), "uid".into());
        SigningKeyPlan {
            secret: key,
            name: "main".into(),
            uid: "uid".into(),
            observed: Some(Arc::new(secret)),
            ring,
            intact: true,
            policy,
            rsa_bits: 2048,
        }
    }

    fn settles_at(plan: &SigningKeyPlan, now: i64) -> bool {
        let mut ring = plan.ring.clone();
        ring.confirm(now);
        !ring.step(now, &plan.policy).needs_key && is_settled(plan, &ring)
    }

    #[test]
    fn a_secret_that_is_as_it_must_be_is_not_written() {
        let plan = settled();
        assert!(settles_at(&plan, NOW) && settles_at(&plan, NOW + 86_399));
        assert!(!settles_at(&plan, NOW + 86_400), "a rotation is due");
    }

    #[test]
    fn a_secret_that_is_gone_restored_or_owned_is_written() {
        let change = |change: fn(&mut SigningKeyPlan)| {
            let mut plan = settled();
            change(&mut plan);
            settles_at(&plan, NOW)
        };
        assert!(!change(|plan| plan.observed = None));
        assert!(!change(|plan| plan.intact = false));
        assert!(!change(|plan| {
            let secret = plan.observed.as_mut().map(Arc::make_mut).unwrap();
            secret.annotations_mut().insert(ORPHANED_AT.into(), "2026-01-01T00:00:00Z".into());
        }));
        assert!(!change(|plan| plan.uid = "of the restored SigningKey".into()));
        assert!(!change(|plan| plan.policy.longest_token_seconds = 3_600));
        assert!(!change(|plan| {
            let secret = plan.observed.as_mut().map(Arc::make_mut).unwrap();
            secret.metadata.owner_references = Some(vec![OwnerReference::default()]);
        }));
    }
}

//! Key Secrets whose `SigningKey` is gone: kept for a while, for it may be restored.
//!
//! What always holds: only a Secret that bears the label and the name Claviger gives signing keys is an
//! orphan; a `SigningKey` that does not fit its schema is not gone.

use std::sync::Arc;

use claviger_api::{labels, time};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::assess::signing_key::secret_name;
use crate::secret::{ORPHANED_AT, Use};
use crate::world::{ObjectKey, Source, World};

/// How long the keys of a deleted `SigningKey` are kept, in seconds: 30 days, as long as a backup is likely
/// to be missed.
pub const GRACE: i64 = 30 * 86_400;

/// Keys of nobody.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// Its name.
    pub key: ObjectKey,
    /// The Secret as it is now.
    pub secret: Arc<Secret>,
    /// Since when it is nobody's; `None` if nobody has written that down.
    pub orphaned_at: Option<i64>,
}

/// Every orphan in home.
pub fn assess(world: &World) -> Vec<Orphan> {
    let unreadable = world.unreadable.get(&Source::SigningKeys);
    let is_wanted = |name: &str| {
        let key = ObjectKey::new(&world.home, name);
        world.signing_keys.contains_key(&key)
            || unreadable.is_some_and(|objects| objects.contains_key(&key))
    };
    let in_home = world.secrets.iter().filter(|(key, _)| key.namespace == world.home);
    in_home
        .filter(|(key, secret)| {
            let owner = secret.labels().get(labels::SIGNING_KEY);
            Use::SigningKey.admits(secret)
                && owner.is_some_and(|name| key.name == secret_name(name) && !is_wanted(name))
        })
        .map(|(key, secret)| Orphan {
            key: key.clone(),
            secret: Arc::clone(secret),
            orphaned_at: orphaned_at(secret),
        })
        .collect()
}

fn orphaned_at(secret: &Secret) -> Option<i64> {
    let since = secret.annotations().get(ORPHANED_AT)?;
    serde_json::from_value(since.clone().into()).ok().map(|since| time::to_seconds(&since))
}

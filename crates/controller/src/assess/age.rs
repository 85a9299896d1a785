//! Who was first: creation time, then UID.

use std::sync::Arc;

use kube::ResourceExt;

use crate::world::Objects;

/// All objects, oldest first. The order is the same on every replica.
pub fn by_age<K: ResourceExt>(objects: &Objects<K>) -> impl Iterator<Item = &Arc<K>> {
    let mut sorted: Vec<&Arc<K>> = objects.values().collect();
    sorted.sort_by_key(|object| {
        let created = object.creation_timestamp().map_or(i64::MAX, |time| time.0.as_second());
        (created, object.uid().unwrap_or_default())
    });
    sorted.into_iter()
}

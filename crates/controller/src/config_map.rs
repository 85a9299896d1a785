//! `ConfigMaps` that Connectors refer to: certificate authorities, as trust-manager lays them out.
//!
//! What always holds: those of home alone are watched, and of them those that say they are for this; what was known stands
//! where the API server refuses to show more, for a certificate authority taken away would end sign-ins.

use claviger_api::condition::Reason;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use crate::secret::Unresolved;
use crate::watch::Change;
use crate::world::{self, ObjectKey, Objects, Progress, Source, World};

/// Selects those that are watched: `labels::CONFIG_MAP` with its value.
pub const WATCHED: &str = "claviger.dev/config-map=connector";

/// Brings what is known up to date.
pub fn store(config_maps: &mut Objects<ConfigMap>, change: Change<ConfigMap>) {
    if !matches!(change, Change::Denied) {
        world::store(config_maps, change);
    }
}

/// One value of a `ConfigMap` in home, which is there and not empty, and the version it is of.
///
/// # Errors
/// [`Unresolved`] says what to do: make it, label it, or let Claviger read it.
pub fn resolve<'w>(
    world: &'w World,
    (name, key): (&str, &str),
) -> Result<(&'w str, String), Unresolved> {
    let home = &world.home;
    let Some(found) = world.config_maps.get(&ObjectKey::new(home, name)) else {
        return Err(match world.sources.get(&Source::ConfigMaps) {
            Some(Progress::Denied) => Unresolved::new(
                Reason::ConfigMapAccessDenied,
                format!(
                    "Claviger may not read ConfigMaps in namespace {home}: its Role needs list and watch on configmaps, as \
                     the chart has it"
                ),
            ),
            _ => Unresolved::new(
                Reason::ConfigMapNotFound,
                format!(
                    "ConfigMap {home}/{name} not found or not labelled {WATCHED}: create it, or add the label"
                ),
            ),
        });
    };
    let value = found.data.as_ref().and_then(|data| data.get(key));
    let value = value.filter(|value| !value.is_empty()).ok_or_else(|| {
        Unresolved::new(
            Reason::ConfigMapKeyNotFound,
            format!("ConfigMap {home}/{name} has no value under key {key}: add it, or name another in caConfigMapRef.key"),
        )
    })?;
    let uid = found.uid().unwrap_or_default();
    let version = found.resource_version().unwrap_or_default();
    Ok((value, format!("configmap {name}/{uid}@{version}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use claviger_api::labels;
    use serde_json::json;

    use super::*;

    fn config_map(label: &str) -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "home", "name": "corp-ca", "uid": "u", "resourceVersion": "7",
                "labels": {labels::CONFIG_MAP: label},
            },
            "data": {"ca.crt": "a certificate", "empty": ""},
        }))
        .unwrap()
    }

    fn world(progress: Progress) -> World {
        let mut world = World { home: "home".into(), ..World::default() };
        world.sources.insert(Source::ConfigMaps, progress);
        world
    }

    #[test]
    fn the_watch_selects_what_the_label_says() {
        let selector = format!("{}={}", labels::CONFIG_MAP, labels::CONFIG_MAP_CONNECTOR);
        assert_eq!(WATCHED, selector);
        assert_eq!(Source::ConfigMaps.labels(), Some(WATCHED));
    }

    #[test]
    fn a_value_comes_with_the_version_it_is_of_and_what_is_missing_is_said() {
        let mut world = world(Progress::Synced { confirmed_at: 0 });
        let reason = |world: &World, key| {
            let found = resolve(world, ("corp-ca", key)).map_err(|unresolved| unresolved.reason);
            found.map(|(value, version)| (value.to_owned(), version))
        };
        assert_eq!(reason(&world, "ca.crt"), Err(Reason::ConfigMapNotFound));
        store(&mut world.config_maps, Change::Applied(config_map("connector")));
        let found = ("a certificate".to_owned(), "configmap corp-ca/u@7".to_owned());
        assert_eq!(reason(&world, "ca.crt"), Ok(found));
        assert_eq!(reason(&world, "empty"), Err(Reason::ConfigMapKeyNotFound));
        assert_eq!(reason(&world, "other"), Err(Reason::ConfigMapKeyNotFound));
    }

    #[test]
    fn a_role_without_config_maps_takes_away_nothing_that_was_known() {
        let mut world = world(Progress::Denied);
        let denied = resolve(&world, ("corp-ca", "ca.crt")).unwrap_err();
        assert_eq!(denied.reason, Reason::ConfigMapAccessDenied);
        let known = Arc::new(config_map("connector"));
        world.config_maps.insert(ObjectKey::new("home", "corp-ca"), known);
        store(&mut world.config_maps, Change::Denied);
        assert!(resolve(&world, ("corp-ca", "ca.crt")).is_ok());
        store(&mut world.config_maps, Change::Replaced(Vec::new()));
        assert!(resolve(&world, ("corp-ca", "ca.crt")).is_err());
    }
}

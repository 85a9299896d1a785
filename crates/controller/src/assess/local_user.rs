//! `LocalUser` → conditions, and a row of the table the `local` connectors look users up in.
//!
//! What always holds: of two users with one mail address or one ID the oldest has it, disabled or
//! not; a user out of service is in no table, but known: that is no verdict about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_api::condition::Reason;
use claviger_api::{LocalUser, LocalUserState};
use claviger_connectors::local;
use kube::ResourceExt;
use secrecy::SecretString;

use crate::assess::age::by_age;
use crate::assess::findings::Findings;
use crate::assess::local_claims;
use crate::secret::{self, Unresolved, Use};
use crate::world::World;

/// What came of one user.
#[derive(Debug)]
pub struct AssessedUser {
    /// The object.
    pub object: Arc<LocalUser>,
    /// What was found.
    pub findings: Findings,
    /// The row, if the user is in service.
    pub row: Option<local::LocalUser>,
    /// Says which build of the row this is: UID, generation, version of the Secret.
    pub version: String,
    /// Identifier of the user, in `sub`.
    pub user_id: String,
}

/// Assesses all users, oldest first.
pub fn assess(world: &World) -> Vec<AssessedUser> {
    let mut taken = BTreeMap::new();
    by_age(&world.local_users).map(|user| assess_one(world, user, &mut taken)).collect()
}

fn assess_one(
    world: &World,
    user: &Arc<LocalUser>,
    taken: &mut BTreeMap<(&'static str, String), String>,
) -> AssessedUser {
    let mut findings = Findings::default();
    let spec = &user.spec;
    let user_id = spec.user_id.clone().or_else(|| user.uid()).unwrap_or_default();
    let claims = [("email", spec.email.to_lowercase()), ("userID", user_id.clone())];
    for (field, value) in claims {
        let name = user.name_any();
        let holder = taken.entry((field, value)).or_insert_with(|| name.clone());
        if *holder != name {
            findings.reject(
                Reason::UserConflict,
                format!("{field} belongs to the older LocalUser {holder}: change it, or remove one of the two"),
            );
        }
    }
    let hash = findings.resolved(password_hash(world, user));
    if spec.state == LocalUserState::Disabled {
        findings
            .unready(Reason::Disabled, "the user is disabled: set state to Active to let them in");
    }
    let id = user_id.clone();
    let row = hash.filter(|_| findings.is_in_service()).map(|password_hash| local::LocalUser {
        user_id,
        email: Some(spec.email.clone()),
        email_verified: spec.email_verified,
        name: spec.name.clone(),
        preferred_username: spec.preferred_username.clone(),
        groups: spec.groups.clone(),
        extra: local_claims::of(spec),
        password_hash,
        active: spec.state == LocalUserState::Active,
    });
    let version = version(world, user);
    AssessedUser { object: Arc::clone(user), findings, row, user_id: id, version }
}

fn password_hash(world: &World, user: &LocalUser) -> Result<SecretString, Unresolved> {
    let reference = &user.spec.password_hash.secret_ref;
    let (name, key) = (reference.name.as_str(), reference.key.as_str());
    let bytes = secret::resolve_value(world, &world.home, (name, key), Use::User)?;
    let invalid = |error: String| {
        Unresolved::new(
            Reason::SecretInvalid,
            format!(
                "Secret {}/{name}: the value under key {key} is no password hash: {error}; make one with `claviger hash-password`",
                world.home
            ),
        )
    };
    let hash = secret::line(bytes).ok_or_else(|| invalid("it is not text".to_owned()))?;
    claviger_connectors::validate_hash(hash).map_err(|error| invalid(error.to_string()))?;
    Ok(SecretString::from(hash.to_owned()))
}

fn version(world: &World, user: &LocalUser) -> String {
    let reference = &user.spec.password_hash.secret_ref;
    let key = crate::world::ObjectKey::new(&world.home, &reference.name);
    let secret = world.secrets.get(&key).and_then(|secret| secret.resource_version());
    format!(
        "{}.{}@{}",
        user.uid().unwrap_or_default(),
        user.metadata.generation.unwrap_or_default(),
        secret.unwrap_or_default()
    )
}

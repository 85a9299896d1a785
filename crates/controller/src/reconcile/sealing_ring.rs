//! The sealing ring's Secret: made once, rotated, restored from memory when deleted.
//!
//! What always holds: a ring that is missing while sessions exist is never silently replaced; a new
//! key is known to every replica before it seals; an old one opens for as long as any session that
//! it sealed may live.

use std::collections::BTreeMap;

use claviger_api::Session;
use claviger_domain::SKEW_SECONDS;
use claviger_seal::{KeyRing, KeyState, RingError, RingKey};
use k8s_openapi::ByteString;
use kube::api::{Api, ListParams};

use super::{Done, ReconcileError, Reconciler, secret_for};
use crate::assess::Assessment;
use crate::assess::sealing::{RING, Sealing, secret_key};
use crate::keyring::STALENESS_SECONDS;
use crate::secret::Use;
use crate::world::Obstacle;

/// How long one key seals, in seconds: 30 days.
const ROTATION_PERIOD: i64 = 30 * 86_400;
/// How long a key is known before it seals.
const LEAD: i64 = STALENESS_SECONDS + SKEW_SECONDS;

/// Brings the ring and its Secret to what they must be.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(
    reconciler: &mut Reconciler,
    assessment: &Assessment,
) -> Result<Done, ReconcileError> {
    let now = reconciler.clock.now();
    let key = secret_key(&assessment.world.home);
    let (ring, observed) = match &assessment.sealing {
        Sealing::Unreadable(_) | Sealing::Ready { intact: false, .. } => return Ok(Done::Settled),
        Sealing::Ready { ring, observed, .. } => {
            reconciler.clear(&key);
            let stepped = step(ring, now, assessment.longest_session)?;
            match (stepped, observed) {
                (None, Some(_)) => return Ok(Done::Settled),
                (None, None) => (json(ring)?, None),
                (Some(stepped), observed) => (json(&stepped)?, observed.as_deref()),
            }
        }
        Sealing::Missing | Sealing::Lost | Sealing::Blocked(_) => {
            if assessment.world.secrets.contains_key(&key) {
                return Ok(Done::Settled);
            }
            if reconciler.is_taken(&key).await? {
                return Ok(Done::Again);
            }
            if sessions_exist(reconciler, &key.namespace).await? {
                reconciler.obstruct(&key, Obstacle::SessionsWithoutRing);
                return Ok(Done::Again);
            }
            let ring = KeyRing::generate(now).map_err(|e| ReconcileError::Key(e.to_string()))?;
            (json(&ring)?, None)
        }
    };
    let data = BTreeMap::from([(RING.to_owned(), ByteString(ring))]);
    let secret = secret_for(&key, observed, Use::SealingRing, data);
    reconciler.write(&key, observed, &secret).await
}

fn json(ring: &KeyRing) -> Result<Vec<u8>, ReconcileError> {
    let json = ring.to_json().map_err(|error| ReconcileError::Key(error.to_string()))?;
    Ok(json.to_vec())
}

async fn sessions_exist(reconciler: &Reconciler, home: &str) -> Result<bool, ReconcileError> {
    let api: Api<Session> = Api::namespaced(reconciler.client.clone(), home);
    let one = ListParams::default().limit(1);
    let sessions = api
        .list_metadata(&one)
        .await
        .map_err(|source| ReconcileError::Sessions { source: Box::new(source) })?;
    Ok(!sessions.items.is_empty())
}

/// The ring as it must be now, or `None` if it is.
///
/// `longest_session` is how long a session that a key sealed may live, in seconds.
fn step(ring: &KeyRing, now: i64, longest_session: i64) -> Result<Option<KeyRing>, ReconcileError> {
    let made = |error: RingError| ReconcileError::Key(error.to_string());
    let mut stepped = ring.clone();
    let mut changed = false;
    for key in ring.keys() {
        if gone_at(key, longest_session).is_some_and(|at| at <= now) {
            stepped.remove(key.id()).map_err(made)?;
            changed = true;
        }
    }
    if rotation_due(ring) <= now {
        match next(ring) {
            Some(key) => stepped.activate(key.id(), now).map_err(made)?,
            None => stepped.publish(now).map(drop).map_err(made)?,
        }
        changed = true;
    }
    Ok(changed.then_some(stepped))
}

/// When time alone changes the ring.
pub(crate) fn due(ring: &KeyRing, longest_session: i64) -> i64 {
    let gone = ring.keys().iter().filter_map(|key| gone_at(key, longest_session));
    gone.chain([rotation_due(ring)]).min().unwrap_or(i64::MAX)
}

/// When the next key must be published, or take over. Without an Active key that is at once.
fn rotation_due(ring: &KeyRing) -> i64 {
    let activated_at = ring.keys().iter().find_map(|key| match key.state() {
        KeyState::Active { activated_at } => Some(activated_at),
        KeyState::Published | KeyState::Retiring { .. } => None,
    });
    let Some(activated_at) = activated_at else {
        return i64::MIN;
    };
    let over = activated_at + ROTATION_PERIOD;
    next(ring).map_or(over, |next| over.max(next.created_at() + LEAD))
}

fn next(ring: &KeyRing) -> Option<&RingKey> {
    ring.keys().iter().find(|key| key.state() == KeyState::Published)
}

/// When a retiring key can have no session left that it sealed.
fn gone_at(key: &RingKey, longest_session: i64) -> Option<i64> {
    match key.state() {
        KeyState::Retiring { retired_at } => Some(retired_at + longest_session + LEAD),
        KeyState::Published | KeyState::Active { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: i64 = 30 * 86_400;

    fn states(ring: &KeyRing) -> Vec<&'static str> {
        ring.keys().iter().map(|key| key.state().as_str()).collect()
    }

    fn stepped(ring: &KeyRing, now: i64) -> KeyRing {
        step(ring, now, SESSION).unwrap().unwrap()
    }

    #[test]
    fn a_ring_in_its_period_is_left_alone() {
        let ring = KeyRing::generate(0).unwrap();
        assert!(step(&ring, ROTATION_PERIOD - 1, SESSION).unwrap().is_none());
        assert_eq!(due(&ring, SESSION), ROTATION_PERIOD);
    }

    #[test]
    fn the_next_key_is_published_before_it_seals() {
        let ring = stepped(&KeyRing::generate(0).unwrap(), ROTATION_PERIOD);
        assert_eq!(states(&ring), ["Active", "Published"]);
        assert!(step(&ring, ROTATION_PERIOD + LEAD - 1, SESSION).unwrap().is_none());
        let ring = stepped(&ring, ROTATION_PERIOD + LEAD);
        assert_eq!(states(&ring), ["Retiring", "Active"]);
    }

    #[test]
    fn an_old_key_opens_as_long_as_a_session_it_sealed_may_live() {
        let published = stepped(&KeyRing::generate(0).unwrap(), ROTATION_PERIOD);
        let retired_at = ROTATION_PERIOD + LEAD;
        let ring = stepped(&published, retired_at);
        let gone = retired_at + SESSION + LEAD;
        assert!(gone_at(&ring.keys()[0], SESSION).is_some_and(|at| at == gone));
        let before = step(&ring, gone - 1, SESSION).unwrap().unwrap_or_else(|| ring.clone());
        assert!(states(&before).contains(&"Retiring"));
        assert!(!states(&stepped(&before, gone)).contains(&"Retiring"));
    }

    #[test]
    fn years_of_rotation_never_outgrow_the_ring() {
        let year = 31_536_000;
        let mut ring = KeyRing::generate(0).unwrap();
        let mut now = 0;
        while now < 4 * year {
            now = due(&ring, year);
            ring = step(&ring, now, year).unwrap().unwrap();
        }
        assert!(ring.keys().len() <= 15, "{}", ring.keys().len());
    }
}

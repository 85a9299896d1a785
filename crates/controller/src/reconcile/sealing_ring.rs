//! The sealing ring's Secret: made once, rotated, restored from memory when deleted.
//!
//! What always holds: a ring that is missing while sessions exist is never silently replaced; a new
//! key is known to every replica before it seals; an old one opens for as long as any session that
//! it sealed may live.
//!
//! How long that is does not depend on what issuers and clients say now: one that is broken, deleted
//! or changed for a minute would end sessions for ever. Every old key stays for the longest lifetime
//! the schema allows. With one rotation in 30 days that makes 15 keys at most, which a ring can hold.

use std::collections::BTreeMap;

use claviger_api::Session;
use claviger_domain::SKEW_SECONDS;
use claviger_seal::{KeyRing, KeyState, MAX_KEYS, RingError, RingKey};
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
/// The longest lifetime of a session that any issuer or client can ask for, in seconds: the schema's
/// maximum of `refreshTokenAbsoluteSeconds`.
const LONGEST_SESSION: i64 = 31_536_000;
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
            if observed.is_some() {
                reconciler.clear(&key);
            } else if reconciler.is_taken(&key).await? {
                return Ok(Done::Again);
            }
            let stepped = step(ring, now)?;
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

/// The ring as it must be now, or `None` if it is. In a full ring the key that seals goes on until an
/// old one is gone.
fn step(ring: &KeyRing, now: i64) -> Result<Option<KeyRing>, ReconcileError> {
    let made = |error: RingError| ReconcileError::Key(error.to_string());
    let mut stepped = ring.clone();
    let mut changed = false;
    for key in ring.keys() {
        if gone_at(key).is_some_and(|at| at <= now) {
            stepped.remove(key.id()).map_err(made)?;
            changed = true;
        }
    }
    if rotation_due(ring) <= now {
        match next(ring) {
            Some(key) => stepped.activate(key.id(), now).map_err(made)?,
            None if stepped.keys().len() >= MAX_KEYS => return Ok(changed.then_some(stepped)),
            None => stepped.publish(now).map(drop).map_err(made)?,
        }
        changed = true;
    }
    Ok(changed.then_some(stepped))
}

/// When time alone changes the ring.
pub(crate) fn due(ring: &KeyRing) -> i64 {
    let gone = ring.keys().iter().filter_map(gone_at);
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
fn gone_at(key: &RingKey) -> Option<i64> {
    match key.state() {
        KeyState::Retiring { retired_at } => Some(retired_at + LONGEST_SESSION + LEAD),
        KeyState::Published | KeyState::Active { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(ring: &KeyRing) -> Vec<&'static str> {
        ring.keys().iter().map(|key| key.state().as_str()).collect()
    }

    fn stepped(ring: &KeyRing, now: i64) -> KeyRing {
        step(ring, now).unwrap().unwrap()
    }

    #[test]
    fn a_ring_in_its_period_is_left_alone() {
        let ring = KeyRing::generate(0).unwrap();
        assert!(step(&ring, ROTATION_PERIOD - 1).unwrap().is_none());
        assert_eq!(due(&ring), ROTATION_PERIOD);
    }

    #[test]
    fn the_next_key_is_published_before_it_seals() {
        let ring = stepped(&KeyRing::generate(0).unwrap(), ROTATION_PERIOD);
        assert_eq!(states(&ring), ["Active", "Published"]);
        assert!(step(&ring, ROTATION_PERIOD + LEAD - 1).unwrap().is_none());
        let ring = stepped(&ring, ROTATION_PERIOD + LEAD);
        assert_eq!(states(&ring), ["Retiring", "Active"]);
    }

    #[test]
    fn an_old_key_opens_as_long_as_a_session_it_sealed_may_live() {
        let published = stepped(&KeyRing::generate(0).unwrap(), ROTATION_PERIOD);
        let retired_at = ROTATION_PERIOD + LEAD;
        let ring = stepped(&published, retired_at);
        let oldest = ring.keys()[0].id().to_owned();
        let gone = retired_at + LONGEST_SESSION + LEAD;
        assert!(gone_at(&ring.keys()[0]).is_some_and(|at| at == gone));
        let kept = |ring: &KeyRing, now| {
            let ring = step(ring, now).unwrap().unwrap_or_else(|| ring.clone());
            ring.keys().iter().any(|key| key.id() == oldest)
        };
        assert!(kept(&ring, gone - 1));
        assert!(!kept(&ring, gone));
    }

    #[test]
    fn years_of_rotation_never_outgrow_the_ring() {
        let year = 31_536_000;
        let mut ring = KeyRing::generate(0).unwrap();
        let mut now = 0;
        while now < 4 * year {
            now = due(&ring);
            ring = step(&ring, now).unwrap().unwrap();
        }
        assert!(ring.keys().len() <= 15, "{}", ring.keys().len());
    }
    #[test]
    fn no_session_may_outlive_what_a_key_is_kept_for() {
        let mut maxima = Vec::new();
        for crd in claviger_api::crds() {
            gather(&serde_json::to_value(crd).unwrap(), &mut maxima);
        }
        let wanted = LONGEST_SESSION.to_string();
        assert_eq!(maxima, [wanted.as_str(); 3], "two of issuers (own, tenants), one of clients");
    }

    /// The maximum of every absolute lifetime in a schema.
    fn gather(schema: &serde_json::Value, maxima: &mut Vec<String>) {
        let fields = schema.as_object().into_iter().flatten();
        for (name, field) in fields {
            if ["refreshTokenAbsoluteSeconds", "maxRefreshTokenLifetimeSeconds"]
                .contains(&name.as_str())
                && field.is_object()
            {
                maxima.push(field["maximum"].to_string().trim_end_matches(".0").to_owned());
            }
            gather(field, maxima);
        }
        for item in schema.as_array().into_iter().flatten() {
            gather(item, maxima);
        }
    }

    #[test]
    fn a_full_ring_waits_for_an_old_key_to_go() {
        let mut ring = KeyRing::generate(0).unwrap();
        while ring.keys().len() < MAX_KEYS {
            let next = ring.publish(0).unwrap();
            ring.activate(&next, 0).unwrap();
        }
        assert!(step(&ring, ROTATION_PERIOD).unwrap().is_none());
        let ring = stepped(&ring, LONGEST_SESSION + LEAD);
        assert_eq!(states(&ring), ["Active", "Published"]);
    }
}

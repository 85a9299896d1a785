//! The sealing rings' Secret: made once, rotated, restored from memory when deleted, broken or older.
//!
//! What always holds: a ring that is missing while sessions exist is never silently replaced; time is
//! counted from what the Secret was seen to hold; what is somebody else's or a newer release's is not
//! overwritten.
//!
//! How long an old key stays does not depend on what issuers and clients say now: one that is broken,
//! deleted or changed for a minute would end sessions for ever. Every old key of the long ring stays
//! for the longest lifetime the schema allows. With one rotation in 30 days that makes 15 keys at
//! most, and the ring holds 32. The short ring has two, and a third for a quarter of an hour a day.

use std::collections::BTreeMap;

use claviger_api::Session;
use claviger_domain::SKEW_SECONDS;
use claviger_domain::code::CODE_SECONDS;
use claviger_domain::flow::FLOW_SECONDS;
use claviger_seal::{Period, RingError, Rings, Schedule};
use k8s_openapi::ByteString;
use kube::api::{Api, ListParams};

use super::{Done, ReconcileError, Reconciler, secret_for};
use crate::assess::Assessment;
use crate::assess::sealing::{Known, RING, Sealing, Store, secret_key};
use crate::bounds::Bounds;
use crate::deadline::within;
use crate::secret::Use;
use crate::world::Obstacle;

/// The longest lifetime of a session that any issuer or client can ask for, in seconds: the schema's
/// maximum of `refreshTokenAbsoluteSeconds`.
const LONGEST_SESSION: i64 = 31_536_000;
/// When the keys of both rings go on, where clocks differ and replicas are behind by so much at most.
pub fn schedule(bounds: Bounds) -> Schedule {
    let (skew, staleness) = (i64::from(bounds.skew), i64::from(bounds.staleness));
    // A replica may go on sealing with an old key for a while, and three clocks meet: who seals, who
    // notes that the key retired, who destroys it.
    let destruction = staleness + 2 * skew;
    Schedule {
        lead: staleness + skew,
        long: Period {
            rotation: 30 * 86_400,
            // A session's payload opens a little longer than the session lives.
            kept: LONGEST_SESSION + SKEW_SECONDS + destruction,
        },
        short: Period { rotation: 86_400, kept: FLOW_SECONDS + destruction },
    }
}
const _: () = assert!(CODE_SECONDS <= FLOW_SECONDS, "the flow is the longest of what lives short");

/// Brings the rings and their Secret to what they must be.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(
    reconciler: &mut Reconciler,
    assessment: &Assessment,
) -> Result<Done, ReconcileError> {
    let now = reconciler.clock.now();
    let key = secret_key(&assessment.world.home);
    let (rings, observed) = match &assessment.sealing {
        Sealing::Unreadable(_) => return Ok(Done::Settled),
        Sealing::Known(known) => {
            if known.store == Store::Untouchable {
                return Ok(Done::Settled);
            }
            if known.observed.is_some() {
                reconciler.clear(&key);
            } else if reconciler.is_taken(&key).await? {
                return Ok(Done::Again);
            }
            match wanted(known, now).map_err(|error| made(&error))? {
                None => return Ok(Done::Settled),
                Some(rings) => (rings, known.observed.as_deref()),
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
            (Rings::generate(now).map_err(|error| made(&error))?, None)
        }
    };
    let json = rings.to_json().map_err(|error| made(&error))?;
    let data = BTreeMap::from([(RING.to_owned(), ByteString(json.to_vec()))]);
    let secret = secret_for(&key, observed, Use::SealingRing, data);
    reconciler.write(&key, observed, &secret).await
}

/// The rings as they must be now, or `None` if the Secret holds them.
///
/// A Secret that holds something else is first brought to what is known: time is counted only from
/// what it was seen to hold.
fn wanted(known: &Known, now: i64) -> Result<Option<Rings>, RingError> {
    match known.store {
        Store::Same => known.rings.step(now, &known.schedule, known.request),
        Store::Differs => Rings::clone(&known.rings).completed(now).map(Some),
        Store::Untouchable => Ok(None),
    }
}

fn made(error: &RingError) -> ReconcileError {
    ReconcileError::Key(error.to_string())
}

async fn sessions_exist(reconciler: &Reconciler, home: &str) -> Result<bool, ReconcileError> {
    let api: Api<Session> = Api::namespaced(reconciler.client.clone(), home);
    let one = ListParams::default().limit(1);
    let sessions = within(api.list_metadata(&one))
        .await
        .map_err(|source| ReconcileError::Sessions { source: Box::new(source) })?;
    Ok(!sessions.items.is_empty())
}

#[cfg(test)]
mod tests {
    use claviger_seal::RingKind;

    use super::*;

    #[test]
    fn years_of_rotation_hold_no_more_keys_than_the_design_says() {
        let schedule = schedule(Bounds::default());
        let mut rings = Rings::generate(0).unwrap();
        let (mut most_long, mut most_short) = (0, 0);
        let mut now = 0;
        while now < 3 * LONGEST_SESSION {
            while let Some(stepped) = rings.step(now, &schedule, 0).unwrap() {
                rings = stepped;
            }
            most_long = most_long.max(rings.ring(RingKind::Long).keys().len());
            most_short = most_short.max(rings.ring(RingKind::Short).keys().len());
            now = rings.due(&schedule, 0).unwrap();
        }
        assert_eq!((most_long, most_short), (15, 3));
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
}

//! Garbage collection: expired sessions and tombstones past their time go, a page at a time.
//!
//! ```text
//! no expiry hour? ── judged by what the session says of itself, labelled ─┐
//! expiry hour wholly past, and a margin more ── deletecollection ←────────┘
//! ```
//! What always holds:
//! - Only what can never be live again is deleted: a session past its expiry is not refreshed, and a
//!   tombstone outlives every token of its session. So a lost race, or two leaders, harm nobody.
//! - Nothing is remembered between pages: whoever leads next selects again.
//! - Nothing to delete costs two reads and no write.

use claviger_api::{Session, SessionState, labels, time};
use kube::Api;
use kube::api::Patch;
use serde_json::json;

use crate::collection::{Collection, Deleted, Metadata, Page, PageError, within};
use crate::session::{expiry_hour, params};

/// Longest life of a code that the session's name makes single-use: a device code, as the schema bounds it.
const LONGEST_CODE_SECONDS: i64 = 600;
/// How long after its hour a session goes: replicas' clocks may differ, an answer may be under way, and a code
/// whose session went while the code lives could be used again.
const MARGIN_SECONDS: i64 = LONGEST_CODE_SECONDS + claviger_domain::SKEW_SECONDS;
/// Longest life of anything a session gave out: an access token, as the schema bounds it. Codes and
/// assertions live shorter.
const LONGEST_TOKEN_SECONDS: i64 = 86_400;
/// Longest life of a session from any moment on, used or not, as the schema bounds it.
const LONGEST_SESSION_SECONDS: i64 = 31_536_000;
/// Sessions without an expiry hour that are listed at once.
const STRAYS: u32 = 100;

/// Deletes what is over.
#[derive(Clone)]
pub struct GarbageCollector {
    sessions: Collection,
    api: Api<Session>,
}

impl GarbageCollector {
    /// Collects the sessions of a namespace; `client` must not retry by itself.
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self {
            sessions: Collection::of::<Session>(client.clone(), namespace),
            api: Api::namespaced(client, namespace),
        }
    }

    /// Whether anything is to be deleted at this time.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn is_due(&self, now: i64) -> Result<bool, PageError> {
        self.sessions.any(&past(now)).await
    }

    /// Deletes at most `limit` of what is over at this time.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn delete_page(&self, now: i64, limit: u32) -> Result<Deleted, PageError> {
        self.sessions.delete_page(&past(now), limit).await
    }

    /// A page of the sessions whose expiry hour somebody removed: their metadata, so that none which
    /// cannot be read hides the others.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn strays(&self, next: Option<String>) -> Result<Page<Metadata>, PageError> {
        self.sessions.page(&format!("!{}", labels::EXPIRY_HOUR), STRAYS, next).await
    }

    /// Gives the session of this name the label it should have; false if it is gone or changed.
    ///
    /// # Errors
    /// [`PageError`].
    pub async fn label_named(&self, name: &str, now: i64) -> Result<bool, PageError> {
        match within(self.api.get(name)).await {
            Ok(session) => self.label(&session, now).await,
            Err(PageError::Changed) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a session the label it should have, if it is still as it was read.
    async fn label(&self, session: &Session, now: i64) -> Result<bool, PageError> {
        let Some(name) = &session.metadata.name else { return Ok(false) };
        let patch = json!({"metadata": {
            "resourceVersion": session.metadata.resource_version,
            "labels": {labels::EXPIRY_HOUR: hour_of(session, now)},
        }});
        match within(self.api.patch_metadata(name, &params(), &Patch::Merge(patch))).await {
            Ok(_) => Ok(true),
            Err(PageError::Changed) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The expiry hour of a session that has none. When it was revoked is not known: now, at the latest. What
/// says that it lives longer than any session may was not written by us, and would stay for ever.
fn hour_of(session: &Session, now: i64) -> String {
    match session.spec.state {
        SessionState::Revoked => tombstone_hour(now),
        SessionState::Pending | SessionState::Active => {
            let latest =
                now.saturating_add(LONGEST_SESSION_SECONDS + claviger_domain::SKEW_SECONDS);
            expiry_hour(time::to_seconds(&session.spec.expires_at).min(latest))
        }
    }
}

/// The expiry hour of a session that is revoked now: its tombstone stays until no code or token of it
/// can be valid anywhere, which may be before or after the session would have expired.
pub(crate) fn tombstone_hour(now: i64) -> String {
    expiry_hour(now.saturating_add(LONGEST_TOKEN_SECONDS + claviger_domain::SKEW_SECONDS))
}

/// Selects sessions whose expiry hour is wholly past, and [`MARGIN_SECONDS`] more.
fn past(now: i64) -> String {
    format!("{}<{}", labels::EXPIRY_HOUR, expiry_hour(now.saturating_sub(MARGIN_SECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(expires_at: i64, now: i64) -> bool {
        let bound = past(now);
        let hour: i64 = bound.split('<').nth(1).unwrap().parse().unwrap();
        expiry_hour(expires_at).parse::<i64>().unwrap() < hour
    }

    #[test]
    fn a_session_goes_eleven_minutes_after_its_hour_and_not_a_second_before() {
        let hour_begins = 490_000 * 3_600;
        let gone = hour_begins + 3_600 + 660;
        for expires_at in [hour_begins, hour_begins + 3_599] {
            assert!(!selected(expires_at, gone - 1), "{expires_at}");
            assert!(selected(expires_at, gone), "{expires_at}");
        }
    }

    #[test]
    fn the_selector_is_what_the_api_server_reads() {
        assert_eq!(past(490_000 * 3_600 + 660), "claviger.dev/expiry-hour<490000");
    }

    #[test]
    fn a_session_that_is_over_at_once_is_there_for_as_long_as_its_device_code() {
        for redeemed_at in [490_000 * 3_600, 490_000 * 3_600 + 3_599] {
            let code_dies = redeemed_at + 600 + claviger_domain::SKEW_SECONDS;
            assert!(!selected(redeemed_at, code_dies), "{redeemed_at}");
        }
    }

    #[test]
    fn no_session_is_given_an_hour_that_no_session_of_ours_can_have() {
        let now = 1_764_000_000;
        let hour = |expires_at: &str| {
            let session = serde_json::from_value(json!({
                "apiVersion": "claviger.dev/v1alpha1", "kind": "Session", "metadata": {},
                "spec": {
                    "state": "Active", "type": "Client", "generation": 0,
                    "clientUID": "c", "clientID": "c", "connector": "n",
                    "user": "u", "rotatedAt": "2025-01-01T00:00:00Z", "expiresAt": expires_at, "payload": "p",
                },
            }));
            hour_of(&session.unwrap(), now).parse::<i64>().unwrap()
        };
        assert_eq!(hour("2025-12-01T00:00:00Z"), 1_764_547_200 / 3_600);
        assert_eq!(hour("9999-12-01T00:00:00Z"), (now + 31_536_000 + 60) / 3_600);
    }

    #[test]
    fn a_tombstone_outlives_the_longest_token_by_the_skew() {
        for revoked_at in [0, 3_599, 1_764_000_000, 1_764_003_599] {
            let hour: i64 = tombstone_hour(revoked_at).parse().unwrap();
            let last_token_dies = revoked_at + 86_400 + 60;
            assert!((hour + 1) * 3_600 > last_token_dies, "{revoked_at}");
            assert!(hour * 3_600 <= last_token_dies, "{revoked_at}: kept an hour too long");
        }
    }
}

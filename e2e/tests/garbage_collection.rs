//! Sessions that are over go, what is not over stays, and with nothing to do nothing is written.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use claviger_api::{Session, SessionSpec, SessionState, SessionType, labels, time};
use claviger_testkit::{ControlPlane, Directory, Installation, Scene, eventually};
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;

#[expect(clippy::disallowed_methods, reason = "what is expired depends on the real time")]
fn now() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_second()
}

/// A session as Claviger makes them, expiring `seconds` from now.
fn session(name: &str, state: SessionState, seconds: i64) -> Session {
    let expires_at = now() + seconds;
    let mut labels = vec![
        (labels::EXPIRY_HOUR, (expires_at / 3_600).to_string()),
        (labels::USER_HASH, "u".repeat(32)),
        (labels::CLIENT_HASH, "c".repeat(32)),
        (labels::CONNECTOR_HASH, "o".repeat(32)),
    ];
    if state == SessionState::Revoked {
        labels.push((labels::STATE, labels::STATE_REVOKED.to_owned()));
    }
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Session {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: SessionSpec {
            state,
            type_: SessionType::Client,
            generation: 0,
            issuer_uid: "issuer".into(),
            client_uid: "client".into(),
            connector_uid: "connector".into(),
            client_id: "kubernetes".into(),
            connector: "local".into(),
            user: "admin".into(),
            created_at: time::from_seconds(expires_at - 86_400),
            rotated_at: time::from_seconds(expires_at - 86_400),
            expires_at: time::from_seconds(expires_at),
            redemption_id: Some("r".repeat(22)),
            payload: "p".repeat(300),
            revoked_reason: (state == SessionState::Revoked).then(|| "CodeReplayed".into()),
        },
    }
}

fn without_expiry_hour(mut session: Session) -> Session {
    session.metadata.labels.as_mut().map(|labels| labels.remove(labels::EXPIRY_HOUR));
    session
}

/// Names of all sessions.
async fn names(sessions: &Api<Session>) -> Result<BTreeSet<String>> {
    let list = sessions.list_metadata(&ListParams::default()).await?;
    Ok(list.items.into_iter().filter_map(|session| session.metadata.name).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_goes_what_is_not_stays_and_then_nothing_is_written() -> Result<()> {
    use SessionState::{Active, Pending, Revoked};
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane)
        .await?
        .with_operator_flags(&["--cleanup-interval-seconds", "1"]);
    let scene = Scene::start_in(here, Directory::None, |_| {}).await?;
    let here = scene.installation();
    let sessions: Api<Session> = Api::namespaced(here.admin().await?, here.namespace());
    let (hour, day) = (3_600, 86_400);
    let objects = [
        session("active-over", Active, -2 * hour),
        session("pending-over", Pending, -3 * hour),
        session("tombstone-over", Revoked, -2 * hour),
        session("active", Active, day),
        session("this-hour", Active, 0),
        session("tombstone", Revoked, day),
        without_expiry_hour(session("stray-over", Active, -2 * hour)),
        without_expiry_hour(session("stray", Active, day)),
        without_expiry_hour(session("stray-tombstone", Revoked, -2 * hour)),
    ];
    for object in &objects {
        sessions.create(&PostParams::default(), object).await?;
    }
    let stay = ["active", "this-hour", "tombstone", "stray", "stray-tombstone"].map(str::to_owned);
    eventually(Duration::from_secs(20), async || {
        let left = names(&sessions).await?;
        ensure!(left == BTreeSet::from(stay.clone()), "left: {left:?}");
        let labelled = ListParams::default().labels(labels::EXPIRY_HOUR);
        let labelled = sessions.list_metadata(&labelled).await?.items.len();
        ensure!(labelled == stay.len(), "{labelled} of {} are labelled", stay.len());
        Ok(())
    })
    .await?;

    // Four rounds with nothing to do.
    let mark = plane.audit_log().mark()?;
    let asked = eventually(Duration::from_secs(20), async || {
        let asked = here.requests_since(mark)?;
        let reads = asked.iter().find(|(what, _)| what == "list sessions").map_or(0, |read| read.1);
        ensure!(reads >= 4 * READS_A_ROUND, "{asked:?}");
        Ok(asked)
    })
    .await?;
    assert_eq!(asked.len(), 1, "something was written, or read that need not be: {asked:?}");
    assert_eq!(names(&sessions).await?.len(), stay.len());
    Ok(())
}

/// Strays, whether anything is over, how many there are.
const READS_A_ROUND: usize = 3;

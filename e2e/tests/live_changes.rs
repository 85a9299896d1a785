//! Changes of custom resources and Secrets under a running operator: live, without a restart, and
//! what breaks for a while costs nobody their session.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{ControlPlane, Directory, RelyingParty, Scene, eventually};

/// DESIGN 1: a change is live within this.
const LIVE: Duration = Duration::from_secs(1);

async fn status_of_auth(party: &RelyingParty) -> Result<u16> {
    Ok(party.http().get(party.attempt(SCOPE)?.url).send().await?.status().as_u16())
}

/// Waits until `/auth` answers with this status, and says how long that took.
async fn until_auth_says(party: &RelyingParty, status: u16) -> Result<Duration> {
    let changed = Instant::now();
    eventually(Duration::from_secs(10), async || {
        let now = status_of_auth(party).await?;
        ensure!(now == status, "/auth says {now}, not {status}");
        Ok(changed.elapsed())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_client_is_live_within_a_second() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    assert_eq!(status_of_auth(&party).await?, 303);
    let patch = |uri: &str| {
        let patch = format!("{{\"spec\":{{\"redirectURIs\":[\"{uri}\"]}}}}");
        let arguments = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", &patch];
        scene.installation().kubectl(&arguments).map(drop)
    };
    for (uri, status) in [("http://localhost:9999", 400), ("http://localhost:8000", 303)] {
        patch(uri)?;
        let took = until_auth_says(&party, status).await?;
        ensure!(took <= LIVE, "the change to {uri} took {took:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_said_heals_and_signs_nobody_out() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let here = scene.installation();
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let token = tokens["refresh_token"].as_str().context("no refresh token")?;
    let saved = here.kubectl(&["get", "secret", "localuser-admin", "-o", "json"])?;

    here.kubectl(&["delete", "secret", "localuser-admin"])?;
    here.wait_for_status("localuser/admin", "ResolvedRefs", "False").await?;
    let path = "jsonpath={.status.conditions[?(@.type==\"ResolvedRefs\")].reason}";
    assert_eq!(here.kubectl(&["get", "localuser", "admin", "-o", path])?, "SecretNotFound");
    let waits = party.refresh(token).await?;
    assert_eq!((waits.status.as_u16(), waits.error()), (503, "temporarily_unavailable"));
    let states = here.kubectl(&["get", "sessions", "-o", "jsonpath={.items[*].spec.state}"])?;
    assert_eq!(states, "Active");

    let mut secret: serde_json::Value = serde_json::from_str(&saved)?;
    for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields"] {
        secret["metadata"].as_object_mut().context("no metadata")?.remove(field);
    }
    here.apply(&secret.to_string())?;
    here.wait_for("localuser/admin", "Ready").await?;
    party.refresh(token).await?.tokens()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_user_is_signed_out_at_the_next_refresh() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let here = scene.installation();
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let disabled = "{\"spec\":{\"state\":\"Disabled\"}}";
    here.kubectl(&["patch", "localuser", "admin", "--type=merge", "-p", disabled])?;
    here.wait_for_status("localuser/admin", "Ready", "False").await?;
    let token = tokens["refresh_token"].as_str().context("no refresh token")?;
    assert_eq!(party.refresh(token).await?.error(), "invalid_grant");
    let path = "jsonpath={.items[*].spec.revokedReason}";
    assert_eq!(here.kubectl(&["get", "sessions", "-o", path])?, "UserNoLongerValid");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_told_to_end_ends_well_and_gives_up_the_lease() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let mut scene = Scene::start(&plane, Directory::None).await?;
    let holder = ["get", "lease", "claviger-leader", "-o", "jsonpath={.spec.holderIdentity}"];
    let held_by = scene.installation().kubectl(&holder)?;
    ensure!(held_by.starts_with("replica-"), "the lease is held by {held_by:?}");
    scene.terminate_operator().await?;
    assert_eq!(scene.installation().kubectl(&holder)?, "");
    Ok(())
}

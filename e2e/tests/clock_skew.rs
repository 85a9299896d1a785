//! A replica whose clock is off the API server's leaves service by itself, says why, and comes back by
//! itself. Its clock is libfaketime's, set while it runs; the monotonic one stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::scene::{LOCAL_USER, SCOPE, Setup};
use claviger_testkit::{ControlPlane, Directory, Installation, RelyingParty, Scene, eventually};

/// For a jump to be noticed on a loaded machine; alone it is noticed by the next request.
const SOON: Duration = Duration::from_secs(20);
/// For the Lease of the skewed replica to be released and taken.
const LEADER: Duration = Duration::from_mins(2);

/// Debian's libfaketime, wherever its architecture puts it.
fn libfaketime() -> Result<PathBuf> {
    const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
    let folders = std::fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .chain(["/usr/lib", "/usr/lib64"].map(PathBuf::from))
        .map(|folder| folder.join(LIBRARY))
        .find(|path| path.exists())
        .context("libfaketime is not there: run scripts/setup")
}

/// A clock that can be moved: `+45s`, `+0s`.
struct Clock(PathBuf);

impl Clock {
    fn set(&self, offset: &str) -> Result<()> {
        // In one step, or a reader finds half of it.
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{offset}\n"))?;
        Ok(std::fs::rename(&next, &self.0)?)
    }

    /// What makes a process live by it.
    fn environment(&self) -> Result<Vec<(&'static str, String)>> {
        let text = |path: &Path| path.to_str().map(ToOwned::to_owned).context("not UTF-8");
        Ok(vec![
            ("LD_PRELOAD", text(&libfaketime()?)?),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.0)?),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ])
    }
}

/// What `/readyz` of a replica says: nothing when it is ready.
async fn missing(scene: &Scene, replica: usize) -> Result<Option<String>> {
    let url = format!("{}/readyz", scene.replicas()[replica].serving().admin_url());
    let answer = reqwest::get(url).await?;
    let ready = answer.status().is_success();
    let text = answer.text().await?;
    Ok((!ready).then_some(text))
}

async fn offset(scene: &Scene, replica: usize) -> Result<f64> {
    let url = format!("{}/metrics", scene.replicas()[replica].serving().admin_url());
    let text = reqwest::get(url).await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix("claviger_clock_offset_seconds "));
    Ok(line.context("no claviger_clock_offset_seconds")?.parse()?)
}

async fn is_turned_away(party: &RelyingParty, refresh_token: &str) -> Result<()> {
    let answer = party.refresh(refresh_token).await?;
    assert_eq!((answer.status.as_u16(), answer.error()), (503, "temporarily_unavailable"));
    ensure!(answer.retry_after.is_some(), "no Retry-After");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_off_the_api_servers_time_leaves_service_and_comes_back_by_itself() -> Result<()>
{
    let plane = ControlPlane::from_env()?;
    let installation = Installation::create(&plane).await?;
    let clock = Clock(installation.folder().join("clock"));
    clock.set("+0s")?;
    let setup = Setup::new(Directory::None).replicas(2).environment(0, clock.environment()?);
    let scene = Scene::start_as(installation, &setup, |_| {}).await?;
    assert_eq!(scene.leader().await?, 0, "the first that started leads");
    assert!(offset(&scene, 0).await?.abs() < 5.0);
    let parties = scene.relying_parties().await?;
    let tokens = parties[0].log_in(SCOPE, LOCAL_USER).await?;
    let token = tokens["refresh_token"].as_str().context("no refresh token")?;

    for (moved, words) in [("+45s", "ahead of"), ("-45s", "behind")] {
        clock.set(moved)?;
        let said = eventually(SOON, async || {
            missing(&scene, 0).await?.with_context(|| format!("ready with a clock at {moved}"))
        })
        .await?;
        let seconds = ["42 s", "43 s", "44 s", "45 s"];
        ensure!(
            seconds.iter().any(|seconds| said.contains(&format!("{seconds} {words}")))
                && said.contains("NTP"),
            "{said}"
        );
        println!("clock_skew: {moved}: {:.1} s measured; {said}", offset(&scene, 0).await?);
        is_turned_away(&parties[0], token).await?;
        // It signs nothing, and yet serves what is checked by others.
        let keys = parties[0].http().get(parties[0].endpoint("jwks_uri")?).send().await?;
        assert_eq!(keys.status().as_u16(), 200);
        if moved == "+45s" {
            // It led: another does now, and the other replica serves as if nothing were.
            eventually(LEADER, async || match scene.leader().await? {
                1 => Ok(()),
                n => bail!("replica {n} leads"),
            })
            .await?;
            parties[1].log_in(SCOPE, LOCAL_USER).await?;
        }
        assert_eq!(missing(&scene, 1).await?, None);
    }

    clock.set("+0s")?;
    eventually(SOON, async || {
        let missing = missing(&scene, 0).await?;
        ensure!(missing.is_none(), "still not ready: {missing:?}");
        Ok(())
    })
    .await?;
    // Nothing of it was consumed meanwhile.
    parties[0].refresh(token).await?.tokens()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_with_a_wrong_clock_is_not_ready_until_it_is_right() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let installation = Installation::create(&plane).await?;
    let clock = Clock(installation.folder().join("clock"));
    clock.set("+0s")?;
    let setup = Setup::new(Directory::None).replicas(2).environment(1, clock.environment()?);
    let mut scene = Scene::start_as(installation, &setup, |_| {}).await?;
    scene.replica(1).kill();
    clock.set("+45s")?;
    let admin = format!("{}/readyz", scene.replicas()[1].serving().admin_url());
    let said = async {
        let said = eventually(SOON, async || {
            let text = reqwest::get(&admin).await?.text().await?;
            ensure!(text.contains("ahead of the API server's"), "it says: {text}");
            Ok(text)
        })
        .await?;
        clock.set("+0s")?;
        Ok(said)
    };
    let (started, said) = tokio::join!(scene.start_replica(1), said);
    let said: Result<String> = said;
    println!("clock_skew: at start: {}", said?);
    started
}

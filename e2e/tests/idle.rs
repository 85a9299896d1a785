//! An installation that nobody uses: three replicas write the leader's Lease, and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use claviger_testkit::scene::{LOCAL_USER, SCOPE, Setup};
use claviger_testkit::{
    AuditMark, AuditedRequest, ControlPlane, Directory, Installation, Scene, eventually,
};

/// How long it is watched: five renewals of the Lease, two rounds of bookmarks.
const WATCHED: Duration = Duration::from_secs(130);
/// Quiet for this long, it has settled.
const QUIET: Duration = Duration::from_secs(10);

/// What the replicas asked to be stored since then: the Lease's writes, and all others.
fn writes_since(scene: &Scene, mark: AuditMark) -> Result<(usize, Vec<String>)> {
    let installation = scene.installation();
    let log = installation.plane().audit_log();
    let mut requests = log.requests_since(mark, &installation.user())?;
    requests.retain(|one| !["get", "list", "watch"].contains(&one.verb.as_str()));
    let all = requests.len();
    let others: Vec<String> =
        requests.iter().filter(|one| one.resource != "leases").map(AuditedRequest::what).collect();
    Ok((all - others.len(), others))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_idle_replicas_write_the_lease_and_nothing_else() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let setup = Setup::new(Directory::None).replicas(3);
    let scene = Scene::start_as(Installation::create(&plane).await?, &setup, |_| {}).await?;
    // Somebody signed in: a session that lives is no reason to write either.
    scene.relying_party().await?.log_in(SCOPE, LOCAL_USER).await?;
    eventually(Duration::from_mins(2), async || {
        let mark = plane.audit_log().mark()?;
        tokio::time::sleep(QUIET).await;
        let (_, others) = writes_since(&scene, mark)?;
        ensure!(others.is_empty(), "not settled: {others:?}");
        Ok(())
    })
    .await?;

    let (mark, began) = (plane.audit_log().mark()?, Instant::now());
    tokio::time::sleep(WATCHED).await;
    let (leases, others) = writes_since(&scene, mark)?;
    let seconds = began.elapsed().as_secs_f64();
    let counts = plane.audit_log().counts_since(mark, &scene.installation().user())?;
    println!(
        "idle: {leases} Lease writes in {seconds:.0} s, {:.1} a minute; all requests: {counts:?}",
        60.0 * f64::from(u32::try_from(leases)?) / seconds
    );
    assert_eq!(others, Vec::<String>::new());
    for replica in scene.replicas() {
        let log = replica.operator()?.log()?;
        ensure!(!log.contains("deserializ"), "an answer was not understood: {log}");
    }
    // One renewal every 25 s, by one replica of three; a slow machine makes it no more often.
    assert!((3..=6).contains(&leases), "{leases}");
    Ok(())
}

//! Replicas die, at the worst moments: under load, between a directory's answer and the write, in a
//! rotation of the keys, together with the sealing ring. What clients hold stays good.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use claviger_testkit::load::{generation_of, refresh_token, session_of};
use claviger_testkit::scene::{LDAP_USER, SCOPE};
use claviger_testkit::{
    ControlPlane, Directory, Fault, Held, Installation, Load, Scene, Setup, eventually,
};

async fn scene(setup: Setup) -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    Scene::start_as(Installation::create(&plane).await?, &setup, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_replicas_lose_no_chain_and_double_no_login() -> Result<()> {
    let mut scene = scene(Setup::new(Directory::None).replicas(3)).await?;
    let mut load = Load::start(&scene).await?;
    let mut healed = Vec::new();
    for n in [0, 1, 2, 0] {
        scene.replica(n).kill();
        healed.push(load.until_all_are_answered().await?);
        scene.start_replica(n).await?;
    }
    let held = load.finish().await?;
    ensure!(held.figures.broken > 0, "nobody noticed");
    let reckoning = held.nothing_is_lost(&scene).await?;
    println!(
        "replica killed (4 times): {:?}, all answered after {healed:?}: {reckoning:?}",
        held.figures
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_between_the_directorys_answer_and_the_patch_costs_nothing() -> Result<()>
{
    let setup = Setup::new(Directory::Slapd).replicas(3).proxied();
    let mut scene = scene(setup).await?;
    let parties = scene.relying_parties().await?;
    let mut token = refresh_token(&parties[2].log_in(SCOPE, LDAP_USER).await?)?;

    // Before the write, and after it but before its answer.
    for (n, fault) in [(0, Fault::Hold), (1, Fault::HoldAnswer)] {
        let asked = |log: &str| log.matches("uid=alice").count();
        let asked_before = asked(&scene.slapd()?.log()?);
        let trap = scene.replicas()[n].proxy()?.trap("patch sessions", fault);
        let refresh = tokio::spawn({
            let (party, token) = (parties[n].clone(), token.clone());
            async move { party.refresh(&token).await }
        });
        trap.sprung().await?;
        ensure!(asked(&scene.slapd()?.log()?) > asked_before, "the directory was not asked");
        scene.replica(n).kill();
        drop(trap);
        ensure!(refresh.await?.is_err(), "a dead replica answered");

        let before = generation_of(&token)?;
        let next = refresh_token(&parties[2].refresh(&token).await?.tokens()?)?;
        assert_eq!(generation_of(&next)?, before + 1, "{fault:?}");
        let path = "jsonpath={.spec.generation} {.spec.state}";
        let name = session_of(&token)?;
        let stored = scene.installation().kubectl(&["get", "session", &name, "-o", path])?;
        assert_eq!(stored, format!("{} Active", before + 1), "{fault:?}");
        token = next;
        scene.start_replica(n).await?;
    }
    let reckoning = Held::of(vec![token]).reckon(&scene).await?;
    assert_eq!((reckoning.live, reckoning.revoked.len()), (1, 0));
    println!(
        "killed between the directory's answer and the patch's (before, after it): {reckoning:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealing_ring_deleted_under_load_with_its_leader_killed_comes_back_from_memory()
-> Result<()> {
    let mut scene = scene(Setup::new(Directory::None).replicas(3)).await?;
    let ring = ["get", "secret", "claviger-sealing-ring", "-o", "jsonpath={.data.ring\\.json}"];
    let before = scene.installation().kubectl(&ring)?;
    let mut load = Load::start(&scene).await?;
    let leader = scene.leader().await?;
    // Killed first, or it would have it back within milliseconds.
    scene.replica(leader).kill();
    let deleted = Instant::now();
    scene.installation().kubectl(&["delete", "secret", "claviger-sealing-ring"])?;
    eventually(Duration::from_mins(2), async || {
        let after = scene.installation().kubectl(&ring)?;
        ensure!(after == before, "another ring: {after}");
        Ok(())
    })
    .await?;
    let restored = deleted.elapsed();
    load.until_all_are_answered().await?;
    scene.start_replica(leader).await?;
    load.until_all_are_answered().await?;
    let held = load.finish().await?;
    let reckoning = held.nothing_is_lost(&scene).await?;
    println!(
        "ring deleted, leader killed: restored after {restored:?}, {:?}: {reckoning:?}",
        held.figures
    );
    Ok(())
}

//! Replicas die, at the worst moments: under load, between a directory's answer and the write, in a
//! rotation of the keys, together with the sealing ring. What clients hold stays good.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use claviger_testkit::load::{generation_of, refresh_token, session_of};
use claviger_testkit::scene::{LDAP_USER, SCOPE};
use claviger_testkit::{
    ControlPlane, Directory, Fault, Held, Installation, Load, Scene, Setup, eventually,
};
use data_encoding::BASE64;
use serde_json::Value;

async fn scene(setup: Setup) -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    Scene::start_as(Installation::create(&plane).await?, &setup, |_| {}).await
}

/// A dead leader is followed within seconds.
fn quickly_led(setup: Setup) -> Setup {
    setup.flag("--lease-duration-seconds=6").flag("--lease-grace-seconds=4")
}

/// Every sealing key and its secret, as the rings' Secret holds them.
fn sealing_keys(scene: &Scene) -> Result<BTreeMap<String, String>> {
    let path = "jsonpath={.data.ring\\.json}";
    let rings =
        scene.installation().kubectl(&["get", "secret", "claviger-sealing-ring", "-o", path])?;
    let rings: Value = serde_json::from_slice(&BASE64.decode(rings.as_bytes())?)?;
    let keys = ["long", "short"].map(|ring| rings[ring]["keys"].as_array().cloned());
    let text = |key: &Value, field: &str| key[field].as_str().unwrap_or_default().to_owned();
    let keys = keys.into_iter().flatten().flatten();
    Ok(keys.map(|key| (text(&key, "id"), text(&key, "secret"))).collect())
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
    let mut scene = scene(quickly_led(Setup::new(Directory::None).replicas(3))).await?;
    let before = sealing_keys(&scene)?;
    ensure!(!before.is_empty() && before.values().all(|secret| !secret.is_empty()), "no keys");
    let mut load = Load::start(&scene).await?;
    let leader = scene.leader().await?;
    // Killed first, or it would have it back within milliseconds.
    scene.replica(leader).kill();
    let deleted = Instant::now();
    scene.installation().kubectl(&["delete", "secret", "claviger-sealing-ring"])?;
    // Every one of them; the next keys, which follow the first ones in a write of their own, may be more.
    eventually(Duration::from_mins(2), async || {
        let after = sealing_keys(&scene)?;
        let lost: Vec<_> = before.iter().filter(|(id, key)| after.get(*id) != Some(key)).collect();
        ensure!(lost.is_empty(), "{} of {} keys are lost", lost.len(), before.len());
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

//! The leader dies in the middle of a key rotation, before or after it wrote the new ring: another one
//! finishes it, never are two keys Active, and every token is signed by a key that every replica shows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use claviger_testkit::load::refresh_token;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{
    ControlPlane, Directory, Fault, Held, Installation, RelyingParty, Scene, Setup, eventually,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::Value;

/// Secret of the SigningKey `main`.
const KEYS: &str = "claviger-signing-key-main";
/// For the next key to be old enough, and for a lease to run out, on a loaded machine.
const ROTATION: Duration = Duration::from_mins(4);

/// Three replicas that rotate, and follow a dead leader, as soon as they may.
async fn scene() -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    let setup = Setup::new(Directory::None)
        .replicas(3)
        .proxied()
        .flag("--jwks-max-age-seconds=45")
        .flag("--clock-skew-seconds=2")
        .flag("--staleness-seconds=15")
        .flag("--lease-duration-seconds=6")
        .flag("--lease-grace-seconds=4");
    Scene::start_as(Installation::create(&plane).await?, &setup, |_| {}).await
}

/// The key IDs of the ring that are Active, as its Secret says.
fn active(scene: &Scene) -> Result<Vec<String>> {
    let path = "jsonpath={.data.ring\\.json}";
    let ring = scene.installation().kubectl(&["get", "secret", KEYS, "-o", path])?;
    let ring: Value = serde_json::from_slice(&BASE64.decode(ring.as_bytes())?)?;
    let keys = ring["keys"].as_array().context("no keys")?.iter();
    let active = keys.filter(|key| key["state"] == "Active");
    Ok(active.filter_map(|key| Some(key["kid"].as_str()?.to_owned())).collect())
}

/// The key IDs that a replica shows.
async fn shown(party: &RelyingParty) -> Result<BTreeSet<String>> {
    let keys: Value = party.http().get(party.endpoint("jwks_uri")?).send().await?.json().await?;
    let keys = keys["keys"].as_array().context("no keys")?.iter();
    Ok(keys.filter_map(|key| Some(key["kid"].as_str()?.to_owned())).collect())
}

/// The key ID that signed a token.
fn signed_by(token: &str) -> Result<String> {
    let header = token.split('.').next().context("not a JWT")?;
    let header: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(header.as_bytes())?)?;
    Ok(header["kid"].as_str().context("no kid")?.to_owned())
}

/// One user at each replica, whose every token is checked.
struct Users {
    tokens: Vec<String>,
    checked: usize,
    signers: BTreeSet<String>,
}

impl Users {
    async fn log_in(parties: &[RelyingParty]) -> Result<Self> {
        let mut tokens = Vec::new();
        for party in parties {
            tokens.push(refresh_token(&party.log_in(SCOPE, LOCAL_USER).await?)?);
        }
        Ok(Self { tokens, checked: 0, signers: BTreeSet::new() })
    }

    /// Each refreshes, unless its replica is dead; every replica alive must show the key that signed.
    async fn check(&mut self, scene: &Scene, parties: &[RelyingParty]) -> Result<()> {
        let keys = active(scene)?;
        assert_eq!(keys.len(), 1, "Active: {keys:?}");
        let alive = |n: &usize| scene.replicas()[*n].operator().is_ok();
        let alive: Vec<_> = (0..parties.len()).filter(alive).collect();
        for n in &alive {
            let answer = parties[*n].refresh(&self.tokens[*n]).await?.tokens()?;
            self.tokens[*n] = refresh_token(&answer)?;
            let kid = signed_by(answer["id_token"].as_str().context("no ID token")?)?;
            for other in &alive {
                let shown = shown(&parties[*other]).await?;
                ensure!(shown.contains(&kid), "replica {other} does not show {kid}: {shown:?}");
                self.checked += 1;
            }
            self.signers.insert(kid);
        }
        Ok(())
    }
}

async fn the_leader_dies(fault: Fault) -> Result<()> {
    let mut scene = scene().await?;
    let parties = scene.relying_parties().await?;
    let mut users = Users::log_in(&parties).await?;
    let before = active(&scene)?;
    let raise = r#"{"spec":{"rotationRequest":1}}"#;
    scene.installation().kubectl(&["patch", "signingkey", "main", "--type=merge", "-p", raise])?;

    // Once the next key is Published, the rotation is the next thing written.
    eventually(Duration::from_mins(1), async || {
        let path = "jsonpath={.status.keys[*].state}";
        let states = scene.installation().kubectl(&["get", "signingkey", "main", "-o", path])?;
        ensure!(states == "Active Published", "{states}");
        Ok(())
    })
    .await?;
    // Whoever leads by then, for on a loaded machine another may have taken over.
    let traps = scene.replicas().iter().map(|one| Ok(one.proxy()?.trap("update secrets", fault)));
    let traps = traps.collect::<Result<Vec<_>>>()?;
    let asked = Instant::now();
    let leader = loop {
        if let Some(leader) = traps.iter().position(|trap| trap.count() > 0) {
            break leader;
        }
        users.check(&scene, &parties).await?;
        ensure!(asked.elapsed() < ROTATION, "nothing is rotated");
    };
    scene.replica(leader).kill();
    let died = Instant::now();
    let rotated = active(&scene)? != before;
    assert_eq!(rotated, fault == Fault::HoldAnswer, "{fault:?}");
    drop(traps);
    let finished = eventually(ROTATION, async || {
        users.check(&scene, &parties).await?;
        ensure!(active(&scene)? != before, "nothing is rotated");
        Ok(died.elapsed())
    })
    .await?;
    scene.start_replica(leader).await?;
    // Every replica signs with the new key in the end.
    let [new] = <[String; 1]>::try_from(active(&scene)?).ok().context("one key")?;
    users.signers.clear();
    eventually(Duration::from_mins(1), async || {
        users.signers.clear();
        users.check(&scene, &parties).await?;
        ensure!(users.signers == BTreeSet::from([new.clone()]), "{:?}", users.signers);
        Ok(())
    })
    .await?;
    let checked = users.checked;
    let reckoning = Held::of(users.tokens).reckon(&scene).await?;
    assert_eq!((reckoning.live, reckoning.revoked.len()), (3, 0));
    println!(
        "leader killed in a rotation ({fault:?}): finished {finished:?} later, {checked} checks, none failed: {reckoning:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_before_it_wrote_the_new_ring_is_followed_by_one_that_does() -> Result<()> {
    the_leader_dies(Fault::Hold).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_after_it_wrote_the_new_ring_is_followed_by_one_that_goes_on() -> Result<()>
{
    the_leader_dies(Fault::HoldAnswer).await
}

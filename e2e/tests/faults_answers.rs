//! The API server is slow, or its answers are lost: what may have happened is settled by a read, so that no
//! session is there twice and none is revoked for an answer that nobody got.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use claviger_testkit::load::{generation_of, refresh_token};
use claviger_testkit::scene::{LOCAL_USER, Manifests, SCOPE};
use claviger_testkit::{
    Conduct, ControlPlane, Directory, Fault, Held, Installation, Load, Scene, Setup, eventually,
};
use reqwest::StatusCode;
use serde_json::json;

/// The shortest grace there is between none and the next: what outlasts it is soon done.
const GRACE_SECONDS: i64 = 1;

async fn scene(replicas: u8) -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["lifetimes"] = json!({"refreshGraceSeconds": GRACE_SECONDS});
        }
    };
    let setup = Setup::new(Directory::None).replicas(replicas).proxied();
    Scene::start_as(Installation::create(&plane).await?, &setup, change).await
}

fn conduct(scene: &Scene, conduct: Conduct) -> Result<()> {
    for replica in scene.replicas() {
        replica.proxy()?.conduct(conduct);
    }
    Ok(())
}

fn cut(scene: &Scene) -> Result<()> {
    for replica in scene.replicas() {
        replica.proxy()?.cut();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_api_server_makes_users_wait_and_one_beyond_the_deadline_makes_them_come_again()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let setup = Setup::new(Directory::None).replicas(3).proxied();
    let scene = Scene::start_as(Installation::create(&plane).await?, &setup, |_| {}).await?;
    let mut load = Load::start(&scene).await?;
    for seconds in [1, 3] {
        conduct(&scene, Conduct::Delay(Duration::from_secs(seconds)))?;
        load.until_all_are_answered().await?;
    }
    assert_eq!(load.figures().unavailable, 0, "3 s are within the deadline");
    conduct(&scene, Conduct::Delay(Duration::from_secs(8)))?;
    load.until_told_later(claviger_testkit::load::CLIENTS).await?;
    conduct(&scene, Conduct::Pass)?;
    let mut healed = vec![load.until_all_are_answered().await?];
    for _ in 0..5 {
        cut(&scene)?;
        healed.push(load.until_all_are_answered().await?);
    }
    let held = load.finish().await?;
    let reckoning = held.nothing_is_lost(&scene).await?;
    println!(
        "API server slow (1, 3, 8 s), connections cut (5 times): {:?}, all answered after {healed:?}: {reckoning:?}",
        held.figures
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_settled_by_one_read_and_nobody_is_told() -> Result<()> {
    let scene = scene(1).await?;
    let party = scene.relying_party().await?;
    let proxy = scene.replicas()[0].proxy()?;
    let mut tokens = Vec::new();
    let mut took = Vec::new();
    for fault in [Fault::LoseAnswer, Fault::HoldAnswer] {
        let (code, attempt) = party.code(SCOPE, LOCAL_USER).await?;
        let began = Instant::now();
        let trap = proxy.trap("create sessions", fault);
        let token = refresh_token(&party.redeem(&code, &attempt.verifier).await?.tokens()?)?;
        assert_eq!((trap.count(), generation_of(&token)?), (1, 0));
        let trap = proxy.trap("patch sessions", fault);
        let token = refresh_token(&party.refresh(&token).await?.tokens()?)?;
        assert_eq!((trap.count(), generation_of(&token)?), (1, 1));
        took.push(began.elapsed());
        tokens.push(token);
    }
    let reckoning = Held::of(tokens).reckon(&scene).await?;
    assert_eq!((reckoning.live, reckoning.revoked.len()), (2, 0));
    println!("answers lost, held beyond the deadline (create and patch): {took:?}: {reckoning:?}");
    Ok(())
}

const AWAY: Fault = Fault::Answer { status: StatusCode::INTERNAL_SERVER_ERROR, retry_after: None };

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_rotation_that_cannot_be_settled_is_no_reuse_however_long_the_api_server_is_away()
-> Result<()> {
    let scene = scene(2).await?;
    let parties = scene.relying_parties().await?;
    let first = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;
    let proxies = [scene.replicas()[0].proxy()?, scene.replicas()[1].proxy()?];

    let unreadable: Vec<_> =
        proxies.iter().map(|proxy| proxy.trap_every("get sessions", AWAY)).collect();
    let lost = proxies[0].trap("patch sessions", Fault::LoseAnswer);
    let rotated = Instant::now();
    assert_eq!(parties[0].refresh(&first).await?.status, 503);
    assert_eq!(lost.count(), 1);
    // Its client comes again and again, here and there, until long after the grace.
    let mut later = 0;
    eventually(Duration::from_secs(30), async || {
        for party in &parties {
            let answer = party.refresh(&first).await?;
            assert_eq!((answer.status.as_u16(), answer.error()), (503, "temporarily_unavailable"));
            later += 1;
        }
        ensure!(rotated.elapsed() > Duration::from_secs(4), "the grace is not over");
        Ok(())
    })
    .await?;
    drop(unreadable);
    let answer = parties[1].refresh(&first).await?;
    let second = refresh_token(&answer.tokens()?)?;
    assert_eq!(generation_of(&second)?, 1);
    let third = refresh_token(&parties[0].refresh(&second).await?.tokens()?)?;
    assert_eq!(generation_of(&third)?, 2);

    // The grace runs again, and reuse is reuse: the family dies.
    assert_eq!(parties[1].refresh(&first).await?.error(), "invalid_grant");
    let reckoning = Held::of(vec![third]).reckon(&scene).await?;
    let reused = BTreeMap::from([("RefreshTokenReused".to_owned(), 1)]);
    assert_eq!((reckoning.live, &reckoning.revoked), (0, &reused));
    println!(
        "rotation lost and unreadable for {:?}: {later} times 503, then its answer; reuse: {reckoning:?}",
        rotated.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_login_that_cannot_be_settled_is_no_second_session() -> Result<()> {
    let scene = scene(1).await?;
    let party = scene.relying_party().await?;
    let proxy = scene.replicas()[0].proxy()?;
    let (code, attempt) = party.code(SCOPE, LOCAL_USER).await?;
    let unreadable = proxy.trap_every("get sessions", AWAY);
    let lost = proxy.trap("create sessions", Fault::LoseAnswer);
    assert_eq!(party.redeem(&code, &attempt.verifier).await?.status, 503);
    assert_eq!(lost.count(), 1);
    drop(unreadable);
    // Nobody can tell this from a stolen code: the user signs in again (RFC 6749 4.1.2; ADR 0001).
    assert_eq!(party.redeem(&code, &attempt.verifier).await?.error(), "invalid_grant");
    let reckoning = Held::of(Vec::new()).reckon(&scene).await?;
    let replayed = BTreeMap::from([("CodeReplayed".to_owned(), 1)]);
    assert_eq!((reckoning.live, reckoning.revoked), (0, replayed));
    Ok(())
}

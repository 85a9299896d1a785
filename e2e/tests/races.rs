//! What is presented at the same moment at several replicas: three of them, one API server. One chain of
//! refresh tokens survives, one redemption of a code; nobody honest loses a session.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::load::{generation_of, refresh_token, session_of, sessions};
use claviger_testkit::relying_party::Answer;
use claviger_testkit::scene::{LOCAL_USER, Manifests, SCOPE};
use claviger_testkit::{
    ControlPlane, Directory, Held, Installation, RelyingParty, Scene, Setup, eventually,
};
use serde_json::json;
use tokio::task::JoinSet;

/// Clients at once, as the issue counts.
const CLIENTS: usize = 64;
const ROUNDS: i64 = 6;
const CODES: usize = 20;

async fn scene(grace_seconds: i64) -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["lifetimes"] = json!({"refreshGraceSeconds": grace_seconds});
        }
    };
    let setup = Setup::new(Directory::None).replicas(3);
    Scene::start_as(Installation::create(&plane).await?, &setup, change).await
}

/// All at once, one after the other in turn at each replica, and every answer.
async fn race(parties: &[RelyingParty], clients: usize, what: &What) -> Result<Vec<Answer>> {
    let mut racers = JoinSet::new();
    for client in 0..clients {
        let (party, what) = (parties[client % parties.len()].clone(), what.clone());
        racers.spawn(async move {
            match what {
                What::Token(token) => party.refresh(&token).await,
                What::Code { code, verifier } => party.redeem(&code, &verifier).await,
            }
        });
    }
    racers.join_all().await.into_iter().collect()
}

#[derive(Clone)]
enum What {
    Token(String),
    Code { code: String, verifier: String },
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_at_three_replicas_walk_one_chain() -> Result<()> {
    let scene = scene(60).await?;
    let parties = scene.relying_parties().await?;
    let first = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;

    // Every answer ever given: which tokens came out of which.
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = first.clone();
    for _ in 0..ROUNDS {
        for answer in race(&parties, CLIENTS, &What::Token(current.clone())).await? {
            let next = refresh_token(&answer.tokens()?)?;
            edges.entry(current.clone()).or_default().insert(next);
        }
        let next = edges.get(&current).and_then(BTreeSet::first).context("no answer")?;
        current = next.clone();
    }

    // Each token gave one other, and from the first they lead, in steps of one, to the last.
    let mut at = first;
    for n in 0..ROUNDS {
        assert_eq!(generation_of(&at)?, n);
        let next = edges.get(&at).with_context(|| format!("{at} gave nothing"))?;
        assert_eq!(next.len(), 1, "token {n} gave {next:?}");
        at = next.first().context("one")?.clone();
    }
    assert_eq!((at.as_str(), edges.len()), (current.as_str(), 6));
    let reckoning = Held::of(vec![current]).reckon(&scene).await?;
    assert_eq!((reckoning.live, reckoning.revoked.len()), (1, 0));
    println!("races: {CLIENTS} clients, 3 replicas, {ROUNDS} rounds: one chain, {reckoning:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_grace_reuse_ends_the_session_at_every_replica() -> Result<()> {
    let scene = scene(0).await?;
    let parties = scene.relying_parties().await?;
    let first = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;

    let mut granted = BTreeSet::new();
    for answer in race(&parties, CLIENTS, &What::Token(first.clone())).await? {
        match answer.error() {
            "" => drop(granted.insert(refresh_token(&answer.tokens()?)?)),
            error => assert_eq!(error, "invalid_grant", "{}", answer.body),
        }
    }
    // Whoever came within the same second got the same; nobody got another.
    assert_eq!(granted.len(), 1, "{granted:?}");

    eventually(Duration::from_secs(10), async || {
        let answer = parties[1].refresh(&first).await?;
        ensure!(
            answer.error() == "invalid_grant",
            "the second of grace is not over: {}",
            answer.body
        );
        Ok(())
    })
    .await?;
    let revoked = ("Revoked".to_owned(), "RefreshTokenReused".to_owned());
    assert_eq!(sessions(&scene)?, BTreeMap::from([(session_of(&first)?, revoked)]));
    let successor = granted.pop_first().context("one")?;
    for party in &parties {
        for token in [&first, &successor] {
            assert_eq!(party.refresh(token).await?.error(), "invalid_grant");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_code_at_three_replicas_at_once_succeeds_once_and_is_then_revoked_as_replayed()
-> Result<()> {
    let scene = scene(10).await?;
    let parties = scene.relying_parties().await?;
    let mut won = Vec::new();
    for _ in 0..CODES {
        let (code, attempt) = parties[0].code(SCOPE, LOCAL_USER).await?;
        let what = What::Code { code, verifier: attempt.verifier };
        let mut refused = 0;
        for answer in race(&parties, 3, &what).await? {
            match answer.error() {
                "" => won.push(refresh_token(&answer.tokens()?)?),
                error => {
                    assert_eq!(error, "invalid_grant", "{}", answer.body);
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 2);
    }
    assert_eq!(won.len(), CODES);
    // The winners' sessions are over too: somebody else held their codes (RFC 6749 4.1.2).
    let reckoning = Held::of(won).reckon(&scene).await?;
    assert_eq!(reckoning.live, 0);
    assert_eq!(reckoning.revoked, BTreeMap::from([("CodeReplayed".to_owned(), CODES)]));
    println!("races: {CODES} codes, 3 replicas each: {CODES} successes, {reckoning:?}");
    Ok(())
}

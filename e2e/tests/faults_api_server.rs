//! The API server and what stands behind it go away and come back, or change: what needs no write goes on,
//! what must write says when to come again, and nothing is lost. Each story has a control plane of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use claviger_testkit::load::refresh_token;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{
    Conduct, ControlPlane, Directory, Held, Installation, Load, RelyingParty, Scene, Setup,
    eventually,
};
use serde_json::{Value, json};

/// As long as the issue says.
const AWAY: Duration = Duration::from_secs(30);

async fn scene(plane: &ControlPlane, setup: &Setup) -> Result<Scene> {
    Scene::start_as(Installation::create(plane).await?, setup, |_| {}).await
}

async fn get(party: &RelyingParty, url: &str) -> Result<u16> {
    Ok(party.http().get(url).send().await?.status().as_u16())
}

/// Asks what needs no write, of every replica in turn, and counts the answers by status.
async fn read_while_away(
    parties: &[RelyingParty],
    access_token: &str,
) -> Result<BTreeMap<u16, usize>> {
    let mut answers = BTreeMap::new();
    let began = Instant::now();
    while began.elapsed() < AWAY {
        for party in parties {
            let issuer = party.metadata()["issuer"].as_str().context("no issuer")?;
            let discovery = format!("{issuer}/.well-known/openid-configuration");
            for status in [
                get(party, &discovery).await?,
                get(party, party.endpoint("jwks_uri")?.as_str()).await?,
                party.userinfo(access_token).await?.0.as_u16(),
            ] {
                *answers.entry(status).or_default() += 1;
            }
        }
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_away_for_half_a_minute_stops_writes_alone_and_loses_nothing() -> Result<()> {
    let mut plane = ControlPlane::start(ControlPlane::builder()).await?;
    let scene = scene(&plane, &Setup::new(Directory::None).replicas(3)).await?;
    let parties = scene.relying_parties().await?;
    let tokens = parties[0].log_in(SCOPE, LOCAL_USER).await?;
    let access_token = tokens["access_token"].as_str().context("no access token")?;
    let mine = refresh_token(&tokens)?;
    let mut load = Load::start(&scene).await?;

    plane.stop_api_server();
    let read = read_while_away(&parties, access_token).await?;
    assert_eq!(read.keys().copied().collect::<Vec<_>>(), [200], "{read:?}");
    // Signing in needs no write either, up to the code, which lives a minute.
    let (code, attempt) = parties[0].code(SCOPE, LOCAL_USER).await?;
    for answer in
        [parties[1].refresh(&mine).await?, parties[2].redeem(&code, &attempt.verifier).await?]
    {
        assert_eq!((answer.status.as_u16(), answer.error()), (503, "temporarily_unavailable"));
        ensure!(answer.retry_after.is_some(), "no Retry-After");
    }

    plane.start_api_server().await?;
    let redeemed = eventually(Duration::from_secs(20), async || {
        parties[2].redeem(&code, &attempt.verifier).await?.tokens()
    })
    .await?;
    let healed = load.until_all_are_answered().await?;
    let mut held = load.finish().await?;
    held.tokens.extend([mine, refresh_token(&redeemed)?]);
    held.figures.logins += 2;
    ensure!(held.figures.unavailable > 0, "nobody was told to come again");
    let reckoning = held.nothing_is_lost(&scene).await?;
    println!(
        "API server away {AWAY:?}: reads {read:?}, {:?}, all answered {healed:?} after it was back: {reckoning:?}",
        held.figures
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_killed_under_load_loses_nothing() -> Result<()> {
    let mut plane = ControlPlane::start(ControlPlane::builder()).await?;
    let scene = scene(&plane, &Setup::new(Directory::None).replicas(2)).await?;
    let mut load = Load::start(&scene).await?;
    let mut healed = Vec::new();
    for _ in 0..2 {
        plane.restart_etcd().await?;
        healed.push(load.until_all_are_answered().await?);
    }
    let held = load.finish().await?;
    let reckoning = held.nothing_is_lost(&scene).await?;
    println!(
        "etcd killed (-9) twice: {:?}, all answered after {healed:?}: {reckoning:?}",
        held.figures
    );
    Ok(())
}

/// Lets the example's client be sent back to this address alone.
fn redirect_to(scene: &Scene, uri: &str) -> Result<()> {
    let patch = json!({"spec": {"redirectURIs": [uri, "http://localhost:8000"]}}).to_string();
    let patch = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", &patch];
    scene.installation().kubectl(&patch).map(drop)
}

/// Waits until a replica takes that address, and says how long it took.
async fn until_live(party: &RelyingParty, uri: &str) -> Result<Duration> {
    let began = Instant::now();
    let mut url = party.attempt(SCOPE)?.url;
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    url.query_pairs_mut().clear().extend_pairs(pairs.iter().map(|(name, value)| {
        (name.as_str(), if name == "redirect_uri" { uri } else { value.as_str() })
    }));
    eventually(Duration::from_secs(30), async || {
        let status = get(party, url.as_str()).await?;
        ensure!(status == 303, "{uri} is not live: {status}");
        Ok(began.elapsed())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_watches_go_on_and_too_old_ones_list_again() -> Result<()> {
    let mut plane = ControlPlane::start(ControlPlane::builder()).await?;
    let scene = scene(&plane, &Setup::new(Directory::None).replicas(2).proxied()).await?;
    let parties = scene.relying_parties().await?;
    let token = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;
    let user = scene.installation().user();

    // Broken, and resumed where they were: nothing is listed again.
    let mark = plane.audit_log().mark()?;
    let mut live = Vec::new();
    for n in 0..3 {
        let uri = format!("http://localhost:91{n}0");
        let proxy = scene.replicas()[1].proxy()?;
        proxy.conduct(Conduct::Refuse);
        redirect_to(&scene, &uri)?;
        until_live(&parties[0], &uri).await?;
        proxy.conduct(Conduct::Pass);
        live.push(until_live(&parties[1], &uri).await?);
    }
    let asked = plane.audit_log().counts_since(mark, &user)?;
    assert_eq!(asked.get("list oauth2clients"), None, "{asked:?}");

    // Away while the API server forgets where they were (410): listed again.
    let mark = plane.audit_log().mark()?;
    let proxy = scene.replicas()[1].proxy()?;
    proxy.conduct(Conduct::Refuse);
    let uri = "http://localhost:9200";
    redirect_to(&scene, uri)?;
    plane.restart_api_server().await?;
    proxy.conduct(Conduct::Pass);
    for party in &parties {
        live.push(until_live(party, uri).await?);
    }
    let asked = plane.audit_log().counts_since(mark, &user)?;
    ensure!(asked.contains_key("list oauth2clients"), "no version was too old: {asked:?}");
    let reckoning = Held::of(vec![token]).reckon(&scene).await?;
    assert_eq!((reckoning.live, reckoning.revoked.len()), (1, 0));
    println!("watches cut 3 times, then too old (410): changes live after {live:?}: {reckoning:?}");
    Ok(())
}

/// A CRD as it stands in the API server, changed.
fn change_crd(scene: &Scene, name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
    let crd = scene.installation().kubectl(&["get", "crd", name, "-o", "json"])?;
    let mut crd: Value = serde_json::from_str(&crd)?;
    let spec = crd["spec"].take();
    let mut crd = json!({"apiVersion": crd["apiVersion"], "kind": crd["kind"], "metadata": {"name": name}, "spec": spec});
    change(&mut crd["spec"]["versions"][0]);
    scene.installation().apply(&crd.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_upgraded_under_running_replicas_lose_nothing() -> Result<()> {
    let plane = ControlPlane::start(ControlPlane::builder()).await?;
    let scene = scene(&plane, &Setup::new(Directory::None).replicas(2)).await?;
    let parties = scene.relying_parties().await?;
    let mut load = Load::start(&scene).await?;

    // A field and a column more.
    for name in ["sessions.claviger.dev", "oauth2clients.claviger.dev"] {
        change_crd(&scene, name, |version| {
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["ofTomorrow"] =
                json!({"type": "string"});
            let column =
                json!({"name": "Tomorrow", "type": "string", "jsonPath": ".spec.ofTomorrow"});
            if let Some(columns) = version["additionalPrinterColumns"].as_array_mut() {
                columns.push(column);
            }
        })?;
    }
    eventually(Duration::from_secs(30), async || {
        let patch = r#"{"spec":{"ofTomorrow":"yes"}}"#;
        let patch = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", patch];
        scene.installation().kubectl(&patch)?;
        let shown = scene.installation().kubectl(&["get", "oauth2clients"])?;
        ensure!(shown.contains("TOMORROW") && shown.contains("yes"), "{shown}");
        Ok(())
    })
    .await?;
    let mut live = Vec::new();
    redirect_to(&scene, "http://localhost:9300")?;
    for party in &parties {
        live.push(until_live(party, "http://localhost:9300").await?);
    }

    // A version that takes no client like the one there is: it stays as it is, and in service.
    change_crd(&scene, "oauth2clients.claviger.dev", |version| {
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["displayName"]["maxLength"] =
            json!(1);
    })?;
    eventually(Duration::from_secs(30), async || {
        let patch = r#"{"spec":{"displayName":"Changed"}}"#;
        let patch = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", patch];
        let refused = scene.installation().kubectl(&patch).is_err();
        ensure!(refused, "the stricter version is not in force");
        Ok(())
    })
    .await?;
    load.until_all_are_answered().await?;
    redirect_to(&scene, "http://localhost:9400")?;
    for party in &parties {
        live.push(until_live(party, "http://localhost:9400").await?);
    }
    let held = load.finish().await?;
    assert_eq!((held.figures.unavailable, held.figures.broken), (0, 0), "{:?}", held.figures);
    let reckoning = held.nothing_is_lost(&scene).await?;
    println!(
        "definitions upgraded: {:?}, changes live after {live:?}: {reckoning:?}",
        held.figures
    );
    Ok(())
}

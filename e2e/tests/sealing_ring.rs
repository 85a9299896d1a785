//! The keys that seal, on two replicas: whatever is done to their Secret, who is signed in stays signed in,
//! unless an administrator revoked the key.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::load::refresh_token;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{
    Browser, ControlPlane, Directory, Installation, RelyingParty, Scene, Setup, eventually,
};
use data_encoding::BASE64;
use serde_json::{Value, json};

const SECRET: &str = "claviger-sealing-ring";
/// For what happens within a second on an idle machine.
const SOON: Duration = Duration::from_secs(30);

/// Two replicas.
async fn scene() -> Result<Scene> {
    start(&Setup::new(Directory::None).replicas(2)).await
}

/// Two replicas that are never far behind, so that a rotation does not take minutes.
async fn hasty_scene() -> Result<Scene> {
    let setup = Setup::new(Directory::None).replicas(2);
    start(&setup.flag("--clock-skew-seconds=1").flag("--staleness-seconds=10")).await
}

async fn start(setup: &Setup) -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start_as(Installation::create(&plane).await?, setup, |_| {}).await?;
    until(&scene, "the next keys were seen in the store", Document::next_is_known).await?;
    Ok(scene)
}

/// The document in the Secret.
#[derive(Debug, Clone)]
struct Document(Value);

impl Document {
    fn of(scene: &Scene) -> Result<Self> {
        let path = "jsonpath={.data.ring\\.json}";
        let encoded = scene.installation().kubectl(&["get", "secret", SECRET, "-o", path])?;
        Ok(Self(serde_json::from_slice(&BASE64.decode(encoded.as_bytes())?)?))
    }

    fn keys(&self, ring: &str) -> &[Value] {
        self.0[ring]["keys"].as_array().map_or(&[], Vec::as_slice)
    }

    /// What a field of every key of a ring holds.
    fn all(&self, ring: &str, field: &str) -> BTreeSet<String> {
        let texts = self.keys(ring).iter().filter_map(|key| key[field].as_str());
        texts.map(str::to_owned).collect()
    }

    fn ids(&self) -> BTreeSet<String> {
        self.all("long", "id").into_iter().chain(self.all("short", "id")).collect()
    }

    fn active(&self, ring: &str) -> Option<&str> {
        self.keys(ring).iter().find(|key| key["state"] == "Active")?["id"].as_str()
    }

    fn next_is_known(&self) -> bool {
        let published = |ring| {
            self.keys(ring)
                .iter()
                .any(|key| key["state"] == "Published" && key["publishedAt"].is_i64())
        };
        published("long") && published("short")
    }
}

async fn until(scene: &Scene, what: &str, holds: impl Fn(&Document) -> bool) -> Result<Document> {
    eventually(SOON, async || {
        let document = Document::of(scene)?;
        ensure!(holds(&document), "not yet: {what}: {:?}", document.ids());
        Ok(document)
    })
    .await
}

fn annotate(scene: &Scene, name: &str, value: &str) -> Result<()> {
    let annotation = format!("claviger.dev/{name}={value}");
    scene.installation().kubectl(&["annotate", "secret", SECRET, "--overwrite", &annotation])?;
    Ok(())
}

fn put(scene: &Scene, json: &str) -> Result<()> {
    let patch = json!({"data": {"ring.json": BASE64.encode(json.as_bytes())}}).to_string();
    scene.installation().kubectl(&["patch", "secret", SECRET, "--type", "merge", "-p", &patch])?;
    Ok(())
}

/// Refreshes once at each replica. One that the API server has told nothing for a while, on a slow machine,
/// says so (503) and rotates nothing; it is asked again.
async fn goes_on(parties: &[RelyingParty], token: &mut String) -> Result<()> {
    for party in parties {
        let answer = eventually(SOON, async || {
            let answer = party.refresh(token).await?;
            ensure!(answer.status.as_u16() != 503, "{}", answer.body);
            Ok(answer)
        })
        .await?;
        *token = refresh_token(&answer.tokens()?)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_begun_at_one_replica_ends_at_the_other() -> Result<()> {
    let scene = scene().await?;
    let parties = scene.relying_parties().await?;
    let peers: Vec<_> =
        scene.replicas().iter().map(|replica| replica.peer(scene.installation())).collect();
    let browser = Browser::new(&peers[0])?;
    let attempt = parties[0].attempt(SCOPE)?;
    let Landing::Page(form) = browser.open(&attempt.url).await? else {
        anyhow::bail!("no login page");
    };
    let typed = [("login", LOCAL_USER.username), ("password", LOCAL_USER.password)];
    let landing = browser.at(&peers[1])?.submit(&form, &typed).await?;
    let Landing::Application(landed) = landing else { anyhow::bail!("{landing:?}") };
    let code = query_value(&landed, "code")?;
    let mut token = refresh_token(&parties[0].redeem(&code, &attempt.verifier).await?.tokens()?)?;
    goes_on(&[parties[1].clone(), parties[0].clone()], &mut token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_deleted_broken_or_old_is_restored_and_nobody_is_signed_out() -> Result<()>
{
    let scene = scene().await?;
    let parties = scene.relying_parties().await?;
    let mut token = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;
    let before = Document::of(&scene)?;
    let same = |document: &Document| document.ids() == before.ids();

    scene.installation().kubectl(&["delete", "secret", SECRET])?;
    goes_on(&parties, &mut token).await?;
    until(&scene, "the very same keys are back", same).await?;
    for broken in ["{", "", "\u{0}", "{\"version\": 2}"] {
        put(&scene, broken)?;
        goes_on(&parties, &mut token).await?;
        until(&scene, "the very same keys are back", same).await?;
    }

    // A backup of before a revocation.
    let backup = Document::of(&scene)?;
    let revoked = backup.active("short").context("no Active key")?.to_owned();
    annotate(&scene, "revoked-key-ids", &revoked)?;
    let newer = until(&scene, "it is revoked and the next is published", |document| {
        !document.ids().contains(&revoked) && document.next_is_known()
    })
    .await?;
    annotate(&scene, "revoked-key-ids", "")?;
    put(&scene, &backup.0.to_string())?;
    goes_on(&parties, &mut token).await?;
    until(&scene, "the backup is overwritten by what is newer", |document| {
        document.ids() == newer.ids() && document.0["revoked"] == json!([revoked])
    })
    .await?;
    let mut other = refresh_token(&parties[1].log_in(SCOPE, LOCAL_USER).await?)?;
    goes_on(&parties, &mut other).await?;
    for replica in scene.replicas() {
        ensure!(!replica.operator()?.log()?.contains("panicked"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_releases_document_is_neither_read_nor_overwritten() -> Result<()> {
    let scene = scene().await?;
    let parties = scene.relying_parties().await?;
    let mut token = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;
    let before = Document::of(&scene)?;
    put(&scene, r#"{"version": 3, "jewels": []}"#)?;
    eventually(SOON, async || {
        let path = "jsonpath={.status.conditions[?(@.type==\"Accepted\")].message}";
        let said = scene.installation().kubectl(&["get", "oidcissuer", "main", "-o", path])?;
        ensure!(said.contains("format version 3"), "{said}");
        Ok(())
    })
    .await?;
    goes_on(&parties, &mut token).await?;
    assert_eq!(Document::of(&scene)?.0["version"], 3);
    put(&scene, &before.0.to_string())?;
    goes_on(&parties, &mut token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_what_it_sealed_and_new_logins_work_at_once() -> Result<()> {
    let scene = hasty_scene().await?;
    let parties = scene.relying_parties().await?;
    let ended = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;
    let before = Document::of(&scene)?;
    let long = before.active("long").context("no Active key")?.to_owned();
    let short: Vec<String> = before.all("short", "id").into_iter().collect();
    annotate(&scene, "revoked-key-ids", &format!("{long},{}", short.join(",")))?;
    let since = Instant::now();
    for party in &parties {
        eventually(SOON, async || {
            // Which of the two rotates it in the meantime does not matter: both must come to refuse it.
            let answer = party.refresh(&ended).await?;
            ensure!(answer.error() == "invalid_grant", "{}", answer.body);
            Ok(())
        })
        .await?;
    }
    let refused = since.elapsed();
    // Refused for its key, not for having been sent twice.
    let path = "jsonpath={.items[*].spec.state}";
    assert_eq!(scene.installation().kubectl(&["get", "sessions", "-o", path])?, "Active");
    for n in [0, 1] {
        let mut token = refresh_token(&parties[n].log_in(SCOPE, LOCAL_USER).await?)?;
        goes_on(&parties, &mut token).await?;
    }
    println!("refused at both replicas after {refused:?}, new logins after {:?}", since.elapsed());
    let after = until(&scene, "both rings are whole again", |document| {
        document.active("long").is_some() && document.active("short").is_some()
    })
    .await?;
    assert!(after.all("short", "secret").is_disjoint(&before.all("short", "secret")));
    let gone: BTreeSet<String> = short.into_iter().chain([long]).collect();
    assert!(after.ids().is_disjoint(&gone));
    let listed = after.0["revoked"].as_array().context("no list")?.len();
    assert_eq!(listed, gone.len());
    let mut token = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;
    goes_on(&parties, &mut token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_on_demand_changes_both_keys_and_signs_nobody_out() -> Result<()> {
    let scene = hasty_scene().await?;
    let parties = scene.relying_parties().await?;
    let mut before = Document::of(&scene)?;
    let mut tokens = Vec::new();
    for request in 1..=2 {
        let mut token = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;
        let attempt = parties[0].attempt(SCOPE)?;
        let peers: Vec<_> =
            scene.replicas().iter().map(|replica| replica.peer(scene.installation())).collect();
        let browser = Browser::new(&peers[0])?;
        let Landing::Page(form) = browser.open(&attempt.url).await? else {
            anyhow::bail!("no login page");
        };
        annotate(&scene, "rotation-request", &request.to_string())?;
        let after = until(&scene, "both rings rotated", |document| {
            ["long", "short"].iter().all(|ring| {
                document.0[*ring]["rotationRequest"] == request
                    && document.active(ring) != before.active(ring)
            }) && document.next_is_known()
        })
        .await?;
        for ring in ["long", "short"] {
            let old = before.active(ring).context("no Active key")?;
            ensure!(after.ids().contains(old), "{ring}: what it sealed must open");
        }
        goes_on(&parties, &mut token).await?;
        tokens.push(token);
        let typed = [("login", LOCAL_USER.username), ("password", LOCAL_USER.password)];
        let landing = browser.at(&peers[1])?.submit(&form, &typed).await?;
        ensure!(matches!(landing, Landing::Application(_)), "a flow of before: {landing:?}");
        before = after;
    }
    for token in &mut tokens {
        goes_on(&parties, token).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_that_cannot_be_understood_are_complained_about_and_do_nothing() -> Result<()> {
    let scene = scene().await?;
    let parties = scene.relying_parties().await?;
    let mut token = refresh_token(&parties[0].log_in(SCOPE, LOCAL_USER).await?)?;
    let before = Document::of(&scene)?;
    annotate(&scene, "rotation-request", "now")?;
    annotate(&scene, "revoked-key-ids", "all")?;
    eventually(SOON, async || {
        let path = "jsonpath={.status.conditions[?(@.type==\"Accepted\")].message}";
        let said = scene.installation().kubectl(&["get", "oidcissuer", "main", "-o", path])?;
        ensure!(said.contains("claviger.dev/rotation-request"), "{said}");
        ensure!(said.contains("claviger.dev/revoked-key-ids"), "{said}");
        Ok(())
    })
    .await?;
    goes_on(&parties, &mut token).await?;
    assert_eq!(Document::of(&scene)?.0, before.0);
    Ok(())
}

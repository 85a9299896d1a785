//! Sessions that are over go, a page at a time, whatever happens to the leader meanwhile; what is not
//! over stays; with nothing to do nothing is written.
//!
//! That others at the same API server are not made to wait is a matter of rates, which other tests beside
//! this one would disturb: it is measured on a quiet machine, by [`SESSIONS_ENV`], and not on every run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use claviger_api::{Session, SessionSpec, SessionState, SessionType, labels, time};
use claviger_testkit::{
    ControlPlane, Directory, Installation, RunningControlPlane, Scene, eventually,
};
use data_encoding::BASE64;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How many expired sessions there are on every run.
const EXPIRED: usize = 5_000;
/// Says another number, such as 50000, and has a neighbour's latency measured and judged.
const SESSIONS_ENV: &str = "CLAVIGER_E2E_EXPIRED_SESSIONS";
/// Most that etcd takes at once.
const PUTS: usize = 128;
/// One request of somebody else each.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
const PROBES: usize = 1_000;
/// Two minutes on a quiet machine.
const PATIENCE: Duration = Duration::from_mins(8);
/// Resident memory of the operator, at most, at any moment (DESIGN 1 and issue 4).
const MEMORY_KB: u64 = 60 * 1024;

#[expect(clippy::disallowed_methods, reason = "what is expired depends on the real time")]
fn now() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_second()
}

/// A session as Claviger makes them, expiring `seconds` from now.
fn session(name: &str, state: SessionState, seconds: i64) -> Session {
    let expires_at = now() + seconds;
    let mut labels = vec![
        (labels::EXPIRY_HOUR, (expires_at / 3_600).to_string()),
        (labels::ISSUER_HASH, "i".repeat(16)),
        (labels::USER_HASH, "u".repeat(16)),
        (labels::CLIENT_HASH, "c".repeat(16)),
    ];
    if state == SessionState::Revoked {
        labels.push((labels::STATE, labels::STATE_REVOKED.to_owned()));
    }
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Session {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: SessionSpec {
            state,
            type_: SessionType::Client,
            generation: 0,
            client_uid: "client".into(),
            client_id: "kubernetes".into(),
            connector: "local".into(),
            user: "admin".into(),
            rotated_at: time::from_seconds(expires_at - 86_400),
            expires_at: time::from_seconds(expires_at),
            redemption_id: Some("r".repeat(22)),
            payload: "p".repeat(470),
            revoked_reason: (state == SessionState::Revoked).then(|| "CodeReplayed".into()),
        },
    }
}

fn without_expiry_hour(mut session: Session) -> Session {
    session.metadata.labels.as_mut().map(|labels| labels.remove(labels::EXPIRY_HOUR));
    session
}

/// Names of all sessions.
async fn names(sessions: &Api<Session>) -> Result<BTreeSet<String>> {
    let list = sessions.list_metadata(&ListParams::default()).await?;
    Ok(list.items.into_iter().filter_map(|session| session.metadata.name).collect())
}

/// How many sessions there are, by one small request.
async fn count(sessions: &Api<Session>) -> Result<usize> {
    let page = sessions.list_metadata(&ListParams::default().limit(1)).await?;
    let remaining = page.metadata.remaining_item_count.unwrap_or_default();
    Ok(page.items.len() + usize::try_from(remaining)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_goes_what_is_not_stays_and_then_nothing_is_written() -> Result<()> {
    use SessionState::{Active, Pending, Revoked};
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane)
        .await?
        .with_operator_flags(&["--cleanup-interval-seconds", "1"]);
    let scene = Scene::start_in(here, Directory::None, |_| {}).await?;
    let here = scene.installation();
    let sessions: Api<Session> = Api::namespaced(here.admin().await?, here.namespace());
    let (hour, day) = (3_600, 86_400);
    let objects = [
        session("active-over", Active, -2 * hour),
        session("pending-over", Pending, -3 * hour),
        session("tombstone-over", Revoked, -2 * hour),
        session("active", Active, day),
        session("this-hour", Active, 0),
        session("tombstone", Revoked, day),
        without_expiry_hour(session("stray-over", Active, -2 * hour)),
        without_expiry_hour(session("stray", Active, day)),
        without_expiry_hour(session("stray-tombstone", Revoked, -2 * hour)),
    ];
    for object in &objects {
        sessions.create(&PostParams::default(), object).await?;
    }
    let stay = ["active", "this-hour", "tombstone", "stray", "stray-tombstone"].map(str::to_owned);
    eventually(Duration::from_secs(20), async || {
        let left = names(&sessions).await?;
        ensure!(left == BTreeSet::from(stay.clone()), "left: {left:?}");
        let labelled = ListParams::default().labels(labels::EXPIRY_HOUR);
        let labelled = sessions.list_metadata(&labelled).await?.items.len();
        ensure!(labelled == stay.len(), "{labelled} of {} are labelled", stay.len());
        Ok(())
    })
    .await?;

    // Four rounds with nothing to do.
    let mark = plane.audit_log().mark()?;
    let asked = eventually(Duration::from_secs(20), async || {
        let asked = here.requests_since(mark)?;
        let reads = asked.iter().find(|(what, _)| what == "list sessions").map_or(0, |read| read.1);
        ensure!(reads >= 4 * READS_A_ROUND, "{asked:?}");
        Ok(asked)
    })
    .await?;
    assert_eq!(asked.len(), 1, "something was written, or read that need not be: {asked:?}");
    assert_eq!(names(&sessions).await?.len(), stay.len());
    Ok(())
}

/// Strays, whether anything is over, how many there are.
const READS_A_ROUND: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn expired_sessions_go_although_their_collector_is_killed_on_the_way() -> Result<()> {
    let measured = std::env::var(SESSIONS_ENV).ok();
    let expired = measured.as_deref().map_or(Ok(EXPIRED), str::parse)?;
    let plane = ControlPlane::start(ControlPlane::builder()).await?;
    // The first round is at the start; the next is not in this test.
    let here = Installation::create(&plane)
        .await?
        .with_operator_flags(&["--cleanup-interval-seconds", "3600"]);
    let mut scene = Scene::start_in(here, Directory::None, |_| {}).await?;
    let namespace = scene.installation().namespace().to_owned();
    let sessions: Api<Session> = Api::namespaced(plane.admin().await?, &namespace);
    let alive = [
        session("alive", SessionState::Active, 86_400),
        session("alive-tombstone", SessionState::Revoked, 86_400),
    ];
    for object in &alive {
        sessions.create(&PostParams::default(), object).await?;
    }
    store_expired(&plane, &sessions, expired).await?;
    eventually(PATIENCE, async || {
        let seen = count(&sessions).await?;
        ensure!(seen == expired + alive.len(), "the API server sees {seen}");
        Ok(())
    })
    .await?;
    let neighbour = match measured {
        Some(_) => Some(Neighbour::arrive(&plane).await?),
        None => None,
    };
    let before = ask(neighbour.clone()).await?;

    let began = Instant::now();
    scene.restart_operator().await?; // its first round begins
    let begun_at = wait_until_at_most(&sessions, expired).await?;
    let during = ask(neighbour).await?;
    let unprobed = count(&sessions).await?;
    let killed_at = wait_until_at_most(&sessions, expired * 3 / 4).await?;
    let memory = peak_memory_kb(scene.operator()?.id())?;
    scene.restart_operator().await?; // kill -9 in the middle
    ensure!(killed_at > alive.len(), "it was over before it was killed");
    wait_until_at_most(&sessions, alive.len()).await?;
    let took = began.elapsed();
    let memory = memory.max(peak_memory_kb(scene.operator()?.id())?);

    let left = names(&sessions).await?;
    assert_eq!(left, BTreeSet::from(["alive", "alive-tombstone"].map(str::to_owned)));
    println!("{expired} deleted in {took:.1?}, killed with {killed_at} left; peak RSS {memory} KB");
    ensure!(memory <= MEMORY_KB, "the operator took {memory} KB");
    if let (Some(before), Some(during)) = (before, during) {
        println!("before {before:?}\nduring {during:?}, while {begun_at} became {unprobed}");
        ensure!(unprobed > alive.len(), "the probes went on after the end: they prove nothing");
        ensure!(begun_at - unprobed > PROBES, "less was deleted than asked: they prove nothing");
        ensure!(during.p99() <= 2 * before.p99(), "others waited more than twice as long");
    }
    Ok(())
}

/// How long a neighbour waits, if there is one.
async fn ask(neighbour: Option<Neighbour>) -> Result<Option<Latencies>> {
    match neighbour {
        Some(neighbour) => neighbour.ask(PROBES).await.map(Some),
        None => Ok(None),
    }
}

/// Puts the expired sessions into etcd, in the words in which the API server stores one it was given:
/// that many creates would take minutes of the API server's time, and prove nothing here.
async fn store_expired(
    plane: &RunningControlPlane,
    sessions: &Api<Session>,
    expired: usize,
) -> Result<()> {
    let example = session("expired-0", SessionState::Active, -3 * 3_600);
    let example = sessions.create(&PostParams::default(), &example).await?;
    let uid = example.metadata.uid.context("no uid")?;
    let namespace = example.metadata.namespace.context("no namespace")?;
    let key = |n: usize| format!("/registry/claviger.dev/sessions/{namespace}/expired-{n}");
    let stored = etcd(plane, "range", json!({"key": BASE64.encode(key(0).as_bytes())})).await?;
    let stored = stored["kvs"][0]["value"].as_str().context("not where it should be")?;
    let stored = String::from_utf8(BASE64.decode(stored.as_bytes())?)?;
    for numbers in (1..expired).collect::<Vec<_>>().chunks(PUTS) {
        let puts = numbers.iter().map(|n| {
            let value = stored
                .replace("expired-0", &format!("expired-{n}"))
                .replace(&uid, &format!("00000000-0000-4000-8000-{n:012}"));
            let (key, value) = (key(*n), BASE64.encode(value.as_bytes()));
            json!({"requestPut": {"key": BASE64.encode(key.as_bytes()), "value": value}})
        });
        etcd(plane, "txn", json!({"success": puts.collect::<Vec<_>>()})).await?;
    }
    Ok(())
}

/// Asks etcd by its JSON gateway.
async fn etcd(plane: &RunningControlPlane, what: &str, request: Value) -> Result<Value> {
    let url = format!("{}/v3/kv/{what}", plane.etcd_url());
    let answer = reqwest::Client::new().post(url).json(&request).send().await?;
    Ok(answer.error_for_status()?.json().await?)
}

async fn wait_until_at_most(sessions: &Api<Session>, most: usize) -> Result<usize> {
    eventually(PATIENCE, async || {
        let left = count(sessions).await?;
        ensure!(left <= most, "{left} are left");
        Ok(left)
    })
    .await
}

/// Most memory a process ever had resident.
fn peak_memory_kb(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Somebody else at the same API server, who reads and writes `ConfigMaps` of their own.
#[derive(Clone)]
struct Neighbour {
    config_maps: Api<ConfigMap>,
    created: Arc<AtomicU64>,
}

impl Neighbour {
    async fn arrive(plane: &ControlPlane) -> Result<Self> {
        let admin = plane.admin().await?;
        let namespace = claviger_testkit::TestNamespace::create(&admin, "neighbour").await?;
        let kubectl = |arguments: &[&str]| -> Result<()> {
            let output = plane.kubectl().args(["-n", namespace.name()]).args(arguments).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        kubectl(&["create", "role", "own", "--verb=get,create", "--resource=configmaps"])?;
        kubectl(&["create", "rolebinding", "own", "--role=own", "--user=neighbour"])?;
        let client: Client = plane.client_for("neighbour", &[]).await?;
        let neighbour = Self {
            config_maps: Api::namespaced(client, namespace.name()),
            created: Arc::default(),
        };
        eventually(Duration::from_secs(10), async || neighbour.ask_once().await).await?;
        Ok(neighbour)
    }

    /// Creates one and reads it.
    async fn ask_once(&self) -> Result<[Duration; 2]> {
        let n = self.created.fetch_add(1, Ordering::Relaxed);
        let name = format!("mine-{n}");
        let object = ConfigMap {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        let began = Instant::now();
        self.config_maps.create(&PostParams::default(), &object).await?;
        let created = Instant::now();
        self.config_maps.get(&name).await?;
        Ok([created.duration_since(began), created.elapsed()])
    }

    /// Asks at a steady rate, however slow the answers are.
    async fn ask(&self, times: usize) -> Result<Latencies> {
        let mut asking = JoinSet::new();
        let mut clock = tokio::time::interval(2 * PROBE_INTERVAL);
        for _ in 0..times / 2 {
            clock.tick().await;
            let neighbour = self.clone();
            asking.spawn(async move { neighbour.ask_once().await });
        }
        let mut latencies = Vec::new();
        while let Some(answered) = asking.join_next().await {
            latencies.extend(answered??);
        }
        latencies.sort();
        Ok(Latencies(latencies))
    }
}

/// Sorted.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    fn p99(&self) -> Duration {
        self.at(99)
    }
}

impl std::fmt::Debug for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| self.at(percent));
        write!(f, "p50 {p50:.1?} p90 {p90:.1?} p99 {p99:.1?} max {max:.1?} of {}", self.0.len())
    }
}

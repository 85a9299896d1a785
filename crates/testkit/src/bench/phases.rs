//! The phases of a run, in their order, and what is asked of their numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::ceiling::{Create, PatchOwn, Store};
use super::counters::{Requests, gauge, is_write};
use super::drive::{Client, Window, drive, ratio};
use super::operations::{Document, LogIn, Refresh, Site, Stranger, Tokens, UserInfo, metadata};
use super::processes::Observed;
use super::report::{Bound, MemoryRow, Phase, Report, megabytes};
use super::scale::{self, Administrator};
use super::stage::{Replica, Stage};
use super::{CEILING, DISCOVERY, Options};

/// Warm-up, as a share of what is measured.
const WARM_UP: u32 = 5;
/// Live sessions of the scale phase for each second of a phase: 50,000 in a run of 10 s.
const SESSIONS_PER_SECOND: u64 = 5_000;
/// How long three idle replicas are watched, for each second of a phase.
const IDLE_PER_SECOND: u32 = 3;
/// What the moments are called at which memory must be within its bounds.
const IDLE: &str = "idle";
const LARGE: &str = "1,000 clients, 100 connectors";
/// Memory settles, and whatever the start left to do is done.
const SETTLE: Duration = Duration::from_secs(3);

/// One run.
struct Run<'o> {
    options: &'o Options,
    stage: Stage,
    observed: Vec<Observed>,
    report: Report,
}

/// Everything, from an empty machine to the report.
///
/// # Errors
/// The first thing that fails.
pub async fn run(options: &Options) -> Result<Report> {
    say("etcd and kube-apiserver start");
    let stage = Stage::set_up().await?;
    say("claviger starts");
    let replica = stage.start_replica().await?;
    let site = Arc::new(stage.site().await?);
    let mut run = Run { options, stage, observed: Vec::new(), report: Report::default() };
    run.observe(&replica);
    run.report.circumstances = circumstances(options)?;
    run.idle_memory(&format!("{IDLE}: the quickstart, nothing asked yet")).await?;
    run.documents(&site).await?;
    let tokens = run.sign_ins(&site).await?;
    run.refreshes(&site, tokens).await?;
    run.idle_memory("after all of this load").await?;
    run.three_replicas().await?;
    run.large(replica).await?;
    run.judge();
    Ok(run.report)
}

impl Run<'_> {
    fn observe(&mut self, replica: &Replica) {
        self.observed = self.stage.observed();
        self.observed.insert(0, replica.observed());
    }

    fn window(&self) -> Window {
        Window { warm_up: self.options.measured / WARM_UP, measured: self.options.measured }
    }

    /// One phase: counted, driven, reported.
    async fn phase<C: Client>(&mut self, name: &str, clients: Vec<C>) -> Result<Vec<C>> {
        say(name);
        let count = clients.len();
        let before = self.stage.counters().await?;
        let (measured, clients) = drive(clients, self.window(), &self.observed)
            .await
            .with_context(|| format!("phase {name}"))?;
        let requests = self.stage.counters().await?.since(&before);
        self.report.phases.push(Phase::new(name, count, &measured, &requests));
        Ok(clients)
    }

    /// Discovery, keys, and authorization requests of strangers.
    async fn documents(&mut self, site: &Arc<Site>) -> Result<()> {
        for (name, path) in [("discovery", DISCOVERY), ("keys (JWKS)", "/keys")] {
            let clients = self.each(|_| Document::client(&site.provider, path)).await?;
            self.phase(name, clients).await?;
        }
        let clients = self.each(|_| Stranger::client(site)).await?;
        self.phase("unauthenticated /auth", clients).await?;
        Ok(())
    }

    /// Sign-ins, between two measurements of what the API server creates by itself.
    async fn sign_ins(&mut self, site: &Arc<Site>) -> Result<Vec<Tokens>> {
        // One before all others: the object whose copies the ceiling is made of.
        LogIn::client(site, self.options.clients)
            .await?
            .once()
            .await
            .context("the first sign-in")?;
        let mut store = self.stage.store()?;
        let stored = store.read_template().await?;
        self.sizes(&stored).await?;
        self.create_ceiling(&store, "before").await?;
        let clients = self.each(|worker| LogIn::client(site, worker)).await?;
        let clients = self.phase("login", clients).await?;
        self.create_ceiling(&store, "after").await?;
        let tokens: Option<Vec<_>> = clients.into_iter().map(|client| client.tokens).collect();
        let tokens = tokens.context("a client never signed in: the phase is too short")?;
        let access_token = tokens[0].access_token.clone();
        let clients = self.each(|_| UserInfo::client(site, &access_token)).await?;
        self.phase("userinfo", clients).await?;
        let known = metadata(&site.provider).await?;
        if known["introspection_endpoint"].is_null() {
            self.report.fact("introspection", "not measured: there is no such endpoint yet");
        }
        Ok(tokens)
    }

    /// Refreshes, between two measurements of what the API server patches by itself.
    async fn refreshes(&mut self, site: &Arc<Site>, tokens: Vec<Tokens>) -> Result<()> {
        let mut store = self.stage.store()?;
        store.read_template().await?;
        self.patch_ceiling(&store, "before").await?;
        let clients = try_join_all(tokens.into_iter().map(|t| Refresh::client(site, t))).await?;
        self.phase("refresh", clients).await?;
        self.patch_ceiling(&store, "after").await
    }

    async fn create_ceiling(&mut self, store: &Store, when: &str) -> Result<()> {
        let clients = self.each(|n| Create::client(store, format!("create-{when}-{n}"))).await?;
        self.phase(&format!("{CEILING}create, {when}"), clients).await.map(drop)
    }

    async fn patch_ceiling(&mut self, store: &Store, when: &str) -> Result<()> {
        let names: Vec<_> =
            (0..self.options.clients).map(|n| format!("patch-{when}-{n}")).collect();
        let clients = try_join_all(names.iter().map(|n| PatchOwn::client(store, n))).await?;
        self.phase(&format!("{CEILING}JSON patch, {when}"), clients).await.map(drop)
    }

    /// As many clients as the run has.
    async fn each<C, F: Future<Output = Result<C>>>(
        &self,
        make: impl FnMut(usize) -> F,
    ) -> Result<Vec<C>> {
        try_join_all((0..self.options.clients).map(make)).await
    }

    /// How large a Session is.
    async fn sizes(&mut self, stored: &serde_json::Value) -> Result<()> {
        let mut bare = stored.clone();
        if let Some(metadata) = bare["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let name = stored["metadata"]["name"].as_str().context("a Session without a name")?;
        let in_etcd = self.stage.bytes_in_etcd(name).await?;
        let without = bare.to_string().len();
        // Without groups it is a kilobyte: `e2e/tests/sign_in.rs` asserts it.
        self.report.fact("one Session (one group), JSON without managedFields", bytes(without));
        self.report.fact("the same with managedFields", bytes(stored.to_string().len()));
        self.report.fact("the same as etcd holds it", bytes(in_etcd));
        Ok(())
    }

    async fn idle_memory(&mut self, moment: &str) -> Result<()> {
        sleep(SETTLE).await;
        self.memory(moment)
    }

    fn memory(&mut self, moment: &str) -> Result<()> {
        let mut processes = BTreeMap::new();
        for process in &self.observed {
            processes.insert(process.name, process.memory()?);
        }
        self.report.memory.push(MemoryRow { moment: moment.to_owned(), processes });
        Ok(())
    }

    /// What three replicas ask of the API server while nobody asks anything of them; and plain HTTP, since two of them
    /// speak it.
    async fn three_replicas(&mut self) -> Result<()> {
        let (second, port) = self.stage.start_plain_replica("replica-1").await?;
        let (third, _port) = self.stage.start_plain_replica("replica-2").await?;
        sleep(SETTLE).await;
        let idle = self.options.measured * IDLE_PER_SECOND;
        say(&format!("three idle replicas, {} s", idle.as_secs()));
        let before = self.stage.counters().await?;
        sleep(idle).await;
        let requests = self.stage.counters().await?.since(&before);
        let writes: u64 =
            requests.iter().filter(|(what, _)| is_write(what)).map(|(_, count)| count).sum();
        self.report.fact(
            &format!("API requests in {} s, 3 idle replicas, without leases", idle.as_secs()),
            list(&requests),
        );
        self.report.must(
            "idle API writes, 3 replicas, without leases",
            ratio(usize::try_from(writes)?, 1),
            Bound::Exactly(0.0),
        );
        drop(third);
        self.observe(&second);
        let target = self.stage.plain_target(port.port());
        for (name, path) in
            [("discovery, plain HTTP", DISCOVERY), ("keys (JWKS), plain HTTP", "/keys")]
        {
            let clients = self.each(|_| Document::client(&target, path)).await?;
            self.phase(name, clients).await?;
        }
        Ok(())
    }

    /// A large installation: its memory, what a Session costs the API server, and how fast a replica is ready.
    async fn large(&mut self, replica: Replica) -> Result<()> {
        say(&format!("{} clients and {} connectors", scale::CLIENTS, scale::CONNECTORS));
        self.observe(&replica);
        let namespace = self.stage.installation().namespace().to_owned();
        let administrator = Administrator::new(self.stage.api_server_as_admin()?, &namespace);
        administrator.enlarge(&self.stage.issuer()).await?;
        administrator.wait_until_ready().await?;
        self.idle_memory(LARGE).await?;
        let mut store = self.stage.store()?;
        store.read_template().await?;
        let sessions = usize::try_from(self.options.measured.as_secs() * SESSIONS_PER_SECOND)?;
        say(&format!("{sessions} live sessions"));
        let before = self.heap().await?;
        scale::fill(&store, sessions, self.options.clients).await?;
        let each = (self.heap().await? - before) / ratio(sessions, 1);
        self.report.fact("API-server heap for one stored Session", format!("{each:.0} bytes"));
        let moment = format!("{LARGE}, {sessions} live sessions");
        self.idle_memory(&moment).await?;
        drop(replica);
        let replica = self.stage.start_replica().await?;
        self.observe(&replica);
        let ready = replica.ready_after.as_secs_f64();
        self.report.must("seconds from start to Ready", ready, Bound::AtMost(1.0));
        self.idle_memory(&format!("{moment}, restarted")).await
    }

    /// Live bytes of the API server's heap.
    async fn heap(&self) -> Result<f64> {
        // Twice: the first collection may have begun before what it should find was dropped.
        self.stage.collect_garbage().await?;
        self.stage.collect_garbage().await?;
        let metrics = self.stage.metrics().await?;
        gauge(&metrics, "go_memstats_heap_alloc_bytes").context("no heap among the metrics")
    }

    /// The numbers of the issue.
    fn judge(&mut self) {
        let report = &mut self.report;
        for (operation, reads) in [("login", 0.0), ("refresh", 0.0), ("unauthenticated /auth", 0.0)]
        {
            let writes = if operation.starts_with("unauth") { 0.0 } else { 1.0 };
            let phase = report.phases.iter().find(|phase| phase.name == operation);
            let (w, r) = phase.map_or((f64::NAN, f64::NAN), Phase::writes_and_reads);
            report.must(&format!("API writes of one {operation}"), w, Bound::Exactly(writes));
            report.must(&format!("API reads of one {operation}"), r, Bound::Exactly(reads));
        }
        let ceiling = |report: &Report, what: &str| {
            let of = |when| report.rate(&format!("{CEILING}{what}, {when}"));
            f64::midpoint(of("before"), of("after"))
        };
        let login = report.rate("login") / ceiling(report, "create");
        report.must("logins/s ÷ the API server's creates/s", login, Bound::AtLeast(0.45));
        let refresh = report.rate("refresh") / ceiling(report, "JSON patch");
        report.must("refreshes/s ÷ the API server's JSON patches/s", refresh, Bound::AtLeast(0.6));
        let (discovery, keys) = (report.rate("discovery"), report.rate("keys (JWKS)"));
        report.must(
            "unauthenticated /auth per second",
            report.rate("unauthenticated /auth"),
            Bound::AtLeast(5_000.0),
        );
        report.must("discovery per second", discovery, Bound::AtLeast(15_000.0));
        report.must("keys per second", keys, Bound::AtLeast(15_000.0));
        report.must("keys/s ÷ discovery/s", keys / discovery, Bound::AtLeast(0.9));
        // At every moment of such a kind, in the process that saw it all being made as well as in a restarted one.
        let most = |moment: &str| {
            let rows = report.memory.iter().filter(|row| row.moment.starts_with(moment));
            let claviger = rows.filter_map(|row| row.processes.get(super::report::CLAVIGER));
            claviger.map(|memory| megabytes(memory.resident)).fold(f64::NAN, f64::max)
        };
        let (idle, large) = (most(IDLE), most(LARGE));
        report.must("MB resident, idle", idle, Bound::AtMost(20.0));
        report.must("MB resident, large installation", large, Bound::AtMost(60.0));
    }
}

fn bytes(count: usize) -> String {
    format!("{count} bytes")
}

fn list(requests: &Requests) -> String {
    let all: Vec<_> = requests.iter().map(|(what, count)| format!("{what} {count}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Where and how: what a number is worth nothing without.
fn circumstances(options: &Options) -> Result<BTreeMap<String, String>> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("no {path}"));
    let processor = read("/proc/cpuinfo")?;
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism()?;
    let load = read("/proc/loadavg")?;
    let binary = crate::operator::binary()?;
    let size = std::fs::metadata(&binary)?.len();
    let rows = [
        ("machine", format!("{}, {cores} cores", model.map_or("unknown", |(_, m)| m.trim()))),
        ("load before", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("binary", format!("{:.1} MB", megabytes(size))),
        ("phases", format!("{} clients, {} s each", options.clients, options.measured.as_secs())),
    ];
    Ok(rows.into_iter().map(|(what, value)| (what.to_owned(), value)).collect())
}

fn say(what: &str) {
    thread_local! { static START: Instant = Instant::now(); }
    println!("bench: {:>4} s  {what}", START.with(|start| start.elapsed().as_secs()));
}

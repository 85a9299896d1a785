//! Against a small API server that keeps one Lease and can be made to fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use claviger_store::ApiTime;
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;

/// Longer than anything here takes, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(30);
const TERM: Term = Term { duration: 3, grace: 2 };

/// A clock that is trusted until told otherwise.
#[derive(Debug, Default)]
struct Doubtful(AtomicBool);

impl Clock for Doubtful {
    fn now(&self) -> i64 {
        0
    }

    fn doubt(&self) -> Option<String> {
        self.0.load(Ordering::SeqCst).then(|| "45 s ahead".into())
    }
}

/// The API server.
#[derive(Default)]
struct Server {
    lease: Mutex<Option<Value>>,
    refusal: Mutex<Option<StatusCode>>,
    refused: watch::Sender<usize>,
    writes: AtomicUsize,
}

impl Server {
    fn lease(&self) -> std::sync::MutexGuard<'_, Option<Value>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holder(&self) -> Option<String> {
        self.lease().as_ref()?["spec"]["holderIdentity"].as_str().map(ToOwned::to_owned)
    }

    /// What everything is answered with from now on, if anything.
    fn refuse(&self, refusal: Option<StatusCode>) {
        *self.refusal.lock().unwrap() = refusal;
    }

    fn refusal(&self) -> Option<Response> {
        let status = (*self.refusal.lock().unwrap())?;
        self.refused.send_modify(|refused| *refused += 1);
        let reason = if status == StatusCode::FORBIDDEN { "Forbidden" } else { "" };
        let body = json!({"kind": "Status", "status": "Failure", "code": status.as_u16(), "reason": reason});
        Some((status, Json(body)).into_response())
    }
}

fn answer(lease: Option<&Value>) -> Response {
    let date = [(header::DATE, "Wed, 25 Nov 2026 20:00:00 GMT")];
    if let Some(lease) = lease {
        return (date, Json(lease.clone())).into_response();
    }
    let status = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
    (StatusCode::NOT_FOUND, date, Json(status)).into_response()
}

async fn read(State(server): State<Arc<Server>>) -> Response {
    if let Some(refusal) = server.refusal() {
        return refusal;
    }
    answer(server.lease().as_ref())
}

async fn write(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    if let Some(refusal) = server.refusal() {
        return refusal;
    }
    server.writes.fetch_add(1, Ordering::SeqCst);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut lease = server.lease();
    let Some(lease) = lease.as_mut() else { return answer(None) };
    for (field, value) in body["spec"].as_object().unwrap() {
        lease["spec"][field] = value.clone();
    }
    answer(Some(lease))
}

async fn create(State(server): State<Arc<Server>>) -> Response {
    let mut lease = server.lease();
    let made = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                      "metadata": {"name": LEASE, "namespace": "home"}, "spec": {}});
    answer(Some(lease.insert(made)))
}

/// A contender at work.
struct Rig {
    server: Arc<Server>,
    clock: Arc<Doubtful>,
    leads: watch::Receiver<bool>,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Rig {
    async fn start() -> Self {
        Self::start_at(Server::default()).await
    }

    async fn start_at(server: Server) -> Self {
        let server = Arc::new(server);
        let leases = "/apis/coordination.k8s.io/v1/namespaces/home/leases";
        let router = Router::new()
            .route(leases, axum::routing::post(create))
            .route(&format!("{leases}/{LEASE}"), get(read).patch(write))
            .with_state(Arc::clone(&server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let config = kube::Config::new(url.parse().unwrap());
        let clock = Arc::new(Doubtful::default());
        let contender = Contender::new(
            &config,
            &Arc::new(ApiTime::default()),
            clock.clone(),
            ("home", "replica-1", TERM),
        );
        let leadership = Leadership::new(&Registry::new()).unwrap();
        let (leads, shutdown) = (leadership.subscribe(), CancellationToken::new());
        let running = tokio::spawn(contender.unwrap().run(leadership, shutdown.clone()));
        Self { server, clock, leads, shutdown, running }
    }

    async fn wait_until(&mut self, leads: bool) {
        let waited = timeout(PATIENCE, self.leads.wait_for(|now| *now == leads)).await;
        waited.unwrap_or_else(|_| panic!("never {leads}")).unwrap();
    }

    async fn wait_until_refused(&self) {
        let mut refused = self.server.refused.subscribe();
        timeout(PATIENCE, refused.changed()).await.unwrap().unwrap();
    }

    async fn end(self) -> (Arc<Server>, anyhow::Result<()>) {
        drop(self.leads);
        self.shutdown.cancel();
        (self.server, timeout(PATIENCE, self.running).await.unwrap().unwrap())
    }
}

#[tokio::test]
async fn a_leader_that_cannot_renew_leads_no_more_until_it_can() {
    let mut rig = Rig::start().await;
    rig.wait_until(true).await;
    rig.server.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    let away = Instant::now();
    rig.wait_until(false).await;
    // A renewal a second; whatever was renewed last was no later than the outage.
    assert!(away.elapsed() < Duration::from_secs(TERM.duration + 1), "{:?}", away.elapsed());
    assert_eq!(rig.server.holder().as_deref(), Some("replica-1"), "nobody else took it");
    rig.server.refuse(None);
    rig.wait_until(true).await;
    let (server, ended) = rig.end().await;
    ended.unwrap();
    assert_eq!(server.holder(), None, "given up at the end");
}

#[tokio::test]
async fn a_clock_in_doubt_gives_the_lease_up_and_does_not_contend() {
    let mut rig = Rig::start().await;
    rig.wait_until(true).await;
    rig.clock.0.store(true, Ordering::SeqCst);
    rig.wait_until(false).await;
    let released = async {
        while rig.server.holder().is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, released).await.unwrap();
    let writes = rig.server.writes.load(Ordering::SeqCst);
    sleep(Duration::from_secs(TERM.duration)).await; // it would have renewed three times
    assert_eq!(rig.server.writes.load(Ordering::SeqCst), writes);
    rig.clock.0.store(false, Ordering::SeqCst);
    rig.wait_until(true).await;
    rig.end().await.1.unwrap();
}

#[tokio::test]
async fn a_deleted_lease_is_made_again() {
    let mut rig = Rig::start().await;
    rig.wait_until(true).await;
    *rig.server.lease() = None;
    rig.wait_until(false).await;
    rig.wait_until(true).await;
    assert_eq!(rig.server.holder().as_deref(), Some("replica-1"));
    rig.end().await.1.unwrap();
}

#[tokio::test]
async fn a_denial_is_no_end_neither_at_first_nor_later() {
    let denying = Server { refusal: Mutex::new(Some(StatusCode::FORBIDDEN)), ..Server::default() };
    let mut rig = Rig::start_at(denying).await;
    rig.wait_until_refused().await;
    rig.server.refuse(None);
    rig.wait_until(true).await;
    rig.server.refuse(Some(StatusCode::FORBIDDEN));
    rig.wait_until(false).await;
    rig.wait_until_refused().await;
    rig.server.refuse(None);
    rig.wait_until(true).await;
    rig.end().await.1.unwrap();
}

#[tokio::test]
async fn a_dead_lease_task_ends_the_hold() {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let who = ("home", "replica-1", TERM);
    let time = Arc::new(ApiTime::default());
    let contender = Contender::new(&config, &time, Arc::new(Doubtful::default()), who).unwrap();
    let (_sender, held) = watch::channel(false);
    let mut task = tokio::spawn(async { panic!("the library's bug") });
    let leadership = Leadership::new(&Registry::new()).unwrap();
    let end = contender.hold(held, &mut task, &leadership, &CancellationToken::new()).await;
    let End::Died(why) = end else { panic!("it went on") };
    assert!(why.contains("panicked"), "{why}");
}

#[test]
fn a_grace_that_does_not_fit_names_the_fix() {
    for (duration, grace) in [(6, 6), (6, 0), (6, 7)] {
        let said = Term::new(duration, grace).unwrap_err().to_string();
        assert!(said.contains("--lease-grace-seconds must be between 1 and 5"), "{said}");
    }
    Term::new(6, 3).unwrap();
}

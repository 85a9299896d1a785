use std::collections::VecDeque;
use std::sync::Mutex;

use claviger_domain::device_page;
use claviger_domain::fakes::{World, alice};
use claviger_testkit::eventually;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;
use crate::certificates::Certificates;

/// An upstream that says what it was told to, and counts how often it was asked.
#[derive(Debug, Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<(), RecheckError>>>,
    departures: Mutex<VecDeque<NoVerdict>>,
    asked: Mutex<u32>,
    gate: Mutex<Option<Arc<Notify>>>,
}

impl Scripted {
    fn will_say(&self, answers: impl IntoIterator<Item = Result<(), RecheckError>>) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }

    async fn answer(&self) -> Result<(), RecheckError> {
        *self.asked.lock().unwrap() += 1;
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()))
    }
}

fn alice_here() -> Authenticated {
    Authenticated { identity: alice(), raw: serde_json::Map::new(), data: None }
}

#[async_trait]
impl Recheck for Scripted {
    fn consumes(&self, data: Option<&ConnectorData>) -> bool {
        data.is_some()
    }

    async fn recheck(
        &self,
        _: &Identity,
        _: Option<&ConnectorData>,
    ) -> Result<Authenticated, RecheckError> {
        self.answer().await.map(|()| alice_here())
    }
}

#[async_trait]
impl PasswordLogin for Scripted {
    fn username_label(&self) -> &'static str {
        "Badge number"
    }

    async fn authenticate(&self, _: &str, _: &SecretString) -> Result<Authenticated, LoginError> {
        match self.answer().await {
            Ok(()) => Ok(alice_here()),
            Err(RecheckError::Gone(why)) => Err(LoginError::InvalidCredentials(why)),
            Err(_) => Err(away_at_login()),
        }
    }
}

#[async_trait]
impl Probe for Scripted {
    async fn probe(&self) -> Result<(), ProbeError> {
        self.answer().await.map_err(|error| ProbeError {
            reason: "UpstreamUnreachable",
            message: error.to_string(),
        })
    }
}

/// Its pages are known without it, unless it was told what keeps them; what a browser brings back is what it was told to say.
#[async_trait]
impl RedirectLogin for Scripted {
    async fn depart(&self, _: &Trip<'_>) -> Result<Delivery, LoginError> {
        match self.departures.lock().unwrap().pop_front() {
            Some(why) => Err(LoginError::Unavailable(why)),
            None => Ok(Delivery::Redirect("https://idp.example.com/".into())),
        }
    }

    async fn arrive(&self, _: &Trip<'_>, _: &Params) -> Result<Arrival, LoginError> {
        match self.answer().await {
            Err(RecheckError::Gone(why)) => Err(LoginError::Refused(why)),
            Err(RecheckError::Unavailable(why)) => Err(LoginError::Unavailable(why)),
            _ => Err(away_at_login()),
        }
    }
}

/// What an observer was told.
#[derive(Debug, Default)]
struct Told {
    outcomes: Mutex<Vec<(Operation, Outcome)>>,
    circuit: Mutex<Vec<bool>>,
}

impl Told {
    fn outcomes(&self) -> Vec<(Operation, Outcome)> {
        std::mem::take(&mut self.outcomes.lock().unwrap())
    }

    fn circuit(&self) -> Vec<bool> {
        std::mem::take(&mut self.circuit.lock().unwrap())
    }
}

impl Observer for Told {
    fn asked(&self, connector: &str, operation: Operation, outcome: Outcome, _: Duration) {
        assert_eq!(connector, "corp");
        self.outcomes.lock().unwrap().push((operation, outcome));
    }

    fn circuit(&self, connector: &str, open: bool) {
        assert_eq!(connector, "corp");
        self.circuit.lock().unwrap().push(open);
    }
}

/// An upstream behind its guard.
struct Rig {
    peer: Arc<Scripted>,
    told: Arc<Told>,
    guard: Arc<Guard>,
    upstream: Upstream,
}

/// Whatever it takes is slow.
const ANY: Duration = Duration::ZERO;
/// Nothing is.
const AGES: Duration = Duration::from_hours(1);
/// Short enough to wait for, long enough to look at what happens before.
const OPEN: Duration = Duration::from_secs(1);
/// For what happens by itself.
const PATIENCE: Duration = Duration::from_secs(20);

impl Rig {
    fn new(slow: Duration, pause: Duration) -> Self {
        let (peer, told) = (Arc::new(Scripted::default()), Arc::new(Told::default()));
        let observer: Arc<dyn Observer> = Arc::clone(&told) as _;
        let upstream = Upstream {
            login: Login::Password(Arc::clone(&peer) as _),
            refresh: Refresh::Upstream { recheck: Arc::clone(&peer) as _, interval_seconds: 7 },
            sign_out: None,
            probe: Some(Arc::clone(&peer) as _),
            certificates: Certificates::default(),
        };
        let guard = Arc::new(Guard::new("corp", &observer, slow, pause));
        Self { peer, told, upstream: upstream.behind(&guard), guard }
    }

    async fn recheck(&self) -> Result<Identity, RecheckError> {
        let Refresh::Upstream { recheck, interval_seconds: 7 } = &self.upstream.refresh else {
            panic!("the way of refreshing is kept");
        };
        recheck.recheck(&alice(), None).await.map(|answer| answer.identity)
    }

    async fn sign_in(&self) -> Result<Authenticated, LoginError> {
        let Login::Password(login) = &self.upstream.login else { panic!("the login is kept") };
        assert_eq!(login.username_label(), "Badge number");
        login.authenticate("alice", &SecretString::from("secret")).await
    }

    /// Asks, unless the upstream is left alone.
    async fn tried(&self) -> anyhow::Result<()> {
        let answer = self.recheck().await;
        anyhow::ensure!(!is_left_alone(&answer), "not asked");
        Ok(())
    }

    fn has_been_asked(&self, times: u32) -> anyhow::Result<()> {
        let asked = self.peer.asked();
        anyhow::ensure!(asked == times, "asked {asked} times");
        Ok(())
    }

    /// Three questions in a row without an answer.
    async fn is_silent(&self) {
        self.peer.will_say([away(), away(), away()]);
        for _ in 0..3 {
            self.recheck().await.unwrap_err();
        }
    }
}

fn away() -> Result<(), RecheckError> {
    Err(RecheckError::Unavailable("away".into()))
}

fn away_at_login() -> LoginError {
    LoginError::Unavailable("away".into())
}

fn gone() -> Result<(), RecheckError> {
    Err(RecheckError::Gone("no such user".into()))
}

fn is_left_alone(answer: &Result<Identity, RecheckError>) -> bool {
    matches!(answer, Err(RecheckError::Unavailable(why)) if why.contains("left alone"))
}

#[tokio::test]
async fn after_three_slow_failures_in_a_row_an_upstream_is_left_alone_and_then_tried_again() {
    let rig = Rig::new(ANY, OPEN);
    rig.peer.will_say([away(), away(), Ok(()), away(), away()]);
    for _ in 0..5 {
        drop(rig.recheck().await);
    }
    assert_eq!(
        rig.told.circuit(),
        Vec::<bool>::new(),
        "an answer between them starts the count anew"
    );
    rig.peer.will_say([away()]);
    rig.recheck().await.unwrap_err();
    assert_eq!(rig.told.circuit(), [true]);
    rig.told.outcomes();

    let asked = rig.peer.asked();
    assert!(is_left_alone(&rig.recheck().await));
    let refused = rig.sign_in().await.unwrap_err();
    assert!(
        matches!(&refused, LoginError::Unavailable(why) if why.contains("left alone")),
        "{refused}"
    );
    assert_eq!(rig.peer.asked(), asked, "neither reached it");
    let not_asked = [Operation::Recheck, Operation::Password].map(|op| (op, Outcome::NotAsked));
    assert_eq!(rig.told.outcomes(), not_asked);

    rig.peer.will_say([away()]);
    eventually(PATIENCE, async || rig.tried().await).await.unwrap();
    assert_eq!(rig.told.circuit(), Vec::<bool>::new(), "it failed again, and is still left alone");
    eventually(PATIENCE, async || Ok(rig.recheck().await?)).await.unwrap();
    assert_eq!(rig.told.circuit(), [false]);
}

#[tokio::test]
async fn a_verdict_about_a_user_is_an_answer_and_closes_the_circuit() {
    let rig = Rig::new(ANY, ANY);
    rig.is_silent().await;
    rig.peer.will_say([gone()]);
    assert!(matches!(rig.recheck().await, Err(RecheckError::Gone(_))));
    assert_eq!(rig.told.circuit(), [true, false]);
}

#[tokio::test]
async fn a_rate_limit_is_the_word_of_an_upstream_that_is_there() {
    let rig = Rig::new(ANY, ANY);
    let busy = || Err(RecheckError::Unavailable(NoVerdict::busy("too much", Some(7))));
    let used_up = || {
        let (why, data) = (NoVerdict::busy("too much", None), ConnectorData(Vec::new()));
        Err(RecheckError::Interrupted { why, data })
    };
    rig.peer.will_say([busy(), used_up(), busy(), busy(), away(), away(), busy(), away()]);
    for _ in 0..8 {
        rig.recheck().await.unwrap_err();
    }
    assert_eq!(rig.told.circuit(), Vec::<bool>::new(), "it ends a row of failures, too");
    let outcomes = rig.told.outcomes().into_iter().map(|(_, outcome)| outcome.as_str());
    let [b, a] = ["busy", "unavailable"];
    assert_eq!(outcomes.collect::<Vec<_>>(), [b, b, b, b, a, a, b, a]);
    rig.is_silent().await;
    rig.peer.will_say([busy()]);
    rig.recheck().await.unwrap_err();
    assert_eq!(rig.told.circuit(), [true, false], "and closes the circuit");
}

#[tokio::test]
async fn what_fails_at_once_is_asked_each_time() {
    let rig = Rig::new(AGES, AGES);
    for _ in 0..10 {
        rig.is_silent().await;
    }
    assert_eq!(rig.recheck().await, Ok(alice()), "it is back the moment it is back");
    assert_eq!(rig.told.circuit(), Vec::<bool>::new());
    assert_eq!(
        rig.told.outcomes()[29..],
        [Outcome::Unavailable, Outcome::Ok].map(|o| (Operation::Recheck, o))
    );
}

#[tokio::test]
async fn one_question_at_a_time_finds_out_whether_it_is_back() {
    let rig = Arc::new(Rig::new(ANY, ANY));
    rig.is_silent().await;
    let gate = Arc::new(Notify::new());
    *rig.peer.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let first = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move { rig.recheck().await }
    });
    eventually(PATIENCE, async || rig.has_been_asked(4)).await.unwrap();
    for _ in 0..5 {
        let another = timeout(PATIENCE, rig.recheck()).await.expect("it was asked, and waits");
        assert!(is_left_alone(&another));
    }
    gate.notify_one();
    assert_eq!(first.await.unwrap(), Ok(alice()));
    *rig.peer.gate.lock().unwrap() = None;
    assert_eq!(rig.recheck().await, Ok(alice()), "everybody may ask again");
}

#[tokio::test]
async fn whoever_gives_up_waiting_gives_the_turn_back_and_counts() {
    let rig = Rig::new(ANY, ANY);
    *rig.peer.gate.lock().unwrap() = Some(Arc::default());
    for _ in 0..4 {
        let impatient = timeout(Duration::from_millis(5), rig.recheck()).await;
        assert!(impatient.is_err(), "it was asked, the fourth time as a trial");
    }
    assert_eq!(rig.told.outcomes(), [(Operation::Recheck, Outcome::Abandoned); 4]);
    assert_eq!(rig.told.circuit(), [true]);
    *rig.peer.gate.lock().unwrap() = None;
    assert_eq!(rig.recheck().await, Ok(alice()));
}

#[tokio::test]
async fn a_probe_is_never_held_back_and_closes_the_circuit_when_all_is_well() {
    let rig = Rig::new(ANY, AGES);
    rig.is_silent().await;
    let probe = rig.upstream.probe.as_ref().unwrap();
    rig.told.outcomes();
    rig.peer.will_say([away()]);
    probe.probe().await.unwrap_err();
    assert!(is_left_alone(&rig.recheck().await));
    probe.probe().await.unwrap();
    assert_eq!(rig.recheck().await, Ok(alice()));
    let expected = [
        (Operation::Probe, Outcome::Unavailable),
        (Operation::Recheck, Outcome::NotAsked),
        (Operation::Probe, Outcome::Ok),
        (Operation::Recheck, Outcome::Ok),
    ];
    assert_eq!(rig.told.outcomes(), expected);
}

#[tokio::test]
async fn an_upstream_that_is_taken_away_leaves_no_open_circuit() {
    let rig = Rig::new(ANY, AGES);
    rig.is_silent().await;
    let told = Arc::clone(&rig.told);
    drop(rig);
    assert_eq!(told.circuit(), [true, false]);
}

#[tokio::test]
async fn what_the_domain_asks_of_a_connector_is_passed_on() {
    let rig = Rig::new(ANY, ANY);
    let data = ConnectorData(vec![1]);
    assert!(rig.upstream.refresh.consumes(Some(&data)) && !rig.upstream.refresh.consumes(None));
    rig.peer.will_say([gone()]);
    assert!(matches!(rig.sign_in().await, Err(LoginError::InvalidCredentials(_))));
    assert_eq!(rig.told.outcomes(), [(Operation::Password, Outcome::Refused)]);
}

#[tokio::test]
async fn what_may_have_been_said_without_the_upstream_says_nothing_of_it() {
    let rig = Rig::new(ANY, AGES);
    let pages = behind(&rig.guard, Arc::clone(&rig.peer) as Arc<dyn RedirectLogin>);
    let world = World::new();
    let flow = device_page::begin(&world.provider, None);
    let trip = Trip::of(&world.issuer, &flow, &world.issuer.connectors[0], 0);
    let brought = Params::parse(b"error=access_denied").unwrap();
    for told in [None, None, Some(true)] {
        pages.depart(&trip).await.unwrap();
        rig.peer.will_say([gone()]);
        let refused = pages.arrive(&trip, &brought).await;
        assert!(matches!(refused, Err(LoginError::Refused(_))), "{refused:?}");
        rig.peer.will_say([away()]);
        rig.recheck().await.unwrap_err();
        assert_eq!(rig.told.circuit().first().copied(), told);
    }
    pages.depart(&trip).await.unwrap();
    assert!(is_left_alone(&rig.recheck().await), "that a browser was sent there closes nothing");
}

#[tokio::test]
async fn a_rate_limit_that_a_browser_met_opens_no_circuit_and_closes_none() {
    let rig = Rig::new(ANY, ANY);
    let pages = behind(&rig.guard, Arc::clone(&rig.peer) as Arc<dyn RedirectLogin>);
    let world = World::new();
    let flow = device_page::begin(&world.provider, None);
    let trip = Trip::of(&world.issuer, &flow, &world.issuer.connectors[0], 0);
    let brought = Params::parse(b"code=made-up").unwrap();
    let limited = async |times: usize| {
        for _ in 0..times {
            rig.peer.departures.lock().unwrap().push_back(NoVerdict::busy("too much", Some(7)));
            pages.depart(&trip).await.unwrap_err();
            rig.peer.will_say([Err(RecheckError::Unavailable(NoVerdict::busy("too much", None)))]);
            pages.arrive(&trip, &brought).await.unwrap_err();
        }
        let outcomes = rig.told.outcomes();
        let met = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Busy);
        assert_eq!(met.count(), 2 * times, "{outcomes:?}");
    };
    let silence = async || {
        rig.peer.will_say([away()]);
        rig.recheck().await.unwrap_err();
    };
    limited(10).await;
    assert_eq!(rig.told.circuit(), Vec::<bool>::new(), "strangers open nothing");
    for told in [None, None, Some(true)] {
        silence().await;
        limited(2).await;
        let told: Vec<bool> = told.into_iter().collect();
        assert_eq!(rig.told.circuit(), told, "nor is the count begun anew");
    }
    limited(1).await;
    assert_eq!(rig.told.circuit(), Vec::<bool>::new(), "nor is it closed, where a trial is due");
}

#[tokio::test]
async fn nobody_is_left_alone_over_users_that_are_kept_in_memory() {
    let rig = Rig::new(ANY, AGES);
    let peer = Arc::clone(&rig.peer);
    let upstream =
        Upstream { refresh: Refresh::Memory(Arc::clone(&peer) as _), ..rig.upstream.clone() };
    let upstream = Upstream { login: Login::Password(peer), ..upstream }.behind(&rig.guard);
    let Login::Password(login) = &upstream.login else { panic!("the login is kept") };
    for _ in 0..5 {
        rig.peer.will_say([away()]);
        let secret = SecretString::from("secret");
        assert_eq!(login.authenticate("alice", &secret).await.unwrap_err(), away_at_login());
    }
    assert_eq!(rig.told.circuit(), Vec::<bool>::new());
}

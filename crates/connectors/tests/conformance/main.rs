//! What every connector must stand, each against the same bad server: a wrong answer is an outage in words, in bounded
//! time and memory, and nobody's session ends over it.
//!
//! What a connector does with a good answer (sign-in, refusal, refresh, groups, an account that is gone, a Secret that
//! changes) is its upstream's own, and tested beside it: docs/connectors.md lists by which test.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod kinds;
mod peer;
mod table;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use claviger_api::{Reason, crds};
use claviger_connectors::{ProbeError, Upstream};
use claviger_domain::connector::{
    Authenticated, ConnectorData, Login, LoginError, RecheckError, Refresh,
};
use claviger_domain::device_page;
use claviger_domain::fakes::{World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::trip::Trip;
use claviger_protocol::form::Params;
use futures::future::join_all;
use secrecy::SecretString;

use crate::kinds::{HOSTS, KINDS, Kind};
use crate::peer::{Conduct, Peer};

/// Within this an upstream has answered or failed, whatever it does; the leader gives a probe as much.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most bytes that are taken of an answer without an end: four mebibytes, and what four sockets hold on the way.
const MOST: usize = 48 * 1024 * 1024;

/// What one connector made of a server.
struct Findings {
    kind: &'static str,
    probe: Option<Result<(), ProbeError>>,
    signed_in: Result<(), LoginError>,
    rechecked: Option<Result<Authenticated, RecheckError>>,
    slowest: Duration,
}

/// Signs in as far as one gets.
async fn sign_in(upstream: &Upstream) -> Result<(), LoginError> {
    match &upstream.login {
        Login::Password(login) => {
            login.authenticate("alice", &SecretString::from("secret")).await.map(drop)
        }
        Login::Redirect(login) => {
            let world = World::new();
            let mut connector = world.issuer.connectors[0].as_ref().clone();
            connector.login = upstream.login.clone();
            let flow = device_page::begin(&world.provider, None);
            let trip = Trip::of(&world.issuer, &flow, &connector, 1_764_000_000);
            login.depart(&trip).await?; // a vendor whose addresses are known need not be asked
            let query = format!("code=c0de&state={}", trip.state);
            login.arrive(&trip, &Params::parse(query.as_bytes()).unwrap()).await.map(drop)
        }
        Login::Proxy(_) => panic!("a proxy comes to us"),
    }
}

async fn recheck(kind: &Kind, upstream: &Upstream) -> Option<Result<Authenticated, RecheckError>> {
    let Refresh::Upstream { recheck, .. } = &upstream.refresh else { return None };
    let data = ConnectorData(kind.kept.as_bytes().to_vec());
    assert!(recheck.can_ask(Some(&data)), "{}: not what it keeps of a user", kind.name);
    let known = Identity { user_id: USER_ID.into(), ..alice() };
    Some(recheck.recheck(&known, Some(&data)).await)
}

/// A user's identifier that every kind takes for one.
const USER_ID: &str = "11111111-2222-3333-4444-555555555555";

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let since = Instant::now();
    (work.await, since.elapsed())
}

async fn find_out(kind: &'static Kind, peer: &Peer) -> Findings {
    let (upstream, _tunnel) = kind.connector(peer).await;
    let probe = async {
        match &upstream.probe {
            Some(probe) => Some(probe.probe().await),
            None => None,
        }
    };
    let (probe, signed_in, rechecked) =
        tokio::join!(timed(probe), timed(sign_in(&upstream)), timed(recheck(kind, &upstream)));
    let slowest = probe.1.max(signed_in.1).max(rechecked.1);
    Findings {
        kind: kind.name,
        probe: probe.0,
        signed_in: signed_in.0,
        rechecked: rechecked.0,
        slowest,
    }
}

/// What every connector makes of a server that behaves like this.
async fn judge(conduct: Conduct, reasons: &[Reason]) {
    let peer = Peer::start(conduct, &HOSTS).await;
    let findings = join_all(KINDS.iter().map(|kind| find_out(kind, &peer))).await;
    for found in findings {
        let (kind, slowest) = (found.kind, found.slowest);
        assert!(slowest < PATIENCE, "{kind}: {slowest:?}");
        let Some(Err(error)) = found.probe else { panic!("{kind}: {:?}", found.probe) };
        assert!(reasons.iter().any(|reason| reason.as_str() == error.reason), "{kind}: {error:?}");
        assert!(!error.message.contains("secret"), "{kind}: {error}");
        match found.signed_in {
            Err(LoginError::Unavailable(_) | LoginError::Unusable(_)) => {}
            other => panic!("{kind}: a sign-in came to {other:?}"),
        }
        match found.rechecked {
            Some(Err(RecheckError::Unavailable(_) | RecheckError::Interrupted { .. })) => {}
            None if kind == "saml" => {}
            other => panic!("{kind}: a re-check came to {other:?}"),
        }
    }
    let asked = peer.connections.load(Ordering::Relaxed);
    assert!(asked >= KINDS.len() || conduct == Conduct::Down, "{asked} connections");
    assert_eq!(peer.followed.load(Ordering::Relaxed), 0, "somebody went where it points");
    let most = peer.most_sent.load(Ordering::Relaxed);
    assert!(most < MOST, "{most} bytes of one answer");
}

#[test]
fn every_kind_of_the_schema_is_here() {
    let crds = serde_json::to_value(crds()).unwrap();
    let mut kinds = crds.as_array().unwrap().iter();
    let connector = kinds.find(|crd| crd["spec"]["names"]["kind"] == "Connector").unwrap();
    let versions = "/spec/versions/0/schema/openAPIV3Schema";
    let upstreams = format!("{versions}/properties/spec/properties/upstream/properties");
    let upstreams = connector.pointer(&upstreams).unwrap().as_object().unwrap();
    let said: BTreeSet<&str> = upstreams.keys().map(String::as_str).collect();
    let ask_nobody = ["local", "authProxy"];
    let known: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).chain(ask_nobody).collect();
    assert_eq!(said, known);
}

macro_rules! conducts {
    ($($test:ident: $conduct:ident => $($reason:ident)|+;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                judge(Conduct::$conduct, &[$(Reason::$reason),+]).await;
            }
        )+

        #[test]
        fn every_conduct_is_judged() {
            assert_eq!(Conduct::ALL, [$(Conduct::$conduct),+]);
        }
    };
}

conducts! {
    nobody_listens: Down => UpstreamUnreachable;
    it_says_nothing_at_all: Silent => UpstreamUnreachable;
    it_listens_and_never_answers: Mute => UpstreamUnreachable;
    it_shows_a_strangers_certificate: Stranger => UpstreamUntrusted;
    it_hangs_up: HangsUp => UpstreamUnreachable | UpstreamUnusable;
    it_answers_in_no_protocol: Noise => UpstreamUnreachable | UpstreamUnusable;
    it_answers_with_a_page_for_people: Page => UpstreamUnreachable | UpstreamUnusable;
    it_answers_with_nothing_in_it: Empty => UpstreamUnreachable | UpstreamUnusable;
    its_answer_has_no_end: Flood => UpstreamUnreachable | UpstreamUnusable;
    its_message_has_two_gigabytes: Message => UpstreamUnreachable | UpstreamUnusable;
    its_message_is_deep: Nested => UpstreamUnreachable | UpstreamUnusable;
    its_header_has_no_end: Headers => UpstreamUnreachable | UpstreamUnusable;
    it_points_to_an_address_inside: Redirect => UpstreamUnreachable | UpstreamUnusable;
    it_fails: Failing => UpstreamUnreachable | UpstreamUnusable;
    it_has_had_too_many_requests: Busy => UpstreamUnreachable | UpstreamUnusable;
}

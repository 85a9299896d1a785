//! What an application asks when its user signs out (RP-Initiated Logout 1.0).

use std::sync::OnceLock;

use claviger_domain::browser_session::{BrowserSessions, Ticket};
use claviger_domain::fakes::World;
use claviger_domain::logout::{Decision, decide};
use claviger_protocol::form::Params;
use claviger_protocol::logout::LogoutRequest;
use tokio::runtime::Runtime;

use super::signed::NOW;

const AFTERWARDS: &str = "https://app.example.org/bye?from=us";

/// What is read is written again; nobody is sent but to the one address that the client registered, with the state that was
/// sent; and no session ends without its form or its hint.
pub fn logout(bytes: &[u8]) {
    static WORLD: OnceLock<(Runtime, World)> = OnceLock::new();
    let (runtime, world) = WORLD.get_or_init(|| {
        let mut world = World::new();
        let day = 86_400;
        world.issuer.browser_sessions =
            Some(BrowserSessions { idle: day, absolute: day, consent: day });
        world.change_client("cli", |cli| {
            cli.post_logout_redirect_uris = [AFTERWARDS.to_owned()].into();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        (runtime.expect("a runtime"), world)
    });
    let Ok(params) = Params::parse(bytes) else { return };
    let Ok(request) = LogoutRequest::parse(&params) else { return };
    let again = Params::parse(request.query().as_bytes()).expect("what we print can be read");
    assert_eq!(LogoutRequest::parse(&again), Ok(request.clone()), "read otherwise");
    let fields: Params =
        request.fields().into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    assert_eq!(LogoutRequest::parse(&fields), Ok(request.clone()), "its form says otherwise");
    let csrf = params.get("csrf");
    let ticket = Ticket { session: "session".into(), checked_at: NOW };
    for ticket in [None, Some(ticket)] {
        let here = (&world.provider, &world.issuer);
        match runtime.block_on(decide(here, &request, (ticket.clone(), None), csrf)) {
            Ok(Decision::End { ticket: ended, location, .. }) => {
                assert!(ticket.is_none() && ended.is_none(), "a session ends at a stranger's word");
                goes_back(&request, location.as_deref());
            }
            Ok(Decision::Ask { .. }) => assert!(ticket.is_some(), "nobody is asked"),
            Ok(Decision::AskForUpstream { location, .. } | Decision::Leave { location, .. }) => {
                panic!("no upstream: {location}")
            }
            Err(_) => {}
        }
    }
}

fn goes_back(request: &LogoutRequest, location: Option<&str>) {
    assert_eq!(location.is_some(), request.post_logout_redirect_uri.is_some());
    let Some(location) = location else { return };
    assert_eq!(request.client_id.as_deref(), Some("cli"), "another client's address");
    let url = url::Url::parse(location).expect("an address");
    assert_eq!(location.split("&state=").next(), Some(AFTERWARDS), "{location}");
    let state = url.query_pairs().filter(|(name, _)| name == "state");
    let state: Vec<_> = state.map(|(_, value)| value.into_owned()).collect();
    assert_eq!(state, request.state.as_slice(), "{location}");
}

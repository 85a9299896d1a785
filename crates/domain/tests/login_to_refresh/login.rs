//! From the authorization request to a code, or an error in the right place.

use std::sync::Arc;

use claviger_domain::authorize::{self, AuthorizeError, Next};
use claviger_domain::connector::IdentityPolicy;
use claviger_domain::consent::Remembered;
use claviger_domain::fakes::{World, alice};
use claviger_domain::flow::{Flow, FlowError};
use claviger_domain::identity::Identity;
use claviger_domain::login::{self, Outcome, StepError};
use claviger_protocol::response_type::Delivery;

use crate::rig::{begin, query, redeem, request, sign_in};

#[tokio::test]
async fn reserved_names_and_groups_never_get_a_token() {
    let mut world = World::new();
    let masters = Identity { groups: vec!["system:masters".into()], ..alice() };
    world.upstream.put("alice", "wonderland", masters);
    let denied = |outcome| match outcome {
        Ok(Outcome::Answer(Delivery::Redirect(location))) => query(&location, "error"),
        other => panic!("{other:?}"),
    };
    let flow = begin(&world, &[]).flow;
    let outcome = sign_in(&world, &flow, "local", "wonderland").await;
    assert_eq!(denied(outcome).as_deref(), Some("access_denied"));
    let admin = Identity { preferred_username: Some("system:admin".into()), ..alice() };
    world.upstream.put("alice", "wonderland", admin);
    let outcome = sign_in(&world, &flow, "local", "wonderland").await;
    assert_eq!(denied(outcome).as_deref(), Some("access_denied"));
    world.issuer.allowed_system_values.insert("system:admin".into());
    let outcome = sign_in(&world, &flow, "local", "wonderland").await;
    assert_eq!(denied(outcome), None, "the issuer allows exactly this value");
}

#[tokio::test]
async fn a_prefix_that_completes_a_reserved_name_is_refused_too() {
    let mut world = World::new();
    let connector = Arc::make_mut(&mut world.issuer.connectors[0]);
    connector.policy =
        IdentityPolicy { group_prefix: "system:".into(), ..IdentityPolicy::default() };
    let flow = begin(&world, &[]).flow;
    let Ok(Outcome::Answer(Delivery::Redirect(location))) =
        sign_in(&world, &flow, "local", "wonderland").await
    else {
        panic!("no redirect");
    };
    assert_eq!(query(&location, "error").as_deref(), Some("access_denied"));
}

#[tokio::test]
async fn consent_is_asked_for_and_a_refusal_goes_to_the_client() {
    let mut world = World::new();
    world.change_client("kubernetes", |client| client.consent_required = true);
    let flow = begin(&world, &[]).flow;
    let Ok(Outcome::Consent(consent)) = sign_in(&world, &flow, "local", "wonderland").await else {
        panic!("no consent page");
    };
    let answer = async |flow: &Flow, approved| {
        let at = (flow, Remembered::default());
        login::answer_consent(&world.provider, &world.issuer, at, &consent.grant, approved)
            .await
            .map(|step| step.outcome)
    };
    let Ok(Outcome::Answer(Delivery::Redirect(refused))) = answer(&flow, false).await else {
        panic!()
    };
    assert_eq!(query(&refused, "error").as_deref(), Some("access_denied"));
    let other = begin(&world, &[]).flow;
    assert_eq!(answer(&other, true).await.unwrap_err(), StepError::Expired, "bound to its flow");
    let Ok(Outcome::Answer(Delivery::Redirect(granted))) = answer(&flow, true).await else {
        panic!()
    };
    redeem(&world, &query(&granted, "code").unwrap()).await.unwrap();
}

#[tokio::test]
async fn wrong_passwords_and_outages_are_told_apart() {
    let world = World::new();
    let flow = begin(&world, &[]).flow;
    let refused = StepError::InvalidCredentials;
    assert_eq!(sign_in(&world, &flow, "local", "wrong").await.unwrap_err(), refused);
    assert_eq!(sign_in(&world, &flow, "local", "").await.unwrap_err(), refused);
    let unknown = sign_in(&world, &flow, "nowhere", "wonderland").await.unwrap_err();
    assert_eq!(unknown, StepError::NoConnector);
    world.upstream.set_away(true);
    let away = sign_in(&world, &flow, "local", "wonderland").await.unwrap_err();
    assert!(matches!(away, StepError::Unavailable(_)));
}

#[tokio::test]
async fn a_flow_belongs_to_the_browser_that_began_it() {
    let world = World::new();
    let begun = begin(&world, &[]);
    assert_eq!(begun.next, Next::Choose);
    let now = 1_767_225_600;
    let cookies = [(begun.cookie.name.as_str(), begun.cookie.value.as_str())];
    let open = |state: &str, now| Flow::open(&world.issuer, state, cookies, now);
    assert_eq!(open(&begun.flow.id, now).unwrap(), begun.flow);
    assert_eq!(open(&begun.flow.id, now + 600).unwrap_err(), FlowError::Expired);
    assert_eq!(open("another", now).unwrap_err(), FlowError::NoCookie);
    let other = begin(&world, &[]);
    assert!(begun.flow.is_csrf_token(&world.issuer, &begun.flow.csrf_token(&world.issuer)));
    assert!(!begun.flow.is_csrf_token(&world.issuer, &other.flow.csrf_token(&world.issuer)));
}

#[tokio::test]
async fn errors_are_pages_until_the_redirect_uri_is_known_good() {
    let world = World::new();
    let refusal = |change: &[(&str, &str)]| {
        authorize::begin(&world.provider, &world.issuer, &request(change)).unwrap_err()
    };
    for change in [
        [("client_id", "nobody")],
        [("redirect_uri", "https://evil.example.org/")],
        [("redirect_uri", "")],
    ] {
        assert!(matches!(refusal(&change), AuthorizeError::Page(_)), "{change:?}");
    }
    for (change, error) in [
        ([("response_type", "nonsense")], "unsupported_response_type"),
        ([("scope", "email")], "invalid_scope"),
        ([("scope", "openid unknown")], "invalid_scope"),
        ([("scope", "openid audience:server:client_id:cli")], "invalid_scope"),
        ([("code_challenge_method", "plain")], "invalid_request"),
        ([("connector_id", "nowhere")], "invalid_request"),
        ([("request", "eyJ")], "request_not_supported"),
    ] {
        match refusal(&change) {
            AuthorizeError::Answer(Delivery::Redirect(location)) => {
                assert_eq!(query(&location, "error").as_deref(), Some(error), "{change:?}");
                assert_eq!(query(&location, "state").as_deref(), Some("st&te"));
                assert_eq!(query(&location, "iss").as_deref(), Some("https://id.example.org"));
            }
            other => panic!("{change:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn public_clients_must_use_pkce() {
    let world = World::new();
    let change = [("client_id", "cli"), ("code_challenge", ""), ("code_challenge_method", "")];
    let refused = authorize::begin(&world.provider, &world.issuer, &request(&change)).unwrap_err();
    let AuthorizeError::Answer(Delivery::Redirect(location)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(query(&location, "error").as_deref(), Some("invalid_request"));
}

#[tokio::test]
async fn issuers_on_one_host_leave_each_others_flows_alone() {
    let world = World::new();
    let mut other = World::new();
    other.issuer.uid = "uid-of-another-issuer".into();
    let mine = begin(&world, &[]).cookie;
    let theirs = begin(&other, &[]).cookie;
    let cookies = [(mine.name.as_str(), mine.value.as_str()), (&theirs.name, &theirs.value)];
    let surplus = claviger_domain::flow::surplus_cookies(&world.issuer, cookies, 1_767_225_600);
    assert!(surplus.is_empty(), "{surplus:?}");
}

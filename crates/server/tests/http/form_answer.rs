//! Connectors whose upstream makes the browser post its answer, which is good once.

use std::sync::Arc;

use axum::http::StatusCode;
use claviger_domain::client::ResponseType;
use claviger_domain::connector::{Login, Refresh};
use claviger_domain::fakes::{PostingUpstream, alice};
use claviger_domain::ports::SessionState;
use serde_json::json;

use crate::rig::{Answer, Browser, Rig, set_login};

fn rig() -> (Rig, Arc<PostingUpstream>) {
    let upstream = Arc::new(PostingUpstream::of(alice()));
    let rig = Rig::with(|world| {
        set_login(world, Login::Redirect(Arc::clone(&upstream) as _));
        for connector in &mut world.issuer.connectors {
            let mut there = connector.as_ref().clone();
            there.refresh = Refresh::Unsupported;
            *connector = Arc::new(there);
        }
    });
    (rig, upstream)
}

/// On its way: where to post, and what to say there but for the answer's name.
pub struct Away {
    departure: Answer,
    state: String,
    request: String,
}

impl Away {
    pub async fn with(browser: &mut Browser<'_>) -> Self {
        Self::asking(browser, &[]).await
    }

    async fn asking(browser: &mut Browser<'_>, change: &[(&str, &str)]) -> Self {
        let change = [&[("connector_id", "local")], change].concat();
        let mut answer = browser.authorize(&change).await;
        while !answer.location().starts_with("https://idp") {
            let next = answer.location();
            answer = browser.get(&next).await;
        }
        let said = |name| answer.redirect_param(name).unwrap_or_default();
        Self { state: said("state"), request: said("request"), departure: answer }
    }

    pub async fn answered(&self, rig: &Rig, browser: &mut Browser<'_>, name: &str) -> Answer {
        let callback = format!("{}/callback/local", rig.path);
        let form = [("State", self.state.as_str()), ("Request", &self.request), ("Answer", name)];
        browser.post(&callback, &form).await
    }
}

async fn code(rig: &Rig, browser: &mut Browser<'_>, name: &str) -> String {
    let away = Away::with(browser).await;
    away.answered(rig, browser, name).await.redirect_param("code").unwrap_or_default()
}

#[tokio::test]
async fn the_flow_s_cookie_comes_along_with_another_site_s_form() {
    let (rig, _) = rig();
    let mut browser = rig.browser();
    let begun = browser.authorize(&[("connector_id", "local")]).await;
    assert!(begun.cookies().iter().all(|cookie| cookie.contains("SameSite=Lax")), "not sooner");
    let away = Away::with(&mut browser).await;
    let [cookie] = &away.departure.cookies()[..] else { panic!("{:?}", away.departure) };
    for attribute in ["; SameSite=None", "; Secure", "; HttpOnly", "; Path=/", "; Max-Age=600"] {
        assert!(cookie.contains(attribute), "{cookie} has no {attribute}");
    }
    assert!(cookie.contains(&away.state), "it is the flow's own: {cookie}");
    browser.headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
    let code = away.answered(&rig, &mut browser, "one").await.redirect_param("code").unwrap();
    assert_eq!(rig.store_requests(), Vec::<&str>::new(), "nothing is stored on the way");
    let tokens = rig.redeem(&code).await.json();
    assert_eq!(tokens["refresh_token"], json!(null), "nobody vouches for the user later");
    assert_eq!(rig.store_requests(), ["create"]);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_refused_in_words() {
    let (rig, _) = rig();
    let callback = format!("{}/callback/local", rig.path);
    let mut browser = rig.browser();
    let away = Away::with(&mut browser).await;
    let unasked = browser.post(&callback, &[("Answer", "one")]).await;
    assert_eq!(unasked.status, StatusCode::BAD_REQUEST);
    assert!(unasked.body.contains("must begin at the application"), "{}", unasked.body);
    let elsewhere = away.answered(&rig, &mut rig.browser(), "one").await;
    assert_eq!(elsewhere.status, StatusCode::BAD_REQUEST, "another browser has no such cookie");
    assert!(elsewhere.body.contains("was not started here"), "{}", elsewhere.body);
    let other = Away::with(&mut browser).await;
    let mixed = Away { request: other.request, ..away };
    let mixed = mixed.answered(&rig, &mut browser, "one").await;
    assert_eq!(mixed.status, StatusCode::BAD_REQUEST, "another flow's answer");
    assert!(mixed.body.contains("could not be verified"), "{}", mixed.body);
    assert_eq!(rig.store_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn an_answer_is_good_once_whichever_flow_and_browser_it_is_shown_in() {
    let (rig, _) = rig();
    let mut browser = rig.browser();
    let away = Away::with(&mut browser).await;
    let first = away.answered(&rig, &mut browser, "one").await.redirect_param("code").unwrap();
    let twice = away.answered(&rig, &mut browser, "one").await.redirect_param("code").unwrap();
    let elsewhere = code(&rig, &mut rig.browser(), "one").await;
    let tokens = rig.redeem(&first).await.json();
    for replayed in [&twice, &elsewhere] {
        let refused = rig.redeem(replayed).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.json()["error"], "invalid_grant");
    }
    assert_eq!(rig.store_requests(), ["create", "create", "get", "create", "get"]);
    let userinfo = rig.userinfo(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!(userinfo.status, StatusCode::OK, "who was first is not harmed");
    let another = code(&rig, &mut browser, "two").await;
    assert_eq!(rig.redeem(&another).await.status, StatusCode::OK, "another answer is another");
}

/// No code names a session here: the ID token leaves at once, and the answer is used up first.
#[tokio::test]
async fn an_answer_is_good_once_where_tokens_come_without_a_code_too() {
    for response_type in ["id_token", "code id_token", "id_token token", "code token"] {
        let upstream = Arc::new(PostingUpstream::of(alice()));
        let rig = Rig::with(|world| {
            set_login(world, Login::Redirect(Arc::clone(&upstream) as _));
            world.issuer.response_types = ResponseType::ALL.into();
            world.change_client("kubernetes", |client| {
                client.response_types = ResponseType::ALL.into();
            });
            for connector in &mut world.issuer.connectors {
                let mut there = connector.as_ref().clone();
                there.refresh = Refresh::Unsupported;
                *connector = Arc::new(there);
            }
        });
        let change = [("response_type", response_type), ("nonce", "n")];
        let mut browser = rig.browser();
        let away = Away::asking(&mut browser, &change).await;
        let first = away.answered(&rig, &mut browser, "one").await.location();
        assert!(!first.contains("error="), "{response_type}: {first}");
        let twice = away.answered(&rig, &mut browser, "one").await.location();
        let mut elsewhere = rig.browser();
        let away = Away::asking(&mut elsewhere, &change).await;
        let replayed = away.answered(&rig, &mut elsewhere, "one").await.location();
        for refused in [twice, replayed] {
            assert!(refused.contains("error=access_denied"), "{response_type}: {refused}");
            assert!(!refused.contains("id_token=") && !refused.contains("access_token="));
        }
        assert_eq!(rig.store_requests(), ["create", "create", "create"], "{response_type}");
        let now = rig.world.provider.clock.now();
        let [session] = &rig.world.sessions.all()[..] else { panic!("one session") };
        assert!(session.expires_at >= now + 720, "{response_type}: forgotten too soon");
    }
}

#[tokio::test]
async fn a_code_that_is_replayed_costs_its_session_as_ever() {
    let (rig, _) = rig();
    let code = code(&rig, &mut rig.browser(), "one").await;
    assert_eq!(rig.redeem(&code).await.status, StatusCode::OK);
    assert_eq!(rig.redeem(&code).await.json()["error"], "invalid_grant");
    assert_eq!(rig.store_requests(), ["create", "create", "get", "revoke"]);
}

#[tokio::test]
async fn what_an_answer_became_is_remembered_for_as_long_as_it_could_be_shown_again() {
    let (rig, upstream) = rig();
    let small = code(&rig, &mut rig.browser(), "small").await;
    rig.redeem(&small).await;
    let mut large = alice();
    large.groups = (0..400).map(|n| format!("a group with a long name, number {n}")).collect();
    upstream.set_user(large);
    let large = code(&rig, &mut rig.browser(), "large").await;
    let mut again = rig.browser();
    let away = Away::with(&mut again).await;
    let refused = away.answered(&rig, &mut again, "large").await;
    assert_eq!(refused.redirect_param("error").as_deref(), Some("access_denied"), "it waits");
    assert_eq!(rig.redeem(&large).await.status, StatusCode::OK);
    let now = rig.world.provider.clock.now();
    for session in rig.world.sessions.all() {
        assert_eq!(session.state, SessionState::Active);
        assert!(session.expires_at >= now + 720, "{} is forgotten too soon", session.expires_at);
    }
}

#[tokio::test]
async fn an_answer_comes_by_the_way_its_upstream_takes() {
    let (rig, _) = rig();
    let mut browser = rig.browser();
    let away = Away::with(&mut browser).await;
    let (state, request) = (&away.state, &away.request);
    let link = format!("{}/callback/local?state={state}&State={state}&Request={request}", rig.path);
    let by_link = browser.get(&link).await;
    assert_eq!(by_link.status, StatusCode::BAD_REQUEST, "{by_link:?}");
    let links = Rig::with(|world| {
        let upstream = claviger_domain::fakes::RotatingUpstream::of(alice());
        set_login(world, Login::Redirect(Arc::new(upstream)));
    });
    let by_form = links.post("/callback/local", &[("State", state)]).await;
    assert_eq!(by_form.status, StatusCode::METHOD_NOT_ALLOWED);
    let passwords = Rig::with_one_connector().post("/callback/local", &[("State", state)]).await;
    assert_eq!(passwords.status, StatusCode::METHOD_NOT_ALLOWED);
    let nobody = rig.post("/callback/nobody", &[("State", state)]).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_may_be_large_and_no_larger() {
    let (rig, _) = rig();
    let mut browser = rig.browser();
    let away = Away::with(&mut browser).await;
    let large = "x".repeat(400 * 1024);
    let answer = away.answered(&rig, &mut browser, &large).await;
    assert!(answer.redirect_param("code").is_some(), "{answer:?}");
    let too_large = "x".repeat(450 * 1024);
    let answer = away.answered(&rig, &mut browser, &too_large).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let elsewhere = rig.post("/token", &[("code", &"x".repeat(100 * 1024))]).await;
    assert_eq!(elsewhere.status, StatusCode::PAYLOAD_TOO_LARGE, "as ever");
}

#[tokio::test]
async fn what_to_register_at_the_upstream_is_served_as_a_document() {
    let (rig, _) = rig();
    let document = rig.get("/callback/local/metadata").await;
    assert_eq!(document.header("content-type"), "application/xml");
    let callback = rig.world.issuer.url.join("/callback/local");
    assert_eq!(document.body, format!("<at>{callback}</at>"));
    assert_eq!(rig.get("/callback/nobody/metadata").await.status, StatusCode::NOT_FOUND);
    let passwords = Rig::with_one_connector().get("/callback/local/metadata").await;
    assert_eq!(passwords.status, StatusCode::NOT_FOUND);
}

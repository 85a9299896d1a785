//! A device's request and polls, and the page where its user lets it in.

use axum::http::StatusCode;
use claviger_domain::browser_session::{BrowserSessions, Sharing};
use claviger_domain::client::Grant;
use claviger_domain::fakes::{World, alice};
use claviger_domain::identity::Identity;
use claviger_domain::ports::{RevocationReason, Sessions};
use serde_json::Value;

use crate::rig::{Answer, Browser, CREDENTIALS, Rig};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn rig_with(change: impl FnOnce(&mut World)) -> Rig {
    Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.issuer.grants.insert(Grant::DeviceCode);
        world.change_client("kubernetes", |client| {
            client.grants.insert(Grant::DeviceCode);
        });
        change(world);
    })
}

fn rig() -> Rig {
    rig_with(|_| {})
}

async fn ask(rig: &Rig) -> Answer {
    let form = [&CREDENTIALS[..], &[("scope", "openid email")]].concat();
    rig.post("/device/code", &form).await
}

async fn waiting(rig: &Rig) -> Value {
    let answer = ask(rig).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

async fn poll(rig: &Rig, device: &Value) -> Answer {
    rig.world.clock.advance(5);
    let code = device["device_code"].as_str().unwrap();
    rig.token(&[("grant_type", GRANT), ("device_code", code)]).await
}

/// Opens the page and signs in, where that is asked for.
async fn entry(browser: &mut Browser<'_>, query: &str) -> Answer {
    entry_of(browser, query, "alice").await
}

async fn entry_of(browser: &mut Browser<'_>, query: &str, user: &str) -> Answer {
    let mut target = format!("/device{query}");
    for _ in 0..4 {
        let answer = browser.get(&target).await;
        if answer.status == StatusCode::SEE_OTHER {
            target = answer.location();
        } else if answer.body.contains("name=\"password\"") {
            return browser.sign_in(&(target, answer), user, "wonderland").await;
        } else {
            return answer;
        }
    }
    panic!("{target} leads nowhere");
}

fn action(page: &Answer) -> String {
    let (_, rest) = page.body.split_once("action=\"").unwrap();
    rest.split_once('"').unwrap().0.replace("&#38;", "&")
}

async fn type_in(browser: &mut Browser<'_>, page: &Answer, code: &str) -> Answer {
    let (csrf, sign_in) = (page.hidden("csrf"), page.hidden("sign_in"));
    let form = [("csrf", csrf.as_str()), ("sign_in", &sign_in), ("user_code", code)];
    browser.post(&action(page), &form).await
}

async fn decide(browser: &mut Browser<'_>, page: &Answer, decision: &str) -> Answer {
    let fields = ["csrf", "sign_in", "user_code", "confirmation"];
    let values = fields.map(|name| page.hidden(name));
    let mut form: Vec<_> = fields.into_iter().zip(values.iter().map(String::as_str)).collect();
    form.push(("decision", decision));
    browser.post(&action(page), &form).await
}

#[tokio::test]
async fn a_device_is_let_in_by_a_user_who_signs_in_at_its_page_first() {
    let rig = rig();
    let device = waiting(&rig).await;
    let mut browser = rig.browser();
    let entered = entry(&mut browser, "").await;
    assert_eq!(entered.status, StatusCode::OK, "{entered:?}");
    assert!(entered.body.contains("signed in as alice"), "{entered:?}");
    let typed = device["user_code"].as_str().unwrap().to_lowercase();
    let confirm = type_in(&mut browser, &entered, &typed).await;
    assert_eq!(confirm.status, StatusCode::OK, "{confirm:?}");
    for said in ["Let kubernetes in?", device["user_code"].as_str().unwrap(), "Your mail address"] {
        assert!(confirm.body.contains(said), "{said}: {confirm:?}");
    }
    assert!(!confirm.body.contains("<script"), "no page here needs one");
    let done = decide(&mut browser, &confirm, "approve").await;
    assert!(done.body.contains("Your device is let in"), "{done:?}");
    let tokens = poll(&rig, &device).await;
    assert_eq!(tokens.status, StatusCode::OK, "{tokens:?}");
    assert!(tokens.json()["id_token"].is_string());
    assert_eq!(rig.store_requests(), ["create"]);
    assert_eq!(rig.world.devices.take_requests(), ["create", "decide"]);
}

#[tokio::test]
async fn errors_of_polls_are_what_rfc_8628_has() {
    let rig = rig();
    let device = waiting(&rig).await;
    let refused = |answer: &Answer, error: &str| {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert_eq!(answer.json()["error"], error);
    };
    refused(&poll(&rig, &device).await, "authorization_pending");
    let code = device["device_code"].as_str().unwrap();
    let at_once = rig.token(&[("grant_type", GRANT), ("device_code", code)]).await;
    refused(&at_once, "slow_down");
    let mut browser = rig.browser();
    let entered = entry(&mut browser, "").await;
    let user_code = device["user_code"].as_str().unwrap();
    let confirm = type_in(&mut browser, &entered, user_code).await;
    let done = decide(&mut browser, &confirm, "deny").await;
    assert!(done.body.contains("The device was refused"), "{done:?}");
    rig.world.clock.advance(5);
    refused(&poll(&rig, &device).await, "access_denied");
    rig.world.clock.advance(300);
    refused(&poll(&rig, &device).await, "expired_token");
    refused(&rig.token(&[("grant_type", GRANT), ("device_code", "x")]).await, "invalid_grant");
    refused(&rig.token(&[("grant_type", GRANT)]).await, "invalid_request");
}

#[tokio::test]
async fn the_code_in_the_address_is_filled_in_and_still_asked_about() {
    let rig = rig();
    let device = waiting(&rig).await;
    let code = device["user_code"].as_str().unwrap();
    let mut browser = rig.browser();
    let entered = entry(&mut browser, &format!("?user_code={code}")).await;
    assert_eq!(entered.hidden("user_code"), code);
    assert!(rig.world.devices.all()[0].payload.len() > 10, "nothing was decided");
    assert_eq!(rig.world.devices.take_requests(), ["create"]);
    let other = entry(&mut rig.browser(), "?user_code=%3Cscript%3E").await;
    assert_eq!(other.hidden("user_code"), "", "what can be no code is not shown");
}

#[tokio::test]
async fn with_single_sign_on_the_code_is_asked_for_at_once() {
    let rig = rig_with(|world| {
        let policy = BrowserSessions { idle: 3_600, absolute: 36_000, consent: 86_400 };
        world.issuer.browser_sessions = Some(policy);
    });
    let device = waiting(&rig).await;
    let mut browser = rig.browser();
    browser.code(&[]).await;
    rig.store_requests();
    let entered = browser.get("/device").await;
    assert_eq!(entered.status, StatusCode::OK, "{entered:?}");
    assert_eq!(rig.store_requests(), ["get"]);
    let user_code = device["user_code"].as_str().unwrap();
    let confirm = type_in(&mut browser, &entered, user_code).await;
    decide(&mut browser, &confirm, "approve").await;
    let tokens = poll(&rig, &device).await;
    let claims = crate::rig::claims(&tokens.json()["id_token"]);
    assert!(claims.get("sid").is_none(), "the device is not in this browser: {claims}");

    // What the page carries is worth nothing once its user has signed out.
    let other = waiting(&rig).await;
    for session in rig.world.sessions.all() {
        let reason = RevocationReason::SignedOut;
        rig.world.sessions.revoke(&session.name, reason, 0).await.unwrap();
    }
    let answer = type_in(&mut browser, &entered, other["user_code"].as_str().unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
}

#[tokio::test]
async fn a_client_that_shares_no_session_has_its_user_sign_in_again_with_the_code_kept() {
    let rig = rig_with(|world| {
        let policy = BrowserSessions { idle: 3_600, absolute: 36_000, consent: 86_400 };
        world.issuer.browser_sessions = Some(policy);
        world.change_client("kubernetes", |client| client.sharing = Sharing::Separate);
    });
    let device = waiting(&rig).await;
    let user_code = device["user_code"].as_str().unwrap();
    let mut browser = rig.browser();
    entry(&mut browser, "").await;
    let entered = browser.get("/device").await;
    assert_eq!(entered.status, StatusCode::OK, "{entered:?}");
    let led_back = type_in(&mut browser, &entered, user_code).await;
    assert_eq!(led_back.status, StatusCode::SEE_OTHER, "{led_back:?}");
    let mut target = led_back.location();
    let form = loop {
        let answer = browser.get(&target).await;
        if answer.status != StatusCode::SEE_OTHER {
            break (target, answer);
        }
        target = answer.location();
    };
    assert!(form.1.body.contains("name=\"password\""), "{:?}", form.1);
    let entered = browser.sign_in(&form, "alice", "wonderland").await;
    assert!(entered.body.contains(user_code), "{entered:?}");
    let confirm = type_in(&mut browser, &entered, user_code).await;
    decide(&mut browser, &confirm, "approve").await;
    assert_eq!(poll(&rig, &device).await.status, StatusCode::OK);
}

#[tokio::test]
async fn nobody_tries_codes_without_having_signed_in_here() {
    let rig = rig();
    let device = waiting(&rig).await;
    let code = device["user_code"].as_str().unwrap();
    let stranger = rig.post("/device", &[("user_code", code)]).await;
    assert_eq!(stranger.status, StatusCode::BAD_REQUEST, "{stranger:?}");
    let mut browser = rig.browser();
    let entered = entry(&mut browser, "").await;
    let (csrf, sign_in) = (entered.hidden("csrf"), entered.hidden("sign_in"));
    let target = action(&entered);
    let payload = rig.world.devices.all()[0].payload.clone();
    let without = |csrf: &str, sign_in: &str| {
        vec![
            ("csrf", csrf.to_owned()),
            ("sign_in", sign_in.to_owned()),
            ("user_code", code.to_owned()),
        ]
    };
    for form in
        [without("", &sign_in), without(&csrf, ""), without(&csrf, &csrf), without(&csrf, &payload)]
    {
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = browser.post(&target, &form).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
        assert!(!answer.body.contains("Let kubernetes in?"), "{answer:?}");
    }
    // The flow of an application's sign-in is none of this page.
    let mut other = rig.browser();
    let form = other.login_form(&[]).await;
    let state = form.0.split_once("state=").unwrap().1.to_owned();
    let csrf = form.1.hidden("csrf");
    let fields = [("csrf", csrf.as_str()), ("sign_in", &sign_in), ("user_code", code)];
    let answer = other.post(&format!("/device?state={state}"), &fields).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
}

#[tokio::test]
async fn a_user_who_guesses_codes_must_wait_and_is_told_nothing() {
    let rig = rig();
    waiting(&rig).await;
    let mut browser = rig.browser();
    let entered = entry(&mut browser, "").await;
    for tries in 0..6 {
        let answer = type_in(&mut browser, &entered, "BCDF-GHJK").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{tries}: {answer:?}");
        assert!(answer.body.contains("No device waits with this code"), "{answer:?}");
    }
    let answer = type_in(&mut browser, &entered, "BCDF-GHJK").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=31).contains(&seconds), "{seconds}");
    // Another sign-in of the same user does not begin anew.
    let again = entry(&mut rig.browser(), "").await;
    assert_eq!(again.status, StatusCode::OK);
    let answer = type_in(&mut browser, &entered, "BCDF-GHJL").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
}

#[tokio::test]
async fn users_of_one_address_who_guess_codes_must_wait_all_together() {
    let rig = rig();
    let (mut wrong, mut told_to_wait) = (0, false);
    for user in 0..24 {
        let name = format!("user-{user}");
        let identity = Identity { user_id: name.clone(), ..alice() };
        rig.world.upstream.put(&name, "wonderland", identity);
        let mut browser = rig.browser();
        let entered = entry_of(&mut browser, "", &name).await;
        // One user alone may go wrong as often as this.
        for _ in 0..4 {
            let answer = type_in(&mut browser, &entered, "BCDF-GHJK").await;
            told_to_wait = answer.status == StatusCode::TOO_MANY_REQUESTS;
            if told_to_wait {
                break;
            }
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
            wrong += 1;
        }
        if told_to_wait {
            break;
        }
    }
    assert!(told_to_wait, "{wrong} wrong codes of one address");
    assert!(wrong >= 50, "one address has room for many users: {wrong}");
}

#[tokio::test]
async fn an_address_that_asks_for_too_many_codes_must_wait_and_nothing_is_written() {
    let rig = rig();
    let refused = async || {
        let answer = rig.post("/device/code", &[("client_id", "kubernetes"), ("scope", "openid")]);
        assert_eq!(answer.await.status, StatusCode::UNAUTHORIZED, "uses nothing up");
    };
    refused().await;
    for _ in 0..9 {
        waiting(&rig).await;
    }
    assert_eq!(rig.world.devices.take_requests().len(), 9);
    let answer = ask(&rig).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=41).contains(&seconds), "{seconds}");
    assert_eq!(rig.world.devices.take_requests(), Vec::<&str>::new());
}

#[tokio::test]
async fn over_the_cap_a_device_is_told_to_come_later() {
    let rig = rig_with(|world| world.issuer.devices.per_client = 1);
    waiting(&rig).await;
    let answer = ask(&rig).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(rig.world.devices.take_requests(), ["create"]);
}

#[tokio::test]
async fn an_issuer_that_does_not_offer_it_has_no_such_page_and_does_not_say_so() {
    let rig = Rig::with_one_connector();
    assert_eq!(rig.get("/device").await.status, StatusCode::NOT_FOUND);
    let metadata = rig.get("/.well-known/openid-configuration").await.json();
    assert!(metadata.get("device_authorization_endpoint").is_none(), "{metadata}");
    let answer = ask(&rig).await;
    assert_eq!(answer.json()["error"], "unsupported_grant_type");
    let offered = self::rig();
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let metadata = offered.get(path).await.json();
        let endpoint = "https://id.example.org/device/code";
        assert_eq!(metadata["device_authorization_endpoint"], endpoint);
        assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&GRANT.into()));
    }
}

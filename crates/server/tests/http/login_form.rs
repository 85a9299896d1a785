//! The login form and its cookie: whose browser it is, who may post it, and how often.

use axum::http::StatusCode;
use claviger_domain::flow::{FLOW_SECONDS, MAX_FLOWS};
use claviger_domain::issuer::IssuerUrl;

use crate::rig::Rig;

#[tokio::test]
async fn the_flow_cookie_is_locked_to_host_browser_and_ten_minutes() {
    let rig = Rig::new();
    let begun = rig.browser().authorize(&[]).await;
    let cookies = begun.cookies();
    let [cookie] = cookies.as_slice() else { panic!("{cookies:?}") };
    assert!(cookie.starts_with("__Host-claviger-flow-"), "{cookie}");
    let mut attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=Lax", "Secure"]);
    assert!(cookie.len() < 1_700, "{} bytes", cookie.len());
}

#[tokio::test]
async fn on_plain_http_the_cookie_is_not_secure_but_still_http_only() {
    let rig = Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.issuer.url = IssuerUrl::parse("http://127.0.0.1:5556/dex").unwrap();
    });
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let name = browser.jar.keys().next().unwrap();
    assert!(name.starts_with("claviger-flow-"), "{name}");
    let begun = browser.authorize(&[]).await;
    assert!(!begun.cookies()[0].contains("Secure") && begun.cookies()[0].contains("HttpOnly"));
    let answer = browser.sign_in(&form, "alice", "wonderland").await;
    assert!(answer.redirect_param("code").is_some(), "{answer:?}");
}

#[tokio::test]
async fn the_fifth_open_flow_takes_the_place_of_the_first() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let first = browser.login_form(&[]).await;
    for _ in 1..=MAX_FLOWS {
        rig.world.clock.advance(1);
        browser.login_form(&[]).await;
        assert!(browser.jar.len() <= MAX_FLOWS, "{:?}", browser.jar.keys());
    }
    let gone = browser.sign_in(&first, "alice", "wonderland").await;
    assert_eq!(gone.status, StatusCode::BAD_REQUEST);
    let last = browser.login_form(&[]).await;
    let answer = browser.sign_in(&last, "alice", "wonderland").await;
    assert!(answer.redirect_param("code").is_some());
}

#[tokio::test]
async fn a_wrong_password_shows_the_form_again_and_tells_nothing_about_the_user() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let known = browser.sign_in(&form, "alice", "looking-glass").await;
    let unknown = browser.sign_in(&form, "queen", "looking-glass").await;
    assert_eq!(known.status, StatusCode::UNAUTHORIZED);
    assert_eq!(unknown.status, known.status);
    assert_eq!(unknown.body.replace("queen", "alice"), known.body);
    assert!(known.body.contains("role=\"alert\"") && known.body.contains("type=\"password\""));
    assert!(!known.body.contains("looking-glass"), "the password is not repeated");
    for (user, password) in [("", ""), ("alice", ""), ("", "wonderland")] {
        assert_eq!(browser.sign_in(&form, user, password).await.status, StatusCode::UNAUTHORIZED);
    }
    let again = (form.0.clone(), known);
    let answer = browser.sign_in(&again, "alice", "wonderland").await;
    assert!(answer.redirect_param("code").is_some(), "the form that came back works: {answer:?}");
}

#[tokio::test]
async fn markup_in_a_user_name_stays_text() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let answer = browser.sign_in(&form, "\"><script>alert(1)</script>", "x").await;
    assert!(!answer.body.contains("<script"), "{answer:?}");
}

#[tokio::test]
async fn a_form_counts_only_in_the_browser_it_was_shown_in() {
    let rig = Rig::with_one_connector();
    let (mut alice, mut mallory) = (rig.browser(), rig.browser());
    let hers = alice.login_form(&[]).await;
    let his = mallory.login_form(&[]).await;

    let elsewhere = rig.browser().get(&hers.0).await;
    assert_eq!(elsewhere.status, StatusCode::BAD_REQUEST, "a forged link shows no form");
    assert!(!elsewhere.body.contains("type=\"password\""));
    let elsewhere = rig.browser().sign_in(&hers, "alice", "wonderland").await;
    assert_eq!(elsewhere.status, StatusCode::BAD_REQUEST);
    let fields = [("login", "alice"), ("password", "wonderland")];
    assert_eq!(alice.post(&hers.0, &fields).await.status, StatusCode::FORBIDDEN);
    let mixed = (hers.0.clone(), his.1);
    let crossed = alice.sign_in(&mixed, "alice", "wonderland").await;
    assert_eq!(crossed.status, StatusCode::FORBIDDEN, "another flow's form token");

    // His cookie's value below her cookie's name: the seal is bound to the flow.
    let (name, _) = alice.jar.first_key_value().map(|(n, v)| (n.clone(), v.clone())).unwrap();
    let value = mallory.jar.into_values().next().unwrap();
    let mut tossed = rig.browser();
    tossed.jar.insert(name, value);
    let answer = tossed.sign_in(&hers, "alice", "wonderland").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_post_from_another_site_is_refused() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    for (site, refused) in [("cross-site", true), ("same-origin", false), ("none", false)] {
        browser.headers.insert("sec-fetch-site", site.parse().unwrap());
        let answer = browser.sign_in(&form, "alice", "wonderland").await;
        assert_eq!(answer.status == StatusCode::FORBIDDEN, refused, "{site}: {answer:?}");
    }
}

#[tokio::test]
async fn a_flow_dies_after_ten_minutes() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    rig.world.clock.advance(FLOW_SECONDS + 1);
    let late = browser.sign_in(&form, "alice", "wonderland").await;
    assert_eq!(late.status, StatusCode::BAD_REQUEST);
    assert!(late.body.contains("expired"), "{late:?}");
    assert_eq!(browser.get(&form.0).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_flow_whose_client_was_replaced_or_whose_connector_is_not_allowed_goes_no_further() {
    let rig = Rig::with(|world| {
        let allowed = Some(["local".to_owned()].into());
        world.change_client("kubernetes", |client| client.allowed_connectors = allowed);
    });
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    for name in ["directory", "nowhere"] {
        let other = (form.0.replace("/local/", &format!("/{name}/")), browser.get(&form.0).await);
        let shown = browser.get(&other.0).await;
        assert!(shown.status.is_client_error(), "{shown:?}");
        assert!(!shown.body.contains("type=\"password\""));
        let posted = browser.sign_in(&other, "alice", "wonderland").await;
        assert!(posted.status.is_client_error(), "{posted:?}");
    }
    let mut issuer = rig.world.issuer.clone();
    let Some(claviger_domain::issuer::ClientEntry::InService(client)) =
        issuer.clients.get_mut("kubernetes")
    else {
        panic!("no client")
    };
    std::sync::Arc::make_mut(client).uid = "another".into();
    rig.replace_issuer(issuer);
    let answer = browser.sign_in(&form, "alice", "wonderland").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
}

#[tokio::test]
async fn guessing_is_slowed_for_the_account_guessed_at_and_for_nobody_else() {
    let rig = Rig::with_one_connector();
    rig.world.upstream.put("bob", "builder", claviger_domain::fakes::alice());
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = browser.sign_in(&form, "alice", "guess").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let refused = refused.expect("twenty wrong guesses were never slowed");
    assert!(refused.body.contains("type=\"password\""), "the form is there again");
    let right = browser.sign_in(&form, "ALICE", "wonderland").await;
    assert_eq!(right.status, StatusCode::TOO_MANY_REQUESTS, "case makes no other account");
    let other = browser.sign_in(&form, "bob", "builder").await;
    assert!(other.redirect_param("code").is_some(), "{other:?}");
}

#[tokio::test]
async fn a_busy_user_who_gets_it_right_is_never_slowed() {
    let rig = Rig::with_one_connector();
    for _ in 0..150 {
        rig.browser().code(&[]).await;
    }
}

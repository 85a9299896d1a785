//! The main road: from an authorization request to tokens, and the turnings beside it.

use axum::http::StatusCode;
use claviger_domain::fakes::{Fault, REDIRECT_URI};
use claviger_domain::issuer::IssuerUrl;

use crate::rig::{Rig, STATE, VERIFIER, authorization, claims};

#[tokio::test]
async fn a_user_signs_in_and_the_client_gets_tokens_for_one_stored_session() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let answer = browser.sign_in(&form, "alice", "wonderland").await;
    assert!(answer.location().starts_with(&format!("{REDIRECT_URI}?code=")));
    assert_eq!(answer.redirect_param("state").as_deref(), Some(STATE));
    assert_eq!(answer.redirect_param("iss").as_deref(), Some("https://id.example.org"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(rig.store_requests().is_empty(), "nothing is stored before the code is redeemed");

    let tokens = rig.redeem(&answer.redirect_param("code").unwrap()).await;
    assert_eq!(tokens.status, StatusCode::OK, "{tokens:?}");
    assert_eq!(tokens.header("cache-control"), "no-store");
    assert_eq!(rig.store_requests(), ["create"]);
    let tokens = tokens.json();
    assert_eq!(tokens["token_type"], "Bearer");
    let id_token = claims(&tokens["id_token"]);
    assert_eq!(id_token["iss"], "https://id.example.org");
    assert_eq!(id_token["aud"], "kubernetes");
    assert_eq!(id_token["nonce"], "n-0S6");
    assert_eq!(id_token["email"], "alice@example.org");

    let user = rig.userinfo(tokens["access_token"].as_str().unwrap()).await.json();
    assert_eq!(user["sub"], id_token["sub"]);
    let again = rig.refresh(tokens["refresh_token"].as_str().unwrap()).await.json();
    assert_eq!(claims(&again["id_token"])["sub"], id_token["sub"]);
    assert_eq!(rig.store_requests(), ["rotate"]);
}

#[tokio::test]
async fn with_several_connectors_the_user_chooses_and_may_choose_again() {
    let rig = Rig::new();
    let mut browser = rig.browser();
    let begun = browser.authorize(&[]).await;
    let chooser = browser.get(&begun.location()).await;
    assert_eq!(chooser.status, StatusCode::OK);
    let links = chooser.links();
    let of = |name: &str| {
        let link = links.iter().find(|link| link.starts_with(&format!("/auth/{name}")));
        link.unwrap_or_else(|| panic!("no link to {name} in {links:?}")).clone()
    };
    for name in ["local", "directory"] {
        let step = browser.get(&of(name)).await.location();
        let form = browser.get(&step).await;
        assert_eq!(form.status, StatusCode::OK);
        let back = form.links().into_iter().find(|link| link.contains("state=")).unwrap();
        assert_eq!(browser.get(&back).await.body, chooser.body);
    }
}

#[tokio::test]
async fn an_issuer_below_a_path_keeps_every_step_below_it() {
    let rig = Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.issuer.url = IssuerUrl::parse("https://id.example.org:8443/dex").unwrap();
    });
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    assert!(form.0.starts_with("/dex/auth/local/login?state="), "{}", form.0);
    assert!(form.1.links().iter().all(|link| link.starts_with("/dex/")), "{:?}", form.1.links());
    let answer = browser.sign_in(&form, "alice", "wonderland").await;
    let iss = "https://id.example.org:8443/dex";
    assert_eq!(answer.redirect_param("iss").as_deref(), Some(iss));
    let tokens = rig.redeem(&answer.redirect_param("code").unwrap()).await.json();
    assert_eq!(claims(&tokens["id_token"])["iss"], iss);
    let metadata = rig.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["token_endpoint"], format!("{iss}/token"));
}

#[tokio::test]
async fn a_request_by_post_and_one_by_get_are_the_same() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let begun = browser.post("/auth", &authorization(&[("connector_id", "local")])).await;
    assert_eq!(begun.cookies().len(), 1);
    assert!(begun.location().starts_with("/auth/local"), "{begun:?}");
}

#[tokio::test]
async fn a_public_client_needs_no_secret_but_its_verifier() {
    let rig = Rig::with_one_connector();
    let code = rig.browser().code(&[("client_id", "cli")]).await;
    let form = |verifier| {
        [
            ("client_id", "cli"),
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", verifier),
        ]
    };
    let wrong = "x".repeat(43);
    assert_eq!(rig.post("/token", &form(&wrong)).await.json()["error"], "invalid_grant");
    let answer = rig.post("/token", &form(VERIFIER)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test]
async fn consent_is_asked_and_the_answer_is_taken() {
    let rig = Rig::with(|world| {
        world.issuer.connectors.truncate(1);
        world.change_client("kubernetes", |client| client.consent_required = true);
    });
    for (approval, parameter) in [("approve", "code"), ("rejected", "error")] {
        let mut browser = rig.browser();
        let form = browser.login_form(&[]).await;
        let page = browser.sign_in(&form, "alice", "wonderland").await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.body.contains("alice") && page.body.contains("kubernetes"), "{page:?}");
        let action = page.body.split_once("action=\"").unwrap().1;
        let action = action.split_once('"').unwrap().0.to_owned();
        let (csrf, grant) = (page.hidden("csrf"), page.hidden("grant"));
        let fields = [("csrf", csrf.as_str()), ("grant", &grant), ("approval", approval)];

        let foreign = rig.browser().post(&action, &fields).await;
        assert_eq!(foreign.status, StatusCode::BAD_REQUEST, "another browser: {foreign:?}");
        let forged = browser.post(&action, &[("grant", &grant), ("approval", approval)]).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN, "no form token: {forged:?}");

        let answer = browser.post(&action, &fields).await;
        assert!(answer.redirect_param(parameter).is_some(), "{answer:?}");
        assert_eq!(answer.redirect_param("state").as_deref(), Some(STATE));
    }
    assert!(rig.store_requests().is_empty());
}

#[tokio::test]
async fn a_replayed_code_ends_its_session_and_userinfo_with_it() {
    let rig = Rig::with_one_connector();
    let code = rig.browser().code(&[]).await;
    let tokens = rig.redeem(&code).await.json();
    for _ in 0..2 {
        assert_eq!(rig.redeem(&code).await.json()["error"], "invalid_grant");
    }
    let refused = rig.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(refused.json()["error"], "invalid_grant");
    let userinfo = rig.userinfo(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!(userinfo.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_double_click_makes_one_session_and_revokes_nobody() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    let first = browser.sign_in(&form, "alice", "wonderland").await.redirect_param("code").unwrap();
    let second =
        browser.sign_in(&form, "alice", "wonderland").await.redirect_param("code").unwrap();
    let tokens = rig.redeem(&first).await.json();
    assert_eq!(rig.redeem(&second).await.json()["error"], "invalid_grant");
    let refreshed = rig.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{refreshed:?}");
    assert_eq!(rig.world.sessions.all().len(), 1);
}

#[tokio::test]
async fn while_the_api_server_is_away_tokens_wait_and_documents_go_on() {
    let rig = Rig::with_one_connector();
    let code = rig.browser().code(&[]).await;
    rig.world.sessions.fail_next_write(Fault::Refused);
    let away = rig.redeem(&code).await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(away.header("retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(away.json()["error"], "temporarily_unavailable");
    for document in ["/.well-known/openid-configuration", "/keys"] {
        assert_eq!(rig.get(document).await.status, StatusCode::OK);
    }
    assert_eq!(rig.redeem(&code).await.status, StatusCode::OK, "the code was not consumed");
}

#[tokio::test]
async fn while_the_directory_is_away_the_user_is_asked_to_wait() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    rig.world.upstream.set_away(true);
    let away = browser.sign_in(&form, "alice", "wonderland").await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(away.header("retry-after").parse::<u32>().unwrap() > 0, "{away:?}");
    rig.world.upstream.set_away(false);
    let answer = browser.sign_in(&form, "alice", "wonderland").await;
    assert!(answer.redirect_param("code").is_some(), "{answer:?}");
}

/// What the control plane publishes once no watch has confirmed the snapshot for too long (DESIGN 2).
fn make_stale(rig: &Rig) {
    let mut issuer = rig.world.issuer.clone();
    let keys = std::sync::Arc::make_mut(&mut issuer.keys);
    keys.signers.clear();
    keys.max_age_seconds = 0;
    rig.replace_issuer(issuer);
}

#[tokio::test]
async fn a_cut_off_replica_mints_nothing_consumes_nothing_and_promises_nothing() {
    let rig = Rig::with_one_connector();
    let code = rig.browser().code(&[]).await;
    make_stale(&rig);
    let refused = rig.redeem(&code).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    assert_eq!(refused.json()["error"], "temporarily_unavailable");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
    assert!(rig.store_requests().is_empty());
    let keys = rig.get("/keys").await;
    assert_eq!(keys.header("cache-control"), "public, max-age=0, must-revalidate");
    assert!(keys.body.contains("\"kid\""), "the keys themselves are still there");
    rig.replace_issuer(rig.world.issuer.clone());
    assert_eq!(rig.redeem(&code).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_cut_off_replica_asks_users_to_wait_and_denies_nobody() {
    let rig = Rig::with_one_connector();
    let mut browser = rig.browser();
    let form = browser.login_form(&[]).await;
    make_stale(&rig);
    let answer = browser.sign_in(&form, "alice", "wonderland").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
}

/// dex takes authorization requests at `/auth/{connector}` too.
#[tokio::test]
async fn a_request_at_a_connectors_own_path_begins_there() {
    let rig = Rig::new();
    let mut browser = rig.browser();
    let query = "response_type=code&client_id=kubernetes&scope=openid&state=s\
                 &redirect_uri=https%3A%2F%2Fapp.example.org%2Fcallback";
    let answer = browser.get(&format!("/auth/directory?{query}")).await;
    let location = answer.location();
    assert!(location.starts_with("/auth/directory?state="), "{location}");
    let answer = browser.get(&format!("/auth/nowhere?{query}")).await;
    assert!(answer.location().contains("error=invalid_request"), "{}", answer.location());
}

//! The pages of signing out: what they load, under which policy, and where the browser goes.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::StatusCode;
use claviger_domain::browser_session::BrowserSessions;
use claviger_domain::connector::{Connector, Leaving, Refresh, SignOut};
use claviger_domain::fakes::World;

use crate::rig::{Browser, Rig, encode};

const AFTER: &str = "https://app.example.org/bye";

/// An upstream that takes the way back by `rd`.
#[derive(Debug)]
struct Elsewhere;

#[async_trait]
impl SignOut for Elsewhere {
    async fn location(&self, leaving: &Leaving<'_>) -> Option<String> {
        let back = encode(&[("rd", leaving.return_to)]);
        Some(format!("https://proxy.example.org/sign_out?{back}"))
    }
}

fn change(world: &mut World, connector: impl FnOnce(&mut Connector)) {
    let policy = BrowserSessions { idle: 3_600, absolute: 36_000, consent: 0 };
    world.issuer.browser_sessions = Some(policy);
    world.issuer.connectors.truncate(1);
    connector(Arc::make_mut(&mut world.issuer.connectors[0]));
    world.change_client("kubernetes", |client| {
        client.post_logout_redirect_uris.insert(AFTER.to_owned());
    });
}

/// Signs in, and returns the address that signs out again.
async fn signed_in(rig: &Rig, browser: &mut Browser<'_>) -> String {
    let code = browser.code(&[("scope", "openid")]).await;
    let tokens = rig.redeem(&code).await.json();
    let hint = tokens["id_token"].as_str().unwrap_or_default();
    let params = [("id_token_hint", hint), ("post_logout_redirect_uri", AFTER), ("state", "a&b")];
    format!("/logout?{}", encode(&params))
}

#[tokio::test]
async fn a_page_with_frames_may_load_their_origins_and_nothing_else() {
    let rig = Rig::with(|world| {
        change(world, |_| {});
        world.change_client("kubernetes", |client| {
            client.logout.front_channel = Some("https://app.example.org:8443/fc".into());
        });
    });
    let mut browser = rig.browser();
    let target = signed_in(&rig, &mut browser).await;
    let page = browser.get(&target).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    assert_eq!(
        page.header("content-security-policy"),
        "default-src 'none'; script-src 'self'; frame-src https://app.example.org:8443; style-src 'self'; \
         img-src 'self' https: data:; base-uri 'none'; frame-ancestors 'none'"
    );
    let frame = page.body.split("<iframe ").nth(1).unwrap().split('>').next().unwrap();
    assert!(frame.contains(r#"src="https://app.example.org:8443/fc?iss=https"#), "{frame}");
    assert!(frame.contains(r#"sandbox="allow-scripts allow-same-origin""#), "{frame}");
    assert!(!page.body.contains("<script>"), "no script but ours");
    let onward = "https://app.example.org/bye?state=a%26b";
    assert!(page.links().iter().any(|link| link == onward), "{page:?}");
    assert!(page.body.contains(r#"http-equiv="refresh" content="5;url="#), "{page:?}");
    let script = page.body.split("<script src=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(rig.get(script).await.status, StatusCode::OK);
    assert!(browser.jar.keys().all(|name| !name.contains("session")), "{:?}", browser.jar);

    let over = browser.get(&target).await;
    assert_eq!(over.location(), onward, "nobody is told twice");
}

#[tokio::test]
async fn the_browser_signs_out_at_the_upstream_too_and_comes_back_by_a_checked_address() {
    let rig = Rig::with(|world| change(world, |c| c.sign_out = Some(Arc::new(Elsewhere))));
    let mut browser = rig.browser();
    let target = signed_in(&rig, &mut browser).await;
    let left = url::Url::parse(&browser.get(&target).await.location()).unwrap();
    assert_eq!(left.host_str(), Some("proxy.example.org"));
    let (_, back) = left.query_pairs().find(|(name, _)| name == "rd").unwrap();
    let back = back.strip_prefix("https://id.example.org").unwrap();
    assert!(!back.contains("id_token_hint"), "the upstream learns no token: {back}");
    assert_eq!(browser.get(back).await.location(), "https://app.example.org/bye?state=a%26b");
    let bent = back.replace("app.example.org", "evil.example");
    assert_eq!(browser.get(&bent).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn users_without_a_session_here_are_asked_before_they_sign_out_at_their_proxy() {
    let rig = Rig::with(|world| {
        change(world, |connector| {
            connector.refresh = Refresh::Unsupported;
            connector.sign_out = Some(Arc::new(Elsewhere));
        });
    });
    let mut browser = rig.browser();
    let target = signed_in(&rig, &mut browser).await;
    let page = browser.get(&target).await;
    assert_eq!(page.status, StatusCode::OK, "sent there unasked: {page:?}");
    let links = page.links();
    let link = links.iter().find(|link| link.contains("proxy.example.org")).unwrap();
    let link = url::Url::parse(link).unwrap();
    let (_, back) = link.query_pairs().find(|(name, _)| name == "rd").unwrap();
    let back = back.strip_prefix("https://id.example.org").unwrap();
    assert_eq!(browser.get(back).await.location(), "https://app.example.org/bye?state=a%26b");
}

#[tokio::test]
async fn the_question_is_answered_by_its_own_page_alone() {
    let rig = Rig::with(|world| change(world, |_| {}));
    let mut browser = rig.browser();
    signed_in(&rig, &mut browser).await;
    let page = browser.get("/logout").await;
    let csrf = page.hidden("csrf");
    let session = |browser: &Browser<'_>| browser.jar.keys().any(|name| name.contains("session"));
    for forged in ["x", &format!("{csrf}x")] {
        let again = browser.post("/logout", &[("csrf", forged)]).await;
        assert!(again.body.contains("Sign out?"), "{forged:?}: {again:?}");
    }
    browser.headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
    let foreign = browser.post("/logout", &[("csrf", &csrf)]).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN, "{foreign:?}");
    assert!(session(&browser));
    browser.headers.clear();
    let done = browser.post("/logout", &[("csrf", &csrf)]).await;
    assert!(done.body.contains("You are signed out"), "{done:?}");
    assert!(!session(&browser));
}

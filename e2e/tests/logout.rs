//! A user signs out: by an application that knows whom it signs out, or by their own word; and what it costs.

use anyhow::{Context, Result, anyhow, bail, ensure};
use claviger_testkit::browser::{Browser, Landing, query_value};
use claviger_testkit::scene::{LOCAL_USER, Manifests, REDIRECT_URI};
use claviger_testkit::{ControlPlane, Directory, Installation, RelyingParty, Scene};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let here = Installation::create(plane).await?;
    Scene::start_in(here, Directory::None, |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["browserSessions"] = json!({});
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["postLogoutRedirectURIs"] = json!([REDIRECT_URI]);
        }
    })
    .await
}

async fn signed_in(party: &RelyingParty, browser: &Browser, scope: &str) -> Result<Value> {
    let attempt = party.attempt(scope)?;
    let landed = browser.sign_in(&attempt.url, LOCAL_USER).await?;
    party.redeem(&query_value(&landed, "code")?, &attempt.verifier).await?.tokens()
}

async fn is_signed_in(party: &RelyingParty, browser: &Browser) -> Result<bool> {
    let mut url = party.attempt("openid")?.url;
    url.query_pairs_mut().append_pair("prompt", "none");
    match browser.open(&url).await? {
        Landing::Application(url) => Ok(query_value(&url, "code").is_ok()),
        Landing::Page(page) => bail!("asked: {}", page.html),
    }
}

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn end_session(party: &RelyingParty, params: &[(&str, &str)]) -> Result<Url> {
    let mut url = party.endpoint("end_session_endpoint")?;
    url.query_pairs_mut().extend_pairs(params);
    Ok(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_signs_its_user_out_and_the_browser_comes_back() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let party = scene.relying_party().await?;
    let browser = party.browser()?;
    let tokens = signed_in(&party, &browser, "openid").await?;
    let access_token = text(&tokens, "access_token")?;
    ensure!(is_signed_in(&party, &browser).await?, "not signed in");
    assert_eq!(party.userinfo(access_token).await?.0, StatusCode::OK);

    let params = [
        ("id_token_hint", text(&tokens, "id_token")?),
        ("post_logout_redirect_uri", REDIRECT_URI),
        ("state", "bye&bye"),
    ];
    let mark = plane.audit_log().mark()?;
    let landed = browser.open(&end_session(&party, &params)?).await?;
    let Landing::Application(landed) = landed else { bail!("asked: {landed:?}") };
    assert_eq!(query_value(&landed, "state")?, "bye&bye");
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    assert_eq!(lines.join(", "), "get sessions × 1, list sessions × 1, patch sessions × 3");
    ensure!(!is_signed_in(&party, &browser).await?, "still signed in");
    assert_eq!(party.userinfo(access_token).await?.0, StatusCode::UNAUTHORIZED);

    let evil =
        [("id_token_hint", params[0].1), ("post_logout_redirect_uri", "https://evil.example/")];
    let refused = browser.open(&end_session(&party, &evil)?).await?;
    let Landing::Page(refused) = refused else { bail!("sent away: {refused:?}") };
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_hint_the_user_is_asked_and_offline_use_goes_on() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let party = scene.relying_party().await?;
    let browser = party.browser()?;
    let tokens = signed_in(&party, &browser, "openid offline_access").await?;

    let asked = browser.open(&end_session(&party, &[])?).await?;
    let Landing::Page(page) = asked else { bail!("signed out unasked: {asked:?}") };
    ensure!(page.html.contains("Sign out?"), "{}", page.html);
    ensure!(is_signed_in(&party, &browser).await?, "signed out by a look");
    let stranger = party.browser()?;
    let mut foreign = page.form_target()?;
    let csrf = page.form_field("csrf").ok_or_else(|| anyhow!("no form token"))?;
    foreign.query_pairs_mut().append_pair("csrf", &csrf);
    stranger.open(&foreign).await?;
    ensure!(is_signed_in(&party, &browser).await?, "signed out by a stranger");

    let Landing::Page(page) = browser.submit(&page, &[]).await? else { bail!("sent away") };
    ensure!(page.html.contains("You are signed out"), "{}", page.html);
    ensure!(!is_signed_in(&party, &browser).await?, "still signed in");
    party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    Ok(())
}

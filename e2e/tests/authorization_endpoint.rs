//! What the authorization endpoint gives besides a code, switched on by custom resources, and what each way
//! costs the API server.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::LOCAL_USER;
use claviger_testkit::{ControlPlane, Directory, RelyingParty, Scene, eventually};
use reqwest::{StatusCode, Url};
use serde_json::json;

const SCOPE: &str = "openid email";
/// A changed custom resource is served by then.
const LIVE: Duration = Duration::from_secs(10);

/// Switches every response type on, and waits until the metadata says so.
async fn switch_on(scene: &Scene, party: &RelyingParty) -> Result<()> {
    let all = [
        "code",
        "id_token",
        "id_token token",
        "code id_token",
        "code token",
        "code id_token token",
    ];
    let patch = json!({"spec": {"responseTypes": all}}).to_string();
    let here = scene.installation();
    for object in ["oauth2client/kubernetes", "oidcissuer/main"] {
        here.kubectl(&["patch", object, "--type=merge", "-p", &patch])?;
    }
    let metadata = format!("{}/.well-known/openid-configuration", scene.issuer());
    eventually(LIVE, async || {
        let found: serde_json::Value = party.http().get(&metadata).send().await?.json().await?;
        let listed = found["response_types_supported"].as_array().map_or(0, Vec::len);
        ensure!(listed == all.len(), "{found}");
        Ok(())
    })
    .await?;
    // Whoever counts requests from now on must not count those that say so in the status.
    here.at_rest().await.map(drop)
}

/// The authorization URL of an attempt, with another response type or mode.
fn with(url: &Url, change: &[(&str, &str)]) -> Url {
    let mut changed = url.clone();
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| change.iter().all(|(changed, _)| changed != name))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    changed.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(change);
    changed
}

/// The parameters in a URL's fragment, as a URL with them in its query.
fn fragment(landed: &Url) -> Result<Url> {
    ensure!(landed.query().is_none(), "something in the query: {landed}");
    let fragment = landed.fragment().context("no fragment")?;
    Ok(format!("https://fragment.example/?{fragment}").parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_by_the_browser_where_both_custom_resources_say_so() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    let attempt = party.attempt(SCOPE)?;
    let browser = party.browser()?;
    let hybrid = with(&attempt.url, &[("response_type", "code id_token token")]);
    let Landing::Application(refused) = browser.open(&hybrid).await? else { bail!("no answer") };
    assert_eq!(query_value(&fragment(&refused)?, "error")?, "unsupported_response_type");

    switch_on(&scene, &party).await?;
    let count = |mark| -> Result<String> {
        let counts = scene.installation().requests_since(mark)?;
        let lines: Vec<_> = counts.iter().map(|(what, n)| format!("{what} × {n}")).collect();
        Ok(lines.join(", "))
    };
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let only = with(&attempt.url, &[("response_type", "id_token")]);
    let answer = fragment(&party.browser()?.sign_in(&only, LOCAL_USER).await?)?;
    let id_token = claims(&query_value(&answer, "id_token")?)?;
    assert_eq!(id_token["nonce"], attempt.nonce.as_str());
    assert_eq!(id_token["email"], "admin@local.example.com");
    assert_eq!(count(mark)?, "", "an ID token alone stores nothing");

    let mark = audit.mark()?;
    let answer = fragment(&party.browser()?.sign_in(&hybrid, LOCAL_USER).await?)?;
    assert_eq!(query_value(&answer, "state")?, attempt.state);
    let (code, token) = (query_value(&answer, "code")?, query_value(&answer, "access_token")?);
    assert_eq!(party.userinfo(&token).await?.0, StatusCode::OK);
    party.redeem(&code, &attempt.verifier).await?.tokens()?;
    assert_eq!(count(mark)?, "create sessions × 1, get sessions × 1, patch sessions × 1");
    let replayed = party.redeem(&code, &attempt.verifier).await?;
    assert_eq!(replayed.error(), "invalid_grant");
    assert_eq!(party.userinfo(&token).await?.0, StatusCode::UNAUTHORIZED, "its sibling is dead");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_comes_by_form_and_the_page_needs_no_script() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    let attempt = party.attempt(SCOPE)?;
    let browser = party.browser()?;
    let by_form = with(&attempt.url, &[("response_mode", "form_post"), ("connector_id", "local")]);
    let Landing::Page(login) = browser.open(&by_form).await? else { bail!("no login page") };
    let fields = [("login", LOCAL_USER.username), ("password", LOCAL_USER.password)];
    let answered = match browser.submit(&login, &fields).await? {
        Landing::Page(page) if page.html.contains("name=\"approval\"") => {
            browser.submit(&page, &[("approval", "approve")]).await?
        }
        other => other,
    };
    let Landing::Page(page) = answered else { bail!("no form: {answered:?}") };
    ensure!(page.html.contains("<button type=\"submit\">Continue</button>"), "{}", page.html);
    assert_eq!(page.form_target()?.as_str(), "http://localhost:8000/");
    let field =
        |name: &str| page.form_field(name).with_context(|| format!("no {name}: {}", page.html));
    assert_eq!(field("state")?, attempt.state);
    assert_eq!(field("iss")?, scene.issuer());
    party.redeem(&field("code")?, &attempt.verifier).await?.tokens()?;
    Ok(())
}

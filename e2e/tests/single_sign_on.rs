//! One sign-in in one browser for many clients: what it costs the API server, what `kubectl` shows of it, and
//! how an administrator ends it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Browser, Landing, query_value};
use claviger_testkit::relying_party::{Attempt, claims};
use claviger_testkit::scene::{LOCAL_USER, Manifests};
use claviger_testkit::{ControlPlane, Directory, Installation, RelyingParty, Scene, eventually};
use reqwest::Url;
use serde_json::{Value, json};

const SCOPE: &str = "openid email";
/// What is revoked in the cluster is known to every replica by then.
const KNOWN: Duration = Duration::from_secs(10);

async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let here = Installation::create(plane).await?;
    Scene::start_in(here, Directory::None, |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["browserSessions"] = json!({});
        }
    })
    .await
}

fn requests(scene: &Scene, mark: claviger_testkit::AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// The attempt, asking nobody.
fn silent(attempt: &Attempt) -> Url {
    let mut url = attempt.url.clone();
    url.query_pairs_mut().append_pair("prompt", "none");
    url
}

async fn answered(browser: &Browser, url: &Url) -> Result<Url> {
    match browser.open(url).await? {
        Landing::Application(url) => Ok(url),
        Landing::Page(page) => bail!("asked: {}", page.html),
    }
}

async fn id_token(party: &RelyingParty, landed: &Url, attempt: &Attempt) -> Result<Value> {
    let code = query_value(landed, "code")?;
    let tokens = party.redeem(&code, &attempt.verifier).await?.tokens()?;
    claims(tokens["id_token"].as_str().context("no ID token")?)
}

fn names(scene: &Scene, kind: &str) -> Result<Vec<String>> {
    let listed = scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let items = listed["items"].as_array().context("no items")?;
    let of_kind = items.iter().filter(|session| session["spec"]["type"] == kind);
    Ok(of_kind.filter_map(|s| s["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_once_and_an_administrator_signs_it_out() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let party = scene.relying_party().await?;
    let browser = party.browser()?;
    let audit = plane.audit_log();

    let attempt = party.attempt(SCOPE)?;
    let stranger = answered(&browser, &silent(&attempt)).await?;
    assert_eq!(query_value(&stranger, "error")?, "login_required");

    let mark = audit.mark()?;
    let landed = browser.sign_in(&attempt.url, LOCAL_USER).await?;
    let first = id_token(&party, &landed, &attempt).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 2");

    let mark = audit.mark()?;
    let attempt = party.attempt(SCOPE)?;
    let landed = answered(&browser, &silent(&attempt)).await?;
    let second = id_token(&party, &landed, &attempt).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1, get sessions × 1");
    assert_eq!((&first["sub"], &first["auth_time"]), (&second["sub"], &second["auth_time"]));

    assert_eq!(names(&scene, "Client")?.len(), 2);
    let of_browsers = names(&scene, "Browser")?;
    let [session] = of_browsers.as_slice() else { bail!("{of_browsers:?}") };
    scene.installation().kubectl(&["delete", "session", session, "--wait=false"])?;
    let signed_out = answered(&browser, &silent(&party.attempt(SCOPE)?)).await?;
    assert_eq!(query_value(&signed_out, "error")?, "login_required");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_go_on_as_somebody_else() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let party = scene.relying_party().await?;
    let browser = party.browser()?;
    browser.sign_in(&party.attempt(SCOPE)?.url, LOCAL_USER).await?;

    let attempt = party.attempt(SCOPE)?;
    let mut select = attempt.url.clone();
    select.query_pairs_mut().append_pair("prompt", "select_account");
    let Landing::Page(choice) = browser.open(&select).await? else { bail!("not asked") };
    ensure!(choice.html.contains("Go on as admin"), "{}", choice.html);
    let same = browser.submit(&choice, &[("account", "same")]).await?;
    let Landing::Application(landed) = same else { bail!("asked again: {same:?}") };
    id_token(&party, &landed, &attempt).await?;

    let Landing::Page(choice) = browser.open(&select).await? else { bail!("not asked") };
    let Landing::Page(login) = browser.submit(&choice, &[("account", "other")]).await? else {
        bail!("signed in without being asked")
    };
    ensure!(login.form_field("password").is_some(), "no form to sign in: {}", login.html);
    let forged = browser.submit(&choice, &[("csrf", "x"), ("account", "same")]).await?;
    let Landing::Page(refused) = forged else { bail!("a forged form was taken: {forged:?}") };
    ensure!(refused.status.is_client_error(), "{}", refused.status);

    let [session] =
        names(&scene, "Browser")?.try_into().map_err(|all| anyhow::anyhow!("{all:?}"))?;
    let patch = json!({"metadata": {"labels": {"claviger.dev/state": "Revoked"}},
        "spec": {"state": "Revoked", "revokedReason": "ByHand"}});
    scene.installation().kubectl(&[
        "patch",
        "session",
        &session,
        "--type=merge",
        "-p",
        &patch.to_string(),
    ])?;
    eventually(KNOWN, async || {
        let landed = answered(&browser, &silent(&party.attempt(SCOPE)?)).await?;
        ensure!(query_value(&landed, "error").is_ok_and(|e| e == "login_required"), "{landed}");
        Ok(())
    })
    .await
}

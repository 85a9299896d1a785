//! What is presented twice: codes, refresh tokens, clicks. Each on a real API server; what is presented
//! at the same moment is in `races.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::scene::{LOCAL_USER, Manifests, SCOPE};
use claviger_testkit::{Browser, ControlPlane, Directory, Installation, Scene, eventually};
use serde_json::{Value, json};

async fn scene(plane: &ControlPlane, grace_seconds: i64) -> Result<Scene> {
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["lifetimes"] = json!({"refreshGraceSeconds": grace_seconds});
        }
    };
    Scene::start_in(Installation::create(plane).await?, Directory::None, change).await
}

fn refresh_token(tokens: &Value) -> Result<&str> {
    tokens["refresh_token"].as_str().with_context(|| format!("no refresh_token in {tokens}"))
}

/// `Active CodeReplayed`-like words of every session, sorted.
fn sessions(scene: &Scene) -> Result<Vec<String>> {
    let path = "jsonpath={range .items[*]}{.spec.state} {.spec.revokedReason}{\"\\n\"}{end}";
    let lines = scene.installation().kubectl(&["get", "sessions", "-o", path])?;
    let mut lines: Vec<_> = lines.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    Ok(lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_code_revokes_the_session_and_a_third_replay_is_refused_too() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane, 10).await?;
    let party = scene.relying_party().await?;
    let (code, attempt) = party.code(SCOPE, LOCAL_USER).await?;
    let tokens = party.redeem(&code, &attempt.verifier).await?.tokens()?;
    for _ in 0..2 {
        let replayed = party.redeem(&code, &attempt.verifier).await?;
        assert_eq!((replayed.status.as_u16(), replayed.error()), (400, "invalid_grant"));
        assert_eq!(sessions(&scene)?, ["Revoked CodeReplayed"]);
    }
    assert_eq!(party.refresh(refresh_token(&tokens)?).await?.error(), "invalid_grant");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_refresh_token_revokes_the_family() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane, 0).await?;
    let party = scene.relying_party().await?;
    let first = party.log_in(SCOPE, LOCAL_USER).await?;
    let second = party.refresh(refresh_token(&first)?).await?.tokens()?;
    let third = party.refresh(refresh_token(&second)?).await?.tokens()?;
    assert_eq!(party.refresh(refresh_token(&first)?).await?.error(), "invalid_grant");
    assert_eq!(sessions(&scene)?, ["Revoked RefreshTokenReused"]);
    assert_eq!(party.refresh(refresh_token(&third)?).await?.error(), "invalid_grant");
    let log = scene.operator()?.log()?;
    ensure!(log.contains("RefreshTokenReused"), "the audit log does not say it:\n{log}");
    eventually(Duration::from_secs(5), async || {
        let path = "jsonpath={.items[?(@.reason==\"RefreshTokenReused\")].involvedObject.kind}";
        let kinds = scene.installation().kubectl(&["get", "events", "-o", path])?;
        ensure!(kinds == "Session", "no Event about the session: {kinds:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_retry_within_its_grace_gets_the_same_new_token() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane, 60).await?;
    let party = scene.relying_party().await?;
    let first = party.log_in(SCOPE, LOCAL_USER).await?;
    let second = party.refresh(refresh_token(&first)?).await?.tokens()?;
    let again = party.refresh(refresh_token(&first)?).await?.tokens()?;
    assert_eq!(refresh_token(&second)?, refresh_token(&again)?);
    party.refresh(refresh_token(&again)?).await?.tokens()?;
    assert_eq!(sessions(&scene)?, ["Active"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_clicked_form_makes_one_session_and_revokes_nobody() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane, 10).await?;
    let party = scene.relying_party().await?;
    let attempt = party.attempt(SCOPE)?;
    let browser = Browser::new(scene.installation().authority().certificate_pem())?;
    let Landing::Page(form) = browser.open(&attempt.url).await? else {
        anyhow::bail!("no login page");
    };
    let typed = [("login", LOCAL_USER.username), ("password", LOCAL_USER.password)];
    let (one, two) = tokio::join!(browser.submit(&form, &typed), browser.submit(&form, &typed));
    let code = |landing| match landing {
        Landing::Application(url) => query_value(&url, "code"),
        Landing::Page(page) => anyhow::bail!("{}: {}", page.status, page.html),
    };
    let (one, two) = (code(one?)?, code(two?)?);
    let tokens = party.redeem(&one, &attempt.verifier).await?.tokens()?;
    assert_eq!(party.redeem(&two, &attempt.verifier).await?.error(), "invalid_grant");
    assert_eq!(sessions(&scene)?, ["Active"]);
    party.refresh(refresh_token(&tokens)?).await?.tokens()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_survives_a_restart_of_the_operator() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let mut scene = scene(&plane, 10).await?;
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    scene.restart_operator().await?;
    eventually(Duration::from_secs(10), async || {
        let answer = party.refresh(refresh_token(&tokens)?).await?;
        ensure!(answer.status.as_u16() == 200, "{}: {}", answer.status, answer.body);
        Ok(())
    })
    .await
}

//! An application for some: a condition in CEL, tried on its examples when it is applied and on every user who comes.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, Manifests, SCOPE};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, RelyingParty, Scene, eventually,
};
use serde_json::{Value, json};

const REDIRECT_URI: &str = "https://console.apps.example.com/callback";

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// The quickstart and the console of `examples/policy/`.
async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let console = Manifests::of_example("policy")?;
    let installation = Installation::create(plane).await?;
    let change = |manifests: &mut Manifests| manifests.extend(console);
    let scene = Scene::start_in(installation, Directory::None, change).await?;
    scene.installation().wait_for("oauth2client/console", "Ready").await?;
    Ok(scene)
}

async fn console(scene: &Scene) -> Result<RelyingParty> {
    let secret = scene.generated_secret("console-oidc").await?;
    let pem = scene.installation().authority().certificate_pem();
    let client = ("console", Some(secret.as_str()));
    RelyingParty::discover(&scene.issuer(), pem, client, REDIRECT_URI).await
}

/// Puts the user into these groups, and waits until the controller has said so and writes no more.
async fn user_is_in(scene: &Scene, groups: &Value) -> Result<()> {
    let patch = json!({"spec": {"groups": groups}}).to_string();
    let patch = ["patch", "localuser", "admin", "--type=merge", "-p", &patch];
    scene.installation().kubectl(&patch)?;
    eventually(Duration::from_secs(10), async || {
        let both = "jsonpath={.metadata.generation} {.status.observedGeneration}";
        let said = scene.installation().kubectl(&["get", "localuser", "admin", "-o", both])?;
        let seen = said.split_once(' ').is_some_and(|(wanted, seen)| wanted == seen);
        ensure!(seen, "{said}");
        Ok(())
    })
    .await
}

fn condition(scene: &Scene, change: &Value) -> Result<()> {
    let patch = json!({"spec": {"condition": change}}).to_string();
    let patch = ["patch", "oauth2client", "console", "--type=merge", "-p", &patch];
    scene.installation().kubectl(&patch).map(drop)
}

/// Error and description that a sign-in ends with.
async fn refusal(console: &RelyingParty) -> Result<(String, String)> {
    let attempt = console.attempt(SCOPE)?;
    let url = console.browser()?.sign_in(&attempt.url, LOCAL_USER).await?;
    Ok((query_value(&url, "error")?, query_value(&url, "error_description")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_for_some_is_asked_at_sign_in_and_at_every_refresh() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let console = console(&scene).await?;

    let mark = plane.audit_log().mark()?;
    let tokens = console.log_in(SCOPE, LOCAL_USER).await?;
    let counted = requests(&scene, mark)?;
    println!("a sign-in with a condition: {counted}");
    assert_eq!(counted, "create sessions × 1");
    let access = claims(text(&tokens, "access_token")?)?;
    let life = access["exp"].as_i64().zip(access["iat"].as_i64()).map(|(exp, iat)| exp - iat);
    assert_eq!(life, Some(120), "the client's own lifetime: {access}");
    assert_eq!(tokens["expires_in"], 120);

    let mark = plane.audit_log().mark()?;
    let tokens = console.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("a refresh with a condition: {counted}");
    assert_eq!(counted, "get sessions × 1, patch sessions × 1");

    user_is_in(&scene, &json!(["developers"])).await?;
    eventually(Duration::from_secs(10), async || {
        let mark = plane.audit_log().mark()?;
        let (error, description) = refusal(&console).await?;
        assert_eq!(error, "access_denied");
        ensure!(description.starts_with("The console is for administrators."), "{description}");
        assert_eq!(requests(&scene, mark)?, "", "somebody who is refused cost a request");
        Ok(())
    })
    .await?;
    let mark = plane.audit_log().mark()?;
    let refused = console.refresh(text(&tokens, "refresh_token")?).await?;
    assert_eq!(refused.error(), "invalid_grant", "{}", refused.body);
    // The Event about it is published aside, so it may come after the answer.
    eventually(Duration::from_secs(10), async || {
        let counted = requests(&scene, mark)?;
        ensure!(counted == "create events × 1, get sessions × 1, patch sessions × 1", "{counted}");
        println!("a refresh of a user who no longer meets it: {counted}");
        Ok(())
    })
    .await?;
    let states = ["get", "sessions", "-o", "jsonpath={.items[*].spec.state}"];
    assert_eq!(scene.installation().kubectl(&states)?, "Revoked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_example_that_comes_out_otherwise_is_named_and_nobody_signs_in_until_it_is_mended()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let console = console(&scene).await?;
    let tokens = console.log_in(SCOPE, LOCAL_USER).await?;

    let everybody = json!({"expression": "user.emailVerified"});
    condition(&scene, &everybody)?;
    let client = "oauth2client/console";
    scene.installation().wait_for_status(client, "Accepted", "False").await?;
    let path = r#"jsonpath={.status.conditions[?(@.type=="Accepted")].message}"#;
    let message = scene.installation().kubectl(&["get", client, "-o", path])?;
    println!("{message}");
    assert_eq!(message, "condition: example \"a developer\": expected Deny, came out: Allow");
    let waits = console.refresh(text(&tokens, "refresh_token")?).await?;
    assert_eq!(waits.status, 503, "its sessions wait: {}", waits.body);
    let page = console.browser()?.open(&console.attempt(SCOPE)?.url).await?;
    ensure!(matches!(page, Landing::Page(_)), "{page:?}");

    for (wrong, said) in [
        ("user.emial == ''", "condition: expression: user has no field emial: it has sub, "),
        ("user.email ==", "condition: expression: not CEL: "),
        (
            "user.groups.all(a, user.groups.all(b, a == b))",
            "condition: expression: too costly for a user in many groups",
        ),
    ] {
        condition(&scene, &json!({"expression": wrong}))?;
        eventually(Duration::from_secs(10), async || {
            let message = scene.installation().kubectl(&["get", client, "-o", path])?;
            ensure!(message.starts_with(said), "{message}");
            Ok(())
        })
        .await?;
    }

    // It fails for this user, who has no such claim: nobody's session ends by that.
    condition(&scene, &json!({"expression": "user.claims.locale == 'de'", "examples": null}))?;
    scene.installation().wait_for(client, "Ready").await?;
    let (error, description) = refusal(&console).await?;
    assert_eq!(error, "access_denied");
    assert_eq!(description, "the client's condition could not be evaluated");
    let mark = plane.audit_log().mark()?;
    let waits = console.refresh(text(&tokens, "refresh_token")?).await?;
    assert_eq!(waits.status, 503, "{}", waits.body);
    assert_eq!(requests(&scene, mark)?, "get sessions × 1");
    condition(&scene, &json!({"expression": "true"}))?;
    eventually(Duration::from_secs(10), async || {
        let answer = console.refresh(text(&tokens, "refresh_token")?).await?;
        if answer.status == 503 {
            bail!("still refused");
        }
        answer.tokens().map(drop)
    })
    .await
}

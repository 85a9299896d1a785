//! A client that is told its user's password: one create, nothing for a wrong one, and whoever guesses must wait.

use anyhow::{Context, Result, ensure};
use claviger_testkit::relying_party::{Answer, claims};
use claviger_testkit::scene::{LOCAL_USER, REDIRECT_URI, Setup};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, RelyingParty, Scene, run_recipe,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// The client of `docs/password.md`.
fn legacy() -> Value {
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": "legacy"},
        "spec": {
            "issuerRef": {"name": "main"},
            "clientID": "legacy",
            "type": "Confidential",
            "authentication": {
                "method": "client_secret_basic", "generatedSecret": {"name": "legacy-client"},
            },
            "grants": ["password", "refresh_token"],
            "passwordGrant": {"connector": "local"},
        },
    })
}

async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let setup = Setup::new(Directory::None);
    let scene = Scene::start_as(Installation::create(plane).await?, &setup, |manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["grants"] = json!(["authorization_code", "refresh_token", "password"]);
        }
        manifests.push(legacy());
    })
    .await?;
    scene.installation().wait_for("oauth2client/legacy", "Ready").await?;
    Ok(scene)
}

async fn ask(party: &RelyingParty, password: &str) -> Result<Answer> {
    let form = [
        ("grant_type", "password"),
        ("username", LOCAL_USER.username),
        ("password", password),
        ("scope", "openid"),
    ];
    party.token(&form).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_worth_one_create_and_a_wrong_one_nothing() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let secret = scene.generated_secret("legacy-client").await?;
    let authority = scene.installation().authority_file()?.display().to_string();
    let issuer = scene.issuer();
    let variables = [
        ("ISSUER", issuer.as_str()),
        ("CURL_CA_BUNDLE", &authority),
        ("CLIENT_ID", "legacy"),
        ("CLIENT_SECRET", &secret),
        ("NAME", LOCAL_USER.username),
        ("PASSWORD", LOCAL_USER.password),
    ];
    let mark = plane.audit_log().mark()?;
    let tokens: Value = serde_json::from_str(&run_recipe("password.md", "password", &variables)?)?;
    let counted = requests(&scene, mark)?;
    println!("a password: {counted}");
    assert_eq!(counted, "create sessions × 1");
    let id_token = claims(tokens["id_token"].as_str().context("no ID token")?)?;
    assert_eq!((&id_token["aud"], &id_token["amr"]), (&json!("legacy"), &json!(["pwd"])));
    let peer = scene.replicas()[0].peer(scene.installation());
    let client = ("legacy", Some(secret.as_str()));
    let party = RelyingParty::discover(&issuer, peer, client, REDIRECT_URI).await?;
    let refresh_token = tokens["refresh_token"].as_str().context("no refresh token")?;
    party.refresh(refresh_token).await?.tokens()?;

    let mark = plane.audit_log().mark()?;
    for n in 0..11 {
        let refused = ask(&party, "wrong").await?;
        assert_eq!(refused.error(), "invalid_grant", "{n}: {}", refused.body);
    }
    let waits = ask(&party, LOCAL_USER.password).await?;
    ensure!(waits.status == StatusCode::TOO_MANY_REQUESTS, "{}: {}", waits.status, waits.body);
    ensure!(waits.retry_after.is_some(), "no Retry-After");
    assert_eq!(requests(&scene, mark)?, "");
    // The example's own client is not among those that are told passwords.
    let other = ask(&scene.relying_party().await?, LOCAL_USER.password).await?;
    assert_eq!(other.error(), "unauthorized_client");
    Ok(())
}

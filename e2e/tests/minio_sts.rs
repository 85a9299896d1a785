//! AWS's story for real: an ID token is worth temporary credentials at a Security Token Service that checks it against
//! our keys (`AssumeRoleWithWebIdentity`), and worth nothing for another audience or after its key is gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::minio::{ROOT, StsAnswer};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{ControlPlane, Directory, Library, Minio, Outsider, Scene, eventually};
use data_encoding::BASE64URL_NOPAD;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// The storage's client, which is the audience it wants.
const AUDIENCE: &str = "kubernetes";
/// For a changed key to be known: well below a second on an idle machine.
const SETTLED: Duration = Duration::from_mins(1);

async fn id_token(scene: &Scene) -> Result<String> {
    let tokens = scene.relying_party().await?.log_in(SCOPE, LOCAL_USER).await?;
    Ok(tokens["id_token"].as_str().context("no ID token")?.to_owned())
}

/// AWS's SDK, told a role and a file with the token, as a workload in a cluster is.
async fn aws_sdk(scene: &Scene, minio: &Minio, token: &str) -> Result<Value> {
    let settings = json!({
        "endpoint": minio.url(),
        "root": [ROOT.0, ROOT.1],
        "id_token": token,
        "role": minio.role().await?,
    });
    Outsider::start(Library::Boto3, "web_identity", scene, settings).await?.alone().await
}

async fn minio(scene: &Scene, audience: &str) -> Result<Minio> {
    let secret = scene.client_secret().await?;
    let authority = scene.installation().authority();
    Minio::start(authority, &scene.issuer(), (audience, &secret), "readwrite").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_is_worth_credentials_that_open_the_storage() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let minio = minio(&scene, AUDIENCE).await?;
    let token = id_token(&scene).await?;
    let came = aws_sdk(&scene, &minio, &token).await?;
    assert_eq!(came["method"], "assume-role-with-web-identity", "{came}");
    assert_eq!(came["keys"], json!(["today"]), "{came}");
    assert_eq!(came["got"], "all is well", "{came}");
    assert_eq!(came["subject"], claims(&token)?["sub"], "{came}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_refuses_a_token_for_another_audience() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let minio = minio(&scene, "another-client").await?;
    let answer = minio.assume_role(&id_token(&scene).await?, &minio.role().await?).await?;
    assert_refused(&answer);
    Ok(())
}

/// It fetches the keys again for a token it cannot check, so a new key is known at once; but it forgets none before it
/// is started again. That is what docs/keys.md says of whoever holds keys in memory.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_key_is_withdrawn_the_storage_takes_the_next_key_and_forgets_the_first()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let mut minio = minio(&scene, AUDIENCE).await?;
    let role = minio.role().await?;
    let before = id_token(&scene).await?;
    assert_eq!(minio.assume_role(&before, &role).await?.status, StatusCode::OK);
    let (head, signature) = before.rsplit_once('.').context("no JWT")?;
    assert_refused(&minio.assume_role(&format!("{head}A.{signature}"), &role).await?);

    let withdrawn = json!({"spec": {"revokedKeyIDs": [key_id(&before)?]}}).to_string();
    scene.installation().kubectl(&[
        "patch",
        "signingkey",
        "main",
        "--type=merge",
        "-p",
        &withdrawn,
    ])?;
    let after = eventually(SETTLED, async || {
        let after = id_token(&scene).await?;
        ensure!(key_id(&before)? != key_id(&after)?, "signed by the withdrawn key");
        Ok(after)
    })
    .await?;
    assert_eq!(minio.assume_role(&after, &role).await?.status, StatusCode::OK);

    minio.start_again().await?;
    assert_refused(&minio.assume_role(&before, &role).await?);
    assert_eq!(minio.assume_role(&after, &role).await?.status, StatusCode::OK);
    Ok(())
}

fn assert_refused(answer: &StsAnswer) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    let code = answer.element("Code");
    assert_eq!(code.as_deref(), Some("InvalidParameterValue"), "{}", answer.body);
}

fn key_id(token: &str) -> Result<String> {
    let head = token.split('.').next().context("no JWT")?;
    let head: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(head.as_bytes())?)?;
    Ok(head["kid"].as_str().context("no kid")?.to_owned())
}

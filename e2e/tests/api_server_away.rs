//! The API server goes away and comes back: what needs no write goes on, what must write says when
//! to come again, and nothing is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{ControlPlane, Directory, RelyingParty, Scene, eventually};

async fn get(party: &RelyingParty, url: &str) -> Result<u16> {
    Ok(party.http().get(url).send().await?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_write_waits_and_everything_else_goes_on() -> Result<()> {
    let mut plane = ControlPlane::start(ControlPlane::builder()).await?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let token = |name: &str| tokens[name].as_str().with_context(|| format!("no {name}"));

    plane.stop_api_server();
    let discovery = format!("{}/.well-known/openid-configuration", scene.issuer());
    assert_eq!(get(&party, &discovery).await?, 200);
    assert_eq!(get(&party, party.endpoint("jwks_uri")?.as_str()).await?, 200);
    assert_eq!(party.userinfo(token("access_token")?).await?.0.as_u16(), 200);
    // Signing in needs no write either, up to the code.
    let (code, attempt) = party.code(SCOPE, LOCAL_USER).await?;
    for answer in [
        party.refresh(token("refresh_token")?).await?,
        party.redeem(&code, &attempt.verifier).await?,
    ] {
        assert_eq!((answer.status.as_u16(), answer.error()), (503, "temporarily_unavailable"));
        ensure!(answer.retry_after.is_some(), "no Retry-After");
    }

    plane.start_api_server().await?;
    eventually(Duration::from_secs(20), async || {
        party.redeem(&code, &attempt.verifier).await?.tokens()
    })
    .await?;
    party.refresh(token("refresh_token")?).await?.tokens()?;
    Ok(())
}

//! A user signs in, and every request the operator made of the API server is counted, exactly.

use anyhow::{Result, ensure};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{ControlPlane, Directory, Scene};

#[tokio::test]
async fn a_login_is_one_create_and_a_refresh_is_one_patch() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let made = scene.installation().requests_since(mark)?;
    assert_eq!(made, [("create sessions".to_owned(), 1)]);

    let id_token = claims(tokens["id_token"].as_str().unwrap_or_default())?;
    assert_eq!(id_token["iss"], scene.issuer());
    assert_eq!(id_token["aud"], "kubernetes");
    assert_eq!(id_token["email"], "admin@local.example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["groups"], serde_json::json!(["local:admins"]));

    let mark = audit.mark()?;
    let refresh_token = tokens["refresh_token"].as_str().unwrap_or_default();
    let refreshed = party.refresh(refresh_token).await?.tokens()?;
    let made = scene.installation().requests_since(mark)?;
    assert_eq!(made, [("patch sessions".to_owned(), 1)]);
    ensure!(refreshed["refresh_token"] != tokens["refresh_token"], "the token did not rotate");
    Ok(())
}

//! An answer of userinfo that is signed, for a client that keeps it as proof (OIDC Core 5.3.2), still from memory.

use anyhow::{Context, Result, ensure};
use claviger_jose::{Algorithm, KeySet, verify_signature};
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{ControlPlane, Directory, Scene, eventually};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn userinfo_is_signed_by_a_published_key_for_no_request_and_opens_no_cluster() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    assert_eq!(
        party.metadata()["userinfo_signing_alg_values_supported"],
        serde_json::json!(["RS256"])
    );
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let access = tokens["access_token"].as_str().context("no access token")?;
    let patch = r#"{"spec":{"userinfoSigningAlgorithm":"RS256"}}"#;
    let patch = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", patch];
    scene.installation().kubectl(&patch)?;

    let url = party.endpoint("userinfo_endpoint")?;
    let jwt = eventually(std::time::Duration::from_secs(10), async || {
        let mark = plane.audit_log().mark()?;
        let response = party.http().get(url.clone()).bearer_auth(access).send().await?;
        let media_type = response.headers()["content-type"].to_str()?.to_owned();
        ensure!(media_type == "application/jwt", "{media_type}");
        let counted = scene.installation().requests_since(mark)?;
        println!("signed userinfo: {counted:?}");
        assert_eq!(counted, []);
        Ok(response.text().await?)
    })
    .await?;
    let keys = party.http().get(party.endpoint("jwks_uri")?).send().await?.bytes().await?;
    let keys = KeySet::parse(&keys)?;
    let signed = verify_signature(&keys, &jwt, &[Algorithm::RS256])?;
    let claims = Value::Object(signed.claims);
    assert_eq!((&claims["iss"], &claims["aud"]), (&scene.issuer().into(), &"kubernetes".into()));
    assert_eq!(claims["email"], "admin@local.example.com");
    ensure!(claims.get("exp").is_none(), "an API server could take it for an ID token: {claims}");

    let unknown = r#"{"spec":{"userinfoSigningAlgorithm":"ES512"}}"#;
    let patch = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", unknown];
    scene.installation().kubectl(&patch)?;
    let client = "oauth2client/kubernetes";
    scene.installation().wait_for_status(client, "Accepted", "False").await
}

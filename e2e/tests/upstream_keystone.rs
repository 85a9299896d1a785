//! Users of an OpenStack (a real Keystone) sign in here by the example's connector, and every request that costs is counted.

use anyhow::{Result, ensure};
use claviger_testkit::browser::Login;
use claviger_testkit::keystone::{Keystone, KeystoneDomain, PASSWORD, SERVICE_PASSWORD};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{Manifests, SCOPE};
use claviger_testkit::{ControlPlane, Directory, Scene, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

use crate::upstream_github::{assert_over, requests, text};

const ADA: Login<'static> = Login { connector: "openstack", username: "ada", password: PASSWORD };

/// The quickstart, and the example's connector at a new domain, in which `ada` is among the `kubernetes-users`.
async fn scene(plane: &ControlPlane, name: &str) -> Result<(Scene, KeystoneDomain, String)> {
    let keystone = Keystone::shared().await?;
    let domain = keystone.domain(name).await?;
    let ada = domain.user("ada", PASSWORD).await?;
    domain.group("kubernetes-users", &[&ada]).await?;
    let scene = Scene::start(plane, Directory::None).await?;
    let here = scene.installation();
    let mut manifests = Manifests::of_example("keystone")?;
    let secret = manifests.find("Secret", "keystone")?;
    secret["stringData"]["password"] = SERVICE_PASSWORD.into();
    let upstream = &mut manifests.find("Connector", "openstack")?["spec"]["upstream"]["keystone"];
    upstream["url"] = keystone.url().into();
    upstream["domain"]["name"] = domain.name.clone().into();
    upstream["tls"] = json!({"caBundle": keystone.authority().certificate_pem()});
    here.apply(&manifests.to_json())?;
    let patch =
        json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "openstack"}}]);
    here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
    here.wait_for("connector/openstack", "Ready").await?;
    here.wait_for("oidcissuer/main", "Ready").await?;
    Ok((scene, domain, ada))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_openstack_costs_one_create_and_each_refresh_a_read_and_a_patch() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, domain, ada) = scene(&plane, "story").await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = party.log_in(SCOPE, ADA).await?;
    let counted = requests(&scene, mark)?;
    println!("a sign-in from Keystone: {counted}");
    assert_eq!(counted, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], false);
    assert_eq!(id_token["preferred_username"], "ada");
    assert_eq!(id_token["groups"], json!(["openstack:kubernetes-users"]));

    domain.group("on-call", &[&ada]).await?;
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("a refresh with Keystone: {counted}");
    assert_eq!(counted, "get sessions × 1, patch sessions × 1");
    let id_token = claims(text(&second, "id_token")?)?;
    let mut groups: Vec<_> =
        id_token["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    groups.sort_unstable();
    assert_eq!(groups, ["openstack:kubernetes-users", "openstack:on-call"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verdict_of_openstack_ends_the_session_and_its_silence_does_not() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, domain, ada) = scene(&plane, "verdicts").await?;
    let party = scene.relying_party().await?;

    let tokens = party.log_in(SCOPE, ADA).await?;
    domain.change_user(&ada, json!({"enabled": false})).await?;
    assert_over(&party, &tokens).await?;
    let refused = party.log_in(SCOPE, ADA).await.unwrap_err();
    ensure!(format!("{refused:#}").contains("Name or password is wrong"), "{refused:#}");
    domain.change_user(&ada, json!({"enabled": true})).await?;

    let tokens = party.log_in(SCOPE, ADA).await?;
    domain.delete_user(&ada).await?;
    assert_over(&party, &tokens).await?;
    // The service account is of that domain: nobody can be asked, and nobody loses a session.
    let ada = domain.user("ada", PASSWORD).await?;
    domain.group("kubernetes-staff", &[&ada]).await?;
    let patch = r#"{"spec":{"allowedGroups":["kubernetes-staff"]}}"#;
    scene.installation().kubectl(&["patch", "connector/openstack", "--type=merge", "-p", patch])?;
    let tokens =
        eventually(Duration::from_secs(20), async || party.log_in(SCOPE, ADA).await).await?;
    domain.enable(false).await?;
    let answer = party.refresh(text(&tokens, "refresh_token")?).await?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    ensure!(answer.retry_after.is_some(), "nobody says when to come again");

    let log = scene.operator()?.log()?;
    for why in ["the account is disabled", "the account is gone"] {
        let told =
            log.lines().any(|line| line.contains("upstream's verdict") && line.contains(why));
        ensure!(told, "nobody says {why:?}:\n{log}");
    }
    Ok(())
}

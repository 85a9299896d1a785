//! Users of an Atlassian Crowd (a fake that speaks its documented API) sign in here by the example's connector, and every
//! request that costs is counted.

use anyhow::{Context, Result, ensure};
use claviger_testkit::browser::Login;
use claviger_testkit::crowd::{APPLICATION_PASSWORD, Crowd, PASSWORD, Person};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{Manifests, SCOPE};
use claviger_testkit::vendor::Scripted;
use claviger_testkit::{ControlPlane, Directory, Scene, eventually};
use reqwest::StatusCode;
use serde_json::json;
use std::time::Duration;

use crate::upstream_github::{assert_over, requests, text};

const ADA: Login<'static> = Login { connector: "crowd", username: "ada", password: PASSWORD };
const AUTHENTICATION: &str = "POST /crowd/rest/usermanagement/1/authentication";
const USER: &str = "GET /crowd/rest/usermanagement/1/user";

/// The quickstart, and the example's connector at a Crowd that has `ada` among the `kubernetes-users`.
async fn scene(plane: &ControlPlane) -> Result<(Scene, Crowd)> {
    let scene = Scene::start(plane, Directory::None).await?;
    let here = scene.installation();
    let crowd = Crowd::start(here.authority()).await?;
    crowd.change_ada(|ada| ada.direct = vec!["kubernetes-users".into()]);
    let mut manifests = Manifests::of_example("atlassian-crowd")?;
    manifests.find("Secret", "crowd")?["stringData"]["password"] = APPLICATION_PASSWORD.into();
    let upstream = &mut manifests.find("Connector", "crowd")?["spec"]["upstream"];
    let upstream = &mut upstream["atlassianCrowd"];
    upstream["url"] = format!("{}/crowd", crowd.url()).into();
    upstream["tls"] = json!({"caBundle": here.authority().certificate_pem()});
    here.apply(&manifests.to_json())?;
    let patch = json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "crowd"}}]);
    here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
    here.wait_for("connector/crowd", "Ready").await?;
    here.wait_for("oidcissuer/main", "Ready").await?;
    Ok((scene, crowd))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_crowd_costs_one_create_and_each_refresh_a_read_and_a_patch() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, crowd) = scene(&plane).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = party.log_in(SCOPE, ADA).await?;
    let counted = requests(&scene, mark)?;
    println!("a sign-in from Crowd: {counted}");
    assert_eq!(counted, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], false);
    assert_eq!(id_token["name"], "Ada Lovelace");
    assert_eq!(id_token["groups"], json!(["crowd:kubernetes-users", "crowd:everybody"]));

    crowd.change_ada(|ada| ada.nested.clear());
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("a refresh with Crowd: {counted}");
    assert_eq!(counted, "get sessions × 1, patch sessions × 1");
    assert_eq!(claims(text(&second, "id_token")?)?["groups"], json!(["crowd:kubernetes-users"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verdict_of_crowd_ends_the_session_and_trouble_there_does_not() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, crowd) = scene(&plane).await?;
    let party = scene.relying_party().await?;

    let first = party.log_in(SCOPE, ADA).await?;
    crowd.script(USER, Scripted::new(500, r#"{"reason":"OPERATION_FAILED"}"#));
    let answer = party.refresh(text(&first, "refresh_token")?).await?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    crowd.conduct().answers.clear();
    let first = eventually(Duration::from_mins(1), async || {
        party.refresh(text(&first, "refresh_token")?).await?.tokens()
    })
    .await?;

    crowd.change_ada(|ada| ada.active = false);
    assert_over(&party, &first).await?;
    let refused = party.log_in(SCOPE, ADA).await.unwrap_err();
    ensure!(format!("{refused:#}").contains("Name or password is wrong"), "{refused:#}");
    crowd.change_ada(|ada| ada.active = true);

    // Out of the group that lets her in.
    let tokens = party.log_in(SCOPE, ADA).await?;
    crowd.change_ada(|ada| ada.direct = vec!["guests".into()]);
    assert_over(&party, &tokens).await?;
    crowd.change_ada(|ada| ada.direct = vec!["kubernetes-users".into()]);

    let tokens = party.log_in(SCOPE, ADA).await?;
    // Others are there: of a Crowd that shows nobody at all, nobody is gone.
    let grace = crowd.people().users.remove("ada").context("ada is there")?;
    crowd.people().users.insert("grace".into(), Person { key: Some("557057:1".into()), ..grace });
    assert_over(&party, &tokens).await?;
    crowd.script(AUTHENTICATION, Scripted::new(403, r#"{"reason":"APPLICATION_ACCESS_DENIED"}"#));
    let refused = party.log_in(SCOPE, ADA).await.unwrap_err();
    ensure!(!format!("{refused:#}").contains("Name or password is wrong"), "{refused:#}");
    let log = scene.operator()?.log()?;
    for why in
        ["the account is inactive", "the account is gone", "INACTIVE_ACCOUNT", "Remote Addresses"]
    {
        ensure!(log.contains(why), "nobody says {why:?}:\n{log}");
    }
    Ok(())
}

//! Users of a Windows domain (Samba) sign in by the example's connector, and every request that costs is counted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::browser::Login;
use claviger_testkit::relying_party::claims;
use claviger_testkit::samba::{BASE_DN, group_dn, user_dn};
use claviger_testkit::scene::{Manifests, SCOPE};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, RelyingParty, Samba, Scene, eventually,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

const PASSWORD: &str = "wonderland";
const ADA: Login<'static> = Login { connector: "ad", username: "ada", password: PASSWORD };
/// The example's service account.
const SERVICE_PASSWORD: &str = "the-password-of-the-service-account";

/// A domain as the example's README says: `ada` is in `kubernetes-admins`, and those are in `kubernetes-users`.
async fn domain() -> Result<Samba> {
    let samba = Samba::start().await?;
    samba.add_user("claviger", SERVICE_PASSWORD, "")?;
    samba.add_user("ada", PASSWORD, "mail: ada@example.com\ndisplayName: Ada Lovelace")?;
    samba.add_user("grace", PASSWORD, "")?;
    samba.add_group("kubernetes-admins", &[user_dn("ada")])?;
    samba.add_group("kubernetes-users", &[group_dn("kubernetes-admins")])?;
    Ok(samba)
}

/// The quickstart, and the example's connector at these domain controllers.
async fn scene(plane: &ControlPlane, controllers: &[&Samba]) -> Result<Scene> {
    let scene = Scene::start(plane, Directory::None).await?;
    let here = scene.installation();
    let mut manifests = Manifests::of_example("active-directory")?;
    let data = &mut manifests.find("Secret", "active-directory")?["stringData"];
    data["password"] = SERVICE_PASSWORD.into();
    data["ca.crt"] = controllers.first().context("a controller")?.ca_pem().into();
    let upstream = &mut manifests.find("Connector", "ad")?["spec"]["upstream"]["activeDirectory"];
    upstream["urls"] = controllers.iter().map(|samba| samba.ldaps_url()).collect();
    upstream["bind"]["name"] = "claviger@ad.example.test".into();
    upstream["baseDN"] = BASE_DN.into();
    upstream["timeouts"] = json!({"connectSeconds": 5});
    here.apply(&manifests.to_json())?;
    let patch = json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "ad"}}]);
    here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
    here.wait_for("connector/ad", "Ready").await?;
    here.wait_for("oidcissuer/main", "Ready").await?;
    Ok(scene)
}

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

async fn ended(party: &RelyingParty, tokens: &Value) -> Result<()> {
    let answer = party.refresh(text(tokens, "refresh_token")?).await?;
    assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_a_domain_costs_one_create_and_each_refresh_a_read_and_a_patch() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let samba = domain().await?;
    let scene = scene(&plane, &[&samba]).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = party.log_in(SCOPE, ADA).await?;
    let counted = requests(&scene, mark)?;
    println!("a sign-in from Active Directory: {counted}");
    assert_eq!(counted, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["name"], "Ada Lovelace");
    assert_eq!(id_token["preferred_username"], "ada");
    let mut groups: Vec<&str> =
        id_token["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    groups.sort_unstable();
    assert_eq!(groups, ["ad:kubernetes-admins", "ad:kubernetes-users"]);

    samba.add_group("kubernetes-on-call", &[user_dn("ada")])?;
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("a refresh with Active Directory: {counted}");
    assert_eq!(counted, "get sessions × 1, patch sessions × 1");
    let id_token = claims(text(&second, "id_token")?)?;
    let groups = id_token["groups"].as_array().context("groups")?;
    ensure!(groups.contains(&json!("ad:kubernetes-on-call")), "{id_token}");

    // By their own name in the domain they are the same user.
    let principal = Login { username: "ada@ad.example.test", ..ADA };
    let other = party.log_in(SCOPE, principal).await?;
    assert_eq!(claims(text(&other, "id_token")?)?["sub"], id_token["sub"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verdict_of_the_domain_ends_the_session_at_the_next_refresh_and_is_told_in_the_log()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let samba = domain().await?;
    let scene = scene(&plane, &[&samba]).await?;
    let party = scene.relying_party().await?;
    let ada = user_dn("ada");

    let tokens = party.log_in(SCOPE, ADA).await?;
    samba.replace(&ada, "userAccountControl", "514")?;
    ended(&party, &tokens).await?;
    samba.replace(&ada, "userAccountControl", "512")?;

    // The group within the group is what lets her in.
    let tokens = party.log_in(SCOPE, ADA).await?;
    samba.remove_member("kubernetes-users", &group_dn("kubernetes-admins"))?;
    ended(&party, &tokens).await?;
    samba.add_group("kubernetes-staff", std::slice::from_ref(&ada))?;
    samba.modify(&format!(
        "dn: {}\nchangetype: modify\nadd: member\nmember: {}\n",
        group_dn("kubernetes-users"),
        group_dn("kubernetes-staff")
    ))?;

    let tokens = party.log_in(SCOPE, ADA).await?;
    samba.reset_password("ada", "looking glass")?;
    ended(&party, &tokens).await?;

    let now = Login { password: "looking glass", ..ADA };
    let tokens = party.log_in(SCOPE, now).await?;
    samba.modify(&format!("dn: {ada}\nchangetype: delete\n"))?;
    ended(&party, &tokens).await?;

    let log = scene.operator()?.log()?;
    for why in [
        "the account is disabled",
        "the password was changed after the sign-in",
        "the entry is gone",
    ] {
        let told =
            log.lines().any(|line| line.contains("upstream's verdict") && line.contains(why));
        ensure!(told, "nobody says {why:?}:\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_users_see_one_page_and_the_log_has_the_domains_own_codes() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let samba = domain().await?;
    samba.add_user("bob", PASSWORD, "accountExpires: 131900000000000000")?;
    samba.add_user("carol", PASSWORD, "")?;
    samba.replace(&user_dn("carol"), "userAccountControl", "514")?;
    samba.add_user("dave", PASSWORD, "")?;
    samba.replace(&user_dn("dave"), "pwdLastSet", "0")?;
    let scene = scene(&plane, &[&samba]).await?;
    let party = scene.relying_party().await?;
    let mut pages = Vec::new();
    for (username, password) in [
        ("nobody", PASSWORD),
        ("ada", "wrong"),
        ("bob", PASSWORD),
        ("carol", PASSWORD),
        ("dave", PASSWORD),
    ] {
        let refused = party.log_in(SCOPE, Login { username, password, ..ADA }).await.unwrap_err();
        let said = format!("{refused:#}");
        ensure!(said.contains("Name or password is wrong"), "{said}");
        // The page repeats what was typed; all else must be the same.
        pages.push(said.contains("data ") || said.contains("expired") || said.contains("disabled"));
    }
    assert_eq!(pages, [false; 5], "a page says why");
    let log = scene.operator()?.log()?;
    for why in ["no entry matches", "data 52e", "data 701", "data 533", "data 773"] {
        ensure!(log.contains(why), "nobody says {why:?}:\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_domain_controller_takes_over_and_without_any_nobody_loses_a_session() -> Result<()>
{
    let plane = ControlPlane::from_env()?;
    let mut samba = domain().await?;
    let mut twin = samba.twin().await?;
    let scene = scene(&plane, &[&samba, &twin]).await?;
    let party = scene.relying_party().await?;
    let first = party.log_in(SCOPE, ADA).await?;
    samba.stop();
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    party.log_in(SCOPE, ADA).await?;
    twin.stop();
    let refresh_token = text(&second, "refresh_token")?;
    let answer = party.refresh(refresh_token).await?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    ensure!(answer.retry_after.is_some(), "nobody says when to come again");
    let said = eventually(Duration::from_secs(90), async || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")]}"#;
        let said = scene.installation().kubectl(&["get", "connector/ad", "-o", path])?;
        ensure!(said.contains("UpstreamUnreachable"), "{said}");
        Ok(said)
    })
    .await?;
    for controller in [&samba, &twin] {
        ensure!(said.contains(&controller.ldaps_url()), "{said}");
    }
    samba.start_again().await?;
    party.refresh(refresh_token).await?.tokens()?;
    Ok(())
}

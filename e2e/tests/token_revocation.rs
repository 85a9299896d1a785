//! A client ends what it was given (RFC 7009), and every request it costs is counted from the audit log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, RelyingParty, Scene, Setup, eventually,
    run_recipe,
};
use reqwest::StatusCode;
use serde_json::Value;

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

async fn assert_over(party: &RelyingParty, tokens: &Value) -> Result<()> {
    assert_eq!(party.refresh(text(tokens, "refresh_token")?).await?.error(), "invalid_grant");
    let (status, _) = party.userinfo(text(tokens, "access_token")?).await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_either_token_ends_the_session_with_one_patch_and_again_costs_nothing()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    for name in ["access_token", "refresh_token"] {
        let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
        let mark = plane.audit_log().mark()?;
        for n in 0..10 {
            let (status, body) = party.revoke(text(&tokens, name)?).await?;
            assert_eq!((status, body.as_str()), (StatusCode::OK, ""), "{name}, {n}");
        }
        assert_over(&party, &tokens).await?;
        let counted = requests(&scene, mark)?;
        println!("{name} revoked ten times and used twice: {counted}");
        assert_eq!(counted, "patch sessions × 1");
    }
    let path = "jsonpath={.items[*].spec['state','revokedReason']}";
    let states = scene.installation().kubectl(&["get", "sessions", "-o", path])?;
    assert_eq!(states, "Revoked Revoked TokenRevoked TokenRevoked");
    ensure!(scene.operator()?.log()?.contains("TokenRevoked"), "the audit log does not say it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_other_clients_end_nothing_and_cost_nothing() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene =
        Scene::start_in(Installation::create(&plane).await?, Directory::None, |manifests| {
            manifests.push(serde_json::json!({
                "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
                "metadata": {"name": "other"},
                "spec": {"issuerRef": {"name": "main"}, "type": "Public",
                    "redirectURIs": ["http://localhost:8001"]},
            }));
        })
        .await?;
    scene.installation().wait_for("oauth2client/other", "Ready").await?;
    let party = scene.relying_party().await?;
    let pem = scene.installation().authority().certificate_pem();
    let issuer = scene.issuer();
    let redirect = "http://localhost:8001";
    let other = RelyingParty::discover(&issuer, pem, ("other", None), redirect).await?;
    let guess = ("kubernetes", Some("a wrong secret"));
    let thief = RelyingParty::discover(&issuer, pem, guess, redirect).await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;

    let mark = plane.audit_log().mark()?;
    for name in ["access_token", "refresh_token", "id_token"] {
        let token = text(&tokens, name)?;
        assert_eq!(other.revoke(token).await?, (StatusCode::OK, String::new()), "{name}");
        let forged = format!("{token}A");
        assert_eq!(party.revoke(&forged).await?, (StatusCode::OK, String::new()), "{name}");
        let (status, body) = thief.revoke(token).await?;
        ensure!(status == StatusCode::UNAUTHORIZED && body.contains("invalid_client"), "{body}");
    }
    assert_eq!(requests(&scene, mark)?, "");
    party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_hears_of_it_and_the_recipe_works_as_it_is_written() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let setup = Setup::new(Directory::None).replicas(2);
    let scene = Scene::start_as(Installation::create(&plane).await?, &setup, |_| {}).await?;
    let parties = scene.relying_parties().await?;
    let tokens = parties[0].log_in(SCOPE, LOCAL_USER).await?;
    let access = text(&tokens, "access_token")?;
    for party in &parties {
        assert_eq!(party.userinfo(access).await?.0, StatusCode::OK);
    }
    let secret = scene.client_secret().await?;
    let authority = scene.installation().authority_file()?.display().to_string();
    let printed = run_recipe(
        "tokens.md",
        "revoke",
        &[
            ("ISSUER", &scene.issuer()),
            ("CLIENT_ID", "kubernetes"),
            ("CLIENT_SECRET", &secret),
            ("REFRESH_TOKEN", text(&tokens, "refresh_token")?),
            ("CURL_CA_BUNDLE", &authority),
        ],
    )?;
    assert_eq!(printed, "");
    for party in &parties {
        eventually(Duration::from_secs(5), async || {
            let (status, body) = party.userinfo(access).await?;
            ensure!(status == StatusCode::UNAUTHORIZED, "still {status}: {body}");
            Ok(())
        })
        .await?;
        assert_over(party, &tokens).await?;
    }
    Ok(())
}

//! Claims of an issuer's own, as `docs/policy.md` shows them: in discovery, in ID tokens, at userinfo and to the API
//! server, for no request more than a condition costs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::browser::query_value;
use claviger_testkit::installation::repository;
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{AuditMark, ControlPlane, Directory, RelyingParty, Scene, eventually};
use serde_json::{Value, json};

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

fn patch(scene: &Scene, kind: &str, name: &str, change: &Value) -> Result<()> {
    let change = change.to_string();
    scene.installation().kubectl(&["patch", kind, name, "--type=merge", "-p", &change]).map(drop)
}

/// The relying party of a scene whose issuer has the claims of the example, and whose client may ask for them.
async fn party(scene: &Scene) -> Result<RelyingParty> {
    let file = repository().join("examples/policy/patches/issuer-claims.yaml");
    let file = format!("--patch-file={}", file.display());
    scene.installation().kubectl(&["patch", "oidcissuer", "main", "--type=merge", &file])?;
    patch(scene, "oauth2client", "kubernetes", &json!({"spec": {"customScopes": ["teams"]}}))?;
    let known = eventually(Duration::from_secs(10), async || {
        let party = scene.relying_party().await?;
        let scopes = &party.metadata()["scopes_supported"];
        ensure!(scopes.as_array().is_some_and(|all| all.contains(&json!("teams"))), "{scopes}");
        Ok(party)
    });
    known.await
}

/// The error that a sign-in ends with.
async fn refusal(party: &RelyingParty) -> Result<String> {
    let url = party.browser()?.sign_in(&party.attempt(SCOPE)?.url, LOCAL_USER).await?;
    query_value(&url, "error")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuers_own_claims_are_in_discovery_tokens_and_userinfo() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = party(&scene).await?;
    let supported = &party.metadata()["claims_supported"];
    for claim in ["teams", "https://example.com/staff"] {
        ensure!(supported.as_array().is_some_and(|all| all.contains(&json!(claim))), "{supported}");
    }
    let scope = format!("{SCOPE} teams");
    let tokens = eventually(Duration::from_secs(10), async || {
        let mark = plane.audit_log().mark()?;
        let tokens = party.log_in(&scope, LOCAL_USER).await?;
        let counted = requests(&scene, mark)?;
        println!("a sign-in with claims of the issuer's own: {counted}");
        assert_eq!(counted, "create sessions × 1");
        Ok(tokens)
    })
    .await?;
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["teams"], json!(["admins"]));
    assert_eq!(id_token["https://example.com/staff"], true);
    let mark = plane.audit_log().mark()?;
    let (_, body) = party.userinfo(text(&tokens, "access_token")?).await?;
    let userinfo: Value = serde_json::from_str(&body)?;
    assert_eq!(userinfo["teams"], json!(["admins"]));
    assert_eq!(requests(&scene, mark)?, "");
    let mark = plane.audit_log().mark()?;
    let refreshed = party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("a refresh with claims of the issuer's own: {counted}");
    assert_eq!(counted, "get sessions × 1, patch sessions × 1");
    assert_eq!(claims(text(&refreshed, "id_token")?)?["teams"], json!(["admins"]));
    let silent = party.log_in("openid", LOCAL_USER).await?;
    let silent = claims(text(&silent, "id_token")?)?;
    ensure!(silent.get("teams").is_none(), "{silent}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_never_says_system_and_one_that_is_wrong_is_named() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    let claim = |expression: &str, example: Option<&str>| {
        let examples = example.map(
            |expected| json!([{"name": "x", "user": {"groups": ["a"]}, "expectJSON": expected}]),
        );
        json!({"spec": {"claims": [{
            "name": "power", "scope": "profile", "expression": expression, "examples": examples,
        }]}})
    };
    let masters = "{'roles': ['system:masters']}";
    patch(&scene, "oidcissuer", "main", &claim(masters, None))?;
    let mark = plane.audit_log().mark()?;
    eventually(Duration::from_secs(10), async || {
        assert_eq!(refusal(&party).await?, "access_denied");
        Ok(())
    })
    .await?;
    let counted = requests(&scene, mark)?;
    ensure!(!counted.contains("create sessions"), "{counted}");

    patch(&scene, "oidcissuer", "main", &claim("user.claims.department", None))?;
    eventually(Duration::from_secs(10), async || {
        let error = refusal(&party).await?;
        ensure!(error == "server_error", "{error}");
        Ok(())
    })
    .await?;

    patch(&scene, "oidcissuer", "main", &claim("user.groups", Some(r#"["b"]"#)))?;
    let issuer = "oidcissuer/main";
    scene.installation().wait_for_status(issuer, "Accepted", "False").await?;
    let path = r#"jsonpath={.status.conditions[?(@.type=="Accepted")].message}"#;
    let message = scene.installation().kubectl(&["get", issuer, "-o", path])?;
    println!("{message}");
    assert_eq!(message, r#"claims: power: example "x": expected ["b"], came out: ["a"]"#);
    Ok(())
}

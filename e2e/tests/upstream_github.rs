//! Users of a GitHub (a fake that speaks its documented API, with paging, errors and rate limits) sign in here, and every
//! request that costs is counted.

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::SCOPE;
use claviger_testkit::vendor::{CLIENT_ID, CLIENT_SECRET, Scripted, Style, Vendor};
use claviger_testkit::{
    AuditMark, Browser, ControlPlane, Directory, RelyingParty, Scene, eventually,
};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use std::time::Duration;

/// The quickstart, with a second connector `corp`, and the vendor behind it.
pub async fn scene(plane: &ControlPlane, style: Style, upstream: Value) -> Result<(Scene, Vendor)> {
    let scene = Scene::start(plane, Directory::None).await?;
    let here = scene.installation();
    let vendor = Vendor::start(style, here.authority()).await?;
    let mut said = json!({
        "clientID": CLIENT_ID, "clientSecretRef": {"name": "upstream", "key": "clientSecret"},
        "tls": {"caBundle": here.authority().certificate_pem()},
    });
    let members = said.as_object_mut().context("an object")?;
    for further in [vendor.addresses(), upstream] {
        members.extend(further.as_object().cloned().unwrap_or_default());
    }
    let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
        secret(CLIENT_SECRET),
        {"apiVersion": "claviger.dev/v1alpha1", "kind": "Connector", "metadata": {"name": "corp"},
         "spec": {"displayName": "Corp", "groupPrefix": "corp:", "upstream": {style.kind(): said}}},
    ]});
    here.apply(&manifests.to_string())?;
    let patch = json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "corp"}}]);
    here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
    here.wait_for("connector/corp", "Ready").await?;
    here.wait_for("oidcissuer/main", "Ready").await?;
    Ok((scene, vendor))
}

fn secret(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret",
           "metadata": {"name": "upstream", "labels": {"claviger.dev/secret": "connector"}},
           "stringData": {"clientSecret": value}})
}

/// The way of a browser: to us, to the vendor, back to us, back to the application.
pub async fn sign_in(
    party: &RelyingParty,
    vendor: &Vendor,
    browser: &Browser,
) -> Result<(Url, String)> {
    let attempt = party.attempt(SCOPE)?;
    let mut url = attempt.url.clone();
    url.query_pairs_mut().append_pair("connector_id", "corp");
    let landing = match browser.open(&url).await? {
        Landing::Application(to_vendor) if to_vendor.as_str().starts_with(vendor.url()) => {
            browser.open(&vendor.send_back(&to_vendor)?).await?
        }
        landing => landing,
    };
    let landing = match landing {
        Landing::Page(page) if page.html.contains("name=\"approval\"") => {
            browser.submit(&page, &[("approval", "approve")]).await?
        }
        landing => landing,
    };
    match landing {
        Landing::Application(url) => Ok((url, attempt.verifier)),
        Landing::Page(page) => bail!("{}: {}", page.status, page.html),
    }
}

/// The tokens of a sign-in in a browser of its own.
pub async fn tokens(party: &RelyingParty, vendor: &Vendor) -> Result<Value> {
    let (url, verifier) = sign_in(party, vendor, &party.browser()?).await?;
    party.redeem(&query_value(&url, "code")?, &verifier).await?.tokens()
}

pub fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

pub fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// That the session is over, and that it is this refresh which ended it.
pub async fn assert_over(party: &RelyingParty, tokens: &Value) -> Result<()> {
    let answer = party.refresh(text(tokens, "refresh_token")?).await?;
    assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    Ok(())
}

const GITHUB: Style = Style::Github;

fn acme() -> Value {
    json!({"organizations": [{"name": "acme"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_github_costs_one_create_and_each_refresh_a_read_and_a_patch() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, github) = scene(&plane, GITHUB, acme()).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = tokens(&party, &github).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["preferred_username"], "ada");
    assert_eq!(id_token["groups"], json!(["corp:acme", "corp:acme:site-admins"]));

    let said = json!([{"id": 3, "name": "dev", "slug": "dev", "organization": {"login": "acme", "id": 100}}]);
    github.conduct().documents.insert("/api/v3/user/teams".into(), said);
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    assert_eq!(requests(&scene, mark)?, "get sessions × 1, patch sessions × 1");
    let id_token = claims(text(&second, "id_token")?)?;
    assert_eq!(id_token["groups"], json!(["corp:acme", "corp:acme:dev"]));
    Ok(())
}

/// A token that lasts may stand in several sessions: a browser that is known costs GitHub no further one, of which it
/// keeps ten for each user. One that is good once may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_is_known_has_one_token_of_github_for_all_its_clients() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, github) = scene(&plane, GITHUB, acme()).await?;
    let patch = r#"{"spec":{"browserSessions":{}}}"#;
    scene.installation().kubectl(&["patch", "oidcissuer/main", "--type=merge", "-p", patch])?;
    let party = scene.relying_party().await?;
    let browser = party.browser()?;
    // Until the replica knows the issuer by its change, a sign-in leaves the browser no session.
    eventually(Duration::from_secs(20), async || {
        sign_in(&party, &github, &browser).await?;
        ensure!(
            scene.installation().kubectl(&["get", "sessions", "-o", "name"])?.lines().count() > 0
        );
        Ok(())
    })
    .await?;
    let mut latest = Value::Null;
    let given = github.conduct().access_tokens.len();
    for _ in 0..2 {
        let (url, verifier) = sign_in(&party, &github, &browser).await?;
        latest = party.redeem(&query_value(&url, "code")?, &verifier).await?.tokens()?;
    }
    assert_eq!(github.conduct().access_tokens.len(), given, "it was not asked to sign anybody in");
    let latest = party.refresh(text(&latest, "refresh_token")?).await?.tokens()?;
    github.conduct().revoke_all();
    assert_over(&party, &latest).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_revoked_at_github_ends_the_session_at_the_next_refresh() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, github) = scene(&plane, GITHUB, acme()).await?;
    let party = scene.relying_party().await?;
    let first = tokens(&party, &github).await?;
    let refreshed = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;

    github.conduct().revoke_all();
    assert_over(&party, &refreshed).await?;
    // Who leaves the organization is out as well, at sign-in and at refresh.
    let second = tokens(&party, &github).await?;
    github.conduct().documents.insert("/api/v3/user/orgs".into(), json!([]));
    github.conduct().documents.insert("/api/v3/user/teams".into(), json!([]));
    assert_over(&party, &second).await?;
    let (url, _) = sign_in(&party, &github, &party.browser()?).await?;
    assert_eq!(query_value(&url, "error")?, "access_denied");
    let listed = scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let clients = listed["items"].as_array().into_iter().flatten();
    let clients = clients.filter(|session| session["spec"]["type"] != "Browser");
    let states: Vec<_> = clients.map(|session| &session["spec"]["state"]).collect();
    assert_eq!(states, ["Revoked", "Revoked"]);
    Ok(())
}

/// Limits, faults and our own wrong secret cost nobody their session; each is said by the connector or in the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_github_that_is_busy_or_away_costs_nobody_their_session() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, github) = scene(&plane, GITHUB, acme()).await?;
    let party = scene.relying_party().await?;
    let first = tokens(&party, &github).await?;
    let refresh_token = text(&first, "refresh_token")?;
    let limited = r#"{"message":"You have exceeded a secondary rate limit."}"#;
    for answer in [
        Scripted::new(403, limited).header("retry-after", "60"),
        Scripted::new(502, "<html>"),
        Scripted::new(401, "{}"),
    ] {
        github.conduct().answers.insert("/api/v3/user".into(), answer);
        let answer = party.refresh(refresh_token).await?;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        ensure!(answer.retry_after.is_some(), "nobody says when to come again");
    }
    github.conduct().answers.clear();
    let second = party.refresh(refresh_token).await?.tokens()?;

    // The secret is rotated while the operator runs: said at once, and mended by a new Secret alone.
    github.conduct().secret = "rotated".into();
    let here = scene.installation();
    let message = eventually(Duration::from_secs(90), async || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")]}"#;
        let said: Value =
            serde_json::from_str(&here.kubectl(&["get", "connector/corp", "-o", path])?)?;
        ensure!(said["status"] == "False", "{said}");
        Ok(said.to_string())
    })
    .await?;
    ensure!(message.contains("UpstreamRefusedCredentials"), "{message}");
    ensure!(message.contains("clientSecretRef"), "{message}");
    here.apply(&secret("rotated").to_string())?;
    here.wait_for("connector/corp", "Ready").await?;
    party.refresh(text(&second, "refresh_token")?).await?.tokens()?;
    tokens(&party, &github).await?;
    Ok(())
}

/// A GitHub App whose tokens expire: its refresh tokens are good once, so one refresh at a time asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_github_app_whose_tokens_expire_costs_a_read_and_two_patches_for_each_refresh()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, github) = scene(&plane, GITHUB, acme()).await?;
    github.conduct().expires = true;
    github.conduct().granted = Some(String::new());
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();
    let mark = audit.mark()?;
    let first = tokens(&party, &github).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1", "no browser session: good once");
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    assert_eq!(requests(&scene, mark)?, "get sessions × 1, patch sessions × 2");
    let third = party.refresh(text(&second, "refresh_token")?).await?.tokens()?;
    github.conduct().revoke_all();
    assert_over(&party, &third).await
}

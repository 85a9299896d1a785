//! Users of another OpenID provider (panva's oidc-provider, certified; it rotates its refresh tokens) sign in here, and
//! every request that costs is counted.

use anyhow::{Context, Result, bail, ensure};
use claviger_jose::{Algorithm, PrivateKey};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::installation::repository;
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::SCOPE;
use claviger_testkit::upstream_provider::{CLIENT_SECRET, UpstreamProvider, callback, upstream};
use claviger_testkit::{
    AuditMark, Browser, CertificateAuthority, ControlPlane, Directory, RelyingParty, Scene,
    eventually,
};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::time::Duration;

/// The quickstart, with a second connector `corp`, and the provider behind it.
async fn scene(plane: &ControlPlane, spec: Value) -> Result<(Scene, UpstreamProvider)> {
    let scene = Scene::start(plane, Directory::None).await?;
    let here = scene.installation();
    let provider = UpstreamProvider::start(here.authority(), &callback(scene.serving())).await?;
    connect(&scene, &provider, spec, json!({"clientSecret": CLIENT_SECRET})).await?;
    Ok((scene, provider))
}

/// Adds the connector `corp` to the quickstart, with what its Secret holds.
async fn connect(
    scene: &Scene,
    provider: &UpstreamProvider,
    spec: Value,
    secret: Value,
) -> Result<()> {
    let here = scene.installation();
    let mut connector = json!({
        "displayName": "Corp", "upstream": upstream(provider, here.authority()),
        "emailDomains": ["example.com"], "groupPrefix": "corp:",
    });
    connector
        .as_object_mut()
        .context("an object")?
        .extend(spec.as_object().cloned().unwrap_or_default());
    let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret",
         "metadata": {"name": "upstream", "labels": {"claviger.dev/secret": "connector"}},
         "stringData": secret},
        {"apiVersion": "claviger.dev/v1alpha1", "kind": "Connector", "metadata": {"name": "corp"}, "spec": connector},
    ]});
    here.apply(&manifests.to_string())?;
    let patch = json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "corp"}}]);
    here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
    here.wait_for("connector/corp", "Ready").await?;
    here.wait_for("oidcissuer/main", "Ready").await
}

/// The way of a browser: to us, to the provider, back to us, back to the application.
async fn sign_in(
    party: &RelyingParty,
    provider: &UpstreamProvider,
    name: &str,
) -> Result<(Browser, Url, String)> {
    let attempt = party.attempt(SCOPE)?;
    let mut url = attempt.url.clone();
    url.query_pairs_mut().append_pair("connector_id", "corp");
    let browser = party.browser()?;
    let to_provider = match browser.open(&url).await? {
        Landing::Application(url) => url,
        Landing::Page(page) => bail!("{}: {}", page.status, page.html),
    };
    ensure!(to_provider.as_str().starts_with(&provider.url()), "{to_provider}");
    let back = provider.sign_in(&browser, &to_provider, name).await?;
    let landing = match browser.open(&back).await? {
        Landing::Page(page) if page.html.contains("name=\"approval\"") => {
            browser.submit(&page, &[("approval", "approve")]).await?
        }
        landing => landing,
    };
    match landing {
        Landing::Application(url) => Ok((browser, url, attempt.verifier)),
        Landing::Page(page) => bail!("{}: {}", page.status, page.html),
    }
}

async fn tokens(party: &RelyingParty, provider: &UpstreamProvider, name: &str) -> Result<Value> {
    let (_, url, verifier) = sign_in(party, provider, name).await?;
    party.redeem(&query_value(&url, "code")?, &verifier).await?.tokens()
}

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_another_provider_costs_one_create_and_each_refresh_a_read_and_two_patches()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, provider) = scene(&plane, json!({})).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = tokens(&party, &provider, "ada").await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["preferred_username"], "ada");
    assert_eq!(id_token["groups"], json!(["corp:engineers"]));

    provider.set_user("ada", json!({"groups": ["engineers", "on-call"]})).await?;
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    // One to read it, one to have it alone, and one to keep the provider's next refresh token.
    assert_eq!(requests(&scene, mark)?, "get sessions × 1, patch sessions × 2");
    let id_token = claims(text(&second, "id_token")?)?;
    assert_eq!(id_token["groups"], json!(["corp:engineers", "corp:on-call"]));
    party.refresh(text(&second, "refresh_token")?).await?.tokens()?;
    Ok(())
}

/// No secret: a key signs for the code and for each refresh. The first one is not known there; another takes over as soon
/// as the Secret holds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_knows_us_by_a_key_is_shown_what_it_signs_and_keys_change_while_we_run()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let here = scene.installation();
    let [unknown, key] = [Algorithm::ES256; 2].map(|alg| PrivateKey::generate(alg, 0));
    let (unknown, key) = (unknown?, key?);
    let client = json!({
        "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
        "jwks": {"keys": [key.public_jwk()]},
    });
    let back = callback(scene.serving());
    let provider = UpstreamProvider::start_knowing(here.authority(), &back, client).await?;
    let mut upstream = upstream(&provider, here.authority());
    let oidc = upstream["oidc"].as_object_mut().context("an object")?;
    oidc.remove("clientSecretRef");
    let at = json!({"secretRef": {"name": "upstream", "key": "key.pem"}});
    oidc.insert("clientKey".to_owned(), at);
    let pem =
        |key: &PrivateKey| anyhow::Ok(json!({"key.pem": key.to_pkcs8_pem()?.expose_secret()}));
    connect(&scene, &provider, json!({"upstream": upstream}), pem(&unknown)?).await?;
    let party = scene.relying_party().await?;
    let refused = sign_in(&party, &provider, "ada").await.err().context("a key nobody knows")?;
    ensure!(refused.to_string().starts_with("503"), "{refused}");

    let patch = json!({"stringData": pem(&key)?}).to_string();
    here.kubectl(&["patch", "secret/upstream", "--type=merge", "-p", &patch])?;
    eventually(Duration::from_secs(20), async || tokens(&party, &provider, "ada").await.map(drop))
        .await?;
    let audit = plane.audit_log();
    let mark = audit.mark()?;
    let first = tokens(&party, &provider, "ada").await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    assert_eq!(requests(&scene, mark)?, "get sessions × 1, patch sessions × 2");
    assert_eq!(claims(text(&second, "id_token")?)?["groups"], json!(["corp:engineers"]));
    Ok(())
}

/// As trust-manager lays it out: the `ConfigMap` comes later, is of another authority at first, and counts when it changes.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_in_a_config_map_count_as_soon_as_they_change() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, provider) = scene(&plane, json!({})).await?;
    let here = scene.installation();
    let party = scene.relying_party().await?;
    let tls = json!({"caBundle": null, "caConfigMapRef": {"name": "corp-ca"}});
    let patch = json!({"spec": {"upstream": {"oidc": {"tls": tls}}}}).to_string();
    here.kubectl(&["patch", "connector/corp", "--type=merge", "-p", &patch])?;
    let said = |what: &'static str, kind: &'static str| {
        eventually(Duration::from_secs(20), async move || {
            let query = format!("jsonpath={{.status.conditions[?(@.type==\"{kind}\")]}}");
            let said = here.kubectl(&["get", "connector/corp", "-o", &query])?;
            ensure!(said.contains(what), "{said}");
            Ok(())
        })
    };
    said("ConfigMapNotFound", "ResolvedRefs").await?;

    let other = CertificateAuthority::create("another")?;
    let apply = |authority: &CertificateAuthority| {
        let manifest = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "corp-ca", "labels": {"claviger.dev/config-map": "connector"}},
            "data": {"ca.crt": authority.certificate_pem()},
        });
        here.apply(&manifest.to_string())
    };
    apply(&other)?;
    said("UpstreamUntrusted", "Ready").await?;
    apply(here.authority())?;
    here.wait_for("connector/corp", "Ready").await?;
    let audit = plane.audit_log();
    let mark = audit.mark()?;
    tokens(&party, &provider, "ada").await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1", "no request for the ConfigMap");

    here.kubectl(&["label", "configmap/corp-ca", "claviger.dev/config-map-"])?;
    said("ConfigMapNotFound", "ResolvedRefs").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_there_is_gone_here_and_policy_holds_at_each_refresh() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, provider) = scene(&plane, json!({"allowedGroups": ["engineers"]})).await?;
    let party = scene.relying_party().await?;

    let (_, refused, _) = sign_in(&party, &provider, "bob").await?;
    assert_eq!(query_value(&refused, "error")?, "access_denied", "an address nobody verified");
    let first = tokens(&party, &provider, "ada").await?;
    provider.set_user("ada", json!({"groups": ["retired"]})).await?;
    let answer = party.refresh(text(&first, "refresh_token")?).await?;
    assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));

    provider.set_user("ada", json!({"groups": ["engineers"]})).await?;
    let second = tokens(&party, &provider, "ada").await?;
    provider.set_user("ada", Value::Null).await?;
    let answer = party.refresh(text(&second, "refresh_token")?).await?;
    assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    let listed = scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let states: Vec<_> =
        listed["items"].as_array().into_iter().flatten().map(|s| &s["spec"]["state"]).collect();
    assert_eq!(states, ["Revoked", "Revoked"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_costs_nobody_their_session_and_is_said_by_the_connector()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, provider) = scene(&plane, json!({})).await?;
    let party = scene.relying_party().await?;
    let tokens = tokens(&party, &provider, "ada").await?;
    drop(provider);
    let refresh_token = text(&tokens, "refresh_token")?;
    for _ in 0..3 {
        let answer = party.refresh(refresh_token).await?;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        ensure!(answer.retry_after.is_some(), "nobody says when to come again");
    }
    let message = eventually(Duration::from_secs(90), async || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")]}"#;
        let said = scene.installation().kubectl(&["get", "connector/corp", "-o", path])?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["status"] == "False", "{said}");
        Ok(said.to_string())
    })
    .await?;
    ensure!(message.contains("UpstreamUnreachable") && message.contains("refused"), "{message}");
    let listed = scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    assert_eq!(listed["items"][0]["spec"]["state"], "Active");
    assert_eq!(listed["items"][0]["spec"]["generation"], 0, "nothing was rotated");
    Ok(())
}

/// Eight at once with one refresh token: the provider's own is used once, and nobody's session is lost.
#[tokio::test(flavor = "multi_thread")]
async fn one_refresh_at_a_time_asks_a_provider_that_rotates() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, provider) = scene(&plane, json!({})).await?;
    let party = scene.relying_party().await?;
    let first = tokens(&party, &provider, "ada").await?;
    let refresh_token = text(&first, "refresh_token")?.to_owned();
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (party, token) = (party.clone(), refresh_token.clone());
        racing.spawn(async move { party.refresh(&token).await });
    }
    let mut given = Vec::new();
    while let Some(answer) = racing.join_next().await {
        let answer = answer??;
        match answer.status {
            StatusCode::OK => given.push(text(&answer.body, "refresh_token")?.to_owned()),
            StatusCode::SERVICE_UNAVAILABLE => {}
            status => bail!("{status}: {answer:?}"),
        }
    }
    ensure!(!given.is_empty(), "nobody was answered");
    given.dedup();
    assert_eq!(given.len(), 1, "one and the same next token");
    party.refresh(&given[0]).await?.tokens()?;
    Ok(())
}

/// The claim mapping of `examples/oidc`: what it gives, whom it keeps out, and that its examples are tried.
#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_reads_the_answer_and_one_whose_example_fails_takes_the_connector_out()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, provider) = scene(&plane, json!({})).await?;
    let here = scene.installation();
    let party = scene.relying_party().await?;
    let file = repository().join("examples/oidc/patches/claim-mapping.yaml");
    let file = file.to_str().context("a path")?;
    here.kubectl(&["patch", "connector/corp", "--type=merge", "--patch-file", file])?;
    here.wait_for("connector/corp", "Ready").await?;
    let said = json!({"email": "Ada@example.com", "department": "engines", "groups": ["engineers", "retired-a"]});
    provider.set_user("ada", said).await?;
    let first = eventually(Duration::from_secs(20), async || {
        let tokens = tokens(&party, &provider, "ada").await?;
        let id_token = claims(text(&tokens, "id_token")?)?;
        let groups = json!(["corp:engineers", "corp:department-engines"]);
        ensure!(id_token["groups"] == groups, "{id_token}");
        ensure!(id_token["preferred_username"] == "ada", "{id_token}");
        ensure!(id_token.get("department").is_none(), "{id_token}");
        Ok(tokens)
    })
    .await?;

    provider.set_user("ada", json!({"suspended": true})).await?;
    let answer = party.refresh(text(&first, "refresh_token")?).await?;
    assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    let (_, refused, _) = sign_in(&party, &provider, "ada").await?;
    assert_eq!(query_value(&refused, "error")?, "access_denied");
    let told = query_value(&refused, "error_description")?;
    assert_eq!(told, "Your account is suspended. Ask the help desk.");

    let patch = json!({"spec": {"claimMapping": {"deny": []}}}).to_string();
    here.kubectl(&["patch", "connector/corp", "--type=merge", "-p", &patch])?;
    let message = eventually(Duration::from_secs(20), async || {
        let accepted = r#"jsonpath={.status.conditions[?(@.type=="Accepted")]}"#;
        let said = here.kubectl(&["get", "connector/corp", "-o", accepted])?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["status"] == "False", "{said}");
        Ok(said["message"].as_str().context("a message")?.to_owned())
    })
    .await?;
    let expected = r#"claimMapping.examples: "somebody suspended": expected Deny, came out: Allow"#;
    assert_eq!(message, expected);
    let mut url = party.attempt(SCOPE)?.url;
    url.query_pairs_mut().append_pair("connector_id", "corp");
    match party.browser()?.open(&url).await? {
        Landing::Application(url) => ensure!(!url.as_str().starts_with(&provider.url()), "{url}"),
        Landing::Page(page) => ensure!(!page.html.contains("Corp"), "{}", page.html),
    }
    Ok(())
}

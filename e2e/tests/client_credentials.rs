//! Programs that act on their own account: tokens about the client itself, for no request at all.

use anyhow::{Context, Result, ensure};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::Manifests;
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, RelyingParty, Scene, run_recipe,
};
use data_encoding::BASE64;
use reqwest::StatusCode;
use serde_json::{Value, json};

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// A client of its own account, as `docs/tokens.md` shows it.
fn client(scene: &Scene, name: &str, claims: &Value) -> String {
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": name},
        "spec": {
            "issuerRef": {"name": "main", "namespace": scene.installation().namespace()},
            "type": "Confidential",
            "authentication": {"generatedSecret": {"name": format!("{name}-oidc")}},
            "grants": ["client_credentials"],
            "introspection": "OwnTokens",
            "clientCredentials": claims,
        },
    })
    .to_string()
}

/// The quickstart's issuer with the grant on offer, to tenants too, and one tenant namespace.
async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let installation = Installation::with_tenants(plane, &["team"]).await?;
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["grants"] =
                json!(["authorization_code", "refresh_token", "client_credentials"]);
            issuer["spec"]["allowedClients"] = json!({"namespaces": {"from": "All"}});
            issuer["spec"]["tenants"] = json!({"allowedGrants": ["client_credentials"]});
        }
    };
    Scene::start_in(installation, Directory::None, change).await
}

fn wait_for(scene: &Scene, namespace: &str, client: &str, condition: &str) -> Result<()> {
    let condition = format!("--for=condition={condition}");
    let client = format!("oauth2client/{client}");
    let arguments = ["wait", "-n", namespace, &condition, "--timeout=15s", &client];
    let output = scene.installation().plane().kubectl().args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The credentials Claviger generated for a client.
fn credentials(scene: &Scene, namespace: &str, name: &str) -> Result<(String, String)> {
    let secret = format!("{name}-oidc");
    let read = |key: &str| -> Result<String> {
        let path = format!("jsonpath={{.data.{key}}}");
        let mut kubectl = scene.installation().plane().kubectl();
        let output =
            kubectl.args(["get", "secret", "-n", namespace, &secret, "-o", &path]).output()?;
        Ok(String::from_utf8(BASE64.decode(&output.stdout)?)?)
    };
    Ok((read("client_id")?, read("client_secret")?))
}

async fn program(scene: &Scene, namespace: &str, name: &str) -> Result<RelyingParty> {
    let (id, secret) = credentials(scene, namespace, name)?;
    let pem = scene.installation().authority().certificate_pem();
    RelyingParty::discover(&scene.issuer(), pem, (&id, Some(&secret)), "https://x").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_its_tokens_as_the_page_says_and_no_request_is_made() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let home = scene.installation().namespace().to_owned();
    let stated = json!({"groups": ["robots"], "username": "deployer"});
    scene.installation().apply(&client(&scene, "deployer", &stated))?;
    wait_for(&scene, &home, "deployer", "Ready=True")?;
    let program = program(&scene, &home, "deployer").await?;

    let mark = plane.audit_log().mark()?;
    let tokens = program.client_credentials("openid groups profile").await?.tokens()?;
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["aud"], "deployer");
    assert_eq!(id_token["groups"], json!(["robots"]));
    assert_eq!(id_token["preferred_username"], "deployer");
    ensure!(tokens.get("refresh_token").is_none(), "a refresh token: {tokens}");
    let access = text(&tokens, "access_token")?;
    let (status, body) = program.userinfo(access).await?;
    ensure!(status == StatusCode::OK && body.contains("robots"), "{status}: {body}");
    assert_eq!(program.introspect(access).await?.1["active"], true);
    let (status, body) = program.revoke(access).await?;
    ensure!(status == StatusCode::BAD_REQUEST && body.contains("unsupported_token_type"), "{body}");
    let none = program.client_credentials("openid offline_access").await?;
    assert_eq!(none.error(), "invalid_scope");
    let counted = requests(&scene, mark)?;
    println!("a token, userinfo, introspection, revocation: {counted:?}");
    assert_eq!(counted, "");

    let (id, secret) = credentials(&scene, &home, "deployer")?;
    let authority = scene.installation().authority_file()?.display().to_string();
    let variables = [
        ("ISSUER", scene.issuer()),
        ("CLIENT_ID", id),
        ("CLIENT_SECRET", secret),
        ("CURL_CA_BUNDLE", authority),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let printed = run_recipe("tokens.md", "client_credentials", &variables)?;
    let tokens: Value = serde_json::from_str(&printed)?;
    assert_eq!(claims(text(&tokens, "id_token")?)?["groups"], json!(["robots"]));
    let sessions = scene.installation().kubectl(&["get", "sessions", "-o", "name"])?;
    assert_eq!(sessions, "", "a session was stored");

    scene.installation().kubectl(&["delete", "oauth2client", "deployer"])?;
    claviger_testkit::eventually(std::time::Duration::from_secs(5), async || {
        let (status, _) = program.userinfo(access).await?;
        ensure!(status == StatusCode::UNAUTHORIZED, "its token outlives the client: {status}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_program_is_in_groups_of_its_own_namespace_alone() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let team = scene.installation().tenants()[0].clone();
    let robots = format!("{team}:robots");
    scene.installation().apply_in(&team, &client(&scene, "ci", &json!({"groups": [robots]})))?;
    wait_for(&scene, &team, "ci", "Ready=True")?;
    let program = program(&scene, &team, "ci").await?;
    let tokens = program.client_credentials("openid groups profile email").await?.tokens()?;
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["aud"], format!("{team}/ci"));
    assert_eq!(id_token["groups"], json!([robots]));
    for absent in ["email", "name", "preferred_username"] {
        ensure!(id_token.get(absent).is_none(), "{absent} in {id_token}");
    }
    let cluster = "openid audience:server:client_id:kubernetes";
    assert_eq!(program.client_credentials(cluster).await?.error(), "invalid_scope");

    for (name, claims) in [
        ("admins", json!({"groups": ["system:masters"]})),
        ("others", json!({"groups": ["local:admins"]})),
        ("named", json!({"username": "admin"})),
    ] {
        scene.installation().apply_in(&team, &client(&scene, name, &claims))?;
        wait_for(&scene, &team, name, "Accepted=False")?;
    }
    let home = scene.installation().namespace().to_owned();
    let masters = client(&scene, "masters", &json!({"groups": ["system:masters"]}));
    scene.installation().apply(&masters)?;
    wait_for(&scene, &home, "masters", "Ready=True")?;
    let masters = self::program(&scene, &home, "masters").await?;
    let refused = masters.client_credentials("openid groups").await?;
    assert_eq!(refused.error(), "invalid_grant", "{}", refused.body);
    Ok(())
}

//! A backend gets a token for another audience, where that audience says so (RFC 8693), for one read.

use anyhow::{Context, Result, ensure};
use claviger_testkit::relying_party::{Answer, claims};
use claviger_testkit::scene::{LOCAL_USER, Manifests, SCOPE};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, RelyingParty, Scene, run_recipe,
};
use data_encoding::BASE64;
use serde_json::{Value, json};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const REDIRECT_URI: &str = "https://portal.apps.example.com/callback";

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// A portal that exchanges its users' tokens.
fn portal(scene: &Scene) -> String {
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": "portal"},
        "spec": {
            "issuerRef": {"name": "main", "namespace": scene.installation().namespace()},
            "type": "Confidential",
            "authentication": {"generatedSecret": {"name": "portal-oidc"}},
            "redirectURIs": [REDIRECT_URI],
            "grants": ["authorization_code", "refresh_token", GRANT],
            "consent": "Skip",
        },
    })
    .to_string()
}

/// The quickstart, whose cluster takes tokens that `peer` exchanged.
async fn scene(plane: &ControlPlane, peer: impl Fn(&Installation) -> String) -> Result<Scene> {
    let installation = Installation::with_tenants(plane, &["team"]).await?;
    let peer = peer(&installation);
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["grants"] = json!(["authorization_code", "refresh_token", GRANT]);
            issuer["spec"]["allowedClients"] = json!({"namespaces": {"from": "All"}});
            issuer["spec"]["tenants"] = json!({
                "allowedGrants": ["authorization_code", GRANT],
                "allowedConnectors": ["local"],
                "allowedRedirectURIHosts": ["*.apps.example.com"],
                "consent": "ClientChoice",
            });
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["exchangePeers"] = json!([peer]);
        }
    };
    Scene::start_in(installation, Directory::None, change).await
}

/// The portal of a namespace, ready, with its credentials.
async fn application(scene: &Scene, namespace: &str) -> Result<(RelyingParty, String, String)> {
    scene.installation().apply_in(namespace, &portal(scene))?;
    let condition = "--for=condition=Ready=True";
    let arguments = ["wait", "-n", namespace, condition, "--timeout=15s", "oauth2client/portal"];
    let output = scene.installation().plane().kubectl().args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |key: &str| -> Result<String> {
        let path = format!("jsonpath={{.data.{key}}}");
        let mut kubectl = scene.installation().plane().kubectl();
        let arguments = ["get", "secret", "-n", namespace, "portal-oidc", "-o", &path];
        Ok(String::from_utf8(BASE64.decode(&kubectl.args(arguments).output()?.stdout)?)?)
    };
    let (id, secret) = (read("client_id")?, read("client_secret")?);
    let pem = scene.installation().authority().certificate_pem();
    let issuer = scene.issuer();
    let party = RelyingParty::discover(&issuer, pem, (&id, Some(&secret)), REDIRECT_URI).await?;
    Ok((party, id, secret))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_backend_gets_a_token_for_the_cluster_for_one_read() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane, |_| "portal".to_owned()).await?;
    let home = scene.installation().namespace().to_owned();
    let (portal, id, secret) = application(&scene, &home).await?;
    let tokens = portal.log_in(SCOPE, LOCAL_USER).await?;
    let access = text(&tokens, "access_token")?;

    let mark = plane.audit_log().mark()?;
    let audience = [("audience", "kubernetes")];
    let exchanged = portal.exchange(access, &audience).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("an exchange: {counted}");
    assert_eq!(counted, "get sessions × 1");
    let (new, old) = (claims(text(&exchanged, "access_token")?)?, claims(access)?);
    assert_eq!((&new["aud"], &new["azp"]), (&json!("kubernetes"), &json!("portal")));
    assert_eq!(new["groups"], json!(["local:admins"]));
    assert_eq!(new["sub"], old["sub"]);
    ensure!(new["exp"].as_i64() <= old["exp"].as_i64(), "{new} outlives {old}");
    ensure!(exchanged.get("refresh_token").is_none(), "{exchanged}");

    let authority = scene.installation().authority_file()?.display().to_string();
    let printed = run_recipe(
        "tokens.md",
        "token-exchange",
        &[
            ("ISSUER", &scene.issuer()),
            ("CLIENT_ID", &id),
            ("CLIENT_SECRET", &secret),
            ("ACCESS_TOKEN", access),
            ("AUDIENCE", "kubernetes"),
            ("CURL_CA_BUNDLE", &authority),
        ],
    )?;
    let printed: Value = serde_json::from_str(&printed)?;
    assert_eq!(claims(text(&printed, "access_token")?)?["aud"], "kubernetes");

    let id_token = text(&tokens, "id_token")?;
    let mark = plane.audit_log().mark()?;
    let of_id_token = exchange_id_token(&portal, id_token).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("an exchange of an ID token: {counted}");
    assert_eq!(counted, "get sessions × 1");
    let (new, old) = (claims(text(&of_id_token, "access_token")?)?, claims(id_token)?);
    assert_eq!((&new["aud"], &new["azp"]), (&json!("kubernetes"), &json!("portal")));
    for same in ["sub", "groups", "email", "auth_time"] {
        assert_eq!(new[same], old[same], "{same}");
    }
    ensure!(new["exp"].as_i64() <= old["exp"].as_i64(), "{new} outlives {old}");
    let (session, _) = text(&old, "jti")?.split_once('.').context("jti names no session")?;
    scene.installation().kubectl(&["get", "session", session])?;
    let printed = run_recipe(
        "tokens.md",
        "token-exchange-id-token",
        &[
            ("ISSUER", &scene.issuer()),
            ("CLIENT_ID", &id),
            ("CLIENT_SECRET", &secret),
            ("ID_TOKEN", id_token),
            ("AUDIENCE", "kubernetes"),
            ("CURL_CA_BUNDLE", &authority),
        ],
    )?;
    let printed: Value = serde_json::from_str(&printed)?;
    assert_eq!(claims(text(&printed, "access_token")?)?["aud"], "kubernetes");

    portal.revoke(access).await?;
    let mark = plane.audit_log().mark()?;
    assert_eq!(portal.exchange(access, &audience).await?.error(), "invalid_request");
    assert_eq!(exchange_id_token(&portal, id_token).await?.error(), "invalid_request");
    assert_eq!(requests(&scene, mark)?, "");
    Ok(())
}

async fn exchange_id_token(party: &RelyingParty, id_token: &str) -> Result<Answer> {
    let form = [
        ("grant_type", GRANT),
        ("subject_token", id_token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("audience", "kubernetes"),
    ];
    party.token(&form).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_backend_reaches_the_cluster_only_if_the_cluster_lists_it_by_its_whole_name()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    // Its namesake in home is listed: the name alone must not do.
    let scene = scene(&plane, |_| "portal".to_owned()).await?;
    let team = scene.installation().tenants()[0].clone();
    let (portal, id, _) = application(&scene, &team).await?;
    let tokens = portal.log_in("openid email groups", LOCAL_USER).await?;
    let access = text(&tokens, "access_token")?;
    let audience = [("audience", "kubernetes")];
    let mark = plane.audit_log().mark()?;
    let refused = portal.exchange(access, &audience).await?;
    assert_eq!(refused.error(), "invalid_target", "{}", refused.body);
    assert_eq!(requests(&scene, mark)?, "");

    let listed = json!({"spec": {"exchangePeers": [id]}}).to_string();
    let patch = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", &listed];
    scene.installation().kubectl(&patch)?;
    claviger_testkit::eventually(std::time::Duration::from_secs(5), async || {
        let exchanged = portal.exchange(access, &audience).await?.tokens()?;
        assert_eq!(claims(text(&exchanged, "access_token")?)?["azp"], id);
        Ok(())
    })
    .await
}

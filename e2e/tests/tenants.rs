//! The client-ID boundary, attacked: an app team with every right in its own namespace must never
//! obtain a token whose audience is the cluster.

use anyhow::{Context, Result, ensure};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, Manifests};
use claviger_testkit::{ControlPlane, Directory, Installation, RelyingParty, Scene};
use data_encoding::BASE64;
use serde_json::{Value, json};

const REDIRECT_URI: &str = "https://shop.apps.example.com/oauth2/callback";

/// The quickstart's issuer, open to every namespace within bounds, and one tenant namespace.
async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let installation = Installation::with_tenants(plane, &["team"]).await?;
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["allowedClients"] = json!({"namespaces": {"from": "All"}});
            issuer["spec"]["tenants"] = json!({
                "allowedConnectors": ["local"],
                "allowedRedirectURIHosts": ["*.apps.example.com"],
                "consent": "ClientChoice",
            });
        }
    };
    Scene::start_in(installation, Directory::None, change).await
}

fn client(scene: &Scene, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut object = json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": name},
        "spec": {
            "issuerRef": {"name": "main", "namespace": scene.installation().namespace()},
            "type": "Confidential",
            "authentication": {"generatedSecret": {"name": format!("{name}-oidc")}},
            "redirectURIs": [REDIRECT_URI],
            "consent": "Skip",
        },
    });
    change(&mut object);
    object.to_string()
}

fn wait_for(scene: &Scene, client: &str, condition: (&str, &str)) -> Result<()> {
    let (kind, status) = condition;
    let team = &scene.installation().tenants()[0];
    let condition = format!("--for=condition={kind}={status}");
    let client = format!("oauth2client/{client}");
    let arguments = ["wait", "-n", team, &condition, "--timeout=15s", &client];
    let mut kubectl = scene.installation().plane().kubectl();
    let output = kubectl.args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The tenant's application, with the credentials Claviger generated for it.
async fn application(scene: &Scene, name: &str) -> Result<RelyingParty> {
    let team = &scene.installation().tenants()[0];
    let secret = format!("{name}-oidc");
    let read = |key: &str| -> Result<String> {
        let path = format!("jsonpath={{.data.{key}}}");
        let mut kubectl = scene.installation().plane().kubectl();
        let output = kubectl.args(["get", "secret", "-n", team, &secret, "-o", &path]).output()?;
        Ok(String::from_utf8(BASE64.decode(&output.stdout)?)?)
    };
    let (id, secret) = (read("client_id")?, read("client_secret")?);
    let pem = scene.installation().authority().certificate_pem();
    RelyingParty::discover(&scene.issuer(), pem, (&id, Some(&secret)), REDIRECT_URI).await
}

/// Where an authorization request of this scope leads: the status, and the `Location` if there is one.
async fn ask(party: &RelyingParty, scope: &str) -> Result<(u16, String)> {
    let response = party.http().get(party.attempt(scope)?.url).send().await?;
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    Ok((response.status().as_u16(), location.unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_client_signs_users_in_for_itself_alone() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let team = scene.installation().tenants()[0].clone();
    // Called like the cluster's client, trusted by nobody, and trusting whomever it likes.
    let kubernetes = client(&scene, "kubernetes", |object| {
        object["spec"]["trustedPeers"] = json!(["kubernetes"]);
    });
    scene.installation().apply_in(&team, &kubernetes)?;
    wait_for(&scene, "kubernetes", ("Ready", "True"))?;
    let party = application(&scene, "kubernetes").await?;
    let tokens = party.log_in("openid email groups", LOCAL_USER).await?;
    let id_token = claims(tokens["id_token"].as_str().context("no ID token")?)?;
    assert_eq!(id_token["aud"], format!("{team}/kubernetes"));

    for scope in ["openid audience:server:client_id:kubernetes", "openid federated:id"] {
        let (status, location) = ask(&party, scope).await?;
        assert_eq!(status, 303);
        ensure!(location.contains("error=invalid_scope"), "{scope}: {location}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_client_id_or_a_foreign_redirect_host_is_refused_with_the_reason() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let team = scene.installation().tenants()[0].clone();
    let chosen =
        client(&scene, "chosen", |object| object["spec"]["clientID"] = "kubernetes".into());
    let elsewhere = client(&scene, "elsewhere", |object| {
        object["spec"]["redirectURIs"] = json!(["https://evil.example.org/callback"]);
    });
    for (name, manifest, reason) in [
        ("chosen", chosen, "ClientIDNotAllowed"),
        ("elsewhere", elsewhere, "TenantPolicyViolation"),
    ] {
        scene.installation().apply_in(&team, &manifest)?;
        wait_for(&scene, name, ("Accepted", "False"))?;
        let path = "jsonpath={.status.conditions[?(@.type==\"Accepted\")].reason}";
        let mut kubectl = plane.kubectl();
        let output =
            kubectl.args(["get", "oauth2client", name, "-n", &team, "-o", path]).output()?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), reason);
    }
    // The cluster's own client is unharmed by its namesake.
    let party = scene.relying_party().await?;
    let tokens = party.log_in("openid email", LOCAL_USER).await?;
    let id_token = claims(tokens["id_token"].as_str().context("no ID token")?)?;
    assert_eq!(id_token["aud"], "kubernetes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn users_connectors_and_issuers_outside_home_are_nobodys() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let team = scene.installation().tenants()[0].clone();
    let mut foreign = Manifests::of_example("quickstart")?;
    foreign.remove("ldap");
    foreign.find("OIDCIssuer", "main")?["spec"]["url"] = scene.issuer().into();
    foreign.find("OIDCIssuer", "main")?["spec"]["connectors"] = json!([{"name": "local"}]);
    let user = foreign.find("LocalUser", "admin")?;
    user["spec"]["email"] = "mallory@local.example.com".into();
    user["spec"]["preferredUsername"] = "mallory".into();
    scene.installation().apply_in(&team, &foreign.to_json())?;
    // A change in home that is live proves that what was applied before it was looked at too.
    let marker = client(&scene, "marker", |_| {});
    scene.installation().apply_in(&team, &marker)?;
    wait_for(&scene, "marker", ("Ready", "True"))?;

    let mallory = claviger_testkit::Login { username: "mallory@local.example.com", ..LOCAL_USER };
    let refused = scene.relying_party().await?.log_in("openid", mallory).await;
    ensure!(refused.is_err(), "a LocalUser of a tenant signed in");
    let mut kubectl = plane.kubectl();
    let path = "jsonpath={.items[*].status}";
    let kinds = "oidcissuers,connectors,localusers,signingkeys";
    let output = kubectl.args(["get", kinds, "-n", &team, "-o", path]).output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "", "status was written");
    Ok(())
}

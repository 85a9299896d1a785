//! Clients that nobody made: with an initial access token they register themselves, into a namespace whose bounds are
//! the tenants'.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::outside::CALLBACK;
use claviger_testkit::scene::{LOCAL_USER, Manifests};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, Library, Outsider, Scene, eventually,
    run_recipe,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

const INITIAL: &str = "7Wq8c1m5gQmYl0n2sVb4dXr9tKz3fHj6";
/// A snapshot follows the watch.
const SOON: Duration = Duration::from_secs(10);

/// The quickstart's issuer, with registration into the tenant namespace.
async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let installation =
        Installation::with_tenants(plane, &["registered"]).await?.with_registration()?;
    let namespace = installation.tenants()[0].clone();
    let initial = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "initial-access-token", "labels": {"claviger.dev/secret": "registration"}},
        "stringData": {"token": INITIAL},
    });
    installation.apply(&initial.to_string())?;
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["allowedClients"] = json!({"namespaces": {"from": "All"}});
            issuer["spec"]["tenants"] = json!({
                "allowedConnectors": ["local"],
                "allowedRedirectURIHosts": ["localhost"],
                "allowedBackChannelLogoutHosts": ["app.example.com"],
            });
            issuer["spec"]["dynamicRegistration"] = json!({
                "namespace": namespace,
                "initialAccessTokens": [{"name": "initial-access-token", "key": "token"}],
                "maxClients": 3,
            });
        }
    };
    Scene::start_in(installation, Directory::None, change).await
}

/// What the operator did to clients and Secrets; the control plane's own word about them, their status, aside.
fn writes(scene: &Scene, mark: AuditMark) -> Result<Vec<(String, usize)>> {
    let counts = scene.installation().requests_since(mark)?;
    let about = |what: &String| {
        (what.ends_with(" oauth2clients") || what.ends_with(" secrets"))
            && !what.starts_with("watch")
    };
    Ok(counts.into_iter().filter(|(what, _)| about(what)).collect())
}

fn once(whats: &[&str]) -> Vec<(String, usize)> {
    whats.iter().map(|what| ((*what).to_owned(), 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_registers_signs_a_user_in_changes_and_deletes_itself() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let namespace = scene.installation().tenants()[0].clone();
    let told = json!({"initial": INITIAL});
    let script =
        Outsider::start(Library::OpenidClient, "dynamic-registration", &scene, told).await?;
    let mut marks = Vec::new();
    let mut counted = Vec::new();
    let help = async |question: Value| {
        if question.get("mark").is_some() {
            marks.push(plane.audit_log().mark()?);
        } else if question.get("count").is_some() {
            counted.push(writes(&scene, marks.pop().context("no mark")?)?);
        } else {
            let gone = question.get("gone").context("it asks something else")?;
            until_unknown(&scene, gone).await?;
        }
        Ok(json!({}))
    };
    let came = script.signing_in_and(&scene, LOCAL_USER, help).await?;

    println!("registration and deletion: {counted:?}");
    let expected =
        [once(&["create oauth2clients", "create secrets"]), once(&["delete oauth2clients"])];
    assert_eq!(counted, expected);
    assert_eq!(came["stranger"]["name"], "WWWAuthenticateChallengeError", "{}", came["stranger"]);
    assert_eq!(came["elsewhere"]["error"], "invalid_redirect_uri", "{}", came["elsewhere"]);
    let id = came["registered"]["client_id"].as_str().context("no client_id")?;
    ensure!(id.starts_with(&format!("{namespace}/dynamic-")), "{id}");
    assert_eq!(came["claims"]["aud"], id);
    assert_eq!(came["claims"]["email"], "admin@local.example.com");
    assert_eq!(came["read"]["client_secret"], came["registered"]["client_secret"]);
    assert_eq!(came["read"]["policy_uri"], "https://localhost/policy");
    assert_eq!(
        (&came["changed"], &came["renamed"]["client_name"]),
        (&json!(200), &json!("Renamed"))
    );
    assert_eq!((&came["foreign"], &came["gone"]), (&json!(401), &json!(204)));
    assert_eq!(came["read_afterwards"], 401);
    assert_eq!(
        came["afterwards"]["name"], "WWWAuthenticateChallengeError",
        "{}",
        came["afterwards"]
    );
    // Owned by the client. No controller manager runs here, so its collection is Kubernetes' word; the owner is ours.
    let owner = "jsonpath={.items[0].metadata.ownerReferences[0].name}";
    let secrets =
        ["get", "secrets", "-n", &namespace, "-l", "claviger.dev/secret=client", "-o", owner];
    assert_eq!(Some(scene.installation().kubectl(&secrets)?.as_str()), id.split('/').nth(1));
    Ok(())
}

/// A client that is known is told that its refresh token is none.
async fn until_unknown(scene: &Scene, client: &Value) -> Result<()> {
    let http = http(scene)?;
    let said = |name: &str| client[name].as_str().unwrap_or_default();
    let form = [
        ("client_id", said("client_id")),
        ("client_secret", said("client_secret")),
        ("grant_type", "refresh_token"),
        ("refresh_token", "x"),
    ];
    eventually(SOON, async || {
        let answer = http.post(format!("{}/token", scene.issuer())).form(&form).send().await?;
        let body = answer.text().await?;
        ensure!(body.contains("invalid_client"), "{body}");
        Ok(())
    })
    .await
}

fn http(scene: &Scene) -> Result<reqwest::Client> {
    let pem = scene.installation().authority().certificate_pem();
    let authority = reqwest::Certificate::from_pem(pem.as_bytes())?;
    Ok(reqwest::Client::builder().add_root_certificate(authority).no_proxy().build()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_is_as_the_page_says_bounded_and_can_be_taken_back() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let namespace = scene.installation().tenants()[0].clone();
    let variables = [
        ("ISSUER", scene.issuer()),
        ("INITIAL_ACCESS_TOKEN", INITIAL.to_owned()),
        ("CURL_CA_BUNDLE", scene.installation().authority_file()?.display().to_string()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mark = plane.audit_log().mark()?;
    let printed = run_recipe("dynamic-registration.md", "register", &variables)?;
    let registered: Value = serde_json::from_str(&printed)?;
    assert_eq!(registered["token_endpoint_auth_method"], "none");
    assert_eq!(writes(&scene, mark)?, once(&["create oauth2clients"]));
    let listed = scene.installation().kubectl(&["get", "oauth2clients", "-n", &namespace])?;
    ensure!(listed.contains(registered["client_id"].as_str().unwrap_or("?")), "{listed}");

    let url = format!("{}/register", scene.issuer());
    let said = json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"});
    let http = http(&scene)?;
    let post = async |said: &Value| -> Result<(StatusCode, Value)> {
        let request =
            http.post(&url).bearer_auth(INITIAL).header("content-type", "application/json");
        let answer = request.body(said.to_string()).send().await?;
        Ok((answer.status(), serde_json::from_str(&answer.text().await?)?))
    };
    // What the schema refuses is said in its words, and nothing is left of it.
    let mut private = said.clone();
    private["token_endpoint_auth_method"] = json!("private_key_jwt");
    private["jwks"] =
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ", "d": "eg"}]});
    let (status, refused) = post(&private).await?;
    ensure!(status == StatusCode::BAD_REQUEST, "{status}: {refused}");
    ensure!(refused["error"] == "invalid_client_metadata", "{refused}");
    // A key that is no point of its curve passes the schema; the control plane refuses, and it is taken back.
    private["jwks"] = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ"}]});
    let (status, refused) = post(&private).await?;
    ensure!(status == StatusCode::BAD_REQUEST, "{status}: {refused}");
    let names = ["get", "oauth2clients", "-n", &namespace, "-o", "name"];
    assert_eq!(scene.installation().kubectl(&names)?.lines().count(), 1);

    for expected in [StatusCode::CREATED, StatusCode::CREATED, StatusCode::FORBIDDEN] {
        let (status, answer) = post(&said).await?;
        ensure!(status == expected, "{status}: {answer}");
    }
    scene.installation().kubectl(&["delete", "secret", "initial-access-token"])?;
    eventually(SOON, async || {
        let request =
            http.post(&url).bearer_auth(INITIAL).header("content-type", "application/json");
        let status = request.send().await?.status();
        ensure!(status == StatusCode::NOT_FOUND, "{status}");
        Ok(())
    })
    .await
}

/// Waits for the control plane's word about a client.
async fn until(scene: &Scene, (namespace, name): (&str, &str), word: &str) -> Result<()> {
    let path = "jsonpath={.status.conditions[?(@.type==\"Accepted\")].reason}";
    eventually(SOON, async || {
        let reason = scene.installation().kubectl(&[
            "get",
            "oauth2client",
            name,
            "-n",
            namespace,
            "-o",
            path,
        ])?;
        ensure!(reason == word, "{reason}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_says_where_it_is_told_of_sign_outs_and_mends_itself_while_out_of_service()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let namespace = scene.installation().tenants()[0].clone();
    let http = http(&scene)?;
    let send = async |request: reqwest::RequestBuilder, token: &str, said: Option<&Value>| {
        let request = request.bearer_auth(token).header("content-type", "application/json");
        let answer = request.body(said.map(Value::to_string).unwrap_or_default()).send().await?;
        anyhow::Ok((answer.status(), serde_json::from_str::<Value>(&answer.text().await?)?))
    };
    let register = || http.post(format!("{}/register", scene.issuer()));
    let mut said = json!({
        "redirect_uris": [CALLBACK],
        "backchannel_logout_uri": "https://169.254.169.254/latest",
        "backchannel_logout_session_required": true,
        "frontchannel_logout_uri": CALLBACK,
    });
    let (status, refused) = send(register(), INITIAL, Some(&said)).await?;
    ensure!(status == StatusCode::BAD_REQUEST, "{status}: {refused}");
    said["backchannel_logout_uri"] = json!("https://app.example.com/out");
    let (status, registered) = send(register(), INITIAL, Some(&said)).await?;
    ensure!(status == StatusCode::CREATED, "{status}: {registered}");
    let text = |name: &str| registered[name].as_str().with_context(|| format!("no {name}"));
    let name = text("client_id")?.split('/').nth(1).context("no name")?;
    let at = ["get", "oauth2client", name, "-n", &namespace];
    let kept = scene.installation().kubectl(&[&at[..], &["-o", "json"]].concat())?;
    let kept: Value = serde_json::from_str(&kept)?;
    let told = json!({"uri": "https://app.example.com/out", "names": "Session"});
    assert_eq!(kept["spec"]["backChannelLogout"], told);
    assert_eq!(kept["spec"]["frontChannelLogout"]["uri"], CALLBACK);
    until(&scene, (&namespace, name), "Accepted").await?;

    // An administrator's slip of the pen.
    let slip = json!({"spec": {"redirectURIs": ["https://elsewhere.example.com/"]}}).to_string();
    let patch = ["patch", "oauth2client", name, "-n", &namespace, "--type=merge", "-p", &slip];
    scene.installation().kubectl(&patch)?;
    until(&scene, (&namespace, name), "TenantPolicyViolation").await?;
    let (uri, token) = (text("registration_client_uri")?, text("registration_access_token")?);
    let mark = plane.audit_log().mark()?;
    let (status, mut read) = send(http.get(uri), token, None).await?;
    ensure!(status == StatusCode::OK, "{status}: {read}");
    assert_eq!(writes(&scene, mark)?, once(&["get oauth2clients"]));
    assert_eq!(read["client_secret"], registered["client_secret"]);
    for (member, value) in said.as_object().context("no members")? {
        ensure!(member == "redirect_uris" || read[member] == *value, "{member}: {read}");
    }
    read["redirect_uris"] = json!([CALLBACK]);
    let mark = plane.audit_log().mark()?;
    let (status, mended) = send(http.put(uri), token, Some(&read)).await?;
    ensure!(status == StatusCode::OK, "{status}: {mended}");
    let counted = writes(&scene, mark)?;
    println!("a change: {counted:?}");
    assert_eq!(counted, once(&["get oauth2clients", "update oauth2clients"]));
    until(&scene, (&namespace, name), "Accepted").await
}

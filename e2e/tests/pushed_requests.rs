//! An authorization request that is pushed first, or signed: the address says nothing, nobody changes it on
//! the way, and nothing is stored for it.

use anyhow::{Context, Result, ensure};
use claviger_jose::{Algorithm, PrivateKey, Signer};
use claviger_testkit::browser::query_value;
use claviger_testkit::scene::{LOCAL_USER, REDIRECT_URI};
use claviger_testkit::{Browser, ControlPlane, Directory, RelyingParty, Scene};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

fn pairs(url: &Url) -> Vec<(String, String)> {
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

async fn push(party: &RelyingParty, form: &[(String, String)]) -> Result<(StatusCode, Value)> {
    let endpoint = party.endpoint("pushed_authorization_request_endpoint")?;
    let answer = party.http().post(endpoint).form(form).send().await?;
    Ok((answer.status(), answer.json().await?))
}

fn now() -> Result<u64> {
    #[expect(clippy::disallowed_methods, reason = "a client has the wall clock")]
    let now = std::time::SystemTime::now();
    Ok(now.duration_since(std::time::UNIX_EPOCH)?.as_secs())
}

/// The authorization endpoint with these parameters alone.
fn bare(party: &RelyingParty, parameters: &[(&str, &str)]) -> Result<Url> {
    let mut url = party.endpoint("authorization_endpoint")?;
    url.query_pairs_mut().extend_pairs(parameters);
    Ok(url)
}

fn requests(scene: &Scene, mark: claviger_testkit::AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_request_signs_in_with_one_create_and_is_the_only_way_where_it_is_required()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let secret = scene.client_secret().await?;
    let patch = r#"{"spec":{"pushedAuthorizationRequests":"Required"}}"#;
    let patch = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", patch];
    scene.installation().kubectl(&patch)?;
    let party = scene.relying_party().await?;
    claviger_testkit::eventually(std::time::Duration::from_secs(10), async || {
        let plain = party.http().get(party.attempt("openid")?.url).send().await?;
        ensure!(plain.status() == StatusCode::BAD_REQUEST, "{}", plain.status());
        Ok(())
    })
    .await?;

    let mark = plane.audit_log().mark()?;
    let attempt = party.attempt("openid email")?;
    let mut form = pairs(&attempt.url);
    form.push(("client_secret".into(), secret.clone()));
    let (status, pushed) = push(&party, &form).await?;
    assert_eq!(status, StatusCode::CREATED, "{pushed}");
    assert_eq!(pushed["expires_in"], 60);
    let uri = pushed["request_uri"].as_str().context("no request_uri")?;
    println!("request_uri: {} characters", uri.len());
    let at = bare(&party, &[("client_id", "kubernetes"), ("request_uri", uri)])?;
    let landed = Browser::new(scene.replicas()[0].peer(scene.installation()))?;
    let landed = landed.sign_in(&at, LOCAL_USER).await?;
    assert_eq!(query_value(&landed, "state")?, attempt.state);
    let code = query_value(&landed, "code")?;
    let tokens = party.redeem(&code, &attempt.verifier).await?.tokens()?;
    ensure!(tokens["id_token"].is_string());
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");

    // Who is not the client pushes nothing, and what could not be answered is refused at once.
    let mark = plane.audit_log().mark()?;
    form.pop();
    let (status, refused) = push(&party, &form).await?;
    assert_eq!((status, &refused["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
    form.retain(|(name, _)| name != "redirect_uri");
    form.push(("redirect_uri".into(), "https://evil.example/".into()));
    form.push(("client_secret".into(), secret));
    let (status, refused) = push(&party, &form).await?;
    assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_request")));
    println!("{}", refused["error_description"]);
    assert_eq!(requests(&scene, mark)?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_client_signed_signs_in_and_a_changed_one_does_not() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let key = PrivateKey::generate(Algorithm::PS256, 2_048)?;
    let mut jwk = key.public_jwk();
    jwk.as_object_mut().context("no JWK")?.retain(|name, _| name != "use");
    let object = json!({
        "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
        "metadata": {"name": "signer"},
        "spec": {
            "issuerRef": {"name": "main"}, "type": "Confidential", "consent": "Skip",
            "redirectURIs": [REDIRECT_URI],
            "authentication": {"method": "private_key_jwt", "jwks": {"keys": [jwk]}},
        },
    });
    scene.installation().apply(&object.to_string())?;
    scene.installation().wait_for("oauth2client/signer", "Ready").await?;
    let pem = scene.installation().authority().certificate_pem();
    let client = ("signer", None);
    let party = RelyingParty::discover(&scene.issuer(), pem, client, REDIRECT_URI).await?;
    assert_eq!(party.metadata()["request_parameter_supported"], true);

    let attempt = party.attempt("openid email")?;
    let parameters = pairs(&attempt.url).into_iter().map(|(name, value)| (name, json!(value)));
    let mut claims = Value::Object(parameters.collect());
    claims["iss"] = "signer".into();
    claims["aud"] = scene.issuer().into();
    claims["exp"] = (now()? + 300).into();
    let signed = Signer::new(&key)?.sign(Some("oauth-authz-req+jwt"), &claims)?;
    let at = bare(&party, &[("client_id", "signer"), ("request", &signed)])?;
    let browser = Browser::new(scene.replicas()[0].peer(scene.installation()))?;
    let landed = browser.sign_in(&at, LOCAL_USER).await?;
    assert_eq!(query_value(&landed, "state")?, attempt.state);

    let scope = [("client_id", "signer"), ("request", &signed), ("scope", "openid groups")];
    let changed = party.http().get(bare(&party, &scope)?).send().await?;
    assert_eq!(changed.status(), StatusCode::BAD_REQUEST);
    ensure!(changed.text().await?.contains("invalid_request_object"));
    Ok(())
}

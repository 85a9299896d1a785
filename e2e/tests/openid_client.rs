//! npm's `openid-client`, a certified relying party, does a whole sign-in by itself: from discovery to refresh.

use anyhow::{Result, bail};
use claviger_testkit::browser::Landing;
use claviger_testkit::outside::{self, CALLBACK};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{Browser, ControlPlane, Directory, Installation, Library, Outsider, Scene};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_signs_in_refreshes_and_finds_every_token_in_order() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = outside::scene(&plane, Directory::None).await?;
    let script =
        Outsider::start(Library::OpenidClient, "authorization-code", &scene, json!({})).await?;
    let came = script.signing_in(&scene, LOCAL_USER).await?;

    assert_eq!(came["metadata"]["issuer"], scene.issuer());
    let algorithms = &came["metadata"]["id_token_signing_alg_values_supported"];
    assert!(algorithms.as_array().is_some_and(|all| all.contains(&json!("RS256"))), "{algorithms}");
    assert_eq!(came["token_type"], "bearer");
    assert_eq!(came["claims"]["iss"], scene.issuer());
    assert_eq!(came["claims"]["aud"], "kubernetes");
    for known in [&came["claims"], &came["userinfo"]] {
        assert_eq!(known["email"], "admin@local.example.com", "{known}");
        assert_eq!(known["email_verified"], true, "{known}");
        assert_eq!(known["preferred_username"], "admin", "{known}");
        assert_eq!(known["groups"], json!(["local:admins"]), "{known}");
        assert_eq!(known["sub"], came["refreshed"]["sub"], "{known}");
    }
    assert_eq!(came["rotated"], true);
    // Asked for and granted are the same, so the answer need not say it (RFC 6749 5.1).
    assert!([json!(null), json!(SCOPE)].contains(&came["scope"]), "{}", came["scope"]);
    Ok(())
}

/// RFC 9207 2.4: the library compares `iss`. RFC 6749 4.1.2: a code that comes twice revokes what the first brought.
#[tokio::test(flavor = "multi_thread")]
async fn openid_client_refuses_a_mix_up_and_is_refused_a_replay() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = outside::scene(&plane, Directory::None).await?;
    let script =
        Outsider::start(Library::OpenidClient, "authorization-code", &scene, json!({})).await?;
    let came = script.signing_in(&scene, LOCAL_USER).await?;

    let because = came["mixed_up"]["because"].as_str().unwrap_or_default();
    assert!(because.contains("\"iss\""), "{}", came["mixed_up"]);
    assert_eq!(came["replayed"]["error"], "invalid_grant", "{}", came["replayed"]);
    assert_eq!(
        came["signed_out"]["name"], "WWWAuthenticateChallengeError",
        "{}",
        came["signed_out"]
    );
    Ok(())
}

/// Form Post Response Mode 2, OIDC Core 3.2 and 3.3: what comes by the browser is checked against the code and the state.
#[tokio::test(flavor = "multi_thread")]
async fn openid_client_takes_codes_by_form_and_id_tokens_by_the_browser() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let types = json!(["code", "id_token", "code id_token"]);
    let here = Installation::create(&plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests| {
        for (kind, name) in [("OIDCIssuer", "main"), ("OAuth2Client", "kubernetes")] {
            // Not there: the library is refused.
            if let Ok(object) = manifests.find(kind, name) {
                object["spec"]["responseTypes"] = types.clone();
                if kind == "OAuth2Client" {
                    object["spec"]["redirectURIs"] = json!([CALLBACK]);
                }
            }
        }
    })
    .await?;
    let script =
        Outsider::start(Library::OpenidClient, "response-modes", &scene, json!({})).await?;
    let came = script.signing_in(&scene, LOCAL_USER).await?;

    assert_eq!(came["form"], "POST");
    assert_eq!(came["hybrid"]["asked"], "code id_token");
    for claims in [&came["by_form"], &came["hybrid"]["claims"], &came["implicit"]] {
        assert_eq!(claims["iss"], scene.issuer(), "{claims}");
        assert_eq!(claims["sub"], came["by_form"]["sub"], "{claims}");
        assert_eq!(claims["email"], "admin@local.example.com", "{claims}");
    }
    Ok(())
}

/// OIDC Core 9, RFC 7662, RFC 7009: no secret anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn openid_client_signs_for_itself_asks_about_its_tokens_and_revokes_them() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = outside::scene(&plane, Directory::None).await?;
    let me = json!({"client_id": "signer"});
    let script = Outsider::start(Library::OpenidClient, "private-key-jwt", &scene, me).await?;
    let register = async |question: Value| register(&scene, &question["register"]).await;
    let came = script.signing_in_and(&scene, LOCAL_USER, register).await?;

    assert_eq!(came["claims"]["aud"], "signer");
    assert_eq!((&came["active"], &came["active_after"]), (&json!(true), &json!(false)));
    assert_eq!(came["about_client"], "signer");
    assert_eq!(came["revoked"]["error"], "invalid_grant", "{}", came["revoked"]);
    // RFC 6749 5.2: 401 with a challenge, which is all the library tells.
    assert_eq!(came["by_secret"]["name"], "WWWAuthenticateChallengeError", "{}", came["by_secret"]);
    Ok(())
}

/// RFC 8414, RFC 9126, RFC 9101.
#[tokio::test(flavor = "multi_thread")]
async fn openid_client_pushes_a_request_and_signs_another() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = outside::scene(&plane, Directory::None).await?;
    let me = json!({"client_id": "signer"});
    let script = Outsider::start(Library::OpenidClient, "signed-request", &scene, me).await?;
    let register = async |question: Value| register(&scene, &question["register"]).await;
    let came = script.signing_in_and(&scene, LOCAL_USER, register).await?;

    assert_eq!(came["pushed"]["asked"], json!(["client_id", "request_uri"]));
    assert_eq!(came["signed"]["asked"], json!(["client_id", "request"]));
    for way in ["pushed", "signed"] {
        assert_eq!(came[way]["claims"]["aud"], "signer", "{came}");
    }
    Ok(())
}

/// RFC 9449: the library makes the proofs and learns the nonces.
#[tokio::test(flavor = "multi_thread")]
async fn openid_client_binds_its_tokens_to_its_key() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = outside::scene(&plane, Directory::None).await?;
    let dpop = json!({"spec": {"dpop": "Required"}}).to_string();
    scene.installation().kubectl(&[
        "patch",
        "oauth2client/kubernetes",
        "--type=merge",
        "-p",
        &dpop,
    ])?;
    scene.installation().wait_for("oauth2client/kubernetes", "Ready").await?;
    let script = Outsider::start(Library::OpenidClient, "dpop", &scene, json!({})).await?;
    let came = script.signing_in(&scene, LOCAL_USER).await?;

    assert_eq!(came["token_type"], "dpop");
    let token = came["access_token"].as_str().unwrap_or_default();
    assert_eq!(claims(token)?["cnf"]["jkt"].as_str().map(str::len), Some(43));
    assert_eq!(came["userinfo"]["email"], "admin@local.example.com");
    for theft in [&came["as_bearer"], &came["stolen"]] {
        assert_eq!(theft["name"], "WWWAuthenticateChallengeError", "{theft}");
    }
    Ok(())
}

/// RFC 6749 4.4.
#[tokio::test(flavor = "multi_thread")]
async fn openid_client_acts_on_its_own_account() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests| {
        for (kind, name) in [("OIDCIssuer", "main"), ("OAuth2Client", "kubernetes")] {
            // Not there: the library is refused.
            if let Ok(object) = manifests.find(kind, name) {
                object["spec"]["grants"] = json!(["authorization_code", "client_credentials"]);
                if kind == "OAuth2Client" {
                    object["spec"]["clientCredentials"] = json!({"groups": ["robots"]});
                }
            }
        }
    })
    .await?;
    let script =
        Outsider::start(Library::OpenidClient, "client-credentials", &scene, json!({})).await?;
    let came = script.alone().await?;

    let id_token = claims(came["tokens"]["id_token"].as_str().unwrap_or_default())?;
    assert_eq!(id_token["groups"], json!(["robots"]));
    assert_eq!(came["userinfo"]["sub"], id_token["sub"]);
    assert_eq!(came["too_much"]["error"], "invalid_scope", "{}", came["too_much"]);
    Ok(())
}

/// OIDC Core 3.1.2.1: `prompt`, `max_age`, `id_token_hint` and `auth_time`, which the library checks.
#[tokio::test(flavor = "multi_thread")]
async fn openid_client_asks_one_browser_silently_and_again() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["browserSessions"] = json!({});
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["redirectURIs"] = json!([CALLBACK]);
        }
    })
    .await?;
    let browser = Browser::new(scene.installation().authority().certificate_pem())?;
    let script =
        Outsider::start(Library::OpenidClient, "single-sign-on", &scene, json!({})).await?;
    let drive = async |question: Value| {
        let landed = match (question["silently"].as_str(), question["sign_in"].as_str()) {
            (Some(url), None) => match browser.open(&url.parse()?).await? {
                Landing::Application(landed) => landed,
                Landing::Page(page) => bail!("asked: {}", page.html),
            },
            (None, Some(url)) => browser.sign_in(&url.parse()?, LOCAL_USER).await?,
            _ => bail!("it asks {question}"),
        };
        Ok(json!({"url": landed.as_str()}))
    };
    let came = script.signing_in_and(&scene, LOCAL_USER, drive).await?;

    assert_eq!(came["stranger"]["error"], "login_required", "{}", came["stranger"]);
    assert_eq!(came["stale"]["error"], "login_required", "{}", came["stale"]);
    for again in ["silent", "again"] {
        assert_eq!(came[again]["sub"], came["first"]["sub"]);
        assert_eq!(came[again]["sid"], came["first"]["sid"], "{came}");
    }
    assert_eq!(came["silent"]["auth_time"], came["first"]["auth_time"]);
    Ok(())
}

/// The client `signer`, which this key proves.
async fn register(scene: &Scene, key: &Value) -> Result<Value> {
    let client = json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": "signer"},
        "spec": {
            "issuerRef": {"name": "main"},
            "clientID": "signer",
            "displayName": "Signer",
            "type": "Confidential",
            "authentication": {"method": "private_key_jwt", "jwks": {"keys": [key]}},
            "redirectURIs": [CALLBACK],
            "consent": "Skip",
            "introspection": "OwnTokens",
        },
    });
    scene.installation().apply(&client.to_string())?;
    scene.installation().wait_for("oauth2client/signer", "Ready").await?;
    Ok(json!({}))
}

/// RP-Initiated Logout 2 and 3, by the library's own `buildEndSessionUrl`.
#[tokio::test(flavor = "multi_thread")]
async fn openid_client_signs_its_user_out_and_a_code_under_way_is_worth_nothing() -> Result<()> {
    const AFTER: &str = "http://localhost:8000/bye";
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["browserSessions"] = json!({});
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["redirectURIs"] = json!([CALLBACK]);
            client["spec"]["postLogoutRedirectURIs"] = json!([AFTER]);
        }
    })
    .await?;
    let settings = json!({"post_logout_redirect_uri": AFTER});
    let script = Outsider::start(Library::OpenidClient, "logout", &scene, settings).await?;
    let browser = Browser::new(scene.installation().authority().certificate_pem())?;
    let answer = async |question: Value| {
        let landed = match (question["sign_in"].as_str(), question["open"].as_str()) {
            (Some(url), _) => browser.sign_in(&url.parse()?, LOCAL_USER).await?,
            (_, Some(url)) => match browser.open(&url.parse()?).await? {
                Landing::Application(url) => url,
                Landing::Page(page) => bail!("asked: {}", page.html),
            },
            _ => bail!("it asks {question}"),
        };
        Ok(json!({"url": landed.as_str()}))
    };
    let came = script.signing_in_and(&scene, LOCAL_USER, answer).await?;
    assert_eq!(came["metadata"]["backchannel_logout_supported"], true);
    assert!(came["sid"].is_string(), "{came}");
    let state = came["state"].as_str().unwrap_or_default();
    assert_eq!(came["goodbye"], format!("{AFTER}?state={state}"));
    assert_eq!(came["late"]["error"], "invalid_grant", "{}", came["late"]);
    assert_eq!(came["unknown"], "login_required");
    Ok(())
}

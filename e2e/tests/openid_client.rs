//! npm's `openid-client`, a certified relying party, does a whole sign-in by itself: from discovery to refresh.

use anyhow::Result;
use claviger_testkit::outside::{self, CALLBACK};
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{ControlPlane, Directory, Installation, Library, Outsider, Scene};
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

//! npm's `openid-client`, a certified relying party, does a whole sign-in by itself: from discovery to refresh.

use anyhow::Result;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{ControlPlane, Directory, Library, Outsider, outside};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_signs_in_refreshes_and_finds_every_token_in_order() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = outside::scene(&plane, Directory::None).await?;
    let script =
        Outsider::start(Library::OpenidClient, "authorization-code", &scene, json!({})).await?;
    let came = script.signing_in(&scene, LOCAL_USER).await?;

    assert_eq!(came["metadata"]["issuer"], scene.issuer());
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

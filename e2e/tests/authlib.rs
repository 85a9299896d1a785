//! A Flask application signs users in through Python's Authlib, as its documentation has it.

use anyhow::Result;
use claviger_testkit::scene::LDAP_USER;
use claviger_testkit::{ControlPlane, Directory, Library, Outsider, outside};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn authlib_signs_a_directory_user_in_and_refreshes() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = outside::scene(&plane, Directory::Slapd).await?;
    let script = Outsider::start(Library::Authlib, "authorization_code", &scene, json!({})).await?;
    let came = script.signing_in(&scene, LDAP_USER).await?;

    let authorize = came["authorize"].as_str().unwrap_or_default();
    assert!(authorize.contains("code_challenge_method=S256"), "{authorize}");
    assert!(authorize.contains("nonce="), "{authorize}");
    for known in [&came["claims"], &came["userinfo"], &came["refreshed"]] {
        assert_eq!(known["email"], "alice@example.com", "{known}");
        assert_eq!(known["name"], "Alice Liddell", "{known}");
        assert_eq!(known["groups"], json!(["corp:developers"]), "{known}");
    }
    assert_eq!(came["claims"]["iss"], scene.issuer());
    assert_eq!(came["rotated"], true);
    assert_eq!(came["forced"], "mismatching_state");
    assert_eq!(came["forged"], "invalid_grant");
    Ok(())
}

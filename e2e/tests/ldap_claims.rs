//! Claims of scopes `profile`, `phone` and `address` from a real directory, for no request more.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::installation::repository;
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LDAP_USER, Setup};
use claviger_testkit::{AuditMark, ControlPlane, Directory, Installation, Scene, eventually};
use serde_json::{Value, json};

const SCOPE: &str = "openid profile phone address offline_access";
const ALICE: &str = "dn: uid=alice,ou=people,dc=example,dc=org\nchangetype: modify\n";

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

/// All requests but those by which the leader says that the connector has changed.
fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let mut counts = scene.installation().requests_since(mark)?;
    counts.retain(|(what, _)| !what.ends_with(" connectors/status") && !what.ends_with(" events"));
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directorys_users_have_profile_phone_and_address_and_a_refresh_says_them_anew()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let setup = Setup::new(Directory::Slapd);
    let mut scene = Scene::start_as(Installation::create(&plane).await?, &setup, |manifests| {
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            let scopes: Vec<_> = SCOPE.split(' ').collect();
            client["spec"]["scopes"] = json!(scopes);
        }
    })
    .await?;
    scene.slapd()?.modify(&format!(
        "{ALICE}add: givenName\ngivenName: Alice\n-\nadd: telephoneNumber\ntelephoneNumber: +44 1865 276150\n\
         -\nadd: postalAddress\npostalAddress: Christ Church$Oxford\n-\nadd: l\nl: Oxford\n"
    ))?;
    let party = scene.relying_party().await?;
    let before = party.log_in(SCOPE, LDAP_USER).await?;
    let before = claims(text(&before, "id_token")?)?;
    ensure!(before.get("given_name").is_none() && before.get("address").is_none(), "{before}");

    let file = repository().join("examples/quickstart/patches/ldap-claims.yaml");
    let file = format!("--patch-file={}", file.display());
    scene.installation().kubectl(&["patch", "connector", "ldap", "--type=merge", &file])?;
    let tokens = eventually(Duration::from_secs(10), async || {
        let mark = plane.audit_log().mark()?;
        let tokens = party.log_in(SCOPE, LDAP_USER).await?;
        let counted = requests(&scene, mark)?;
        ensure!(claims(text(&tokens, "id_token")?)?.get("given_name").is_some(), "not yet");
        println!("a sign-in with claims of the directory's: {counted}");
        assert_eq!(counted, "create sessions × 1");
        Ok(tokens)
    })
    .await?;
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["family_name"], "Liddell");
    assert_eq!(id_token["phone_number"], "+44 1865 276150");
    assert_eq!(
        id_token["address"],
        json!({"formatted": "Christ Church\nOxford", "locality": "Oxford"})
    );
    ensure!(id_token["updated_at"].is_i64(), "{id_token}");
    for absent in ["phone_number_verified", "locale"] {
        ensure!(id_token.get(absent).is_none(), "{id_token}");
    }

    let moved = format!("{ALICE}replace: l\nl: London\n-\ndelete: telephoneNumber\n");
    scene.slapd()?.modify(&moved)?;
    let mark = plane.audit_log().mark()?;
    let refreshed = party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("a refresh with claims of the directory's: {counted}");
    assert_eq!(counted, "get sessions × 1, patch sessions × 1");
    let id_token = claims(text(&refreshed, "id_token")?)?;
    assert_eq!(id_token["address"]["locality"], "London");
    ensure!(id_token.get("phone_number").is_none(), "{id_token}");
    let (_, body) = party.userinfo(text(&refreshed, "access_token")?).await?;
    let userinfo: Value = serde_json::from_str(&body)?;
    assert_eq!(userinfo["address"]["locality"], "London");
    Ok(())
}

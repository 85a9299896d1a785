//! Who is in a group of an LDAP directory (slapd) is asked at every refresh, whatever the client wants to know.

use anyhow::{Context, Result};
use claviger_testkit::scene::{LDAP_USER, Manifests};
use claviger_testkit::{ControlPlane, Directory, Installation, Scene};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Without `groups`: what is allowed is asked all the same.
const SCOPE: &str = "openid offline_access";

fn refresh_token(tokens: &Value) -> Result<&str> {
    tokens["refresh_token"].as_str().with_context(|| format!("no refresh token in {tokens}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_group_member_in_slapd_ends_the_session_at_the_next_refresh() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let allow = |manifests: &mut Manifests| {
        if let Ok(connector) = manifests.find("Connector", "ldap") {
            connector["spec"]["allowedGroups"] = json!(["developers"]);
            connector["spec"]["recheckIntervalSeconds"] = json!(0);
        }
    };
    let installation = Installation::create(&plane).await?;
    let mut scene = Scene::start_in(installation, Directory::Slapd, allow).await?;
    let party = scene.relying_party().await?;
    let first = party.log_in(SCOPE, LDAP_USER).await?;
    let second = party.refresh(refresh_token(&first)?).await?.tokens()?;

    // The group stays, with somebody else in it.
    scene.slapd()?.modify(
        "dn: cn=developers,ou=groups,dc=example,dc=org\nchangetype: modify\nadd: member\n\
         member: uid=bob,ou=people,dc=example,dc=org\n-\ndelete: member\n\
         member: uid=alice,ou=people,dc=example,dc=org\n",
    )?;
    let answer = party.refresh(refresh_token(&second)?).await?;
    assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    let state = ["get", "sessions", "-o", "jsonpath={.items[*].spec.state}"];
    assert_eq!(scene.installation().kubectl(&state)?, "Revoked");
    let refused = party.log_in(SCOPE, LDAP_USER).await;
    assert!(refused.is_err(), "{refused:?}");
    Ok(())
}

//! Who is in a group of an LDAP directory (slapd) is asked at every refresh, whatever the client wants to know; a directory
//! that does not answer is left alone for a while.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::scene::{LDAP_USER, Manifests};
use claviger_testkit::{ControlPlane, Directory, Installation, Scene, eventually};
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

/// What the metrics say under this name, labels included.
async fn metric(scene: &Scene, name: &str) -> Result<Option<String>> {
    let metrics = reqwest::get(format!("{}/metrics", scene.serving().admin_url())).await?;
    let metrics = metrics.text().await?;
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(values.next().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_does_not_answer_is_left_alone_and_no_session_is_lost() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let always_asked = |manifests: &mut Manifests| {
        if let Ok(connector) = manifests.find("Connector", "ldap") {
            connector["spec"]["recheckIntervalSeconds"] = json!(0);
        }
    };
    let installation = Installation::create(&plane).await?;
    let mut scene = Scene::start_in(installation, Directory::Slapd, always_asked).await?;
    let party = scene.relying_party().await?;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let tokens = party.log_in(SCOPE, LDAP_USER).await?;
        sessions.push(refresh_token(&tokens)?.to_owned());
    }
    let asked = "claviger_upstream_requests_total{connector=\"ldap\",operation=";
    let password = format!("{asked}\"password\",outcome=\"ok\"}}");
    assert_eq!(metric(&scene, &password).await?.as_deref(), Some("3"));

    scene.slapd()?.freeze()?;
    let [one, two, three] = [0, 1, 2].map(|n| party.refresh(&sessions[n]));
    let (one, two, three) = tokio::try_join!(one, two, three)?;
    assert_eq!([one.status, two.status, three.status], [StatusCode::SERVICE_UNAVAILABLE; 3]);
    let open = "claviger_upstream_circuit_open{connector=\"ldap\"}";
    assert_eq!(metric(&scene, open).await?.as_deref(), Some("1"));
    let not_asked = format!("{asked}\"recheck\",outcome=\"not_asked\"}}");
    eventually(Duration::from_secs(30), async || {
        // The first after the pause is let through, and waits.
        let answer = party.refresh(&sessions[0]).await?;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        ensure!(metric(&scene, &not_asked).await?.is_some(), "it was asked");
        Ok(())
    })
    .await?;

    scene.slapd()?.thaw()?;
    for token in &sessions {
        eventually(Duration::from_secs(30), async || {
            let answer = party.refresh(token).await?;
            ensure!(answer.status == StatusCode::OK, "{}", answer.status);
            Ok(())
        })
        .await?;
    }
    assert_eq!(metric(&scene, open).await?.as_deref(), Some("0"));
    Ok(())
}

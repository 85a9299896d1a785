//! Users sign in and refresh, and every request the operator made of the API server for them is
//! counted, exactly, from the API server's own audit log.

use anyhow::{Context, Result, ensure};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LDAP_USER, LOCAL_USER, Manifests, SCOPE};
use claviger_testkit::{AuditMark, ControlPlane, Directory, Installation, RelyingParty, Scene};
use reqwest::StatusCode;
use serde_json::Value;

/// As often as the issue counts.
const MANY: usize = 100;

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

/// What the operator asked of the API server since `mark`, leases aside, as `what × how often`.
fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_logins_are_a_hundred_creates_and_a_hundred_refreshes_a_hundred_patches()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let mut logins = Vec::new();
    for _ in 0..MANY {
        logins.push(party.log_in(SCOPE, LOCAL_USER).await?);
    }
    assert_eq!(requests(&scene, mark)?, "create sessions × 100");

    let id_token = claims(text(&logins[0], "id_token")?)?;
    assert_eq!(id_token["iss"], scene.issuer());
    assert_eq!(id_token["aud"], "kubernetes");
    assert_eq!(id_token["email"], "admin@local.example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["preferred_username"], "admin");
    assert_eq!(id_token["groups"], serde_json::json!(["local:admins"]));

    let mark = audit.mark()?;
    for tokens in &logins {
        let refreshed = party.refresh(text(tokens, "refresh_token")?).await?.tokens()?;
        ensure!(refreshed["refresh_token"] != tokens["refresh_token"], "did not rotate");
    }
    assert_eq!(requests(&scene, mark)?, "patch sessions × 100");
    Ok(())
}

/// As the API server shows it, but for `managedFields`, which are its own; in a namespace called `claviger`, and at
/// the end of a long life.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_user_without_groups_is_a_kilobyte_at_most() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests| {
        // Not there: its session has a group, and is too large.
        if let Ok(user) = manifests.find("LocalUser", "admin") {
            user["spec"]["groups"] = serde_json::json!([]);
        }
    })
    .await?;
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let size = |when: &str| -> Result<usize> {
        let listed = scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
        let listed: Value = serde_json::from_str(&listed)?;
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
        let mut session = listed["items"][0].clone();
        session["metadata"]["namespace"] = "claviger".into();
        session["metadata"]["resourceVersion"] = "1234567890".into();
        session["spec"]["generation"] = 100_000.into();
        let size = session.to_string().len();
        println!("{when}: {size} bytes: {session}");
        Ok(size)
    };
    assert!(size("signed in")? <= 1_024);
    party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    assert!(size("refreshed")? <= 1_024);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cause_no_request_at_all() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let refresh_token = text(&tokens, "refresh_token")?;
    let (code, _) = party.code(SCOPE, LOCAL_USER).await?;
    let mark = plane.audit_log().mark()?;

    for n in 0..MANY {
        let begun = party.http().get(party.attempt(SCOPE)?.url).send().await?;
        assert_eq!(begun.status(), StatusCode::SEE_OTHER);
        let forged_code = replace_character(&code, n);
        let answer = party.redeem(&forged_code, &"v".repeat(43)).await?;
        assert_eq!(answer.error(), "invalid_grant", "{forged_code}: {}", answer.body);
        let forged_token = replace_character(refresh_token, n);
        let answer = party.refresh(&forged_token).await?;
        assert_eq!(answer.error(), "invalid_grant", "{forged_token}: {}", answer.body);
    }
    assert_eq!(requests(&scene, mark)?, "");
    Ok(())
}

/// The same text with one character, from the end, exchanged for another.
fn replace_character(text: &str, from_end: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.len() - 2 - from_end % (bytes.len() - 2);
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_ldap_refreshes_are_two_requests_each_at_most() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::Slapd).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let mut tokens = party.log_in(SCOPE, LDAP_USER).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["groups"], serde_json::json!(["corp:developers"]));
    assert_eq!(id_token["email"], "alice@example.com");
    assert_eq!(id_token["name"], "Alice Liddell");

    let mark = audit.mark()?;
    for _ in 0..MANY {
        tokens = party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    }
    assert_eq!(requests(&scene, mark)?, "get sessions × 100, patch sessions × 100");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_asked_again_at_refresh_and_only_its_verdict_revokes() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let mut scene = Scene::start(&plane, Directory::Slapd).await?;
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LDAP_USER).await?;

    scene.slapd()?.stop();
    let away = party.refresh(text(&tokens, "refresh_token")?).await?;
    assert_eq!(
        (away.status, away.error()),
        (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
    );
    ensure!(away.retry_after.is_some(), "no Retry-After");

    scene.slapd()?.start_again().await?;
    scene.slapd()?.modify(
        "dn: cn=developers,ou=groups,dc=example,dc=org\nchangetype: modrdn\n\
         newrdn: cn=operators\ndeleteoldrdn: 1\n",
    )?;
    let tokens = party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["groups"], serde_json::json!(["corp:operators"]));

    scene.slapd()?.modify("dn: uid=alice,ou=people,dc=example,dc=org\nchangetype: delete\n")?;
    let gone = party.refresh(text(&tokens, "refresh_token")?).await?;
    assert_eq!(gone.error(), "invalid_grant");
    let path = "jsonpath={.items[*].spec.revokedReason}";
    let reasons = scene.installation().kubectl(&["get", "sessions", "-o", path])?;
    assert_eq!(reasons, "UserNoLongerValid");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_in_very_many_groups_waits_in_a_pending_session() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let groups: Vec<_> = (0..200).map(|n| format!("a-group-with-a-long-name-{n}")).collect();
    let change = |manifests: &mut Manifests| {
        if let Ok(user) = manifests.find("LocalUser", "admin") {
            user["spec"]["groups"] = groups.clone().into();
        }
    };
    let installation = Installation::create(&plane).await?;
    let scene = Scene::start_in(installation, Directory::None, change).await?;
    let party = scene.relying_party().await?;
    let mark = plane.audit_log().mark()?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    assert_eq!(
        requests(&scene, mark)?,
        "create sessions × 1, get sessions × 1, patch sessions × 1"
    );
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["groups"].as_array().map(Vec::len), Some(200));
    party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn userinfo_answers_from_memory_and_falls_silent_with_the_session() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party = scene.relying_party().await?;
    let (code, attempt) = party.code(SCOPE, LOCAL_USER).await?;
    let tokens = party.redeem(&code, &attempt.verifier).await?.tokens()?;
    let access_token = text(&tokens, "access_token")?;

    let mark = plane.audit_log().mark()?;
    let (status, body) = party.userinfo(access_token).await?;
    assert_eq!(status, StatusCode::OK, "{body}");
    let known: Value = serde_json::from_str(&body)?;
    assert_eq!(known["sub"], claims(text(&tokens, "id_token")?)?["sub"]);
    assert_eq!(requests(&scene, mark)?, "");

    party.redeem(&code, &attempt.verifier).await?; // a replay: the session is revoked
    assert_eq!(party.userinfo(access_token).await?.0, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_session_signs_the_user_out() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let party: RelyingParty = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    scene.installation().kubectl(&["delete", "sessions", "--all", "--wait=false"])?;
    let refused = party.refresh(text(&tokens, "refresh_token")?).await?;
    assert_eq!((refused.status, refused.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    Ok(())
}

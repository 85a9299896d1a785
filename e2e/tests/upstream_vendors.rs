//! Users of GitLab, Bitbucket Cloud and any other vendor (fakes that speak what each documents) sign in here: groups
//! follow at each refresh, who is out there is out here, and every request that costs is counted.

use anyhow::Result;
use claviger_testkit::ControlPlane;
use claviger_testkit::relying_party::claims;
use claviger_testkit::vendor::{Conduct, Style};
use serde_json::{Value, json};

use crate::upstream_github::{assert_over, requests, scene, text, tokens};

/// What is told of each vendor.
struct Story {
    style: Style,
    upstream: Value,
    /// The groups at sign-in.
    groups: Value,
    /// What changes there.
    change: fn(&mut Conduct),
    /// The groups after it.
    changed: Value,
    /// What puts the user out.
    out: fn(&mut Conduct),
}

async fn tell(story: Story) -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, vendor) = scene(&plane, story.style, story.upstream).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = tokens(&party, &vendor).await?;
    assert_eq!(requests(&scene, mark)?, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["groups"], story.groups);

    (story.change)(&mut vendor.conduct());
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    // One to read it, one to have it alone, and one to keep the vendor's next refresh token.
    assert_eq!(requests(&scene, mark)?, "get sessions × 1, patch sessions × 2");
    assert_eq!(claims(text(&second, "id_token")?)?["groups"], story.changed);

    (story.out)(&mut vendor.conduct());
    assert_over(&party, &second).await?;
    let listed = scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let states: Vec<_> =
        listed["items"].as_array().into_iter().flatten().map(|s| &s["spec"]["state"]).collect();
    assert_eq!(states, ["Revoked"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_gitlab_has_its_groups_by_their_paths_and_is_out_when_blocked() -> Result<()> {
    tell(Story {
        style: Style::Gitlab,
        upstream: json!({"roles": "Suffix"}),
        groups: json!([
            "corp:acme",
            "corp:acme/platform",
            "corp:acme/platform:owner",
            "corp:acme:developer"
        ]),
        change: |gitlab| {
            if let Some(said) = gitlab.documents.get_mut("/oauth/userinfo") {
                said["groups"] = json!(["acme"]);
                said["https://gitlab.org/claims/groups/owner"] = Value::Null;
            }
        },
        changed: json!(["corp:acme", "corp:acme:developer"]),
        out: |gitlab| {
            let blocked = r#"{"message":"403 Forbidden - Your account has been blocked."}"#;
            let blocked = claviger_testkit::vendor::Scripted::new(403, blocked);
            gitlab.answers.insert("/oauth/userinfo".into(), blocked);
        },
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_bitbucket_has_its_workspaces_and_is_out_when_the_consumer_is_withdrawn()
-> Result<()> {
    tell(Story {
        style: Style::BitbucketCloud,
        upstream: json!({}),
        groups: json!(["corp:acme", "corp:hobby"]),
        change: |bitbucket| {
            let said = json!([{"administrator": false, "workspace": {"slug": "acme"}}]);
            bitbucket.documents.insert("/2.0/user/workspaces".into(), said);
        },
        changed: json!(["corp:acme"]),
        out: Conduct::revoke_all,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_any_vendor_has_the_groups_a_member_lists_and_is_out_when_its_grant_is()
-> Result<()> {
    tell(Story {
        style: Style::Generic,
        upstream: json!({"claims": {"groups": "teams"}}),
        groups: json!(["corp:acme"]),
        change: |vendor| {
            if let Some(said) = vendor.documents.get_mut("/userinfo") {
                said["teams"] = json!(["acme", "on-call"]);
            }
        },
        changed: json!(["corp:acme", "corp:on-call"]),
        out: Conduct::revoke_all,
    })
    .await
}

/// Its tokens are those of the sign-in until they end, so a refresh keeps nothing new.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_openshift_has_the_clusters_groups_and_is_out_when_they_are_deleted() -> Result<()>
{
    let plane = ControlPlane::from_env()?;
    let (scene, openshift) = scene(&plane, Style::Openshift, json!({})).await?;
    let party = scene.relying_party().await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = tokens(&party, &openshift).await?;
    let counted = requests(&scene, mark)?;
    println!("a sign-in from OpenShift: {counted}");
    assert_eq!(counted, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["preferred_username"], "ada");
    assert_eq!(id_token["groups"], json!(["corp:acme"]));

    let myself = "/apis/user.openshift.io/v1/users/~";
    if let Some(said) = openshift.conduct().documents.get_mut(myself) {
        said["groups"] = json!(["acme", "on-call", "system:authenticated"]);
    }
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("a refresh with OpenShift: {counted}");
    assert_eq!(counted, "get sessions × 1, patch sessions × 1");
    let groups = json!(["corp:acme", "corp:on-call"]);
    assert_eq!(claims(text(&second, "id_token")?)?["groups"], groups);

    openshift.conduct().revoke_all();
    assert_over(&party, &second).await
}

//! Too many sessions of one user, then of one client: the oldest are revoked within a round, the newest
//! live, and no sign-in reads anything for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::scene::{LDAP_USER, LOCAL_USER, Manifests, SCOPE};
use claviger_testkit::{
    ControlPlane, Directory, Installation, Login, RelyingParty, Scene, eventually,
};
use serde_json::{Value, json};

const PER_USER: usize = 3;
const PER_CLIENT: usize = 5;
/// A look begins every second.
const SOON: Duration = Duration::from_secs(30);

async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let here = Installation::create(plane)
        .await?
        .with_operator_flags(&["--cleanup-interval-seconds", "1"]);
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["sessionLimits"] =
                json!({"perUser": PER_USER, "perClient": PER_CLIENT, "total": 1_000});
        }
    };
    Scene::start_in(here, Directory::Slapd, change).await
}

#[expect(clippy::disallowed_methods, reason = "age is told by the real time")]
fn second() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_second()
}

/// Signs in so often, each in another second: the API server tells age in seconds.
async fn log_in(party: &RelyingParty, who: Login<'_>, times: usize) -> Result<Vec<Value>> {
    let mut tokens = Vec::new();
    for _ in 0..times {
        tokens.push(party.log_in(SCOPE, who).await?);
        let signed_in = second();
        eventually(SOON, async || {
            ensure!(second() > signed_in, "still the same second");
            Ok(())
        })
        .await?;
    }
    Ok(tokens)
}

/// The session that a refresh token names.
fn session_of(tokens: &Value) -> Result<String> {
    let token = tokens["refresh_token"].as_str().context("no refresh_token")?;
    Ok(token.split('.').nth(1).context("no session in it")?.to_owned())
}

async fn wait_until_live(scene: &Scene, expected: &[&Value]) -> Result<()> {
    let expected: BTreeSet<_> = expected.iter().map(|t| session_of(t)).collect::<Result<_>>()?;
    eventually(SOON, async || {
        let path = "jsonpath={range .items[?(@.spec.state==\"Active\")]}{.metadata.name} {end}";
        let live = scene.installation().kubectl(&["get", "sessions", "-o", path])?;
        let live: BTreeSet<_> = live.split_whitespace().map(str::to_owned).collect();
        ensure!(live == expected, "live are {live:?}, not {expected:?}");
        Ok(())
    })
    .await
}

async fn refresh(party: &RelyingParty, tokens: &Value) -> Result<String> {
    let token = tokens["refresh_token"].as_str().context("no refresh_token")?;
    Ok(party.refresh(token).await?.error().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_sessions_beyond_the_limits_are_revoked_and_no_sign_in_reads() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let here = scene.installation();
    let party = scene.relying_party().await?;
    let mark = plane.audit_log().mark()?;

    let admin = log_in(&party, LOCAL_USER, PER_USER + 2).await?;
    let newest: Vec<_> = admin[2..].iter().collect();
    wait_until_live(&scene, &newest).await?;

    // Six sessions of the client now: one too many, the admin's oldest.
    let alice = log_in(&party, LDAP_USER, PER_USER).await?;
    let newest: Vec<_> = admin[3..].iter().chain(&alice).collect();
    wait_until_live(&scene, &newest).await?;

    let mut asked: BTreeMap<_, _> = here.requests_since(mark)?.into_iter().collect();
    asked.retain(|what, _| what.ends_with(" sessions") && what != "list sessions"); // the sweep's
    let expected = [("create sessions", PER_USER + 2 + PER_USER), ("patch sessions", 3)];
    assert_eq!(asked, expected.map(|(what, count)| (what.to_owned(), count)).into());

    for (tokens, error) in [(&admin[0], "invalid_grant"), (&admin[2], "invalid_grant")] {
        assert_eq!(refresh(&party, tokens).await?, error);
    }
    for tokens in newest {
        assert_eq!(refresh(&party, tokens).await?, "", "a session within the limits");
    }

    let path = "jsonpath={.items[?(@.spec.state==\"Revoked\")].spec.revokedReason}";
    let reasons = here.kubectl(&["get", "sessions", "-o", path])?;
    assert_eq!(reasons, ["SessionLimitExceeded"; 3].join(" "));
    let metrics = format!("{}/metrics", scene.serving().admin_url());
    let metrics = reqwest::get(metrics).await?.text().await?;
    for line in ["{bound=\"perClient\"} 1", "{bound=\"perUser\"} 2"] {
        let line = format!("claviger_session_limit_revoked_total{line}");
        ensure!(metrics.lines().any(|said| said == line), "no {line} in\n{metrics}");
    }
    eventually(SOON, async || {
        let path = "jsonpath={.items[?(@.reason==\"SessionLimitExceeded\")].involvedObject.kind}";
        let about = here.kubectl(&["get", "events", "-o", path])?;
        ensure!(about.split(' ').all(|kind| kind == "OIDCIssuer"), "Events about {about:?}");
        Ok(())
    })
    .await
}

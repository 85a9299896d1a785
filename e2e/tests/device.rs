//! A device without a browser: what it costs the API server, who lets it in, what `kubectl` shows of it, and what a
//! stranger cannot do with it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Browser, Landing};
use claviger_testkit::relying_party::{Answer, claims};
use claviger_testkit::scene::{LOCAL_USER, Manifests, REDIRECT_URI};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, Library, Outsider, RelyingParty, Scene,
    Setup, eventually, run_recipe,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// What RFC 8628 3.5 has a device wait for between two polls.
const INTERVAL: Duration = Duration::from_secs(5);
/// For the leader to look.
const SOON: Duration = Duration::from_secs(30);
const RACES: usize = 8;

async fn scene(setup: &Setup, settings: Value) -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    let example = Manifests::of_example("device")?;
    let scene = Scene::start_as(Installation::create(&plane).await?, setup, |manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["grants"] = json!(["authorization_code", "refresh_token", GRANT]);
            issuer["spec"]["deviceAuthorizations"] = settings;
        }
        manifests.extend(example);
    })
    .await?;
    scene.installation().wait_for("oauth2client/tv", "Ready").await?;
    Ok(scene)
}

/// The example's client at each replica.
async fn devices(scene: &Scene) -> Result<Vec<RelyingParty>> {
    let peers = scene.replicas().iter().map(|replica| replica.peer(scene.installation()));
    let mut parties = Vec::new();
    for peer in peers {
        let issuer = scene.issuer();
        parties.push(RelyingParty::discover(&issuer, peer, ("tv", None), REDIRECT_URI).await?);
    }
    Ok(parties)
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// How often the operator asked for this.
fn count(scene: &Scene, mark: AuditMark, what: &str) -> Result<usize> {
    let counts = scene.installation().requests_since(mark)?;
    Ok(counts.iter().find(|(asked, _)| asked == what).map_or(0, |(_, count)| *count))
}

fn text<'a>(answer: &'a Value, name: &str) -> Result<&'a str> {
    answer[name].as_str().with_context(|| format!("no {name} in {answer}"))
}

async fn poll(party: &RelyingParty, device: &Value) -> Result<Answer> {
    party.token(&[("grant_type", GRANT), ("device_code", text(device, "device_code")?)]).await
}

/// Polls as a device does: while it is told to wait, it waits.
async fn decided(party: &RelyingParty, device: &Value) -> Result<Answer> {
    loop {
        let answer = poll(party, device).await?;
        if answer.error() != "authorization_pending" {
            return Ok(answer);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn let_in(party: &RelyingParty, device: &Value, decision: &str) -> Result<()> {
    let url = text(device, "verification_uri_complete")?.parse()?;
    let done = party.browser()?.decide_device(&url, LOCAL_USER, decision).await?;
    ensure!(done.status == StatusCode::OK, "{}: {}", done.status, done.html);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_costs_a_create_a_patch_and_a_session_and_no_poll_costs_anything() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&Setup::new(Directory::None), json!({})).await?;
    let [party] = devices(&scene).await?.try_into().map_err(|_| anyhow::anyhow!("one replica"))?;
    let audit = plane.audit_log();
    let authority = scene.installation().authority_file()?.display().to_string();
    let issuer = scene.issuer();
    let mut variables = vec![("ISSUER", issuer.as_str()), ("CURL_CA_BUNDLE", authority.as_str())];

    let mark = audit.mark()?;
    let device: Value = serde_json::from_str(&run_recipe("device.md", "ask", &variables)?)?;
    let counted = requests(&scene, mark)?;
    println!("a device asks: {counted}");
    assert_eq!(counted, "create deviceauthorizations × 1");
    assert_eq!((&device["expires_in"], &device["interval"]), (&json!(300), &json!(5)));

    let mark = audit.mark()?;
    let code = text(&device, "device_code")?;
    variables.push(("DEVICE_CODE", code));
    let pending: Value = serde_json::from_str(&run_recipe("device.md", "poll", &variables)?)?;
    assert_eq!(pending["error"], "authorization_pending");
    assert_eq!(poll(&party, &device).await?.error(), "slow_down", "at once after the first");
    assert_eq!(requests(&scene, mark)?, "");

    let mark = audit.mark()?;
    let_in(&party, &device, "approve").await?;
    let counted = requests(&scene, mark)?;
    println!("its user lets it in: {counted}");
    assert_eq!(counted, "patch deviceauthorizations × 1");

    let listed = scene.installation().kubectl(&["get", "deviceauthorizations"])?;
    println!("{listed}");
    ensure!(listed.contains("tv") && listed.contains("Approved"), "{listed}");
    let stored = ["get", "deviceauthorizations", "-o", "yaml"];
    let stored = scene.installation().kubectl(&stored)?;
    let user_code = text(&device, "user_code")?;
    for secret in [user_code, &user_code.replace('-', ""), code, &code[code.len() - 43..]] {
        ensure!(!stored.contains(secret), "{secret} is stored");
    }

    let mark = audit.mark()?;
    tokio::time::sleep(INTERVAL * 2).await; // what slow_down asked for
    let tokens = decided(&party, &device).await?.tokens()?;
    let counted = requests(&scene, mark)?;
    println!("it gets its tokens: {counted}");
    assert_eq!(counted, "create sessions × 1");
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(
        (&id_token["aud"], &id_token["email"]),
        (&json!("tv"), &json!("admin@local.example.com"))
    );
    party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_waits_for_its_user_and_is_told_when_they_refuse() -> Result<()> {
    let scene = scene(&Setup::new(Directory::None), json!({})).await?;
    let me = json!({"client_id": "tv"});
    let script = Outsider::start(Library::OpenidClient, "device", &scene, me).await?;
    let party = &devices(&scene).await?[0];
    let decide = async |question: Value| {
        let_in(party, &question["device"], text(&question, "decision")?).await?;
        Ok(json!({}))
    };
    let came = script.signing_in_and(&scene, LOCAL_USER, decide).await?;
    assert_eq!(came["endpoint"], format!("{}/device/code", scene.issuer()));
    assert_eq!(came["claims"]["aud"], "tv", "{came}");
    assert_eq!(came["claims"]["email"], "admin@local.example.com");
    assert_eq!(came["refreshed"]["sub"], came["claims"]["sub"]);
    assert_eq!(came["refused"]["error"], "access_denied", "{}", came["refused"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_redeem_one_approval_at_once_give_tokens_once() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&Setup::new(Directory::None).replicas(2), json!({})).await?;
    let parties = devices(&scene).await?;
    let (mut lost, mut sessions) = (0, 0);
    for round in 0..RACES {
        let device = parties[round % 2].device("openid").await?.tokens()?;
        // Whoever asks at one replica is let in at the other.
        let known =
            eventually(SOON, async || let_in(&parties[(round + 1) % 2], &device, "approve").await);
        known.await?;
        let mark = plane.audit_log().mark()?;
        let (one, other) =
            tokio::join!(decided(&parties[0], &device), decided(&parties[1], &device));
        let answers = [one?, other?];
        let won = answers.iter().filter(|answer| answer.error().is_empty()).count();
        assert_eq!(won, 1, "{answers:?}");
        lost += answers.iter().filter(|answer| answer.error() == "invalid_grant").count();
        sessions += 1;
        assert_eq!(count(&scene, mark, "create sessions")?, 2, "each tried");
    }
    assert_eq!(lost, RACES);
    let stored = scene.installation().kubectl(&["get", "sessions", "-o", "name"])?;
    assert_eq!(stored.lines().count(), sessions);
    let revoked = ["get", "sessions", "-l", "claviger.dev/state=Revoked", "-o", "name"];
    assert_eq!(scene.installation().kubectl(&revoked)?, "", "a race is no theft");
    println!("devices: {RACES} approvals, 2 replicas at once: {RACES} sessions, {lost} refused");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_cap_nothing_is_stored_and_what_is_over_goes() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let setup = Setup::new(Directory::None).flag("--cleanup-interval-seconds=1");
    // Of eight, one address has two.
    let scene = scene(&setup, json!({"perClient": 8})).await?;
    let party = &devices(&scene).await?[0];
    let audit = plane.audit_log();
    let mark = audit.mark()?;
    for _ in 0..2 {
        party.device("openid").await?.tokens()?;
    }
    let full = party.device("openid").await?;
    assert_eq!(
        (full.status, full.error()),
        (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
    );
    assert_eq!(full.retry_after.as_deref(), Some("30"));
    assert_eq!(count(&scene, mark, "create deviceauthorizations")?, 2);

    let over = json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "DeviceAuthorization",
        "metadata": {"name": "over", "labels": {"claviger.dev/expiry-minute": "29000000"}},
        "spec": {
            "state": "Pending", "clientUID": "gone", "clientID": "gone", "userCodeMAC": "a.b",
            "expiresAt": "2025-02-19T21:20:00Z", "payload": "none",
        },
    });
    scene.installation().apply(&over.to_string())?;
    let mut stray = over;
    stray["metadata"] = json!({"name": "over-without-label"});
    scene.installation().apply(&stray.to_string())?;
    eventually(SOON, async || {
        let list = ["get", "deviceauthorizations", "-o", "name"];
        let listed = scene.installation().kubectl(&list)?;
        ensure!(listed.lines().count() == 2 && !listed.contains("/over"), "{listed}");
        Ok(())
    })
    .await?;
    // At rest it costs nothing.
    let mark = audit.mark()?;
    eventually(SOON, async || {
        let lists = count(&scene, mark, "list sessions")?;
        ensure!(lists > 6, "only {lists} lists: the leader did not look twice");
        Ok(())
    })
    .await?;
    assert_eq!(count(&scene, mark, "deletecollection deviceauthorizations")?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_codes_must_wait_and_learns_nothing() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&Setup::new(Directory::None), json!({})).await?;
    let party = &devices(&scene).await?[0];
    let device = party.device("openid").await?.tokens()?;
    let browser = party.browser()?;
    let page = entry(&browser, text(&device, "verification_uri")?).await?;
    let mark = plane.audit_log().mark()?;
    let guess = async |code: &str| -> Result<(StatusCode, String)> {
        match browser.submit(&page, &[("user_code", code)]).await? {
            Landing::Page(page) => Ok((page.status, page.html)),
            Landing::Application(url) => bail!("led to {url}"),
        }
    };
    for _ in 0..6 {
        assert_eq!(guess("BBBB-BBBB").await?.0, StatusCode::NOT_FOUND);
    }
    let (status, html) = guess(text(&device, "user_code")?).await?;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "the right one too: {html}");
    assert_eq!(requests(&scene, mark)?, "");
    Ok(())
}

/// Signs in at the device page, up to the question for the code.
async fn entry(browser: &Browser, url: &str) -> Result<claviger_testkit::browser::Page> {
    let Landing::Page(login) = browser.open(&url.parse()?).await? else { bail!("no page") };
    let typed = [("login", LOCAL_USER.username), ("password", LOCAL_USER.password)];
    let Landing::Page(page) = browser.submit(&login, &typed).await? else { bail!("no page") };
    ensure!(page.form_field("user_code").is_some(), "no code is asked for: {}", page.html);
    Ok(page)
}

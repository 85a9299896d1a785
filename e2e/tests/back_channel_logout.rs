//! Applications are told, server to server, that their user signed out: by what token, what it costs the API server,
//! and that no kill and no outage loses it (OpenID Connect Back-Channel Logout 1.0).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use claviger_jose::{Algorithm, Claims, KeySet, VerifyOptions, verify};
use claviger_testkit::browser::{Browser, Landing, query_value};
use claviger_testkit::scene::{LOCAL_USER, Manifests, REDIRECT_URI};
use claviger_testkit::{
    ControlPlane, Directory, Installation, LogoutReceiver, RelyingParty, Scene, Setup, eventually,
};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

/// A delivery without trouble.
const SOON: Duration = Duration::from_secs(10);
/// One after others failed, or another replica had to come to lead.
const LATE: Duration = Duration::from_mins(1);

struct Stage {
    scene: Scene,
    receiver: LogoutReceiver,
}

impl Stage {
    async fn set(plane: &ControlPlane, replicas: u8, logout: Value) -> Result<Self> {
        let here = Installation::create(plane).await?;
        let receiver = LogoutReceiver::start(here.authority()).await?;
        let setup = Setup::new(Directory::None)
            .replicas(replicas)
            .flag("--outbound-allowed-networks=127.0.0.0/8")
            .flag(format!("--outbound-ca-file={}", here.authority_file()?.display()));
        let mut logout = logout;
        logout["uri"] = json!(receiver.back_channel());
        let change = |manifests: &mut Manifests| {
            if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
                issuer["spec"]["browserSessions"] = json!({});
            }
            if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
                client["spec"]["postLogoutRedirectURIs"] = json!([REDIRECT_URI]);
                client["spec"]["backChannelLogout"] = logout;
            }
        };
        let scene = Scene::start_as(here, &setup, change).await?;
        Ok(Self { scene, receiver })
    }

    fn requests(&self, mark: claviger_testkit::AuditMark) -> Result<String> {
        let counts = self.scene.installation().requests_since(mark)?;
        let lines: Vec<_> = counts.iter().map(|(what, n)| format!("{what} × {n}")).collect();
        Ok(lines.join(", "))
    }

    /// Names of the sessions whose client is yet to be told.
    fn untold(&self) -> Result<Vec<String>> {
        let arguments = ["get", "sessions", "-l", "claviger.dev/logout-pending", "-o", "name"];
        let listed = self.scene.installation().kubectl(&arguments)?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Waits until nobody is left to be told, and returns the tokens that came.
    async fn all_told(&self, patience: Duration) -> Result<Vec<String>> {
        eventually(patience, async || {
            let untold = self.untold()?;
            ensure!(untold.is_empty(), "not told: {untold:?}");
            Ok(())
        })
        .await?;
        Ok(self.receiver.take_tokens())
    }

    /// What a logout token says, to somebody who reads it as the specification demands.
    async fn read(&self, party: &RelyingParty, token: &str) -> Result<Claims> {
        let keys = party.http().get(party.endpoint("jwks_uri")?).send().await?.bytes().await?;
        let issuer = self.scene.issuer();
        let expected = VerifyOptions {
            algorithms: &Algorithm::ALL,
            issuer: &issuer,
            audience: Some("kubernetes"),
            typ: Some("logout+jwt"),
            leeway_seconds: 60,
        };
        Ok(verify(&KeySet::parse(&keys)?, token, now(), &expected)?)
    }
}

#[expect(clippy::disallowed_methods, reason = "a logout token is dated by the real time")]
fn now() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_second()
}

async fn signed_in(party: &RelyingParty, browser: &Browser, scope: &str) -> Result<Value> {
    let attempt = party.attempt(scope)?;
    let landed = browser.sign_in(&attempt.url, LOCAL_USER).await?;
    party.redeem(&query_value(&landed, "code")?, &attempt.verifier).await?.tokens()
}

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

/// Signs the browser out with the ID token it led to.
async fn sign_out(party: &RelyingParty, browser: &Browser, tokens: &Value) -> Result<Url> {
    let mut url = party.endpoint("end_session_endpoint")?;
    let params =
        [("id_token_hint", text(tokens, "id_token")?), ("post_logout_redirect_uri", REDIRECT_URI)];
    url.query_pairs_mut().extend_pairs(params);
    match browser.open(&url).await? {
        Landing::Application(url) => Ok(url),
        Landing::Page(page) => bail!("not signed out: {}", page.html),
    }
}

fn identifiers(claims: &[Claims]) -> BTreeSet<&str> {
    claims.iter().filter_map(|claims| claims["jti"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_told_by_a_token_that_is_for_it_alone() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let stage = Stage::set(&plane, 1, json!({})).await?;
    let party = stage.scene.relying_party().await?;
    assert_eq!(party.metadata()["backchannel_logout_supported"], true);
    assert_eq!(party.metadata()["backchannel_logout_session_supported"], true);
    let browser = party.browser()?;
    let tokens = signed_in(&party, &browser, "openid").await?;
    stage.scene.leader().await?;

    let mark = plane.audit_log().mark()?;
    sign_out(&party, &browser, &tokens).await?;
    let told = stage.all_told(SOON).await?;
    let cost = eventually(SOON, async || {
        let cost = stage.requests(mark)?;
        ensure!(cost.contains("patch sessions × 4"), "{cost}");
        Ok(cost)
    })
    .await?;
    // One get, list and three patches for signing out; one get and one patch for telling.
    assert_eq!(cost, "get sessions × 2, list sessions × 1, patch sessions × 4");
    println!("a sign-out with one client told: {cost}");

    let [token] = told.as_slice() else { bail!("told {} times", told.len()) };
    let said = stage.read(&party, token).await?;
    let id_token = claviger_testkit::relying_party::claims(text(&tokens, "id_token")?)?;
    assert_eq!(said["sid"], id_token["sid"]);
    assert!(!said.contains_key("nonce") && !said.contains_key("sub"), "{said:?}");
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    assert_eq!(said["events"], event);
    // Nobody is let in by it.
    let refused = party.userinfo(token).await?.0;
    assert_eq!(refused, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_away_is_told_when_it_is_back_and_offline_use_goes_on() -> Result<()>
{
    let plane = ControlPlane::from_env()?;
    let mut stage = Stage::set(&plane, 1, json!({"names": "SessionAndUser"})).await?;
    let party = stage.scene.relying_party().await?;
    let browser = party.browser()?;
    let tokens = signed_in(&party, &browser, "openid offline_access").await?;
    stage.receiver.go_away().await;
    sign_out(&party, &browser, &tokens).await?;
    assert_eq!(stage.untold()?.len(), 1);
    eventually(LATE, async || {
        let log = stage.scene.operator()?.log()?;
        let failed = log.matches("could not be told").count();
        ensure!(failed >= 2, "{failed} failures");
        Ok(())
    })
    .await?;
    stage.receiver.answer(StatusCode::SERVICE_UNAVAILABLE);
    stage.receiver.come_back().await?;
    eventually(LATE, async || {
        ensure!(!stage.receiver.take_tokens().is_empty(), "not tried again");
        Ok(())
    })
    .await?;
    assert_eq!(stage.untold()?.len(), 1, "503 is no success");
    stage.receiver.answer(StatusCode::NO_CONTENT);
    let told = stage.all_told(LATE).await?;
    let said = stage.read(&party, told.last().context("not told")?).await?;
    let id_token = claviger_testkit::relying_party::claims(text(&tokens, "id_token")?)?;
    assert_eq!(said["sub"], id_token["sub"]);
    party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_refuses_is_not_asked_again_and_somebody_is_told() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let stage = Stage::set(&plane, 1, json!({})).await?;
    let party = stage.scene.relying_party().await?;
    let browser = party.browser()?;
    let tokens = signed_in(&party, &browser, "openid").await?;
    stage.receiver.answer(StatusCode::BAD_REQUEST);
    sign_out(&party, &browser, &tokens).await?;
    assert_eq!(stage.all_told(SOON).await?.len(), 1);
    eventually(SOON, async || {
        let events = ["get", "events", "-o", "jsonpath={.items[*].reason}"];
        let reasons = stage.scene.installation().kubectl(&events)?;
        ensure!(reasons.contains("LogoutTokenRefused"), "{reasons}");
        Ok(())
    })
    .await?;
    assert!(stage.receiver.take_tokens().is_empty(), "asked again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_leader_left_is_told_by_the_next_and_after_a_restart_of_everything()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let mut stage = Stage::set(&plane, 2, json!({})).await?;
    let parties = stage.scene.relying_parties().await?;
    let party = parties[0].clone();
    stage.receiver.answer(StatusCode::INTERNAL_SERVER_ERROR);
    let mut sids = BTreeSet::new();
    for _ in 0..3 {
        let browser = party.browser()?;
        let tokens = signed_in(&party, &browser, "openid").await?;
        let claims = claviger_testkit::relying_party::claims(text(&tokens, "id_token")?)?;
        sids.insert(claims["sid"].as_str().context("no sid")?.to_owned());
        sign_out(&party, &browser, &tokens).await?;
    }
    assert_eq!(stage.untold()?.len(), 3);
    eventually(LATE, async || {
        let tried = stage.receiver.take_tokens().len();
        ensure!(tried > 0, "nothing was tried");
        Ok(())
    })
    .await?;
    let leader = stage.scene.leader().await?;
    stage.scene.replica(leader).kill();
    stage.receiver.answer(StatusCode::OK);
    let told = stage.all_told(LATE).await?;
    let mut said = Vec::new();
    for token in &told {
        said.push(stage.read(&parties[1 - leader], token).await?);
    }
    let known = said.iter().filter_map(|c| c["sid"].as_str()).map(str::to_owned);
    assert_eq!(known.collect::<BTreeSet<_>>(), sids);
    assert_eq!(identifiers(&said).len(), 3, "the same end has the same jti");
    println!("after the leader was killed: {} tokens for 3 sign-outs", told.len());

    // And with nobody left at all.
    stage.scene.start_replica(leader).await?;
    let browser = party.browser()?;
    let tokens = signed_in(&party, &browser, "openid").await?;
    stage.receiver.answer(StatusCode::BAD_GATEWAY);
    sign_out(&party, &browser, &tokens).await?;
    for replica in [0, 1] {
        stage.scene.replica(replica).kill();
    }
    assert_eq!(stage.untold()?.len(), 1);
    stage.receiver.take_tokens();
    stage.receiver.answer(StatusCode::OK);
    for replica in [0, 1] {
        stage.scene.start_replica(replica).await?;
    }
    assert!(!stage.all_told(LATE).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_signs_a_browser_out_by_a_label_and_the_application_is_told() -> Result<()>
{
    let plane = ControlPlane::from_env()?;
    let stage = Stage::set(&plane, 1, json!({})).await?;
    let party = stage.scene.relying_party().await?;
    let browser = party.browser()?;
    let tokens = signed_in(&party, &browser, "openid").await?;
    let here = stage.scene.installation();
    let path = r#"jsonpath={.items[?(@.spec.type=="Browser")].metadata.name}"#;
    let name = here.kubectl(&["get", "sessions", "-o", path])?;
    here.kubectl(&["label", "session", &name, "claviger.dev/logout-pending=now"])?;
    let told = eventually(SOON, async || {
        let told = stage.all_told(SOON).await?;
        ensure!(!told.is_empty(), "not told yet");
        Ok(told)
    })
    .await?;
    stage.read(&party, &told[0]).await?;
    let access_token = text(&tokens, "access_token")?;
    assert_eq!(party.userinfo(access_token).await?.0, StatusCode::UNAUTHORIZED);
    let mut silent = party.attempt("openid")?.url;
    silent.query_pairs_mut().append_pair("prompt", "none");
    let Landing::Application(landed) = browser.open(&silent).await? else { bail!("asked") };
    assert_eq!(query_value(&landed, "error")?, "login_required");
    Ok(())
}

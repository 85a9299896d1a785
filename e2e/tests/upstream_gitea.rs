//! Users of a real Gitea sign in here by the example's connector: teams follow at each refresh, who is out there is out
//! here, and every request that costs is counted.

use std::borrow::Borrow;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::gitea::{Application, Gitea};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{Manifests, SCOPE};
use claviger_testkit::{Browser, ControlPlane, Directory, RelyingParty, Scene, eventually};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use crate::upstream_github::{assert_over, requests, text};

/// The quickstart, the example's connector for these organizations, and the Gitea behind it.
struct Corp<G> {
    scene: Scene,
    gitea: G,
    party: RelyingParty,
    application: Application,
}

impl<G: Borrow<Gitea>> Corp<G> {
    async fn start(plane: &ControlPlane, peer: G, organizations: Value) -> Result<Self> {
        let gitea: &Gitea = peer.borrow();
        let scene = Scene::start(plane, Directory::None).await?;
        let application = gitea.register(&scene.serving().url(), "gitea").await?;
        let here = scene.installation();
        let mut manifests = Manifests::of_example("gitea")?;
        let secret = manifests.find("Secret", "gitea")?;
        secret["stringData"]["clientSecret"] = application.client_secret.clone().into();
        let upstream = &mut manifests.find("Connector", "gitea")?["spec"]["upstream"]["gitea"];
        upstream["url"] = gitea.url().into();
        upstream["clientID"] = application.client_id.clone().into();
        upstream["organizations"] = organizations;
        upstream["tls"] = json!({"caBundle": gitea.authority().certificate_pem()});
        here.apply(&manifests.to_json())?;
        let patch =
            json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "gitea"}}]);
        here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
        here.wait_for("connector/gitea", "Ready").await?;
        here.wait_for("oidcissuer/main", "Ready").await?;
        let party = scene.relying_party().await?;
        Ok(Self { scene, gitea: peer, party, application })
    }

    /// The way of a browser: to us, to Gitea, back to us, back to the application.
    async fn sign_in(&self, there: &Browser, name: &str) -> Result<(Url, String)> {
        let browser = self.party.browser()?;
        let attempt = self.party.attempt(SCOPE)?;
        let mut url = attempt.url.clone();
        url.query_pairs_mut().append_pair("connector_id", "gitea");
        let Landing::Application(departing) = browser.open(&url).await? else {
            bail!("sent nowhere")
        };
        let back = self.gitea.borrow().sign_in(there, &departing, name).await?;
        let landing = match browser.open(&back).await? {
            Landing::Page(page) if page.html.contains("name=\"approval\"") => {
                browser.submit(&page, &[("approval", "approve")]).await?
            }
            landing => landing,
        };
        match landing {
            Landing::Application(url) => Ok((url, attempt.verifier)),
            Landing::Page(page) => bail!("{}: {}", page.status, page.html),
        }
    }

    async fn tokens(&self, there: &Browser, name: &str) -> Result<Value> {
        let (url, verifier) = self.sign_in(there, name).await?;
        self.party.redeem(&query_value(&url, "code")?, &verifier).await?.tokens()
    }

    async fn refresh(&self, tokens: &Value) -> Result<Value> {
        self.party.refresh(text(tokens, "refresh_token")?).await?.tokens()
    }

    /// That nobody knows now, and the session is kept.
    async fn assert_unknown(&self, tokens: &Value) -> Result<()> {
        let answer = self.party.refresh(text(tokens, "refresh_token")?).await?;
        let told = (answer.status, answer.error());
        assert_eq!(told, (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"));
        ensure!(answer.retry_after.is_some(), "nobody says when to come again");
        Ok(())
    }

    /// The state of every session.
    fn states(&self) -> Result<Vec<String>> {
        let listed = self.scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
        let listed: Value = serde_json::from_str(&listed)?;
        let states = listed["items"].as_array().into_iter().flatten().map(|session| {
            let state = session["spec"]["state"].as_str().context("a session has a state")?;
            Ok(state.to_owned())
        });
        states.collect()
    }
}

fn groups(tokens: &Value) -> Result<Vec<String>> {
    let claims = claims(text(tokens, "id_token")?)?;
    let groups = claims["groups"].as_array().context("groups")?.iter();
    let mut groups: Vec<_> = groups.filter_map(Value::as_str).map(str::to_owned).collect();
    groups.sort();
    Ok(groups)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_a_real_gitea_has_its_teams_and_is_out_without_one_that_is_wanted() -> Result<()>
{
    let plane = ControlPlane::from_env()?;
    let gitea = Gitea::shared().await?;
    gitea.add_organization("acme").await?;
    gitea.add_user("ada").await?;
    gitea.add_user("bob").await?;
    let platform = gitea.add_team("acme", "platform", &["ada"]).await?;
    let on_call = gitea.add_team("acme", "on-call", &[]).await?;
    gitea.add_team("acme", "chess", &["ada", "bob"]).await?;
    // Names are told by their letters, not by their case.
    let wanted = json!([{"name": "Acme", "teams": ["Platform", "on-call"]}]);
    let corp = Corp::start(&plane, gitea, wanted).await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = corp.tokens(&gitea.browser()?, "ada").await?;
    let counted = requests(&corp.scene, mark)?;
    println!("a sign-in from Gitea: {counted}");
    assert_eq!(counted, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["preferred_username"], "ada");
    assert_eq!(id_token["name"], "ada of Wonderland");
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(groups(&first)?, ["gitea:acme", "gitea:acme:platform"]);

    gitea.join(on_call, "ada").await?;
    let mark = audit.mark()?;
    let second = corp.refresh(&first).await?;
    let counted = requests(&corp.scene, mark)?;
    println!("a refresh with Gitea: {counted}");
    // One to read it, one to have it alone, and one to keep Gitea's next refresh token.
    assert_eq!(counted, "get sessions × 1, patch sessions × 2");
    let grown = ["gitea:acme", "gitea:acme:on-call", "gitea:acme:platform"];
    assert_eq!(groups(&second)?, grown);

    let (url, _) = corp.sign_in(&gitea.browser()?, "bob").await?;
    assert_eq!(query_value(&url, "error")?, "access_denied", "in the wrong team");

    gitea.leave(platform, "ada").await?;
    let third = corp.refresh(&second).await?;
    assert_eq!(groups(&third)?, ["gitea:acme", "gitea:acme:on-call"]);
    gitea.leave(on_call, "ada").await?;
    assert_over(&corp.party, &third).await?;
    assert_eq!(corp.states()?, ["Revoked"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verdict_of_gitea_ends_the_session_and_a_secret_it_does_not_know_does_not()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let gitea = Gitea::shared().await?;
    gitea.add_organization("looking-glass").await?;
    gitea.add_user("carol").await?;
    gitea.add_team("looking-glass", "chess", &["carol"]).await?;
    let corp = Corp::start(&plane, gitea, json!([{"name": "looking-glass"}])).await?;

    for (what, out) in [("prohibit_login", true), ("active", false), ("must_change_password", true)]
    {
        let tokens = corp.tokens(&gitea.browser()?, "carol").await?;
        gitea.switch("carol", what, out).await?;
        assert_over(&corp.party, &tokens).await.with_context(|| format!("{what}: {out}"))?;
        gitea.switch("carol", what, !out).await?;
    }

    // Somebody renews the secret there: said at once, no verdict about anybody, and mended by the Secret alone.
    let tokens = corp.tokens(&gitea.browser()?, "carol").await?;
    let url = corp.scene.serving().url();
    let renewed = gitea.renew_secret(corp.application.id, &url, "gitea").await?;
    corp.assert_unknown(&tokens).await?;
    let here = corp.scene.installation();
    let said = eventually(Duration::from_secs(90), async || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")]}"#;
        let said: Value =
            serde_json::from_str(&here.kubectl(&["get", "connector/gitea", "-o", path])?)?;
        ensure!(said["status"] == "False", "{said}");
        Ok(said)
    })
    .await?;
    assert_eq!(said["reason"], "UpstreamRefusedCredentials", "{said}");
    let secret = json!({"stringData": {"clientSecret": renewed.client_secret}}).to_string();
    here.kubectl(&["patch", "secret/gitea", "--type=merge", "-p", &secret])?;
    here.wait_for("connector/gitea", "Ready").await?;
    let tokens = corp.refresh(&tokens).await?;
    gitea.delete_user("carol").await?;
    assert_over(&corp.party, &tokens).await?;
    assert_eq!(corp.states()?, ["Revoked"; 4]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gitea_that_is_stopped_costs_nobody_their_session() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let gitea = Gitea::apart().await?;
    gitea.add_user("dinah").await?;
    let mut corp = Corp::start(&plane, gitea, json!([])).await?;
    let tokens = corp.tokens(&corp.gitea.browser()?, "dinah").await?;

    corp.gitea.stop();
    corp.assert_unknown(&tokens).await?;
    assert_eq!(corp.states()?, ["Active"]);

    corp.gitea.start_again().await?;
    let tokens = eventually(Duration::from_mins(1), async || corp.refresh(&tokens).await).await?;
    assert_eq!(claims(text(&tokens, "id_token")?)?["preferred_username"], "dinah");
    Ok(())
}

/// Gitea keeps what a user agreed to first, whatever is asked for later.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_is_wanted_later_needs_no_new_agreement_at_gitea() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let gitea = Gitea::shared().await?;
    gitea.add_organization("tea-party").await?;
    gitea.add_user("alice").await?;
    gitea.add_team("tea-party", "guests", &["alice"]).await?;
    let corp = Corp::start(&plane, gitea, json!([])).await?;
    let first = corp.tokens(&gitea.browser()?, "alice").await?;
    assert_eq!(claims(text(&first, "id_token")?)?.get("groups"), None);

    let wanted =
        json!({"spec": {"upstream": {"gitea": {"organizations": [{"name": "tea-party"}]}}}});
    let here = corp.scene.installation();
    here.kubectl(&["patch", "connector/gitea", "--type=merge", "-p", &wanted.to_string()])?;
    eventually(Duration::from_secs(20), async || {
        let tokens = corp.tokens(&gitea.browser()?, "alice").await?;
        ensure!(groups(&tokens)? == ["gitea:tea-party", "gitea:tea-party:guests"], "{tokens}");
        Ok(())
    })
    .await?;
    let second = corp.refresh(&first).await?;
    assert_eq!(groups(&second)?, ["gitea:tea-party", "gitea:tea-party:guests"]);
    Ok(())
}

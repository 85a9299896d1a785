//! Users of Google, Microsoft and LinkedIn (played at the addresses they document, behind an HTTP proxy) sign in here: who
//! is out there is out here, and every request that costs is counted.

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::openid_provider::{CLIENT_ID, CLIENT_SECRET, OpenidProvider, Places};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::SCOPE;
use claviger_testkit::tunnel::Tunnel;
use claviger_testkit::{ControlPlane, Directory, RelyingParty, Scene};
use reqwest::Url;
use serde_json::{Value, json};

use crate::upstream_github::{assert_over, requests, text};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const OID: &str = "aaaaaaaa-0000-0000-0000-000000000001";

/// The quickstart with a second connector `corp`, and the vendor behind it.
struct Stage {
    scene: Scene,
    vendor: OpenidProvider,
    tunnel: Tunnel,
}

impl Stage {
    async fn set(
        plane: &ControlPlane,
        (kind, places): (&str, Places),
        (upstream, spec): (Value, Value),
    ) -> Result<Self> {
        let scene = Scene::start(plane, Directory::None).await?;
        let here = scene.installation();
        let vendor = OpenidProvider::start_as(here.authority(), places).await?;
        vendor.conduct().rotates = false;
        let tunnel = Tunnel::to(vendor.address()).await?;
        let mut said = json!({
            "clientID": CLIENT_ID, "clientSecretRef": {"name": "upstream", "key": "clientSecret"},
            "tls": {"caBundle": here.authority().certificate_pem()},
        });
        extend(&mut said, &upstream)?;
        let mut connector = json!({
            "displayName": "Corp", "groupPrefix": "corp:", "proxyURL": tunnel.url(), "upstream": {kind: said},
        });
        extend(&mut connector, &spec)?;
        let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret",
             "metadata": {"name": "upstream", "labels": {"claviger.dev/secret": "connector"}},
             "stringData": {"clientSecret": CLIENT_SECRET}},
            {"apiVersion": "claviger.dev/v1alpha1", "kind": "Connector", "metadata": {"name": "corp"}, "spec": connector},
        ]});
        here.apply(&manifests.to_string())?;
        let patch = json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "corp"}}]);
        here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
        here.wait_for("connector/corp", "Ready").await?;
        here.wait_for("oidcissuer/main", "Ready").await?;
        Ok(Self { scene, vendor, tunnel })
    }

    /// The way of a browser: to us, to the vendor, back to us, back to the application.
    async fn sign_in(&self, party: &RelyingParty) -> Result<(Url, String)> {
        let attempt = party.attempt(SCOPE)?;
        let mut url = attempt.url.clone();
        url.query_pairs_mut().append_pair("connector_id", "corp");
        let browser = party.browser()?;
        let landing = match browser.open(&url).await? {
            Landing::Application(to_vendor) => {
                let mut answer = self.vendor.agree(to_vendor.as_str())?;
                answer.remove("iss"); // none of them says it
                let mut back = Url::parse(&query_value(&to_vendor, "redirect_uri")?)?;
                back.query_pairs_mut().extend_pairs(answer);
                browser.open(&back).await?
            }
            landing @ Landing::Page(_) => landing,
        };
        let landing = match landing {
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

    async fn tokens(&self, party: &RelyingParty) -> Result<Value> {
        let (url, verifier) = self.sign_in(party).await?;
        party.redeem(&query_value(&url, "code")?, &verifier).await?.tokens()
    }
}

fn extend(value: &mut Value, change: &Value) -> Result<()> {
    let members = value.as_object_mut().context("an object")?;
    members.extend(change.as_object().cloned().unwrap_or_default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_google_is_of_the_workspace_that_google_says_at_each_refresh() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let upstream = json!({"hostedDomains": ["example.com"]});
    let stage = Stage::set(&plane, ("google", Places::google()), (upstream, json!({}))).await?;
    let party = stage.scene.relying_party().await?;
    let audit = plane.audit_log();
    let (refused, _) = stage.sign_in(&party).await?;
    assert_eq!(query_value(&refused, "error")?, "access_denied", "an account of no Workspace");

    stage.vendor.conduct().claims = json!({"hd": "example.com"});
    let mark = audit.mark()?;
    let first = stage.tokens(&party).await?;
    assert_eq!(requests(&stage.scene, mark)?, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], true);

    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    // Google's refresh token stays the same, so nobody need have it alone.
    assert_eq!(requests(&stage.scene, mark)?, "get sessions × 1, patch sessions × 1");
    stage.vendor.conduct().claims = json!({"hd": "elsewhere.example"});
    assert_over(&party, &second).await?;
    let asked = stage.tunnel.asked();
    ensure!(asked.contains(&"oauth2.googleapis.com:443".to_owned()), "{asked:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_microsoft_has_the_groups_of_graph_and_is_out_without_the_one_that_is_wanted()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let upstream = json!({"tenant": TENANT, "groups": {}, "email": "UserPrincipalName"});
    let spec = json!({"allowedGroups": ["staff"]});
    let places = Places::microsoft(TENANT, TENANT);
    let stage = Stage::set(&plane, ("microsoft", places), (upstream, spec)).await?;
    let party = stage.scene.relying_party().await?;
    let audit = plane.audit_log();
    let groups = |ids: &[&str]| {
        let groups: Vec<_> = ids
            .iter()
            .map(|id| json!({"@odata.type": "#microsoft.graph.group", "id": id, "securityEnabled": true}))
            .collect();
        let said = json!({ "value": groups }).to_string();
        let path = "/v1.0/me/transitiveMemberOf".to_owned();
        stage.vendor.conduct().answers.insert(path, (200, said));
    };
    let me = json!({"id": OID, "userPrincipalName": "ada@corp.example", "accountEnabled": true});
    stage.vendor.conduct().answers.insert("/v1.0/me".into(), (200, me.to_string()));
    stage.vendor.conduct().claims = json!({"tid": TENANT, "oid": OID, "groups": ["staff"]});
    groups(&["on-call"]);
    let (refused, _) = stage.sign_in(&party).await?;
    assert_eq!(query_value(&refused, "error")?, "access_denied", "whatever the token says");

    groups(&["on-call", "staff"]);
    let mark = audit.mark()?;
    let first = stage.tokens(&party).await?;
    assert_eq!(requests(&stage.scene, mark)?, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@corp.example");
    assert_eq!(id_token["groups"], json!(["corp:on-call", "corp:staff"]));
    groups(&["staff"]);
    let mark = audit.mark()?;
    let second = party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    assert_eq!(requests(&stage.scene, mark)?, "get sessions × 1, patch sessions × 1");
    assert_eq!(claims(text(&second, "id_token")?)?["groups"], json!(["corp:staff"]));
    groups(&["on-call"]);
    assert_over(&party, &second).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_linkedin_signs_in_and_has_no_refresh_token() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let linkedin = ("linkedin", Places::linkedin());
    let stage = Stage::set(&plane, linkedin, (json!({}), json!({}))).await?;
    stage.vendor.conduct().refuses_pkce = true;
    stage.vendor.conduct().gives_refresh_tokens = false;
    let party = stage.scene.relying_party().await?;
    let mark = plane.audit_log().mark()?;
    let tokens = stage.tokens(&party).await?;
    assert_eq!(requests(&stage.scene, mark)?, "create sessions × 1");
    assert!(tokens.get("refresh_token").is_none(), "{tokens}");
    assert_eq!(claims(text(&tokens, "id_token")?)?["email"], "ada@example.com");
    Ok(())
}

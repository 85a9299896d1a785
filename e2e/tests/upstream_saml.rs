//! Users of a SAML identity provider (Keycloak) sign in here, by one create, and an answer is good once; who signs out at one
//! of the two has signed out at the other.

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Landing, Page, query_value};
use claviger_testkit::keycloak::{Keycloak, Registration};
use claviger_testkit::pysaml2::Pysaml2;
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{REDIRECT_URI, SCOPE};
use claviger_testkit::{
    AuditMark, Browser, ControlPlane, Directory, Installation, RelyingParty, Scene,
};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

/// The quickstart, with a second connector `corp`, and Keycloak behind it.
struct Corp {
    scene: Scene,
    keycloak: &'static Keycloak,
    party: RelyingParty,
}

/// A sign-in that has come to the identity provider and back, but for its answer.
struct Returning {
    browser: Browser,
    /// The provider's page that makes the browser post the answer.
    answer: Page,
    verifier: String,
}

impl Corp {
    async fn start(
        plane: &ControlPlane,
        change: Value,
        registration: Registration<'_>,
        secret: Value,
    ) -> Result<Self> {
        let keycloak = Keycloak::shared().await?;
        let here = Installation::create(plane).await?;
        let scene = Scene::start_in(here, Directory::None, |manifests| {
            if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
                client["spec"]["postLogoutRedirectURIs"] = json!([REDIRECT_URI]);
            }
        })
        .await?;
        let here = scene.installation();
        let callback = callback(&scene);
        keycloak.register(Registration { callback: &callback, ..registration }).await?;
        let mut upstream = keycloak.upstream();
        let mut spec = json!({"displayName": "Corp", "groupPrefix": "corp:"});
        let (saml, whole): (Vec<_>, Vec<_>) =
            change.as_object().into_iter().flatten().partition(|(name, _)| {
                ["signing", "requestBinding", "signatures"].contains(&name.as_str())
            });
        let both = [(&mut upstream["saml"], saml), (&mut spec, whole)];
        for (object, members) in both {
            let members = members.into_iter().map(|(name, value)| (name.clone(), value.clone()));
            object.as_object_mut().context("an object")?.extend(members);
        }
        spec["upstream"] = upstream;
        let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret",
             "metadata": {"name": "upstream", "labels": {"claviger.dev/secret": "connector"}},
             "stringData": secret},
            {"apiVersion": "claviger.dev/v1alpha1", "kind": "Connector", "metadata": {"name": "corp"}, "spec": spec},
        ]});
        here.apply(&manifests.to_string())?;
        let patch = json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "corp"}}]);
        here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
        here.wait_for("connector/corp", "Ready").await?;
        here.wait_for("oidcissuer/main", "Ready").await?;
        let party = scene.relying_party().await?;
        Ok(Self { scene, keycloak, party })
    }

    /// The way of a browser: to us, to the provider, and back to where it is about to post the answer.
    async fn returning(&self, name: &str) -> Result<Returning> {
        let attempt = self.party.attempt(SCOPE)?;
        let mut url = attempt.url.clone();
        url.query_pairs_mut().append_pair("connector_id", "corp");
        let browser = self.party.browser()?;
        let answer = match browser.open(&url).await? {
            Landing::Application(there) => {
                ensure!(there.as_str().starts_with(&self.keycloak.entity_id()), "{there}");
                self.keycloak.sign_in(&there, name).await?
            }
            Landing::Page(form) => self.keycloak.sign_in_by_form(&form, name).await?,
        };
        Ok(Returning { browser, answer, verifier: attempt.verifier })
    }

    /// The same in browsers that stay: one here, one at the provider.
    async fn tokens_in(
        &self,
        (browser, there): (&Browser, &Browser),
        name: &str,
        scope: &str,
    ) -> Result<Value> {
        let attempt = self.party.attempt(scope)?;
        let departing = departing(browser, &attempt.url).await?;
        let answer = self.keycloak.sign_in_with(there, &departing, name).await?;
        let returning = Returning { browser: browser.clone(), answer, verifier: attempt.verifier };
        let url = returning.post().await?;
        self.party.redeem(&query_value(&url, "code")?, &returning.verifier).await?.tokens()
    }

    async fn tokens(&self, name: &str) -> Result<Value> {
        let returning = self.returning(name).await?;
        let url = returning.post().await?;
        self.party.redeem(&query_value(&url, "code")?, &returning.verifier).await?.tokens()
    }

    fn requests(&self, mark: AuditMark) -> Result<String> {
        let counts = self.scene.installation().requests_since(mark)?;
        let lines: Vec<_> =
            counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
        Ok(lines.join(", "))
    }
}

impl Returning {
    /// Posts the answer, agrees if asked, and ends at the application.
    async fn post(&self) -> Result<Url> {
        let landing = match self.browser.submit(&self.answer, &[]).await? {
            Landing::Page(page) if page.html.contains("name=\"approval\"") => {
                self.browser.submit(&page, &[("approval", "approve")]).await?
            }
            landing => landing,
        };
        match landing {
            Landing::Application(url) => Ok(url),
            Landing::Page(page) => bail!("{}: {}", page.status, page.html),
        }
    }
}

/// Where a sign-in sends the browser.
async fn departing(browser: &Browser, authorize: &Url) -> Result<Url> {
    let mut url = authorize.clone();
    url.query_pairs_mut().append_pair("connector_id", "corp");
    match browser.open(&url).await? {
        Landing::Application(there) => Ok(there),
        Landing::Page(page) => bail!("{}: {}", page.status, page.html),
    }
}

/// A key of ours: the Secret, and how the Connector names it.
fn signing() -> Result<(String, Value, Value)> {
    let key = claviger_testkit::pki::rsa("claviger")?;
    let secret = json!({"tls.key": key.key_pem, "tls.crt": key.certificate_pem});
    let at = |key: &str| json!({"name": "upstream", "key": key});
    let signing = json!({"keySecretRef": at("tls.key"), "certificateSecretRef": at("tls.crt")});
    Ok((key.certificate_pem, secret, signing))
}

fn callback(scene: &Scene) -> String {
    format!("{}/callback/corp", scene.serving().url())
}

fn registration() -> Registration<'static> {
    Registration {
        callback: "",
        signs_responses: false,
        requests_signed_by: None,
        signs_out: false,
    }
}

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_keycloak_costs_one_create_and_policy_holds_whatever_is_asked() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let change = json!({"allowedGroups": ["developers"], "emailDomains": ["example.com"]});
    let corp = Corp::start(&plane, change, registration(), json!({"none": "none"})).await?;
    let mark = plane.audit_log().mark()?;
    let tokens = corp.tokens("ada").await?;
    assert_eq!(corp.requests(mark)?, "create sessions × 1");
    assert_eq!(tokens["refresh_token"], Value::Null, "nobody could be asked later");
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["preferred_username"], "ada");
    assert_eq!(id_token["groups"], json!(["corp:developers"]));
    ensure!(id_token["auth_time"].as_i64() > Some(0), "{id_token}");

    let mark = plane.audit_log().mark()?;
    let refused = corp.returning("bob").await?.post().await?;
    assert_eq!(query_value(&refused, "error")?, "access_denied", "he is in no group");
    assert_eq!(corp.requests(mark)?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_good_once_and_in_the_browser_that_asked() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let corp = Corp::start(&plane, json!({}), registration(), json!({"none": "none"})).await?;
    let returning = corp.returning("ada").await?;
    let stranger = Browser::new(corp.scene.installation().authority().certificate_pem())?;
    let Landing::Page(refused) = stranger.submit(&returning.answer, &[]).await? else {
        bail!("a stranger was let in")
    };
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    ensure!(refused.html.contains("was not started here"), "{}", refused.html);

    let first = query_value(&returning.post().await?, "code")?;
    let second = query_value(&returning.post().await?, "code")?;
    let mark = plane.audit_log().mark()?;
    let tokens = corp.party.redeem(&first, &returning.verifier).await?.tokens()?;
    let replayed = corp.party.redeem(&second, &returning.verifier).await?;
    assert_eq!((replayed.status, replayed.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    assert_eq!(corp.requests(mark)?, "create sessions × 2, get sessions × 1");
    let listed = corp.scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let states: Vec<_> =
        listed["items"].as_array().into_iter().flatten().map(|s| &s["spec"]["state"]).collect();
    assert_eq!(states, ["Active"], "who was first is not harmed");
    text(&tokens, "access_token")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_requests_are_taken_by_redirect_and_by_form() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (certificate, secret, signing) = signing()?;
    let registration = Registration {
        signs_responses: true,
        requests_signed_by: Some(&certificate),
        ..registration()
    };
    let change = json!({"signing": signing, "signatures": "Both", "offlineSessionSeconds": 3600});
    let corp = Corp::start(&plane, change, registration, secret).await?;
    let tokens = corp.tokens("ada").await?;
    let mark = plane.audit_log().mark()?;
    corp.party.refresh(text(&tokens, "refresh_token")?).await?.tokens()?;
    assert_eq!(corp.requests(mark)?, "patch sessions × 1", "for an hour, nobody is asked");

    let here = corp.scene.installation();
    let patch = json!({"spec": {"upstream": {"saml": {"requestBinding": "Post"}}}}).to_string();
    here.kubectl(&["patch", "connector/corp", "--type=merge", "-p", &patch])?;
    let generation = |object: &Value| object["metadata"]["generation"].clone();
    claviger_testkit::eventually(std::time::Duration::from_secs(30), async || {
        let said: Value =
            serde_json::from_str(&here.kubectl(&["get", "connector/corp", "-o", "json"])?)?;
        ensure!(said["status"]["observedGeneration"] == generation(&said), "{said}");
        Ok(())
    })
    .await?;
    let tokens = corp.tokens("ada").await?;
    assert_eq!(claims(text(&tokens, "id_token")?)?["preferred_username"], "ada");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_here_has_signed_out_at_keycloak_and_comes_back_to_the_application()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (certificate, secret, signing) = signing()?;
    let registration = Registration {
        signs_responses: true,
        requests_signed_by: Some(&certificate),
        signs_out: true,
        ..registration()
    };
    let corp = Corp::start(&plane, json!({"signing": signing}), registration, secret).await?;
    corp.keycloak.add_person("nora", &["developers"]).await?;
    let (browser, there) = (corp.party.browser()?, corp.keycloak.browser()?);
    let tokens = corp.tokens_in((&browser, &there), "nora", "openid email").await?;
    let silent = corp.tokens_in((&browser, &there), "nobody", "openid email").await?;
    text(&silent, "id_token").context("she is signed in there")?;

    let mut logout = corp.party.endpoint("end_session_endpoint")?;
    let asked = [
        ("id_token_hint", text(&tokens, "id_token")?),
        ("post_logout_redirect_uri", REDIRECT_URI),
        ("state", "as it was"),
    ];
    logout.query_pairs_mut().extend_pairs(asked);
    let mark = plane.audit_log().mark()?;
    let Landing::Application(leaving) = browser.open(&logout).await? else { bail!("asked") };
    ensure!(leaving.as_str().starts_with(&corp.keycloak.entity_id()), "{leaving}");
    let Landing::Application(back) = there.open(&leaving).await? else { bail!("kept there") };
    ensure!(back.as_str().starts_with(&callback(&corp.scene)), "{back}");
    let Landing::Application(home) = browser.open(&back).await? else { bail!("{back}") };
    ensure!(home.as_str().starts_with(REDIRECT_URI), "{home}");
    assert_eq!(query_value(&home, "state")?, "as it was");
    assert_eq!(corp.requests(mark)?, "", "nothing of it is stored");

    let anew = departing(&browser, &corp.party.attempt("openid email")?.url).await?;
    let Landing::Page(form) = there.open(&anew).await? else { bail!("sent away") };
    ensure!(form.form_field("password").is_some(), "still signed in there: {}", form.html);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_at_keycloak_is_signed_out_here_and_keycloak_is_told_so() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (certificate, secret, signing) = signing()?;
    let registration = Registration {
        signs_responses: true,
        requests_signed_by: Some(&certificate),
        signs_out: true,
        ..registration()
    };
    let change = json!({"signing": signing, "offlineSessionSeconds": 3600});
    let corp = Corp::start(&plane, change, registration, secret).await?;
    corp.keycloak.add_person("olga", &["developers"]).await?;
    corp.keycloak.add_person("pia", &["developers"]).await?;
    let (browser, there) = (corp.party.browser()?, corp.keycloak.browser()?);
    corp.tokens_in((&browser, &there), "olga", "openid email").await?;
    let hers = corp.tokens_in((&browser, &there), "olga", SCOPE).await?;
    let others = (&corp.party.browser()?, &corp.keycloak.browser()?);
    let others = corp.tokens_in(others, "pia", SCOPE).await?;

    let mark = plane.audit_log().mark()?;
    let told = corp.keycloak.sign_out_with(&there).await?;
    ensure!(told.as_str().starts_with(&callback(&corp.scene)), "{told}");
    let Landing::Application(answer) = browser.open(&told).await? else { bail!("{told}") };
    assert_eq!(corp.requests(mark)?, "list sessions × 1, patch sessions × 2");
    ensure!(answer.as_str().starts_with(&corp.keycloak.entity_id()), "{answer}");
    query_value(&answer, "SAMLResponse")?;
    let Landing::Page(over) = there.open(&answer).await? else { bail!("sent away: {answer}") };
    ensure!(over.html.contains("You are logged out"), "{}: {}", over.status, over.html);

    let refused = corp.party.refresh(text(&hers, "refresh_token")?).await?;
    assert_eq!((refused.status, refused.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    corp.party.refresh(text(&others, "refresh_token")?).await?.tokens()?;

    // What was not signed for us costs nothing.
    let mark = plane.audit_log().mark()?;
    let forged = told.as_str().replace("Signature=", "Signature=AAAA");
    let Landing::Page(refused) = browser.open(&forged.parse()?).await? else { bail!("believed") };
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(corp.requests(mark)?, "");
    Ok(())
}

/// A provider that signs otherwise, and knows us by our own metadata.
#[tokio::test(flavor = "multi_thread")]
async fn another_provider_knows_us_by_our_metadata_and_signs_the_response_alone() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let here = scene.installation();
    let provider = Pysaml2::start(here.authority()).await?;
    let connector = json!({
        "apiVersion": "claviger.dev/v1alpha1", "kind": "Connector", "metadata": {"name": "corp"},
        "spec": {"displayName": "Corp", "allowedGroups": ["staff"], "upstream": provider.upstream(here.authority())},
    });
    here.apply(&connector.to_string())?;
    let patch = json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "corp"}}]);
    here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
    here.wait_for("connector/corp", "Ready").await?;
    here.wait_for("oidcissuer/main", "Ready").await?;
    let party = scene.relying_party().await?;
    let browser = party.browser()?;
    let metadata: Url = format!("{}/metadata", callback(&scene)).parse()?;
    let Landing::Page(metadata) = browser.open(&metadata).await? else { bail!("no metadata") };
    provider.register(&metadata.html).await?;

    let attempt = party.attempt(SCOPE)?;
    let mut url = attempt.url.clone();
    url.query_pairs_mut().append_pair("connector_id", "corp");
    let Landing::Application(there) = browser.open(&url).await? else { bail!("sent nowhere") };
    let answer = provider.sign_in(&browser, &there, "ada").await?;
    let returning = Returning { browser, answer, verifier: attempt.verifier };
    let code = query_value(&returning.post().await?, "code")?;
    let tokens = party.redeem(&code, &returning.verifier).await?.tokens()?;
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["email"], "ada@example.com", "found by its name for people");
    assert_eq!(id_token["groups"], json!(["staff", "engineers"]));
    Ok(())
}

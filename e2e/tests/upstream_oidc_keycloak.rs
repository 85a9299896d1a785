//! Users of Keycloak's OpenID provider sign in here, change groups, are disabled; and one outage of it costs nobody
//! their session.

use std::borrow::Borrow;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::keycloak::Keycloak;
use claviger_testkit::keycloak_openid::CLIENT_SECRET;
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{REDIRECT_URI, SCOPE};
use claviger_testkit::{
    AuditMark, Browser, ControlPlane, Directory, Installation, RelyingParty, Scene, eventually,
};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The quickstart, with a second connector `corp`, and Keycloak behind it.
struct Corp<K> {
    scene: Scene,
    keycloak: K,
    party: RelyingParty,
}

impl<K: Borrow<Keycloak>> Corp<K> {
    async fn start(scene: Scene, keycloak: K, spec: Value) -> Result<Self> {
        let here = scene.installation();
        let client_id = here.namespace(); // unlike the issuer's port, nobody else has it later
        let peer: &Keycloak = keycloak.borrow();
        peer.register_openid(client_id, &scene.serving().url()).await?;
        let mut connector = json!({
            "displayName": "Corp", "groupPrefix": "corp:", "emailDomains": ["example.com"],
            "upstream": peer.openid_upstream(client_id),
        });
        let mut members = spec.as_object().cloned().unwrap_or_default();
        let oidc = members.remove("oidc");
        let oidc = oidc.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        connector["upstream"]["oidc"].as_object_mut().context("an object")?.extend(oidc);
        connector.as_object_mut().context("an object")?.extend(members);
        let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret",
             "metadata": {"name": "upstream", "labels": {"claviger.dev/secret": "connector"}},
             "stringData": {"clientSecret": CLIENT_SECRET}},
            {"apiVersion": "claviger.dev/v1alpha1", "kind": "Connector",
             "metadata": {"name": "corp"}, "spec": connector},
        ]});
        here.apply(&manifests.to_string())?;
        let patch = json!([{"op": "add", "path": "/spec/connectors/-", "value": {"name": "corp"}}]);
        here.kubectl(&["patch", "oidcissuer/main", "--type=json", "-p", &patch.to_string()])?;
        here.wait_for("connector/corp", "Ready").await?;
        here.wait_for("oidcissuer/main", "Ready").await?;
        let party = scene.relying_party().await?;
        Ok(Self { scene, keycloak, party })
    }

    /// The way of a browser: to us, to Keycloak, where `there` may have signed in before, back to us, back to the
    /// application.
    async fn tokens(&self, there: &Browser, name: &str) -> Result<Value> {
        self.tokens_in((&self.party.browser()?, there), name, SCOPE).await
    }

    /// The same in this browser of ours.
    async fn tokens_in(
        &self,
        (browser, there): (&Browser, &Browser),
        name: &str,
        scope: &str,
    ) -> Result<Value> {
        let attempt = self.party.attempt(scope)?;
        let mut url = attempt.url.clone();
        url.query_pairs_mut().append_pair("connector_id", "corp");
        let Landing::Application(departing) = browser.open(&url).await? else {
            bail!("sent nowhere")
        };
        let keycloak: &Keycloak = self.keycloak.borrow();
        let back = keycloak.sign_in_openid(there, &departing, name).await?;
        let landing = match browser.open(&back).await? {
            Landing::Page(page) if page.html.contains("name=\"approval\"") => {
                browser.submit(&page, &[("approval", "approve")]).await?
            }
            landing => landing,
        };
        match landing {
            Landing::Application(url) => {
                self.party.redeem(&query_value(&url, "code")?, &attempt.verifier).await?.tokens()
            }
            Landing::Page(page) => bail!("{}: {}", page.status, page.html),
        }
    }

    fn requests(&self, mark: AuditMark) -> Result<String> {
        let counts = self.scene.installation().requests_since(mark)?;
        let lines: Vec<_> =
            counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
        Ok(lines.join(", "))
    }

    /// State and generation of every session.
    fn standing(&self) -> Result<Vec<(String, i64)>> {
        let listed = self.scene.installation().kubectl(&["get", "sessions", "-o", "json"])?;
        let listed: Value = serde_json::from_str(&listed)?;
        let specs = listed["items"].as_array().into_iter().flatten().map(|one| &one["spec"]);
        let standing = specs.map(|spec| {
            let state = spec["state"].as_str().context("a state")?;
            Ok((state.to_owned(), spec["generation"].as_i64().context("a generation")?))
        });
        standing.collect()
    }
}

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_keycloak_is_seen_at_the_next_refresh_and_who_is_disabled_there_is_out_here()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let keycloak = Keycloak::shared().await?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let spec = json!({"allowedGroups": ["developers"], "recheckIntervalSeconds": 0});
    let corp = Corp::start(scene, keycloak, spec).await?;
    let person = keycloak.add_person("grace", &["developers"]).await?;
    let audit = plane.audit_log();

    let mark = audit.mark()?;
    let first = corp.tokens(&keycloak.browser()?, "grace").await?;
    assert_eq!(corp.requests(mark)?, "create sessions × 1");
    let id_token = claims(text(&first, "id_token")?)?;
    assert_eq!(id_token["email"], "grace@example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["preferred_username"], "grace");
    assert_eq!(id_token["groups"], json!(["corp:developers"]));
    ensure!(id_token["auth_time"].as_i64() > Some(0), "{id_token}");

    keycloak.join(&person, "operators").await?;
    let mark = audit.mark()?;
    let second = corp.party.refresh(text(&first, "refresh_token")?).await?.tokens()?;
    assert_eq!(corp.requests(mark)?, "get sessions × 1, patch sessions × 2");
    let mut groups = claims(text(&second, "id_token")?)?["groups"].clone();
    groups.as_array_mut().context("groups")?.sort_by_key(ToString::to_string);
    assert_eq!(groups, json!(["corp:developers", "corp:operators"]));

    keycloak.add_person("hedy", &["operators"]).await?;
    let refused = corp.tokens(&keycloak.browser()?, "hedy").await.unwrap_err().to_string();
    ensure!(refused.contains("error=access_denied"), "{refused}");

    keycloak.disable(&person).await?;
    let answer = corp.party.refresh(text(&second, "refresh_token")?).await?;
    assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_grant"));
    assert_eq!(corp.standing()?, [("Revoked".to_owned(), 1)]);
    Ok(())
}

/// Where an address of the application's leads, asking nobody.
async fn silently<K: Borrow<Keycloak>>(corp: &Corp<K>, browser: &Browser) -> Result<Url> {
    let attempt = corp.party.attempt("openid email")?;
    let mut url = attempt.url.clone();
    url.query_pairs_mut().append_pair("prompt", "none");
    match browser.open(&url).await? {
        Landing::Application(url) => Ok(url),
        Landing::Page(page) => bail!("asked: {}", page.html),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_refresh_tokens_bring_single_sign_on_here_and_who_signs_out_here_has_signed_out_there()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let keycloak = Keycloak::shared().await?;
    let here = Installation::create(&plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["browserSessions"] = json!({});
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["postLogoutRedirectURIs"] = json!([REDIRECT_URI]);
        }
    })
    .await?;
    let oidc = json!({"refreshTokens": "Lasting", "signOut": "Provider"});
    let spec = json!({"recheckIntervalSeconds": 0, "oidc": oidc});
    let corp = Corp::start(scene, keycloak, spec).await?;
    keycloak.add_person("joan", &["developers"]).await?;
    let (browser, there) = (corp.party.browser()?, keycloak.browser()?);

    let mark = plane.audit_log().mark()?;
    let tokens = corp.tokens_in((&browser, &there), "joan", "openid email").await?;
    assert_eq!(corp.requests(mark)?, "create sessions × 2");
    let mark = plane.audit_log().mark()?;
    query_value(&silently(&corp, &browser).await?, "code")?;
    // What Keycloak gave to ask with next is kept, though what it gave before would do.
    assert_eq!(corp.requests(mark)?, "get sessions × 1, patch sessions × 1");

    let mut logout = corp.party.endpoint("end_session_endpoint")?;
    let asked = [
        ("id_token_hint", text(&tokens, "id_token")?),
        ("post_logout_redirect_uri", REDIRECT_URI),
        ("state", "as it was"),
    ];
    logout.query_pairs_mut().extend_pairs(asked);
    let Landing::Application(leaving) = browser.open(&logout).await? else { bail!("asked") };
    ensure!(leaving.as_str().starts_with(&keycloak.entity_id()), "{leaving}");
    let Landing::Application(back) = there.open(&leaving).await? else { bail!("asked there") };
    let Landing::Application(home) = browser.open(&back).await? else { bail!("{back}") };
    ensure!(home.as_str().starts_with(REDIRECT_URI), "{home}");
    assert_eq!(query_value(&home, "state")?, "as it was");

    let stranger = silently(&corp, &browser).await?;
    assert_eq!(query_value(&stranger, "error")?, "login_required");
    let mut anew = corp.party.attempt("openid email")?.url;
    anew.query_pairs_mut().append_pair("connector_id", "corp");
    let Landing::Application(departing) = browser.open(&anew).await? else { bail!("nowhere") };
    let Landing::Page(form) = there.open(&departing).await? else { bail!("still signed in there") };
    ensure!(form.form_field("password").is_some(), "{}", form.html);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_signed_out_there_is_told_of_and_signed_out_here_but_for_offline_access()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = Scene::start(&plane, Directory::None).await?;
    let keycloak = Keycloak::trusting(scene.installation().authority()).await?;
    let corp = Corp::start(scene, keycloak, json!({})).await?;
    let (person, other) = (
        corp.keycloak.add_person("kate", &["developers"]).await?,
        corp.keycloak.add_person("lisa", &["developers"]).await?,
    );
    let there = corp.keycloak.browser()?;
    for scope in ["openid email", SCOPE] {
        corp.tokens_in((&corp.party.browser()?, &there), &person.name, scope).await?;
    }
    let browsers = (&corp.party.browser()?, &corp.keycloak.browser()?);
    corp.tokens_in(browsers, &other.name, "openid email").await?;

    let mark = plane.audit_log().mark()?;
    corp.keycloak.sign_out(&person).await?;
    let mut standing = eventually(Duration::from_secs(30), async || {
        let standing = corp.standing()?;
        ensure!(standing.iter().any(|(state, _)| state == "Revoked"), "{standing:?}");
        Ok(standing)
    })
    .await?;
    standing.sort();
    let states: Vec<_> = standing.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["Active", "Active", "Revoked"], "hers for offline_access, and the other's");
    assert_eq!(corp.requests(mark)?, "list sessions × 1, patch sessions × 1");

    // What nobody signed for us costs nothing.
    let mark = plane.audit_log().mark()?;
    let told_at = format!("{}/callback/corp/logout", corp.scene.serving().url());
    let id_token = corp.tokens_in(browsers, &other.name, "openid email").await?;
    // Keycloak may have that key too by now, if its keys were not read this moment.
    let by_another_key = ["invalid_request", "temporarily_unavailable"].as_slice();
    let rows = [(text(&id_token, "id_token")?, by_another_key), ("forged", &by_another_key[..1])];
    for (token, errors) in rows {
        let request = corp.party.http().post(&told_at).form(&[("logout_token", token)]);
        let answer = request.send().await?;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{token}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let said: Value = answer.json().await?;
        let error = said["error"].as_str().unwrap_or_default();
        assert!(errors.contains(&error), "{said}");
    }
    assert_eq!(corp.requests(mark)?, "create sessions × 1", "her own sign-in");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_of_a_listed_application_there_is_exchanged_here_by_whom_it_lists_and_stores_nothing()
-> Result<()> {
    const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
    let plane = ControlPlane::from_env()?;
    let keycloak = Keycloak::shared().await?;
    let here = Installation::create(&plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["grants"] = json!(["authorization_code", "refresh_token", EXCHANGE]);
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["grants"] = json!(["authorization_code", "refresh_token", EXCHANGE]);
            client["spec"]["exchangePeers"] = json!(["kubernetes"]);
        }
    })
    .await?;
    let application = |name: &str| format!("{name}-{}", scene.installation().namespace());
    let [listed, desktop, other] = ["mobile", "desktop", "other"].map(application);
    let oidc = json!({"tokenExchange": {"audiences": [
        {"name": listed, "clients": ["kubernetes"]},
        {"name": desktop, "clients": ["portal"]},
    ]}});
    let spec = json!({"allowedGroups": ["developers"], "oidc": oidc});
    let corp = Corp::start(scene, keycloak, spec).await?;
    keycloak.add_person("mary", &["developers"]).await?;
    let exchange = async |id_token: &str| {
        let form = [
            ("grant_type", EXCHANGE),
            ("connector_id", "corp"),
            ("subject_token", id_token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
            ("audience", "kubernetes"),
        ];
        corp.party.token(&form).await
    };

    let mark = plane.audit_log().mark()?;
    let given = keycloak.id_token_for(&listed, "mary").await?;
    let tokens = exchange(&given).await?.tokens()?;
    let id_token = claims(text(&tokens, "access_token")?)?;
    assert_eq!(id_token["groups"], json!(["corp:developers"]));
    assert_eq!(id_token["email"], "mary@example.com");
    ensure!(id_token["exp"].as_i64() <= claims(&given)?["exp"].as_i64(), "{id_token}");
    ensure!(tokens.get("refresh_token").is_none(), "{tokens}");

    let of_desktop = keycloak.id_token_for(&desktop, "mary").await?;
    for token in [&keycloak.id_token_for(&other, "mary").await?, &of_desktop] {
        let answer = exchange(token).await?;
        assert_eq!((answer.status, answer.error()), (StatusCode::BAD_REQUEST, "invalid_request"));
    }
    assert_eq!(corp.requests(mark)?, "", "nothing is stored");

    let pointer = "/spec/upstream/oidc/tokenExchange/audiences/1/clients/-";
    let patch = json!([{"op": "add", "path": pointer, "value": "kubernetes"}]).to_string();
    let here = corp.scene.installation();
    here.kubectl(&["patch", "connector/corp", "--type=json", "-p", &patch])?;
    eventually(Duration::from_secs(15), async || exchange(&of_desktop).await?.tokens()).await?;
    Ok(())
}

/// Sessions, of as many people.
const SESSIONS: usize = 40;
/// How long nobody answers.
const OUTAGE: Duration = Duration::from_mins(1);
/// When each session is refreshed meanwhile, in seconds: the last time so early that it is answered before the end.
const WAVES: [u64; 5] = [0, 12, 24, 36, 48];

/// Each of 40 sessions is refreshed five times while Keycloak's process is stopped, and is as good afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_sixty_seconds_during_two_hundred_refreshes_costs_nobody_their_session()
-> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (keycloak, scene) =
        tokio::try_join!(Keycloak::apart(), Scene::start(&plane, Directory::None))?;
    let corp = Corp::start(scene, keycloak, json!({"recheckIntervalSeconds": 0})).await?;
    let mut given = Vec::new();
    for n in 0..SESSIONS {
        let name = format!("person-{n}");
        corp.keycloak.add_person(&name, &["developers"]).await?;
        let tokens = corp.tokens(&corp.keycloak.browser()?, &name).await?;
        given.push(text(&tokens, "refresh_token")?.to_owned());
    }

    corp.keycloak.freeze()?;
    let begun = Instant::now();
    let mut refreshing = JoinSet::new();
    for wave in WAVES {
        sleep_until(begun + Duration::from_secs(wave)).await;
        for token in &given {
            let (party, token) = (corp.party.clone(), token.clone());
            refreshing.spawn(async move { party.refresh(&token).await });
        }
    }
    let (mut refused, mut answered) = (0, 0);
    while let Some(answer) = refreshing.join_next().await {
        let answer = answer??;
        match answer.status {
            StatusCode::OK => answered += 1,
            StatusCode::SERVICE_UNAVAILABLE => {
                ensure!(answer.retry_after.is_some(), "nobody says when to come again");
                refused += 1;
            }
            status => bail!("{status}: {answer:?}"),
        }
    }
    let last = begun.elapsed();
    assert_eq!((refused, answered), (200, 0), "nobody could be asked");
    assert_eq!(corp.standing()?, vec![("Active".to_owned(), 0); SESSIONS], "nothing was rotated");
    sleep_until(begun + OUTAGE).await;
    corp.keycloak.thaw()?;

    let thawed = Instant::now();
    let mut again = 0;
    for token in &given {
        let tokens = eventually(Duration::from_mins(2), async || {
            let answer = corp.party.refresh(token).await?;
            match answer.status {
                StatusCode::OK => Ok(Ok(answer.body)),
                StatusCode::SERVICE_UNAVAILABLE => {
                    again += 1;
                    bail!("still {answer:?}")
                }
                _ => Ok(Err(anyhow!("lost: {answer:?}"))),
            }
        });
        let id_token = claims(text(&tokens.await??, "id_token")?)?;
        assert_eq!(id_token["groups"], json!(["corp:developers"]));
    }
    assert_eq!(
        corp.standing()?,
        vec![("Active".to_owned(), 1); SESSIONS],
        "none lost, none revoked"
    );
    println!(
        "60 s without Keycloak: 200 refreshes of {SESSIONS} sessions, {refused} answered 503 and {answered} ok, the last \
         after {last:.1?}; afterwards {SESSIONS} of {SESSIONS} sessions refreshed within {:.1?} ({again} times 503 \
         before); 0 revoked",
        thawed.elapsed()
    );
    Ok(())
}

//! Two issuers in one installation, one below the other's path, with keys, connectors and clients of their own: what one
//! gave is worth nothing at the other, though both have a client of the same ID and one browser visits both.

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, Manifests, REDIRECT_URI, SCOPE};
use claviger_testkit::{ControlPlane, Directory, RelyingParty, Scene};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name});
    json!({"apiVersion": "claviger.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// The quickstart's issuer with browser sessions, and a second below it.
async fn scene(plane: &ControlPlane) -> Result<Scene> {
    let here = claviger_testkit::Installation::create(plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["browserSessions"] = json!({});
        }
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["introspection"] = json!("AllTokens");
        }
    })
    .await?;
    let objects = [
        object("SigningKey", "second", &json!({"algorithm": "RS256"})),
        object("Connector", "staff", &json!({"displayName": "Staff", "upstream": {"local": {}}})),
        object(
            "OIDCIssuer",
            "second",
            &json!({
                "url": format!("{}/second", scene.issuer()),
                "signingKeys": [{"name": "second"}],
                "connectors": [{"name": "staff"}],
                "browserSessions": {},
            }),
        ),
        object(
            "OAuth2Client",
            "kubernetes-of-second",
            &json!({
                "issuerRef": {"name": "second"},
                "clientID": "kubernetes",
                "type": "Confidential",
                "authentication": {"generatedSecret": {"name": "second-client"}},
                "redirectURIs": [REDIRECT_URI],
                "introspection": "AllTokens",
                "consent": "Skip",
            }),
        ),
    ];
    for object in objects {
        scene.installation().apply(&object.to_string())?;
    }
    scene.installation().wait_for("oauth2client/kubernetes-of-second", "Ready").await?;
    Ok(scene)
}

async fn second(scene: &Scene) -> Result<RelyingParty> {
    let secret = scene.generated_secret("second-client").await?;
    let pem = scene.installation().authority().certificate_pem();
    let issuer = format!("{}/second", scene.issuer());
    RelyingParty::discover(&issuer, pem, ("kubernetes", Some(&secret)), REDIRECT_URI).await
}

async fn key_ids(party: &RelyingParty) -> Result<Vec<String>> {
    let jwks: Value = party.http().get(party.endpoint("jwks_uri")?).send().await?.json().await?;
    let keys = jwks["keys"].as_array().context("no keys")?;
    Ok(keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect())
}

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_issuer_gave_is_worth_nothing_at_another() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let scene = scene(&plane).await?;
    let first = scene.relying_party().await?;
    let second = second(&scene).await?;
    let browser = first.browser()?;

    let attempt = first.attempt(SCOPE)?;
    let landed = browser.sign_in(&attempt.url, LOCAL_USER).await?;
    let code = query_value(&landed, "code")?;
    let mark = plane.audit_log().mark()?;

    // The code, and after it the tokens: refused there, and still good here.
    let refused = second.redeem(&code, &attempt.verifier).await?;
    assert_eq!(refused.error(), "invalid_grant", "{}", refused.body);
    let tokens = first.redeem(&code, &attempt.verifier).await?.tokens()?;
    let (access, refresh) = (text(&tokens, "access_token")?, text(&tokens, "refresh_token")?);
    let id_token = text(&tokens, "id_token")?;
    assert_eq!(claims(id_token)?["iss"], scene.issuer());
    assert_eq!(second.userinfo(access).await?.0, StatusCode::UNAUTHORIZED);
    for token in [access, refresh, id_token] {
        assert_eq!(second.introspect(token).await?.1, json!({"active": false}));
        second.revoke(token).await?;
    }
    assert_eq!(second.refresh(refresh).await?.error(), "invalid_grant");
    let exchange = second.exchange(access, &[]).await?;
    ensure!(exchange.status == StatusCode::BAD_REQUEST, "{}", exchange.body);
    let counts = scene.installation().requests_since(mark)?;
    assert_eq!(counts, [("create sessions".to_owned(), 1)], "the redemption here, and no more");
    assert_eq!(first.userinfo(access).await?.0, StatusCode::OK);
    first.refresh(refresh).await?.tokens()?;

    // The keys.
    let (ours, theirs) = (key_ids(&first).await?, key_ids(&second).await?);
    ensure!(!ours.is_empty() && !theirs.is_empty() && ours.iter().all(|kid| !theirs.contains(kid)));

    // The browser's session: at home it is enough, elsewhere nobody is signed in, whatever is hinted.
    let silently = async |party: &RelyingParty| -> Result<Url> {
        let mut url = party.attempt(SCOPE)?.url;
        url.query_pairs_mut().append_pair("prompt", "none");
        match browser.open(&url).await? {
            Landing::Application(landed) => Ok(landed),
            Landing::Page(page) => bail!("asked: {}", page.html),
        }
    };
    query_value(&silently(&first).await?, "code")?;
    assert_eq!(query_value(&silently(&second).await?, "error")?, "login_required");
    let mut url = second.attempt(SCOPE)?.url;
    url.query_pairs_mut().append_pair("id_token_hint", id_token);
    // A stranger's signature says nothing, so the user is asked.
    let asked = browser.open(&url).await?;
    ensure!(matches!(&asked, Landing::Page(page) if page.html.contains("password")), "{asked:?}");

    // Nor does one's secret open the other's client of the same ID.
    let pem = scene.installation().authority().certificate_pem();
    let secret = scene.client_secret().await?;
    let issuer = format!("{}/second", scene.issuer());
    let impostor =
        RelyingParty::discover(&issuer, pem, ("kubernetes", Some(&secret)), REDIRECT_URI).await?;
    assert_eq!(impostor.refresh(refresh).await?.error(), "invalid_client");
    Ok(())
}

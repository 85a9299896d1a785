//! What a token is good for, told to those who may ask (RFC 7662): one read at most, counted from the
//! audit log.

use anyhow::{Context, Result, ensure};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, Manifests, SCOPE};
use claviger_testkit::{
    AuditMark, ControlPlane, Directory, Installation, RelyingParty, Scene, run_recipe,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// The resource server's secret.
const SECRET: &str = "the-resource-servers-secret";

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

/// The quickstart, and a resource server that may ask about all tokens.
async fn scene(plane: &ControlPlane) -> Result<(Scene, RelyingParty)> {
    let change = |manifests: &mut Manifests| {
        manifests.push(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "server", "labels": {"claviger.dev/secret": "client"}},
            "stringData": {"secret": SECRET},
        }));
        manifests.push(json!({
            "apiVersion": "claviger.dev/v1alpha1", "kind": "OAuth2Client",
            "metadata": {"name": "server"},
            "spec": {
                "issuerRef": {"name": "main"},
                "type": "Confidential",
                "authentication": {"secretRef": {"name": "server", "key": "secret"}},
                "redirectURIs": ["https://server.example.com/callback"],
                "introspection": "AllTokens",
            },
        }));
    };
    let here = Installation::create(plane).await?;
    let scene = Scene::start_in(here, Directory::None, change).await?;
    scene.installation().wait_for("oauth2client/server", "Ready").await?;
    let pem = scene.installation().authority().certificate_pem();
    let client = ("server", Some(SECRET));
    let server = RelyingParty::discover(&scene.issuer(), pem, client, "https://x").await?;
    Ok((scene, server))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_server_learns_what_a_token_is_good_for_until_it_is_revoked() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, server) = scene(&plane).await?;
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let access = text(&tokens, "access_token")?;

    let mark = plane.audit_log().mark()?;
    let (status, known) = server.introspect(access).await?;
    let counted = requests(&scene, mark)?;
    println!("{known}, for {counted}");
    assert_eq!(counted, "get sessions × 1");
    assert_eq!(status, StatusCode::OK);
    let id_token = claims(text(&tokens, "id_token")?)?;
    for name in ["sub", "iss", "auth_time"] {
        assert_eq!(known[name], id_token[name], "{name}");
    }
    assert_eq!(known["active"], true);
    assert_eq!(known["client_id"], "kubernetes");
    assert_eq!(known["scope"], SCOPE);
    assert_eq!(known["username"], "admin");
    assert_eq!(known["token_type"], "Bearer");

    party.revoke(access).await?;
    let mark = plane.audit_log().mark()?;
    assert_eq!(server.introspect(access).await?.1, json!({"active": false}));
    assert_eq!(requests(&scene, mark)?, "", "what memory knows to be revoked is not read");

    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    scene.installation().kubectl(&["delete", "sessions", "--all", "--wait=false"])?;
    let gone = server.introspect(text(&tokens, "access_token")?).await?;
    assert_eq!(gone.1, json!({"active": false}), "a deleted session");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_ask_learns_nothing_and_strangers_cost_nothing() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let (scene, server) = scene(&plane).await?;
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let access = text(&tokens, "access_token")?;

    let mark = plane.audit_log().mark()?;
    for token in [access, "nonsense"] {
        let (status, body) = party.introspect(token).await?;
        assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &json!("access_denied")));
    }
    let forged = format!("{access}A");
    for token in [&forged, text(&tokens, "refresh_token")?, text(&tokens, "id_token")?, "x"] {
        let (status, body) = server.introspect(token).await?;
        assert_eq!((status, body), (StatusCode::OK, json!({"active": false})), "{token}");
    }
    assert_eq!(requests(&scene, mark)?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_may_ask_about_its_own_tokens_does_so_as_the_page_says() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let here = Installation::create(&plane).await?;
    let scene = Scene::start_in(here, Directory::None, |manifests| {
        if let Ok(client) = manifests.find("OAuth2Client", "kubernetes") {
            client["spec"]["introspection"] = "OwnTokens".into();
        }
    })
    .await?;
    let party = scene.relying_party().await?;
    let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
    let secret = scene.client_secret().await?;
    let authority = scene.installation().authority_file()?.display().to_string();
    for (name, token_use) in [("access_token", "access_token"), ("refresh_token", "refresh_token")]
    {
        let printed = run_recipe(
            "tokens.md",
            "introspect",
            &[
                ("ISSUER", &scene.issuer()),
                ("CLIENT_ID", "kubernetes"),
                ("CLIENT_SECRET", &secret),
                ("ACCESS_TOKEN", text(&tokens, name)?),
                ("CURL_CA_BUNDLE", &authority),
            ],
        )?;
        let known: Value = serde_json::from_str(&printed)?;
        ensure!(known["active"] == true && known["token_use"] == token_use, "{printed}");
    }
    Ok(())
}

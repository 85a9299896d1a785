//! Users who come through a trusted proxy: whole logins counted in API-server requests, and every way
//! to pass for that proxy refused with nothing stored.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::browser::{Landing, query_value};
use claviger_testkit::pki::CertifiedKey;
use claviger_testkit::relying_party::claims;
use claviger_testkit::reverse_proxy::Behind;
use claviger_testkit::scene::{Manifests, REDIRECT_URI, SCOPE};
use claviger_testkit::trusted_proxy::AtProxy;
use claviger_testkit::{
    AuditMark, Browser, CertificateAuthority, ControlPlane, Directory, Installation, PortLease,
    RelyingParty, ReverseProxy, Scene, TrustedProxy, eventually,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// As often as the issue counts.
const MANY: usize = 100;
/// The proxy's name in its certificate.
const NAME: &str = "proxy.example.com";
/// A user in an allowed group and in another.
const ALICE: [(&str, &str); 4] = [
    ("X-Remote-User", "alice"),
    ("X-Remote-User-Id", "2342749"),
    ("X-Remote-User-Email", "alice@example.com"),
    ("X-Remote-Group", "developers, cluster-owners"),
];

/// An installation with a connector `proxy` (and `other`, of another authority), and its proxy.
struct Stage {
    scene: Scene,
    party: RelyingParty,
    authority: CertificateAuthority,
    other_authority: CertificateAuthority,
    proxy: TrustedProxy,
}

fn connector(name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "displayName": "Single sign-on",
        "allowedGroups": ["developers"],
        "groupPrefix": "sso:",
        "offlineSessionSeconds": 3600,
        "upstream": {"authProxy": {
            "clientCASecretRef": {"name": format!("{name}-ca"), "key": "ca.crt"},
            "allowedClientNames": [NAME],
            "headers": {
                "userID": "X-Remote-User-Id",
                "email": "X-Remote-User-Email",
                "groups": "X-Remote-Group",
            },
        }},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "Connector",
        "metadata": {"name": name},
        "spec": spec,
    })
}

fn ca_secret(connector: &str, authority: &CertificateAuthority) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": format!("{connector}-ca"),
            "labels": {"claviger.dev/secret": "connector"},
        },
        "stringData": {"ca.crt": authority.certificate_pem()},
    })
}

/// The example with these connectors, at this URL if it is not the replica's own.
async fn scene(url: Option<&str>) -> Result<(Scene, CertificateAuthority, CertificateAuthority)> {
    let plane = ControlPlane::from_env()?;
    let authority = CertificateAuthority::create("proxy authority")?;
    let other_authority = CertificateAuthority::create("other proxy authority")?;
    let change = |manifests: &mut Manifests| {
        for (name, authority) in [("proxy", &authority), ("other", &other_authority)] {
            manifests.push(connector(name, &json!({})));
            manifests.push(ca_secret(name, authority));
        }
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["connectors"] =
                json!([{"name": "local"}, {"name": "proxy"}, {"name": "other"}]);
            if let Some(url) = url {
                issuer["spec"]["url"] = url.into();
            }
        }
    };
    let installation = Installation::create(&plane).await?;
    let scene = Scene::start_in(installation, Directory::None, change).await?;
    for name in ["proxy", "other"] {
        scene.installation().wait_for(&format!("connector/{name}"), "Ready").await?;
    }
    Ok((scene, authority, other_authority))
}

impl Stage {
    async fn set() -> Result<Self> {
        let (scene, authority, other_authority) = scene(None).await?;
        let party = scene.relying_party().await?;
        let proxy = proxy_of(&scene, Some(&authority.client_named(&[NAME])?))?;
        Ok(Self { scene, party, authority, other_authority, proxy })
    }

    /// From when on every request is counted: nothing is left to say of what was applied before.
    async fn mark(&self) -> Result<AuditMark> {
        self.scene.installation().at_rest().await
    }

    /// What the operator asked of the API server since `mark`, as `what × how often`.
    fn requests(&self, mark: AuditMark) -> Result<String> {
        let counts = self.scene.installation().requests_since(mark)?;
        let lines: Vec<_> =
            counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
        Ok(lines.join(", "))
    }

    /// A fresh flow that stands before the callback of this connector.
    async fn at(&self, connector: &str) -> Result<AtProxy> {
        TrustedProxy::begin(&self.party, SCOPE, connector).await
    }

    /// That the listener ends this proxy's connection without an answer. What comes before, or silence, is no refusal.
    async fn is_kept_out(&self, proxy: &TrustedProxy) -> Result<bool> {
        let AtProxy { target, cookies, .. } = self.at("proxy").await?;
        match proxy.forward(&target, &cookies, &ALICE).await {
            Ok(_) => Ok(false),
            Err(error) => {
                // An alert, or the connection's end where that overtakes it.
                let is_silence =
                    error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout);
                ensure!(!is_silence, "no refusal: {error:#}");
                Ok(true)
            }
        }
    }

    /// What comes of a flow at `connector` that this proxy forwards with these headers.
    async fn forward(
        &self,
        proxy: &TrustedProxy,
        connector: &str,
        headers: &[(&str, &str)],
    ) -> Result<(StatusCode, String)> {
        let AtProxy { target, cookies, .. } = self.at(connector).await?;
        let answer = proxy.forward(&target, &cookies, headers).await?;
        let location = answer.headers().get("location").cloned();
        let location = location.map(|to| to.to_str().map(str::to_owned)).transpose()?;
        Ok((answer.status(), location.unwrap_or(answer.text().await?)))
    }
}

/// A proxy with this certificate in front of the scene's issuer.
fn proxy_of(scene: &Scene, identity: Option<&CertifiedKey>) -> Result<TrustedProxy> {
    let pem = scene.installation().authority().certificate_pem();
    TrustedProxy::new(&scene.issuer(), scene.serving().proxy_address(), pem, identity)
}

fn text<'a>(tokens: &'a Value, name: &str) -> Result<&'a str> {
    tokens[name].as_str().with_context(|| format!("no {name} in {tokens}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_logins_are_a_hundred_creates_and_a_hundred_offline_refreshes_a_hundred_patches()
-> Result<()> {
    let stage = Stage::set().await?;
    let mark = stage.mark().await?;
    let mut logins = Vec::new();
    for _ in 0..MANY {
        let (code, attempt) = stage.proxy.code(&stage.party, SCOPE, "proxy", &ALICE).await?;
        logins.push(stage.party.redeem(&code, &attempt.verifier).await?.tokens()?);
    }
    assert_eq!(stage.requests(mark)?, "create sessions × 100");

    let id_token = claims(text(&logins[0], "id_token")?)?;
    assert_eq!(id_token["sub"], "CgcyMzQyNzQ5EgVwcm94eQ", "as dex makes it");
    assert_eq!(id_token["email"], "alice@example.com");
    assert_eq!(id_token["email_verified"], true);
    assert_eq!(id_token["preferred_username"], "alice");
    assert_eq!(id_token["groups"], json!(["sso:developers"]), "cluster-owners is not allowed");

    let mark = stage.mark().await?;
    for tokens in &logins {
        let refreshed = stage.party.refresh(text(tokens, "refresh_token")?).await?.tokens()?;
        ensure!(refreshed["refresh_token"] != tokens["refresh_token"], "did not rotate");
        let id_token = claims(text(&refreshed, "id_token")?)?;
        assert_eq!(id_token["groups"], json!(["sso:developers"]), "no prefix twice");
    }
    assert_eq!(stage.requests(mark)?, "patch sessions × 100");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_through_a_real_reverse_proxy_and_cannot_name_itself() -> Result<()> {
    let port = PortLease::take()?;
    let (scene, authority, _) = scene(Some(&ReverseProxy::url_at(&port))).await?;
    let site_authority = scene.installation().authority();
    let behind = Behind {
        ordinary: scene.serving().url().trim_start_matches("https://").parse()?,
        proxies: scene.serving().proxy_address(),
        callback: "/callback/proxy".into(),
    };
    let identity = authority.client_named(&[NAME])?;
    let site = ReverseProxy::start(port, behind, site_authority, &identity).await?;
    let secret = scene.client_secret().await?;
    let client = ("kubernetes", Some(secret.as_str()));
    let pem = site_authority.certificate_pem();
    let party = RelyingParty::discover(site.url(), pem, client, REDIRECT_URI).await?;

    site.recognize(&ALICE)?;
    let mark = scene.installation().plane().audit_log().mark()?;
    let attempt = party.attempt(SCOPE)?;
    let mut url = attempt.url.clone();
    url.query_pairs_mut().append_pair("connector_id", "proxy");
    let Landing::Application(landed) = Browser::new(pem)?.open(&url).await? else {
        anyhow::bail!("the browser does not come back to the application");
    };
    let code = query_value(&landed, "code")?;
    let tokens = party.redeem(&code, &attempt.verifier).await?.tokens()?;
    let id_token = claims(text(&tokens, "id_token")?)?;
    assert_eq!(id_token["preferred_username"], "alice");
    assert_eq!(id_token["iss"], site.url());
    let counts = scene.installation().requests_since(mark)?;
    assert_eq!(counts, [("create sessions".to_owned(), 1)]);

    // A visitor the proxy does not know, who says who they are: the proxy drops it, we refuse.
    site.recognize(&[])?;
    let AtProxy { target, cookies, .. } = TrustedProxy::begin(&party, SCOPE, "proxy").await?;
    let forged = party
        .http()
        .get(format!("{}{target}", site.url()))
        .header("cookie", cookies)
        .header("X-Remote-User", "alice")
        .header("X_Remote_User", "alice")
        .send()
        .await?;
    assert_eq!(forged.status(), StatusCode::BAD_REQUEST);
    let page = forged.text().await?;
    ensure!(page.contains("X-Remote-User is missing"), "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_passes_for_the_proxy_and_nothing_is_stored_for_who_tries() -> Result<()> {
    let stage = Stage::set().await?;
    let mark = stage.mark().await?;

    // At the handshake: no certificate, an authority no connector trusts.
    let stranger = CertificateAuthority::create("stranger")?.client_named(&[NAME])?;
    for identity in [None, Some(&stranger)] {
        let proxy = proxy_of(&stage.scene, identity)?;
        ensure!(stage.is_kept_out(&proxy).await?, "an answer without a good certificate");
    }

    // At the request: another name, another connector's certificate.
    let other_name = stage.authority.client_named(&["app.example.com"])?;
    let wildcard = stage.authority.client_named(&["*.example.com"])?;
    let others = stage.other_authority.client_named(&[NAME])?;
    for (identity, words) in [
        (&other_name, "allowedClientNames"),
        (&wildcard, "allowedClientNames"),
        (&others, "clientCASecretRef"),
    ] {
        let proxy = proxy_of(&stage.scene, Some(identity))?;
        let (status, page) = stage.forward(&proxy, "proxy", &ALICE).await?;
        assert_eq!(status, StatusCode::FORBIDDEN, "{page}");
        ensure!(page.contains(words), "{page}");
    }
    let (status, _) =
        stage.forward(&proxy_of(&stage.scene, Some(&others))?, "other", &ALICE).await?;
    assert_eq!(status, StatusCode::SEE_OTHER, "good for its own connector");

    assert_eq!(stage.requests(mark)?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_a_user_could_have_sent_are_refused() -> Result<()> {
    let stage = Stage::set().await?;
    let mark = stage.mark().await?;
    for (what, header) in [
        ("sent twice", ("X-Remote-User", "alice")),
        ("in another case", ("x-remote-USER", "root")),
        ("with underscores", ("X_Remote_User", "root")),
        ("with dots", ("X.Remote.User", "root")),
        ("mixed", ("X_Remote-User_Id", "1")),
        ("of groups", ("X-Remote_Group", "developers")),
    ] {
        let headers = [&ALICE[..], &[header]].concat();
        let (status, page) = stage.forward(&stage.proxy, "proxy", &headers).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{what}: {page}");
        ensure!(page.contains("more than once or in another spelling"), "{what}: {page}");
        ensure!(!page.contains("root"), "a value is shown: {page}");
    }
    let (status, page) = stage.forward(&stage.proxy, "proxy", &ALICE[..1]).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST, "no X-Remote-User-Id: {page}");
    ensure!(page.contains("X-Remote-User-Id is missing"), "{page}");

    let mallory = [ALICE[0], ALICE[1], ALICE[2], ("X-Remote-Group", "cluster-owners")];
    let (status, location) = stage.forward(&stage.proxy, "proxy", &mallory).await?;
    assert_eq!(status, StatusCode::SEE_OTHER);
    ensure!(location.contains("error=access_denied"), "{location}");

    assert_eq!(stage.requests(mark)?, "");
    let log = stage.scene.operator()?.log()?;
    ensure!(log.contains("HeaderAmbiguous"), "refusals are audited");
    ensure!(!log.contains("root"), "a header's value is in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ordinary_listener_reads_no_headers_and_the_proxies_listener_does_nothing_else()
-> Result<()> {
    let stage = Stage::set().await?;
    let mark = stage.mark().await?;
    let AtProxy { target, cookies, .. } = stage.at("proxy").await?;
    let pem = stage.scene.installation().authority().certificate_pem();
    let ordinary: std::net::SocketAddr =
        stage.scene.issuer().trim_start_matches("https://").parse()?;
    let identity = stage.authority.client_named(&[NAME])?;
    let past = TrustedProxy::new(&stage.scene.issuer(), ordinary, pem, Some(&identity))?;
    let answer = past.forward(&target, &cookies, &ALICE).await?;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let page = answer.text().await?;
    ensure!(page.contains("goes through a proxy"), "{page}");

    for path in ["/auth", "/token", "/keys", "/.well-known/openid-configuration", "/healthz", "/"] {
        let answer = stage.proxy.forward(path, "", &[]).await?;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(stage.requests(mark)?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_authority_counts_within_a_second_on_open_connections_too() -> Result<()> {
    let stage = Stage::set().await?;
    let new_authority = CertificateAuthority::create("new proxy authority")?;
    let new = proxy_of(&stage.scene, Some(&new_authority.client_named(&[NAME])?))?;
    ensure!(stage.is_kept_out(&new).await?, "trusted before it was");
    let (status, _) = stage.forward(&stage.proxy, "proxy", &ALICE).await?;
    assert_eq!(status, StatusCode::SEE_OTHER);

    stage.scene.installation().apply(&ca_secret("proxy", &new_authority).to_string())?;
    eventually(Duration::from_secs(1), async || {
        let (status, page) = stage.forward(&new, "proxy", &ALICE).await?;
        ensure!(status == StatusCode::SEE_OTHER, "{page}");
        Ok(())
    })
    .await
    .context("the new authority is not trusted within a second")?;
    // The old proxy's connection is still open: its request is refused. A new one is not made.
    let (status, page) = stage.forward(&stage.proxy, "proxy", &ALICE).await?;
    assert_eq!(status, StatusCode::FORBIDDEN, "{page}");
    let again = proxy_of(&stage.scene, Some(&stage.authority.client_named(&[NAME])?))?;
    ensure!(stage.is_kept_out(&again).await?, "the old one is still trusted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_outside_the_networks_is_refused_whatever_it_claims_and_changes_are_live()
-> Result<()> {
    let stage = Stage::set().await?;
    let mark = stage.mark().await?;
    let mut change = connector("proxy", &json!({}));
    change["spec"]["upstream"]["authProxy"]["allowedSourceCIDRs"] = json!(["192.0.2.0/24"]);
    stage.scene.installation().apply(&change.to_string())?;
    let claims_to_be_there = [&ALICE[..], &[("X-Forwarded-For", "192.0.2.1")]].concat();
    eventually(Duration::from_secs(1), async || {
        let (status, page) = stage.forward(&stage.proxy, "proxy", &claims_to_be_there).await?;
        ensure!(status == StatusCode::FORBIDDEN, "{status}");
        ensure!(page.contains("allowedSourceCIDRs"), "{page}");
        Ok(())
    })
    .await?;
    // Requests know it before the leader has said so.
    eventually(Duration::from_secs(10), async || {
        ensure!(!stage.requests(mark)?.is_empty(), "nothing is said of the connector");
        Ok(())
    })
    .await?;
    assert_eq!(
        stage.requests(mark)?,
        "patch connectors/status × 1",
        "the connector says what it is now, and nothing else is written"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_offline_sessions_there_is_no_refresh_token_and_ending_them_ends_those_there_are()
-> Result<()> {
    let stage = Stage::set().await?;
    let log_in = async || {
        let (code, attempt) = stage.proxy.code(&stage.party, SCOPE, "proxy", &ALICE).await?;
        stage.party.redeem(&code, &attempt.verifier).await?.tokens()
    };
    let tokens = log_in().await?;
    let refresh_token = text(&tokens, "refresh_token")?;
    let change = connector("proxy", &json!({"offlineSessionSeconds": 0}));
    stage.scene.installation().apply(&change.to_string())?;
    eventually(Duration::from_secs(1), async || {
        let tokens = log_in().await?;
        ensure!(tokens.get("refresh_token").is_none(), "there is one still");
        Ok(())
    })
    .await?;
    let mark = stage.mark().await?;
    assert_eq!(stage.party.refresh(refresh_token).await?.error(), "invalid_grant");
    assert_eq!(stage.requests(mark)?, "");
    Ok(())
}

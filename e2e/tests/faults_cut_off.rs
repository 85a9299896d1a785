//! One replica gets no news while clients and keys change, though it could still write: once its news is
//! older than the staleness bound it signs nothing, says so, and goes on with what needs no news. It comes
//! back by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use claviger_testkit::load::{refresh_token, session_of};
use claviger_testkit::proxy::Trap;
use claviger_testkit::scene::{LOCAL_USER, Manifests, REDIRECT_URI, SCOPE};
use claviger_testkit::{
    ControlPlane, Directory, Fault, Held, Installation, Proxy, RelyingParty, Scene, Setup,
    eventually,
};
use serde_json::{Value, json};

/// The bound, in seconds; DESIGN's 150 would prove the same in as much time.
const STALENESS_SECONDS: u64 = 15;
/// What a loaded machine may add to anything.
const SLACK: Duration = Duration::from_mins(1);

/// Everything a replica hears of the cluster.
const NEWS: [&str; 18] = [
    "list oidcissuers",
    "watch oidcissuers",
    "list connectors",
    "watch connectors",
    "list signingkeys",
    "watch signingkeys",
    "list localusers",
    "watch localusers",
    "list oauth2clients",
    "watch oauth2clients",
    "list namespaces",
    "watch namespaces",
    "list secrets",
    "watch secrets",
    "list configmaps",
    "watch configmaps",
    "list sessions",
    "watch sessions",
];

async fn scene() -> Result<Scene> {
    let plane = ControlPlane::from_env()?;
    let setup = Setup::new(Directory::None)
        .replicas(2)
        .proxied()
        .flag("--jwks-max-age-seconds=45")
        .flag("--clock-skew-seconds=2")
        .flag(format!("--staleness-seconds={STALENESS_SECONDS}"));
    let change = |manifests: &mut Manifests| {
        manifests.push(json!({
            "apiVersion": "claviger.dev/v1alpha1",
            "kind": "OAuth2Client",
            "metadata": {"name": "dashboard"},
            "spec": {
                "issuerRef": {"name": "main"},
                "clientID": "dashboard",
                "type": "Public",
                "redirectURIs": [REDIRECT_URI],
                "consent": "Skip",
            },
        }));
    };
    Scene::start_as(Installation::create(&plane).await?, &setup, change).await
}

/// No news from now on; whatever is written passes.
fn without_news(proxy: &Proxy) -> Vec<Trap> {
    let traps = NEWS.map(|what| proxy.trap_every(what, Fault::Hold));
    proxy.cut();
    traps.into()
}

/// The key set of a replica, and its `Cache-Control`.
async fn keys(party: &RelyingParty) -> Result<(Value, String)> {
    let answer = party.http().get(party.endpoint("jwks_uri")?).send().await?.error_for_status()?;
    let control = answer.headers().get("cache-control").context("no Cache-Control")?;
    let control = control.to_str()?.to_owned();
    Ok((answer.json().await?, control))
}

/// Asked again and again, it says "later", and shows the keys it knows for nobody to keep.
async fn it_signs_nothing_and_goes_on(
    clients: &[(&RelyingParty, &String)],
    known: &Value,
) -> Result<()> {
    for _ in 0..20 {
        for (party, token) in clients {
            assert_eq!(party.refresh(token).await?.status, 503);
            let (shown, control) = keys(party).await?;
            assert_eq!(&shown, known);
            ensure!(control.contains("max-age=0"), "{control}");
            let issuer = party.metadata()["issuer"].as_str().context("no issuer")?;
            let discovery = format!("{issuer}/.well-known/openid-configuration");
            assert_eq!(party.http().get(&discovery).send().await?.status(), 200);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_news_signs_nothing_after_the_bound_and_comes_back_by_itself()
-> Result<()> {
    let scene = scene().await?;
    let here = scene.installation();
    let [near, cut] = <[RelyingParty; 2]>::try_from(scene.relying_parties().await?)
        .ok()
        .context("two replicas")?;
    let mut token = refresh_token(&near.log_in(SCOPE, LOCAL_USER).await?)?;
    let peer = || scene.replicas()[1].peer(here);
    let dashboard =
        RelyingParty::discover(&scene.issuer(), peer(), ("dashboard", None), REDIRECT_URI).await?;
    let mut doomed = refresh_token(&dashboard.log_in(SCOPE, LOCAL_USER).await?)?;
    let (known, control) = keys(&cut).await?;
    ensure!(control.contains("max-age=45"), "{control}");

    let traps = without_news(scene.replicas()[1].proxy()?);
    let began = Instant::now();
    here.kubectl(&["delete", "oauth2client", "dashboard"])?;
    let kid = here.kubectl(&[
        "get",
        "signingkey",
        "main",
        "-o",
        r#"jsonpath={.status.keys[?(@.state=="Active")].kid}"#,
    ])?;
    let revoke = json!({"spec": {"revokedKeyIDs": [kid]}}).to_string();
    here.kubectl(&["patch", "signingkey", "main", "--type=merge", "-p", &revoke])?;
    eventually(SLACK, async || {
        let answer = dashboard.at(scene.replicas()[0].peer(here))?.refresh(&doomed).await?;
        ensure!(answer.error() == "invalid_client", "{}", answer.body);
        let shown = keys(&near).await?.0.to_string();
        ensure!(!shown.contains(&kid), "a revoked key is still shown");
        Ok(())
    })
    .await?;

    // It could not know better; now it knows that it does not know.
    let mut minted = 0;
    let stopped = eventually(SLACK, async || {
        for (party, token) in [(&cut, &mut token), (&dashboard, &mut doomed)] {
            let answer = party.refresh(token).await?;
            if answer.status == 200 {
                *token = refresh_token(&answer.tokens()?)?;
                minted += 1;
                bail!("it signs");
            }
            assert_eq!((answer.status.as_u16(), answer.error()), (503, "temporarily_unavailable"));
        }
        Ok(began.elapsed())
    })
    .await?;
    ensure!(stopped >= Duration::from_secs(STALENESS_SECONDS - 10), "stopped after {stopped:?}");
    it_signs_nothing_and_goes_on(&[(&cut, &token), (&dashboard, &doomed)], &known).await?;
    let complaint = scene.replicas()[1].operator()?.readiness().await?.context("it is ready")?;
    ensure!(complaint.contains("confirmed nothing"), "{complaint}");
    // The other one signs all the while.
    token = refresh_token(&near.refresh(&token).await?.tokens()?)?;

    drop(traps);
    let healed = Instant::now();
    let healed = eventually(SLACK, async || {
        let missing = scene.replicas()[1].operator()?.readiness().await?;
        ensure!(missing.is_none(), "{missing:?}");
        Ok(healed.elapsed())
    })
    .await?;
    assert_eq!(keys(&cut).await?, keys(&near).await?);
    assert_eq!(dashboard.refresh(&doomed).await?.error(), "invalid_client");
    token = refresh_token(&cut.refresh(&token).await?.tokens()?)?;
    // Its client is gone, so nobody can refresh it ever again.
    here.kubectl(&["delete", "session", &session_of(&doomed)?])?;
    let reckoning = Held::of(vec![token]).reckon(&scene).await?;
    assert_eq!((reckoning.live, reckoning.revoked.len()), (1, 0));
    println!(
        "replica without news (bound {STALENESS_SECONDS} s): {minted} tokens within it, none after {stopped:?}, ready again {healed:?} after news came: {reckoning:?}"
    );
    Ok(())
}

//! Signing keys rotate under two API servers that hold the key set in memory, and nobody is refused.
//!
//! Two replicas sign, one of them leads, and both API servers fetch keys from the first. Both API servers are
//! of one cluster. One is made to fetch the key set as often as it may, by what any
//! stranger can send it: tokens of a key nobody knows. The other fetches only when it must, so its copy is
//! as old as can be. Every token is presented once, to both, for an API server remembers for 10 s what it took.
//!
//! The staleness and skew bounds are short here, for time; max-age is 45 s. `CLAVIGER_E2E_REAL_BOUNDS=1` takes
//! the real ones and a quarter of an hour.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use claviger_jose::{Algorithm, PrivateKey, Signer};
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LOCAL_USER, SCOPE};
use claviger_testkit::{
    Authentication, ControlPlane, Directory, Installation, RelyingParty, Scene, Setup, eventually,
    operator,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use kube::Client;
use reqwest::{Certificate, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// ID tokens live as short as the schema allows.
const TOKEN_SECONDS: i64 = 60;
/// Between two tokens of one user.
const PACE: Duration = Duration::from_millis(150);
/// Between two tokens of a stranger.
const STRANGER: Duration = Duration::from_secs(1);
/// What a loaded machine may add to anything.
const SLACK: Duration = Duration::from_mins(1);
/// Least checks, on however slow a machine.
const CHECKS: usize = 1_000;
/// Tokens of the retired key, per API server.
const RETIRED: usize = 50;
/// Secret of the SigningKey `main`.
const KEYS: &str = "claviger-signing-key-main";

/// What the replicas are told.
struct Bounds {
    flags: &'static [&'static str],
    lead: Duration,
}

impl Bounds {
    fn of_this_run() -> Self {
        if std::env::var_os("CLAVIGER_E2E_REAL_BOUNDS").is_some() {
            return Self { flags: &[], lead: Duration::from_secs(60 + 60 + 150) };
        }
        let flags =
            &["--jwks-max-age-seconds=45", "--clock-skew-seconds=2", "--staleness-seconds=15"];
        Self { flags, lead: Duration::from_secs(45 + 2 + 15) }
    }
}

/// One API server, as somebody with a token meets it.
#[derive(Clone)]
struct ApiServer {
    url: String,
    http: reqwest::Client,
    admin: Client,
}

impl ApiServer {
    fn new(url: String, authority_pem: &str, admin: Client) -> Result<Self> {
        let certificate = Certificate::from_pem(authority_pem.as_bytes())?;
        let http = reqwest::Client::builder()
            .tls_certs_only([certificate])
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { url, http, admin })
    }

    /// Whether it takes this token.
    async fn accepts(&self, token: &str) -> Result<bool> {
        let url = format!("{}/apis/authentication.k8s.io/v1/selfsubjectreviews", self.url);
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let answer = self.http.post(url).bearer_auth(token).json(&review).send().await?;
        match answer.status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::UNAUTHORIZED => Ok(false),
            other => bail!("{} says {other}: {}", self.url, answer.text().await?),
        }
    }

    /// When it last fetched the key set, and which set that was.
    async fn key_set(&self) -> Result<(f64, String)> {
        const METRIC: &str = "apiserver_authentication_jwt_authenticator_jwks_fetch_last_";
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let metrics = self.admin.request_text(request).await?;
        let mut ours = metrics.lines().filter_map(|line| line.strip_prefix(METRIC));
        let success = |line: &&str| {
            line.starts_with("timestamp_seconds{") && line.contains(r#"result="success""#)
        };
        let fetched = ours.clone().find(success).context("it has fetched no key set")?;
        let at = fetched.rsplit(' ').next().context("no value")?.parse()?;
        let hash =
            ours.find_map(|line| line.strip_prefix("key_set_info{")?.split(r#",hash=""#).nth(1));
        Ok((at, hash.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()))
    }
}

/// What came of all checks.
#[derive(Default)]
struct Figures {
    accepted: AtomicUsize,
    rejected: AtomicUsize,
    /// Refreshes that had to be tried again: no token, so none was rejected.
    waited: AtomicUsize,
    strangers: AtomicUsize,
}

impl Figures {
    fn count(&self, accepted: bool) {
        let which = if accepted { &self.accepted } else { &self.rejected };
        which.fetch_add(1, Ordering::Relaxed);
    }

    fn all(&self) -> [usize; 4] {
        [&self.accepted, &self.rejected, &self.waited, &self.strangers]
            .map(|figure| figure.load(Ordering::Relaxed))
    }
}

/// Everybody who acts while keys rotate.
struct Crowd {
    figures: Arc<Figures>,
    over: Arc<AtomicBool>,
    tasks: JoinSet<Result<()>>,
}

impl Crowd {
    /// One user a replica, who refreshes there and shows each fresh ID token to every API server; and a
    /// stranger.
    async fn gather(parties: &[RelyingParty], servers: &[ApiServer]) -> Result<Self> {
        let mut crowd =
            Self { figures: Arc::default(), over: Arc::default(), tasks: JoinSet::new() };
        for party in parties {
            let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
            let (party, servers) = (party.clone(), servers.to_vec());
            let (figures, over) = (Arc::clone(&crowd.figures), Arc::clone(&crowd.over));
            crowd.tasks.spawn(use_tokens(party, tokens, servers, figures, over));
        }
        let template = claims(text(&parties[0].log_in(SCOPE, LOCAL_USER).await?, "id_token")?)?;
        let (server, figures) = (servers[0].clone(), Arc::clone(&crowd.figures));
        crowd.tasks.spawn(disturb(server, template, figures, Arc::clone(&crowd.over)));
        Ok(crowd)
    }

    /// Ends everybody's work; what came of it.
    async fn disperse(mut self) -> Result<[usize; 4]> {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.figures.all())
    }
}

async fn use_tokens(
    party: RelyingParty,
    mut tokens: Value,
    servers: Vec<ApiServer>,
    figures: Arc<Figures>,
    over: Arc<AtomicBool>,
) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut checks = JoinSet::new();
        for server in servers.clone() {
            let token = text(&tokens, "id_token")?.to_owned();
            checks.spawn(async move { server.accepts(&token).await });
        }
        while let Some(accepted) = checks.join_next().await {
            figures.count(accepted??);
        }
        tokio::time::sleep(PACE).await;
        let refresh = text(&tokens, "refresh_token")?.to_owned();
        tokens = refreshed(&party, &refresh, &figures).await?;
    }
    Ok(())
}

/// A replica that is not sure of itself says when to come again; that is no token, and none refused.
async fn refreshed(party: &RelyingParty, refresh: &str, figures: &Figures) -> Result<Value> {
    let end = Instant::now() + SLACK;
    loop {
        let answer = party.refresh(refresh).await?;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE || Instant::now() >= end {
            return answer.tokens();
        }
        figures.waited.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PACE).await;
    }
}

/// Shows an API server tokens of keys nobody published, so that it fetches the key set whenever it may.
async fn disturb(
    server: ApiServer,
    template: Value,
    figures: Arc<Figures>,
    over: Arc<AtomicBool>,
) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let key = PrivateKey::generate(Algorithm::ES256, 2048)?;
        ensure!(!server.accepts(&forged(&key, &template)?).await?, "a stranger's token is taken");
        figures.strangers.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(STRANGER).await;
    }
    Ok(())
}

/// A token like the template, made now, and signed by this key.
fn forged(key: &PrivateKey, template: &Value) -> Result<String> {
    let now = now()?;
    let mut claims = template.clone();
    claims["iat"] = now.into();
    claims["exp"] = (now + TOKEN_SECONDS).into();
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    claims["jti"] = format!("forged-{serial}").into();
    Ok(Signer::new(key)?.sign(None, &claims)?)
}

/// Makes every forged token another one.
static NEXT: AtomicUsize = AtomicUsize::new(0);

#[expect(clippy::disallowed_methods, reason = "the outermost edge of the test")]
fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no {name} in {value}"))
}

fn kid(token: &str) -> Result<String> {
    let header = token.split('.').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(header.as_bytes())?)?;
    Ok(text(&header, "kid")?.to_owned())
}

/// The keys in the JWKS, and for how long a copy may be kept.
async fn published(party: &RelyingParty) -> Result<(Vec<String>, String)> {
    let answer = party.http().get(party.endpoint("jwks_uri")?).send().await?.error_for_status()?;
    let keep = answer.headers()["cache-control"].to_str()?.to_owned();
    let set: Value = answer.json().await?;
    let keys = set["keys"].as_array().context("no keys")?;
    Ok((keys.iter().map(|key| text(key, "kid").map(str::to_owned)).collect::<Result<_>>()?, keep))
}

/// The kid of the key in this state, as status tells.
fn key_in_state(here: &Installation, state: &str) -> Result<String> {
    let path = format!("jsonpath={{.status.keys[?(@.state==\"{state}\")].kid}}");
    let kid = here.kubectl(&["get", "signingkey", "main", "-o", &path])?;
    ensure!(!kid.is_empty() && !kid.contains(' '), "{state}: {kid:?}");
    Ok(kid)
}

/// What only an administrator can read: a private key.
fn private_key(here: &Installation, kid: &str) -> Result<PrivateKey> {
    let path = format!("jsonpath={{.data.{kid}\\.pem}}");
    let encoded = here.kubectl(&["get", "secret", KEYS, "-o", &path])?;
    let pem = String::from_utf8(BASE64.decode(encoded.as_bytes())?)?;
    Ok(PrivateKey::from_pkcs8_pem(Algorithm::RS256, &pem)?)
}

/// Asks for a rotation and waits for it with the commands of `docs/keys.md`; how long it took.
fn rotate(here: &Installation, request: i32, lead: Duration) -> Result<Duration> {
    let began = Instant::now();
    let patch = format!("{{\"spec\":{{\"rotationRequest\":{request}}}}}");
    let timeout = format!("--timeout={}s", (lead + SLACK).as_secs());
    tokio::task::block_in_place(|| {
        here.kubectl(&["patch", "signingkey", "main", "--type=merge", "-p", &patch])?;
        here.kubectl(&["wait", "signingkey/main", "--for=condition=Rotated", &timeout])
    })?;
    Ok(began.elapsed())
}

/// The example on a control plane of its own, and two API servers that trust its issuer.
async fn set_the_scene(bounds: &Bounds) -> Result<(Cluster, Scene)> {
    let mut plane = ControlPlane::start(ControlPlane::builder()).await?;
    let setup = Setup::new(Directory::None).replicas(2);
    let setup = bounds.flags.iter().fold(setup, |setup, flag| setup.flag(*flag));
    let scene = Scene::start_as(Installation::create(&plane).await?, &setup, |manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["lifetimes"] = json!({
                "idTokenLifetimeSeconds": TOKEN_SECONDS,
                "accessTokenLifetimeSeconds": TOKEN_SECONDS,
            });
        }
    })
    .await?;
    let here = scene.installation();
    let mut claviger = std::process::Command::new(operator::binary()?);
    claviger
        .args(["authentication-config", "--issuer", "main", "--namespace", here.namespace()])
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .arg("--certificate-authority")
        .arg(here.authority_file()?);
    let printed = claviger.output()?;
    ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let configuration = Authentication::Configuration(String::from_utf8(printed.stdout)?);
    plane.restart_api_server_with(&configuration).await?;
    let another = plane.start_another_api_server().await?;
    let authority = std::fs::read_to_string(plane.ca_file())?;
    let servers = [
        ApiServer::new(plane.url()?, &authority, plane.admin().await?)?,
        ApiServer::new(another.url().to_owned(), &authority, another.admin().clone())?,
    ];
    Ok((Cluster { servers, _plane: plane, _another: another }, scene))
}

struct Cluster {
    servers: [ApiServer; 2],
    _another: claviger_testkit::AnotherApiServer,
    _plane: claviger_testkit::RunningControlPlane,
}

#[tokio::test(flavor = "multi_thread")]
async fn three_rotations_refuse_no_token_and_a_retired_key_opens_nothing() -> Result<()> {
    let bounds = Bounds::of_this_run();
    let (cluster, scene) = set_the_scene(&bounds).await?;
    let here = scene.installation();
    let party = scene.relying_party().await?;
    let first_token = party.log_in(SCOPE, LOCAL_USER).await?;
    let first_token = text(&first_token, "id_token")?;
    for server in &cluster.servers {
        eventually(SLACK, async || {
            ensure!(server.accepts(first_token).await?, "it has not reached the issuer");
            Ok(())
        })
        .await?;
    }
    let first = key_in_state(here, "Active")?;
    assert_eq!(kid(first_token)?, first);
    let retired = private_key(here, &first)?;
    let template = claims(first_token)?;
    let control = forged(&retired, &template)?;
    ensure!(cluster.servers[0].accepts(&control).await?, "the forgery itself is wrong");

    let crowd = Crowd::gather(&scene.relying_parties().await?, &cluster.servers).await?;
    let mut active = first.clone();
    for request in 1..=3 {
        let next = eventually(SLACK, async || key_in_state(here, "Published")).await?;
        ensure!(published(&party).await?.0.contains(&next), "the next key is not in the JWKS");
        let took = rotate(here, request, bounds.lead)?;
        active = key_in_state(here, "Active")?;
        assert_eq!(active, next, "what was published before signs now");
        println!("rotation {request} took {} s; so far {:?}", took.as_secs(), crowd.figures.all());
    }
    // The last key in use, by everybody, for a while.
    eventually(SLACK, async || {
        let tokens = party.log_in(SCOPE, LOCAL_USER).await?;
        ensure!(kid(text(&tokens, "id_token")?)? == active, "not signed by the newest key");
        Ok(())
    })
    .await?;
    let until = Duration::from_secs(TOKEN_SECONDS.unsigned_abs()) + bounds.lead;
    eventually(until + SLACK, async || {
        ensure!(!published(&party).await?.0.contains(&first), "still published");
        Ok(())
    })
    .await?;
    let left_at = now()?;
    eventually(SLACK * 5, async || {
        let [accepted, ..] = crowd.figures.all();
        ensure!(accepted >= CHECKS, "only {accepted} checks");
        Ok(())
    })
    .await?;
    let [accepted, rejected, waited, strangers] = crowd.disperse().await?;
    println!(
        "{accepted} accepted, {rejected} rejected, {waited} refreshes waited, {strangers} strangers"
    );
    assert_eq!(rejected, 0);
    assert!(accepted >= CHECKS, "only {accepted} checks");

    for server in &cluster.servers {
        refuses_what_is_retired(server, &retired, &template, left_at).await?;
    }
    Ok(())
}

/// Once the API server has fetched the key set again, no token of the retired key opens it.
async fn refuses_what_is_retired(
    server: &ApiServer,
    retired: &PrivateKey,
    template: &Value,
    left_at: i64,
) -> Result<()> {
    let held = server.accepts(&forged(retired, template)?).await?;
    let (before, _) = server.key_set().await?;
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let (fetched, hash) = eventually(SLACK * 2, async || {
        let stranger = PrivateKey::generate(Algorithm::ES256, 2048)?;
        ensure!(
            !server.accepts(&forged(&stranger, template)?).await?,
            "a stranger's token is taken"
        );
        let (at, hash) = server.key_set().await?;
        ensure!(at > left_at as f64 + 1.0, "its key set is of {at}, the key left at {left_at}");
        Ok((at, hash))
    })
    .await?;
    let mut accepted = 0;
    for _ in 0..RETIRED {
        accepted += usize::from(server.accepts(&forged(retired, template)?).await?);
    }
    println!(
        "{}: retired key accepted before the refetch: {held}; fetched {:.0} s later ({hash}); then {accepted} of \
         {RETIRED} accepted",
        server.url,
        fetched - before
    );
    assert_eq!(accepted, 0, "{}", server.url);
    Ok(())
}

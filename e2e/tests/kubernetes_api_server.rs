//! The first thing our ID tokens open is the cluster's own API server: told by what
//! `claviger authentication-config` prints, as a file or as the older flags, and asked by stock kubectl.
//!
//! Each story has a control plane of its own: one API server is told one thing.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::installation::repository;
use claviger_testkit::relying_party::claims;
use claviger_testkit::scene::{LDAP_USER, Manifests, REDIRECT_URI, SCOPE};
use claviger_testkit::{
    AuditMark, Authentication, ControlPlane, Directory, Installation, RelyingParty,
    RunningControlPlane, Scene, TestNamespace, eventually, identity, operator,
};
use data_encoding::BASE64URL_NOPAD;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

/// An API server asks an issuer it has not reached again every 10 s.
const ISSUER_KNOWN: Duration = Duration::from_secs(30);
/// Where the audit log and `kubectl auth whoami` show a token's `jti`.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// A control plane and, in it, the example with a directory.
async fn cluster(change: impl FnOnce(&mut Manifests)) -> Result<(RunningControlPlane, Scene)> {
    let plane = ControlPlane::start(ControlPlane::builder()).await?;
    let installation = Installation::create(&plane).await?;
    let scene = Scene::start_in(installation, Directory::Slapd, change).await?;
    Ok((plane, scene))
}

/// What `claviger authentication-config` prints for the example's issuer.
fn authentication_config(scene: &Scene, format: &str) -> Result<String> {
    let installation = scene.installation();
    let mut claviger = Command::new(operator::binary()?);
    claviger
        .args(["authentication-config", "--issuer", "main", "--format", format])
        .args(["--namespace", installation.namespace(), "--kubeconfig"])
        .arg(installation.plane().kubeconfig())
        .arg("--certificate-authority")
        .arg(installation.authority_file()?);
    printed(claviger.output().context("failed to run claviger")?)
}

/// An `AuthenticationConfiguration`, for an API server that is started with it.
fn configuration_file(scene: &Scene) -> Result<Authentication> {
    Ok(Authentication::Configuration(authentication_config(scene, "config")?))
}

/// The older flags.
fn legacy_flags(scene: &Scene) -> Result<Authentication> {
    let flags = authentication_config(scene, "flags")?;
    Ok(Authentication::LegacyOidc(flags.lines().map(str::to_owned).collect()))
}

fn printed(output: Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no {name} in {value}"))
}

/// Somebody with stock kubectl and a kubeconfig file of their own.
struct User<'a> {
    plane: &'a ControlPlane,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl<'a> User<'a> {
    /// One whose credential is what these arguments of `kubectl config set-credentials` say.
    fn create(scene: &'a Scene, name: &str, credential: &[String]) -> Result<Self> {
        let plane = scene.installation().plane();
        let home = scene.installation().folder().to_owned();
        let user = Self { plane, kubeconfig: home.join(format!("{name}.kubeconfig")), home };
        let server = format!("--server={}", plane.url()?);
        let authority = format!("--certificate-authority={}", plane.ca_file().display());
        user.kubectl(&["config", "set-cluster", "here", &server, &authority])?;
        let mut set_credentials = vec!["config", "set-credentials", name];
        set_credentials.extend(credential.iter().map(String::as_str));
        user.kubectl(&set_credentials)?;
        let of_user = format!("--user={name}");
        user.kubectl(&["config", "set-context", "here", "--cluster=here", &of_user])?;
        user.kubectl(&["config", "use-context", "here"])?;
        Ok(user)
    }

    /// One whose credential is this token.
    fn with_token(scene: &'a Scene, name: &str, token: &str) -> Result<Self> {
        Self::create(scene, name, &[format!("--token={token}")])
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut kubectl = self.plane.kubectl();
        kubectl.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home).args(arguments);
        kubectl.output().context("failed to run kubectl")
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        printed(self.run(arguments)?)
    }

    /// Who the API server says they are.
    fn whoami(&self) -> Result<Value> {
        let review: Value =
            serde_json::from_str(&self.kubectl(&["auth", "whoami", "-o", "json"])?)?;
        Ok(review["status"]["userInfo"].clone())
    }

    /// The same, once the API server has reached the issuer.
    async fn known(&self) -> Result<Value> {
        eventually(ISSUER_KNOWN, async || self.whoami()).await
    }

    /// The API server does not let them in; the line in which its log says why.
    async fn refusal(&self) -> Result<String> {
        let log = self.plane.state_folder().join("kube-apiserver.log");
        let before = std::fs::read_to_string(&log)?.len();
        let output = self.run(&["auth", "whoami"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains("Unauthorized"), "not refused: {said}");
        eventually(Duration::from_secs(5), async || {
            let now = std::fs::read_to_string(&log)?;
            let mut new = now.get(before..).unwrap_or_default().lines();
            let line = new.find(|line| line.contains("Unable to authenticate the request"));
            Ok(line.context("no reason in the API server's log")?.to_owned())
        })
        .await
    }

    /// A value from their credential in the kubeconfig file.
    fn stored(&self, name: &str) -> Result<String> {
        let path = format!("jsonpath={{.users[0].user.auth-provider.config.{name}}}");
        let value = self.kubectl(&["config", "view", "--raw", "-o", &path])?;
        ensure!(!value.is_empty(), "no {name} in the kubeconfig file");
        Ok(value)
    }
}

fn assert_alice(user: &Value) {
    assert_eq!(user["username"], "oidc:alice@example.com");
    assert_eq!(user["groups"], json!(["oidc:corp:developers", "system:authenticated"]));
}

/// A second client of the issuer, on users' own devices.
fn dashboard() -> Value {
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": "dashboard"},
        "spec": {
            "issuerRef": {"name": "main"},
            "type": "Public",
            "redirectURIs": [REDIRECT_URI],
            "consent": "Skip",
        },
    })
}

/// The audit log's lines about requests of `user` in this namespace.
fn audited(plane: &ControlPlane, user: &str, namespace: &str) -> Result<Vec<Value>> {
    let log = std::fs::read_to_string(plane.state_folder().join("audit.log"))?;
    let mut events: Vec<Value> = Vec::new();
    for line in log.lines().filter(|line| line.contains(user)) {
        events.push(serde_json::from_str(line)?);
    }
    events.retain(|event| {
        event["user"]["username"] == user && event["objectRef"]["namespace"] == namespace
    });
    Ok(events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_user_may_do_what_rbac_gives_their_group_and_no_other_token_lets_them_in()
-> Result<()> {
    let (mut plane, scene) = cluster(|manifests| manifests.push(dashboard())).await?;
    plane.restart_api_server_with(&configuration_file(&scene)?).await?;
    let tokens = scene.relying_party().await?.log_in(SCOPE, LDAP_USER).await?;
    let id_token = text(&tokens, "id_token")?;
    let alice = User::with_token(&scene, "alice", id_token)?;

    let user = alice.known().await?;
    assert_alice(&user);
    let credential = format!("JTI={}", text(&claims(id_token)?, "jti")?);
    assert_eq!(user["extra"][CREDENTIAL_ID], json!([credential]));

    let namespace = TestNamespace::create(&plane.admin().await?, "app").await?.name().to_owned();
    let role =
        std::fs::read_to_string(repository().join("examples/quickstart/rbac/pod-reader.yaml"))?;
    scene.installation().apply_in(&namespace, &role)?;
    eventually(Duration::from_secs(10), async || {
        alice.kubectl(&["get", "pods", "-n", &namespace]) // the authorizer learns of roles by watching
    })
    .await?;
    let secrets = alice.run(&["get", "secrets", "-n", &namespace])?;
    let said = String::from_utf8_lossy(&secrets.stderr);
    ensure!(!secrets.status.success() && said.contains("Forbidden"), "not forbidden: {said}");

    let events = audited(&plane, "oidc:alice@example.com", &namespace)?;
    ensure!(events.iter().any(|event| event["responseStatus"]["code"] == 403), "{events:?}");
    for event in &events {
        assert_eq!(event["user"]["extra"][CREDENTIAL_ID], json!([credential]), "{event}");
    }

    // A JWT of our issuer, signed by the same key: its audience is all that an API server goes by.
    let access = User::with_token(&scene, "access", text(&tokens, "access_token")?)?;
    let why = access.refusal().await?;
    let audience =
        format!(r#"expected audience \"kubernetes\" got [\"{}/userinfo\"]"#, scene.issuer());
    ensure!(why.contains(&audience), "refused for another reason: {why}");

    let authority = scene.installation().authority().certificate_pem();
    scene.installation().wait_for("oauth2client/dashboard", "Ready").await?;
    let dashboard =
        RelyingParty::discover(&scene.issuer(), authority, ("dashboard", None), REDIRECT_URI)
            .await?;
    let tokens = dashboard.log_in(SCOPE, LDAP_USER).await?;
    let other = User::with_token(&scene, "other", text(&tokens, "id_token")?)?;
    let why = other.refusal().await?;
    ensure!(why.contains("expected audience"), "refused for another reason: {why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_flags_make_the_same_user_of_the_same_token() -> Result<()> {
    let (mut plane, scene) = cluster(|_| ()).await?;
    let tokens = scene.relying_party().await?.log_in(SCOPE, LDAP_USER).await?;
    let alice = User::with_token(&scene, "alice", text(&tokens, "id_token")?)?;
    plane.restart_api_server_with(&configuration_file(&scene)?).await?;
    let by_file = alice.known().await?;
    assert_alice(&by_file);
    plane.restart_api_server_with(&legacy_flags(&scene)?).await?;
    assert_eq!(alice.known().await?, by_file);
    Ok(())
}

/// A second key for the issuer, of another algorithm.
fn add_es256_key(manifests: &mut Manifests) {
    manifests.push(json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "SigningKey",
        "metadata": {"name": "elliptic"},
        "spec": {"algorithm": "ES256"},
    }));
    if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
        issuer["spec"]["signingKeys"] = json!([{"name": "main"}, {"name": "elliptic"}]);
    }
}

fn algorithm(token: &str) -> Result<Value> {
    let header = token.split('.').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(header.as_bytes())?)?;
    Ok(header["alg"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_es256_is_accepted_beside_one_with_rs256() -> Result<()> {
    let (mut plane, scene) = cluster(add_es256_key).await?;
    plane.restart_api_server_with(&configuration_file(&scene)?).await?;
    let party = scene.relying_party().await?;
    let before = party.log_in(SCOPE, LDAP_USER).await?;
    assert_eq!(algorithm(text(&before, "id_token")?)?, "RS256");
    let rsa = User::with_token(&scene, "rsa", text(&before, "id_token")?)?;
    assert_alice(&rsa.known().await?);

    let patch = r#"{"spec":{"idTokenSigningAlgorithm":"ES256"}}"#;
    let arguments = ["patch", "oauth2client", "kubernetes", "--type=merge", "-p", patch];
    scene.installation().kubectl(&arguments)?;
    let after = eventually(Duration::from_secs(10), async || {
        let tokens = party.log_in(SCOPE, LDAP_USER).await?;
        let algorithm = algorithm(text(&tokens, "id_token")?)?;
        ensure!(algorithm == "ES256", "still {algorithm}");
        Ok(tokens)
    })
    .await?;
    let elliptic = User::with_token(&scene, "elliptic", text(&after, "id_token")?)?;
    assert_alice(&elliptic.whoami()?);
    assert_alice(&rsa.whoami()?);

    // The older flags take RS256 alone unless they are told: the command tells them.
    plane.restart_api_server_with(&legacy_flags(&scene)?).await?;
    assert_alice(&elliptic.known().await?);
    assert_alice(&rsa.whoami()?);
    Ok(())
}

/// Waits until the API server no longer lets this user in; it remembers a token it took for up to 10 s.
async fn until_expired(user: &User<'_>) -> Result<()> {
    let client = identity::client_from_file(&user.kubeconfig).await?;
    let reviews: Api<SelfSubjectReview> = Api::all(client);
    eventually(Duration::from_secs(100), async || {
        match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await {
            Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
            other => Err(anyhow::anyhow!("the ID token has not expired: {other:?}")),
        }
    })
    .await
}

/// The credential of `docs/kubernetes-api-server.md`: kubectl's built-in `oidc` provider.
async fn auth_provider(scene: &Scene, tokens: &Value) -> Result<Vec<String>> {
    let authority = scene.installation().authority_file()?.display().to_string();
    let secret = scene.client_secret().await?;
    let arguments = [
        ("idp-issuer-url", scene.issuer().as_str()),
        ("idp-certificate-authority", &authority),
        ("client-id", "kubernetes"),
        ("client-secret", &secret),
        ("id-token", text(tokens, "id_token")?),
        ("refresh-token", text(tokens, "refresh_token")?),
    ]
    .map(|(name, value)| format!("--auth-provider-arg={name}={value}"));
    Ok([vec!["--auth-provider=oidc".to_owned()], arguments.to_vec()].concat())
}

/// What the operator asked of the API server since `mark`, as `what × how often`.
fn requests(scene: &Scene, mark: AuditMark) -> Result<String> {
    let counts = scene.installation().requests_since(mark)?;
    let lines: Vec<_> = counts.iter().map(|(what, count)| format!("{what} × {count}")).collect();
    Ok(lines.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_kubectl_refreshes_an_expired_id_token_by_itself_and_once() -> Result<()> {
    let (mut plane, scene) = cluster(|manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["lifetimes"] = json!({"idTokenLifetimeSeconds": 60});
        }
    })
    .await?;
    plane.restart_api_server_with(&configuration_file(&scene)?).await?;
    let tokens = scene.relying_party().await?.log_in(SCOPE, LDAP_USER).await?;
    let (first, refresh) = (text(&tokens, "id_token")?, text(&tokens, "refresh_token")?);
    let bare = User::with_token(&scene, "bare", first)?;
    assert_alice(&bare.known().await?);
    let alice = User::create(&scene, "alice", &auth_provider(&scene, &tokens).await?)?;

    until_expired(&bare).await?;
    let why = bare.refusal().await?;
    ensure!(why.contains("token is expired"), "refused for another reason: {why}");
    let mark = plane.audit_log().mark()?;
    assert_alice(&alice.whoami()?);
    assert_eq!(requests(&scene, mark)?, "get sessions × 1, patch sessions × 1");
    let (second, rotated) = (alice.stored("id-token")?, alice.stored("refresh-token")?);
    ensure!(second != first && rotated != refresh, "the kubeconfig file holds the old tokens");
    assert_eq!(algorithm(&second)?, "RS256");

    assert_alice(&alice.whoami()?);
    assert_eq!(requests(&scene, mark)?, "get sessions × 1, patch sessions × 1");
    assert_eq!(alice.stored("id-token")?, second);
    assert_eq!(alice.stored("refresh-token")?, rotated);
    Ok(())
}

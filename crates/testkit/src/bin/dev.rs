//! `make up` and `make demo`: a cluster's control plane with Claviger, a directory and a signed-in
//! user, held until it is told to end. What others need to use it stands in `env`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use claviger_testkit::scene::{LDAP_USER, Manifests, REDIRECT_URI, SCOPE};
use claviger_testkit::{ControlPlane, Directory, Installation, Scene, operator};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

const HOME: &str = "claviger-system";

/// Brings everything up, writes `env` into the state folder, and holds it until SIGTERM.
#[derive(Parser)]
struct Args {
    /// Folder for everything that is written.
    #[arg(long)]
    state: PathBuf,
    /// Lifetime of ID tokens, in seconds.
    #[arg(long, default_value_t = 600)]
    id_token_seconds: i64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let state = std::path::absolute(&args.state)?;
    std::fs::create_dir_all(&state).context("failed to make the state folder")?;
    std::fs::write(state.join("pid"), std::process::id().to_string())
        .context("failed to write the pid file")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        ended = hold(&state, args.id_token_seconds) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn hold(state: &Path, id_token_seconds: i64) -> Result<()> {
    step("etcd and kube-apiserver: starting");
    let plane =
        ControlPlane::start(ControlPlane::builder().state_folder(state.join("plane"))).await?;
    step("Claviger: definitions, roles and the tenant policy applied; operator starting");
    let scene = install(&plane, id_token_seconds).await?;
    step("kube-apiserver: told to trust the issuer (`claviger authentication-config`)");
    let configuration = authentication_config(&plane, &scene)?;
    plane.set_authentication_config(&configuration).await?;
    scene.installation().apply_in("default", &role())?;
    step(&format!("{} signs in", LDAP_USER.username));
    let tokens = scene.relying_party().await?.log_in(SCOPE, LDAP_USER).await?;
    let user = user_kubeconfig(state, &plane, &scene, &tokens).await?;
    write_env(state, &plane, &scene, &user).await?;
    step(&format!("everything is up: source {}", state.join("env").display()));
    std::future::pending().await
}

async fn install(plane: &ControlPlane, id_token_seconds: i64) -> Result<Scene> {
    kubectl(plane, &["create", "namespace", HOME])?;
    let policy = repository_file("deploy/admission/tenant-client-ids.yaml");
    let installation = Installation::in_namespaces(plane, HOME.to_owned(), Vec::new())?;
    kubectl(plane, &["apply", "--server-side", "-f", &policy])?;
    let change = |manifests: &mut Manifests| {
        if let Ok(issuer) = manifests.find("OIDCIssuer", "main") {
            issuer["spec"]["lifetimes"] = json!({"idTokenLifetimeSeconds": id_token_seconds});
        }
    };
    Scene::start_in(installation, Directory::Slapd, change).await
}

fn role() -> String {
    std::fs::read_to_string(repository_file("examples/quickstart/rbac/pod-reader.yaml"))
        .unwrap_or_default()
}

fn authentication_config(plane: &ControlPlane, scene: &Scene) -> Result<String> {
    let authority = scene.installation().authority_file()?;
    let mut claviger = Command::new(operator::binary()?);
    claviger
        .args(["authentication-config", "--issuer", "main", "--namespace", HOME, "--kubeconfig"])
        .arg(plane.kubeconfig())
        .arg("--certificate-authority")
        .arg(authority);
    output(claviger)
}

/// What a user's own kubeconfig looks like: stock kubectl with its built-in `oidc` provider.
async fn user_kubeconfig(
    state: &Path,
    plane: &ControlPlane,
    scene: &Scene,
    tokens: &Value,
) -> Result<PathBuf> {
    let file = state.join("user.kubeconfig");
    let text = |name: &str| tokens[name].as_str().unwrap_or_default().to_owned();
    let argument = |name: &str, value: String| format!("--auth-provider-arg={name}={value}");
    let authority = scene.installation().authority_file()?.display().to_string();
    let credentials = [
        "config".to_owned(),
        "set-credentials".to_owned(),
        LDAP_USER.username.to_owned(),
        "--auth-provider=oidc".to_owned(),
        argument("idp-issuer-url", scene.issuer()),
        argument("idp-certificate-authority", authority),
        argument("client-id", "kubernetes".to_owned()),
        argument("client-secret", scene.client_secret().await?),
        argument("id-token", text("id_token")),
        argument("refresh-token", text("refresh_token")),
    ];
    let ca = format!("--certificate-authority={}", plane.ca_file().display());
    let server = format!("--server={}", plane.url()?);
    let run = |arguments: &[&str]| {
        let mut kubectl = Command::new(plane.bin_folder().join("kubectl"));
        kubectl.env("KUBECONFIG", &file).args(arguments);
        output(kubectl).map(drop)
    };
    run(&["config", "set-cluster", "here", &server, &ca])?;
    run(&credentials.iter().map(String::as_str).collect::<Vec<_>>())?;
    let user = format!("--user={}", LDAP_USER.username);
    run(&["config", "set-context", "here", "--cluster=here", &user])?;
    run(&["config", "use-context", "here"])?;
    Ok(file)
}

async fn write_env(state: &Path, plane: &ControlPlane, scene: &Scene, user: &Path) -> Result<()> {
    let authority = scene.installation().authority_file()?;
    let path = |path: &Path| path.display().to_string();
    let pairs = [
        ("KUBECONFIG", path(&plane.kubeconfig())),
        ("USER_KUBECONFIG", path(user)),
        ("ISSUER", scene.issuer()),
        ("CA_FILE", path(&authority)),
        ("CLIENT_ID", "kubernetes".to_owned()),
        ("CLIENT_SECRET", scene.client_secret().await?),
        ("REDIRECT_URI", REDIRECT_URI.to_owned()),
        ("LOGIN_USER", LDAP_USER.username.to_owned()),
        ("LOGIN_PASSWORD", LDAP_USER.password.to_owned()),
        ("LOGIN_CONNECTOR", LDAP_USER.connector.to_owned()),
        ("METRICS_URL", format!("{}/metrics", scene.serving().admin_url())),
        ("NAMESPACE", HOME.to_owned()),
    ];
    let mut text = String::new();
    for (name, value) in pairs {
        ensure!(!value.contains('\''), "{name} cannot be quoted for the shell");
        writeln!(text, "export {name}='{value}'")?;
    }
    writeln!(text, "export PATH='{}':\"$PATH\"", plane.bin_folder().display())?;
    // Whole or not at all: others wait for the file.
    let draft = state.join("env.new");
    std::fs::write(&draft, text).context("failed to write the env file")?;
    std::fs::rename(&draft, state.join("env")).context("failed to write the env file")
}

fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> Result<String> {
    let mut kubectl = plane.kubectl();
    kubectl.args(arguments);
    output(kubectl)
}

fn output(mut command: Command) -> Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to run {what}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn repository_file(path: &str) -> String {
    claviger_testkit::installation::repository().join(path).display().to_string()
}

fn step(what: &str) {
    println!("── {what}");
}

//! The chart, the manifests rendered from it and the examples, on a real API server.
//!
//! `helm install` makes an issuer in one step; its service account may do exactly what
//! [`HOME`], [`TENANT`], [`REGISTRATION`] and [`ANYWHERE`] list; its pod is admitted under the restricted standard;
//! `deploy/claviger.yaml` and every file in `examples/` are taken with strict validation, and what
//! `docs/` shows is what is applied here.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::{Authentication, ControlPlane, eventually};
use serde_json::{Value, json};

/// What the service account may do in its own namespace, besides [`ANYWHERE`].
const HOME: &[&str] = &[
    "get claviger.dev/oidcissuers",
    "list claviger.dev/oidcissuers",
    "watch claviger.dev/oidcissuers",
    "get claviger.dev/connectors",
    "list claviger.dev/connectors",
    "watch claviger.dev/connectors",
    "get claviger.dev/signingkeys",
    "list claviger.dev/signingkeys",
    "watch claviger.dev/signingkeys",
    "get claviger.dev/localusers",
    "list claviger.dev/localusers",
    "watch claviger.dev/localusers",
    "patch claviger.dev/oidcissuers/status",
    "patch claviger.dev/connectors/status",
    "patch claviger.dev/signingkeys/status",
    "patch claviger.dev/localusers/status",
    "create claviger.dev/sessions",
    "get claviger.dev/sessions",
    "list claviger.dev/sessions",
    "watch claviger.dev/sessions",
    "patch claviger.dev/sessions",
    "deletecollection claviger.dev/sessions",
    "create claviger.dev/deviceauthorizations",
    "list claviger.dev/deviceauthorizations",
    "watch claviger.dev/deviceauthorizations",
    "patch claviger.dev/deviceauthorizations",
    "deletecollection claviger.dev/deviceauthorizations",
    "delete /secrets",
    "list /configmaps",
    "watch /configmaps",
    "create coordination.k8s.io/leases",
    "get coordination.k8s.io/leases claviger-leader",
    "patch coordination.k8s.io/leases claviger-leader",
];
/// What it may do in its own namespace and in each of `tenantNamespaces`.
const TENANT: &[&str] =
    &["get /secrets", "list /secrets", "watch /secrets", "create /secrets", "update /secrets"];
/// What it may do in each of `registrationNamespaces` besides.
const REGISTRATION: &[&str] = &[
    "create claviger.dev/oauth2clients",
    "update claviger.dev/oauth2clients",
    "delete claviger.dev/oauth2clients",
];
/// What it may do in every namespace.
const ANYWHERE: &[&str] = &[
    "get claviger.dev/oauth2clients",
    "list claviger.dev/oauth2clients",
    "watch claviger.dev/oauth2clients",
    "patch claviger.dev/oauth2clients/status",
    "get /namespaces",
    "list /namespaces",
    "watch /namespaces",
    "create events.k8s.io/events",
    "patch events.k8s.io/events",
];
/// A policy takes a moment to be in force.
const SOON: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program with this input and hands on what it prints; the error holds what it complained about.
fn run(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {command:?}"))?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

fn kubectl(plane: &ControlPlane, arguments: &[&str], input: &str) -> Result<String> {
    run(plane.kubectl().args(arguments), input)
}

fn object(plane: &ControlPlane, arguments: &[&str]) -> Result<Value> {
    let text = kubectl(plane, &[&["get", "-o", "json"], arguments].concat(), "")?;
    Ok(serde_json::from_str(&text)?)
}

/// Applies a file or folder as strictly as kubectl can: no unknown field, no warning.
fn apply(plane: &ControlPlane, namespace: &str, path: &str) -> Result<String> {
    let strictly = ["apply", "--server-side", "--validate=strict", "--warnings-as-errors"];
    kubectl(plane, &[&strictly[..], &["--namespace", namespace, "--filename", path]].concat(), "")
}

fn create_namespace(plane: &ControlPlane, name: &str) -> Result<String> {
    kubectl(plane, &["create", "namespace", name], "")
}

/// Everything the user of this kubeconfig may do in a namespace, one line a verb and resource.
fn rights(plane: &ControlPlane, kubeconfig: &Path, namespace: &str) -> Result<BTreeSet<String>> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let mut command = plane.kubectl();
    command.arg("--kubeconfig").arg(kubeconfig).args([
        "create",
        "--validate=false",
        "-o",
        "json",
        "-f",
        "-",
    ]);
    let review: Value = serde_json::from_str(&run(&mut command, &review.to_string())?)?;
    ensure!(review["status"]["incomplete"] == json!(false), "the API server knows only a part");
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().into_iter().flatten();
        words.map(|word| word.as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in review["status"]["resourceRules"].as_array().context("no rules")? {
        let mut names = words(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        for verb in words(&rule["verbs"]) {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for name in &names {
                        let right = format!("{verb} {group}/{resource} {name}");
                        rights.insert(right.trim_end().to_owned());
                    }
                }
            }
        }
    }
    Ok(rights)
}

/// A kubeconfig of a service account that was given nothing: what everybody may do.
async fn nobody(plane: &ControlPlane) -> Result<PathBuf> {
    kubectl(plane, &["create", "serviceaccount", "nobody", "--namespace", "default"], "")?;
    plane.service_account_kubeconfig("default", "nobody").await
}

fn all(lists: &[&[&str]]) -> BTreeSet<String> {
    lists.iter().copied().flatten().map(|right| (*right).to_owned()).collect()
}

async fn the_service_account_has_exactly_its_rights(plane: &ControlPlane) -> Result<()> {
    let everybody = nobody(plane).await?;
    let account = plane.service_account_kubeconfig("home", "claviger").await?;
    for (namespace, expected) in [
        ("home", all(&[HOME, TENANT, ANYWHERE])),
        ("team-a", all(&[TENANT, ANYWHERE])),
        ("registered", all(&[TENANT, REGISTRATION, ANYWHERE])),
        ("default", all(&[ANYWHERE])),
    ] {
        let given = rights(plane, &everybody, namespace)?;
        let own: BTreeSet<String> =
            rights(plane, &account, namespace)?.difference(&given).cloned().collect();
        assert_eq!(own, expected, "rights in {namespace}");
    }
    Ok(())
}

fn no_role_for_people_holds_sessions(plane: &ControlPlane) -> Result<()> {
    for role in ["claviger-view", "claviger-edit", "claviger-admin"] {
        let role = object(plane, &["clusterrole", role])?;
        let rules = role["rules"].as_array().context("a role without rules")?;
        for resource in rules.iter().filter_map(|rule| rule["resources"].as_array()).flatten() {
            let kind = resource.as_str().unwrap_or_default();
            let is_ours = kind.contains("session") || kind.contains("device");
            assert!(!is_ours && !kind.contains('*'), "{role}");
        }
    }
    Ok(())
}

fn the_pod_is_admitted_as_restricted(plane: &ControlPlane) -> Result<()> {
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    kubectl(plane, &["label", "namespace", "home", enforce], "")?;
    let deployment = object(plane, &["deployment", "claviger", "--namespace", "home"])?;
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "claviger", "namespace": "home"},
        "spec": deployment["spec"]["template"]["spec"],
    });
    let token = &pod["spec"]["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "api://AzureADTokenExchange", "{token}");
    let create = ["create", "--dry-run=server", "--validate=strict", "--filename", "-"];
    kubectl(plane, &create, &pod.to_string())?;
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refusal = kubectl(plane, &create, &pod.to_string()).err();
    let refusal = refusal.context("nothing enforces the restricted standard")?.to_string();
    assert!(refusal.contains("restricted"), "{refusal}");
    Ok(())
}

fn client(namespace: &str) -> String {
    json!({
        "apiVersion": "claviger.dev/v1alpha1",
        "kind": "OAuth2Client",
        "metadata": {"name": "intruder", "namespace": namespace},
        "spec": {
            "issuerRef": {"name": "main", "namespace": "home"},
            "clientID": "kubernetes",
            "type": "Public",
            "redirectURIs": ["http://localhost:8000"],
        },
    })
    .to_string()
}

async fn only_home_namespaces_choose_client_ids(plane: &ControlPlane) -> Result<()> {
    let create = ["create", "--dry-run=server", "--filename", "-"];
    let refusal = eventually(SOON, async || {
        let answer = kubectl(plane, &create, &client("team-a"));
        Ok(answer.err().context("the policy is not in force")?.to_string())
    })
    .await?;
    assert!(refusal.contains("remove spec.clientID"), "{refusal}");
    kubectl(plane, &create, &client("home"))?;
    kubectl(plane, &create, &client("other-home"))?;
    Ok(())
}

#[tokio::test]
async fn helm_installs_an_issuer_in_one_step_with_least_privilege() -> Result<()> {
    let plane = ControlPlane::start(ControlPlane::builder()).await?;
    for namespace in ["home", "other-home", "team-a", "registered"] {
        create_namespace(&plane, namespace)?;
    }
    let values = [
        "issuer.url=https://id.example.com/main",
        "issuer.connectors={local}",
        "issuer.spec.lifetimes.idTokenLifetimeSeconds=60",
        "tenantNamespaces={team-a,registered}",
        "registrationNamespaces={registered}",
        "admissionPolicy.otherHomeNamespaces={other-home}",
        "azureFederatedToken.create=true",
    ];
    let mut install = plane.helm();
    install.args(["install", "claviger", "charts/claviger", "--namespace", "home"]);
    for value in values {
        install.args(["--set", value]);
    }
    let notes = run(&mut install, "")?;
    ensure!(notes.contains("claviger authentication-config --namespace home"), "{notes}");

    let issuer = object(&plane, &["oidcissuer", "main", "--namespace", "home"])?;
    assert_eq!(issuer["spec"]["url"], "https://id.example.com/main");
    assert_eq!(issuer["spec"]["lifetimes"]["idTokenLifetimeSeconds"], 60);
    assert_eq!(issuer["spec"]["signingKeys"], json!([{"name": "main"}]));

    the_service_account_has_exactly_its_rights(&plane).await?;
    no_role_for_people_holds_sessions(&plane)?;
    the_pod_is_admitted_as_restricted(&plane)?;
    only_home_namespaces_choose_client_ids(&plane).await?;

    run(plane.helm().args(["uninstall", "claviger", "--namespace", "home"]), "")?;
    let kept =
        kubectl(&plane, &["get", "oidcissuers,signingkeys", "-n", "home", "-o", "name"], "")?;
    assert_eq!(kept, "oidcissuer.claviger.dev/main\nsigningkey.claviger.dev/main\n");
    Ok(())
}

#[tokio::test]
async fn rendered_manifests_and_examples_are_taken_with_strict_validation() -> Result<()> {
    let plane = ControlPlane::start(ControlPlane::builder()).await?;
    let home = "claviger-system";
    apply(&plane, home, "deploy/claviger.yaml")?;
    kubectl(&plane, &["wait", "--for=condition=Established", "crd", "--all"], "")?;
    // What the API server publishes for validation follows a moment later.
    eventually(SOON, async || {
        kubectl(&plane, &["explain", "oidcissuer.spec.tenants.allowedRedirectURIHosts"], "")
    })
    .await?;
    apply(&plane, home, "examples/quickstart/")?;
    apply(&plane, "default", "examples/quickstart/rbac/")?;
    apply(&plane, home, "examples/tenant/issuer.yaml")?;
    apply(&plane, home, "examples/auth-proxy/connector.yaml")?;
    apply(&plane, home, "examples/oidc/connector.yaml")?;
    for patch in ["claim-mapping", "client-key", "token-exchange"] {
        let file = root().join(format!("examples/oidc/patches/{patch}.yaml"));
        let file = file.display().to_string();
        let patched =
            ["patch", "-n", home, "connector/corp", "--type=merge", "--patch-file", &file];
        kubectl(&plane, &[&patched[..], &["--dry-run=server"]].concat(), "")?;
    }
    apply(&plane, home, "examples/active-directory/connector.yaml")?;
    let upstreams = [
        "saml",
        "google",
        "microsoft",
        "linkedin",
        "github",
        "gitlab",
        "gitea",
        "bitbucket-cloud",
        "oauth2",
        "openshift",
        "keystone",
        "atlassian-crowd",
    ];
    for upstream in upstreams {
        apply(&plane, home, &format!("examples/{upstream}/connector.yaml"))?;
    }
    apply(&plane, home, "examples/by-hand/client.yaml")?;
    apply(&plane, home, "examples/policy/client.yaml")?;
    apply(&plane, home, "examples/device/client.yaml")?;
    create_namespace(&plane, "team-a")?;
    apply(&plane, "team-a", "examples/tenant/client.yaml")?;

    let kinds =
        "oidcissuers,oauth2clients,connectors,signingkeys,localusers,sessions,deviceauthorizations";
    let listed = kubectl(&plane, &["get", kinds, "--all-namespaces", "-o", "name"], "")?;
    assert_eq!(listed.lines().count(), 27, "{listed}");
    // Again: nothing changes, and the install can be taken over by another apply.
    apply(&plane, home, "deploy/claviger.yaml")?;
    Ok(())
}

#[tokio::test]
async fn the_shipped_authentication_configuration_starts_an_api_server() -> Result<()> {
    let file = std::fs::read_to_string(root().join("deploy/authentication-configuration.yaml"))?;
    let configured = Authentication::Configuration(file);
    let plane = ControlPlane::start(ControlPlane::builder().authentication(configured)).await?;
    assert_eq!(kubectl(&plane, &["get", "--raw", "/readyz"], "")?, "ok");
    Ok(())
}

#[test]
fn what_the_documentation_shows_is_what_the_examples_hold() -> Result<()> {
    let mut examples = String::new();
    for story in [
        "quickstart",
        "quickstart/patches",
        "tenant",
        "auth-proxy",
        "oidc",
        "oidc/patches",
        "policy",
        "policy/patches",
    ] {
        for entry in std::fs::read_dir(root().join("examples").join(story))? {
            let path = entry?.path();
            if path.is_file() {
                examples += &std::fs::read_to_string(path)?;
            }
        }
    }
    for page in ["docs/configuration.md", "docs/policy.md"] {
        let text = std::fs::read_to_string(root().join(page))?;
        let shown: Vec<&str> =
            text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        ensure!(!shown.is_empty(), "{page} shows no example");
        for block in shown {
            ensure!(examples.contains(block.trim_end()), "in {page} alone:\n{block}");
        }
    }
    Ok(())
}

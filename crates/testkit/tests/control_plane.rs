//! The control plane itself is what the tests above it think it is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use claviger_testkit::audit::counts;
use claviger_testkit::control_plane::STATE_ENV;
use claviger_testkit::process::{Supervised, tied};
use claviger_testkit::{
    Authentication, CertificateAuthority, ControlPlane, PortLease, RunningControlPlane,
    TestNamespace, eventually,
};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use rustix::process::{Pid, test_kill_process_group};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const MOMENT: Duration = Duration::from_secs(10);

async fn own_plane() -> RunningControlPlane {
    ControlPlane::start(ControlPlane::builder()).await.unwrap()
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn config_map(name: &str, greeting: &str) -> ConfigMap {
    object(json!({ "metadata": { "name": name }, "data": { "greeting": greeting } }))
}

fn is_gone(group: u32) -> bool {
    let group = Pid::from_raw(i32::try_from(group).unwrap()).unwrap();
    test_kill_process_group(group).is_err()
}

async fn who_am_i(client: &Client) -> SelfSubjectReview {
    Api::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn rbac_denies_whom_nobody_has_given_anything_and_knows_every_identity() {
    let plane = own_plane().await;
    let admin = plane.admin().await.unwrap();
    let namespace = TestNamespace::create(&admin, "identity").await.unwrap();

    let ann = plane.client_for("ann/o+e", &["dev", "ops", "on call"]).await.unwrap();
    let denied = Api::<ConfigMap>::namespaced(ann.clone(), namespace.name())
        .list(&ListParams::default())
        .await
        .unwrap_err();
    assert!(matches!(denied, kube::Error::Api(status) if status.code == 403));
    let info = who_am_i(&ann).await.status.unwrap().user_info.unwrap();
    assert_eq!(info.username.as_deref(), Some("ann/o+e"));
    assert_eq!(info.groups.unwrap(), ["dev", "ops", "on call", "system:authenticated"]);

    Api::<ServiceAccount>::namespaced(admin, namespace.name())
        .create(&PostParams::default(), &object(json!({ "metadata": { "name": "operator" } })))
        .await
        .unwrap();
    let operator = plane.service_account_client(namespace.name(), "operator").await.unwrap();
    assert_eq!(operator.default_namespace(), namespace.name());
    let info = who_am_i(&operator).await.status.unwrap().user_info.unwrap();
    let expected = format!("system:serviceaccount:{}:operator", namespace.name());
    assert_eq!(info.username, Some(expected));
}

#[tokio::test]
async fn the_audit_log_counts_each_request_of_one_identity_exactly_once() {
    let plane = own_plane().await;
    let admin = plane.admin().await.unwrap();
    let reader: ClusterRole = object(json!({
        "metadata": { "name": "reader" },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"] }],
    }));
    let binding: ClusterRoleBinding = object(json!({
        "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader" },
        "subjects": [{ "kind": "User", "name": "counted", "apiGroup": "rbac.authorization.k8s.io" }],
    }));
    Api::all(admin.clone()).create(&PostParams::default(), &reader).await.unwrap();
    Api::all(admin.clone()).create(&PostParams::default(), &binding).await.unwrap();
    let counted = plane.client_for("counted", &[]).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(counted.clone(), "default");
    eventually(MOMENT, async || Ok(maps.list(&ListParams::default()).await?)).await.unwrap();

    let log = plane.audit_log();
    let mark = log.mark().unwrap();
    assert!(maps.get_opt("nothing").await.unwrap().is_none());
    let requests = log.requests_since(mark, "counted").unwrap();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = &requests[0];
    assert_eq!(request.what(), "get configmaps");
    assert_eq!((request.namespace.as_str(), request.name.as_str()), ("default", "nothing"));
    assert_eq!(request.code, 404);

    // A line is there as soon as the answer is: no waiting, a hundred times.
    let mark = log.mark().unwrap();
    for _ in 0..100 {
        maps.get_opt("nothing").await.unwrap();
        admin.apiserver_version().await.unwrap();
    }
    let watch = http::Request::get("/api/v1/configmaps?watch=true&timeoutSeconds=1");
    counted.request_text(watch.body(Vec::new()).unwrap()).await.unwrap();
    counted.apiserver_version().await.unwrap();
    let requests = log.requests_since(mark, "counted").unwrap();
    let expected = [("get /version", 1), ("get configmaps", 100), ("watch configmaps", 1)];
    assert_eq!(counts(&requests), expected.map(|(what, count)| (what.to_owned(), count)).into());
    assert_eq!(log.counts_since(mark, "admin").unwrap()["get /version"], 100);
}

#[tokio::test]
async fn a_validating_admission_policy_is_in_force() {
    let plane = own_plane().await;
    let admin = plane.admin().await.unwrap();
    let policy: ValidatingAdmissionPolicy = object(json!({
        "metadata": { "name": "polite" },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
            }] },
            "validations": [{ "expression": "object.data.greeting != 'grr'", "message": "be polite" }],
        },
    }));
    let binding: ValidatingAdmissionPolicyBinding = object(json!({
        "metadata": { "name": "polite" },
        "spec": { "policyName": "polite", "validationActions": ["Deny"] },
    }));
    Api::all(admin.clone()).create(&PostParams::default(), &policy).await.unwrap();
    Api::all(admin.clone()).create(&PostParams::default(), &binding).await.unwrap();

    let maps: Api<ConfigMap> = Api::namespaced(admin, "default");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let refusal = eventually(MOMENT, async || {
        let refusal = maps.create(&dry, &config_map("rude", "grr")).await.err();
        refusal.ok_or_else(|| anyhow::anyhow!("the policy is not in force yet"))
    })
    .await
    .unwrap();
    assert!(refusal.to_string().contains("be polite"), "{refusal}");
    maps.create(&dry, &config_map("kind", "hello")).await.unwrap();
}

#[tokio::test]
async fn the_authentication_configuration_is_swapped_while_the_api_server_runs() {
    let plane = own_plane().await;
    let process_ids = plane.process_ids();
    let forbidden = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
                     jwt: []\nanonymous: {enabled: false}\n";
    // Whether anonymous requests are allowed may not change while it runs: a change it must refuse.
    let refusal = plane.set_authentication_config(forbidden).await.unwrap_err();
    let message = format!("{refusal:#}");
    assert!(message.contains("changed from initial configuration file"), "{message}");
    let file = plane.state_folder().join("authentication.yaml");
    assert!(!std::fs::read_to_string(&file).unwrap().contains("anonymous"));

    let other = "# another\napiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: []\n";
    plane.set_authentication_config(other).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), other);
    // The same again is taken already.
    plane.set_authentication_config(other).await.unwrap();
    assert_eq!(plane.process_ids(), process_ids);
}

#[tokio::test]
async fn a_swap_that_names_an_issuer_is_taken_once_the_issuer_answers() {
    let plane = own_plane().await;
    let port = PortLease::take().unwrap();
    let issuer = format!("https://127.0.0.1:{}", port.port());
    let site = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::create("issuer").unwrap();
    let file = |name: &str| site.path().join(name);
    authority.server(&[], &[]).unwrap().save(&file("crt"), &file("key")).unwrap();
    std::fs::create_dir(file(".well-known")).unwrap();
    let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") });
    std::fs::write(file(".well-known/openid-configuration"), discovery.to_string()).unwrap();
    std::fs::write(file("keys"), r#"{"keys":[]}"#).unwrap();
    let mut server = tied("openssl");
    server.current_dir(site.path()).args(["s_server", "-WWW", "-cert", "crt", "-key", "key"]);
    server.args(["-accept", &format!("127.0.0.1:{}", port.port())]);
    let _server = Supervised::spawn("openssl", server, &file("log")).unwrap();

    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {
                "url": issuer,
                "audiences": ["kubernetes"],
                "certificateAuthority": authority.certificate_pem(),
            },
            "claimMappings": { "username": { "claim": "sub", "prefix": "" } },
        }],
    });
    plane.set_authentication_config(&configuration.to_string()).await.unwrap();
    let log = std::fs::read_to_string(plane.state_folder().join("kube-apiserver.log")).unwrap();
    assert!(log.contains("reloaded authentication config"), "{log}");
}

#[tokio::test]
async fn the_older_oidc_flags_work_instead_of_the_file() {
    let flags = ["--oidc-issuer-url=https://127.0.0.1:1/", "--oidc-client-id=kubernetes"];
    let builder = ControlPlane::builder()
        .authentication(Authentication::LegacyOidc(flags.map(str::to_owned).to_vec()));
    let plane = builder.start().await.unwrap();
    assert!(!plane.state_folder().join("authentication.yaml").exists());
    let refusal = plane.set_authentication_config("").await.unwrap_err();
    assert!(format!("{refusal:#}").contains("--oidc flags"));
}

#[tokio::test]
async fn two_control_planes_run_side_by_side_and_are_gone_after_drop() {
    let (first, second) = tokio::join!(own_plane(), own_plane());
    let (one, other) = (first.admin().await.unwrap(), second.admin().await.unwrap());
    let namespace = TestNamespace::create(&one, "only-here").await.unwrap();
    let namespaces: Api<Namespace> = Api::all(other.clone());
    assert!(namespaces.get_opt(namespace.name()).await.unwrap().is_none());

    let processes = first.process_ids();
    let folder = first.state_folder().to_owned();
    assert_eq!(processes.len(), 2);
    assert!(processes.iter().all(|id| !is_gone(*id)));
    drop(first);
    assert!(processes.iter().all(|id| is_gone(*id)));
    assert!(!folder.exists());
    namespaces.get("default").await.unwrap();
}

#[tokio::test]
async fn its_parts_can_be_stopped_and_started_in_place() {
    let mut plane = own_plane().await;
    let admin = plane.admin().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(admin, "default");
    maps.create(&PostParams::default(), &config_map("lasting", "hello")).await.unwrap();

    plane.stop_api_server();
    assert!(matches!(maps.get("lasting").await.unwrap_err(), kube::Error::Service(_)));
    plane.start_api_server().await.unwrap();
    maps.get("lasting").await.unwrap();

    plane.stop_etcd();
    let unseen = PostParams::default();
    let create = tokio::time::timeout(MOMENT, maps.create(&unseen, &config_map("lost", ""))).await;
    assert!(!matches!(create, Ok(Ok(_))));
    plane.start_etcd().await.unwrap();
    eventually(Duration::from_secs(30), async || Ok(maps.get("lasting").await?)).await.unwrap();

    plane.freeze_api_server().unwrap();
    // Its threads stop one after the other, a moment after they were told.
    eventually(MOMENT, async || {
        let answer = tokio::time::timeout(Duration::from_millis(300), maps.get("lasting")).await;
        anyhow::ensure!(answer.is_err(), "a frozen API server answers");
        Ok(())
    })
    .await
    .unwrap();
    plane.thaw_api_server().unwrap();
    maps.get("lasting").await.unwrap();
}

#[tokio::test]
async fn a_bad_flag_is_reported_with_the_api_servers_own_words() {
    let builder = ControlPlane::builder().api_server_flag("--no-such-flag");
    let failure = format!("{:#}", builder.start().await.unwrap_err());
    assert!(failure.contains("unknown flag: --no-such-flag"), "{failure}");
}

fn with_control_plane(script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-control-plane"));
    command.args(["--", "bash", "-c", script]);
    command
}

#[test]
fn with_control_plane_hands_over_the_environment_and_the_status() {
    let script = format!(
        "set -e; kubectl get --raw /readyz; echo; echo ${STATE_ENV}
         for part in etcd kube-apiserver; do echo $(cat ${STATE_ENV}/$part.pid); done
         helm version --short; exit 7"
    );
    let output = with_control_plane(&script).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(output.status.code(), Some(7), "{text}");
    assert_eq!(lines[0], "ok");
    assert!(!std::path::Path::new(lines[1]).exists());
    assert!(lines[2..4].iter().all(|id| is_gone(id.parse().unwrap())), "{text}");
    assert!(lines[4].starts_with("v4."), "{text}");
}

#[tokio::test]
async fn a_test_below_with_control_plane_attaches_to_it() {
    let name = "a_test_below_with_control_plane_attaches_to_it";
    if std::env::var_os(STATE_ENV).is_none() {
        let refusal = ControlPlane::from_env().unwrap_err().to_string();
        assert!(refusal.contains("with-control-plane"), "{refusal}");
        // Ourselves once more, below it.
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_with-control-plane"));
        launcher.args([std::env::current_exe().unwrap().to_str().unwrap(), "--exact", name]);
        assert!(launcher.status().unwrap().success());
        return;
    }
    let plane = ControlPlane::from_env().unwrap();
    let ann = plane.client_for("ann", &[]).await.unwrap();
    let info = who_am_i(&ann).await.status.unwrap().user_info.unwrap();
    assert_eq!(info.username.as_deref(), Some("ann"));
    assert!(plane.kubectl().args(["get", "--raw", "/readyz"]).status().unwrap().success());
}

/// What `with-control-plane` leaves when it ends by `signal`: its own status, and no process at all.
async fn end_with_control_plane_by(signal: rustix::process::Signal) -> std::process::ExitStatus {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("ids");
    // A grandchild that ignores every polite request, beside the plane's two processes.
    let script = format!(
        "(trap '' INT TERM HUP; sleep 1000 & wait; sleep 1000) & \
         echo $$ $(cat ${STATE_ENV}/etcd.pid) $(cat ${STATE_ENV}/kube-apiserver.pid) > {0}.new; \
         mv {0}.new {0}; wait",
        file.display()
    );
    let mut launcher = with_control_plane(&script).spawn().unwrap();
    let groups: Vec<u32> = eventually(Duration::from_mins(1), async || {
        let text = std::fs::read_to_string(&file)?;
        Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    })
    .await
    .unwrap();
    assert_eq!(groups.len(), 3);
    assert!(groups.iter().all(|id| !is_gone(*id)));
    rustix::process::kill_process(Pid::from_child(&launcher), signal).unwrap();
    let status = launcher.wait().unwrap();
    eventually(MOMENT, async || {
        let left: Vec<_> = groups.iter().filter(|id| !is_gone(**id)).collect();
        ensure!(left.is_empty(), "process groups {left:?} are still there");
        Ok(())
    })
    .await
    .unwrap();
    status
}

#[tokio::test]
async fn interrupted_with_control_plane_ends_everything() {
    let status = end_with_control_plane_by(rustix::process::Signal::INT).await;
    assert!(!status.success());
}

#[tokio::test]
async fn terminated_with_control_plane_ends_everything() {
    let status = end_with_control_plane_by(rustix::process::Signal::TERM).await;
    assert_eq!(status.code(), Some(128 + 15));
}

#[tokio::test]
async fn killed_with_control_plane_leaves_no_process_behind() {
    let status = end_with_control_plane_by(rustix::process::Signal::KILL).await;
    assert_eq!(status.code(), None);
}

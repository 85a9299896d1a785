//! Session writes and the leader's Lease have a share of the API server of their own: the manifests of
//! the chart, applied, and the API server's word (in its answers' headers) for which flow took what.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use claviger_testkit::{ControlPlane, Installation, eventually};
use http::Request;
use kube::client::Body;
use serde_json::Value;

/// Which `FlowSchema` and priority level the API server put a request into.
async fn flow_of(client: &kube::Client, method: &str, path: &str) -> Result<(String, String)> {
    let request = Request::builder().method(method).uri(path).body(Body::empty())?;
    let answer = client.send(request).await?;
    let uid = |name: &str| -> Result<String> {
        let header = answer.headers().get(name).with_context(|| format!("no {name}"))?;
        Ok(header.to_str()?.to_owned())
    };
    Ok((uid("x-kubernetes-pf-flowschema-uid")?, uid("x-kubernetes-pf-prioritylevel-uid")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn session_writes_and_the_lease_flow_apart_and_nothing_else_does() -> Result<()> {
    let plane = ControlPlane::from_env()?;
    let installation = Installation::create(&plane).await?;
    let home = installation.namespace();
    installation.apply_template("flow-control")?;
    let name = format!("claviger.{home}");
    let uid = |kind: &str| -> Result<String> {
        let object: Value =
            serde_json::from_str(&installation.kubectl(&["get", kind, &name, "-o", "json"])?)?;
        Ok(object["metadata"]["uid"].as_str().context("no uid")?.to_owned())
    };
    let ours = (uid("flowschema")?, uid("prioritylevelconfiguration")?);

    let account = plane.service_account_client(home, "claviger").await?;
    let sessions = format!("/apis/claviger.dev/v1alpha1/namespaces/{home}/sessions");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{home}/leases");
    // The API server learns of a new `FlowSchema` by a watch.
    eventually(Duration::from_secs(30), async || {
        ensure!(flow_of(&account, "GET", &format!("{sessions}/x")).await? == ours, "not yet");
        Ok(())
    })
    .await?;
    for (method, path) in [
        ("POST", sessions.clone()),
        ("PATCH", format!("{sessions}/x")),
        ("GET", format!("{leases}/claviger-leader")),
        ("PATCH", format!("{leases}/claviger-leader")),
    ] {
        assert_eq!(flow_of(&account, method, &path).await?, ours, "{method} {path}");
    }
    let elsewhere = [
        ("GET", sessions.clone()),
        ("DELETE", sessions.clone()),
        ("GET", format!("/api/v1/namespaces/{home}/secrets/x")),
        ("POST", "/apis/claviger.dev/v1alpha1/namespaces/default/sessions".to_owned()),
    ];
    for (method, path) in &elsewhere {
        assert_ne!(flow_of(&account, method, path).await?, ours, "{method} {path}");
    }
    installation.kubectl(&["create", "serviceaccount", "others"])?;
    let others = plane.service_account_client(home, "others").await?;
    assert_ne!(flow_of(&others, "POST", &sessions).await?, ours, "another's request");

    installation.kubectl(&["delete", "flowschema,prioritylevelconfiguration", &name])?;
    Ok(())
}

//! What happens when the directory does not answer, or not well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use claviger_domain::connector::LoginError;
use claviger_testkit::{PortLease, eventually};
use serde_json::json;
use tokio::net::TcpListener;

use crate::fixture::*;
use crate::scripted::{Request, Scripted, bound, done, entry};

/// One second to connect, one to answer: a login may take three.
fn impatient(spec: &mut serde_json::Value) {
    ldap(spec)["timeouts"] = json!({ "connectSeconds": 1, "operationSeconds": 1 });
}

/// Far beyond what the timeouts add up to, far below "for ever".
const PATIENCE: Duration = Duration::from_secs(20);

async fn outage_in_time(service: &Service) -> String {
    let begin = Instant::now();
    let why = tokio::time::timeout(PATIENCE, service.outage("ada")).await.unwrap();
    assert!(begin.elapsed() < PATIENCE);
    why
}

#[tokio::test]
async fn wrong_service_password_is_never_the_users_fault() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut resolved = resolved(&slapd);
    resolved.insert("directory", "password", b"wrong".to_vec());
    let service = Service::new(&connector(&slapd), &resolved);
    for (name, password) in [("ada", PASSWORD), ("ada", "wrong"), ("nobody", PASSWORD)] {
        let why = service.login(name, password).await.unwrap_err().to_string();
        assert!(why.starts_with("upstream unavailable"), "{why}");
        assert!(why.contains("check the account in bind and its password in the Secret"), "{why}");
        assert!(!why.contains("wrong\""), "no password in an error: {why}");
    }
    assert_eq!(service.probe().await.unwrap_err().0, "UpstreamRefusedCredentials");
}

#[tokio::test]
async fn stopped_server_is_unavailable_and_its_return_heals() {
    let mut slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&connector(&slapd), &slapd);
    service.probe().await.unwrap();
    service.identity("ada").await;
    slapd.stop();
    let why = outage_in_time(&service).await;
    assert!(why.contains("failed to connect"), "{why}");
    assert_eq!(service.probe().await.unwrap_err().0, "UpstreamUnreachable");
    slapd.start_again().await.unwrap();
    service.identity("ada").await;
    service.probe().await.unwrap();
}

#[tokio::test]
async fn restart_between_two_logins_is_not_noticed() {
    let mut slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let service = Service::of(&connector(&slapd), &slapd);
    for _ in 0..3 {
        service.identity("ada").await;
        slapd.stop();
        slapd.start_again().await.unwrap();
    }
    service.identity("ada").await;
}

#[tokio::test]
async fn silent_server_is_unavailable_within_the_timeouts() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let lease = PortLease::take().unwrap();
    let _silent = TcpListener::bind(("127.0.0.1", lease.port())).await.unwrap();
    for (scheme, mode, step) in [
        ("ldaps", "LDAPS", "the connection attempt"),
        ("ldap", "StartTLS", "the connection attempt"),
        ("ldap", "Plaintext", "the service account's bind"),
    ] {
        let mut spec = connector(&slapd);
        impatient(&mut spec);
        ldap(&mut spec)["urls"] = json!([format!("{scheme}://127.0.0.1:{}", lease.port())]);
        ldap(&mut spec)["tls"] = json!({ "mode": mode });
        if mode != "Plaintext" {
            ldap(&mut spec)["tls"]["caBundle"] = json!(slapd.ca_pem());
        }
        let service = Service::of(&spec, &slapd);
        let why = outage_in_time(&service).await;
        assert!(why.contains(step) && why.contains("in time"), "{mode}: {why}");
        assert_eq!(service.probe().await.unwrap_err().0, "UpstreamUnreachable", "{mode}");
    }
}

#[tokio::test]
async fn server_that_falls_silent_with_a_kept_connection_is_unavailable_and_heals() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let mut spec = connector(&slapd);
    impatient(&mut spec);
    let service = Service::of(&spec, &slapd);
    service.identity("ada").await;
    slapd.freeze().unwrap();
    // A thread of the server's may still be on its way to the halt.
    let why = eventually(PATIENCE, async || match service.login("ada", PASSWORD).await {
        Err(LoginError::Unavailable(why)) => Ok(why),
        other => bail!("not frozen yet: {other:?}"),
    })
    .await
    .unwrap();
    assert!(why.contains("in time"), "{why}");
    slapd.thaw().unwrap();
    eventually(PATIENCE, async || Ok(service.login("ada", PASSWORD).await?)).await.unwrap();
}

#[tokio::test]
async fn server_that_speaks_something_else_is_unavailable() {
    let slapd = directory().await;
    let lease = PortLease::take().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", lease.port())).await.unwrap();
    let babbler = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            // The client may be gone already.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    for (scheme, mode) in [("ldaps", "LDAPS"), ("ldap", "StartTLS"), ("ldap", "Plaintext")] {
        let mut spec = connector(&slapd);
        impatient(&mut spec);
        ldap(&mut spec)["urls"] = json!([format!("{scheme}://127.0.0.1:{}", lease.port())]);
        ldap(&mut spec)["tls"] = json!({ "mode": mode });
        outage_in_time(&Service::of(&spec, &slapd)).await;
    }
    babbler.abort();
}

#[tokio::test]
async fn next_server_serves_when_the_first_is_down_or_silent() {
    let slapd = directory().await;
    slapd.add(&person("ada", "")).unwrap();
    let (down, silent) = (PortLease::take().unwrap(), PortLease::take().unwrap());
    let listener = TcpListener::bind(("127.0.0.1", silent.port())).await.unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let listening = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(connection) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            kept.push(connection);
        }
    });
    let mut spec = connector(&slapd);
    ldap(&mut spec)["timeouts"] = json!({ "connectSeconds": 2, "operationSeconds": 10 });
    ldap(&mut spec)["urls"] = json!([
        format!("ldaps://127.0.0.1:{}", down.port()),
        format!("ldaps://127.0.0.1:{}", silent.port()),
        slapd.ldaps_url(),
    ]);
    let service = Service::of(&spec, &slapd);
    service.identity("ada").await;
    service.probe().await.unwrap();
    assert_eq!(
        accepted.load(Ordering::SeqCst),
        1,
        "a server that failed is not asked again for a while"
    );
    service.refusal("ada", "wrong").await;
    listening.abort();
}

#[tokio::test]
async fn when_no_server_answers_each_is_named() {
    let slapd = directory().await;
    let (one, other) = (PortLease::take().unwrap(), PortLease::take().unwrap());
    let mut spec = connector(&slapd);
    impatient(&mut spec);
    let url = |lease: &PortLease| format!("ldaps://127.0.0.1:{}", lease.port());
    ldap(&mut spec)["urls"] = json!([url(&one), url(&other)]);
    let service = Service::of(&spec, &slapd);
    let why = outage_in_time(&service).await;
    assert!(why.contains(&url(&one)) && why.contains(&url(&other)), "{why}");
    assert_eq!(service.probe().await.unwrap_err().0, "UpstreamUnreachable");
}

#[tokio::test]
async fn abandoned_login_leaves_no_connection_in_mid_conversation() {
    let user = |name: &'static [u8]| entry(b"cn=x,dc=example,dc=org", &[("entryUUID", name)]);
    let server = Scripted::start(move |request| match request {
        Request::Bind { .. } => vec![bound(0, "")],
        search if search.contains(b"never answered") => vec![],
        Request::Search { .. } => vec![user(b"ada"), done(0)],
    })
    .await;
    let slapd = directory().await;
    let mut spec = plain_connector(&slapd);
    ldap(&mut spec)["urls"] = json!([server.url()]);
    ldap(&mut spec)["poolSize"] = json!(1);
    let service = Service::of(&spec, &slapd);
    service.identity("ada").await;
    let abandoned = service.login("never answered", PASSWORD);
    assert!(tokio::time::timeout(Duration::from_millis(200), abandoned).await.is_err());
    assert_eq!(service.identity("ada").await.user_id, "ada");
    let requests = server.requests();
    let service_binds = requests.iter().filter(|request| request.is_bind_as(READER_DN)).count();
    assert_eq!(service_binds, 2, "a new connection: {requests:?}");
}

//! Domain controllers that are away, slow, or behind.

use std::time::{Duration, Instant};

use claviger_domain::connector::RecheckError;
use claviger_testkit::samba::user_dn;
use claviger_testkit::{PortLease, Samba};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fixture::*;

fn through(urls: &[String]) -> Value {
    json!({ "urls": urls, "timeouts": { "connectSeconds": 2, "operationSeconds": 2 } })
}

async fn two(samba: &Samba) -> (Samba, Service) {
    let twin = samba.twin().await.unwrap();
    let service = Service::with(samba, &through(&[samba.ldaps_url(), twin.ldaps_url()]));
    (twin, service)
}

#[tokio::test]
async fn second_controller_takes_over_when_the_first_dies_and_nobody_is_gone() {
    let mut samba = domain().await;
    let (mut twin, service) = two(&samba).await;
    let known = service.signed_in("ada").await;
    samba.stop();
    service.identity("ada").await;
    let fresh = service.recheck(&known).await.unwrap();
    assert_eq!(fresh.identity, known.identity);
    service.probe().await.unwrap();
    twin.stop();
    let why = service.outage("ada").await;
    assert!(why.starts_with("no server of the directory answers"), "{why}");
    assert!(why.contains(&samba.ldaps_url()) && why.contains(&twin.ldaps_url()), "{why}");
    let error = service.recheck(&known).await.unwrap_err();
    assert!(matches!(error, RecheckError::Unavailable(_)), "{error:?}");
    samba.start_again().await.unwrap();
    service.recheck(&known).await.unwrap();
}

/// A controller that accepts and says nothing costs one login its timeout, and the next ones nothing.
#[tokio::test]
async fn silent_controller_costs_a_bounded_time_once() {
    let samba = domain().await;
    let lease = PortLease::take().unwrap();
    let silent = TcpListener::bind(("127.0.0.1", lease.port())).await.unwrap();
    let accepted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&accepted);
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            held.push(stream);
        }
    });
    let silent_url = format!("ldaps://127.0.0.1:{}", lease.port());
    let service = Service::with(&samba, &through(&[silent_url, samba.ldaps_url()]));
    let begin = Instant::now();
    service.identity("ada").await;
    let first = begin.elapsed();
    assert!(first >= Duration::from_secs(2) && first < Duration::from_secs(6), "{first:?}");
    // At once, so that all but one need a new connection.
    futures::future::join_all((0..4).map(|_| service.identity("ada"))).await;
    service.refusal("nobody", PASSWORD).await;
    assert_eq!(
        accepted.load(std::sync::atomic::Ordering::Relaxed),
        1,
        "tried once, and remembered"
    );
    task.abort();
}

/// Replication takes its time: a controller that has not heard of a new password shows an older one.
#[tokio::test]
async fn controller_that_lags_behind_ends_no_session_over_a_password() {
    let mut samba = domain().await;
    let (twin, service) = two(&samba).await;
    samba.reset_password("ada", "battery staple").unwrap();
    let known = service.login("ada", "battery staple").await.unwrap();
    samba.stop();
    let fresh = service.recheck(&known).await.unwrap();
    // What was kept is still the newer one: once the other has heard of it, that is no change either.
    assert_eq!(fresh.data, known.data);
    twin.replace(&user_dn("ada"), "userAccountControl", "514").unwrap();
    assert_eq!(service.gone(&fresh).await, "the account is disabled");
}

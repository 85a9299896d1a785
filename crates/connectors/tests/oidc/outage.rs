//! A provider that is away, slow, endless, somebody else, or not what it should be.

use claviger_api::Reason;
use claviger_connectors::ProbeError;
use claviger_domain::connector::LoginError;
use claviger_testkit::CertificateAuthority;
use serde_json::json;

use crate::fixture::{Service, upstream};

async fn probed(service: &Service) -> ProbeError {
    service.built.probe.as_ref().unwrap().probe().await.unwrap_err()
}

#[tokio::test]
async fn a_configuration_that_is_not_usable_is_said_in_words() {
    let service = Service::start(json!({})).await;
    let broken = [
        (json!({"issuer": "https://localhost:1/other"}), "exactly as the provider says it"),
        (json!({"token_endpoint": null}), "endpoints.tokenURL"),
        (json!({"authorization_endpoint": "http://localhost:1/auth"}), "not https"),
    ];
    for (configuration, words) in broken {
        service.provider.conduct().configuration = configuration;
        let said = probed(&service).await;
        assert_eq!(said.reason, Reason::UpstreamUnusable.as_str(), "{said}");
        assert!(said.message.contains(words), "{said}");
    }
    let overridden =
        Service::start(json!({"endpoints": {"tokenURL": "https://localhost:1/token"}})).await;
    overridden.provider.conduct().configuration = json!({"token_endpoint": null});
    overridden.built.probe.as_ref().unwrap().probe().await.unwrap();
}

#[tokio::test]
async fn redirects_are_not_followed_and_an_answer_has_an_end() {
    let service = Service::start(json!({})).await;
    let path = "/.well-known/openid-configuration";
    let elsewhere = (302, "https://169.254.169.254/latest/meta-data".to_owned());
    service.provider.conduct().answers.insert(path.into(), elsewhere);
    let said = probed(&service).await;
    assert!(said.message.contains("redirects are not followed"), "{said}");
    service.provider.conduct().answers.insert(path.into(), (200, "x".repeat(5_000_000)));
    let said = probed(&service).await;
    assert!(said.message.contains("longer than"), "{said}");
    service.provider.conduct().answers.insert(path.into(), (200, "<html>".into()));
    assert_eq!(probed(&service).await.reason, Reason::UpstreamUnusable.as_str());
    service.provider.conduct().answers.clear();
    service.built.probe.as_ref().unwrap().probe().await.unwrap();
}

#[tokio::test]
async fn a_provider_of_another_authority_is_not_trusted_and_says_the_fix() {
    let service = Service::start(json!({})).await;
    let other = CertificateAuthority::create("somebody's").unwrap();
    let built = upstream(&service.provider, &json!({}), other.certificate_pem());
    let said = built.probe.unwrap().probe().await.unwrap_err();
    assert_eq!(said.reason, Reason::UpstreamUntrusted.as_str(), "{said}");
    assert!(said.message.contains("issuing CA"), "{said}");
}

#[tokio::test]
async fn a_provider_that_is_away_is_nobodys_fault_and_is_found_again() {
    let service = Service::start(json!({})).await;
    let gone = Service::start(json!({})).await;
    let url = gone.provider.url().to_owned();
    drop(gone);
    let away = Service::start(json!({"issuer": url})).await;
    let error = away.depart().await.unwrap_err();
    assert!(matches!(error, LoginError::Unavailable(_)), "{error:?}");
    let said = probed(&away).await;
    assert_eq!(said.reason, Reason::UpstreamUnreachable.as_str(), "{said}");
    assert!(!said.message.contains('?'), "no query: {said}");
    let path = "/.well-known/openid-configuration";
    service.provider.conduct().answers.insert(path.into(), (503, "{}".into()));
    assert!(matches!(service.depart().await.unwrap_err(), LoginError::Unavailable(_)));
    service.provider.conduct().answers.clear();
    let patience = std::time::Duration::from_secs(10);
    let back = async || Ok(service.sign_in(&[]).await?);
    claviger_testkit::eventually(patience, back).await.unwrap();
}

#[tokio::test]
async fn a_provider_that_fails_is_asked_once_for_all_who_wait() {
    let service = Service::start(json!({})).await;
    let path = "/.well-known/openid-configuration";
    service.provider.conduct().answers.insert(path.into(), (503, "{}".into()));
    let departing = (0..20).map(|_| service.depart());
    for departed in futures::future::join_all(departing).await {
        assert!(matches!(departed, Err(LoginError::Unavailable(_))), "{departed:?}");
    }
    assert_eq!(service.provider.conduct().log, [path]);
}

#[tokio::test]
async fn what_a_provider_names_without_tls_is_not_asked() {
    let service = Service::start(json!({})).await;
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let keys = format!("http://127.0.0.1:{}/keys", trap.local_addr().unwrap().port());
    service.provider.conduct().configuration = json!({"jwks_uri": keys});
    probed(&service).await;
    let asked = trap.accept();
    assert!(asked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

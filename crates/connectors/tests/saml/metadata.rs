//! Metadata behind a URL: read once, kept while nobody answers, and what of it is not used.

use claviger_connectors::Probe;
use claviger_domain::connector::LoginError;
use claviger_protocol::response_type::Delivery;
use claviger_testkit::{CertificateAuthority, KeyServer};
use serde_json::json;
use std::sync::Arc;

use crate::answers::{Signs, metadata};
use crate::fixture::{NOW, Service};
use crate::signer::Signer;

struct Behind {
    server: KeyServer,
    service: Service,
}

impl Behind {
    async fn start(document: String) -> Self {
        let authority = CertificateAuthority::create("idp").unwrap();
        let server = KeyServer::start(&authority, document).await.unwrap();
        let service = Service::of(&json!({
            "identityProvider": null, "metadataURL": server.url(),
            "tls": {"caBundle": authority.certificate_pem()},
        }));
        Self { server, service }
    }

    fn probe(&self) -> Arc<dyn Probe> {
        self.service.built.probe.clone().unwrap()
    }

    async fn arrive(&self) -> Result<String, LoginError> {
        let arrived = self.service.arrive(&self.service.answer().signed()).await;
        arrived.map(|arrival| arrival.authenticated.identity.user_id)
    }
}

#[tokio::test]
async fn metadata_is_read_once_and_good_while_nobody_answers() {
    let behind = Behind::start(metadata(Signer::honest())).await;
    let departed = behind.service.login().depart(&behind.service.trip()).await.unwrap();
    assert!(
        matches!(&departed, Delivery::Post { action, .. } if action == "https://idp.example.com/post")
    );
    for _ in 0..3 {
        assert_eq!(behind.arrive().await.as_deref(), Ok("alice@corp"));
    }
    assert_eq!(behind.server.take_asked(), 1);
    assert_eq!(behind.probe().probe().await, Ok(()));
    assert_eq!(behind.server.take_asked(), 1, "it asks, whatever is known");
    let Behind { server, service } = behind;
    drop(server);
    assert!(service.built.probe.clone().unwrap().probe().await.is_err());
    assert!(service.arrive(&service.answer().signed()).await.is_ok(), "what was read is good");
}

/// Whoever shows answers of a key that is not known makes us ask twice a minute at most.
#[tokio::test]
async fn an_answer_by_an_unknown_key_asks_no_more_often_than_every_half_minute() {
    let behind = Behind::start(metadata(Signer::honest())).await;
    assert_eq!(behind.arrive().await.as_deref(), Ok("alice@corp"));
    let foreign = behind.service.answer().signed_with(Signer::foreign());
    for _ in 0..5 {
        let refused = behind.service.arrive(&foreign).await.unwrap_err();
        let LoginError::Unverified { reason, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(*reason, "BadSignature");
    }
    assert_eq!(behind.server.take_asked(), 1);
    behind.server.publish(metadata(Signer::foreign()));
    assert_eq!(behind.probe().probe().await, Ok(()), "the key was changed, and seen");
    assert!(behind.service.arrive(&foreign).await.is_ok());
    assert!(behind.arrive().await.is_err(), "the old one is good no more");
}

#[tokio::test]
async fn metadata_that_is_not_usable_is_said_by_the_probe_and_signs_nobody_in() {
    let honest = metadata(Signer::honest());
    let huge = format!("{honest}{}", " ".repeat(300 * 1024));
    for (document, said) in [
        ("<html/>".to_owned(), "no EntityDescriptor"),
        (String::new(), "not well-formed"),
        (format!("<!DOCTYPE x>{honest}"), "document type"),
        (honest.replace("use=\"signing\"", "use=\"encryption\""), "no certificate to sign with"),
        (honest.replace("https://idp.example.com/post", "http://idp.example.com"), "not https"),
        (huge, "longer than"),
    ] {
        let behind = Behind::start(document).await;
        let failed = behind.probe().probe().await.unwrap_err();
        assert_eq!(failed.reason, "UpstreamUnusable", "{failed}");
        assert!(failed.message.contains(said), "{failed}");
        let unsigned = crate::answers::Answer { signs: Signs::Nothing, ..behind.service.answer() };
        for document in [unsigned.signed(), behind.service.answer().signed()] {
            let refused = behind.service.arrive(&document).await.unwrap_err();
            assert!(matches!(refused, LoginError::Unavailable(_)), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn metadata_is_believed_from_whom_the_administrator_trusts_and_until_it_says() {
    let behind = Behind::start(metadata(Signer::honest())).await;
    let stranger = CertificateAuthority::create("stranger").unwrap();
    let service = Service::of(&json!({
        "identityProvider": null, "metadataURL": behind.server.url(),
        "tls": {"caBundle": stranger.certificate_pem()},
    }));
    let failed = service.built.probe.clone().unwrap().probe().await.unwrap_err();
    assert_eq!(failed.reason, "UpstreamUntrusted", "{failed}");
    let until = |at: i64| {
        let until = format!("<md:EntityDescriptor validUntil=\"{}\" ", crate::answers::time(at));
        metadata(Signer::honest()).replace("<md:EntityDescriptor ", &until)
    };
    let good = Behind::start(until(NOW - 59)).await;
    assert_eq!(good.arrive().await.as_deref(), Ok("alice@corp"));
    let over = Behind::start(until(NOW - 60)).await;
    let refused = over.arrive().await.unwrap_err().to_string();
    assert!(refused.contains("valid no more"), "{refused}");
}

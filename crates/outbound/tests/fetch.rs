//! Fetching, from servers on this machine that answer as they please.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use claviger_outbound::{Outbound, OutboundError, Settings};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const LIMIT: usize = 1_000;

/// A server that gives every request the same answer, and says what it was asked.
struct Server {
    port: u16,
    authority: Vec<u8>,
    asked: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn answering(answer: String) -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = vec![0; 4_096];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let _ = told.send(String::from_utf8_lossy(&request[..length]).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
                if answer.is_empty() {
                    std::future::pending::<()>().await; // it never answers
                }
                let _ = stream.shutdown().await;
            }
        });
        Self { port, authority: made.cert.pem().into_bytes(), asked }
    }

    fn client(&self, networks: &[&str]) -> Outbound {
        Outbound::new(&Settings {
            allowed_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
            authorities: Some(self.authority.clone()),
            deadline: Some(Duration::from_secs(1)),
        })
        .unwrap()
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/keys?a=b", self.port)
    }

    async fn get(&self) -> Result<Vec<u8>, OutboundError> {
        self.client(&["127.0.0.0/8"]).get(&self.url("localhost"), LIMIT).await
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_document_is_fetched_from_an_allowed_network_with_nothing_sent_along() {
    let mut server = Server::answering(ok("{}")).await;
    assert_eq!(server.get().await.unwrap(), b"{}");
    let asked = server.asked.recv().await.unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("get /keys?a=b http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: localhost:{}\r\n", server.port)), "{asked}");
    assert!(!asked.contains("authorization") && !asked.contains("cookie"), "{asked}");
}

#[tokio::test]
async fn loopback_is_refused_by_name_and_by_number_and_never_connected_to() {
    let mut server = Server::answering(ok("{}")).await;
    for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "0x7f000001", "2130706433"] {
        let refused = server.client(&["10.0.0.0/8"]).get(&server.url(host), LIMIT).await;
        assert!(matches!(refused, Err(OutboundError::Forbidden { .. })), "{host}: {refused:?}");
    }
    assert!(server.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere =
        "HTTP/1.1 302 Found\r\nlocation: https://localhost/\r\ncontent-length: 0\r\n\r\n";
    let server = Server::answering(elsewhere.to_owned()).await;
    let refused = server.get().await;
    assert!(matches!(refused, Err(OutboundError::Status(status)) if status == 302), "{refused:?}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_length_and_in_time() {
    let server = Server::answering(ok(&"a".repeat(LIMIT))).await;
    assert_eq!(server.get().await.unwrap().len(), LIMIT);
    let long = Server::answering(ok(&"a".repeat(LIMIT + 1))).await;
    assert!(matches!(long.get().await, Err(OutboundError::TooLong(LIMIT))));
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
        + &format!("{LIMIT:x}\r\n{}\r\n", "a".repeat(LIMIT)).repeat(3);
    let endless = Server::answering(endless).await;
    assert!(matches!(endless.get().await, Err(OutboundError::TooLong(LIMIT))));
    let head = Server::answering(format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "a".repeat(20_000)));
    assert!(matches!(head.await.get().await, Err(OutboundError::Http(_))));
    let silent = Server::answering(String::new()).await;
    assert!(matches!(silent.get().await, Err(OutboundError::Deadline(_))));
    let broken = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".into()).await;
    assert!(matches!(broken.get().await, Err(OutboundError::Http(_))));
}

#[tokio::test]
async fn a_server_that_is_not_who_it_says_is_not_believed() {
    let server = Server::answering(ok("{}")).await;
    let other = Server::answering(ok("{}")).await;
    let client = other.client(&["127.0.0.0/8"]);
    let refused = client.get(&server.url("localhost"), LIMIT).await;
    assert!(matches!(refused, Err(OutboundError::Connect(_))), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_https_url_is_asked_nothing() {
    let server = Server::answering(ok("{}")).await;
    let client = server.client(&["127.0.0.0/8"]);
    for url in
        ["http://localhost/", "https://", "ftp://localhost/", "https://me@localhost/", "keys"]
    {
        assert!(matches!(client.get(url, LIMIT).await, Err(OutboundError::Url)), "{url}");
    }
}

#[tokio::test]
async fn a_form_is_posted_and_the_answer_is_its_status() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno", 400),
        ("HTTP/1.1 302 Found\r\nlocation: https://localhost/\r\ncontent-length: 0\r\n\r\n", 302),
    ] {
        let mut server = Server::answering(answer.to_owned()).await;
        let client = server.client(&["127.0.0.0/8"]);
        let status = client.post_form(&server.url("localhost"), "logout_token=t".into()).await;
        assert_eq!(status.unwrap().as_u16(), expected);
        let asked = server.asked.recv().await.unwrap().to_ascii_lowercase();
        assert!(asked.starts_with("post /keys?a=b http/1.1\r\n"), "{asked}");
        assert!(asked.contains("content-type: application/x-www-form-urlencoded\r\n"), "{asked}");
        assert!(asked.ends_with("\r\n\r\nlogout_token=t"), "{asked}");
        assert!(!asked.contains("authorization") && !asked.contains("cookie"), "{asked}");
    }
}

#[tokio::test]
async fn nothing_is_posted_where_policy_forbids_nor_in_the_clear_beyond_loopback() {
    let mut server = Server::answering(ok("{}")).await;
    for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"] {
        let client = server.client(&["10.0.0.0/8"]);
        let refused = client.post_form(&server.url(host), "a=b".into()).await;
        assert!(matches!(refused, Err(OutboundError::Forbidden { .. })), "{host}: {refused:?}");
        let plain = server.url(host).replace("https:", "http:");
        let refused = client.post_form(&plain, "a=b".into()).await;
        assert!(refused.is_err(), "{host}: {refused:?}");
    }
    assert!(server.asked.try_recv().is_err());
    let anywhere = server.client(&["0.0.0.0/0"]);
    for plain in ["http://10.0.0.1/", "http://app.example.com/", "http://localhost.example.com/"] {
        let refused = anywhere.post_form(plain, "a=b".into()).await;
        assert!(matches!(refused, Err(OutboundError::Url)), "{plain}: {refused:?}");
        let refused = anywhere.get(plain, LIMIT).await;
        assert!(matches!(refused, Err(OutboundError::Url)), "{plain}: {refused:?}");
    }
    let fetched = anywhere.get("http://localhost/", LIMIT).await;
    assert!(matches!(fetched, Err(OutboundError::Url)), "{fetched:?}");
}

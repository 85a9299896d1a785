//! The listener for trusted proxies, with real handshakes, and the ordinary one that must not do its work.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use claviger_domain::connector::{Authenticated, IdentityPolicy, Login, Refresh};
use claviger_domain::fakes::World;
use claviger_domain::identity::Identity;
use claviger_domain::proxy::{ProxyError, ProxyLogin, ProxyRequest};
use claviger_server::tls::{CertificateFiles, Certificates};
use claviger_server::{Limits, serve_proxies};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::rig::Rig;

const HOST: &str = "id.example.org";

/// Trusts one certificate, and takes `x-user` for the user.
#[derive(Debug)]
struct HeaderLogin {
    trusted: Vec<u8>,
}

impl ProxyLogin for HeaderLogin {
    fn verify_certificate(&self, certificates: &[&[u8]], _now: i64) -> Result<(), ProxyError> {
        if certificates.first() == Some(&self.trusted.as_slice()) {
            return Ok(());
        }
        Err(ProxyError::UntrustedCertificate("another one".into()))
    }

    fn authenticate(
        &self,
        request: &ProxyRequest<'_>,
        now: i64,
    ) -> Result<Authenticated, ProxyError> {
        self.verify_certificate(request.certificates, now)?;
        if !request.source.is_loopback() {
            return Err(ProxyError::SourceNotAllowed(request.source));
        }
        let mut users = request.headers.iter().filter(|(name, _)| *name == "x-user");
        let (Some((_, user)), None) = (users.next(), users.next()) else {
            return Err(ProxyError::HeaderAmbiguous("x-user".into()));
        };
        let identity = Identity {
            user_id: String::from_utf8_lossy(user).into_owned(),
            email: None,
            email_verified: false,
            name: None,
            preferred_username: None,
            groups: vec!["staff".into(), "root".into()],
            extra: std::collections::BTreeMap::new(),
        };
        Ok(Authenticated { identity, raw: serde_json::Map::new(), data: None })
    }
}

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([HOST.to_owned()]).unwrap()
}

/// Makes `directory` a connector whose users come through the holder of this certificate.
fn behind(world: &mut World, proxy: &CertifiedKey<KeyPair>) {
    let connector = Arc::make_mut(&mut world.issuer.connectors[1]);
    connector.login = Login::Proxy(Arc::new(HeaderLogin { trusted: proxy.cert.der().to_vec() }));
    connector.refresh = Refresh::Unsupported;
    connector.policy = IdentityPolicy {
        allowed_groups: ["staff".to_owned()].into(),
        only_allowed_groups: true,
        ..IdentityPolicy::default()
    };
}

struct Guarded {
    rig: Rig,
    server: CertifiedKey<KeyPair>,
    address: SocketAddr,
    shutdown: CancellationToken,
    _folder: TempDir,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn start(proxy: &CertifiedKey<KeyPair>) -> Guarded {
    let rig = Rig::with(|world| behind(world, proxy));
    let (folder, server) = (TempDir::new().unwrap(), certificate());
    let files = CertificateFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    };
    fs::write(&files.certificate, server.cert.pem()).unwrap();
    fs::write(&files.key, server.signing_key.serialize_pem()).unwrap();
    let certificates = Arc::new(Certificates::load(files, Arc::clone(&rig.snapshot)).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let config = certificates.proxy_config().unwrap();
    let (app, stop) = (rig.app.clone(), shutdown.clone());
    tokio::spawn(serve_proxies(listener, config, app, Limits::default(), stop));
    Guarded { rig, server, address, shutdown, _folder: folder }
}

impl Guarded {
    /// The answer to a request with this certificate, or nothing when the handshake is refused.
    async fn ask(
        &self,
        shown: Option<&CertifiedKey<KeyPair>>,
        target: &str,
        headers: &str,
    ) -> Option<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.cert.der().clone()).unwrap();
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![identity.cert.der().clone()], key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(HOST).unwrap();
        // TLS 1.3: a client learns only when it reads that its certificate was refused.
        let mut stream = connector.connect(name, stream).await.ok()?;
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// A flow that stands before the proxy: the callback's target and the cookie header.
    async fn flow(&self, change: &[(&str, &str)]) -> (String, String) {
        let mut browser = self.rig.browser();
        let change = [&[("connector_id", "directory")], change].concat();
        let begun = browser.authorize(&change).await;
        let callback = browser.get(&begun.location()).await.location();
        assert!(callback.starts_with("/callback/directory?state="), "{callback}");
        let pairs: Vec<_> = browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
        (callback, format!("Cookie: {}\r\n", pairs.join("; ")))
    }
}

#[tokio::test]
async fn a_proxy_with_its_certificate_brings_its_user_to_a_code() {
    let proxy = certificate();
    let guarded = start(&proxy).await;
    let (callback, cookies) = guarded.flow(&[]).await;
    let answer = guarded.ask(Some(&proxy), &callback, &format!("{cookies}X-User: alice\r\n")).await;
    let answer = answer.unwrap();
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    let (_, rest) = answer.split_once("location: ").unwrap();
    let location = url::Url::parse(rest.split_once("\r\n").unwrap().0).unwrap();
    let (_, code) = location.query_pairs().find(|(name, _)| name == "code").unwrap();
    assert!(guarded.rig.store_requests().is_empty(), "a code stores nothing");
    let tokens = guarded.rig.redeem(&code).await.json();
    assert_eq!(guarded.rig.store_requests(), ["create"]);
    assert!(tokens.get("refresh_token").is_none(), "nobody can be asked again: {tokens}");
    let claims = crate::rig::claims(&tokens["id_token"]);
    assert_eq!(claims["groups"], serde_json::json!(["staff"]));
}

#[tokio::test]
async fn without_the_connectors_certificate_there_is_no_handshake() {
    let (proxy, stranger) = (certificate(), certificate());
    let guarded = start(&proxy).await;
    let (callback, cookies) = guarded.flow(&[]).await;
    let headers = format!("{cookies}X-User: alice\r\n");
    assert_eq!(guarded.ask(None, &callback, &headers).await, None);
    assert_eq!(guarded.ask(Some(&stranger), &callback, &headers).await, None);
}

#[tokio::test]
async fn what_the_snapshot_trusts_now_counts_without_a_restart() {
    let (old, new) = (certificate(), certificate());
    let guarded = start(&old).await;
    let ask = async |shown| guarded.ask(Some(shown), "/callback/directory", "").await.is_some();
    assert_eq!((ask(&old).await, ask(&new).await), (true, false));
    let mut world = World::new();
    behind(&mut world, &new);
    guarded.rig.replace_issuer(world.issuer);
    assert_eq!((ask(&old).await, ask(&new).await), (false, true));
    guarded.rig.replace_issuer(World::new().issuer);
    assert_eq!((ask(&old).await, ask(&new).await), (false, false), "nobody is trusted");
}

#[tokio::test]
async fn the_listener_for_proxies_serves_the_callback_alone() {
    let proxy = certificate();
    let guarded = start(&proxy).await;
    for path in ["/", "/auth", "/token", "/keys", "/userinfo", "/approval", "/healthz"] {
        let answer = guarded.ask(Some(&proxy), path, "").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let answer = guarded.ask(Some(&proxy), "/callback/directory", "X-User: alice\r\n").await;
    let answer = answer.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "without a flow: {answer}");
    assert!(answer.contains("not started here"), "{answer}");
}

#[tokio::test]
async fn a_refused_request_names_the_header_is_audited_and_stores_nothing() {
    let proxy = certificate();
    let guarded = start(&proxy).await;
    let (callback, cookies) = guarded.flow(&[]).await;
    let twice = format!("{cookies}X-User: alice\r\nX-User: mallory\r\n");
    let answer = guarded.ask(Some(&proxy), &callback, &twice).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("x-user is there more than once"), "{answer}");
    assert!(!answer.contains("mallory"), "{answer}");
    let audited = guarded.rig.world.audit.take();
    assert_eq!(audited.len(), 1, "{audited:?}");
    assert!(audited[0].contains("HeaderAmbiguous"), "{audited:?}");
    assert!(guarded.rig.store_requests().is_empty());
}

#[tokio::test]
async fn a_proxys_flow_cannot_end_at_a_connector_with_passwords_or_the_reverse() {
    let proxy = certificate();
    let guarded = start(&proxy).await;
    let (callback, cookies) = guarded.flow(&[]).await;
    let other = callback.replace("directory", "local");
    let answer = guarded.ask(Some(&proxy), &other, &format!("{cookies}X-User: a\r\n")).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 404"), "local takes no proxy's word");

    let mut browser = guarded.rig.browser();
    let (form, page) = browser.login_form(&[]).await;
    let form = (form.replace("/local/", "/directory/"), page);
    let answer = browser.sign_in(&form, "alice", "wonderland").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "directory takes no password: {answer:?}");
}

#[tokio::test]
async fn a_client_that_wants_the_user_asked_again_is_told_that_nobody_can() {
    let proxy = certificate();
    let guarded = start(&proxy).await;
    for fresh in [("prompt", "login"), ("max_age", "3600"), ("max_age", "0")] {
        let (callback, cookies) = guarded.flow(&[fresh]).await;
        let headers = format!("{cookies}X-User: alice\r\n");
        let answer = guarded.ask(Some(&proxy), &callback, &headers).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 303"), "{fresh:?}: {answer}");
        assert!(answer.contains("error=login_required"), "{fresh:?}: {answer}");
    }
}

#[tokio::test]
async fn consent_is_asked_on_the_way_and_answered_at_the_ordinary_listener() {
    let proxy = certificate();
    let guarded = start(&proxy).await;
    let (callback, cookies) = guarded.flow(&[("prompt", "consent")]).await;
    let headers = format!("{cookies}X-User: alice\r\n");
    let page = guarded.ask(Some(&proxy), &callback, &headers).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let field = |name: &str| {
        let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let (csrf, grant) = (field("csrf"), field("grant"));
    let form = [("approval", "approve"), ("csrf", &csrf), ("grant", &grant)];
    let mut browser = guarded.rig.browser();
    let pairs = cookies.trim_start_matches("Cookie: ").trim_end().split("; ");
    browser.jar = pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let answer = browser.post(&callback.replace("/callback/directory", "/approval"), &form).await;
    assert!(answer.redirect_param("code").is_some(), "{answer:?}");
    assert!(guarded.rig.store_requests().is_empty());
}

#[tokio::test]
async fn the_ordinary_listener_refuses_the_callback_with_words_and_reads_no_header() {
    let proxy = certificate();
    let guarded = start(&proxy).await;
    let mut browser = guarded.rig.browser();
    let begun = browser.authorize(&[("connector_id", "directory")]).await;
    let callback = browser.get(&begun.location()).await.location();
    browser.headers.insert("x-user", "alice".parse().unwrap());
    let answer = browser.get(&callback).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(answer.body.contains("goes through a proxy"), "{answer:?}");
    for path in ["/callback/local", "/callback/nobody"] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let posted = guarded.rig.send(
        guarded.rig.request(Method::POST, &callback).body(axum::body::Body::empty()).unwrap(),
    );
    assert_eq!(posted.await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(guarded.rig.store_requests().is_empty());
}

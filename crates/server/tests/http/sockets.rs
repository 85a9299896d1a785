//! Peers that are slow, silent, oversized or many, over real sockets.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_domain::connector::{Authenticated, Login, LoginError, PasswordLogin};
use claviger_server::{Limits, serve};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::rig::{CREDENTIALS, Rig, encode, set_login};
use crate::upstream;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

async fn start(rig: &Rig, limits: Limits) -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, None, rig.app.clone(), limits, shutdown.clone()));
    Server { address, shutdown, task }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a text on a new connection and returns all that comes back until the server closes.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        read_to_end(&mut stream).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A reset after the answer is how a server refuses to read on.
    let _ = tokio::time::timeout(PATIENCE, reading).await.expect("the connection was not closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: id.example.org\r\nConnection: close\r\n{more}\r\n")
}

#[track_caller]
fn assert_status(answer: &str, status: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

#[tokio::test]
async fn heads_over_16_kib_are_refused_and_those_below_are_read() {
    let rig = Rig::new();
    let server = start(&rig, Limits::default()).await;
    let large = |length| head("GET", "/keys", &format!("X-Filler: {}\r\n", "x".repeat(length)));
    assert_status(&server.exchange(&large(15 * 1024)).await, "200");
    assert_status(&server.exchange(&large(17 * 1024)).await, "431");
    let many = "X-Many: 1\r\n".repeat(200);
    assert_status(&server.exchange(&head("GET", "/keys", &many)).await, "431");
    server.stop().await;
}

#[tokio::test]
async fn bodies_over_64_kib_are_refused_with_and_without_a_length() {
    let rig = Rig::new();
    let server = start(&rig, Limits::default()).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let announced = head("POST", "/token", &format!("{form}Content-Length: 80000\r\n"));
    let announced = format!("{announced}{}", "a".repeat(80_000));
    assert_status(&server.exchange(&announced).await, "413");
    let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    let chunked = head("POST", "/token", &format!("{form}Transfer-Encoding: chunked\r\n"));
    let chunked = format!("{chunked}{}0\r\n\r\n", chunk.repeat(5));
    assert_status(&server.exchange(&chunked).await, "413");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_is_sent() {
    let rig = Rig::new();
    let server = start(&rig, Limits::default()).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let announced = head("POST", "/token", &format!("{form}Content-Length: 10000000\r\n"));
    assert_status(&server.exchange(&announced).await, "413");
    server.stop().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let rig = Rig::new();
    let server = start(&rig, Limits { header_read: SHORT, ..Limits::default() }).await;
    let answer = server.exchange("GET /keys HTTP/1.1\r\nHost: id.exam").await;
    assert!(!answer.contains("200 OK"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_cut_off() {
    let rig = Rig::new();
    let server = start(&rig, Limits { header_read: SHORT, ..Limits::default() }).await;
    assert_eq!(server.exchange("").await, "");
    assert_eq!(server.exchange("PRI * HT").await, "", "half an HTTP/2 preface");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_idles_between_requests_is_closed() {
    let rig = Rig::new();
    let server = start(&rig, Limits { header_read: SHORT, ..Limits::default() }).await;
    let answer = server.exchange("GET /keys HTTP/1.1\r\nHost: id.example.org\r\n\r\n").await;
    assert_status(&answer, "200");
    server.stop().await;
}

#[tokio::test]
async fn nonsense_harms_nobody() {
    let rig = Rig::new();
    let server = start(&rig, Limits::default()).await;
    for nonsense in
        ["\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9\r\n\r\n"]
    {
        let answer = server.exchange(nonsense).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert_status(&server.exchange(&head("GET", "/keys", "")).await, "200");
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_their_turn() {
    let rig = Rig::new();
    let server = start(&rig, Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /keys HTTP/1.1\r\nHost: id.example.org\r\n\r\n").await.unwrap();
    let mut seen = [0; 12];
    first.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"HTTP/1.1 200");

    let mut second = server.connect().await;
    second.write_all(head("GET", "/keys", "").as_bytes()).await.unwrap();
    let waiting = tokio::time::timeout(SHORT, second.read_u8()).await;
    assert!(waiting.is_err(), "the second was served while the first was open");
    drop(first);
    assert_status(&read_to_end(&mut second).await, "200");
    server.stop().await;
}

/// An upstream that holds every sign-in until it is let go.
#[derive(Debug, Default)]
struct Gate {
    entered: Notify,
    released: Notify,
}

impl PasswordLogin for Gate {
    fn username_label(&self) -> &'static str {
        "User name"
    }

    // What `#[async_trait]` would make of an async fn.
    fn authenticate<'s, 'u, 'p, 'f>(
        &'s self,
        _username: &'u str,
        _password: &'p SecretString,
    ) -> Pin<Box<dyn Future<Output = Result<Authenticated, LoginError>> + Send + 'f>>
    where
        's: 'f,
        'u: 'f,
        'p: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            self.entered.notify_one();
            self.released.notified().await;
            Ok(Authenticated {
                identity: claviger_domain::fakes::alice(),
                raw: serde_json::Map::new(),
                data: None,
            })
        })
    }
}

/// A login request ready to be written to a socket, and the gate it will wait at.
async fn gated_login() -> (Rig, Arc<Gate>, String) {
    let gate = Arc::new(Gate::default());
    let upstream = Arc::clone(&gate);
    let rig = Rig::with(move |world| {
        world.issuer.connectors.truncate(1);
        set_login(world, Login::Password(upstream));
    });
    let mut browser = rig.browser();
    let (target, form) = browser.login_form(&[]).await;
    let csrf = form.hidden("csrf");
    let body = encode(&[("login", "alice"), ("password", "x"), ("csrf", &csrf)]);
    let (name, value) = browser.jar.first_key_value().unwrap();
    let more = format!(
        "Cookie: {name}={value}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    let request = format!("{}{body}", head("POST", &target, &more));
    (rig, gate, request)
}

#[tokio::test]
async fn a_request_under_way_is_finished_at_shutdown_and_no_new_one_begins() {
    let (rig, gate, request) = gated_login().await;
    let server = start(&rig, Limits::default()).await;
    let mut under_way = server.connect().await;
    under_way.write_all(request.as_bytes()).await.unwrap();
    tokio::time::timeout(PATIENCE, gate.entered.notified()).await.unwrap();
    server.shutdown.cancel();
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the listener stayed open");
    gate.released.notify_one();
    assert_status(&read_to_end(&mut under_way).await, "303");
    server.stop().await;
}

#[tokio::test]
async fn shutdown_waits_no_longer_than_the_drain_time() {
    let (rig, gate, request) = gated_login().await;
    let server = start(&rig, Limits { drain: SHORT, ..Limits::default() }).await;
    let mut under_way = server.connect().await;
    under_way.write_all(request.as_bytes()).await.unwrap();
    tokio::time::timeout(PATIENCE, gate.entered.notified()).await.unwrap();
    server.stop().await;
    assert_eq!(read_to_end(&mut under_way).await, "");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_503() {
    let (rig, _gate, request) = gated_login().await;
    let server = start(&rig, Limits { request: SHORT, ..Limits::default() }).await;
    assert_status(&server.exchange(&request).await, "503");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_never_arrives_is_given_up() {
    let rig = Rig::new();
    let server = start(&rig, Limits { request: SHORT, ..Limits::default() }).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n";
    let answer = server.exchange(&format!("{}client_id=", head("POST", "/token", form))).await;
    assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_refresh_that_has_begun_is_finished_though_its_client_and_the_server_go() {
    let (rig, peer) = upstream::rig();
    let tokens = upstream::tokens(&rig).await;
    rig.store_requests();
    peer.close_gate();
    let mut server = start(&rig, Limits::default()).await;
    let refresh_token = tokens["refresh_token"].as_str().unwrap();
    let body = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    let body = encode(&[&CREDENTIALS[..], &body].concat());
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let head = head("POST", "/token", &format!("{form}Content-Length: {}\r\n", body.len()));
    let mut client = server.connect().await;
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut asked = Vec::new();
    while asked != ["get", "claim"] {
        tokio::task::yield_now().await;
        asked.extend(rig.store_requests());
    }
    drop(client);
    server.shutdown.cancel();
    let early = tokio::time::timeout(SHORT, &mut server.task).await;
    assert!(early.is_err(), "the upstream may have used up its refresh token by now");
    peer.open_gate();
    server.stop().await;
    assert_eq!(rig.store_requests(), ["rotate"]);
}

/// What a logout token sent from this address is answered.
async fn told(server: &Server, from: &str, token: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let form = encode(&[("logout_token", token)]);
    let more = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        form.len()
    );
    let request = format!("{}{form}", head("POST", "/callback/local/logout", &more));
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

#[tokio::test]
async fn forged_logout_tokens_are_noted_twenty_one_times_and_keep_no_provider_out() {
    let (rig, _) = upstream::rig();
    let server = start(&rig, Limits::default()).await;
    let (stranger, elsewhere) = ("127.0.0.1", "127.0.0.2");
    let honest = format!("{} ", claviger_domain::fakes::alice().user_id);
    let begun = Instant::now();
    let mut refused = 0;
    let waits = loop {
        let answer = told(&server, stranger, "forged").await;
        if !answer.starts_with("HTTP/1.1 400 ") {
            break answer;
        }
        refused += 1;
    };
    assert_status(&waits, "429");
    assert!(waits.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{waits}");
    assert!(waits.contains("no-store") && waits.contains("send the same token again"), "{waits}");
    let more = begun.elapsed().as_secs(); // one a second
    assert!((21..=21 + more).contains(&refused), "{refused} were noted");
    let audit = rig.world.audit.take();
    assert!(audit.iter().all(|record| record.contains("LogoutRefused")), "{audit:?}");
    assert_eq!(audit.len() as u64, refused, "what comes too often is not noted");
    assert_eq!(rig.store_requests(), Vec::<&str>::new());

    for provider in [elsewhere, stranger] {
        for _ in 0..25 {
            assert_status(&told(&server, provider, &honest).await, "200");
        }
    }
    assert_eq!(rig.store_requests(), ["list"; 50], "what is believed is not counted");
    server.stop().await;
}

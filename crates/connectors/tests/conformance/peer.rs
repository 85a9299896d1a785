//! A server that does what no upstream should.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger_testkit::{CertificateAuthority, PortLease};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// Nobody listens.
    Down,
    /// Takes connections, and says nothing: no TLS either.
    Silent,
    /// Speaks TLS, listens, and never answers.
    Mute,
    /// Shows a certificate of an authority that nobody named.
    Stranger,
    /// Ends each connection after the handshake.
    HangsUp,
    /// Answers in no protocol.
    Noise,
    /// Answers each question with a page for people.
    Page,
    /// Answers with a JSON object that has nothing in it.
    Empty,
    /// Answers without an end.
    Flood,
    /// Answers with an LDAP message that says it has two gigabytes, and goes on sending it.
    Message,
    /// Answers with an LDAP message whose elements are in each other, as deep as its size lets them.
    Nested,
    /// Header fields without an end.
    Headers,
    /// Points to an address inside, that is nobody's but ours.
    Redirect,
    /// 500.
    Failing,
    /// 429.
    Busy,
}

impl Conduct {
    pub const ALL: [Self; 15] = [
        Self::Down,
        Self::Silent,
        Self::Mute,
        Self::Stranger,
        Self::HangsUp,
        Self::Noise,
        Self::Page,
        Self::Empty,
        Self::Flood,
        Self::Message,
        Self::Nested,
        Self::Headers,
        Self::Redirect,
        Self::Failing,
        Self::Busy,
    ];
}

/// The server, until it is dropped.
pub struct Peer {
    pub address: SocketAddr,
    /// The authority that connectors are told to trust.
    pub authority: CertificateAuthority,
    /// Connections it was asked for.
    pub connections: Arc<AtomicUsize>,
    /// Most bytes it got rid of in one connection.
    pub most_sent: Arc<AtomicUsize>,
    /// Connections to where it points.
    pub followed: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
    _leases: Vec<PortLease>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One connection's way of misbehaving.
#[derive(Clone)]
struct Script {
    conduct: Conduct,
    inside: SocketAddr,
    most_sent: Arc<AtomicUsize>,
}

impl Peer {
    /// One whose certificate is for these names and 127.0.0.1.
    pub async fn start(conduct: Conduct, names: &[&str]) -> Self {
        let authority = CertificateAuthority::create("upstream").unwrap();
        let stranger = CertificateAuthority::create("stranger").unwrap();
        let signer = if conduct == Conduct::Stranger { &stranger } else { &authority };
        let certificate = signer.server(names, &[[127, 0, 0, 1].into()]).unwrap();
        let tls = certificate.acceptor().unwrap();

        let (inside_lease, inside) = listen().await;
        let inside_address = inside.local_addr().unwrap();
        let followed = Arc::new(AtomicUsize::new(0));
        let (lease, listener) = listen().await;
        let address = listener.local_addr().unwrap();
        let (connections, most_sent) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let script = Script { conduct, inside: inside_address, most_sent: Arc::clone(&most_sent) };

        let mut tasks = vec![tokio::spawn(count(inside, Arc::clone(&followed)))];
        if conduct != Conduct::Down {
            let connections = Arc::clone(&connections);
            tasks.push(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::Relaxed);
                    let (tls, script) = (tls.clone(), script.clone());
                    tokio::spawn(async move {
                        if script.conduct == Conduct::Silent {
                            return say_nothing(stream).await;
                        }
                        // A client that goes away has seen enough.
                        if let Ok(stream) = tls.accept(stream).await {
                            drop(Box::pin(script.play(stream)).await);
                        }
                    });
                }
            }));
        }
        let leases = vec![lease, inside_lease];
        Self { address, authority, connections, most_sent, followed, tasks, _leases: leases }
    }
}

async fn listen() -> (PortLease, TcpListener) {
    let lease = PortLease::take().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", lease.port())).await.unwrap();
    (lease, listener)
}

async fn count(listener: TcpListener, connections: Arc<AtomicUsize>) {
    while listener.accept().await.is_ok() {
        connections.fetch_add(1, Ordering::Relaxed);
    }
}

/// Until the client gives up.
async fn say_nothing(mut stream: impl AsyncReadExt + Unpin) {
    let mut sink = [0; 4_096];
    while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}

impl Script {
    async fn play(
        &self,
        mut stream: tokio_rustls::server::TlsStream<TcpStream>,
    ) -> std::io::Result<()> {
        let mut question = [0; 16_384];
        match self.conduct {
            Conduct::HangsUp => return stream.shutdown().await,
            Conduct::Mute => {
                say_nothing(stream).await;
                return Ok(());
            }
            _ => {}
        }
        while stream.read(&mut question).await? > 0 {
            match self.conduct {
                Conduct::Noise => stream.write_all(&[0xf0, 0x9f, 0x92, 0xa3, 0x00, 0xff]).await?,
                Conduct::Flood => self.without_end(&mut stream, FLOOD, &[b'['; 16_384]).await?,
                Conduct::Message => self.without_end(&mut stream, MESSAGE, &[0; 16_384]).await?,
                Conduct::Nested => stream.write_all(&nested()).await?,
                Conduct::Headers => {
                    self.without_end(&mut stream, b"HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n")
                        .await?;
                }
                Conduct::Page => {
                    answer(&mut stream, "200 OK", "text/html", "<h1>Hello</h1>").await?;
                }
                Conduct::Empty => answer(&mut stream, "200 OK", "application/json", "{}").await?,
                Conduct::Failing => {
                    answer(&mut stream, "500 Internal Server Error", "text/plain", "").await?;
                }
                Conduct::Busy => {
                    answer(&mut stream, "429 Too Many Requests", "application/json", GRANT).await?;
                }
                Conduct::Redirect => {
                    let status =
                        format!("302 Found\r\nlocation: http://{}/latest/meta-data", self.inside);
                    answer(&mut stream, &status, "text/plain", "").await?;
                }
                Conduct::Down
                | Conduct::Silent
                | Conduct::Mute
                | Conduct::Stranger
                | Conduct::HangsUp => {
                    return Ok(());
                }
            }
            stream.flush().await?;
        }
        Ok(())
    }

    /// Bounded, should nobody stop it.
    async fn without_end(
        &self,
        stream: &mut tokio_rustls::server::TlsStream<TcpStream>,
        start: &[u8],
        more: &[u8],
    ) -> std::io::Result<()> {
        stream.write_all(start).await?;
        let mut sent = 0;
        while sent < 256 * 1_024 * 1_024 {
            tokio::time::timeout(Duration::from_mins(1), stream.write_all(more)).await??;
            sent += more.len();
            self.most_sent.fetch_max(sent, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A body that a client reads as long as it is given.
const FLOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
/// A search's entry: a sequence, then the number of a question.
const MESSAGE: &[u8] = &[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02, 0x01, 0x01];
/// Eight hundred thousand sequences, each in the one before.
fn nested() -> Vec<u8> {
    let lengths = (2..4_000_000_u32).step_by(5).collect::<Vec<_>>();
    let mut message = Vec::new();
    for length in lengths.iter().rev() {
        message.extend([0x30, 0x83]);
        message.extend(&length.to_be_bytes()[1..]);
    }
    message.extend([0x05, 0x00]);
    message
}

/// What would be a verdict, had it another status.
const GRANT: &str = r#"{"error":"invalid_grant"}"#;

async fn answer(
    stream: &mut tokio_rustls::server::TlsStream<TcpStream>,
    status: &str,
    media_type: &str,
    body: &str,
) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

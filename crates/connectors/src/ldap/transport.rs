//! The way to a directory: TCP, TLS from the first byte or by `StartTLS`, and a relay before the library.
//!
//! ```text
//! ldap3 ── pair of sockets ── relay ── TLS ── TCP ── directory
//! ```
//! What always holds: no message longer than [`MAX_MESSAGE`] reaches the library, which would read any to its end; nothing
//! that came before TLS is read after it.

use std::io;
use std::os::unix::net::UnixStream as Socket;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::config::Endpoint;
use super::error::Error;
use crate::tls;

/// Longest message, in bytes; of an upstream with a web API one answer is as long.
const MAX_MESSAGE: usize = 4 * 1_024 * 1_024;
/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1_024;
/// Longest answer to `StartTLS`, in bytes.
const MAX_START_TLS: usize = 4_096;
/// Said of a server that does not speak the protocol.
pub const NOT_LDAP: &str = "the server answered something that is not LDAP";

/// An extended request (RFC 4511 section 4.14.1): a message numbered 1 that holds the name 1.3.6.1.4.1.1466.20037.
const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Goes to a server; the library speaks LDAP on the socket, and the task says why the way ended.
///
/// # Errors
/// [`Error::Connect`], [`Error::Tls`].
pub async fn open(endpoint: &Endpoint) -> Result<(Socket, JoinHandle<io::Result<()>>), Error> {
    let url = || endpoint.url.to_string();
    let connect = |error: io::Error| Error::Connect { url: url(), cause: error.to_string() };
    let server = stream(endpoint).await?;
    let (ours, theirs) = UnixStream::pair().map_err(connect)?;
    let theirs = theirs.into_std().map_err(connect)?;
    Ok((theirs, tokio::spawn(relay(server, ours))))
}

async fn stream(endpoint: &Endpoint) -> Result<Box<dyn Stream>, Error> {
    let url = || endpoint.url.to_string();
    let failed = |error: &io::Error| match tls::explain_io(error) {
        Some(cause) => Error::Tls { url: url(), cause },
        None => Error::Connect { url: url(), cause: error.to_string() },
    };
    let host = endpoint.url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = if endpoint.url.scheme() == "ldaps" { 636 } else { 389 };
    let port = endpoint.url.port().unwrap_or(port);
    let mut tcp = TcpStream::connect((host, port)).await.map_err(|error| failed(&error))?;
    tcp.set_nodelay(true).map_err(|error| failed(&error))?;
    let Some(config) = &endpoint.tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Tls {
        url: url(),
        cause: "certificates name hosts; use a host name or an address in the URL".to_owned(),
    })?;
    if endpoint.start_tls {
        let refused = start_tls(&mut tcp).await.map_err(|error| failed(&error))?;
        if let Some(result) = refused {
            let cause = format!(
                "the server refused StartTLS: {result}: use ldaps:// or set up TLS on the server"
            );
            return Err(Error::Tls { url: url(), cause });
        }
    }
    let connector = TlsConnector::from(std::sync::Arc::clone(config));
    let encrypted = connector.connect(name, tcp).await.map_err(|error| failed(&error))?;
    Ok(Box::new(encrypted))
}

/// Asks for TLS; returns what a server says that will not. Reads its answer and not a byte more.
async fn start_tls(tcp: &mut TcpStream) -> io::Result<Option<String>> {
    tcp.write_all(START_TLS).await?;
    let mut head = Vec::new();
    let length = loop {
        head.push(tcp.read_u8().await?);
        if let Some(length) = length_of(&head)? {
            break length;
        }
    };
    if length > MAX_START_TLS {
        return Err(not_ldap());
    }
    let mut message = vec![0; length];
    tcp.read_exact(&mut message).await?;
    let (code, text) = result(&message).ok_or_else(not_ldap)?;
    Ok((code != 0).then(|| format!("rc={code}, text: {text:?}")))
}

/// Code and diagnostic message of an `LDAPResult` (RFC 4511 section 4.1.9), of the content of a message.
fn result(message: &[u8]) -> Option<(u8, String)> {
    let (_number, rest) = element(message)?;
    let (response, _controls) = element(rest)?;
    let (code, rest) = element(response)?;
    let (_matched, rest) = element(rest)?;
    let (text, _) = element(rest)?;
    Some((*code.first()?, String::from_utf8_lossy(text).into_owned()))
}

/// The content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(first) {
        length @ 0..0x80 => (length, rest),
        long => {
            let (length, rest) = rest.split_at_checked(long - 0x80)?;
            let number =
                |sum: usize, byte: &u8| sum.checked_mul(256)?.checked_add(usize::from(*byte));
            (length.iter().try_fold(0, number)?, rest)
        }
    };
    rest.split_at_checked(length)
}

/// How long the content of a message is that begins like this (X.690 section 8.1.3); `None` while its head goes on.
fn length_of(head: &[u8]) -> io::Result<Option<usize>> {
    match head {
        [] | [0x30] => Ok(None),
        [0x30, short] if *short < 0x80 => Ok(Some(usize::from(*short))),
        [0x30, long @ 0x81..=0x84, length @ ..] => {
            let number = |sum: usize, byte: &u8| (sum << 8) | usize::from(*byte);
            let ended = length.len() == usize::from(long - 0x80);
            Ok(ended.then(|| length.iter().fold(0, number)))
        }
        _ => Err(not_ldap()),
    }
}

fn not_ldap() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, NOT_LDAP)
}

/// Where in a server's messages one is.
#[derive(Debug, Default)]
struct Bound {
    head: Vec<u8>,
    rest: usize,
}

impl Bound {
    /// Takes what a server says next.
    fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((&byte, more)) = bytes.split_first() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.head.push(byte);
            bytes = more;
            if let Some(length) = length_of(&self.head)? {
                if length > MAX_MESSAGE {
                    let words = format!("a message of {length} bytes, more than {MAX_MESSAGE}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, words));
                }
                self.rest = length;
                self.head.clear();
            }
        }
        Ok(())
    }
}

/// Passes on what either side says, until one of them ends it or the server says what is not to be passed.
async fn relay(server: Box<dyn Stream>, library: UnixStream) -> io::Result<()> {
    let (mut from_server, mut to_server) = split(server);
    let (mut from_library, mut to_library) = split(library);
    let questions = async {
        copy(&mut from_library, &mut to_server).await?;
        to_server.shutdown().await
    };
    let answers = async {
        let (mut bound, mut chunk) = (Bound::default(), vec![0; CHUNK]);
        loop {
            let read = from_server.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            bound.pass(&chunk[..read])?;
            to_library.write_all(&chunk[..read]).await?;
        }
    };
    tokio::select! {
        ended = answers => ended,
        ended = questions => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_measured_however_it_is_cut_and_a_long_one_is_stopped_at_its_head() {
        let mut messages = vec![0x30, 0x03, 0x02, 0x01, 0x07, 0x30, 0x81, 0x80];
        messages.extend([0x30; 0x80]);
        messages.extend([0x30, 0x00, 0x30, 0x84, 0, 0, 0, 2, 0xff, 0xff]);
        for size in [1, 3, messages.len()] {
            let mut bound = Bound::default();
            messages.chunks(size).for_each(|chunk| bound.pass(chunk).unwrap());
            assert_eq!((bound.rest, bound.head.len()), (0, 0), "{size} bytes at once");
        }
        let long = Bound::default().pass(&[0x30, 0x83, 0x40, 0x00, 0x01]).unwrap_err();
        assert_eq!(long.to_string(), "a message of 4194305 bytes, more than 4194304");
        assert!(Bound::default().pass(&[0x30, 0x83, 0x40, 0x00, 0x00]).is_ok());
        for other in [&b"HTTP/1.1"[..], &[0x30, 0x80], &[0x30, 0x85]] {
            assert_eq!(Bound::default().pass(other).unwrap_err().to_string(), NOT_LDAP);
        }
    }

    #[test]
    fn the_answer_to_start_tls_is_read_and_half_of_one_is_none() {
        let refused = b"\x02\x01\x01\x78\x0e\x0a\x01\x34\x04\x00\x04\x07no keys";
        assert_eq!(result(refused), Some((0x34, "no keys".to_owned())));
        for end in 0..refused.len() {
            assert_eq!(result(&refused[..end]), None, "{end} bytes");
        }
        assert_eq!(element(&[0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(element(&[0x30, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}

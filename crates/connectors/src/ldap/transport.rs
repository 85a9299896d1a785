//! The way to a directory: TCP, TLS from the first byte or by `StartTLS`, and a relay before the library.
//!
//! ```text
//! ldap3 ── pair of sockets ── relay ── TLS ── TCP ── directory
//! ```
//! What always holds: only whole messages reach the library, none longer than [`MAX_MESSAGE`] and none that is not well
//! formed: it would read any to its end, by recursion; nothing that came before TLS is read after it.

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
/// Elements within elements: a search's entry has six.
const MAX_DEPTH: usize = 16;
/// Most elements of a message: an attribute's hundred thousand values.
const MAX_ELEMENTS: usize = 131_072;
/// In the first byte of an element (X.690 section 8.1.2): it holds others.
const CONSTRUCTED: u8 = 0x20;
/// Its number is in further bytes, as none of LDAP's is.
const LONG_TAG: u8 = 0x1f;
/// Bytes that are read at once.
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

/// Collects a server's messages.
#[derive(Debug, Default)]
struct Messages {
    begun: Vec<u8>,
    /// How long the begun one is, head included, once that is known.
    length: Option<usize>,
}

impl Messages {
    /// Takes what a server says next; returns the messages that are whole now.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some((&byte, more)) = bytes.split_first() {
            let Some(length) = self.length else {
                self.begun.push(byte);
                bytes = more;
                self.length = self.length_now()?;
                continue;
            };
            let (next, more) = bytes.split_at((length - self.begun.len()).min(bytes.len()));
            self.begun.extend_from_slice(next);
            bytes = more;
            if self.begun.len() == length {
                check_elements(&self.begun)?;
                whole.append(&mut std::mem::take(&mut self.begun)); // and its room
                self.length = None;
            }
        }
        Ok(whole)
    }

    fn length_now(&self) -> io::Result<Option<usize>> {
        let Some(content) = length_of(&self.begun)? else { return Ok(None) };
        if content == 0 {
            return Err(not_ldap());
        }
        if content > MAX_MESSAGE {
            let words = format!("a message of {content} bytes, more than {MAX_MESSAGE}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(Some(self.begun.len() + content))
    }
}

/// Whether every element of a message lies within the one around it, and not too deep. The library reads them by
/// recursion, and waits for ever for what a message has no room for.
fn check_elements(message: &[u8]) -> io::Result<()> {
    let (mut rest, mut ends, mut count) = (message, Vec::new(), 0);
    while let Some((&tag, _)) = rest.split_first() {
        count += 1;
        let around = ends.last().copied().unwrap_or(0);
        let (content, after) = element(rest).ok_or_else(not_ldap)?;
        if tag & LONG_TAG == LONG_TAG || after.len() < around || count > MAX_ELEMENTS {
            return Err(not_ldap());
        }
        if tag & CONSTRUCTED == 0 {
            rest = after;
        } else {
            ends.push(after.len());
            rest = &rest[rest.len() - after.len() - content.len()..];
            if ends.len() > MAX_DEPTH {
                return Err(not_ldap());
            }
        }
        while ends.last() == Some(&rest.len()) {
            ends.pop();
        }
    }
    Ok(())
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
        let (mut messages, mut chunk) = (Messages::default(), vec![0; CHUNK]);
        loop {
            let read = from_server.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            to_library.write_all(&messages.take(&chunk[..read])?).await?;
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

    fn take(bytes: &[u8]) -> String {
        Messages::default().take(bytes).unwrap_err().to_string()
    }

    #[test]
    fn messages_are_passed_whole_however_they_are_cut_and_a_long_one_is_stopped_at_its_head() {
        let mut messages = vec![0x30, 0x03, 0x02, 0x01, 0x07, 0x30, 0x81, 0x82, 0x04, 0x81, 0x7f];
        messages.extend([0x30; 0x7f]);
        messages.extend([0x30, 0x84, 0, 0, 0, 2, 0x05, 0x00]);
        for size in [1, 3, messages.len()] {
            let mut taken = Messages::default();
            let pieces = messages.chunks(size).map(|chunk| taken.take(chunk).unwrap());
            assert_eq!(pieces.collect::<Vec<_>>().concat(), messages, "{size} bytes at once");
            assert_eq!(taken.begun, Vec::<u8>::new());
        }
        assert_eq!(
            Messages::default().take(&messages[..4]).unwrap(),
            Vec::<u8>::new(),
            "half of one"
        );
        let long = take(&[0x30, 0x83, 0x40, 0x00, 0x01]);
        assert_eq!(long, "a message of 4194305 bytes, more than 4194304");
        assert!(Messages::default().take(&[0x30, 0x83, 0x40, 0x00, 0x00]).is_ok());
        for other in [&b"HTTP/1.1"[..], &[0x30, 0x80], &[0x30, 0x85], &[0x30, 0x00]] {
            assert_eq!(take(other), NOT_LDAP);
        }
    }

    #[test]
    fn a_message_that_is_not_well_formed_never_reaches_the_library() {
        let nested = |depth: u8| {
            (0..depth).fold(vec![0x05, 0x00], |inner, _| {
                let length = u8::try_from(inner.len()).unwrap();
                [&[0x30, length][..], &inner].concat()
            })
        };
        assert!(Messages::default().take(&nested(16)).is_ok());
        assert_eq!(take(&nested(17)), NOT_LDAP, "deeper than any message of LDAP");
        assert_eq!(
            take(&[0x30, 0x03, 0x04, 0x7f, 0x00]),
            NOT_LDAP,
            "longer than what is around it"
        );
        let sister = [0x30, 0x07, 0x30, 0x03, 0x04, 0x03, 0x00, 0x05, 0x00];
        assert_eq!(take(&sister), NOT_LDAP, "reaches into the next one");
        assert_eq!(take(&[0x30, 0x03, 0x1f, 0x01, 0x00]), NOT_LDAP, "a number in further bytes");
        let nulls = [0x05, 0x00].repeat(MAX_ELEMENTS);
        let length = u32::try_from(nulls.len()).unwrap().to_be_bytes();
        assert_eq!(take(&[&[0x30, 0x84][..], &length, &nulls].concat()), NOT_LDAP, "too many");
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

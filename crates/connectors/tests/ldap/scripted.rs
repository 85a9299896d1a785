//! A server that answers what a test tells it to: for what slapd never says, Active Directory's
//! ways and plain nonsense. Answers are written byte by byte (X.690), requests are read by ldap3.

use std::sync::{Arc, Mutex};

use claviger_testkit::PortLease;
use ldap3::asn1::{PL, StructureTag, parse_tag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a client asked.
#[derive(Debug, Clone)]
pub enum Request {
    Bind { dn: String },
    Search { base: String, raw: Vec<u8> },
}

impl Request {
    /// Whether these bytes are in the request.
    pub fn contains(&self, bytes: &[u8]) -> bool {
        let Self::Search { raw, .. } = self else {
            return false;
        };
        raw.windows(bytes.len()).any(|window| window == bytes)
    }

    pub fn is_search_of(&self, wanted: &str) -> bool {
        matches!(self, Self::Search { base, .. } if base == wanted)
    }

    pub fn is_bind_as(&self, wanted: &str) -> bool {
        matches!(self, Self::Bind { dn } if dn == wanted)
    }
}

/// Protocol operations to answer with, each to be put into a message of its own.
type Answers = Vec<Vec<u8>>;
type Script = dyn Fn(&Request) -> Answers + Send + Sync;

/// Serves until dropped.
pub struct Scripted {
    lease: PortLease,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    pub async fn start(script: impl Fn(&Request) -> Answers + Send + Sync + 'static) -> Self {
        let lease = PortLease::take().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", lease.port())).await.unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (script, seen): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&script), Arc::clone(&seen)));
            }
        });
        Self { lease, requests, task }
    }

    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.lease.port())
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, script: Arc<Script>, seen: Arc<Mutex<Vec<Request>>>) {
    while let Some(message) = read_message(&mut stream).await {
        let (_, tag) = parse_tag(&message).unwrap();
        let mut parts = constructed(tag).into_iter();
        let id = primitive(parts.next().unwrap());
        let operation = parts.next().unwrap();
        let request = match operation.id {
            0 => Request::Bind { dn: text(constructed(operation).swap_remove(1)) },
            3 => {
                Request::Search { base: text(constructed(operation).swap_remove(0)), raw: message }
            }
            _ => return,
        };
        seen.lock().unwrap().push(request.clone());
        for answer in script(&request) {
            let message = tlv(0x30, &[tlv(0x02, &id), answer].concat());
            if stream.write_all(&message).await.is_err() {
                return;
            }
        }
    }
}

async fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.ok()?;
    let mut message = head.to_vec();
    let mut length = usize::from(head[1]);
    if length & 0x80 != 0 {
        let mut long = vec![0; length & 0x7f];
        stream.read_exact(&mut long).await.ok()?;
        length = long.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        message.extend(long);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.ok()?;
    message.extend(rest);
    Some(message)
}

fn constructed(tag: StructureTag) -> Vec<StructureTag> {
    let PL::C(parts) = tag.payload else { panic!("primitive {tag:?}") };
    parts
}

fn primitive(tag: StructureTag) -> Vec<u8> {
    let PL::P(bytes) = tag.payload else { panic!("constructed {tag:?}") };
    bytes
}

fn text(tag: StructureTag) -> String {
    String::from_utf8(primitive(tag)).unwrap()
}

/// Type, length, value.
pub fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut bytes = vec![tag];
    if length < 0x80 {
        bytes.push(u8::try_from(length).unwrap());
    } else {
        bytes.push(0x84);
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    }
    bytes.extend_from_slice(value);
    bytes
}

fn result(tag: u8, code: u8, text: &str) -> Vec<u8> {
    tlv(tag, &[tlv(0x0a, &[code]), tlv(0x04, b""), tlv(0x04, text.as_bytes())].concat())
}

/// `BindResponse`.
pub fn bound(code: u8, text: &str) -> Vec<u8> {
    result(0x61, code, text)
}

/// `SearchResultDone`.
pub fn done(code: u8) -> Vec<u8> {
    result(0x65, code, "")
}

/// `SearchResultDone` with a paged-results control (RFC 2696); an empty cookie ends the pages.
pub fn done_page(cookie: &[u8]) -> Vec<u8> {
    let value = tlv(0x30, &[tlv(0x02, &[0]), tlv(0x04, cookie)].concat());
    done_with_control(&value)
}

/// The same with whatever value in the control.
pub fn done_with_control(value: &[u8]) -> Vec<u8> {
    let oid = tlv(0x04, b"1.2.840.113556.1.4.319");
    let control = tlv(0x30, &[oid, tlv(0x04, value)].concat());
    [done(0), tlv(0xa0, &control)].concat()
}

/// `SearchResultReference`, as Active Directory sends for its other partitions.
pub fn referral(url: &str) -> Vec<u8> {
    tlv(0x73, &tlv(0x04, url.as_bytes()))
}

/// `SearchResultEntry`.
pub fn entry(dn: &[u8], attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let attributes: Vec<u8> =
        attributes.iter().flat_map(|(name, value)| attribute(name, &[value.to_vec()])).collect();
    tlv(0x64, &[tlv(0x04, dn), tlv(0x30, &attributes)].concat())
}

/// The same with many values of one attribute.
pub fn many(dn: &[u8], name: &str, values: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x64, &[tlv(0x04, dn), tlv(0x30, &attribute(name, values))].concat())
}

/// The same with single values, too.
pub fn entry_with(dn: &[u8], single: &[(&str, &[u8])], list: &(&str, Vec<Vec<u8>>)) -> Vec<u8> {
    let mut attributes: Vec<u8> =
        single.iter().flat_map(|(name, value)| attribute(name, &[value.to_vec()])).collect();
    attributes.extend(attribute(list.0, &list.1));
    tlv(0x64, &[tlv(0x04, dn), tlv(0x30, &attributes)].concat())
}

fn attribute(name: &str, values: &[Vec<u8>]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| tlv(0x04, value)).collect();
    tlv(0x30, &[tlv(0x04, name.as_bytes()), tlv(0x31, &values)].concat())
}

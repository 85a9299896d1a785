//! An HTTP proxy as a site has it on the way out (`CONNECT`, RFC 9110 9.3.6): whoever asks for the outside world comes to
//! one address on loopback, and the proxy remembers whom they asked for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::ports::PortLease;

/// A running proxy. Dropping it stops it.
#[derive(Debug)]
pub struct Tunnel {
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
    port: PortLease,
}

impl Tunnel {
    /// Starts one behind which there is nobody but this address.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn to(address: SocketAddr) -> Result<Self> {
        let port = PortLease::take()?;
        let listener = TcpListener::bind(("127.0.0.1", port.port())).await?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                // A connection that breaks is the asker's to see.
                tokio::spawn(async move { drop(through(client, address, &noted).await) });
            }
        });
        Ok(Self { asked, serving, port })
    }

    /// Where it listens, as `http://…`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.port())
    }

    /// Hosts and ports that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn through(client: TcpStream, address: SocketAddr, asked: &Mutex<Vec<String>>) -> Result<()> {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).await?;
    let target = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let target = target.context("a request that is not CONNECT")?.to_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(target);
    while line.trim_end() != "" {
        line.clear();
        client.read_line(&mut line).await?;
    }
    let mut server = TcpStream::connect(address).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

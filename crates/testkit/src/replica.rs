//! One replica of a scene: where it listens, how it reaches the API server, and its process, if it runs.

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::{Installation, Operator, Peer, Proxy, Serving};

/// A replica that can be killed, frozen, cut off and started again. Dropping it kills it.
#[derive(Debug)]
pub struct Replica {
    // Dropped in this order.
    operator: Option<Operator>,
    proxy: Option<Proxy>,
    serving: Serving,
}

impl Replica {
    /// One that does not run yet. Through `proxy`, if given, it will reach the API server.
    pub fn prepare(serving: Serving, proxy: Option<Proxy>) -> Self {
        let serving = match &proxy {
            Some(proxy) => serving.with_api_server(proxy.url()),
            None => serving,
        };
        Self { operator: None, proxy, serving }
    }

    /// Starts it and waits until it is ready. Nothing if it runs.
    ///
    /// # Errors
    /// With the end of its log when it does not become ready.
    pub async fn start(&mut self, installation: &Installation) -> Result<()> {
        if self.operator.is_none() {
            self.operator = Some(installation.start_operator(&self.serving).await?);
        }
        Ok(())
    }

    /// Ends it without a chance to clean up (`SIGKILL`) and returns when it is gone.
    pub fn kill(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill();
        }
    }

    /// Tells it to end and waits until it has, without an error.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn terminate(&mut self) -> Result<()> {
        self.operator.take().context("the replica was stopped")?.terminate().await
    }

    /// Freezes it: connections are accepted by the kernel, but nothing is answered.
    ///
    /// # Errors
    /// When it was stopped.
    pub fn freeze(&self) -> Result<()> {
        self.operator()?.signal(Signal::STOP)
    }

    /// Ends [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// When it was stopped.
    pub fn thaw(&self) -> Result<()> {
        self.operator()?.signal(Signal::CONT)
    }

    /// Where it listens.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// How clients reach this replica and no other.
    pub fn peer(&self, installation: &Installation) -> Peer {
        Peer::replica(installation.authority(), &self.serving)
    }

    /// Its process.
    ///
    /// # Errors
    /// When it was stopped.
    pub fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().context("the replica was stopped")
    }

    /// Its way to the API server.
    ///
    /// # Errors
    /// When it goes there directly.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().context("this replica has no proxy: set the scene up with `proxied`")
    }
}

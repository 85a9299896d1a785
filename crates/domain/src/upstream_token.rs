//! ID tokens that an upstream made for applications of its own, which a client brings here to be exchanged.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::connector::Authenticated;

/// Believes an upstream's ID tokens.
#[async_trait]
pub trait UpstreamTokens: Send + Sync + fmt::Debug {
    /// Who a token is about, if the upstream made it for audiences whose tokens the connector's administrator lets the client
    /// of this ID bring.
    ///
    /// # Errors
    /// [`PresentedError::Refused`] for what is not believed, [`PresentedError::Unavailable`] where the keys cannot be had.
    async fn believe(
        &self,
        id_token: &str,
        client: &str,
        now: i64,
    ) -> Result<Presented, PresentedError>;
}

/// What a token says, believed.
#[derive(Debug, Clone)]
pub struct Presented {
    /// The user.
    pub authenticated: Authenticated,
    /// When they proved themselves to the upstream, or the token was made, in seconds since the Unix epoch.
    pub time: i64,
    /// By which methods (`amr`), if it says so.
    pub amr: Vec<String>,
    /// Whether the token itself says that they reached a context class that the connector asks for. What a sign-in through
    /// the connector is worth says nothing of a sign-in at another application.
    pub reached_acr: bool,
    /// When the token is worth nothing any more.
    pub expires_at: i64,
}

/// Why there is nothing to believe.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PresentedError {
    /// The token is at fault. For the sender and for logs; holds nothing of the token.
    #[error("{0}")]
    Refused(String),
    /// No verdict.
    #[error("upstream unavailable: {0}")]
    Unavailable(String),
}

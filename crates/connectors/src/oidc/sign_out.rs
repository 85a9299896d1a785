//! Signing out at the provider (OpenID Connect RP-Initiated Logout 1.0 2).
//!
//! What always holds: the address that the browser comes back to is one and the same, as it must be registered; what we want
//! to know by then travels in `state`.

use std::time::Duration;

use async_trait::async_trait;
use claviger_domain::connector::{ConnectorData, Leaving, SignOut};
use claviger_protocol::logout::LogoutRequest;
use tokio::time::timeout;
use url::Url;

use super::Provider;
use super::tokens::Received;

/// Longest ID token that is kept and goes along, in bytes: addresses far beyond meet servers that refuse them.
const MAX_HINT: usize = 4_096;

/// How long a user who signs out waits to learn where to go.
const PATIENCE: Duration = Duration::from_secs(2);

impl Provider {
    /// What to keep for it.
    pub(super) fn hint(&self, received: &Received) -> Option<ConnectorData> {
        let id_token = received.id_token.as_ref().filter(|token| token.len() <= MAX_HINT);
        id_token.filter(|_| self.signs_out()).map(|token| ConnectorData(token.clone().into_bytes()))
    }

    async fn end_session_endpoint(&self) -> Option<Url> {
        if let Some(instead) = &self.spec.endpoints.end_session {
            return Url::parse(instead).ok();
        }
        let known = timeout(PATIENCE, self.metadata.get(&self.http)).await;
        let known = known.map_err(|_| "it does not answer".to_owned());
        match known.and_then(|known| known.map_err(|error| error.to_string())) {
            Ok(description) => description.end_session_endpoint(),
            Err(error) => {
                let connector = &self.name;
                tracing::warn!(connector, error, "a user stays signed in at the provider");
                None
            }
        }
    }
}

#[async_trait]
impl SignOut for Provider {
    async fn location(&self, leaving: &Leaving<'_>) -> Option<String> {
        let mut url = self.end_session_endpoint().await?;
        let hint = leaving.data.and_then(|data| std::str::from_utf8(&data.0).ok());
        let (back, query) = match leaving.return_to.split_once('?') {
            Some((back, query)) => (back, Some(LogoutRequest::returning(query))),
            None => (leaving.return_to, None),
        };
        let parameters = [
            ("id_token_hint", hint),
            ("client_id", Some(self.spec.client_id.as_str())),
            ("post_logout_redirect_uri", Some(back)),
            ("state", query.as_deref()),
        ];
        let said = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
        url.query_pairs_mut().extend_pairs(said);
        Some(url.into())
    }
}

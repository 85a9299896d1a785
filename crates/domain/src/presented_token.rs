//! A token somebody presents at an endpoint that is not its own place, to have it ended or explained:
//! which of ours it is. Read from its bytes and memory alone.

use crate::access_token::AccessToken;
use crate::client::Client;
use crate::issuer::Issuer;
use crate::refresh_token::{Binding, RefreshToken};

/// A token of ours that is not past its time. Its session may be over.
#[derive(Debug)]
pub enum PresentedToken {
    /// An access token of this issuer, whoever it was given to.
    Access(Box<AccessToken>),
    /// A refresh token of the client that presents it: a MAC proves it for no other.
    Refresh(RefreshToken),
}

impl PresentedToken {
    /// Reads a token that a client presents. Forged, foreign and expired ones are `None`.
    pub fn read(issuer: &Issuer, client: &Client, text: &str, now: i64) -> Option<Self> {
        if let Ok(token) = AccessToken::open(issuer, text, now) {
            return Some(Self::Access(Box::new(token)));
        }
        let binding = Binding { issuer_uid: &issuer.uid, client_uid: &client.uid };
        RefreshToken::decode(text, &issuer.sealing, binding, now).ok().map(Self::Refresh)
    }
}

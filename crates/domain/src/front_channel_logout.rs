//! The frames of the page that says goodbye (OpenID Connect Front-Channel Logout 1.0 section 3): one for each client
//! that asked for it, in which the user's own browser tells it.
//!
//! What always holds: a frame's origin is one the client may send users to anyway, and no more of them are loaded
//! than a browser can be asked to.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_protocol::redirect_uri::RedirectUri;

use crate::client::Client;
use crate::issuer::Issuer;

/// Frames on one page: each is a request of the browser's while its user waits.
pub const MAX_FRAMES: usize = 16;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What is loaded.
    pub address: String,
    /// Its origin, for the page's policy.
    pub origin: String,
}

/// The frames to load: the pages of the clients with `iss` and `sid` (3), each once.
pub(crate) fn frames(issuer: &Issuer, clients: &[Arc<Client>], sid: &str) -> Vec<Frame> {
    let pages: BTreeSet<&str> =
        clients.iter().filter_map(|client| client.logout.front_channel.as_deref()).collect();
    if pages.len() > MAX_FRAMES {
        let clients = pages.len();
        tracing::warn!(clients, "more clients of one browser want a frame than a page has");
    }
    let params = [("iss", issuer.url.as_str()), ("sid", sid)];
    let pages = pages.into_iter().filter_map(|page| RedirectUri::parse(page).ok());
    let frame = |page: RedirectUri| {
        Some(Frame { origin: page.origin()?, address: page.with_params(params) })
    };
    pages.filter_map(frame).take(MAX_FRAMES).collect()
}

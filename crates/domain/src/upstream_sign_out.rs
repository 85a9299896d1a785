//! Signing out where the user signed in: at the upstream, after they signed out here.
//!
//! ```text
//! /logout ─→ all of ours has ended ─→ upstream's own page ─→ /logout, without a hint ─→ the application
//! ```
//! What always holds: the browser comes back to an address of ours that ends nothing and checks the application's
//! address again, so that nothing need be sealed or remembered; users of an upstream that has no browser sessions
//! here are known by their ID token alone, which others have seen: they are asked first.

use std::sync::Arc;

use claviger_jose::Claims;
use claviger_protocol::logout::LogoutRequest;
use claviger_protocol::subject;

use crate::browser_session::has_sessions;
use crate::client::Client;
use crate::connector::{Connector, SignOut};
use crate::issuer::{Issuer, SubjectFormat};

/// Where an upstream sends the browser back to: what the application asked for, once more, without the ID token.
pub(crate) fn return_to(
    issuer: &Issuer,
    client: Option<&Client>,
    request: &LogoutRequest,
) -> String {
    let again = LogoutRequest {
        id_token_hint: None,
        client_id: client.map(|client| client.id.clone()),
        post_logout_redirect_uri: request.post_logout_redirect_uri.clone(),
        state: request.state.clone(),
    };
    match again.query() {
        query if query.is_empty() => issuer.url.join("/logout"),
        query => format!("{}?{query}", issuer.url.join("/logout")),
    }
}

/// The connector that the user of an ID token of ours signed in with, where that alone tells it: one that has no
/// browser sessions, and where users can sign out.
pub(crate) fn hinted_connector<'i>(
    issuer: &'i Issuer,
    hint: &Claims,
) -> Option<(&'i Arc<Connector>, &'i Arc<dyn SignOut>)> {
    let sub = hint.get("sub")?.as_str()?;
    let name = match issuer.subject {
        SubjectFormat::Dex => subject::decode(sub)?.1,
        SubjectFormat::Plain => sub.split_once(':')?.0.to_owned(),
    };
    let mut connectors = issuer.connectors.iter();
    let connector = connectors.find(|c| c.name == name && !has_sessions(c, None))?;
    Some((connector, connector.sign_out.as_ref()?))
}

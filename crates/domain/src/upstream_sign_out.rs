//! Signing out where the user signed in: at the upstream, after they signed out here.
//!
//! ```text
//! /logout ─→ all of ours has ended ─→ upstream's own page ─→ /logout, without a hint ─→ the application
//! ```
//! What always holds: the browser comes back to an address of ours that ends nothing and checks the application's
//! address again, so that nothing need be sealed or remembered; users of an upstream that has no browser sessions
//! here are known by their browser's [ticket](crate::upstream_ticket), or by their ID token alone, which others have seen:
//! they are asked first.

use claviger_jose::Claims;
use claviger_protocol::logout::LogoutRequest;
use claviger_protocol::subject;

use crate::SKEW_SECONDS;
use crate::browser_session::has_sessions;
use crate::client::Client;
use crate::connector::{Connector, ConnectorData, Leaving};
use crate::cookie::Cookie;
use crate::issuer::{Issuer, SubjectFormat};
use crate::provider::Provider;
use crate::trip::callback_of;
use crate::upstream_ticket::UpstreamTicket;

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

/// A browser on its way to the upstream of this connector.
pub(crate) fn leaving<'l>(
    provider: &Provider,
    issuer: &Issuer,
    connector: &Connector,
    (return_to, data): (&'l str, Option<&'l ConnectorData>),
) -> Leaving<'l> {
    Leaving {
        return_to,
        callback: callback_of(issuer, &connector.name),
        data,
        id: provider.random_id(),
        now: provider.clock.now(),
    }
}

/// Who signs out where this browser has no session here.
pub(crate) struct Leaver<'l> {
    pub provider: &'l Provider,
    pub issuer: &'l Issuer,
    /// The claims of an ID token of ours.
    pub hint: Option<&'l Claims>,
    /// The browser's ticket.
    pub there: Option<UpstreamTicket>,
}

/// Where they would sign out.
pub(crate) struct Departure {
    /// What users see of the connector.
    pub connector: String,
    pub location: String,
    /// What brings them back, where the browser must keep it.
    pub cookie: Option<Cookie>,
    /// Whether the ID token is of the user of the ticket, and of no earlier sign-in.
    pub is_hinted: bool,
}

impl Leaver<'_> {
    /// By the ticket, or where there is none, or it is another user's, by the ID token alone.
    pub async fn departure(&self, return_to: &str) -> Option<Departure> {
        let is_anothers = self.hint.is_some() && self.there.is_some() && !self.is_theirs();
        if is_anothers && let Some(departure) = self.by_hint(return_to).await {
            return Some(departure);
        }
        match self.by_ticket(return_to).await {
            Some(departure) => Some(departure),
            None => self.by_hint(return_to).await,
        }
    }

    async fn by_ticket(&self, return_to: &str) -> Option<Departure> {
        let there = self.there.as_ref()?;
        let connector = self.issuer.connector_by_uid(&there.connector_uid)?;
        let (location, id) = self.location(connector, (return_to, Some(&there.data))).await?;
        let back = return_to.split_once('?').map(|(_, query)| query.to_owned());
        let ticket = UpstreamTicket { back, request: Some(id), ..there.clone() };
        // An older ID token, which many may have seen, would let their pages sign the user out unasked.
        let issued = self.hint.and_then(|hint| hint.get("iat")?.as_i64());
        let is_recent = issued.is_some_and(|at| at.saturating_add(SKEW_SECONDS) >= there.since);
        Some(Departure {
            connector: connector.display_name.clone(),
            location,
            cookie: Some(ticket.cookie(self.issuer)),
            is_hinted: is_recent && self.is_theirs(),
        })
    }

    /// Whether ticket and ID token are of one user.
    fn is_theirs(&self) -> bool {
        let (Some(there), Some(hint)) = (&self.there, self.hint) else { return false };
        let Some((user, name)) = hinted(self.issuer, hint) else { return false };
        let connector = self.issuer.connectors.iter().find(|known| known.name == name);
        connector.is_some_and(|connector| there.is_of(&connector.uid, &user))
    }

    /// The connector that the user of the ID token signed in with, where that alone tells it: one that has no browser
    /// sessions, and where users can sign out.
    async fn by_hint(&self, return_to: &str) -> Option<Departure> {
        let (_, name) = hinted(self.issuer, self.hint?)?;
        let mut connectors = self.issuer.connectors.iter();
        let connector = connectors.find(|c| c.name == name && !has_sessions(c, None))?;
        let (location, _) = self.location(connector, (return_to, None)).await?;
        let connector = connector.display_name.clone();
        Some(Departure { connector, location, cookie: None, is_hinted: false })
    }

    /// Where that is, and the ID of the request.
    async fn location(
        &self,
        connector: &Connector,
        back: (&str, Option<&ConnectorData>),
    ) -> Option<(String, String)> {
        let upstream = connector.sign_out.as_ref()?;
        let leaving = leaving(self.provider, self.issuer, connector, back);
        Some((upstream.location(&leaving).await?, leaving.id))
    }
}

/// The user of an ID token, and the name of the connector they signed in with.
fn hinted(issuer: &Issuer, hint: &Claims) -> Option<(String, String)> {
    let sub = hint.get("sub")?.as_str()?;
    match issuer.subject {
        SubjectFormat::Dex => subject::decode(sub),
        SubjectFormat::Plain => {
            let (connector, user) = sub.split_once(':')?;
            Some((user.to_owned(), connector.to_owned()))
        }
    }
}

//! Where a browser's user signed in, for signing out there too: of those who can have no browser session here, since nobody
//! can be asked about them again.
//!
//! ```text
//! sign-in ─→ ticket (cookie) ─→ /logout: the upstream's own page, the ticket says the way back ─→ way back, ticket gone
//! ```
//! What always holds: it is sealed and the browser's own, nothing is stored for it; it signs nobody in, and what it ends is
//! at the upstream alone; without it nobody is sent there as somebody whose ID token they have seen.

use claviger_seal::{Context, Purpose};
use serde::{Deserialize, Serialize};

use crate::admission::SignedIn;
use crate::browser_session::has_sessions;
use crate::connector::{Connector, ConnectorData, Login};
use crate::cookie::{self, Cookie};
use crate::issuer::Issuer;

/// Longest value, in characters: a browser keeps no cookie over 4,096 bytes, its name among them.
const MAX_VALUE: usize = 3_800;
/// Longest that is kept of a user, in bytes: each request to us carries it.
const MAX_DATA: usize = 1_024;
/// Seconds after which it is no good: few providers let a sign-in last longer.
const LIFE: i64 = 24 * 60 * 60;

/// What the cookie says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTicket {
    /// UID of the connector.
    #[serde(rename = "c")]
    pub connector_uid: String,
    /// The user, as tokens name them.
    #[serde(rename = "u")]
    pub user_id: String,
    /// What signing out there takes.
    #[serde(rename = "d")]
    pub data: ConnectorData,
    /// When they signed in, in seconds since the Unix epoch.
    #[serde(rename = "t")]
    pub since: i64,
    /// The ID of our request that the browser took there.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the application asked for that sent the browser there: a query of `/logout`.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub back: Option<String>,
}

impl UpstreamTicket {
    /// For a user who has signed in by this at that time. `None` where their browser's session says it, the upstream brings no
    /// browser back by messages that would clear it, or what signing out takes is too much to carry.
    pub(crate) fn issue(
        connector: &Connector,
        signed_in: &SignedIn,
        sign_out: Option<&ConnectorData>,
        now: i64,
    ) -> Option<Self> {
        connector.sign_out.as_ref()?;
        let Login::Redirect(upstream) = &connector.login else { return None };
        upstream.single_logout()?;
        let can_have_session = has_sessions(connector, signed_in.upstream.data.as_ref());
        let data = sign_out.filter(|data| !can_have_session && data.0.len() <= MAX_DATA)?;
        Some(Self {
            connector_uid: connector.uid.clone(),
            user_id: signed_in.identity.user_id.clone(),
            data: data.clone(),
            since: now,
            request: None,
            back: None,
        })
    }

    /// Whether it is of this user of that connector.
    pub fn is_of(&self, connector_uid: &str, user_id: &str) -> bool {
        self.connector_uid == connector_uid && self.user_id == user_id
    }

    /// Whether the browser took that request to that connector's upstream.
    pub fn is_answered(&self, connector_uid: &str, request: Option<&str>) -> bool {
        self.connector_uid == connector_uid
            && request.is_some()
            && self.request.as_deref() == request
    }

    /// The ticket among a browser's cookies.
    pub fn of<'c>(
        issuer: &Issuer,
        cookies: impl IntoIterator<Item = (&'c str, &'c str)>,
        now: i64,
    ) -> Option<Self> {
        let wanted = cookie_name(issuer);
        let (_, sealed) = cookies.into_iter().find(|(name, _)| *name == wanted)?;
        let context = context(issuer);
        let plain = issuer.sealing.open(Purpose::UpstreamTicket, &context, now, sealed).ok()?;
        rmp_serde::from_slice(&plain).ok()
    }

    /// The cookie that carries it, gone when the browser closes. A way back that is too long is left out.
    pub fn cookie(&self, issuer: &Issuer) -> Cookie {
        let whole = self.sealed(issuer);
        let value = if whole.len() <= MAX_VALUE {
            whole
        } else {
            Self { back: None, ..self.clone() }.sealed(issuer)
        };
        Cookie { name: cookie_name(issuer), value, seconds: None }
    }

    fn sealed(&self, issuer: &Issuer) -> String {
        let plain = rmp_serde::to_vec_named(self).unwrap_or_default();
        let end = self.since.saturating_add(LIFE);
        issuer.sealing.seal(Purpose::UpstreamTicket, &context(issuer), end, &plain)
    }
}

/// The cookie, cleared.
pub fn cleared(issuer: &Issuer) -> Cookie {
    Cookie::cleared(cookie_name(issuer))
}

fn cookie_name(issuer: &Issuer) -> String {
    cookie::name_for(issuer, "upstream")
}

fn context(issuer: &Issuer) -> Context<'_> {
    Context { issuer_uid: &issuer.uid, object_name: None, client_uid: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::World;

    fn brought(world: &World, cookie: &Cookie, now: i64) -> Option<UpstreamTicket> {
        UpstreamTicket::of(&world.issuer, [(cookie.name.as_str(), cookie.value.as_str())], now)
    }

    #[test]
    fn a_ticket_is_its_issuers_for_a_day_and_a_cookie_that_a_browser_keeps() {
        let world = World::new();
        let mut ticket = UpstreamTicket {
            connector_uid: world.issuer.connectors[0].uid.clone(),
            user_id: "u".repeat(1_024),
            data: ConnectorData(vec![b'x'; MAX_DATA]),
            since: 0,
            request: Some("r".repeat(22)),
            back: Some("client_id=web".into()),
        };
        let cookie = ticket.cookie(&world.issuer);
        assert!(cookie.value.len() <= MAX_VALUE, "{}", cookie.value.len());
        assert_eq!(brought(&world, &cookie, LIFE - 1), Some(ticket.clone()));
        assert_eq!(brought(&world, &cookie, LIFE), None);
        assert_eq!(brought(&World::new(), &cookie, 0), None, "another's keys");
        ticket.back = Some("b".repeat(4_000));
        let cookie = ticket.cookie(&world.issuer);
        assert!(cookie.value.len() <= MAX_VALUE, "{}", cookie.value.len());
        assert_eq!(brought(&world, &cookie, 0).unwrap().back, None, "the user stays here then");
    }
}

//! A browser's way to an upstream that signs users in itself, and back.
//!
//! ```text
//! /auth/{connector} ─→ depart ─→ the upstream's own pages ─→ /callback/{connector} ─→ arrive ─→ policy
//! ```
//! What always holds: nothing is stored on the way. What the upstream must say again (its `nonce`) and what only we may know (the PKCE verifier) are derived from the secret in the flow's sealed cookie and
//! from the connector, so an answer is good in the browser that asked, for the connector it was asked of, alone.

use std::fmt;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use claviger_protocol::form::Params;
use claviger_protocol::response_type::Delivery;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::connector::{Authenticated, Connector, ConnectorData, LoginError};
use crate::flow::{FLOW_SECONDS, Flow};
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::single_logout::SingleLogout;
use crate::upstream_logout::LogoutNotices;
use crate::upstream_token::UpstreamTokens;

/// Signs users in by sending their browser to the upstream.
#[async_trait]
pub trait RedirectLogin: Send + Sync + fmt::Debug {
    /// Where the browser goes, and what it brings there.
    ///
    /// # Errors
    /// [`LoginError::Unavailable`] or [`LoginError::Unusable`]: the upstream's description of itself could not be had.
    async fn depart(&self, trip: &Trip<'_>) -> Result<Delivery, LoginError>;

    /// Where the upstream's pages make the browser post their answer to us: the field of the form that brings back the
    /// flow's ID. `None`: they answer by a link.
    fn form_field(&self) -> Option<&'static str> {
        None
    }

    /// What the upstream's administrator is to know of us, as a document for machines, where the upstream's kind has
    /// such a thing; `callback` is where its pages answer.
    fn description(&self, _callback: &str) -> Option<Description> {
        None
    }

    /// What reads the upstream's word that a user has signed out there, where its kind tells such things by itself.
    fn notices(&self) -> Option<&dyn LogoutNotices> {
        None
    }

    /// What reads and answers messages about sign-outs that the browser carries, where the upstream's kind has such.
    fn single_logout(&self) -> Option<&dyn SingleLogout> {
        None
    }

    /// The upstream's session that a user's data came of, if that is known: signing out there may name it.
    fn session_there(&self, _data: Option<&ConnectorData>) -> Option<String> {
        None
    }

    /// What believes the upstream's ID tokens that a client brings to exchange them, where its administrator lets it.
    fn tokens(&self) -> Option<&dyn UpstreamTokens> {
        None
    }

    /// Judges what the browser brought back, by query or form, and learns who the user is.
    ///
    /// # Errors
    /// [`LoginError`].
    async fn arrive(&self, trip: &Trip<'_>, answer: &Params) -> Result<Arrival, LoginError>;
}

/// Who came back, and how they had proven themselves there.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The user.
    pub authenticated: Authenticated,
    /// When they proved themselves to the upstream (`auth_time`), if it says so.
    pub time: Option<i64>,
    /// By which methods (`amr`, RFC 8176), if it says so.
    pub amr: Vec<String>,
    /// What the upstream's answer is known by, where it could be shown to us again and is good once: unique at this
    /// connector. Such an answer is believed for [`ANSWER_SECONDS`] at most.
    pub once: Option<String>,
    /// What signing out there will take ([`SignOut`](crate::connector::SignOut)); kept sealed, for the browser's session, or
    /// where it can have none in its [ticket](crate::upstream_ticket).
    pub sign_out: Option<ConnectorData>,
}

/// How long after it was made an answer that is good once may be believed, at most: as long as a flow lasts.
pub const ANSWER_SECONDS: i64 = FLOW_SECONDS;

/// A document about us for an upstream's administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its media type.
    pub media_type: &'static str,
    /// The document.
    pub body: String,
}

/// Where the upstream of the connector of this name answers.
pub fn callback_of(issuer: &Issuer, connector: &str) -> String {
    issuer.url.join(&format!("/callback/{connector}"))
}

/// What only a flow's sealed cookie knows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TripSecret(String);

impl TripSecret {
    /// A new one: 128 bits.
    pub fn draw(provider: &Provider) -> Self {
        Self(provider.random_id())
    }
}

impl fmt::Debug for TripSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TripSecret")
    }
}

/// One way to a connector's upstream and back.
pub struct Trip<'f> {
    /// Where the upstream sends the browser back to.
    pub callback: String,
    /// What the upstream returns unchanged: the flow's ID.
    pub state: &'f str,
    /// Whom the application expects (`login_hint`).
    pub login_hint: Option<&'f str>,
    /// Whether the user must prove themselves anew (`prompt=login`).
    pub must_authenticate: bool,
    /// Most seconds since the user proved themselves (`max_age`).
    pub max_age: Option<i64>,
    /// Whether the upstream will be asked about the user again, while they are away.
    pub offline: bool,
    /// Seconds since the Unix epoch.
    pub now: i64,
    key: hmac::Key,
    connector_uid: &'f str,
}

/// What is derived from its secret is not for logs.
impl fmt::Debug for Trip<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trip(to {:?})", self.callback)
    }
}

impl<'f> Trip<'f> {
    /// The way of this flow to this connector.
    pub fn of(issuer: &Issuer, flow: &'f Flow, connector: &'f Connector, now: i64) -> Self {
        let stays = flow.scopes.split(' ').any(|scope| scope == "offline_access");
        Self {
            callback: callback_of(issuer, &connector.name),
            state: &flow.id,
            login_hint: flow.login_hint.as_deref(),
            must_authenticate: flow.must_authenticate,
            max_age: flow.max_age,
            offline: stays,
            now,
            key: hmac::Key::new(hmac::HMAC_SHA256, flow.secret.0.as_bytes()),
            connector_uid: &connector.uid,
        }
    }

    /// `nonce` of an authentication request (OIDC Core 3.1.2.1): 43 base64url characters.
    pub fn nonce(&self) -> String {
        BASE64URL_NOPAD.encode(self.derive("nonce").as_ref())
    }

    /// PKCE code verifier (RFC 7636 4.1): 43 base64url characters.
    pub fn code_verifier(&self) -> String {
        BASE64URL_NOPAD.encode(self.derive("code_verifier").as_ref())
    }

    /// ID of a SAML request (SAML Core 1.3.4: no digit at its beginning), which its answer says again: 256 bits.
    pub fn request_id(&self) -> String {
        format!("_{}", BASE64URL_NOPAD.encode(self.derive("request_id").as_ref()))
    }

    fn derive(&self, what: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(what.as_bytes());
        context.update(b"\0");
        context.update(self.connector_uid.as_bytes());
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::device_page;
    use crate::fakes::World;

    fn said_on_the_way(world: &World) -> Vec<String> {
        let flow = device_page::begin(&world.provider, None);
        let mut connector = world.issuer.connectors[0].as_ref().clone();
        let mut said = Vec::new();
        for uid in ["one", "two"] {
            uid.clone_into(&mut connector.uid);
            let trip = Trip::of(&world.issuer, &flow, &connector, 0);
            let again = Trip::of(&world.issuer, &flow, &connector, 9);
            assert_eq!(trip.nonce(), again.nonce(), "derived, not drawn");
            said.extend([trip.nonce(), trip.code_verifier(), trip.request_id()]);
            let shown = format!("{trip:?} {flow:?}");
            assert!(!shown.contains(&flow.secret.0), "{shown}");
        }
        said
    }

    #[test]
    fn what_an_upstream_must_say_again_differs_by_flow_and_connector_and_purpose() {
        let world = World::new();
        let said: BTreeSet<String> =
            [said_on_the_way(&world), said_on_the_way(&world)].into_iter().flatten().collect();
        assert_eq!(said.len(), 12);
        assert!(said.iter().all(|said| said.len() >= 43), "{said:?}");
    }
}

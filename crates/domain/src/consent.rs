//! What a user agreed to: the question, the sealed grant that its form carries, and what the browser remembers.
//!
//! What is remembered is in a sealed cookie of this browser and of this user, and is no more than what was
//! agreed to: another scope, another client and another user are asked. Nothing is stored.

use std::fmt;
use std::sync::Arc;

use claviger_protocol::scope::ScopeSet;
use claviger_seal::{Context, Purpose};
use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientPages};
use crate::code::LoginGrant;
use crate::cookie::{self, Cookie};
use crate::flow::{FLOW_SECONDS, Flow};
use crate::issuer::Issuer;
use crate::session;

/// Clients a browser remembers consent for; the one asked longest ago is forgotten.
const MAX_REMEMBERED: usize = 24;
/// Longest cookie value: with the flows' cookies it must fit proxies' header limits.
const MAX_COOKIE_LENGTH: usize = 1_024;

/// What the consent page shows and carries. Prints user and client alone: the grant is worth a code.
pub struct Consent {
    /// Name of the client.
    pub client: String,
    /// Its ID, which it could not choose, if it is a tenant's.
    pub tenant_id: Option<String>,
    /// Pages about it.
    pub pages: Arc<ClientPages>,
    /// What it gets: scopes, those of claims asked for by name among them, and resources.
    pub scopes: Vec<String>,
    /// What a person would call the user.
    pub user: String,
    /// The sealed grant the form sends back.
    pub grant: String,
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent")
            .field("user", &self.user)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Consent {
    /// The question whether a client may have this grant.
    pub(crate) fn ask(issuer: &Issuer, flow: &Flow, client: &Client, grant: &LoginGrant) -> Self {
        let plain = serde_json::to_vec(grant).unwrap_or_default();
        let not_after = flow.began_at + FLOW_SECONDS;
        let sealed =
            issuer.sealing.seal(Purpose::Consent, &context(issuer, flow), not_after, &plain);
        Self {
            client: client.display_name.clone(),
            tenant_id: client.id.contains('/').then(|| client.id.clone()),
            pages: Arc::clone(&client.pages),
            scopes: revealed(issuer, grant),
            user: grant.identity.label().to_owned(),
            grant: sealed,
        }
    }

    /// The grant that came back, if it is the one this flow was asked about.
    pub(crate) fn grant(
        issuer: &Issuer,
        flow: &Flow,
        sealed: &str,
        now: i64,
    ) -> Option<LoginGrant> {
        let plain =
            issuer.sealing.open(Purpose::Consent, &context(issuer, flow), now, sealed).ok()?;
        serde_json::from_slice(&plain).ok()
    }
}

/// What a browser remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Whose consent it is.
    #[serde(rename = "u")]
    user: String,
    /// By client, the one agreed to last at the end: hash of its UID, and the scopes.
    #[serde(rename = "c")]
    clients: Vec<(String, String)>,
}

impl Remembered {
    /// What is among a browser's cookies.
    pub fn of<'c>(
        issuer: &Issuer,
        cookies: impl IntoIterator<Item = (&'c str, &'c str)>,
        now: i64,
    ) -> Self {
        let wanted = cookie_name(issuer);
        let found = cookies.into_iter().find(|(name, _)| *name == wanted);
        let opened = found.and_then(|(_, sealed)| {
            issuer.sealing.open(Purpose::Consents, &cookie_context(issuer), now, sealed).ok()
        });
        opened.and_then(|plain| rmp_serde::from_slice(&plain).ok()).unwrap_or_default()
    }

    /// Whether a user of this browser agreed to this client before, whatever it was to.
    pub(crate) fn knows(&self, client: &Client) -> bool {
        let hash = session::object_hash(&client.uid);
        self.clients.iter().any(|(known, _)| *known == hash)
    }

    /// Whether this user agreed that this client gets all of these scopes.
    pub(crate) fn covers(&self, issuer: &Issuer, client: &Client, grant: &LoginGrant) -> bool {
        let hash = session::object_hash(&client.uid);
        let agreed = self.clients.iter().find(|(known, _)| *known == hash);
        let agreed = agreed.and_then(|(_, scopes)| ScopeSet::parse(scopes).ok());
        let wanted = ScopeSet::parse(&grant.scopes).ok();
        // Claims asked for by name and resources are not among what is remembered.
        self.user == user_of(issuer, grant)
            && grant.asked.is_empty()
            && grant.resources.is_empty()
            && agreed.zip(wanted).is_some_and(|(agreed, wanted)| wanted.is_subset(&agreed))
    }

    /// The cookie that remembers this too. `None` where the issuer's browsers remember nothing.
    pub(crate) fn with(
        mut self,
        issuer: &Issuer,
        client: &Client,
        grant: &LoginGrant,
        now: i64,
    ) -> Option<Cookie> {
        let policy = issuer.browser_sessions.filter(|policy| policy.consent > 0)?;
        let user = user_of(issuer, grant);
        if self.user != user {
            self = Self { user, clients: Vec::new() };
        }
        let hash = session::object_hash(&client.uid);
        self.clients.retain(|(known, _)| *known != hash);
        self.clients.push((hash, grant.scopes.clone()));
        let surplus = self.clients.len().saturating_sub(MAX_REMEMBERED);
        self.clients.drain(..surplus);
        let (context, not_after) = (cookie_context(issuer), now + policy.consent);
        loop {
            let plain = rmp_serde::to_vec_named(&self).unwrap_or_default();
            let value = issuer.sealing.seal(Purpose::Consents, &context, not_after, &plain);
            if value.len() <= MAX_COOKIE_LENGTH || self.clients.len() <= 1 {
                let (name, seconds) = (cookie_name(issuer), Some(policy.consent));
                return Some(Cookie { name, value, seconds });
            }
            self.clients.remove(0);
        }
    }
}

/// Name of the cookie.
pub fn cookie_name(issuer: &Issuer) -> String {
    cookie::name_for(issuer, "consent")
}

/// What a grant reveals, in scopes and resources.
pub(crate) fn revealed(issuer: &Issuer, grant: &LoginGrant) -> Vec<String> {
    let by_name = grant.asked.id_token.iter().chain(&grant.asked.userinfo);
    let all = grant.scopes.split(' ').chain(by_name.filter_map(|claim| issuer.scope_of(claim)));
    let mut revealed: Vec<String> = Vec::new();
    for one in all.chain(grant.resources.iter().map(String::as_str)) {
        if !revealed.iter().any(|known| known == one) {
            revealed.push(one.to_owned());
        }
    }
    revealed
}

fn user_of(issuer: &Issuer, grant: &LoginGrant) -> String {
    session::user_hash(&issuer.uid, &grant.upstream.connector_uid, &grant.identity.user_id)
}

fn context<'a>(issuer: &'a Issuer, flow: &'a Flow) -> Context<'a> {
    Context { issuer_uid: &issuer.uid, object_name: Some(&flow.id), client_uid: None }
}

fn cookie_context(issuer: &Issuer) -> Context<'_> {
    Context { issuer_uid: &issuer.uid, object_name: None, client_uid: None }
}

//! One authorization request on its way through login, sealed in a cookie of the browser that began it.
//!
//! Nothing is stored: the cookie is the flow, and only the browser that holds it can go on. The
//! flow's ID travels in URLs as `state` and names the cookie.

use std::sync::Arc;

use claviger_protocol::authorize::AuthorizationResponse;
use claviger_protocol::pkce::CodeChallenge;
use claviger_protocol::redirect_uri::RedirectUri;
use claviger_protocol::response_type::{Delivery, ResponseMode, ResponseType};
use claviger_seal::{Context, Purpose};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::browser_session::{BrowserSession, Payload};
use crate::claim::RequestedClaims;
use crate::connector::Connector;
use crate::cookie::{self, Cookie};
use crate::door::Door;
use crate::form_token::{form_token, is_form_token};
use crate::identity::Identity;
use crate::issue::subject;
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::trip::TripSecret;

/// How long a user may take to sign in, in seconds.
pub const FLOW_SECONDS: i64 = 600;
/// Flows one browser may have open at an issuer; the oldest makes room.
pub const MAX_FLOWS: usize = 4;
/// Longest cookie value: four of them fit every proxy's header limit.
pub const MAX_COOKIE_LENGTH: usize = 1_536;

/// An authorization request under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// 22 base64url characters; names the session that may come of it.
    #[serde(rename = "f")]
    pub id: String,
    /// `client_id`.
    #[serde(rename = "c")]
    pub client_id: String,
    /// UID of that client.
    #[serde(rename = "u")]
    pub client_uid: String,
    /// `redirect_uri`.
    #[serde(rename = "r")]
    pub redirect_uri: String,
    /// Granted scopes if the user agrees, space-separated.
    #[serde(rename = "s")]
    pub scopes: String,
    /// `state`, to be returned unchanged.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `nonce`.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// `code_challenge` (S256).
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<CodeChallenge>,
    /// `response_type`.
    #[serde(rename = "y", default, skip_serializing_if = "is_code")]
    pub response_type: ResponseType,
    /// `response_mode`.
    #[serde(rename = "w", default, skip_serializing_if = "is_query")]
    pub response_mode: ResponseMode,
    /// Thumbprint of the key that its code is bound to (`dpop_jkt`).
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Claims asked for by name.
    #[serde(rename = "q", default, skip_serializing_if = "RequestedClaims::is_empty")]
    pub asked: RequestedClaims,
    /// Resources the access tokens are for; none means `/userinfo`.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// The classes of authentication that are enough; empty if any is.
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<String>,
    /// The connector it must be (dex's `connector_id`).
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// The user that it must be (`id_token_hint`, or a value of `sub` among the claims).
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whether the request insists on consent (`prompt=consent`, `approval_prompt=force`).
    #[serde(rename = "p", default)]
    pub force_consent: bool,
    /// Most seconds since the user proved themselves (`max_age`).
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<i64>,
    /// Whether the user must prove themselves anew (`prompt=login`; OIDC Core 3.1.2.1).
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    pub must_authenticate: bool,
    /// `login_hint`, to fill the user-name field.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub login_hint: Option<String>,
    /// A sign-in at the device page, and the user's code its address brought; empty if none.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Whether its sign-in is to be one of its own, at the device page: the client of the device that was named
    /// there wants it (`browserSessions: Separate`).
    #[serde(rename = "z", default, skip_serializing_if = "std::ops::Not::not")]
    pub separate: bool,
    /// What only we may know, on the way to an upstream and back.
    #[serde(rename = "o")]
    pub secret: TripSecret,
    /// When it began.
    #[serde(rename = "b")]
    pub began_at: i64,
}

/// Why a flow cannot go on. The user is told to start again at the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FlowError {
    /// No cookie of that name: another browser, a blocked cookie, or a forged link.
    #[error("this sign-in was not started in this browser, or its cookie was blocked")]
    NoCookie,
    /// The cookie is not ours, not this issuer's, or past its time.
    #[error("this sign-in has expired")]
    Expired,
}

/// Name of the cookie that carries the flow of this ID. On https it is host-locked (RFC 6265bis 4.1.3.2).
pub fn cookie_name(issuer: &Issuer, flow_id: &str) -> String {
    format!("{}{flow_id}", cookie_prefix(issuer))
}

/// What the names of an issuer's flow cookies begin with: issuers below paths of one host share its
/// cookies and must not take each other's for surplus.
pub fn cookie_prefix(issuer: &Issuer) -> String {
    format!("{}-", cookie::name_for(issuer, "flow"))
}

impl Flow {
    /// A sign-in at the device page: for no client, and with nowhere to send an answer.
    pub(crate) fn at_device_page(provider: &Provider, user_code: String) -> Self {
        Self {
            id: provider.random_id(),
            client_id: String::new(),
            client_uid: String::new(),
            redirect_uri: String::new(),
            scopes: String::new(),
            state: None,
            nonce: None,
            challenge: None,
            key: None,
            response_type: ResponseType::Code,
            response_mode: ResponseMode::Query,
            asked: RequestedClaims::default(),
            resources: Vec::new(),
            acr: Vec::new(),
            connector: None,
            subject: None,
            force_consent: false,
            max_age: None,
            must_authenticate: false,
            login_hint: None,
            device: Some(user_code),
            separate: false,
            secret: TripSecret::draw(provider),
            began_at: provider.clock.now(),
        }
    }

    /// The cookie that carries this flow.
    pub fn seal(&self, issuer: &Issuer) -> Cookie {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        let not_after = self.began_at + FLOW_SECONDS;
        Cookie {
            name: cookie_name(issuer, &self.id),
            value: issuer.sealing.seal(
                Purpose::Flow,
                &context(issuer, &self.id),
                not_after,
                &plain,
            ),
            seconds: Some(FLOW_SECONDS),
        }
    }

    /// The flow that `state` names, from the browser's cookies (name and value each).
    ///
    /// # Errors
    /// [`FlowError`].
    pub fn open<'c>(
        issuer: &Issuer,
        state: &str,
        cookies: impl IntoIterator<Item = (&'c str, &'c str)>,
        now: i64,
    ) -> Result<Self, FlowError> {
        let wanted = cookie_name(issuer, state);
        let (_, sealed) =
            cookies.into_iter().find(|(name, _)| *name == wanted).ok_or(FlowError::NoCookie)?;
        let plain = issuer
            .sealing
            .open(Purpose::Flow, &context(issuer, state), now, sealed)
            .map_err(|_| FlowError::Expired)?;
        serde_json::from_slice(&plain).map_err(|_| FlowError::Expired)
    }

    /// The value a form of this flow carries to prove that our page was seen.
    pub fn csrf_token(&self, issuer: &Issuer) -> String {
        form_token(issuer, &self.csrf_parts(issuer))
    }

    /// Whether a form's value is this flow's.
    pub fn is_csrf_token(&self, issuer: &Issuer, given: &str) -> bool {
        is_form_token(issuer, &self.csrf_parts(issuer), given)
    }

    /// The connectors its user may choose from.
    pub fn connectors<'a>(
        &'a self,
        issuer: &'a Issuer,
        door: impl Into<Door<'a>>,
    ) -> impl Iterator<Item = &'a Arc<Connector>> {
        let door = door.into();
        let is_wanted =
            |c: &Connector| self.connector.as_ref().is_none_or(|wanted| *wanted == c.name);
        let offered = issuer.connectors.iter().filter(move |c| door.admits(c));
        offered.filter(move |c| is_wanted(c) && self.is_enough(c.acr.as_deref()))
    }

    /// Whether a browser's session will do for this request (OIDC Core 3.1.2.1): by its age, the way its user
    /// signed in, and who they are.
    pub fn admits(
        &self,
        issuer: &Issuer,
        door: Door<'_>,
        session: &BrowserSession,
        now: i64,
    ) -> bool {
        let Payload { identity, authentication, .. } = &session.payload;
        let age = now.saturating_sub(authentication.time);
        let connector = &session.connector;
        !self.must_authenticate
            && self.max_age.is_none_or(|max_age| age < max_age)
            && self.connectors(issuer, door).any(|c| c.uid == connector.uid)
            && self.is_enough(authentication.acr.as_deref())
            && door.allows_acr(authentication.acr.as_deref())
            && self.subject.as_ref().is_none_or(|s| *s == subject(issuer, connector, identity))
            && self.login_hint.as_deref().is_none_or(|hint| is_hinted(identity, hint))
    }

    /// Whether an authentication of this class is what the request wants.
    pub fn is_enough(&self, acr: Option<&str>) -> bool {
        self.acr.is_empty() || acr.is_some_and(|acr| self.acr.iter().any(|wanted| wanted == acr))
    }

    /// An answer on its way back to the client.
    ///
    /// # Errors
    /// [`FlowError::Expired`] when the redirect URI cannot be read.
    pub fn answer(
        &self,
        issuer: &Issuer,
        response: AuthorizationResponse,
    ) -> Result<Delivery, FlowError> {
        let redirect_uri =
            RedirectUri::parse(&self.redirect_uri).map_err(|_| FlowError::Expired)?;
        let to = (&redirect_uri, self.response_mode);
        Ok(response.deliver(self.state.as_deref(), issuer.url.as_str(), to))
    }

    /// Whether this flow still belongs to the client it was begun for.
    pub fn belongs_to(&self, client_uid: &str) -> bool {
        self.client_uid == client_uid
    }

    fn csrf_parts<'a>(&'a self, issuer: &'a Issuer) -> [&'a [u8]; 2] {
        [issuer.uid.as_bytes(), self.id.as_bytes()]
    }
}

/// Names of the cookies that must go so that one more flow leaves at most [`MAX_FLOWS`].
pub fn surplus_cookies<'c>(
    issuer: &Issuer,
    cookies: impl IntoIterator<Item = (&'c str, &'c str)>,
    now: i64,
) -> Vec<String> {
    let prefix = cookie_prefix(issuer);
    let mut live = Vec::new();
    let mut surplus = Vec::new();
    for (name, value) in cookies {
        let Some(id) = name.strip_prefix(&prefix) else { continue };
        match Flow::open(issuer, id, [(name, value)], now) {
            Ok(flow) => live.push((flow.began_at, name.to_owned())),
            Err(_) => surplus.push(name.to_owned()),
        }
    }
    live.sort();
    let room = MAX_FLOWS - 1;
    let excess = live.len().saturating_sub(room);
    surplus.extend(live.into_iter().take(excess).map(|(_, name)| name));
    surplus
}

/// Whether a `login_hint` may mean this user.
fn is_hinted(identity: &Identity, hint: &str) -> bool {
    let names = [&identity.email, &identity.preferred_username];
    let mut names = names.into_iter().flatten();
    names.any(|name| name.eq_ignore_ascii_case(hint)) || identity.user_id == hint
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_code(response_type: &ResponseType) -> bool {
    *response_type == ResponseType::Code
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_query(mode: &ResponseMode) -> bool {
    *mode == ResponseMode::Query
}

fn context<'a>(issuer: &'a Issuer, flow_id: &'a str) -> Context<'a> {
    Context { issuer_uid: &issuer.uid, object_name: Some(flow_id), client_uid: None }
}

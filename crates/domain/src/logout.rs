//! Signing out, as an application asks for it (OpenID Connect RP-Initiated Logout 1.0).
//!
//! What always holds:
//! - what ends is the session of the browser that asks, found by its own cookie; an ID token alone, which
//!   others have seen, ends nothing;
//! - without an ID token of that very session the user is asked, so that no page of others signs them out;
//! - nobody is sent anywhere but to an address their client registered, exactly, or to where they signed in.

use claviger_jose::{Claims, VerifyError};
use claviger_protocol::logout::LogoutRequest;
use claviger_protocol::redirect_uri::RedirectUri;
use thiserror::Error;

use crate::browser_session::{self, Ticket};
use crate::client::Client;
use crate::cookie::Cookie;
use crate::flow;
use crate::form_token::{form_token, is_form_token};
pub use crate::front_channel_logout::Frame;
use crate::front_channel_logout::frames;
use crate::id_token_hint;
use crate::issuer::{ClientEntry, Issuer};
use crate::ports::{RevocationReason, StoreError};
use crate::provider::Provider;
use crate::sign_out::end_clients;
use crate::upstream_sign_out::{Departure, Leaver, leaving, return_to};
use crate::upstream_ticket::UpstreamTicket;

/// What comes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The user is asked first.
    Ask {
        /// Name of the application, if it said who it is.
        client: Option<String>,
        /// What the form must bring back.
        csrf: String,
    },
    /// The session is ended.
    End {
        /// Its ticket; `None` where the browser has none, and nothing ends.
        ticket: Option<Ticket>,
        /// Where the user goes then; `None` to a page of ours.
        location: Option<String>,
        /// Where an upstream sends the browser back to.
        return_to: String,
    },
    /// There is nothing of ours to end. The user, who came through an upstream that does not let itself be asked again,
    /// may sign out there.
    AskForUpstream {
        /// Name of the application, if it said who it is.
        client: Option<String>,
        /// Name of the connector.
        connector: String,
        /// Where they sign out.
        location: String,
        /// What brings them back, where the browser must keep it.
        cookie: Option<Cookie>,
    },
    /// The same, by an ID token of the user who signed in there in this browser: they are not asked.
    Leave {
        /// Where they sign out.
        location: String,
        /// What brings them back.
        cookie: Cookie,
    },
}

/// Why a request is not answered. Shown to the user: nobody else may be told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LogoutError {
    /// The hint is no ID token of this issuer.
    #[error("id_token_hint is not an ID token of this issuer: {0}")]
    Hint(VerifyError),
    /// The hint was issued to somebody else.
    #[error("id_token_hint was not issued to the client that client_id names")]
    AnotherClient,
    /// No such client.
    #[error("client_id names no client in service here")]
    NoClient,
    /// An address without a client to hold it against.
    #[error("post_logout_redirect_uri needs client_id or id_token_hint")]
    NobodysAddress,
    /// An address that is not the client's.
    #[error(
        "post_logout_redirect_uri is not registered for this client: add it to postLogoutRedirectURIs"
    )]
    AddressNotRegistered,
}

/// Decides about a request, by the browser's session and, where it has none, by its ticket of an upstream; `csrf` is what the
/// form of an earlier [`Decision::Ask`] brought back.
///
/// # Errors
/// [`LogoutError`].
pub async fn decide(
    (provider, issuer): (&Provider, &Issuer),
    request: &LogoutRequest,
    (ticket, there): (Option<Ticket>, Option<UpstreamTicket>),
    csrf: Option<&str>,
) -> Result<Decision, LogoutError> {
    let hint = hint_of(issuer, request, provider.clock.now())?;
    let client = client_of(issuer, request, hint.as_ref())?;
    let location = location_of(client, request)?;
    let return_to = return_to(issuer, client, request);
    let name = client.map(|client| client.display_name.clone());
    let Some(ticket) = ticket else {
        let leaver = Leaver { provider, issuer, hint: hint.as_ref(), there };
        return Ok(match leaver.departure(&return_to).await {
            Some(Departure { location, cookie: Some(cookie), is_hinted: true, .. }) => {
                Decision::Leave { location, cookie }
            }
            Some(Departure { connector, location, cookie, .. }) => {
                Decision::AskForUpstream { client: name, connector, location, cookie }
            }
            None => Decision::End { ticket: None, location, return_to },
        });
    };
    let sid = hint.as_ref().and_then(|claims| claims.get("sid")?.as_str());
    let is_hinted = sid.is_some_and(|sid| sid == browser_session::hash_of(&ticket.session));
    let is_confirmed =
        csrf.is_some_and(|given| is_form_token(issuer, &csrf_parts(issuer, &ticket), given));
    if is_hinted || is_confirmed {
        return Ok(Decision::End { ticket: Some(ticket), location, return_to });
    }
    Ok(Decision::Ask { client: name, csrf: form_token(issuer, &csrf_parts(issuer, &ticket)) })
}

/// What is left to do when everything has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SignedOut {
    /// Cookies to clear.
    pub cookies: Vec<Cookie>,
    /// Addresses to load in frames: the clients that are told by the browser.
    pub frames: Vec<Frame>,
    /// Where the user signs out at the upstream too, which then sends them on.
    pub upstream: Option<String>,
}

/// Ends a browser's session and what its clients got for its sake.
///
/// # Errors
/// [`StoreError`]: where the browser's session has ended, the leader ends the rest; else try again.
pub async fn end<'c>(
    provider: &Provider,
    issuer: &Issuer,
    (ticket, return_to): (Option<&Ticket>, &str),
    cookies: impl IntoIterator<Item = (&'c str, &'c str)>,
) -> Result<SignedOut, StoreError> {
    let mut out = SignedOut::default();
    // One that is over already costs a read and no more, however often its cookie is sent.
    if let Some(ticket) = ticket
        && let Some(session) = browser_session::read(provider, issuer, ticket).await?
    {
        let sid = browser_session::hash_of(&ticket.session);
        // First, so that no code is redeemed meanwhile; marked, so that the leader ends what is not reached here.
        let reason = RevocationReason::SignedOut;
        browser_session::revoke_and_mark(provider, &ticket.session, reason).await?;
        let clients = end_clients(provider, issuer, &sid, reason).await?;
        if let Err(error) = provider.sessions.settled(&ticket.session).await {
            tracing::warn!(%error, "everything has ended; the leader looks at it once more");
        }
        out.frames = frames(issuer, &clients, &sid);
        if let Some(upstream) = &session.connector.sign_out {
            let data = session.payload.sign_out.as_ref();
            let leaving = leaving(provider, issuer, &session.connector, (return_to, data));
            out.upstream = upstream.location(&leaving).await;
        }
    }
    let (session, flows) = (browser_session::cookie_name(issuer), flow::cookie_prefix(issuer));
    let ours = |name: &str| name == session || name.starts_with(&flows);
    let names = cookies.into_iter().map(|(name, _)| name).filter(|name| ours(name));
    out.cookies = names.map(|name| Cookie::cleared(name.to_owned())).collect();
    Ok(out)
}

/// The claims of the hint, however long ago it expired. `None` where its key is gone.
fn hint_of(
    issuer: &Issuer,
    request: &LogoutRequest,
    now: i64,
) -> Result<Option<Claims>, LogoutError> {
    let Some(hint) = &request.id_token_hint else { return Ok(None) };
    id_token_hint::claims_of(issuer, hint, request.client_id.as_deref(), now).map_err(|error| {
        match error {
            VerifyError::Audience => LogoutError::AnotherClient,
            error => LogoutError::Hint(error),
        }
    })
}

/// The client that asks: the one it says it is, or the one its hint was issued to.
fn client_of<'i>(
    issuer: &'i Issuer,
    request: &LogoutRequest,
    hint: Option<&Claims>,
) -> Result<Option<&'i Client>, LogoutError> {
    let hinted = hint.and_then(|claims| {
        claims.get("azp").or_else(|| claims.get("aud")).and_then(|value| value.as_str())
    });
    let Some(id) = request.client_id.as_deref().or(hinted) else { return Ok(None) };
    match issuer.client(id) {
        Some(ClientEntry::InService(client)) => Ok(Some(client)),
        _ => Err(LogoutError::NoClient),
    }
}

fn location_of(
    client: Option<&Client>,
    request: &LogoutRequest,
) -> Result<Option<String>, LogoutError> {
    let Some(wanted) = &request.post_logout_redirect_uri else { return Ok(None) };
    let client = client.ok_or(LogoutError::NobodysAddress)?;
    if !client.post_logout_redirect_uris.contains(wanted) {
        return Err(LogoutError::AddressNotRegistered);
    }
    let uri = RedirectUri::parse(wanted).map_err(|_| LogoutError::AddressNotRegistered)?;
    let state = request.state.as_deref().map(|state| ("state", state));
    Ok(Some(if state.is_some() { uri.with_params(state) } else { wanted.clone() }))
}

/// A flow's token has two parts: no token of one is good for the other.
fn csrf_parts<'a>(issuer: &'a Issuer, ticket: &'a Ticket) -> [&'a [u8]; 3] {
    [issuer.uid.as_bytes(), b"logout", ticket.session.as_bytes()]
}

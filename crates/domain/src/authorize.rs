//! `/auth`: an authorization request becomes a flow, or an error in the right place.
//!
//! Until client and redirect URI are known good, errors are pages; afterwards they go to the client
//! by redirect with `state` (RFC 6749 4.1.2.1). Nothing is written either way.

use std::sync::Arc;

use claviger_jose::VerifyError;
use claviger_protocol::authorize::{
    AuthorizationRequest, AuthorizationResponse, Prompt, UnverifiedRequest,
};
use claviger_protocol::claims_request::{ClaimRequest, ClaimsRequest};
use claviger_protocol::error::{ErrorCode, ErrorResponse};
use claviger_protocol::form::Params;
use claviger_protocol::redirect_uri::RedirectUri;
use claviger_protocol::response_type::Delivery;
use thiserror::Error;

use crate::browser_session::Sharing;
use crate::claim::RequestedClaims;
use crate::client::{Client, Grant};
use crate::connector::Connector;
use crate::cookie::Cookie;
use crate::flow::{Flow, MAX_COOKIE_LENGTH};
use crate::id_token_hint;
use crate::issuer::{ClientEntry, Issuer};
use crate::login::{self, Brought, Outcome, Step};
use crate::provider::Provider;
use crate::resources;
use crate::scopes::{self, Judgement};
use crate::trip::TripSecret;

/// A request must fit the cookie that carries it.
const TOO_LONG: &str =
    "the request is too long: shorten redirect_uri, state, nonce, scope, claims or resource";

/// What comes of a request.
#[derive(Debug)]
pub enum Answered {
    /// The user is asked something first.
    Begun(Begun),
    /// The browser's session was enough: an answer, or the question of consent.
    Reused(Begun, Step),
}

/// A flow that has begun.
#[derive(Debug)]
pub struct Begun {
    /// To be set in the browser.
    pub cookie: Cookie,
    /// The flow.
    pub flow: Flow,
    /// Where the user goes now.
    pub next: Next,
}

/// Where the user goes now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// To the one connector there is, or the one asked for.
    Connector(String),
    /// To the chooser.
    Choose,
    /// To the choice between the browser's session and another account.
    Account,
}

/// Why no flow began.
#[derive(Debug, Error)]
pub enum AuthorizeError {
    /// Shown to the user: client or redirect URI is not known good.
    #[error("{0}")]
    Page(String),
    /// The client exists but is invalid at the moment: a page with status 503.
    #[error("{0}")]
    Unavailable(String),
    /// Sent to the client.
    #[error("an error for the client")]
    Answer(Delivery),
}

/// Answers a request: by the browser's session where that will do, else a flow begins.
///
/// # Errors
/// [`AuthorizeError`].
pub async fn answer(
    provider: &Provider,
    issuer: &Issuer,
    params: &Params,
    brought: Brought,
) -> Result<Answered, AuthorizeError> {
    let Asked { begun, silent, unasked } = ask(provider, issuer, params, &brought)?;
    let refuse = |code, why: &str| {
        let response = AuthorizationResponse::error(code, why);
        match begun.flow.answer(issuer, response) {
            Ok(delivery) => AuthorizeError::Answer(delivery),
            Err(error) => AuthorizeError::Page(error.to_string()),
        }
    };
    if silent && unasked && !is_known(issuer, &begun.flow, &brought) {
        // Before anything is said that depends on who the user is: this client is nobody they agreed to.
        return Err(refuse(ErrorCode::InteractionRequired, "the user has not agreed yet"));
    }
    if unasked {
        match login::with_session(provider, issuer, &begun.flow, brought).await {
            Ok(Some(Step { outcome: Outcome::Consent(_), .. })) if silent => {
                let why = "the user has not agreed yet";
                return Err(refuse(ErrorCode::ConsentRequired, why));
            }
            Ok(Some(step)) => return Ok(Answered::Reused(begun, step)),
            Ok(None) => {}
            Err(error) if silent => {
                return Err(refuse(ErrorCode::TemporarilyUnavailable, &error.to_string()));
            }
            // Whoever can be asked is: the reason may concern the session alone.
            Err(error) => tracing::warn!(%error, "a browser's session could not be used"),
        }
    }
    if silent {
        return Err(refuse(ErrorCode::LoginRequired, "the user is not signed in"));
    }
    Ok(Answered::Begun(begun))
}

/// Whether the user of this browser has agreed to the flow's client before, or need not.
fn is_known(issuer: &Issuer, flow: &Flow, brought: &Brought) -> bool {
    match login::client_of(issuer, flow) {
        Ok(client) => !client.consent_required || brought.remembered.knows(client),
        Err(_) => false,
    }
}

/// A request that is in order, and how its user may be troubled.
struct Asked {
    begun: Begun,
    /// `prompt=none`: not at all.
    silent: bool,
    /// Whether the browser's session may be gone on with unseen.
    unasked: bool,
}

/// Begins a flow for a browser that has no session.
///
/// # Errors
/// [`AuthorizeError`].
pub fn begin(
    provider: &Provider,
    issuer: &Issuer,
    params: &Params,
) -> Result<Begun, AuthorizeError> {
    Ok(ask(provider, issuer, params, &Brought::default())?.begun)
}

fn ask(
    provider: &Provider,
    issuer: &Issuer,
    params: &Params,
    brought: &Brought,
) -> Result<Asked, AuthorizeError> {
    let unverified = UnverifiedRequest::parse(params)
        .map_err(|error| AuthorizeError::Page(error.to_string()))?;
    let client = client_of(issuer, &unverified)?;
    let redirect_uri = redirect_uri_of(client, &unverified)?;
    let refuse = |(code, description): Refusal| {
        let to = (&redirect_uri, unverified.response_mode);
        let response = AuthorizationResponse::error(code, &description);
        let state = unverified.state.as_deref();
        AuthorizeError::Answer(response.deliver(state, issuer.url.as_str(), to))
    };
    let request = unverified.validate().map_err(|error| {
        refuse((error.error, error.error_description.clone().unwrap_or_default()))
    })?;
    let asking = Asking { provider, issuer, client, request: &request };
    let flow = asking.flow(&redirect_uri).map_err(refuse)?;
    let next = asking.next(&flow, brought).map_err(refuse)?;
    let cookie = flow.seal(issuer);
    if cookie.value.len() > MAX_COOKIE_LENGTH {
        return Err(refuse((ErrorCode::InvalidRequest, TOO_LONG.into())));
    }
    let prompts = |prompt| request.prompt.contains(&prompt);
    let silent = prompts(Prompt::None);
    let unasked = brought.ticket.is_some() && !prompts(Prompt::SelectAccount);
    Ok(Asked { begun: Begun { cookie, flow, next }, silent, unasked })
}

/// Whether a request could begin a flow: what [`begin`] would refuse before it looks at the user (RFC 9126
/// 2.1).
///
/// # Errors
/// The code and what is wrong.
pub fn check(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    params: &Params,
) -> Result<(), (ErrorCode, String)> {
    let refused = |error: ErrorResponse| (error.error, error.error_description.unwrap_or_default());
    let unverified = UnverifiedRequest::parse(params).map_err(refused)?;
    let redirect_uri = redirect_uri_of(client, &unverified)
        .map_err(|error| (ErrorCode::InvalidRequest, error.to_string()))?;
    let request = unverified.validate().map_err(refused)?;
    let flow = Asking { provider, issuer, client, request: &request }.flow(&redirect_uri)?;
    if flow.seal(issuer).value.len() > MAX_COOKIE_LENGTH {
        return Err((ErrorCode::InvalidRequest, TOO_LONG.into()));
    }
    Ok(())
}

fn client_of<'i>(
    issuer: &'i Issuer,
    request: &UnverifiedRequest,
) -> Result<&'i Client, AuthorizeError> {
    match issuer.client(&request.client_id) {
        Some(ClientEntry::InService(client)) if !issuer.can_sign_for(client) => {
            Err(AuthorizeError::Unavailable(
                "No signing key is in service at the moment. Please try again later.".into(),
            ))
        }
        Some(ClientEntry::InService(client)) => Ok(client),
        Some(ClientEntry::OutOfService(_)) => Err(AuthorizeError::Unavailable(
            "This application is not available at the moment: its OAuth2Client is invalid.".into(),
        )),
        None => Err(AuthorizeError::Page("Unknown client_id.".into())),
    }
}

fn redirect_uri_of(
    client: &Client,
    request: &UnverifiedRequest,
) -> Result<RedirectUri, AuthorizeError> {
    let page = |why: &str| AuthorizeError::Page(why.to_owned());
    let raw = request.redirect_uri.as_deref().ok_or_else(|| page("redirect_uri is missing."))?;
    let redirect_uri =
        RedirectUri::parse(raw).map_err(|error| page(&format!("Bad redirect_uri: {error}.")))?;
    if client.accepts_redirect(&redirect_uri) {
        Ok(redirect_uri)
    } else {
        Err(page("redirect_uri is not registered for this client."))
    }
}

type Refusal = (ErrorCode, String);

/// A request that is in order, from a client that may not be allowed to make it.
struct Asking<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    client: &'a Client,
    request: &'a AuthorizationRequest,
}

impl Asking<'_> {
    /// The flow that the request begins, if the client may make it.
    fn flow(&self, redirect_uri: &RedirectUri) -> Result<Flow, Refusal> {
        let Self { client, request, .. } = self;
        self.check_response_type()?;
        self.check_scopes()?;
        self.check_resources()?;
        let prompts = |prompt| request.prompt.contains(&prompt);
        let mut scopes = request.scope.clone();
        if !request.response_type.has_code() {
            scopes.retain(|scope| scope.as_str() != "offline_access"); // OIDC Core 11: ignored
        }
        Ok(Flow {
            id: self.provider.random_id(),
            client_id: client.id.clone(),
            client_uid: client.uid.clone(),
            redirect_uri: redirect_uri.as_str().to_owned(),
            scopes: scopes.to_string(),
            state: request.state.clone(),
            nonce: request.nonce.clone(),
            challenge: request.code_challenge.clone(),
            response_type: request.response_type,
            response_mode: request.response_mode,
            key: request.dpop_jkt.clone(),
            asked: RequestedClaims::of(self.issuer, &request.claims, client),
            resources: request.resources.clone(),
            acr: self.acr()?,
            connector: request.connector_id.clone(),
            subject: self.subject()?,
            force_consent: prompts(Prompt::Consent) || request.force_approval,
            max_age: request.max_age,
            must_authenticate: prompts(Prompt::Login),
            login_hint: request.login_hint.clone(),
            device: None,
            separate: false,
            secret: TripSecret::draw(self.provider),
            began_at: self.provider.clock.now(),
        })
    }

    fn check_response_type(&self) -> Result<(), Refusal> {
        let Self { issuer, client, request, .. } = self;
        let response_type = request.response_type;
        if !issuer.response_types.contains(&response_type) {
            let why = format!("response_type={response_type} is not offered by this issuer");
            return Err((ErrorCode::UnsupportedResponseType, why));
        }
        if !client.response_types.contains(&response_type) {
            let why = format!("response_type={response_type} is not among this client's");
            return Err((ErrorCode::UnauthorizedClient, why));
        }
        if !response_type.has_code() {
            return Ok(());
        }
        let grant = Grant::AuthorizationCode;
        if !issuer.grants.contains(&grant) || !client.grants.contains(&grant) {
            let why = "authorization_code is not among this client's grants";
            return Err((ErrorCode::UnauthorizedClient, why.into()));
        }
        if request.code_challenge.is_none() && client.pkce_required {
            let why = "code_challenge with code_challenge_method=S256 is required for this client";
            return Err((ErrorCode::InvalidRequest, why.into()));
        }
        Ok(())
    }

    fn check_scopes(&self) -> Result<(), Refusal> {
        for scope in self.request.scope.iter() {
            if scopes::judge(self.issuer, self.client, scope) != Judgement::Granted {
                let why = format!("scope {} is not granted to this client", scope.as_str());
                return Err((ErrorCode::InvalidScope, why));
            }
        }
        Ok(())
    }

    fn check_resources(&self) -> Result<(), Refusal> {
        resources::check(self.issuer, self.client, &self.request.resources)
            .map_err(|why| (ErrorCode::InvalidTarget, why))
    }

    /// The classes of authentication that are enough: those the request insists on (OIDC Core 5.5.1.1), or
    /// those it would like best and some connector reaches.
    fn acr(&self) -> Result<Vec<String>, Refusal> {
        let Self { issuer, client, request, .. } = self;
        let reached = |wanted: &[String]| {
            let has = |acr: &String| wanted.contains(acr);
            issuer.connectors_for(client).any(|c| c.acr.as_ref().is_some_and(has))
        };
        let demanded = request.claims.id_token.get("acr");
        let owned = |texts: &mut dyn Iterator<Item = &str>| texts.map(str::to_owned).collect();
        if let Some(demanded) = demanded.filter(|acr| acr.essential && acr.texts().next().is_some())
        {
            let wanted: Vec<String> = owned(&mut demanded.texts());
            if !reached(&wanted) {
                let why = "no way to sign in here reaches an acr that claims insists on";
                return Err((ErrorCode::UnmetAuthenticationRequirements, why.into()));
            }
            return Ok(wanted);
        }
        let voluntary = demanded.into_iter().flat_map(ClaimRequest::texts);
        let wanted: Vec<String> =
            owned(&mut request.acr_values.iter().map(String::as_str).chain(voluntary));
        Ok(if reached(&wanted) { wanted } else { Vec::new() })
    }

    /// The user it must be, by `id_token_hint` or `claims`.
    fn subject(&self) -> Result<Option<String>, Refusal> {
        let Self { issuer, request, .. } = self;
        let hinted = match &request.id_token_hint {
            Some(hint) => hinted_subject(issuer, hint, self.provider.clock.now())
                .map_err(|why| (ErrorCode::InvalidRequest, format!("id_token_hint: {why}")))?,
            None => None,
        };
        let ClaimsRequest { id_token, userinfo } = &request.claims;
        let claimed = id_token.get("sub").into_iter().chain(userinfo.get("sub"));
        let claimed = claimed.flat_map(ClaimRequest::texts).next().map(str::to_owned);
        match (hinted, claimed) {
            (Some(hinted), Some(claimed)) if hinted != claimed => {
                let why = "id_token_hint and claims name different users";
                Err((ErrorCode::InvalidRequest, why.into()))
            }
            (hinted, claimed) => Ok(hinted.or(claimed)),
        }
    }

    fn next(&self, flow: &Flow, brought: &Brought) -> Result<Next, Refusal> {
        let Self { issuer, client, request, .. } = self;
        let selects = request.prompt.contains(&Prompt::SelectAccount) && !flow.must_authenticate;
        if selects && brought.ticket.is_some() && client.sharing == Sharing::Shared {
            return Ok(Next::Account);
        }
        let offered: Vec<_> = flow.connectors(issuer, *client).collect();
        match offered.as_slice() {
            [] if request.connector_id.is_some() => Err((
                ErrorCode::InvalidRequest,
                "connector_id names no connector that this client may use".into(),
            )),
            [] => Err((
                ErrorCode::TemporarilyUnavailable,
                "no connector is in service for this client".into(),
            )),
            [only] => Ok(Next::Connector(only.name.clone())),
            several => Ok(match hinted_connector(several, flow.login_hint.as_deref()) {
                Some(connector) => Next::Connector(connector.name.clone()),
                None => Next::Choose,
            }),
        }
    }
}

/// The one connector whose `emailDomains` holds the domain of a hint.
fn hinted_connector<'c>(
    offered: &[&'c Arc<Connector>],
    hint: Option<&str>,
) -> Option<&'c Connector> {
    let domain = hint?.rsplit_once('@')?.1.to_lowercase();
    let mut fitting = offered.iter().filter(|c| c.policy.email_domains.contains(&domain));
    let first: &'c Arc<Connector> = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

/// The user that an ID token of ours names, however long ago it expired (OIDC Core 3.1.2.1). `None` where
/// its key is gone: it cannot be told any more.
///
/// # Errors
/// What is wrong with it.
pub fn hinted_subject(
    issuer: &Issuer,
    id_token: &str,
    now: i64,
) -> Result<Option<String>, VerifyError> {
    let Some(claims) = id_token_hint::claims_of(issuer, id_token, None, now)? else {
        return Ok(None);
    };
    let subject = claims.get("sub").and_then(|sub| sub.as_str());
    subject.map(|sub| Some(sub.to_owned())).ok_or(VerifyError::Claim("sub"))
}

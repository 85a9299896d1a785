//! From what a user granted to the authorization response: a code, tokens, or both.
//!
//! What always holds: a code is the grant itself, sealed, and costs no request; something is stored first
//! only where the grant is too large for a code, where an access token leaves at once and must be one
//! that can be revoked, or an ID token whose client wants to be told of the session's end, or that comes of an upstream's answer which is good once. Everything that can be refused is, before anything is stored.

use claviger_protocol::authorize::AuthorizationResponse;
use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;

use crate::client::Client;
use crate::code::{CODE_SECONDS, Code, LoginGrant, MAX_CODE_LENGTH, digest_of};
use crate::connector::Connector;
use crate::flow::Flow;
use crate::grants::authorization_code::{new_session, payload_of};
use crate::issue::{self, Circumstances, Companions, Detail, IssueError, Subject};
use crate::issuer::Issuer;
use crate::login::{Outcome, StepError, client_of};
use crate::ports::{AuditEvent, NewSession, SessionState, StoreError};
use crate::provider::Provider;
use crate::session::{self, Payload};

/// The answer to a request whose user signed in and agreed.
pub(crate) async fn grant(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    grant: LoginGrant,
) -> Result<Outcome, StepError> {
    if let Some(doubt) = provider.clock.doubt() {
        return Err(StepError::Unavailable(doubt));
    }
    if grant.is_over(provider) {
        return Err(StepError::Expired); // signed out while the question was open
    }
    let client = client_of(issuer, flow)?;
    let uid = &grant.upstream.connector_uid;
    let connector = issuer.connector_by_uid(uid).ok_or(StepError::NoConnector)?;
    let answering = Answering {
        provider,
        issuer,
        flow,
        client,
        connector,
        grant: &grant,
        scopes: ScopeSet::parse(&grant.scopes).map_err(|_| StepError::Expired)?,
        session: grant.session_name(issuer, &flow.id),
        now: provider.clock.now(),
    };
    answering.answer().await
}

/// An error for the client, at the end of a flow.
pub(crate) fn refuse(
    issuer: &Issuer,
    flow: &Flow,
    code: ErrorCode,
    description: &str,
) -> Result<Outcome, StepError> {
    if flow.device.is_some() {
        return Err(StepError::Denied(description.to_owned())); // there is no client to be told
    }
    deliver(issuer, flow, AuthorizationResponse::error(code, description))
}

fn deliver(
    issuer: &Issuer,
    flow: &Flow,
    response: AuthorizationResponse,
) -> Result<Outcome, StepError> {
    let delivery = flow.answer(issuer, response).map_err(|_| StepError::Expired)?;
    Ok(Outcome::Answer(delivery))
}

struct Answering<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    flow: &'a Flow,
    client: &'a Client,
    connector: &'a Connector,
    grant: &'a LoginGrant,
    scopes: ScopeSet,
    session: String,
    now: i64,
}

impl Answering<'_> {
    async fn answer(&self) -> Result<Outcome, StepError> {
        let (code, stored) = self.code();
        let response = self.response(code.as_deref())?;
        if let Some(session) = stored {
            if session.payload.len() > session::MAX_PAYLOAD {
                let why = "the user is in more groups than a session can hold: narrow the connector's search";
                return refuse(self.issuer, self.flow, ErrorCode::AccessDenied, why);
            }
            match self.provider.sessions.create(&session).await {
                Ok(()) => self.started(&session),
                Err(StoreError::AlreadyExists) => {
                    // A double click: the first click's answer is the one that counts.
                    let why = "this sign-in was already finished in another window";
                    return refuse(self.issuer, self.flow, ErrorCode::AccessDenied, why);
                }
                Err(error) => return Err(error.into()),
            }
        }
        deliver(self.issuer, self.flow, response)
    }

    /// The code, if one was asked for, and the session that must be stored before the answer leaves.
    fn code(&self) -> (Option<String>, Option<NewSession>) {
        let response_type = self.flow.response_type;
        if !response_type.has_code() {
            let stored = self.is_stored().then(|| self.active());
            return (None, stored);
        }
        let mut code = Code {
            flow_id: self.flow.id.clone(),
            session: self.grant.session.clone(),
            client_uid: self.client.uid.clone(),
            redirect_uri: self.flow.redirect_uri.clone(),
            challenge: self.flow.challenge.clone(),
            key: self.flow.key.clone(),
            grant: Some(self.grant.clone()),
        };
        let whole = code.seal(self.issuer, self.now);
        if whole.len() <= MAX_CODE_LENGTH && !self.is_stored() {
            return (Some(whole), None);
        }
        code.grant = None;
        let handle = code.seal(self.issuer, self.now);
        let pending = self.pending(&handle);
        (Some(handle), Some(pending))
    }

    /// Whether something must be stored before the answer leaves, however large the grant is: an access token must
    /// be one that can be revoked, and of an ID token it must be known whom to tell of the session's end; what an upstream's
    /// answer became that is good once is what says that it was used.
    fn is_stored(&self) -> bool {
        let response_type = self.flow.response_type;
        let is_once = || self.grant.session.is_some();
        response_type.has_token()
            || (response_type.has_id_token() && (is_once() || self.remembered() > 0))
    }

    fn remembered(&self) -> i64 {
        self.issuer.remembers(self.client, self.grant.browser.as_deref())
    }

    fn response(&self, code: Option<&str>) -> Result<AuthorizationResponse, IssueError> {
        let Self { provider, issuer, client, grant, .. } = self;
        let response_type = self.flow.response_type;
        let about = Subject {
            identity: &grant.identity,
            connector: self.connector,
            client,
            scopes: &self.scopes,
            asked: &grant.asked,
        };
        let sid = grant.sid();
        let when = Circumstances {
            session: &self.session,
            nonce: grant.nonce.as_deref(),
            authentication: &grant.authentication,
            resources: &grant.resources,
            azp: None,
            not_after: issue::FOR_EVER,
            browser: sid.as_deref(),
            key: None,
        };
        let mut response = AuthorizationResponse::default();
        if let Some(code) = code {
            response = response.with("code", code);
        }
        let mut access_token = None;
        if response_type.has_token() {
            let token = issue::access_token(provider, issuer, about, when)?;
            response = response
                .with("access_token", token.as_str())
                .with("token_type", "Bearer")
                .with("expires_in", client.lifetimes.access_token.to_string())
                .with("scope", self.scopes.to_string());
            access_token = Some(token);
        }
        if response_type.has_id_token() {
            // Whoever gets a code or an access token too asks for the rest there (OIDC Core 5.4).
            let alone = code.is_none() && access_token.is_none();
            let detail = if alone { Detail::Full } else { Detail::Asked };
            let with = Companions {
                code,
                access_token: access_token.as_deref(),
                state: self.flow.state.as_deref(),
            };
            let token = issue::id_token(provider, issuer, about, when, (detail, with))?;
            response = response.with("id_token", token);
        }
        Ok(response)
    }

    /// The session in which a grant waits for its code to be redeemed.
    fn pending(&self, code: &str) -> NewSession {
        let payload = Payload {
            nonce: self.grant.nonce.clone(), // there is no other place until the code is redeemed
            ..self.payload(digest_of(code))
        };
        let has_token = self.flow.response_type.has_token();
        let life = if has_token { self.client.lifetimes.access_token } else { 0 };
        let told = if self.flow.response_type.has_id_token() { self.remembered() } else { 0 };
        NewSession {
            state: SessionState::Pending,
            expires_at: self.grant.outlives(self.now + life.max(CODE_SECONDS).max(told)),
            ..self.new_session(&payload)
        }
    }

    /// The session of an access token that comes without a code.
    fn active(&self) -> NewSession {
        self.new_session(&self.payload(String::new()))
    }

    fn payload(&self, code_digest: String) -> Payload {
        let redeemed = (code_digest, self.now);
        payload_of(self.issuer, self.client, self.connector, self.grant, redeemed)
    }

    fn new_session(&self, payload: &Payload) -> NewSession {
        let session = new_session(self.issuer, self.client, self.connector, payload, &self.session);
        let expires_at = session.expires_at.max(self.grant.outlives(self.now));
        NewSession { rotated_at: self.now, expires_at, ..session }
    }

    /// A session that is in use from the start; one that waits for its code is told of when that comes.
    fn started(&self, session: &NewSession) {
        if session.state == SessionState::Active {
            self.provider.audit.record(&AuditEvent::SessionStarted {
                session: &self.session,
                client: &self.client.id,
                connector: &self.connector.name,
                user: self.grant.identity.label(),
            });
        }
    }
}

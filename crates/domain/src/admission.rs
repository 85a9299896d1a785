//! A user who is known, at a client's door: policy, then consent, then the answer. Whether they have just
//! signed in or their browser was signed in already makes no difference here.

use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;

use crate::answer;
use crate::authentication::Authentication;
use crate::client_policy::{self, Arrival, NotAdmitted};
use crate::code::LoginGrant;
use crate::connector::{Connector, ConnectorData, Refresh};
use crate::consent::{Consent, Remembered};
use crate::device_page;
use crate::door::Door;
use crate::flow::Flow;
use crate::identity::Identity;
use crate::issue::{self, IssueError, Subject};
use crate::issuer::Issuer;
use crate::login::{Outcome, StepError};
use crate::offline;
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::session::UpstreamState;
use crate::token::CLAIM_FAILED;

/// A user an upstream vouched for, after the connector's policy.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    pub identity: Identity,
    pub upstream: UpstreamState,
    pub authentication: Authentication,
    /// Name of the browser session, where there is one.
    pub browser: Option<String>,
    /// Name of the session that this sign-in may become, where the upstream's answer is good once.
    pub session: Option<String>,
    /// Whether they proved themselves in this very flow, and not before in this browser.
    pub in_this_flow: bool,
}

impl SignedIn {
    /// A user who has proven themselves to this connector just now.
    pub fn now(
        connector: &Connector,
        identity: Identity,
        data: Option<ConnectorData>,
        now: i64,
    ) -> Self {
        Self {
            identity,
            upstream: UpstreamState {
                connector_uid: connector.uid.clone(),
                data: match connector.refresh {
                    Refresh::Offline { .. } => offline::data_of(&connector.policy),
                    _ => data,
                },
                checked_at: now,
                claimed_until: None,
            },
            authentication: Authentication::at(connector, now),
            browser: None,
            session: None,
            in_this_flow: true,
        }
    }
}

/// Why the client does not get this user.
pub(crate) struct Denied {
    pub code: ErrorCode,
    pub reason: &'static str,
    pub description: String,
}

/// Whether the flow's client may have this user, asked before anything is stored for them.
///
/// # Errors
/// [`StepError`] when nobody can say; `Ok(Err(_))` when it may not.
pub(crate) fn judge(
    issuer: &Issuer,
    flow: &Flow,
    connector: &Connector,
    (identity, acr): (&Identity, Option<&str>),
) -> Result<Result<(), Denied>, StepError> {
    let Door::Client(client) = Door::of(issuer, flow)? else {
        return Ok(Ok(())); // the client's policy is asked when it is known whose device it is
    };
    if flow.subject.as_ref().is_some_and(|s| *s != issue::subject(issuer, connector, identity)) {
        // OIDC Core 3.1.2.1 (id_token_hint) and 5.5.1 (sub)
        return Ok(Err(Denied {
            code: ErrorCode::LoginRequired,
            reason: "AnotherUser",
            description: "the user who signed in is not the one the request names".into(),
        }));
    }
    let scopes = ScopeSet::parse(&flow.scopes).map_err(|_| StepError::Expired)?;
    let about = Subject { identity, connector, client, scopes: &scopes, asked: &flow.asked };
    may_have(issuer, about, acr)
}

/// Whether a client may have a user with these scopes: by what it says of users, and by what can be said in a token.
///
/// # Errors
/// [`StepError`] when nobody can say; `Ok(Err(_))` when it may not.
pub(crate) fn may_have(
    issuer: &Issuer,
    about: Subject<'_>,
    acr: Option<&str>,
) -> Result<Result<(), Denied>, StepError> {
    let Subject { identity, connector, client, scopes, .. } = about;
    let denied = |reason, description: String| {
        Ok(Err(Denied { code: ErrorCode::AccessDenied, reason, description }))
    };
    let arrival = Arrival { identity, connector, acr, scopes };
    match client_policy::admit(issuer, client, arrival) {
        Ok(()) => {}
        Err(error @ NotAdmitted::Unknown(_)) => {
            return denied("ConditionFailed", error.to_string());
        }
        Err(error) => return denied("ClientPolicy", error.to_string()),
    }
    match issue::check(issuer, about) {
        Ok(()) => Ok(Ok(())),
        Err(error @ IssueError::ReservedValue { .. }) => denied("ReservedValue", error.to_string()),
        Err(error @ IssueError::TooLarge { .. }) => denied("TokenTooLarge", error.to_string()),
        Err(error @ IssueError::Claim { .. }) => {
            tracing::warn!(client = client.id, %error, "no token can be made");
            Ok(Err(Denied {
                code: ErrorCode::ServerError,
                reason: "ClaimFailed",
                description: CLAIM_FAILED.into(),
            }))
        }
        Err(error) => Err(error.into()),
    }
}

/// The answer to a client that may not have its user.
pub(crate) fn deny(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    (connector, denied): (&Connector, &Denied),
) -> Result<Outcome, StepError> {
    provider.audit.record(&AuditEvent::LoginRefused {
        client: &flow.client_id,
        connector: &connector.name,
        reason: denied.reason,
    });
    answer::refuse(issuer, flow, denied.code, &denied.description)
}

/// Lets a user in who was judged: asks for consent, where it is to be asked for, or answers.
pub(crate) async fn admit(
    provider: &Provider,
    issuer: &Issuer,
    flow: &Flow,
    signed_in: SignedIn,
    remembered: &Remembered,
) -> Result<Outcome, StepError> {
    let Door::Client(client) = Door::of(issuer, flow)? else {
        return Ok(Outcome::Device(device_page::ask(issuer, flow, signed_in)));
    };
    let grant = LoginGrant {
        identity: signed_in.identity,
        upstream: signed_in.upstream,
        scopes: flow.scopes.clone(),
        nonce: flow.nonce.clone(),
        authentication: signed_in.authentication,
        asked: flow.asked.clone(),
        resources: flow.resources.clone(),
        browser: signed_in.browser,
        session: signed_in.session,
    };
    let must_ask = client.consent_required && !remembered.covers(issuer, client, &grant);
    if must_ask || flow.force_consent {
        return Ok(Outcome::Consent(Consent::ask(issuer, flow, client, &grant)));
    }
    answer::grant(provider, issuer, flow, grant).await
}

//! Exchange of a token of another issuer that the client trusts: a job of a CI system, a program with an identity
//! of its own elsewhere.
//!
//! What always holds: whoever comes this way is a workload and no user of a connector; it gets what the client's
//! `trustedIssuers` says and nothing of what its token says beside that; a target must list
//! the client for this very purpose (`exchangeWorkloadsFrom`), and one that admits the users of certain connectors, of
//! certain strength or of some condition does not admit it.

use claviger_protocol::error::ErrorCode;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::TokenResponse;
use claviger_protocol::token_exchange::{IssuedTokenType, TokenExchangeRequest};
use secrecy::ExposeSecret;

use super::{Target, Whose, answer};
use crate::client::{Client, Grant};
use crate::client_policy::admits_workload;
use crate::grants::client_credentials;
use crate::issue::{self, About};
use crate::issuer::Issuer;
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::resources;
use crate::token::TokenError;
use crate::trusted_issuer::{ForeignTokenError, Vouched};

/// What is revealed where nothing is asked for.
const USUAL_SCOPES: [&str; 2] = ["openid", "groups"];

/// Answers an exchange. A public client may: what the subject token proves is all there is to prove, and who may
/// come stands in the client's object.
pub(super) async fn exchange(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &TokenExchangeRequest,
) -> Result<TokenResponse, TokenError> {
    let target = Target::of(issuer, client, request, Whose::Workload)?;
    let scopes = scopes(issuer, client, request.scope.as_ref())?;
    if matches!(target, Target::Resources) {
        resources::check(issuer, client, &request.resources)
            .map_err(|why| TokenError::refused(ErrorCode::InvalidTarget, why))?;
    }
    let trusted = &client.workloads.trusted_issuers;
    let token = (request.subject_token_type, request.subject_token.expose_secret());
    let verified = provider.assertions.foreign().verify(trusted, token, provider.clock.as_ref());
    let vouched = verified.await.map_err(|error| match &error {
        ForeignTokenError::Refused(_) => {
            TokenError::refused(ErrorCode::InvalidRequest, format!("subject_token: {error}"))
        }
        ForeignTokenError::Unavailable { .. } => TokenError::unavailable(error.to_string()),
    })?;
    let exchange = Exchange { provider, issuer, client, vouched: &vouched };
    let response = match &target {
        Target::Client(target) => exchange.id_token(target, scopes)?,
        Target::Resources => exchange.access_token(&scopes, &request.resources)?,
    };
    provider.audit.record(&AuditEvent::WorkloadAdmitted {
        client: &client.id,
        grant: Grant::TokenExchange.as_str(),
        workload: &vouched.workload.id,
        audience: request.audience.as_deref().unwrap_or_default(),
    });
    Ok(response)
}

/// The scopes of the new token, as far as the client may have them.
fn scopes(
    issuer: &Issuer,
    client: &Client,
    requested: Option<&ScopeSet>,
) -> Result<ScopeSet, TokenError> {
    if requested.is_some() {
        return client_credentials::granted(issuer, client, requested);
    }
    let usual = USUAL_SCOPES.into_iter().filter(|scope| client.scopes.contains(*scope));
    let usual = usual.collect::<Vec<_>>().join(" ");
    ScopeSet::parse(&usual)
        .map_err(|error| TokenError::refused(ErrorCode::InvalidScope, format!("scope: {error}")))
}

struct Exchange<'a> {
    provider: &'a Provider,
    issuer: &'a Issuer,
    client: &'a Client,
    vouched: &'a Vouched,
}

impl Exchange<'_> {
    /// An ID token for the target, of its scopes, lifetime and algorithm. `azp` says who has it.
    fn id_token(&self, target: &Client, mut scopes: ScopeSet) -> Result<TokenResponse, TokenError> {
        let own = target.uid == self.client.uid;
        if !admits_workload(target, &self.vouched.workload.groups, own) {
            return Err(not_admitted());
        }
        scopes.retain(|scope| target.scopes.contains(scope.as_str()) && scope.audience().is_none());
        let about = self.about(target, &scopes, Some(&self.client.id));
        let id_token = issue::workload_id_token(self.provider, self.issuer, about, None)?;
        let lives = (target.lifetimes.id_token, self.vouched.expires_at);
        Ok(answer(self.provider, (id_token, IssuedTokenType::IdToken), &scopes, lives))
    }

    /// An access token of the client's own.
    fn access_token(
        &self,
        scopes: &ScopeSet,
        resources: &[String],
    ) -> Result<TokenResponse, TokenError> {
        if !admits_workload(self.client, &self.vouched.workload.groups, true) {
            return Err(not_admitted());
        }
        let mut scopes = scopes.clone();
        scopes.retain(|scope| scope.audience().is_none());
        let about = self.about(self.client, &scopes, None);
        let token = issue::workload_access_token(self.provider, self.issuer, about, resources)?;
        let lives = (self.client.lifetimes.access_token, self.vouched.expires_at);
        Ok(answer(self.provider, (token, IssuedTokenType::AccessToken), &scopes, lives))
    }

    fn about<'w>(
        &'w self,
        client: &'w Client,
        scopes: &'w ScopeSet,
        azp: Option<&'w str>,
    ) -> About<'w> {
        About {
            workload: &self.vouched.workload,
            client,
            scopes,
            grant: Grant::TokenExchange,
            azp,
            not_after: self.vouched.expires_at,
        }
    }
}

fn not_admitted() -> TokenError {
    TokenError::refused(
        ErrorCode::InvalidRequest,
        "subject_token: the audience admits none such (allowedConnectors, allowedGroups, requiredACR, condition)",
    )
}

//! `jwt-bearer` (RFC 7523 2.1): the token that the cluster made for a ServiceAccount is the grant.
//!
//! The client says which `ServiceAccounts` may come and which groups they are in. What they get is about them, ends
//! no later than what they brought, and has no refresh token. The API server is asked for its keys now and then,
//! never about a token: an account that is deleted is believed until its token ends, an hour at most.

use claviger_protocol::error::ErrorCode;
use claviger_protocol::jwt_bearer::JwtBearerRequest;
use claviger_protocol::scope::ScopeSet;
use claviger_protocol::token::TokenResponse;
use secrecy::ExposeSecret;

use super::client_credentials::{granted, respond};
use crate::client::{Client, Grant};
use crate::client_policy::admits_workload;
use crate::cluster_token::{ClusterTokenError, ProvenAccount};
use crate::issue::About;
use crate::issuer::{ClientEntry, Issuer};
use crate::ports::AuditEvent;
use crate::provider::Provider;
use crate::resources;
use crate::token::TokenError;
use crate::workload::Workload;

/// Answers a request. A public client may make it: the assertion proves all there is to prove, and who may come
/// stands in the client's object.
///
/// # Errors
/// [`TokenError`]; what is wrong with the assertion is `invalid_grant` (RFC 7523 3.1).
pub async fn grant(
    provider: &Provider,
    issuer: &Issuer,
    client: &Client,
    request: &JwtBearerRequest,
) -> Result<TokenResponse, TokenError> {
    let scopes = granted(issuer, client, request.scope.as_ref())?;
    check_audiences(issuer, client, &scopes)?;
    resources::check(issuer, client, &request.resources)
        .map_err(|why| TokenError::refused(ErrorCode::InvalidTarget, why))?;
    let allowed = &client.workloads;
    let is_wanted =
        |found: &ProvenAccount| allowed.service_accounts.iter().any(|one| one.is(found));
    let (clock, url) = (provider.clock.as_ref(), issuer.url.as_str());
    let jwt = request.assertion.expose_secret();
    let verified = provider.assertions.cluster().verify(jwt, url, clock, is_wanted).await;
    let account = verified.map_err(|error| match &error {
        ClusterTokenError::Refused(why) => TokenError::invalid_grant(format!("assertion: {why}")),
        ClusterTokenError::Unavailable(_) => TokenError::unavailable(error.to_string()),
    })?;
    if clock.now() >= account.expires_at {
        return Err(TokenError::invalid_grant("assertion: it has expired (exp)"));
    }
    if !admits_workload(client, &allowed.service_account_groups, true) {
        return Err(TokenError::invalid_grant(
            "assertion: this client admits none such (allowedGroups, requiredACR, condition)",
        ));
    }
    let workload = Workload::of_account(&account, allowed.service_account_groups.clone());
    let about = About {
        workload: &workload,
        client,
        scopes: &scopes,
        grant: Grant::JwtBearer,
        azp: None,
        not_after: account.expires_at,
    };
    let response = respond(provider, issuer, about, &request.resources)?;
    provider.audit.record(&AuditEvent::WorkloadAdmitted {
        client: &client.id,
        grant: Grant::JwtBearer.as_str(),
        workload: &workload.id,
        audience: "",
    });
    Ok(response)
}

/// Whether those the token would be for besides take this client's workloads: that they trust it with their users
/// (`trustedPeers`) does not say so.
fn check_audiences(issuer: &Issuer, client: &Client, scopes: &ScopeSet) -> Result<(), TokenError> {
    let groups = &client.workloads.service_account_groups;
    for peer in scopes.audiences().filter(|peer| *peer != client.id) {
        let takes = match issuer.client(peer) {
            Some(ClientEntry::InService(peer)) => {
                peer.workloads.brought_by.contains(&client.id)
                    && admits_workload(peer, groups, false)
            }
            _ => false,
        };
        if !takes {
            return Err(TokenError::refused(
                ErrorCode::InvalidScope,
                format!(
                    "scope: {peer} takes no workloads of this client (its exchangeWorkloadsFrom and allowedGroups; never with allowedConnectors, requiredACR or condition)"
                ),
            ));
        }
    }
    Ok(())
}
